//! `cookies = "open"`: a browser shows its headers at the path of a socket before that opens.

use std::net::SocketAddr;

use futures_util::StreamExt;
use tabmux_core::wire::{Payload, ServerFrame};
use tabmux_server::{Admitted, Builder, Config, Cookies, Limits, Refusal, Route};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error as WsError, Message, client::IntoClientRequest},
};

use super::world::{Backend, Conn, TAB, opened, rejected, tab, tab_with};
use crate::support::{Hub, Running, claim, frame, hello, metric, say_hello_on, soon};

/// A server with a route from `/chat/`, before whose sockets tickets are shown.
async fn open(backend: &Backend, build: impl FnOnce(Builder) -> Builder) -> Running {
    backend.behind_server(build, |route: Route| route.cookies(Cookies::Open)).await
}

/// Takes the user from a cookie, and refuses one whose name is "banned".
fn judged(builder: Builder) -> Builder {
    builder.judge(async |request| match request.cookie("user") {
        Some("banned") => Err(Refusal::never("you are banned")),
        user => Ok(user.map_or(Admitted::nobody(), Admitted::user)),
    })
}

/// The ticket and the path that a hub is told next.
async fn told(hub: &mut Hub) -> (String, String) {
    match frame(&hub.next().await) {
        ServerFrame::Ticket { ticket, path } => (ticket.to_owned(), path.to_owned()),
        other => panic!("no ticket: {other:?}"),
    }
}

