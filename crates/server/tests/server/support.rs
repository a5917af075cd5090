//! A running server, a hub at the other end of a link, and a plain HTTP client.

// The handlers of the demo are the ones that most tests talk to.
#[path = "../../../cli/src/demo/mod.rs"]
#[expect(unreachable_pub, reason = "it is a public module of another crate")]
pub(crate) mod demo;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tabmux_core::wire::{
    Alias, Hello, HubFrame, HubId, LaneCount, NEWEST_VERSION, OLDEST_VERSION, Payload, Position,
    Resume, ServerFrame, SocketId, TabId, TopicId, Upstream, Welcome,
};
use tabmux_server::{Builder, Error, Listeners, Server, ServerHandle, Stats};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite};
use tungstenite::{Error as WsError, Message, client::IntoClientRequest};

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(20);

/// Fails the test when `future` takes too long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) handle: ServerHandle,
    stop: Option<oneshot::Sender<()>>,
    run: JoinHandle<Result<(), Error>>,
}

impl Running {
    pub(crate) async fn start(builder: Builder) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self::start_on(builder, listener.into(), address)
    }

    /// A server on these listeners, of which one has this address.
    pub(crate) fn start_on(builder: Builder, listeners: Listeners, address: SocketAddr) -> Self {
        let server = builder.build().unwrap();
        let handle = server.handle();
        let (stop, stopped) = oneshot::channel();
        let run = tokio::spawn(server.run(listeners, async { stopped.await.unwrap() }));
        Self { address, handle, stop: Some(stop), run }
    }

    /// A server with the demo's handlers, and with the number that the binary adds.
    pub(crate) async fn demo() -> Self {
        let help = "Lines of the log that were lost because stderr did not take them.";
        let builder = Server::builder().counter("tabmux_log_lines_lost_total", help, || 0);
        Self::start(demo::install(builder)).await
    }

    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn ended(self) -> Result<(), Error> {
        soon("run() to return", self.run).await.unwrap()
    }

    /// Waits until the numbers are as they must be. Looks again and again, since not every number
    /// that changes wakes who watches.
    pub(crate) async fn stats(&self, wanted: impl Fn(&Stats) -> bool) -> Stats {
        let looking = async {
            while !wanted(&self.handle.stats()) {
                tokio::task::yield_now().await;
            }
        };
        soon("the numbers", looking).await;
        self.handle.stats()
    }
}

/// The browser's end of a link.
pub(crate) struct Hub {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Reliable frames sent, by alias.
    sent: Vec<u64>,
    /// Frames received, by lane, and bytes of them that are not acknowledged.
    got: BTreeMap<u32, u64>,
    unsaid: usize,
    /// Credit that was given, by alias and socket.
    pub(crate) given: BTreeMap<(Alias, u32), u64>,
}

impl Hub {
    /// A link on which nothing was said.
    pub(crate) async fn dial(address: SocketAddr) -> Self {
        Self::dial_from(address, None).await.unwrap()
    }

    pub(crate) async fn dial_from(
        address: SocketAddr,
        origin: Option<&str>,
    ) -> Result<Self, WsError> {
        let headers = origin.map(|origin| ("origin", origin));
        Self::dial_with(address, headers.as_slice()).await
    }

