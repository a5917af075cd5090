//! Clients that come through a trusted proxy, which names them in `X-Forwarded-For`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tabmux_core::wire::{
    Alias, Hello, HubFrame, HubId, LaneCount, NEWEST_VERSION, OLDEST_VERSION, Payload, Resume,
    ServerFrame, SocketId, TabId, Upstream, Welcome,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::Outcome;

/// How long a client waits for an answer before that counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the neighbour asks.
const EVERY: Duration = Duration::from_millis(20);

/// Appends a message as a client sends it: one frame, with a mask of zeros, which leaves the
/// payload as it is.
pub(crate) fn put(bytes: &mut Vec<u8>, payload: &[u8]) {
    bytes.push(0x82);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len @ ..126), _) => bytes.push(0x80 | len),
        (_, Ok(len)) => {
            bytes.push(0x80 | 126);
            bytes.extend(len.to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
}

fn hello(resume: Option<Resume>) -> HubFrame<'static> {
    HubFrame::Hello(Hello {
        min_version: OLDEST_VERSION,
        max_version: NEWEST_VERSION,
        hub: HubId(1),
        resume,
        credentials: "",
    })
}

/// Opens a link for a client. Returns the status in place of the stream when it is refused.
pub(crate) async fn dial(address: SocketAddr, client: &str) -> Outcome<Result<TcpStream, u16>> {
    let socket = TcpSocket::new_v4()?;
    // Little fits on the way to a client that does not read.
    socket.set_recv_buffer_size(16 << 10)?;
    let mut stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /tabmux/ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Forwarded-For: {client}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let status: u16 = head.split(' ').nth(1).ok_or("no status")?.parse()?;
    Ok(if status == 101 { Ok(stream) } else { Err(status) })
}

/// A link of somebody who means harm. It says what it likes and acknowledges nothing.
pub(crate) struct Attacker {
    write: OwnedWriteHalf,
    /// Kept, so that the stream does not end.
    _read: Option<OwnedReadHalf>,
    reader: Option<JoinHandle<()>>,
    ended: Arc<AtomicBool>,
    bytes: Vec<u8>,
    /// Reliable frames of each tab.
    sent: Vec<u64>,
}

impl Attacker {
    /// Opens a link and says HELLO. Returns nothing if it is refused.
    pub(crate) async fn dial(
        address: SocketAddr,
        client: &str,
        reads: bool,
    ) -> Outcome<Option<Self>> {
        let Ok(stream) = dial(address, client).await? else {
            return Ok(None);
        };
        let (read, write) = stream.into_split();
        let ended = Arc::new(AtomicBool::new(false));
        let (read, reader) = if reads {
            let ended = Arc::clone(&ended);
            (None, Some(tokio::spawn(drain(read, ended))))
        } else {
            (Some(read), None)
        };
        let (bytes, sent) = (Vec::new(), Vec::new());
        let mut attacker = Self { write, _read: read, reader, ended, bytes, sent };
        attacker.say(&hello(None));
        attacker.flush().await;
        Ok(Some(attacker))
    }

    /// Returns true if the server closed the link.
    pub(crate) fn is_over(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    pub(crate) fn say(&mut self, frame: &HubFrame<'_>) {
        put(&mut self.bytes, &frame.to_bytes());
    }

    /// Says what is no whole message.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Sends what was said.
    pub(crate) async fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        match timeout(PATIENCE, self.write.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            // The server closed the link, or reads it no more.
            Ok(Err(_)) | Err(_) => self.ended.store(true, Ordering::Relaxed),
        }
    }

    /// Attaches the tabs from 1 on, whose aliases are their numbers.
    pub(crate) fn attach(&mut self, tabs: u32) {
        for tab in 1..=tabs {
            self.say(&HubFrame::Attach { tab: TabId(tab.into()), last: 0 });
        }
    }

    pub(crate) fn open(&mut self, tab: u32, socket: u32, path: &str) {
        let (up, socket, protocols) = (self.up(tab), SocketId(socket), Vec::new());
        let credit = 1 << 40;
        self.say(&HubFrame::Open { up, socket, credit, path, protocols, ticket: "" });
    }

    pub(crate) fn send(&mut self, tab: u32, socket: u32, text: &str) {
        let (up, socket) = (self.up(tab), SocketId(socket));
        self.say(&HubFrame::Data { up, socket, payload: Payload::Text(text) });
    }

    pub(crate) fn subscribe(&mut self, topic: &str) {
        self.say(&HubFrame::Subscribe { request: 1, position: None, topic });
    }

    fn up(&mut self, tab: u32) -> Upstream {
        let index = tab as usize;
        self.sent.resize(self.sent.len().max(index + 1), 0);
        self.sent[index] += 1;
        Upstream { tab: Alias(tab), n: self.sent[index] }
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}

/// Reads to the end.
async fn drain(mut read: OwnedReadHalf, ended: Arc<AtomicBool>) {
    let _ = tokio::io::copy(&mut read, &mut tokio::io::sink()).await;
    ended.store(true, Ordering::Relaxed);
}

/// A browser that behaves well, with one tab that has one socket.
pub(crate) struct Neighbour {
    stream: TcpStream,
    welcome: Welcome,
    said: u64,
    heard: u64,
}

impl Neighbour {
    pub(crate) async fn dial(address: SocketAddr, client: &str) -> Outcome<Self> {
        let mut neighbour = Self::greet(address, client, None).await?;
        neighbour.say(&HubFrame::Attach { tab: TabId(1), last: 0 }).await?;
        let up = neighbour.up();
        let (socket, credit, path) = (SocketId(1), 1 << 40, "/echo");
        let open = HubFrame::Open { up, socket, credit, path, protocols: Vec::new(), ticket: "" };
        neighbour.say(&open).await?;
        loop {
            let bytes = neighbour.next().await?;
            if matches!(ServerFrame::decode(&bytes)?, ServerFrame::Opened { .. }) {
                return Ok(neighbour);
            }
        }
    }

