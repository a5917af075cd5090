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
    app::{App, Opening},
    logs::rarely,
    replay::Replay,
    web::Web,
    ws::upgrade::{self, MAX_HEAD, Refusal},
};

/// How the first request of a link begins; then comes a space or a query.
const LINK: &[u8] = b"GET /tabmux/ws";
/// Who asks for these is let in even when there are too many connections for HTTP.
const VITAL: [&[u8]; 3] = [b"GET /healthz ", b"GET /tabmux/healthz ", b"GET /metrics "];
/// How many of them, beyond the limit.
const VITAL_RESERVE: usize = 8;
/// How long the listener rests when it cannot accept: at first, and at most.
const REST: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];
/// When there are too many handshakes, nobody is given up before so long: who means well has said
/// by then what it wants, and those that knock wait in the kernel.
const CHANCE: Duration = Duration::from_millis(500);
/// How long the reader of a refusal has to take it.
const LINGER: Duration = Duration::from_secs(1);
/// Handshakes that are remembered at least, before those that are over are sorted out.
const REMEMBERED: usize = 64;

/// What a connection turned out to be for.
enum Greeted {
    /// For axum, with what was read.
    Http(TcpStream, SocketAddr, Vec<u8>),
    /// It was refused, and has yet to read that.
    Refused(TcpStream),
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
        inflates: bool,
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
    /// Greetings and when they began, the oldest first; some may be over.
    order: VecDeque<(Instant, AbortHandle)>,
    /// Those that were refused.
    refused: JoinSet<()>,
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
    let mut front = Front {
        app,
        web,
        greetings: JoinSet::new(),
        order: VecDeque::new(),
        refused: JoinSet::new(),
        http: JoinSet::new(),
    };
    let mut trouble = Trouble::default();
    tokio::pin!(stop);
    loop {
        let not_before = front.not_before().max(trouble.until);
        tokio::select! {
            () = &mut stop => break,
            Some(greeted) = front.greetings.join_next() => {
                match greeted {
                    Ok(Greeted::Http(stream, peer, bytes)) => front.serve(stream, peer, bytes),
                    Ok(Greeted::Refused(stream)) => front.linger(stream),
                    Ok(Greeted::Done) | Err(_) => {}
                }
            }
            Some(_) = front.refused.join_next() => {}
            Some(_) = front.http.join_next() => {}
            accepted = accept(&listener, not_before) => match accepted {
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

/// Accepts, but not before a moment.
async fn accept(
    listener: &TcpListener,
    not_before: Option<Instant>,
) -> io::Result<(TcpStream, SocketAddr)> {
    if let Some(moment) = not_before {
        sleep_until(moment).await;
    }
    listener.accept().await
}

impl Front {
    /// When the next connection may be accepted, if not now.
    fn not_before(&mut self) -> Option<Instant> {
        if self.greetings.len() < self.app.admission.quota().handshakes {
            return None;
        }
        while self.order.pop_front_if(|(_, greeting)| greeting.is_finished()).is_some() {}
        self.order.front().map(|(began, _)| *began + CHANCE)
    }

    /// Learns what a new connection is for. If too many keep that to themselves, the oldest goes.
    fn greet(&mut self, stream: TcpStream, peer: SocketAddr) {
        if self.not_before().is_some()
            && let Some((_, oldest)) = self.order.pop_front()
        {
            oldest.abort();
            self.app.admission.count(Cause::Handshakes, None);
        }
        if self.order.len() >= REMEMBERED.max(2 * self.greetings.len()) {
            self.order.retain(|(_, greeting)| !greeting.is_finished());
        }
        let greeting = self.greetings.spawn(greet(stream, peer, Arc::clone(&self.app)));
        self.order.push_back((Instant::now(), greeting));
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
        if self.refused.len() >= admission.quota().handshakes {
            return;
        }
        self.refused.spawn(async move {
            if let Greeted::Refused(stream) = refuse(stream, peer, &refusal).await {
                linger(stream).await;
            }
        });
    }

    /// Gives a refusal time to be read. In a crowd nobody gets it: the answer is on its way.
    fn linger(&mut self, stream: TcpStream) {
        if self.refused.len() < self.app.admission.quota().handshakes {
            self.refused.spawn(linger(stream));
        }
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
    match first {
        First::Other => Greeted::Http(stream, peer, bytes),
        First::Link { response, inflates, client, user, len } => {
            let early = bytes.split_off(len);
            match app.admission.admit(Instant::now().into_std(), Some(client), user.as_deref()) {
                Ok(ticket) => {
                    let opening = Opening { early, ticket, inflates };
                    open(&app, stream, peer, &response, opening).await
                }
                Err(refusal) => refuse(stream, peer, &refusal).await,
            }
        }
        First::Refused(refusal) => refuse(stream, peer, &refusal).await,
        First::Unknown => Greeted::Done,
    }
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
        Some(Ok((mut offer, len))) => match app.origins.check(&offer) {
            Ok(()) => {
                offer.deflate = offer.deflate.only_if(app.config.deflate.enabled);
                let client = client(&offer.forwarded);
                let user = match app.user_of(&offer.headers, Some(peer.ip()), Some(client)) {
                    Ok(user) => user,
                    Err(refusal) => return First::Refused(refusal),
                };
                let (response, inflates) = (offer.response(), offer.deflate.is_on());
                First::Link { response, inflates, client, user, len }
            }
            Err(refusal) => {
                app.admission.count(Cause::Origin, Some(peer.ip()));
                First::Refused(refusal)
            }
        },
    }
}

/// Answers a handshake and gives the stream to a shard.
async fn open(
    app: &App,
    mut stream: TcpStream,
    peer: SocketAddr,
    response: &str,
    opening: Opening,
) -> Greeted {
    let written = stream.write_all(response.as_bytes()).await;
    if let Err(error) = written.and_then(|()| app.place(stream, opening)) {
        debug!(%peer, "no link: {error}");
    }
    Greeted::Done
}

async fn refuse(mut stream: TcpStream, peer: SocketAddr, refusal: &Refusal) -> Greeted {
    let answer = refusal.response();
    let mut answered = stream.write_all(answer.as_bytes()).await;
    if answered.is_ok() {
        answered = stream.shutdown().await;
    }
    match answered {
        Ok(()) => Greeted::Refused(stream),
        Err(error) => {
            debug!(%peer, "not refused: {error}");
            Greeted::Done
        }
    }
}

/// Reads on after a refusal: unread bytes would reset the connection, and the answer might be
/// lost with it.
async fn linger(mut stream: TcpStream) {
    let mut nowhere = tokio::io::sink();
    // Whether it went or goes on talking: the answer was given.
    let _ = timeout(LINGER, tokio::io::copy(&mut stream, &mut nowhere)).await;
}