    pub(crate) async fn dial_with(
        address: SocketAddr,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, WsError> {
        Self::dial_at(address, "", headers).await
    }

    /// A link whose request has this query.
    pub(crate) async fn dial_at(
        address: SocketAddr,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, WsError> {
        let url = format!("ws://{address}/tabmux/ws{query}");
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let (socket, _) = soon("the handshake", connect_async(request)).await?;
        Ok(Self {
            socket,
            sent: Vec::new(),
            got: BTreeMap::new(),
            unsaid: 0,
            given: BTreeMap::new(),
        })
    }

    /// Dials until a link opens.
    pub(crate) async fn dial_until_open(address: SocketAddr) -> Self {
        let dial = async {
            loop {
                if let Ok(hub) = Self::dial_from(address, None).await {
                    return hub;
                }
            }
        };
        soon("a free place", dial).await
    }

    /// The status that a handshake is refused with, and the seconds until it is worth trying
    /// again.
    pub(crate) async fn refused(
        address: SocketAddr,
        headers: &[(&'static str, &str)],
    ) -> (u16, Option<u32>) {
        match Self::dial_with(address, headers).await.err() {
            Some(WsError::Http(response)) => {
                let retry = response.headers().get("retry-after");
                let seconds = retry.map(|retry| retry.to_str().unwrap().parse().unwrap());
                (response.status().as_u16(), seconds)
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    /// A link that was welcomed.
    pub(crate) async fn welcomed(address: SocketAddr) -> Self {
        let mut hub = Self::dial(address).await;
        hub.say(&hello()).await;
        let bytes = hub.next().await;
        assert!(matches!(frame(&bytes), ServerFrame::Welcome(_)), "{bytes:?}");
        hub
    }

    /// Subscribes to a topic; its number and position.
    pub(crate) async fn subscribe(&mut self, request: u64, topic: &str) -> (TopicId, Position) {
        self.say(&HubFrame::Subscribe { request, position: None, topic }).await;
        match frame(&self.next().await) {
            ServerFrame::Subscribed(it) if it.request == request => (it.topic, it.position),
            other => panic!("not subscribed: {other:?}"),
        }
    }

    /// Attaches a tab.
    pub(crate) async fn attach(&mut self, tab: u64) -> Alias {
        self.say(&HubFrame::Attach { tab: TabId(tab), last: 0 }).await;
        match frame(&self.next().await) {
            ServerFrame::Attached { alias, .. } => alias,
            other => panic!("not attached: {other:?}"),
        }
    }

    /// A link with one tab that has one open socket, both number 1.
    pub(crate) async fn with_socket(address: SocketAddr, path: &str) -> Self {
        let mut hub = Self::welcomed(address).await;
        let tab = hub.attach(1).await;
        assert_eq!(hub.open(tab, 1, path, &[]).await, "");
        hub
    }

    /// Opens a socket; the sub-protocol chosen.
    pub(crate) async fn open(
        &mut self,
        tab: Alias,
        socket: u32,
        path: &str,
        protocols: &[&str],
    ) -> String {
        self.ask(tab, socket, path, protocols).await;
        match frame(&self.next().await) {
            ServerFrame::Opened { protocol, .. } => protocol.to_owned(),
            other => panic!("not opened: {other:?}"),
        }
    }

    /// Asks for a socket, with credit for ever.
    pub(crate) async fn ask(&mut self, tab: Alias, socket: u32, path: &str, protocols: &[&str]) {
        let (up, socket, protocols) = (self.up(tab), SocketId(socket), protocols.to_vec());
        self.say(&HubFrame::Open { up, socket, credit: u64::MAX, path, protocols, ticket: "" })
            .await;
    }

    /// Asks for a socket with this credit.
    pub(crate) async fn ask_with(&mut self, tab: Alias, socket: u32, path: &str, credit: u64) {
        let (up, socket, protocols) = (self.up(tab), SocketId(socket), Vec::new());
        self.say(&HubFrame::Open { up, socket, credit, path, protocols, ticket: "" }).await;
    }

    /// Opens a socket with this credit.
    pub(crate) async fn open_with(&mut self, tab: Alias, socket: u32, path: &str, credit: u64) {
        self.ask_with(tab, socket, path, credit).await;
        let bytes = self.next().await;
        assert!(matches!(frame(&bytes), ServerFrame::Opened { .. }), "{bytes:?}");
    }

    /// Gives a socket credit.
    pub(crate) async fn credit(&mut self, tab: Alias, socket: u32, bytes: u64) {
        let up = self.up(tab);
        self.say(&HubFrame::Credit { up, socket: SocketId(socket), bytes }).await;
    }

    /// Sends a message on a socket.
    pub(crate) async fn send(&mut self, tab: Alias, socket: u32, payload: Payload<'_>) {
        let up = self.up(tab);
        self.say(&HubFrame::Data { up, socket: SocketId(socket), payload }).await;
    }

    pub(crate) async fn close(&mut self, tab: Alias, socket: u32, code: u16, reason: &str) {
        let up = self.up(tab);
        self.say(&HubFrame::Close { up, socket: SocketId(socket), code, reason }).await;
    }

    pub(crate) async fn say(&mut self, frame: &HubFrame<'_>) {
        self.raw(Message::binary(frame.to_bytes())).await;
    }

    pub(crate) async fn raw(&mut self, message: Message) {
        soon("a message to be sent", self.socket.send(message)).await.unwrap();
    }

    /// The next frame's bytes. Those that say what came of the tabs are skipped, credit is added
    /// up, and what comes is acknowledged, as hubs do.
    pub(crate) async fn next(&mut self) -> Vec<u8> {
        loop {
            let bytes = match soon("a frame", self.socket.next()).await {
                Some(Ok(Message::Binary(bytes))) => bytes.to_vec(),
                other => panic!("no frame: {other:?}"),
            };
            self.count(&bytes).await;
            match ServerFrame::decode(&bytes) {
                Ok(ServerFrame::Ack { .. } | ServerFrame::Coming { .. }) => {}
                Ok(ServerFrame::Credit { tab, socket, bytes }) => {
                    *self.given.entry((tab, socket.0)).or_default() += bytes;
                }
                _ => return bytes,
            }
        }
    }

    async fn count(&mut self, bytes: &[u8]) {
        let Some(lane) = ServerFrame::decode(bytes).ok().and_then(|frame| frame.lane()) else {
            return;
        };
        *self.got.entry(lane).or_default() += 1;
        self.unsaid += bytes.len();
        if self.unsaid > 16 << 10 {
            self.unsaid = 0;
            let lanes = self.got.iter().map(|(&lane, &count)| LaneCount { lane, count }).collect();
            let ack = HubFrame::Ack { lanes, aside: Vec::new() };
            // The link may be closing.
            let _ = self.socket.send(Message::binary(ack.to_bytes())).await;
        }
    }

    /// The text of the next message of a socket.
    pub(crate) async fn text(&mut self, tab: Alias, socket: u32) -> String {
        match frame(&self.next().await) {
            ServerFrame::Data { tab: to, socket: on, payload: Payload::Text(text) }
                if (to, on.0) == (tab, socket) =>
            {
                text.to_owned()
            }
            other => panic!("no text of socket {socket} of tab {}: {other:?}", tab.0),
        }
    }

    /// Code and reason that the link closes with; frames before it are skipped.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match soon("the link to close", self.socket.next()).await {
                Some(Ok(Message::Close(Some(close)))) => {
                    // Lets the answer out; the server may be gone already.
                    let _ = soon("the answer", self.socket.flush()).await;
                    return (close.code.into(), close.reason.to_string());
                }
                Some(Ok(Message::Binary(_))) => {}
                other => panic!("no close: {other:?}"),
            }
        }
    }

    /// The link ends without a close.
    pub(crate) async fn broken(&mut self) {
        while let Some(Ok(message)) = soon("the link to break", self.socket.next()).await {
            assert!(!message.is_close(), "{message:?}");
        }
    }

    /// Leaves as a hub does whose tabs are gone: nothing is kept for it.
    pub(crate) async fn leave(mut self, tabs: &[u64]) {
        for tab in tabs {
            self.say(&HubFrame::Gone { tab: TabId(*tab) }).await;
        }
        // The last of what was on its way, and then the answer: all that was said is dealt with.
        self.say(&HubFrame::Ping { nonce: 0 }).await;
        while !matches!(frame(&self.next().await), ServerFrame::Pong { nonce: 0 }) {}
    }

    /// PING is answered: all that was said before has been dealt with, and nothing was sent.
    pub(crate) async fn quiet(&mut self) {
        self.say(&HubFrame::Ping { nonce: 4711 }).await;
        assert_eq!(frame(&self.next().await), ServerFrame::Pong { nonce: 4711 });
    }

    /// What a tab sent on earlier links of its session counts.
    pub(crate) fn skip_to(&mut self, tab: Alias, sent: u64) {
        let index = tab.0 as usize;
        self.sent.resize(self.sent.len().max(index + 1), 0);
        self.sent[index] = sent;
    }

    fn up(&mut self, tab: Alias) -> Upstream {
        let index = tab.0 as usize;
        self.sent.resize(self.sent.len().max(index + 1), 0);
        self.sent[index] += 1;
        Upstream { tab, n: self.sent[index] }
    }
}

pub(crate) fn hello() -> HubFrame<'static> {
    HubFrame::Hello(Hello {
        min_version: OLDEST_VERSION,
        max_version: NEWEST_VERSION,
        hub: HubId(9),
        resume: None,
        credentials: "",
    })
}

/// HELLO that claims the session of a WELCOME.
pub(crate) fn claim(welcome: &Welcome, hub: u64) -> HubFrame<'static> {
    let Welcome { session, token, term, .. } = *welcome;
    let resume = Some(Resume { session, token, term, have0: Some(0) });
    let (min_version, max_version, credentials) = (OLDEST_VERSION, NEWEST_VERSION, "");
    HubFrame::Hello(Hello { min_version, max_version, hub: HubId(hub), resume, credentials })
}

/// Says HELLO; the answer must be WELCOME.
pub(crate) async fn say_hello_on(mut hub: Hub, hello: &HubFrame<'_>) -> (Hub, Welcome) {
    hub.say(hello).await;
    match frame(&hub.next().await) {
        ServerFrame::Welcome(welcome) => (hub, welcome),
        other => panic!("not welcomed: {other:?}"),
    }
}

pub(crate) fn frame(bytes: &[u8]) -> ServerFrame<'_> {
    ServerFrame::decode(bytes).unwrap()
}

/// An HTTP response, its head as it came.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Requests a path with more headers, each ending in `\r\n`.
pub(crate) async fn get(address: SocketAddr, path: &str, headers: &str) -> Response {
    request(address, "GET", path, &own_host(address, headers), "").await
}

/// Posts a body.
pub(crate) async fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> Response {
    request(address, "POST", path, &own_host(address, headers), body).await
}

fn own_host(address: SocketAddr, headers: &str) -> String {
    format!("Host: {address}\r\n{headers}")
}

/// Sends a request whose headers are these, and no `Host` of its own.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Response {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let len = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\n\
             Content-Length: {len}\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    let text = soon("a response", exchange).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Response { status, head: head.to_owned(), body: body.to_owned() }
}

/// An empty folder of the test's own.
pub(crate) fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => std::fs::create_dir_all(&path).unwrap(),
    }
    path
}

/// A metric's value, 0 if it is not there.
pub(crate) async fn metric(address: SocketAddr, name: &str) -> f64 {
    let page = get(address, "/metrics", "").await.body;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}
