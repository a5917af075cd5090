//! The command line of the binary `tabmux`.

#![forbid(unsafe_code)]
// These macros panic if stdout or stderr cannot be written.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod log;
mod supervisor;

use std::{
    io::Write,
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use tabmux_cli::{SCRIPTS, Stderr, bench, demo, lost_lines};
#[cfg(unix)]
use tabmux_server::ServerHandle;
use tabmux_server::{
    ApiKey, Builder, Config, Cookies, Error, Listen, LogLevel, Route, Server,
    raise_descriptor_limit,
};
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::{runtime::Runtime, sync::oneshot};
use tracing::{Level, warn};
#[cfg(unix)]
use tracing::{error, info};

use crate::log::LogFormat;

/// Longest time that the end of the process waits for blocked threads, for example for a disk that
/// does not answer. It then waits as long again for stderr to accept the rest of the log.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// One browser, one WebSocket, however many tabs.
#[derive(Parser)]
#[command(name = "tabmux", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a tabmux server.
    Serve(Serve),
    /// Runs a server in front of WebSocket servers of yours, which --route names.
    Gateway(Serve),
    /// Checks a configuration as `serve` would, and prints what is wrong.
    Check(Check),
    /// Loads a server, and prints what that cost it.
    Bench(bench::Options),
    /// Prints a script that completes this program's arguments in a shell.
    Completions {
        /// The shell to complete arguments in.
        shell: Shell,
    },
}

#[derive(clap::Args)]
struct Check {
    /// TOML file with the configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Arguments of `serve`. They override the configuration file.
#[derive(Clone, clap::Args)]
#[command(after_long_help = format!("Configuration file:\n\n{}", Config::EXAMPLE))]
struct Serve {
    /// Address and port to listen on, or unix:PATH; port 0 takes a free one; may be repeated
    /// [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDR", value_parser = Listen::parse)]
    listen: Vec<Listen>,
    /// Serve the demo: its handlers, and the files of DIR at /
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "demo")]
    demo: Option<PathBuf>,
    /// TOML file with the configuration; --help shows every key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder with client.js, tiers.js and worker.js [default: those in this binary]
    #[arg(long, value_name = "DIR")]
    assets: Option<PathBuf>,
    /// Origin whose pages may open links besides the server's own, such as `https://example.org`;
    /// may be repeated. `*` lets every site use this server in its visitors' name
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Path whose sockets go on to a WebSocket server of yours, as `/chat/=ws://127.0.0.1:9000`;
    /// may be repeated. The server is `ws://`, `wss://` or `unix:/path`
    #[arg(long, value_name = "PREFIX=URL", value_parser = route)]
    route: Vec<Route>,
    /// Whose cookies the servers of --route get. open: those of a native socket of the path, which
    /// the browser shows before the socket opens; link: those of its connection to this server
    /// [default: open]
    #[arg(long, value_name = "WHICH", value_parser = cookies, requires = "route")]
    cookies: Option<Cookies>,
    /// Least level to log to stderr. error: act now; warn: look; info: a state changed; debug:
    /// about one link; trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<Level>,
    /// Form of the log: text, or one JSON object a line
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    log_format: LogFormat,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let stderr = match Stderr::start() {
        Ok(stderr) => stderr,
        Err(error) => {
            // `eprintln!` would panic if stderr cannot be written. The exit status reports the
            // failure as well.
            let _ = writeln!(std::io::stderr(), "tabmux: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = Runtime::new().map_err(|error| error.to_string()).and_then(|runtime| {
        let done = runtime.block_on(run(arguments, stderr.clone()));
        end(runtime, LAST_WAIT);
        done
    });
    let status = match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // This write cannot fail. The exit status reports the failure as well.
            let _ = (&stderr).write_all(format!("tabmux: {error}\n").as_bytes());
            ExitCode::FAILURE
        }
    };
    stderr.finish(LAST_WAIT);
    status
}

async fn run(arguments: Arguments, stderr: Stderr) -> Result<(), String> {
    match arguments.command {
        Command::Serve(arguments) => {
            serve(arguments, stderr).await.map_err(|error| error.to_string())
        }
        Command::Gateway(arguments) => {
            let has_routes = !arguments.route.is_empty() || arguments.config.is_some();
            if !has_routes {
                return Err("a gateway needs --route PREFIX=URL, or --config FILE".to_owned());
            }
            serve(arguments, stderr).await.map_err(|error| error.to_string())
        }
        Command::Check(Check { config }) => {
            check(&config, stderr).map_err(|error| error.to_string())
        }
        Command::Bench(options) => load(options).await,
        Command::Completions { shell } => print(&completions(shell)),
    }
}

fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "tabmux", &mut script);
    script
}

/// Writes bytes to stdout and flushes it.
fn print(bytes: &[u8]) -> Result<(), String> {
    let mut stdout = std::io::stdout();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|error| format!("cannot write to standard output: {error}"))
}

