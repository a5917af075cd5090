//! What clients show of who they are is in no log, in no metric and in no numbers.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at few of many kinds")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fmt::{self, Write as _},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use tabmux_core::wire::{Alias, Hello, HubFrame, HubId, ServerFrame, SocketId, TabId, Upstream};
use tabmux_server::{
    Admitted, Builder, Ctx, Decision, Handshake, Message as Said, OpenRequest, Refusal, Server,
    SocketHandler, Target, Verdict,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// A part of each secret.
const SECRET: &str = "s3cret";

/// Keeps every line of the server, at every level.
struct Log(Arc<Mutex<String>>);

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tabmux")
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        attributes.record(&mut Line(&mut self.0.lock().unwrap()));
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Line(&mut self.0.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut lines = self.0.lock().unwrap();
        write!(lines, "{}:", event.metadata().target()).unwrap();
        event.record(&mut Line(&mut lines));
        lines.push('\n');
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Does with each request what its `x-do` says.
async fn judge(request: Handshake) -> Verdict {
    match (request.header("x-do"), request.credentials()) {
        (Some("need"), None) => Ok(Admitted::needs_credentials()),
        (Some("need"), Some(shown)) if shown.starts_with("ann") => Ok(Admitted::user("ann")),
        (Some("refuse"), _) => Err(Refusal::never("log in first")),
        (Some("panic"), _) => panic!("on request"),
        _ => Ok(Admitted::nobody().keep("authorization").keep("cookie")),
    }
}

struct Fails;

impl SocketHandler for Fails {
    fn open(&mut self, _: &mut Ctx<'_>, _: &OpenRequest<'_>) -> Decision {
        panic!("on request")
    }

    fn message(&mut self, _: &mut Ctx<'_>, _: Said<'_>) {}
}

async fn start(builder: Builder) -> (SocketAddr, tabmux_server::ServerHandle) {
    let server = builder.build().unwrap();
    let handle = server.handle();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server.run(listener, std::future::pending()));
    (address, handle)
}

/// Says HELLO with credentials on a link whose request is full of secrets, and then what else is
/// given. Returns how many messages came before the end.
async fn link(address: SocketAddr, path: &str, what: &str, shown: &str, more: &[HubFrame<'_>]) {
    let url = format!("ws://{address}{path}?token={SECRET}-query&identity={SECRET}-tag");
    let mut request = url.into_client_request().unwrap();
    let bearer = format!("Bearer {SECRET}-bearer");
    let cookie = format!("session={SECRET}-cookie");
    for (name, value) in [("x-do", what), ("authorization", &bearer), ("cookie", &cookie)] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let Ok((mut socket, _)) = connect_async(request).await else { return };
    let (min_version, max_version, hub) = (1, 2, HubId(7));
    let hello = Hello { min_version, max_version, hub, resume: None, credentials: shown };
    let frames = [HubFrame::Hello(hello)];
    for frame in frames.iter().chain(more) {
        if socket.send(Message::binary(frame.to_bytes())).await.is_err() {
            return;
        }
    }
    // The answer to the last word, or the end.
    while let Ok(Some(Ok(message))) = timeout(Duration::from_secs(20), socket.next()).await {
        let frame = match &message {
            Message::Binary(bytes) => ServerFrame::decode(bytes),
            _ => return,
        };
        if matches!(frame, Ok(ServerFrame::Pong { .. } | ServerFrame::Denied(_))) {
            return;
        }
    }
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Cookie: session={SECRET}-cookie\r\nAuthorization: Bearer {SECRET}-bearer\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn secrets_of_clients_are_in_no_log_and_in_no_metric() {
    let lines = Arc::<Mutex<String>>::default();
    tracing::subscriber::set_global_default(Log(Arc::clone(&lines))).unwrap();
    let (address, handle) = start(Server::builder().socket("/fails", || Fails).judge(judge)).await;
    let ping = HubFrame::Ping { nonce: 1 };
    let renewal = format!("ann {SECRET}-renewal");
    let other = format!("bob {SECRET}-renewal");
    let renewals = [
        HubFrame::Credentials { request: 1, credentials: &renewal },
        HubFrame::Credentials { request: 2, credentials: &other },
        ping.clone(),
    ];
    let shown = format!("ann {SECRET}-credentials");
    for what in ["need", "refuse", "panic", "let in"] {
        link(address, "/tabmux/ws", what, &shown, &renewals).await;
        link(address, "/tabmux/who", what, &shown, &[]).await;
    }
    // Sockets whose handlers panic, and that nobody serves.
    let [fails, nowhere] = ["/fails", "/nowhere"].map(|path| format!("{path}?token={SECRET}-path"));
    let open = |n, path| {
        let (up, socket) = (Upstream { tab: Alias(1), n }, SocketId(1));
        HubFrame::Open { up, socket, credit: 1, path, protocols: Vec::new(), ticket: "" }
    };
    let attach = HubFrame::Attach { tab: TabId(1), last: 0 };
    let opens = [attach, open(1, &fails), open(2, &nowhere), ping];
    link(address, "/tabmux/ws", "let in", &shown, &opens).await;
    for path in ["/nothing", "/tabmux/api/publish", "/tabmux/stats"] {
        get(address, &format!("{path}?token={SECRET}-query")).await;
    }
    handle.disconnect(Target::User("ann"), &Refusal::never("bye")).unwrap();
    let metrics = get(address, "/metrics").await + &get(address, "/tabmux/stats").await;
    assert!(metrics.contains("tabmux_credentials_total"), "{metrics}");
    assert!(!metrics.contains(SECRET), "{metrics}");
    let log = lines.lock().unwrap().clone();
    assert!(log.contains("/fails panicked"), "{log}");
    assert!(log.contains("hub welcomed") && log.contains("the judge said so"), "{log}");
    assert!(!log.contains(SECRET), "{log}");
}