/// Shows a ticket. Returns the code of the close that answers it.
async fn show(
    address: SocketAddr,
    (ticket, path): &(String, String),
    headers: &[(&'static str, &str)],
) -> Result<u16, WsError> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    let protocols = format!("tabmux.ticket, {ticket}");
    for (name, value) in headers.iter().chain(&[("sec-websocket-protocol", &*protocols)]) {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let (mut socket, answer) = soon("the handshake", connect_async(request)).await?;
    assert_eq!(answer.headers()["sec-websocket-protocol"], "tabmux.ticket");
    match soon("an answer", socket.next()).await {
        Some(Ok(Message::Close(Some(close)))) => Ok(close.code.into()),
        other => panic!("no close: {other:?}"),
    }
}

async fn fate(server: &Running, fate: &str) -> f64 {
    metric(server.address, &format!("tabmux_tickets_total{{fate=\"{fate}\"}}")).await
}

#[tokio::test]
async fn an_upstream_gets_the_headers_that_a_native_socket_of_the_path_would_have() {
    let backend = Backend::start().await;
    let server = open(&backend, |it| it).await;
    let origin = format!("http://{}", server.address);
    let mut hub = tab_with(&server, &[("cookie", "session=old"), ("user-agent", "Link")]).await;
    hub.ask(TAB, 1, "/chat/room?x=1", &[]).await;
    let ticket = told(&mut hub).await;
    assert_eq!(ticket.1, "/chat/room?x=1");
    let headers = [("cookie", "session=new; scoped=1"), ("origin", &*origin), ("user-agent", "B")];
    assert_eq!(show(server.address, &ticket, &headers).await.unwrap(), 1000);
    let mut conn = backend.conn().await;
    opened(&mut hub).await;
    for (name, value) in headers {
        let all = conn.request.headers().get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all, [value], "{name}");
    }
    assert_eq!(conn.header("sec-websocket-protocol"), None);
    assert_eq!(conn.header("x-forwarded-for"), Some("127.0.0.1"));
    conn.send("hello").await;
    assert_eq!(hub.text(TAB, 1).await, "hello");
    hub.send(TAB, 1, Payload::Text("hi")).await;
    assert_eq!(conn.text().await, "hi");
    assert_eq!(fate(&server, "shown").await as u32, 1);
}

#[tokio::test]
async fn a_ticket_counts_once_and_at_its_own_path() {
    let backend = Backend::start().await;
    let server = open(&backend, |it| it).await;
    let mut hub = tab(&server).await;
    hub.ask(TAB, 1, "/chat/room", &[]).await;
    let ticket = told(&mut hub).await;
    for (name, path) in [(&*ticket.0, "/chat/other"), (&*ticket.0, "/"), ("nonsense", "/chat/room")]
    {
        let wrong = (name.to_owned(), path.to_owned());
        assert_eq!(show(server.address, &wrong, &[]).await.unwrap(), 1008, "{wrong:?}");
    }
    hub.quiet().await;
    assert_eq!(show(server.address, &ticket, &[]).await.unwrap(), 1000);
    let _conn = backend.conn().await;
    opened(&mut hub).await;
    assert_eq!(show(server.address, &ticket, &[]).await.unwrap(), 1008);
    assert_eq!(fate(&server, "unknown").await as u32, 4);
    assert_eq!(metric(server.address, "tabmux_tickets").await as u32, 0);
}

#[tokio::test]
async fn a_browser_that_is_of_another_user_by_now_gets_no_socket() {
    let backend = Backend::start().await;
    let server = open(&backend, judged).await;
    let mut hub = tab_with(&server, &[("cookie", "user=ann")]).await;
    for (socket, cookie) in (1..).zip(["user=bob", "other=1", "user=banned"]) {
        hub.ask(TAB, socket, "/chat/", &[]).await;
        let ticket = told(&mut hub).await;
        assert_eq!(show(server.address, &ticket, &[("cookie", cookie)]).await.unwrap(), 1000);
        let text = rejected(&mut hub).await;
        assert!(text.contains("of another user"), "{cookie}: {text}");
    }
    assert_eq!(fate(&server, "other_user").await as u32, 3);
    // The next connection is that of the next socket.
    hub.ask(TAB, 100, "/chat/good", &[]).await;
    let ticket = told(&mut hub).await;
    show(server.address, &ticket, &[("cookie", "user=ann")]).await.unwrap();
    assert_eq!(backend.conn().await.request.uri().to_string(), "/chat/good");
    opened(&mut hub).await;
}

#[tokio::test]
async fn a_page_of_another_origin_shows_no_ticket() {
    let backend = Backend::start().await;
    let server = open(&backend, |it| it).await;
    let mut hub = tab(&server).await;
    hub.ask(TAB, 1, "/chat/", &[]).await;
    let ticket = told(&mut hub).await;
    let origin = [("origin", "https://evil.example")];
    let error = show(server.address, &ticket, &origin).await.unwrap_err();
    assert!(matches!(&error, WsError::Http(answer) if answer.status() == 403), "{error}");
    // It still counts.
    assert_eq!(show(server.address, &ticket, &[]).await.unwrap(), 1000);
    let _conn = backend.conn().await;
    opened(&mut hub).await;
}

#[tokio::test]
async fn a_route_may_be_for_some_origins_of_tickets_alone() {
    let backend = Backend::start().await;
    let change = |route: Route| {
        route.cookies(Cookies::Open).allow_origins(vec!["https://a.example".to_owned()])
    };
    let server = backend.behind_server(|it| it.allow_origin("*"), change).await;
    let mut hub = tab(&server).await;
    hub.ask(TAB, 1, "/chat/", &[]).await;
    let ticket = told(&mut hub).await;
    let origin = [("origin", "https://b.example")];
    assert_eq!(show(server.address, &ticket, &origin).await.unwrap(), 1000);
    assert!(rejected(&mut hub).await.contains("origin"));
}

#[tokio::test]
async fn a_ticket_whose_frame_was_lost_with_its_link_comes_again_on_the_next() {
    let backend = Backend::start().await;
    let server = open(&backend, |it| it).await;
    let (mut hub, welcome) = say_hello_on(Hub::dial(server.address).await, &hello()).await;
    hub.attach(1).await;
    hub.ask(TAB, 1, "/chat/", &[]).await;
    let first = told(&mut hub).await;
    drop(hub);
    let next = Hub::dial(server.address).await;
    let (mut hub, _) = say_hello_on(next, &claim(&welcome, 9)).await;
    hub.attach(1).await;
    // It is told of every 3 s.
    assert_eq!(told(&mut hub).await, first);
    assert_eq!(show(server.address, &first, &[]).await.unwrap(), 1000);
    let _conn = backend.conn().await;
    opened(&mut hub).await;
}

#[tokio::test]
async fn a_browser_has_as_many_tickets_as_upstreams() {
    let backend = Backend::start().await;
    let config = Config::default().limits(Limits::default().upstream_per_browser(2));
    let server = open(&backend, |it| it.config(config)).await;
    let mut hub = tab(&server).await;
    let mut tickets = Vec::new();
    for socket in [1, 2] {
        hub.ask(TAB, socket, "/chat/", &[]).await;
        tickets.push(told(&mut hub).await);
    }
    hub.ask(TAB, 3, "/chat/", &[]).await;
    assert!(rejected(&mut hub).await.contains("the browser has 2 sockets"));
    assert_eq!(metric(server.address, "tabmux_tickets").await as u32, 2);
    assert_eq!(fate(&server, "made").await as u32, 2);
    // A socket whose tab leaves has none any more.
    hub.close(TAB, 1, 1000, "").await;
    let gone = async { while show(server.address, &tickets[0], &[]).await.unwrap() != 1008 {} };
    soon("the end of the ticket", gone).await;
}

#[tokio::test]
async fn a_browser_is_charged_for_its_tickets_and_for_the_headers_that_it_shows() {
    let backend = Backend::start().await;
    let server = open(&backend, |it| it).await;
    let charged = async || metric(server.address, "tabmux_charged_bytes{kind=\"asks\"}").await;
    let mut hub = tab(&server).await;
    assert_eq!(charged().await as u32, 0);
    hub.ask(TAB, 1, "/chat/", &[]).await;
    let ticket = told(&mut hub).await;
    let before = charged().await;
    let cookie = format!("a={}", "x".repeat(3000));
    assert_eq!(show(server.address, &ticket, &[("cookie", &*cookie)]).await.unwrap(), 1000);
    // The upstream has not answered yet, so the headers are kept.
    let stream = backend.stream().await;
    let grows = async { while charged().await < before + 2000.0 {} };
    soon("the charge for the headers", grows).await;
    let _conn = Conn::accept(stream).await;
    opened(&mut hub).await;
    assert_eq!(charged().await as u32, 0);
}

#[tokio::test]
async fn other_requests_for_the_path_go_where_they_went() {
    let backend = Backend::start().await;
    let server = open(&backend, |it| it).await;
    for protocols in ["chat", "tabmux.ticket", "chat, tabmux.ticket"] {
        let mut request =
            format!("ws://{}/chat/room", server.address).into_client_request().unwrap();
        request.headers_mut().append("sec-websocket-protocol", protocols.parse().unwrap());
        let error = connect_async(request).await.unwrap_err();
        assert!(matches!(&error, WsError::Http(it) if it.status() == 404), "{protocols}: {error}");
    }
}
