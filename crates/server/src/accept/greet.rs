//! The first words of a connection: what it is for, and the answer to a request for a link.

use std::{
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
    time::{Instant, timeout},
};
use tracing::debug;

use crate::{
    admission::{Cause, Ticket},
    app::{App, Case, Opening, Step, Way},
    hosts::Door,
    incoming::{Fresh, Incoming},
    logs::rarely,
    proxy_header,
    ws::upgrade::{self, MAX_HEAD, Offer, Refusal},
};

/// How the first request of a link begins; then comes a space or a query.
const LINK: &[u8] = b"GET /tabmux/ws";
/// How long the reader of a refusal has to take it.
const LINGER: Duration = Duration::from_secs(1);

/// Who calls, and where.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    /// The number of the listener.
    pub(super) ear: usize,
    /// Who is at the other end, or who a trusted proxy there says that it speaks for.
    pub(super) peer: SocketAddr,
    pub(super) door: Door,
    /// The stream does not tell who the peer is.
    pub(super) is_hidden: bool,
    /// The connection speaks TLS of this server.
    pub(super) is_encrypted: bool,
    /// When the connection was accepted.
    pub(crate) began: Instant,
}

/// What comes before a request.
#[derive(Clone, Copy)]
pub(super) struct Before {
    /// A header of the PROXY protocol.
    pub(super) has_header: bool,
    /// The handshake of TLS.
    pub(super) speaks_tls: bool,
}

impl Caller {
    /// Returns the way by which its request came.
    const fn way(&self) -> Way {
        let Self { peer, is_hidden, is_encrypted, .. } = *self;
        Way { peer: Some(peer.ip()), is_hidden, is_encrypted }
    }
}

/// A connection, and what is known of it so far.
pub(super) struct Begun {
    pub(super) stream: Fresh,
    pub(super) bytes: Vec<u8>,
    pub(super) first: First,
}

/// What a connection turned out to be for.
pub(super) enum Greeted {
    /// For axum, with what was read.
    Http(Incoming, Caller, Vec<u8>),
    /// It was refused, and has yet to read that.
    Refused(Incoming),
    /// A link, or nothing.
    Done,
}

/// What the beginning of a connection is.
pub(crate) enum First {
    /// The stream belongs to axum.
    Other,
    /// Too little has come to tell.
    Unknown,
    /// A request for a link.
    Link(Link),
    Refused(Refusal),
}

/// A request for a link.
pub(crate) struct Link {
    pub(super) response: String,
    pub(super) inflates: bool,
    pub(super) step: Step,
    /// The length of its head.
    pub(super) len: usize,
}

/// Reads the beginning of a connection and answers what it asks for, unless that is axum's.
pub(super) async fn greet(
    begun: Begun,
    mut caller: Caller,
    before: Before,
    app: Arc<App>,
    is_judged: Arc<AtomicBool>,
) -> Greeted {
    let Begun { stream, mut bytes, first } = begun;
    let mut stream = match stream.watched() {
        Ok(stream) => stream,
        Err(error) => {
            rarely!(error, "a connection cannot be watched: {error}");
            return Greeted::Done;
        }
    };
    let (patience, peer) = (Duration::from_millis(app.config.handshake_timeout_ms), caller.peer);
    let first = timeout(patience, async {
        if before.has_header {
            caller = read_header(&mut stream, caller, &app).await?;
        }
        if before.speaks_tls {
            stream = shake_hands(stream, caller.peer, &app).await?;
        }
        let first = match first {
            First::Unknown => read_first(&mut stream, &mut bytes, caller, &app).await?,
            first @ (First::Other | First::Link(_) | First::Refused(_)) => first,
        };
        Ok::<_, io::Error>((stream, caller, first))
    });
    let (mut stream, caller, first) = match first.await {
        Ok(Ok(begun)) => begun,
        // It went.
        Ok(Err(_)) => return Greeted::Done,
        Err(_) => {
            app.admission.count(Cause::Silent, Some(peer.ip()));
            return Greeted::Done;
        }
    };
    let Link { response, inflates, step, len } = match first {
        First::Other => return Greeted::Http(stream, caller, bytes),
        First::Link(link) => link,
        First::Refused(refusal) => return refuse(stream, caller.peer, &refusal).await,
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
            open(&app, stream, caller, &response, Opening { early, ticket, inflates }).await
        }
        Err(refusal) => refuse(stream, caller.peer, &refusal).await,
    }
}

/// Has the application judge a case. Returns nothing if the client leaves meanwhile, which
/// withdraws the question.
async fn decide(
    app: &App,
    case: Box<Case>,
    stream: &mut Incoming,
    early: &mut Vec<u8>,
) -> Option<Result<Ticket, Refusal>> {
    tokio::select! {
        decided = app.decide(case) => Some(decided),
        () = left(stream, early) => None,
    }
}

