//! What clients do to a server whose judge is slow, and what becomes of the others. Each part
//! prints a line, and the program fails if a client was refused for good.
//!
//! - Clients that say one byte a second of their request are closed, and nobody is asked about
//!   them.
//! - Clients that leave while they are judged withdraw their questions.
//! - Clients whose judge never answers are told when to come back.
//! - Browsers come back all at once, and the judge takes 20 ms for each. Each is let in, or told
//!   when to come back, until all are in.
//!
//! `--short` does it with a tenth of the clients. The server is a process of its own, so that each
//! of the two needs 16,000 open files at most.

use std::{
    error::Error,
    net::SocketAddr,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tabmux_server::{Admitted, Config, Server, listen, raise_descriptor_limit};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    task::JoinSet,
    time::{sleep, timeout},
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long a part may take.
const DEADLINE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> Outcome<()> {
    raise_descriptor_limit();
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    if arguments.first().is_some_and(|it| it == "serve") {
        return serve().await;
    }
    let size = if arguments.iter().any(|it| it == "--short") { 1 } else { 10 };
    let (server, address) = start().await?;
    timeout(DEADLINE, drip(address, 10 * size)).await??;
    timeout(DEADLINE, leave(address, 1_000 * size)).await??;
    timeout(DEADLINE, silence(address, 100)).await??;
    drop(server);
    // Another one: this judge has failed too often to be asked.
    let (_server, address) = start().await?;
    timeout(DEADLINE, storm(address, 1_500 * size)).await?
}

/// The server: a judge does what the cookie `judge` says.
async fn serve() -> Outcome<()> {
    let config =
        Config { handshake_timeout_ms: 3_000, judge_timeout_ms: 2_000, ..Config::default() };
    let server = Server::builder().config(config).judge(|request| async move {
        match request.cookie("judge") {
            Some("never") => std::future::pending().await,
            _ => sleep(Duration::from_millis(20)).await,
        }
        Ok(Admitted::nobody())
    });
    let server = server.build()?;
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    println!("{}", listener.local_addr()?);
    Ok(server.run(listener, std::future::pending()).await?)
}

async fn start() -> Outcome<(Child, SocketAddr)> {
    let mut server = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = server.stdout.take().ok_or("the server has no output")?;
    let line = BufReader::new(output).lines().next_line().await?;
    Ok((server, line.ok_or("the server did not start")?.parse()?))
}

fn request(address: SocketAddr, cookie: &str) -> String {
    format!(
        "GET /tabmux/ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: judge={cookie}\r\n\r\n"
    )
}

/// What a client is told.
enum Answer {
    In(TcpStream),
    Later(Duration),
}

/// Asks for a link. An error means that there was no answer.
async fn dial(address: SocketAddr, cookie: &str) -> Outcome<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request(address, cookie).as_bytes()).await?;
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Err("the server went".into());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    if head.starts_with("HTTP/1.1 101 ") {
        return Ok(Answer::In(stream));
    }
    let mut lines = head.lines();
    let retry = lines.find_map(|line| line.strip_prefix("retry-after: ")?.parse().ok());
    let retry = retry.unwrap_or_else(|| panic!("a client is refused for good: {head}"));
    Ok(Answer::Later(Duration::from_secs(retry)))
}

/// Says one byte a second until the server closes.
async fn drip(address: SocketAddr, clients: usize) -> Outcome<()> {
    let (start, before) = (Instant::now(), asked(address).await?);
    let mut all = JoinSet::new();
    for _ in 0..clients {
        all.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            let mut nothing = [0];
            for byte in request(address, "ok").into_bytes() {
                let written = stream.write_all(&[byte]).await;
                let read = timeout(Duration::from_secs(1), stream.read(&mut nothing)).await;
                if written.is_err() || read.is_ok() {
                    return Outcome::Ok(());
                }
            }
            Err("a whole request came".into())
        });
    }
    while let Some(done) = all.join_next().await {
        done??;
    }
    if asked(address).await? != before {
        return Err("the judge was asked about a part of a request".into());
    }
    println!("{clients} clients that say a byte a second: closed after {:.1?}", start.elapsed());
    Ok(())
}

/// Asks and leaves, all at once.
async fn leave(address: SocketAddr, clients: usize) -> Outcome<()> {
    let (start, told) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let mut all = JoinSet::new();
    for _ in 0..clients {
        let told = Arc::clone(&told);
        all.spawn(async move {
            if let Ok(Ok(Answer::Later(_))) =
                timeout(Duration::from_millis(1_500), dial(address, "never")).await
            {
                told.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(done) = all.join_next().await {
        done?;
    }
    let gone = Instant::now();
    while metric(address, "tabmux_judging").await? > 0.0 {
        tokio::task::yield_now().await;
    }
    let withdrawn = metric(address, "tabmux_judge_withdrawn_total").await?;
    println!(
        "{clients} clients that leave while they are judged: {withdrawn} questions withdrawn, \
         {} clients told when to come back, no question left {:.1?} after the last of them, {:.1?} \
         in all",
        told.load(Ordering::Relaxed),
        gone.elapsed(),
        start.elapsed()
    );
    Ok(())
}

/// A judge that never answers.
async fn silence(address: SocketAddr, clients: usize) -> Outcome<()> {
    let start = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..clients {
        all.spawn(async move { dial(address, "never").await });
    }
    while let Some(answer) = all.join_next().await {
        if let Answer::In(_) = answer?? {
            return Err("a client is in that nobody judged".into());
        }
    }
    println!(
        "{clients} clients whose judge is silent: all told when after {:.1?}",
        start.elapsed()
    );
    Ok(())
}

/// Comes back as the server says until all are in.
async fn storm(address: SocketAddr, clients: usize) -> Outcome<()> {
    let start = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..clients {
        all.spawn(async move {
            let (mut told, mut unheard) = (0_u32, 0_u32);
            loop {
                match dial(address, "ok").await {
                    Ok(Answer::In(stream)) => return (stream, told, unheard),
                    Ok(Answer::Later(retry)) => {
                        told += 1;
                        sleep(retry).await;
                    }
                    // As a hub does after a failure.
                    Err(_) => {
                        unheard += 1;
                        sleep(Duration::from_millis(500)).await;
                    }
                }
            }
        });
    }
    let (mut links, mut told, mut unheard) = (Vec::new(), 0, 0);
    while let Some(done) = all.join_next().await {
        let (stream, later, again) = done?;
        links.push(stream);
        told += later;
        unheard += again;
    }
    println!(
        "{clients} browsers at once, 20 ms each: the last is in after {:.1?}; {told} answers said \
         when to come back, {unheard} connections broke, none was refused for good",
        start.elapsed()
    );
    Ok(())
}

async fn asked(address: SocketAddr) -> Outcome<f64> {
    metric(address, "tabmux_judge_answers_total{from=\"judge\"}").await
}

async fn metric(address: SocketAddr, name: &str) -> Outcome<f64> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.ok_or("no such number")?.parse()?)
}