    /// Says HELLO, and goes on with a session.
    async fn greet(address: SocketAddr, client: &str, resume: Option<Resume>) -> Outcome<Self> {
        let dialled = timeout(PATIENCE, dial(address, client)).await??;
        let mut stream = dialled.map_err(|status| format!("the neighbour is refused: {status}"))?;
        let mut bytes = Vec::new();
        put(&mut bytes, &hello(resume).to_bytes());
        stream.write_all(&bytes).await?;
        let bytes = timeout(PATIENCE, message(&mut stream)).await??;
        match ServerFrame::decode(&bytes)? {
            ServerFrame::Welcome(welcome) => Ok(Self { stream, welcome, said: 0, heard: 0 }),
            other => Err(format!("the neighbour is not welcome: {other:?}").into()),
        }
    }

    /// Loses its link. Returns what another one needs to go on.
    pub(crate) fn lose(self) -> Resume {
        let Welcome { session, token, term, .. } = self.welcome;
        Resume { session, token, term, have0: Some(0) }
    }

    /// Returns true if a session is still there.
    pub(crate) async fn is_back(
        address: SocketAddr,
        client: &str,
        resume: Resume,
    ) -> Outcome<bool> {
        Ok(Self::greet(address, client, Some(resume)).await?.welcome.resumed)
    }

    /// Subscribes to a topic. Returns false if that is refused.
    pub(crate) async fn subscribe(&mut self, topic: &str) -> Outcome<bool> {
        self.say(&HubFrame::Subscribe { request: 1, position: None, topic }).await?;
        loop {
            let bytes = self.next().await?;
            match ServerFrame::decode(&bytes)? {
                ServerFrame::Subscribed(_) => return Ok(true),
                ServerFrame::Unsubscribed(_) => return Ok(false),
                _ => {}
            }
        }
    }

    /// Asks for an echo. Returns how long it took.
    pub(crate) async fn echo(&mut self) -> Outcome<Duration> {
        let up = self.up();
        let text = up.n.to_string();
        let (start, payload) = (Instant::now(), Payload::Text(&text));
        self.say(&HubFrame::Data { up, socket: SocketId(1), payload }).await?;
        loop {
            let bytes = self.next().await?;
            if let ServerFrame::Data { payload, .. } = ServerFrame::decode(&bytes)? {
                if payload == Payload::Text(&text) {
                    return Ok(start.elapsed());
                }
                return Err("an echo is not what was said".into());
            }
        }
    }

    fn up(&mut self) -> Upstream {
        self.said += 1;
        Upstream { tab: Alias(1), n: self.said }
    }

    async fn say(&mut self, frame: &HubFrame<'_>) -> Outcome<()> {
        let mut bytes = Vec::new();
        put(&mut bytes, &frame.to_bytes());
        Ok(timeout(PATIENCE, self.stream.write_all(&bytes)).await??)
    }

    /// Reads the next frame, and acknowledges it if that is due.
    async fn next(&mut self) -> Outcome<Vec<u8>> {
        let bytes = timeout(PATIENCE, message(&mut self.stream)).await??;
        if ServerFrame::decode(&bytes)?.lane() == Some(1) {
            self.heard += 1;
            let lanes = vec![LaneCount { lane: 1, count: self.heard }];
            self.say(&HubFrame::Ack { lanes, aside: Vec::new() }).await?;
        }
        Ok(bytes)
    }
}

/// Reads the payload of the next binary message, which is one frame.
async fn message(stream: &mut TcpStream) -> Outcome<Vec<u8>> {
    let first = stream.read_u8().await?;
    let len = match stream.read_u8().await? {
        126 => stream.read_u16().await?.into(),
        127 => usize::try_from(stream.read_u64().await?)?,
        len => len.into(),
    };
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).await?;
    if first != 0x82 {
        return Err(format!("the link closes: {}", String::from_utf8_lossy(&payload)).into());
    }
    Ok(payload)
}

/// What a neighbour was told while somebody meant harm.
#[derive(Default)]
pub(crate) struct Heard {
    /// How long each answer took, in order.
    times: Vec<Duration>,
    /// Questions without an answer, and what else went wrong.
    pub(crate) lost: Vec<String>,
}

impl Heard {
    pub(crate) fn asked(&self) -> usize {
        self.times.len() + self.lost.len()
    }

    /// Returns the time that 99 of 100 answers took at most.
    pub(crate) fn p99(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default()
    }
}

/// Asks for one echo after the other until it is told to stop.
pub(crate) async fn listen(mut neighbour: Neighbour, stop: Arc<AtomicBool>) -> (Neighbour, Heard) {
    let mut heard = Heard::default();
    while !stop.load(Ordering::Relaxed) {
        match neighbour.echo().await {
            Ok(time) => heard.times.push(time),
            Err(error) => {
                heard.lost.push(error.to_string());
                break;
            }
        }
        sleep(EVERY).await;
    }
    (neighbour, heard)
}
