//! Servers behind a gateway, and a tab in front of it.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tabmux_core::wire::{Alias, Rejected, ServerFrame};
use tabmux_server::{Builder, Cookies, Route, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use crate::support::{Hub, Running, frame, soon};

pub(super) const TAB: Alias = Alias(1);

/// A server of an application that knows nothing of tabmux.
pub(super) struct Backend {
    listener: TcpListener,
    pub(super) address: SocketAddr,
}

/// One WebSocket at a backend.
pub(super) struct Conn {
    pub(super) request: Request,
    pub(super) ws: WebSocketStream<TcpStream>,
}

impl Backend {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    pub(super) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// A server with a route from `/chat/` to this one.
    pub(super) async fn behind(&self) -> Running {
        self.behind_route(|route| route).await
    }

    /// The same with a setting of the route.
    pub(super) async fn behind_route(&self, change: impl FnOnce(Route) -> Route) -> Running {
        self.behind_server(|builder| builder, change).await
    }

    pub(super) async fn behind_server(
        &self,
        build: impl FnOnce(Builder) -> Builder,
        change: impl FnOnce(Route) -> Route,
    ) -> Running {
        let route = change(route("/chat/", self.url()));
        Running::start(build(Server::builder()).route(route)).await
    }

    /// The stream of the next connection.
    pub(super) async fn stream(&self) -> TcpStream {
        soon("a connection", self.listener.accept()).await.unwrap().0
    }

    /// Opens the WebSocket of the next connection, with the first sub-protocol that is offered.
    pub(super) async fn conn(&self) -> Conn {
        Conn::accept(self.stream().await).await
    }

    /// Answers the next connection with bytes, and returns it with the head of its request.
    pub(super) async fn answer(&self, bytes: &[u8]) -> (TcpStream, String) {
        let mut stream = self.stream().await;
        let head = read_head(&mut stream).await;
        stream.write_all(bytes).await.unwrap();
        (stream, head)
    }
}

/// A route whose upstreams get the headers of the link, so that no ticket is shown.
pub(super) fn route(prefix: &str, upstream: impl Into<String>) -> Route {
    Route::new(prefix, upstream).cookies(Cookies::Link)
}

/// Reads the head of a request.
pub(super) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("a request", stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

impl Conn {
    pub(super) async fn accept(stream: TcpStream) -> Self {
        let mut seen = None;
        #[expect(clippy::result_large_err, reason = "the type is the library's")]
        let look = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            let offered = request.headers().get("sec-websocket-protocol");
            let first = offered.map(|it| it.to_str().unwrap().split(',').next().unwrap().trim());
            if let Some(first) = first {
                let header = ("sec-websocket-protocol", first.parse().unwrap());
                response.headers_mut().insert(header.0, header.1);
            }
            seen = Some(request.clone());
            Ok(response)
        };
        let config = WebSocketConfig::default().write_buffer_size(0);
        let accept = accept_hdr_async_with_config(stream, look, Some(config));
        let ws = soon("the upstream's handshake", accept).await.unwrap();
        Self { request: seen.unwrap(), ws }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.request.headers().get(name).map(|value| value.to_str().unwrap())
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.ws.send(Message::text(text)).await.unwrap();
    }

    /// The next text.
    pub(super) async fn text(&mut self) -> String {
        match soon("a message at the upstream", self.ws.next()).await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            other => panic!("no text: {other:?}"),
        }
    }

    /// Code and reason of the close frame that comes next; 1005 for one without a code.
    pub(super) async fn closed(&mut self) -> (u16, String) {
        match soon("a close at the upstream", self.ws.next()).await {
            Some(Ok(Message::Close(frame))) => {
                // Lets the answer out; the gateway may be gone already.
                let _ = self.ws.flush().await;
                frame.map_or((1005, String::new()), |it| (it.code.into(), it.reason.to_string()))
            }
            other => panic!("no close: {other:?}"),
        }
    }

    pub(super) async fn close(&mut self, frame: Option<CloseFrame>) {
        self.ws.close(frame).await.unwrap();
    }
}

/// A hub with one tab.
pub(super) async fn tab(server: &Running) -> Hub {
    tab_with(server, &[]).await
}

/// A hub with one tab, whose link has these headers.
pub(super) async fn tab_with(server: &Running, headers: &[(&'static str, &str)]) -> Hub {
    let mut hub = Hub::dial_with(server.address, headers).await.unwrap();
    hub.say(&crate::support::hello()).await;
    assert!(matches!(frame(&hub.next().await), ServerFrame::Welcome(_)));
    assert_eq!(hub.attach(1).await, TAB);
    hub
}

/// A tab with socket 1 open at the backend.
pub(super) async fn connected(server: &Running, backend: &Backend) -> (Hub, Conn) {
    let mut hub = tab(server).await;
    hub.ask(TAB, 1, "/chat/room", &[]).await;
    let conn = backend.conn().await;
    opened(&mut hub).await;
    (hub, conn)
}

/// The socket opens next, with this sub-protocol.
pub(super) async fn opened(hub: &mut Hub) -> String {
    match frame(&hub.next().await) {
        ServerFrame::Opened { protocol, .. } => protocol.to_owned(),
        other => panic!("not opened: {other:?}"),
    }
}

/// The text with which the next socket is refused.
pub(super) async fn rejected(hub: &mut Hub) -> String {
    match frame(&hub.next().await) {
        ServerFrame::Rejected(Rejected { message, .. }) => message.to_owned(),
        other => panic!("not refused: {other:?}"),
    }
}

/// The text of the `error` that comes next.
pub(super) async fn failed(hub: &mut Hub) -> String {
    match frame(&hub.next().await) {
        ServerFrame::Error { socket: Some(_), message, .. } => message.to_owned(),
        other => panic!("no error: {other:?}"),
    }
}

/// Code and reason with which the socket closes next.
pub(super) async fn closed(hub: &mut Hub) -> (u16, String) {
    match frame(&hub.next().await) {
        ServerFrame::Close { code, reason, .. } => (code, reason.to_owned()),
        other => panic!("not closed: {other:?}"),
    }
}
