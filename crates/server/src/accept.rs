//! The listener: requests for a link are answered here and go to a shard; every other connection
//! goes to axum, which does not see that its first bytes were read before.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tracing::debug;

use crate::{
    admission::Cause,
    http,
    logs::rarely,
    replay::Replay,
    server::App,
    web::Web,
    ws::upgrade::{self, MAX_HEAD, Refusal},
};

/// How the first request of a link begins; then comes a space or a query.
const LINK: &[u8] = b"GET /tabmux/ws";
/// Who asks for these is let in even when there are too many connections for HTTP.
const VITAL: [&[u8]; 2] = [b"GET /healthz ", b"GET /metrics "];
/// How many of them, beyond the limit.
const VITAL_RESERVE: usize = 8;
/// How long the listener rests when it cannot accept: at first, and at most.
const REST: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];
/// How long the reader of a refusal has to take it.
const LINGER: Duration = Duration::from_secs(1);
/// Handshakes that are remembered at least, before those that are over are sorted out.
const REMEMBERED: usize = 64;

/// What a connection turned out to be for.
enum Greeted {
    /// For axum, with what was read.
    Http(TcpStream, SocketAddr, Vec<u8>),
    /// A link, or nothing.
    Done,
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
        client: IpAddr,
        user: Option<String>,
        len: usize,
    },
    Refused(Refusal),
}

/// The connections of a listener that are not yet, or will not be, a shard's.
struct Front {
    app: Arc<App>,
    web: Web,
    greetings: JoinSet<Greeted>,
    /// Greetings, the oldest first; some may be over.
    order: VecDeque<AbortHandle>,
    http: JoinSet<()>,
}

/// Accepts connections until `stop` is done; then gives HTTP `grace` to end.
pub(crate) async fn run(
    listener: TcpListener,
    app: Arc<App>,
    web: Web,
    stop: impl Future<Output = ()>,
    grace: Duration,
) {
    let mut front =
        Front { app, web, greetings: JoinSet::new(), order: VecDeque::new(), http: JoinSet::new() };
    let mut trouble = Trouble::default();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(greeted) = front.greetings.join_next() => {
                if let Ok(Greeted::Http(stream, peer, bytes)) = greeted {
                    front.serve(stream, peer, bytes);
                }
            }
            Some(_) = front.http.join_next() => {}
            accepted = accept(&listener, trouble.until) => match accepted {
                Ok((stream, peer)) => {
                    trouble.rest = REST[0];
                    front.greet(stream, peer);
                }
                Err(error) => trouble.bear(&error),
            }
        }
        front.count();
    }
    drop(listener);
    front.greetings.shutdown().await;
    // What is left after that is a request that never ends.
    let _ = timeout(grace, front.web.end()).await;
    front.http.shutdown().await;
}

/// Accepts, but not before `rested`.
async fn accept(
    listener: &TcpListener,
    rested: Option<Instant>,
) -> io::Result<(TcpStream, SocketAddr)> {
    if let Some(rested) = rested {
        sleep_until(rested).await;
    }
    listener.accept().await
}

impl Front {
    /// Learns what a new connection is for. If too many keep that to themselves, the oldest goes:
    /// who means well says it at once.
    fn greet(&mut self, stream: TcpStream, peer: SocketAddr) {
        let limit = self.app.admission.quota().handshakes;
        while self.greetings.len() >= limit
            && let Some(oldest) = self.order.pop_front()
        {
            if !oldest.is_finished() {
                oldest.abort();
                self.app.admission.count(Cause::Handshakes, None);
                break;
            }
        }
        if self.order.len() >= REMEMBERED.max(2 * self.greetings.len()) {
            self.order.retain(|greeting| !greeting.is_finished());
        }
        let greeting = greet(stream, peer, Arc::clone(&self.app));
        self.order.push_back(self.greetings.spawn(greeting));
    }

    fn serve(&mut self, stream: TcpStream, peer: SocketAddr, bytes: Vec<u8>) {
        let admission = &self.app.admission;
        let vital = VITAL.iter().any(|vital| bytes.starts_with(vital));
        let reserve = if vital { VITAL_RESERVE } else { 0 };
        if self.http.len() < admission.quota().http + reserve {
            self.http.spawn(self.web.serve(Replay::new(bytes, stream), peer));
            return;
        }
        let refusal = admission.refuse(Cause::Http, Some(peer.ip()));
        self.order.push_back(self.greetings.spawn(async move {
            if let Err(error) = refuse(stream, &refusal).await {
                debug!(%peer, "not refused: {error}");
            }
            Greeted::Done
        }));
    }