/// Waits until a client leaves. A client that says much before it is let in is not watched any
/// more.
async fn left(stream: &mut Incoming, early: &mut Vec<u8>) {
    while early.len() < MAX_HEAD {
        let room = MAX_HEAD - early.len();
        match (&mut *stream).take(room as u64).read_buf(early).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    std::future::pending().await
}

/// Does the handshake of TLS, outside of the shards.
#[cfg(feature = "tls")]
async fn shake_hands(stream: Incoming, peer: SocketAddr, app: &App) -> io::Result<Incoming> {
    let Incoming::Tcp(stream) = stream else {
        return Err(ErrorKind::Unsupported.into());
    };
    let Some(config) = app.control.desk.settings().tls.clone() else {
        // A reload took the certificates away.
        return Err(ErrorKind::Unsupported.into());
    };
    match tokio_rustls::TlsAcceptor::from(config).accept(stream).await {
        Ok(stream) => Ok(Incoming::Tls(Box::new(stream))),
        Err(error) => {
            app.admission.count(Cause::Tls, Some(peer.ip()));
            debug!(%peer, "no TLS: {error}");
            Err(error)
        }
    }
}

#[cfg(not(feature = "tls"))]
async fn shake_hands(_: Incoming, _: SocketAddr, _: &App) -> io::Result<Incoming> {
    std::future::ready(Err(ErrorKind::Unsupported.into())).await
}

/// Learns from a trusted proxy who the client is.
async fn read_header(stream: &mut Incoming, caller: Caller, app: &App) -> io::Result<Caller> {
    let peer = caller.peer.ip();
    if !app.control.desk.settings().proxies.trusts(peer.to_canonical()) {
        app.admission.count(Cause::Malformed, Some(peer));
        rarely!(
            warn,
            %peer,
            "a connection to a listener with proxy_protocol is closed: its proxy is not in \
             trusted_proxies"
        );
        return Err(ErrorKind::PermissionDenied.into());
    }
    match proxy_header::read(stream).await {
        Ok(Some(client)) => Ok(Caller { peer: client, is_hidden: true, ..caller }),
        Ok(None) => Ok(caller),
        Err(error) => {
            if error.kind() == ErrorKind::InvalidData {
                app.admission.count(Cause::Malformed, Some(peer));
                rarely!(warn, %peer, "a connection is closed: {error}");
            }
            Err(error)
        }
    }
}

async fn read_first(
    stream: &mut Incoming,
    bytes: &mut Vec<u8>,
    caller: Caller,
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
        match look(bytes, seen, caller, app) {
            First::Unknown => {}
            first @ (First::Other | First::Link(_) | First::Refused(_)) => return Ok(first),
        }
    }
}

/// What a connection begins with, of which `seen` bytes were looked at before.
pub(super) fn look(bytes: &[u8], seen: usize, caller: Caller, app: &App) -> First {
    let known = bytes.len().min(LINK.len());
    if bytes[..known] != LINK[..known] {
        return First::Other;
    }
    match bytes.get(LINK.len()) {
        None => return First::Unknown,
        Some(b' ' | b'?') => {}
        Some(_) => return First::Other,
    }
    let client = Some(caller.peer.ip());
    match upgrade::parse(bytes, seen) {
        None => First::Unknown,
        Some(Err(refusal)) => {
            app.admission.count(Cause::Malformed, client);
            First::Refused(refusal)
        }
        Some(Ok((mut offer, len))) => {
            offer.deflate = offer.deflate.only_if(app.config.deflate.enabled);
            let named = app.check_host(Some(offer.host), caller.door, client);
            let step = named.and_then(|()| app.approach(&offer, caller.way(), || parts(&offer)));
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
    mut stream: Incoming,
    caller: Caller,
    response: &str,
    opening: Opening,
) -> Greeted {
    let mut written = stream.write_all(response.as_bytes()).await;
    if written.is_ok() {
        written = stream.flush().await;
    }
    match written.and_then(|()| app.place(stream, opening)) {
        Ok(()) => app.admission.opening.observe(caller.began.elapsed()),
        Err(error) => debug!(peer = %caller.peer, "no link: {error}"),
    }
    Greeted::Done
}

/// Answers with a refusal.
pub(super) async fn refuse(mut stream: Incoming, peer: SocketAddr, refusal: &Refusal) -> Greeted {
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
pub(super) async fn linger(mut stream: Incoming) {
    let mut nowhere = tokio::io::sink();
    // Whether it went or goes on talking: the answer was given.
    let _ = timeout(LINGER, tokio::io::copy(&mut stream, &mut nowhere)).await;
}
