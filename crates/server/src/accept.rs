//! The listener: requests for a link are answered here and go to a shard; every other connection
//! goes to axum, which does not see that its first bytes were read before.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::http::{self, request::Parts};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tracing::debug;

use crate::{
    admission::{Cause, Ticket},
    app::{App, Case, Opening, Step},
    hosts::Door,
    judge::Room,
    logs::rarely,
    places::Places,
    pulse::Pulse,
    replay::Replay,
    web::Web,
    ws::upgrade::{self, MAX_HEAD, Offer, Refusal},
};

/// How the first request of a link begins; then comes a space or a query.
const LINK: &[u8] = b"GET /tabmux/ws";
/// Who asks for these is let in even when there are too many connections for HTTP.
const VITAL: [&[u8]; 5] = [
    b"GET /healthz ",
    b"GET /livez ",
    b"GET /tabmux/healthz ",
    b"GET /tabmux/livez ",
    b"GET /metrics ",
];
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
    /// A request for a link.
    Link(Link),
    Refused(Refusal),
}

/// A request for a link.
struct Link {
    response: String,
    inflates: bool,
    step: Step,
    /// The length of its head.
    len: usize,
}

/// A connection that has not yet said what it wants, or whose request is being judged.
struct Greeting {
    began: Instant,
    task: AbortHandle,
    /// Set while its request is being judged: then it has said what it wants, and is never given up
    /// for being the oldest.
    is_judged: Arc<AtomicBool>,
}

/// The connections of a listener that are not yet, or will not be, a shard's.
struct Front {
    app: Arc<App>,
    door: Door,
    web: Web,
    greetings: JoinSet<Greeted>,
    /// Greetings, the oldest first. Some may be over.
    order: VecDeque<Greeting>,
    /// Those that were refused.
    refused: JoinSet<()>,
    http: Places,
}

/// Accepts connections until `stop` is done; then gives HTTP `grace` to end.
pub(crate) async fn run(
    listener: TcpListener,
    (app, door): (Arc<App>, Door),
    web: Web,
    stop: impl Future<Output = ()>,
    grace: Duration,
) {
    let mut front = Front {
        app,
        door,
        web,
        greetings: JoinSet::new(),
        order: VecDeque::new(),
        refused: JoinSet::new(),
        http: Places::default(),
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
            true = front.http.one_ended() => {}
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
        if self.silent() < self.app.admission.quota().handshakes {
            return None;
        }
        while self.order.pop_front_if(|greeting| greeting.is_past()).is_some() {}
        self.order.front().map(|greeting| greeting.began + CHANCE)
    }

    /// Returns how many have not yet said what they want.
    fn silent(&self) -> usize {
        let judged = self.app.room().map_or(0, Room::open);
        self.greetings.len().saturating_sub(judged)
    }

    /// Learns what a new connection is for. If too many keep that to themselves, the oldest goes.
    fn greet(&mut self, stream: TcpStream, peer: SocketAddr) {
        if self.not_before().is_some()
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.task.abort();
            self.app.admission.count(Cause::Handshakes, None);
        }
        if self.order.len() >= REMEMBERED.max(2 * self.greetings.len()) {
            self.order.retain(|greeting| !greeting.is_past());
        }
        let (app, is_judged) = (Arc::clone(&self.app), Arc::new(AtomicBool::new(false)));
        let gate = (app, self.door);
        let task = self.greetings.spawn(greet(stream, peer, gate, Arc::clone(&is_judged)));
        self.order.push_back(Greeting { began: Instant::now(), task, is_judged });
    }

    fn serve(&mut self, stream: TcpStream, peer: SocketAddr, bytes: Vec<u8>) {
        let admission = &self.app.admission;
        let vital = VITAL.iter().any(|vital| bytes.starts_with(vital));
        let reserve = if vital { VITAL_RESERVE } else { 0 };
        let client = self.app.http_client(peer.ip());
        let cause = match self.http.make_room(client, &admission.quota(), reserve) {
            Ok(gone) => {
                (0..gone).for_each(|_| admission.count(Cause::Http, None));
                let pulse = Arc::new(Pulse::new());
                let stream = Replay::new(bytes, stream);
                let serves = self.web.serve(stream, peer, Arc::clone(&pulse));
                self.http.put(client, pulse, serves);
                return;
            }
            Err(cause) => cause,
        };
        let refusal = admission.refuse(cause, Some(peer.ip()));
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
        admission.handshakes.store(self.silent(), Ordering::Relaxed);
        admission.http.store(self.http.len(), Ordering::Relaxed);
    }
}