    /// Tells how many there are.
    fn count(&self) {
        let admission = &self.app.admission;
        admission.handshakes.store(self.greetings.len(), Ordering::Relaxed);
        admission.http.store(self.http.len(), Ordering::Relaxed);
    }
}

/// Errors of `accept`.
struct Trouble {
    rest: Duration,
    until: Option<Instant>,
}

impl Default for Trouble {
    fn default() -> Self {
        Self { rest: REST[0], until: None }
    }
}

impl Trouble {
    /// Has the listener rest: out of file descriptors or memory, the server serves the links it
    /// has, and the kernel keeps those that knock.
    fn bear(&mut self, error: &io::Error) {
        // The peer went while it waited.
        let gone = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset];
        if gone.contains(&error.kind()) {
            return;
        }
        rarely!(
            error,
            "no connection can be accepted: {error}; trying again until it works. If there are \
             too many open files, raise the limit (ulimit -n) or lower limits.links"
        );
        self.until = Some(Instant::now() + self.rest);
        self.rest = (self.rest * 2).min(REST[1]);
    }
}

/// Reads the beginning of a connection and answers what it asks for, unless that is axum's.
async fn greet(mut stream: TcpStream, peer: SocketAddr, app: Arc<App>) -> Greeted {
    if let Err(error) = stream.set_nodelay(true) {
        debug!("cannot set TCP_NODELAY: {error}");
    }
    let mut bytes = Vec::new();
    let patience = Duration::from_millis(app.config.handshake_timeout_ms);
    let first = match timeout(patience, read_first(&mut stream, &mut bytes, peer, &app)).await {
        Ok(Ok(first)) => first,
        // It went.
        Ok(Err(_)) => return Greeted::Done,
        Err(_) => {
            app.admission.count(Cause::Silent, Some(peer.ip()));
            return Greeted::Done;
        }
    };
    let served = match first {
        First::Other => return Greeted::Http(stream, peer, bytes),
        First::Link { response, client, user, len } => {
            let early = bytes.split_off(len);
            open(&app, stream, (client, user.as_deref()), &response, early).await
        }
        First::Refused(refusal) => refuse(stream, &refusal).await,
        First::Unknown => Ok(()),
    };
    if let Err(error) = served {
        debug!(%peer, "no link: {error}");
    }
    Greeted::Done
}

async fn read_first(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    peer: SocketAddr,
    app: &App,
) -> io::Result<First> {
    let mut buffer = [0; 2 << 10];
    loop {
        let seen = bytes.len();
        let room = buffer.len().min(MAX_HEAD - seen);
        let len = stream.read(&mut buffer[..room]).await?;
        if len == 0 {
            return Ok(First::Unknown);
        }
        bytes.extend_from_slice(&buffer[..len]);
        match look(bytes, seen, peer, app) {
            First::Unknown => {}
            first => return Ok(first),
        }
    }
}

/// What a connection begins with, of which `seen` bytes were looked at before.
fn look(bytes: &[u8], seen: usize, peer: SocketAddr, app: &App) -> First {
    let known = bytes.len().min(LINK.len());
    if bytes[..known] != LINK[..known] {
        return First::Other;
    }
    match bytes.get(LINK.len()) {
        None => return First::Unknown,
        Some(b' ' | b'?') => {}
        Some(_) => return First::Other,
    }
    let client = |forwarded: &[&[u8]]| app.proxies.client(peer.ip(), forwarded.iter().copied());
    match upgrade::parse(bytes, seen) {
        None => First::Unknown,
        Some(Err(refusal)) => {
            app.admission.count(Cause::Malformed, Some(peer.ip()));
            First::Refused(refusal)
        }
        Some(Ok((offer, len))) => match app.origins.check(&offer) {
            Ok(()) => {
                let client = client(&offer.forwarded);
                let user = app.user_of(&offer.headers, Some(peer.ip()), Some(client));
                First::Link { response: offer.response(), client, user, len }
            }
            Err(refusal) => {
                app.admission.count(Cause::Origin, Some(peer.ip()));
                First::Refused(refusal)
            }
        },
    }
}

/// Answers a handshake and gives the stream to a shard, if one more link may open.
async fn open(
    app: &App,
    mut stream: TcpStream,
    (client, user): (IpAddr, Option<&str>),
    response: &str,
    early: Vec<u8>,
) -> io::Result<()> {
    match app.admission.admit(Instant::now().into_std(), Some(client), user) {
        Ok(ticket) => {
            stream.write_all(response.as_bytes()).await?;
            http::place(app, stream, early, ticket)
        }
        Err(refusal) => refuse(stream, &refusal).await,
    }
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
