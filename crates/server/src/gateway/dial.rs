//! Opening a WebSocket at an upstream.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::http::{HeaderName, HeaderValue, Request, Response, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream, lookup_host},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, error::ProtocolError, handshake::client::generate_request, protocol::WebSocketConfig,
    },
};

use super::{
    Refused, Target,
    tls::Tls,
    upstream::{Place, Pool, Seat, Upstream},
};
use crate::logs::rarely;

/// What is read of an upstream at once, and kept for it.
const READ: usize = 4 << 10;
/// What is collected before it is written to an upstream, if more follows.
const WRITE: usize = 16 << 10;
/// How long a connection may be silent before the system looks whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A WebSocket at an upstream.
pub(super) type Ws = WebSocketStream<Stream>;

/// What an upstream is asked for.
pub(super) struct Wanted {
    pub(super) target: Target,
    /// The length of the prefix, without its last slash.
    pub(super) prefix: usize,
    pub(super) headers: Vec<(HeaderName, Vec<u8>)>,
    /// The value of `Sec-WebSocket-Protocol`; empty for none.
    pub(super) protocols: String,
    /// The bytes that a message may have.
    pub(super) longest: usize,
}

/// A WebSocket that an upstream has opened.
pub(super) struct Dialled<T> {
    pub(super) stream: T,
    pub(super) protocol: Option<String>,
    pub(super) seat: Seat,
}

/// A WebSocket that can be opened on a stream.
pub(super) trait Upgraded: Sized {
    /// Has an upstream open a WebSocket.
    fn open(
        stream: Stream,
        seat: Seat,
        wanted: &Wanted,
    ) -> impl Future<Output = Result<Dialled<Self>, Refused>> + Send;
}

/// A stream to an upstream.
pub(super) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
    #[cfg(feature = "wss")]
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Connects to an upstream.
///
/// # Errors
/// When it takes no connection.
pub(super) async fn connect(
    upstream: &Upstream,
    pool: &Pool,
    tls: Option<&Tls>,
) -> io::Result<Stream> {
    match (&upstream.place, tls) {
        #[cfg(unix)]
        (Place::Unix(path), _) => tokio::net::UnixStream::connect(path).await.map(Stream::Unix),
        #[cfg(not(unix))]
        (Place::Unix(_), _) => Err(io::ErrorKind::Unsupported.into()),
        (Place::Tcp { host, port, is_tls: true }, Some(tls)) => {
            tls.connect(host, tcp(host, *port, pool).await?).await
        }
        (Place::Tcp { host, port, is_tls: _ }, _) => tcp(host, *port, pool).await.map(Stream::Tcp),
    }
}

/// Looks whether an upstream takes connections.
///
/// # Errors
/// When it does not.
pub(super) async fn reach(upstream: &Upstream, pool: &Pool) -> io::Result<()> {
    connect(upstream, pool, None).await.map(drop)
}

impl Upgraded for Ws {
    async fn open(stream: Stream, seat: Seat, wanted: &Wanted) -> Result<Dialled<Self>, Refused> {
        let (request, config) = (request(&seat.0, wanted)?, wanted.config());
        match client_async_with_config(request, stream, Some(config)).await {
            Ok((stream, response)) => Ok(Dialled::new(stream, &response, seat)),
            Err(error) => Err(refused(&seat, error)),
        }
    }
}

impl<T> Dialled<T> {
    /// Returns a WebSocket that an upstream has opened by this response.
    pub(super) fn new<B>(stream: T, response: &Response<B>, seat: Seat) -> Self {
        let protocol = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
        let protocol = protocol.and_then(|it| it.to_str().ok()).map(str::to_owned);
        Self { stream, protocol, seat }
    }
}

impl Wanted {
    /// Returns the limits and buffers of the WebSocket.
    pub(super) fn config(&self) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(WRITE)
            // More than a tab may have on its way. Pongs beyond it take the place of each other.
            .max_write_buffer_size(WRITE + 2 * self.longest + (1 << 20))
            .max_message_size(Some(self.longest))
            .max_frame_size(Some(self.longest))
    }
}

/// Returns why an upstream opened no WebSocket.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library adds errors")]
pub(super) fn refused(seat: &Seat, error: Error) -> Refused {
    match error {
        Error::Http(response) => Refused::Status(response.status().as_u16()),
        Error::Io(error) => {
            let authority = seat.0.authority();
            rarely!(warn, "the upstream {authority} ended a connection unasked: {error}");
            Refused::Garbage("it ended the connection".to_owned())
        }
        error => Refused::Garbage(why(&error)),
    }
}

/// Returns the head of the request by which a tab's socket would be opened, for tests of what an
/// upstream is sent; `None` if it would be refused.
#[doc(hidden)]
pub fn request_head(base: Option<&str>, target: &str, protocols: &[&str]) -> Option<Vec<u8>> {
    let target = Target::parse(target).ok()?;
    if !protocols.iter().all(|protocol| is_token(protocol)) {
        return None;
    }
    let upstream = Upstream::parse(&format!("ws://upstream{}", base.unwrap_or(""))).ok()?;
    let (protocols, headers) = (protocols.join(", "), Vec::new());
    let wanted = Wanted { target, prefix: 0, headers, protocols, longest: 0 };
    let request = request(&upstream, &wanted).ok()?;
    Some(generate_request(request).ok()?.0)
}

/// Whether a text is a token of RFC 9110.
pub(super) fn is_token(text: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_good)
}

/// Returns what an upstream did wrong in its handshake.
fn why(error: &Error) -> String {
    let Error::Protocol(fault) = error else { return error.to_string() };
    if matches!(fault, ProtocolError::SecWebSocketSubProtocolError(_)) {
        "it chose none of the sub-protocols".to_owned()
    } else if matches!(fault, ProtocolError::HandshakeIncomplete) {
        "it ended the connection".to_owned()
    } else {
        error.to_string()
    }
}

/// Returns the request that opens a WebSocket.
pub(super) fn request(upstream: &Upstream, wanted: &Wanted) -> Result<Request<()>, Refused> {
    let garbage = |what: &str| Refused::Garbage(what.to_owned());
    let authority = upstream.authority();
    let path = match &upstream.base {
        Some(base) => wanted.target.behind(base, wanted.prefix),
        None => wanted.target.behind("", 0),
    };
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|_| garbage("the system has no random bytes"))?;
    let mut request = Request::get(format!("ws://{authority}{path}"))
        .header(header::HOST, &authority)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, STANDARD.encode(key));
    if !wanted.protocols.is_empty() {
        request = request.header(header::SEC_WEBSOCKET_PROTOCOL, &wanted.protocols);
    }
    let mut request = request.body(()).map_err(|_| garbage("the request has no meaning"))?;
    for (name, value) in &wanted.headers {
        // A value that no header can have was in none.
        if let Ok(value) = HeaderValue::from_bytes(value) {
            request.headers_mut().append(name, value);
        }
    }
    Ok(request)
}

async fn tcp(host: &str, port: u16, pool: &Pool) -> io::Result<TcpStream> {
    let host = host.trim_matches(['[', ']']);
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in lookup_host((host, port)).await? {
        match tcp_to(address, pool).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn tcp_to(address: SocketAddr, pool: &Pool) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(source) = pool.source(address) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// Calls a method of the stream that there is.
macro_rules! each {
    ($this:expr, $stream:ident => $call:expr) => {
        match $this.get_mut() {
            Self::Tcp($stream) => $call,
            #[cfg(unix)]
            Self::Unix($stream) => $call,
            #[cfg(feature = "wss")]
            Self::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}
