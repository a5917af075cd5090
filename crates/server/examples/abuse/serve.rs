//! The server that is attacked: a process of its own, whose allocator counts.

use std::{net::SocketAddr, process::Stdio};

use peak_alloc::PeakAlloc;
use tabmux_core::OwnedPayload;
use tabmux_server::{
    Config, Ctx, Decision, HeldCredit, Message, OpenAnswer, OpenRequest, Server, SocketHandler,
    listen,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::Outcome;

/// The key of the API.
pub(crate) const KEY: &str = "0123456789abcdef";

/// How links come in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The server's own listener.
    Own,
    /// An app of axum.
    Axum,
}

impl Way {
    pub(crate) const ALL: [Self; 2] = [Self::Own, Self::Axum];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Axum => "axum",
        }
    }
}

/// Sends back what it hears.
struct Echo;

impl SocketHandler for Echo {
    fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
        let _ = ctx.send(message);
    }
}

/// Keeps every message.
#[derive(Default)]
struct Hoard(Vec<(OwnedPayload, HeldCredit)>);

impl SocketHandler for Hoard {
    fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
        self.0.push((message.into(), ctx.hold_credit()));
    }
}

/// Never says whether a socket may be opened.
#[derive(Default)]
struct Silent(Option<OpenAnswer>);

impl SocketHandler for Silent {
    fn open(&mut self, _: &mut Ctx<'_>, request: &OpenRequest<'_>) -> Decision {
        self.0 = Some(request.answer_later());
        Decision::Later
    }

    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {}
}

/// Sends for ever once it has heard something.
struct Flood;

impl Flood {
    fn pour(ctx: &mut Ctx<'_>) {
        let text = "x".repeat(1_000);
        while ctx.send_text(&text).is_ok() {}
    }
}

impl SocketHandler for Flood {
    fn message(&mut self, ctx: &mut Ctx<'_>, _: Message<'_>) {
        Self::pour(ctx);
    }

    fn writable(&mut self, ctx: &mut Ctx<'_>) {
        Self::pour(ctx);
    }
}

/// Serves until the process is ended. Each line of the input asks for a reading.
pub(crate) async fn serve(allocator: &'static PeakAlloc, way: &str, config: &str) -> Outcome<()> {
    let config = toml::from_str::<Config>(config)?;
    let builder = Server::builder()
        .config(config)
        .socket("/echo", || Echo)
        .socket("/hoard", Hoard::default)
        .socket("/silent", Silent::default)
        .socket("/flood", || Flood);
    let server = builder.build()?;
    if way == Way::Own.name() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        println!("{}", listener.local_addr()?);
        tokio::spawn(readings(allocator));
        return Ok(server.run(listener, std::future::pending()).await?);
    }
    let app = server.router().merge(server.metrics());
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    tokio::spawn(readings(allocator));
    Ok(axum::serve(listener, app).await?)
}

async fn readings(allocator: &'static PeakAlloc) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(_)) = lines.next_line().await {
        println!("{}", allocator.current_usage());
    }
}

/// What the allocator and the ledger said at a moment.
#[derive(Clone, Copy, Default)]
pub(crate) struct Reading {
    pub(crate) allocated: usize,
    pub(crate) charged: usize,
}

/// A server, which ends with this value.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    process: Child,
}

/// What asks a server for readings.
pub(crate) struct Gauge {
    address: SocketAddr,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) async fn start(way: Way, config: &str) -> Outcome<(Self, Gauge)> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["serve", way.name(), config])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let input = process.stdin.take().ok_or("the server has no input")?;
        let output = process.stdout.take().ok_or("the server has no output")?;
        let mut output = BufReader::new(output).lines();
        let address = output.next_line().await?.ok_or("the server did not start")?.parse()?;
        Ok((Self { address, process }, Gauge { address, input, output }))
    }

    /// Returns the memory that the process has of the system, in bytes. 0 where that is not told.
    pub(crate) fn resident(&self) -> usize {
        let pid = self.process.id().unwrap_or(0);
        let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok();
        let resident = pages.and_then(|it| it.split(' ').nth(1)?.parse::<usize>().ok());
        resident.unwrap_or(0) * 4_096
    }

    /// Returns what was refused or ended, by metric, with how often.
    pub(crate) async fn refused(&self) -> Outcome<Vec<(String, u64)>> {
        let page = metrics(self.address).await?;
        let told = |line: &&str| {
            let is_one = ["refused", "_ended_total{", "_closed_total{"];
            let is_one = is_one.iter().any(|text| line.contains(text));
            is_one && !line.starts_with('#') && !line.ends_with(" 0")
        };
        let lines = page.lines().filter(told).filter_map(|line| line.rsplit_once(' '));
        Ok(lines.map(|(name, value)| (name.to_owned(), value.parse().unwrap_or(0))).collect())
    }
}

/// Returns the page `/metrics`.
async fn metrics(address: SocketAddr) -> Outcome<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}

impl Gauge {
    pub(crate) async fn read(&mut self) -> Outcome<Reading> {
        let page = metrics(self.address).await?;
        let is_charge = |line: &&str| {
            line.starts_with("tabmux_charged_bytes{") || line.starts_with("tabmux_shared_bytes ")
        };
        let charges = page.lines().filter(is_charge).filter_map(|line| line.rsplit_once(' '));
        let charged = charges.filter_map(|(_, bytes)| bytes.parse::<usize>().ok()).sum();
        self.input.write_all(b"\n").await?;
        let line = self.output.next_line().await?.ok_or("the server ended")?;
        Ok(Reading { allocated: line.parse()?, charged })
    }
}
