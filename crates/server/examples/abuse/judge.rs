//! A judge that is slow, and what becomes of its clients. Each part has a server of its own, counts
//! all of its clients, and prints a line. It fails if a client is refused for good, or is neither
//! let in nor told when to come back.
//!
//! - `drip`: clients that say one byte a second of their request are closed, and the judge is not
//!   asked about them.
//! - `leave`: clients leave while they are judged. Each that was not told when to come back
//!   withdraws its question.
//! - `silence`: the judge never answers. Its clients are told when to come back, first at the
//!   deadline of the judge, and then without a call of the judge, but for one that tries it.
//! - `storm`: browsers come back all at once, and the judge takes 20 ms for each. Each is let in,
//!   or told when to come back, until all are in at the same time.
//!
//! All clients are in one process. On a machine that has no time for it they say nothing for half a
//! second, and the server may give them up: then the error counts `handshakes`.

use std::{
    fmt::Debug,
    net::SocketAddr,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tabmux_core::wire::{Hello, HubFrame, HubId, NEWEST_VERSION, OLDEST_VERSION, ServerFrame};
use tabmux_server::{Admitted, Config, Server, listen};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::Outcome;

/// How long a part may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// The time that the judge has.
const JUDGE: Duration = Duration::from_secs(2);
/// The same where clients leave before it is over.
const PATIENT_JUDGE: Duration = Duration::from_secs(60);
/// The time that a client has for its request, and for HELLO: the server's default.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The same where clients take too long on purpose.
const DRIP: Duration = Duration::from_secs(3);

/// Runs all parts.
pub(crate) async fn all(is_short: bool) -> Outcome<()> {
    let size = if is_short { 1 } else { 10 };
    let server = start(JUDGE, DRIP).await?;
    timeout(DEADLINE, drip(&server, 10 * size)).await??;
    let server = start(PATIENT_JUDGE, HANDSHAKE).await?;
    timeout(DEADLINE, leave(&server, 1_000 * size)).await??;
    let server = start(JUDGE, HANDSHAKE).await?;
    timeout(DEADLINE, silence(&server, 100)).await??;
    let server = start(JUDGE, HANDSHAKE).await?;
    timeout(DEADLINE, storm(&server, 1_500 * size)).await?
}

/// The server: a judge does what the cookie `judge` says.
pub(crate) async fn serve(judge_timeout_ms: u64, handshake_timeout_ms: u64) -> Outcome<()> {
    let config = Config::default().handshake_timeout_ms(handshake_timeout_ms);
    let config = config.judge_timeout_ms(judge_timeout_ms);
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

/// A server, which ends with this value.
struct Running {
    address: SocketAddr,
    _process: Child,
}

async fn start(judge: Duration, handshake: Duration) -> Outcome<Running> {
    let mut process = Command::new(std::env::current_exe()?)
        .arg("judge")
        .args([judge, handshake].map(|time| time.as_millis().to_string()))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = process.stdout.take().ok_or("the server has no output")?;
    let line = BufReader::new(output).lines().next_line().await?;
    let address = line.ok_or("the server did not start")?.parse()?;
    Ok(Running { address, _process: process })
}

/// Fails, with both values, unless they are equal.
fn equal<T: PartialEq + Debug>(what: &str, found: T, wanted: T) -> Outcome<()> {
    if found == wanted {
        return Ok(());
    }
    Err(format!("{what}: {found:?} in the place of {wanted:?}").into())
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
        greet(&mut stream).await?;
        return Ok(Answer::In(stream));
    }
    let mut lines = head.lines();
    let retry = lines.find_map(|line| line.strip_prefix("retry-after: ")?.parse().ok());
    let retry = retry.unwrap_or_else(|| panic!("a client is refused for good: {head}"));
    Ok(Answer::Later(Duration::from_secs(retry)))
}

/// Says HELLO as a hub does, and waits for WELCOME.
async fn greet(stream: &mut TcpStream) -> Outcome<()> {
    let hello = HubFrame::Hello(Hello {
        min_version: OLDEST_VERSION,
        max_version: NEWEST_VERSION,
        hub: HubId(1),
        resume: None,
        credentials: "",
    });
    let hello = hello.to_bytes();
    // One frame with a mask of zeros, which leaves the payload as it is.
    let mut frame = vec![0x82, 0x80 | u8::try_from(hello.len())?, 0, 0, 0, 0];
    frame.extend(hello);
    stream.write_all(&frame).await?;
    let mut header = [0; 2];
    stream.read_exact(&mut header).await?;
    let mut payload = vec![0; header[1].into()];
    stream.read_exact(&mut payload).await?;
    match ServerFrame::decode(&payload)? {
        ServerFrame::Welcome(_) => Ok(()),
        other => Err(format!("not WELCOME: {other:?}").into()),
    }
}

/// Says one byte a second until the server closes.
async fn drip(server: &Running, clients: usize) -> Outcome<()> {
    let (start, address) = (Instant::now(), server.address);
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
    equal("calls of the judge", server.asked().await?, 0)?;
    println!("{clients} clients that say a byte a second: closed after {:.1?}", start.elapsed());
    Ok(())
}

/// Asks, and leaves when each client was told when to come back or has a question open.
async fn leave(server: &Running, clients: usize) -> Outcome<()> {
    let (start, address) = (Instant::now(), server.address);
    let (told, time_to_leave) = (Arc::new(AtomicUsize::new(0)), watch::channel(false).0);
    let mut all = JoinSet::new();
    for _ in 0..clients {
        let (told, mut leave) = (Arc::clone(&told), time_to_leave.subscribe());
        all.spawn(async move {
            tokio::select! {
                answer = dial(address, "never") => match answer? {
                    Answer::In(_) => Err("a client is in that nobody judged".into()),
                    Answer::Later(_) => {
                        told.fetch_add(1, Ordering::Relaxed);
                        Outcome::Ok(())
                    }
                },
                _ = leave.wait_for(|it| *it) => Ok(()),
            }
        });
    }
    while told.load(Ordering::Relaxed) + server.open_questions().await? < clients {
        // A client that got neither fails the run.
        while let Some(done) = all.try_join_next() {
            done??;
        }
        sleep(Duration::from_millis(5)).await;
    }
    let told = told.load(Ordering::Relaxed);
    let leaving = Instant::now();
    time_to_leave.send_replace(true);
    while let Some(done) = all.join_next().await {
        done??;
    }
    while server.open_questions().await? > 0 {
        tokio::task::yield_now().await;
    }
    let withdrawn = server.metric("tabmux_judge_withdrawn_total").await?;
    equal("questions withdrawn", withdrawn, clients - told)?;
    println!(
        "{clients} clients that leave while they are judged: {told} told when to come back, \
         {withdrawn} questions withdrawn, no question left {:.1?} after they began to leave, \
         {:.1?} in all",
        leaving.elapsed(),
        start.elapsed()
    );
    Ok(())
}

/// A judge that never answers.
async fn silence(server: &Running, clients: usize) -> Outcome<()> {
    let start = Instant::now();
    told(server, clients).await?;
    let (first, asked) = (start.elapsed(), server.asked().await?);
    if first < JUDGE {
        return Err(format!("told after {first:.1?}, when the judge had time left").into());
    }
    // This judge has failed too often to be asked, but for one question now and then that decides
    // whether it works again.
    let again = Instant::now();
    told(server, clients).await?;
    let more = server.asked().await? - asked;
    if more > 1 {
        return Err(format!("a judge that keeps failing was asked {more} times").into());
    }
    println!(
        "{clients} clients whose judge is silent: all told when to come back after {first:.1?}, \
         {clients} more after {:.1?} with {more} more calls",
        again.elapsed()
    );
    Ok(())
}

/// Asks a judge that never answers. Each client must be told when to come back.
async fn told(server: &Running, clients: usize) -> Outcome<()> {
    let mut all = JoinSet::new();
    for _ in 0..clients {
        all.spawn(dial(server.address, "never"));
    }
    while let Some(answer) = all.join_next().await {
        if let Answer::In(_) = answer?? {
            return Err("a client is in that nobody judged".into());
        }
    }
    Ok(())
}

/// Comes back as the server says until all are in.
async fn storm(server: &Running, clients: usize) -> Outcome<()> {
    let (start, address) = (Instant::now(), server.address);
    let mut all = JoinSet::new();
    for _ in 0..clients {
        all.spawn(async move {
            let mut told = 0_u32;
            loop {
                match dial(address, "ok").await? {
                    Answer::In(stream) => return Outcome::Ok((stream, told)),
                    Answer::Later(retry) => {
                        told += 1;
                        sleep(retry).await;
                    }
                }
            }
        });
    }
    let (mut links, mut told, mut most) = (Vec::new(), 0, 0);
    while let Some(done) = all.join_next().await {
        // A connection that breaks without an answer fails the run.
        let (stream, later) = match done? {
            Ok(done) => done,
            Err(error) => return Err(format!("{error}; {}", server.ended().await?).into()),
        };
        links.push(stream);
        (told, most) = (told + later, most.max(later));
    }
    let last = start.elapsed();
    equal("links at the server", server.metric("tabmux_links").await?, clients)?;
    println!(
        "{clients} browsers at once, 20 ms each: the last is in after {last:.1?}; {told} answers \
         said when to come back, {most} at most to one browser; no connection broke, and none was \
         refused for good"
    );
    Ok(())
}

impl Running {
    /// Returns how often the judge was called.
    async fn asked(&self) -> Outcome<usize> {
        self.metric("tabmux_judge_answers_total{from=\"judge\"}").await
    }

    /// Returns how many clients are judged now, or wait for it.
    async fn open_questions(&self) -> Outcome<usize> {
        self.metric("tabmux_judging").await
    }

    async fn metric(&self, name: &str) -> Outcome<usize> {
        let page = metrics(self.address).await?;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.ok_or("no such number")?.parse()?)
    }

    /// Returns which connections and links the server ended, by reason.
    async fn ended(&self) -> Outcome<String> {
        let page = metrics(self.address).await?;
        let counts = page.lines().filter(|line| {
            let is_one = line.starts_with("tabmux_refused_total{")
                || line.starts_with("tabmux_links_closed_total{");
            is_one && !line.ends_with(" 0")
        });
        Ok(counts.collect::<Vec<_>>().join(", "))
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
