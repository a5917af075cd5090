//! The log of the binary. A reload of the configuration may change its level.

use clap::ValueEnum;
use tabmux_cli::Stderr;
use tabmux_server::LogLevel;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The level of the log, which may be changed.
#[derive(Clone)]
pub(crate) struct Level(reload::Handle<LevelFilter, Registry>);

impl Level {
    /// Sets the level of the log from now on.
    pub(crate) fn set(&self, level: LogLevel) {
        // Setting the level fails only if the log has ended.
        let _ = self.0.reload(filter(level));
    }
}

/// Starts the log with this level and format.
pub(crate) fn start(level: LogLevel, format: LogFormat, stderr: Stderr) -> Level {
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = fmt::layer()
        .with_writer(stderr)
        // Without this, the library reports a line that cannot be formatted by `eprintln!`. That
        // panics if stderr cannot be written, and would end the thread of a shard with all its
        // links.
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    Level(handle)
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