/// Builds a server from the configuration, without starting it, and drops it.
fn check(file: &Path, stderr: Stderr) -> Result<(), Error> {
    let config = with_environment(Config::from_file(file)?);
    log::start(LogLevel::Warn, LogFormat::default(), stderr);
    look_for_scripts(config.assets.as_deref());
    builder(config)?.build()?;
    print(format!("{}: good\n", file.display()).as_bytes()).map_err(std::io::Error::other)?;
    Ok(())
}

/// Ends all threads. A thread that is blocked for longer than `patience` ends with the process.
fn end(runtime: Runtime, patience: Duration) {
    let start = Instant::now();
    runtime.shutdown_timeout(patience);
    if start.elapsed() >= patience {
        warn!("the process ends although a thread is blocked, perhaps by a file that is not read");
    }
}

/// Runs the load generator on a thread of its own, until it is done or a signal stops it.
async fn load(options: bench::Options) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut signals = Signals::new().map_err(|error| error.to_string())?;
    let stopper = Arc::clone(&stop);
    tokio::spawn(async move {
        signals.next().await;
        stopper.store(true, Ordering::Relaxed);
    });
    let run = tokio::task::spawn_blocking(move || bench::run(&options, &stop));
    run.await.map_err(|error| error.to_string())?
}

async fn serve(arguments: Serve, stderr: Stderr) -> Result<(), Error> {
    let config = configuration(&arguments)?;
    #[cfg_attr(not(unix), expect(unused_variables, reason = "only a signal changes it"))]
    let level = log::start(config.log, arguments.log_format, stderr);
    raise_descriptor_limit();
    let assets = config.assets.clone();
    let mut builder = builder(config.clone())?;
    if let Some(folder) = &arguments.demo {
        builder = demo::install(builder).site(folder);
    }
    let server = builder.build()?;
    // Handles signals before it prints the address, because a reader of the address may send a
    // signal at once.
    let mut signals = Signals::new()?;
    #[cfg(unix)]
    {
        reload_on_hangup(arguments, server.handle(), level)?;
        ignore_others()?;
    }
    let (first, asked) = oneshot::channel();
    let listeners = supervisor::listeners(&config)?;
    announce(&listeners.addresses());
    look_for_scripts(assets.as_deref());
    supervisor::tell("READY=1");
    let mut run = pin!(server.run(listeners, async {
        // The sender lives as long as this future.
        let _ = asked.await;
    }));
    tokio::select! {
        ended = &mut run => return ended,
        () = signals.next() => {}
    }
    supervisor::tell("STOPPING=1");
    // An error means that the server is ending anyway.
    let _ = first.send(());
    tokio::select! {
        ended = run => ended,
        () = signals.next() => {
            warn!("ended at once by a second signal; the links that were left break");
            Ok(())
        }
    }
}

/// Returns the builder of a server with this configuration and the settings of the environment.
///
/// # Errors
/// When a secret of the environment is too short, or there are others in the configuration.
fn builder(config: Config) -> Result<Builder, Error> {
    let has_files = !config.identity_secret_files.is_empty();
    let help = "Lines of the log that were lost because stderr did not take them.";
    let builder = Server::builder().config(config).scripts(SCRIPTS).counter(
        "tabmux_log_lines_lost_total",
        help,
        lost_lines,
    );
    match (secret("TABMUX_IDENTITY_SECRET")?, secret("TABMUX_IDENTITY_SECRET_OLD")?) {
        (None, None) => Ok(builder),
        (Some(_), _) | (None, Some(_)) if has_files => Err(Error::Config(
            "identity secrets are in the environment and in identity_secret_files: remove one"
                .to_owned(),
        )),
        (None, Some(_)) => Err(Error::Config(
            "TABMUX_IDENTITY_SECRET_OLD needs TABMUX_IDENTITY_SECRET beside it".to_owned(),
        )),
        (Some(first), old) => Ok(builder.identity_secrets(&first, old.as_deref())),
    }
}

/// Returns a secret of the environment. White space at the end is not part of it, as in a file.
///
/// # Errors
/// When it is too short.
fn secret(name: &str) -> Result<Option<Vec<u8>>, Error> {
    let Some(value) = std::env::var_os(name) else { return Ok(None) };
    let secret = value.as_encoded_bytes().trim_ascii_end();
    if secret.len() < SHORTEST_SECRET {
        let message = format!("{name} must have at least {SHORTEST_SECRET} bytes");
        return Err(Error::Config(message));
    }
    Ok(Some(secret.to_vec()))
}

/// The shortest identity secret, in bytes.
const SHORTEST_SECRET: usize = 16;

