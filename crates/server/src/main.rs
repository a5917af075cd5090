//! The binary `tabmux`.

#![forbid(unsafe_code)]

use std::{
    io::{ErrorKind, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use tabmux_server::{ApiKey, Config, Error, Server, demo, listen_address};
use tokio::net::TcpListener;
use tracing::{Level, warn};

/// One browser, one WebSocket, however many tabs.
#[derive(Parser)]
#[command(name = "tabmux", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a server.
    Serve(Serve),
}

/// What is given here overrides the configuration file.
#[derive(clap::Args)]
#[command(after_long_help = format!("Configuration file:\n\n{}", Config::EXAMPLE))]
struct Serve {
    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDR", value_parser = listen_address)]
    listen: Option<SocketAddr>,
    /// Serve the demo: its handlers, and the files of DIR at /
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "demo")]
    demo: Option<PathBuf>,
    /// TOML file with the configuration; --help shows every key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder with client.js and worker.js [default: packages/tabmux/dist]
    #[arg(long, value_name = "DIR")]
    assets: Option<PathBuf>,
    /// Origin whose pages may open links besides the server's own, such as `https://example.org`;
    /// may be repeated. `*` lets every site use this server in its visitors' name
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Least level to log to stderr: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: Level,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Serve(arguments) = Arguments::parse().command;
    match serve(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tabmux: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: Serve) -> Result<(), Error> {
    tracing_subscriber::fmt()
        .with_max_level(arguments.log)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
    let config = configuration(&arguments)?;
    let address = config.listen;
    let assets = config.assets.clone();
    let mut builder = Server::builder().config(config);
    if let Some(folder) = arguments.demo {
        builder = demo::install(builder).site(folder);
    }
    let server = builder.build()?;
    // Before anything is printed, so that whoever reads it may already stop us.
    let shutdown = shutdown_signal()?;
    let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => Error::AddressInUse(address),
        _ => Error::Listen { address, source },
    })?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "tabmux: serving http://{}/", listener.local_addr()?)?;
    stdout.flush()?;
    if let Some(file) = ["client.js", "worker.js"].iter().find(|f| !assets.join(f).exists()) {
        let folder = assets.display();
        warn!("{folder} has no {file}: run `cargo xtask dist`, or name its folder by --assets");
    }
    server.run(listener, shutdown).await
}

fn configuration(arguments: &Serve) -> Result<Config, Error> {
    let mut config = match &arguments.config {
        Some(path) => Config::from_file(path)?,
        None => Config::default(),
    };
    if let Some(listen) = arguments.listen {
        config.listen = listen;
    }
    if let Some(assets) = &arguments.assets {
        config.assets.clone_from(assets);
    }
    config.allow_origins.extend(arguments.allow_origin.iter().cloned());
    if let Ok(key) = std::env::var("TABMUX_API_KEY") {
        config.api_key = Some(ApiKey(key));
    }
    Ok(config)
}

/// Ctrl-c, or SIGTERM where there is one.
#[cfg(unix)]
fn shutdown_signal() -> Result<impl Future<Output = ()>, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Ctrl-c.
#[cfg(not(unix))]
fn shutdown_signal() -> Result<impl Future<Output = ()>, Error> {
    Ok(async {
        // An error means that there is no such signal here: then only the end of the process.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
