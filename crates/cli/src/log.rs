//! The log of the binary: its form, and its level, which a reload may change.

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

/// The level of the log.
#[derive(Clone)]
pub(crate) struct Level(reload::Handle<LevelFilter, Registry>);

impl Level {
    /// Logs at this level from now on.
    pub(crate) fn set(&self, level: LogLevel) {
        // It fails when there is no log any more.
        let _ = self.0.reload(filter(level));
    }
}

/// Begins to log.
pub(crate) fn start(level: LogLevel, format: LogFormat, stderr: Stderr) -> Level {
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = fmt::layer()
        .with_writer(stderr)
        // Else a line that cannot be made is told by `eprintln!`, which panics where stderr cannot
        // be written: in the thread of a shard, and so of every link that it serves.
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
