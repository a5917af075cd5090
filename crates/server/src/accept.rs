//! The listener: requests for a link are answered here and go to a shard; every other connection
//! goes to axum, which does not see that its first bytes were read before.

use std::{
    convert::Infallible,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, error};

use crate::{
    http,
    replay::Replay,
    server::App,
    ws::upgrade::{self, MAX_HEAD, Refusal},
};

/// How the first request of a link begins; then comes a space or a query.
const LINK: &[u8] = b"GET /tabmux/ws";
/// How long the listener rests when it cannot accept: at first, and at most.
const REST: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];
/// Trouble that comes again within this time is not told again.
const QUIET: Duration = Duration::from_secs(60);
/// How long the reader of a refusal has to take it.
const LINGER: Duration = Duration::from_secs(1);

/// Connections for axum.
pub(crate) struct Rest {
    connections: mpsc::Receiver<(Replay, SocketAddr)>,
    address: SocketAddr,
}

/// What the beginning of a connection is.
enum First {
    /// The stream belongs to axum.
    Other,
    /// Too little has come to tell.
    Unknown,
    /// A request for a link, with the length of its head.
    Link {
        response: String,
        len: usize,
    },
    Refused(Refusal),
}

/// Accepts connections until it is dropped, and the handshakes in progress with it.
pub(crate) async fn run(
    listener: TcpListener,
    app: Arc<App>,
    others: mpsc::Sender<(Replay, SocketAddr)>,
) -> Infallible {
    let mut greetings = JoinSet::new();
    let mut trouble = Trouble::default();
    loop {
        tokio::select! {
            Some(_) = greetings.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    trouble.rest = REST[0];
                    greetings.spawn(greet(stream, peer, Arc::clone(&app), others.clone()));
                }
                Err(error) => trouble.bear(&error).await,
            }
        }
    }
}

/// Errors of `accept`.
struct Trouble {
    rest: Duration,
    last: Option<Instant>,
}

impl Default for Trouble {
    fn default() -> Self {
        Self { rest: REST[0], last: None }
    }
}

impl Trouble {
    /// Waits for better times: out of file descriptors or memory, the server serves the links it
    /// has, and the kernel keeps those that knock.
    async fn bear(&mut self, error: &io::Error) {
        // The peer went while it waited.
        let gone = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset];
        if gone.contains(&error.kind()) {
            return;
        }
        if self.last.is_none_or(|last| last.elapsed() > QUIET) {
            error!(
                "no connection can be accepted: {error}; trying again until it works. If there \
                 are too many open files, raise the limit (ulimit -n) or lower limits.links"
            );
        }
        self.last = Some(Instant::now());
        sleep(self.rest).await;
        self.rest = (self.rest * 2).min(REST[1]);
    }
}

/// Reads the beginning of a connection and sends it where it belongs.
async fn greet(
    mut stream: TcpStream,
    peer: SocketAddr,
    app: Arc<App>,
    others: mpsc::Sender<(Replay, SocketAddr)>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!("cannot set TCP_NODELAY: {error}");
    }
    let mut bytes = Vec::new();
    let patience = Duration::from_millis(app.config.handshake_timeout_ms);
    let Ok(Ok(first)) = timeout(patience, read_first(&mut stream, &mut bytes, &app)).await else {
        // It went, or said too little for too long.
        return;
    };
    let served = match first {
        First::Other => {
            // An error means that the server ends.
            let _ = others.send((Replay::new(bytes, stream), peer)).await;
            Ok(())
        }
        First::Link { response, len } => open(&app, stream, &response, bytes.split_off(len)).await,
        First::Refused(refusal) => refuse(stream, &refusal).await,
        First::Unknown => Ok(()),
    };
    if let Err(error) = served {
        debug!(%peer, "no link: {error}");
    }
}

async fn read_first(stream: &mut TcpStream, bytes: &mut Vec<u8>, app: &App) -> io::Result<First> {
    let mut buffer = [0; 2 << 10];
    loop {
        let seen = bytes.len();
        let room = buffer.len().min(MAX_HEAD - seen);
        let len = stream.read(&mut buffer[..room]).await?;
        if len == 0 {
            return Ok(First::Unknown);
        }
        bytes.extend_from_slice(&buffer[..len]);
        match look(bytes, seen, app) {
            First::Unknown => {}
            first => return Ok(first),
        }
    }
}

/// What a connection begins with, of which `seen` bytes were looked at before.
fn look(bytes: &[u8], seen: usize, app: &App) -> First {
    let known = bytes.len().min(LINK.len());
    if bytes[..known] != LINK[..known] {
        return First::Other;
    }
    match bytes.get(LINK.len()) {
        None => return First::Unknown,
        Some(b' ' | b'?') => {}
        Some(_) => return First::Other,
    }
    match upgrade::parse(bytes, seen) {
        None => First::Unknown,
        Some(Err(refusal)) => First::Refused(refusal),
        Some(Ok((offer, len))) => match app.origins.check(&offer) {
            Ok(()) => First::Link { response: offer.response(), len },
            Err(refusal) => First::Refused(refusal),
        },
    }
}

/// Answers a handshake and gives the stream to a shard.
async fn open(app: &App, mut stream: TcpStream, response: &str, early: Vec<u8>) -> io::Result<()> {
    stream.write_all(response.as_bytes()).await?;
    http::place(app, stream, early)
}

async fn refuse(mut stream: TcpStream, refusal: &Refusal) -> io::Result<()> {
    stream.write_all(refusal.response().as_bytes()).await?;
    stream.shutdown().await?;
    // Unread bytes would reset the connection, and the answer might be lost with it.
    let mut nowhere = tokio::io::sink();
    let drained = tokio::io::copy(&mut stream, &mut nowhere);
    // Whether it went or goes on talking: the answer was given.
    let _ = timeout(LINGER, drained).await;
    Ok(())
}

impl Rest {
    pub(crate) const fn new(
        connections: mpsc::Receiver<(Replay, SocketAddr)>,
        address: SocketAddr,
    ) -> Self {
        Self { connections, address }
    }
}

impl axum::serve::Listener for Rest {
    type Io = Replay;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Replay, SocketAddr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            // The listener is closed; axum is told to stop by other means.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