impl Greeting {
    /// Returns true if it cannot be given up any more.
    fn is_past(&self) -> bool {
        self.task.is_finished() || self.is_judged.load(Ordering::Relaxed)
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
async fn greet(
    mut stream: TcpStream,
    peer: SocketAddr,
    (app, door): (Arc<App>, Door),
    is_judged: Arc<AtomicBool>,
) -> Greeted {
    if let Err(error) = stream.set_nodelay(true) {
        debug!("cannot set TCP_NODELAY: {error}");
    }
    let mut bytes = Vec::new();
    let patience = Duration::from_millis(app.config.handshake_timeout_ms);
    let first =
        match timeout(patience, read_first(&mut stream, &mut bytes, peer, (&app, door))).await {
            Ok(Ok(first)) => first,
            // It went.
            Ok(Err(_)) => return Greeted::Done,
            Err(_) => {
                app.admission.count(Cause::Silent, Some(peer.ip()));
                return Greeted::Done;
            }
        };
    let Link { response, inflates, step, len } = match first {
        First::Other => return Greeted::Http(stream, peer, bytes),
        First::Link(link) => link,
        First::Refused(refusal) => return refuse(stream, peer, &refusal).await,
        First::Unknown => return Greeted::Done,
    };
    let mut early = bytes.split_off(len);
    drop(bytes);
    let admitted = match step {
        Step::Admitted(ticket) => Ok(ticket),
        Step::Judge(case) => {
            is_judged.store(true, Ordering::Relaxed);
            match decide(&app, case, &mut stream, &mut early).await {
                Some(decided) => decided,
                None => return Greeted::Done,
            }
        }
    };
    match admitted {
        Ok(ticket) => {
            open(&app, stream, peer, &response, Opening { early, ticket, inflates }).await
        }
        Err(refusal) => refuse(stream, peer, &refusal).await,
    }
}

/// Has the application judge a case. Returns nothing if the client leaves meanwhile, which
/// withdraws the question.
async fn decide(
    app: &App,
    case: Box<Case>,
    stream: &mut TcpStream,
    early: &mut Vec<u8>,
) -> Option<Result<Ticket, Refusal>> {
    tokio::select! {
        decided = app.decide(case) => Some(decided),
        () = left(stream, early) => None,
    }
}

/// Waits until a client leaves. A client that says much before it is let in is not watched any
/// more.
async fn left(stream: &mut TcpStream, early: &mut Vec<u8>) {
    while early.len() < MAX_HEAD {
        let room = MAX_HEAD - early.len();
        match (&mut *stream).take(room as u64).read_buf(early).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    std::future::pending().await
}

async fn read_first(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    peer: SocketAddr,
    gate: (&App, Door),
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
        match look(bytes, seen, peer, gate) {
            First::Unknown => {}
            first => return Ok(first),
        }
    }
}

/// What a connection begins with, of which `seen` bytes were looked at before.
fn look(bytes: &[u8], seen: usize, peer: SocketAddr, (app, door): (&App, Door)) -> First {
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
        Some(Err(refusal)) => {
            app.admission.count(Cause::Malformed, Some(peer.ip()));
            First::Refused(refusal)
        }
        Some(Ok((mut offer, len))) => {
            offer.deflate = offer.deflate.only_if(app.config.deflate.enabled);
            let named = app.check_host(Some(offer.host), door, Some(peer.ip()));
            let step =
                named.and_then(|()| app.approach(&offer, Some(peer.ip()), false, || parts(&offer)));
            match step {
                Ok(step) => {
                    let (response, inflates) = (offer.response(), offer.deflate.is_on());
                    First::Link(Link { response, inflates, step, len })
                }
                Err(refusal) => First::Refused(refusal),
            }
        }
    }
}

/// Makes the request that the application sees.
fn parts(offer: &Offer<'_>) -> Parts {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.uri = offer.target.parse().unwrap_or_default();
    for (name, value) in &offer.headers {
        // httparse lets no other headers pass than these types hold.
        if let Ok(name) = name.parse::<http::HeaderName>()
            && let Ok(value) = http::HeaderValue::from_bytes(value)
        {
            parts.headers.append(name, value);
        }
    }
    parts
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
