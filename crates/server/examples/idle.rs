//! What an idle link costs the server's process, in bytes of resident memory, on Linux:
//! `cargo run --release -p tabmux-server --example idle -- 2000 alone`.
//!
//! Each link says HELLO and attaches one tab. Instead of `alone`: `mounted` for a server that is
//! mounted in an axum app; `sockets` for a virtual socket on each link with a handler that has no
//! fields; `tasks` for the same with an async function. The slope counts from a quarter of the
//! links on, so that what a server takes for its first links is left out.

use std::{
    error::Error,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
};

use tabmux_core::wire::{
    Alias, Hello, HubFrame, HubId, NEWEST_VERSION, OLDEST_VERSION, SocketId, TabId, Upstream,
};
use tabmux_server::{Config, Ctx, Message, Server, SocketHandler, task};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let kind = arguments.get(1).map_or("alone", String::as_str);
    if !["alone", "mounted", "sockets", "tasks"].contains(&kind) {
        return Err("say alone, mounted, sockets or tasks".into());
    }
    let links = match arguments.first().map(String::as_str) {
        Some("serve") => return serve(kind),
        Some(number) => number.parse()?,
        None => 2_000,
    };
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", kind]);
    let mut server = command.stdout(Stdio::piped()).spawn()?;
    let measured = measure(&mut server, links, kind);
    server.kill()?;
    measured
}

#[tokio::main]
async fn serve(kind: &str) -> Outcome<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let task = task(|mut socket| async move { while socket.next().await.is_some() {} });
    let mut config = Config::default();
    config.limits.handshakes_per_s = 0;
    let builder =
        Server::builder().config(config).socket("/sockets", || Silent).socket("/tasks", task);
    let server = builder.build()?;
    if kind == "mounted" {
        Ok(axum::serve(listener, server.router()).await?)
    } else {
        Ok(server.run(listener, std::future::pending()).await?)
    }
}

/// Hears and says nothing.
struct Silent;

impl SocketHandler for Silent {
    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {}
}

fn measure(server: &mut std::process::Child, links: usize, kind: &str) -> Outcome<()> {
    let mut line = String::new();
    BufReader::new(server.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
    let address: SocketAddr = line.trim().parse()?;
    let mut open = Vec::new();
    let first = links / 4;
    let empty = resident(server.id())?;
    let mut quarter = empty;
    for number in 0..links {
        if number == first {
            quarter = resident(server.id())?;
        }
        open.push(link(address, number as u64, kind)?);
    }
    let full = resident(server.id())?;
    let slope = (full - quarter) as f64 / (links - first) as f64;
    println!("{links} links: {empty} bytes empty, {quarter} with {first} links, {full} with all");
    println!("{slope:.0} bytes a link");
    Ok(())
}

/// A link with one tab, all of whose answers were read.
fn link(address: SocketAddr, number: u64, kind: &str) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    let head = format!(
        "GET /tabmux/ws HTTP/1.1\r\nHost: {address}\r\n\
         Upgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
         Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    let hub = HubId(number);
    let hello = Hello {
        min_version: OLDEST_VERSION,
        max_version: NEWEST_VERSION,
        hub,
        resume: None,
        credentials: "",
    };
    let path = format!("/{kind}");
    let (up, socket) = (Upstream { tab: Alias(1), n: 1 }, SocketId(1));
    let mut frames = vec![HubFrame::Hello(hello), HubFrame::Attach { tab: TabId(number), last: 0 }];
    if ["sockets", "tasks"].contains(&kind) {
        frames.push(HubFrame::Open {
            up,
            socket,
            credit: 0,
            path: &path,
            protocols: vec![],
            ticket: "",
        });
    }
    for frame in frames {
        let payload = frame.to_bytes();
        // A mask of zeros leaves the payload as it is.
        let header = [0x82, 0x80 | u8::try_from(payload.len())?, 0, 0, 0, 0];
        stream.write_all(&[&header[..], &payload].concat())?;
        let mut header = [0; 2];
        stream.read_exact(&mut header)?;
        stream.read_exact(&mut vec![0; usize::from(header[1])])?;
    }
    Ok(stream)
}

fn resident(pid: u32) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib * 1024)
}