/// Logs a warning if scripts are missing.
fn look_for_scripts(folder: Option<&Path>) {
    let has = |file: &&&str| match folder {
        Some(folder) => folder.join(file).exists(),
        None => SCRIPTS.iter().any(|(name, _)| name == *file),
    };
    let Some(file) = ["client.js", "tiers.js", "worker.js"].iter().find(|file| !has(file)) else {
        return;
    };
    let place = folder.map_or("this binary".into(), |folder| folder.display().to_string());
    warn!("{place} has no {file}: run `cargo xtask dist`, or name its folder by --assets");
}

/// Writes the addresses to stdout. The server runs even if stdout cannot be written.
fn announce(addresses: &[String]) {
    let mut stdout = std::io::stdout();
    for address in addresses {
        let told = writeln!(stdout, "tabmux: serving {address}").and_then(|()| stdout.flush());
        if let Err(error) = told {
            warn!(
                "serving {address}, but the address cannot be written to standard output: {error}"
            );
        }
    }
}

/// Reads the configuration again at each SIGHUP.
#[cfg(unix)]
fn reload_on_hangup(
    arguments: Serve,
    server: ServerHandle,
    level: log::Level,
) -> Result<(), Error> {
    let mut signals = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            supervisor::tell("RELOADING=1");
            let config = configuration(&arguments);
            match config.and_then(|config| server.reload(&config).map(|()| config.log)) {
                Ok(wanted) => {
                    level.set(wanted);
                    info!("SIGHUP: the configuration was read again and is in force");
                }
                Err(error) => error!("SIGHUP: everything stays as it was: {error}"),
            }
            supervisor::tell("READY=1");
        }
    });
    Ok(())
}

/// Logs signals that have a meaning for other servers. By default each of them would end the
/// process without a drain.
#[cfg(unix)]
fn ignore_others() -> Result<(), Error> {
    let (one, two) = (SignalKind::user_defined1(), SignalKind::user_defined2());
    for (kind, name) in [(one, "SIGUSR1"), (two, "SIGUSR2")] {
        let mut signals = signal(kind)?;
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                warn!("{name} is ignored: SIGHUP reads the configuration again, SIGTERM ends");
            }
        });
    }
    Ok(())
}

fn configuration(arguments: &Serve) -> Result<Config, Error> {
    let mut config = match &arguments.config {
        Some(path) => Config::from_file(path)?,
        None => Config::default(),
    };
    if !arguments.listen.is_empty() {
        config.listen.clone_from(&arguments.listen);
    }
    if let Some(assets) = &arguments.assets {
        config.assets = Some(assets.clone());
    }
    let cookies = arguments.cookies.unwrap_or_default();
    config.route.extend(arguments.route.iter().cloned().map(|route| route.cookies(cookies)));
    config.allow_origins.extend(arguments.allow_origin.iter().cloned());
    if let Some(level) = arguments.log {
        config.log = log_level(level);
    }
    Ok(with_environment(config))
}

/// Applies the variables of the environment, which override the file.
fn with_environment(mut config: Config) -> Config {
    if let Ok(key) = std::env::var("TABMUX_API_KEY") {
        config.api_key = Some(ApiKey(key));
    }
    config
}

const fn log_level(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

/// Parses a route such as `/chat/=ws://127.0.0.1:9000`.
fn route(text: &str) -> Result<Route, String> {
    match text.split_once('=') {
        Some((prefix, upstream)) => Ok(Route::new(prefix, upstream)),
        None => Err("write it as /chat/=ws://127.0.0.1:9000".to_owned()),
    }
}

/// Reads which cookies upstreams get.
fn cookies(text: &str) -> Result<Cookies, String> {
    match text {
        "open" => Ok(Cookies::Open),
        "link" => Ok(Cookies::Link),
        _ => Err("write open or link".to_owned()),
    }
}

/// The signals that end the server: ctrl-c, and SIGTERM where the system has it.
struct Signals {
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(unix)]
    terminate: Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> Result<Self, Error> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, reason = "signals can fail elsewhere")]
    const fn new() -> Result<Self, Error> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        // An error means that the system has no such signal. The server then runs until the process
        // ends.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Mutex, PoisonError, mpsc},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the log of a runtime that ends while `task` is its only blocking task.
    fn log_of_end(task: impl FnOnce() + Send + 'static) -> String {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let runtime = Runtime::new().unwrap();
        let (started, start) = mpsc::channel();
        runtime.spawn_blocking(move || {
            started.send(()).unwrap();
            task();
        });
        start.recv().unwrap();
        tracing::subscriber::with_default(subscriber, || end(runtime, LAST_WAIT));
        String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_blocked_thread_does_not_keep_the_process_alive() {
        let (_sender, never) = mpsc::channel::<()>();
        let log = log_of_end(move || assert!(never.recv().is_err()));
        assert!(log.contains("the process ends although a thread is blocked"), "{log}");
    }

    #[test]
    fn the_end_of_finished_threads_is_not_logged() {
        assert_eq!(log_of_end(|| ()), "");
    }
}
