//! Several servers behind one path, and other ways to one.

use tabmux_server::Server;
use tokio::net::TcpListener;

use super::world::{Backend, Conn, TAB, connected, opened, route, tab};
use crate::support::{Running, soon};

#[tokio::test]
async fn sockets_go_to_the_server_with_the_fewest() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let route = route("/chat/", one.url()).upstream(two.url());
    let server = Running::start(Server::builder().route(route)).await;
    let mut hub = tab(&server).await;
    let mut conns = Vec::new();
    for (socket, backend) in [(1, &one), (2, &two), (3, &one), (4, &two)] {
        hub.ask(TAB, socket, "/chat/", &[]).await;
        conns.push(backend.conn().await);
        opened(&mut hub).await;
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_passed_over_and_taken_again_when_it_is_back() {
    let (down, up) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Backend::start().await);
    let address = down.local_addr().unwrap();
    drop(down);
    let route = route("/chat/", format!("ws://{address}")).upstream(up.url()).health_ms(10);
    let server = Running::start(Server::builder().route(route)).await;
    let mut hub = tab(&server).await;
    let mut conns = Vec::new();
    for socket in [1, 2, 3] {
        hub.ask(TAB, socket, "/chat/", &[]).await;
        conns.push(websocket(&up).await);
        opened(&mut hub).await;
    }
    let back = TcpListener::bind(address).await.unwrap();
    // It is dialled, and found to be there.
    drop(soon("a look", back.accept()).await.unwrap());
    drop(soon("another look", back.accept()).await.unwrap());
    hub.ask(TAB, 4, "/chat/", &[]).await;
    let accept = async {
        loop {
            let (stream, _) = back.accept().await.unwrap();
            if is_request(&stream).await {
                return Conn::accept(stream).await;
            }
        }
    };
    let _conn = soon("the socket at the server that is back", accept).await;
    opened(&mut hub).await;
}

/// Whether a connection is more than a look.
async fn is_request(stream: &tokio::net::TcpStream) -> bool {
    stream.peek(&mut [0]).await.is_ok_and(|read| read > 0)
}

/// The next WebSocket; looks are skipped.
async fn websocket(backend: &Backend) -> Conn {
    loop {
        let stream = backend.stream().await;
        if is_request(&stream).await {
            return Conn::accept(stream).await;
        }
    }
}

#[tokio::test]
async fn connections_come_from_the_source_addresses_in_turn() {
    let backend = Backend::start().await;
    let sources = ["127.0.0.2", "127.0.0.3"].map(|it| it.parse().unwrap());
    let server = backend.behind_route(|route| route.source_addresses(sources.into())).await;
    let mut hub = tab(&server).await;
    let mut seen = Vec::new();
    let mut conns = Vec::new();
    for socket in 1..=4 {
        hub.ask(TAB, socket, "/chat/", &[]).await;
        let stream = backend.stream().await;
        seen.push(stream.peer_addr().unwrap().ip().to_string());
        conns.push(Conn::accept(stream).await);
        opened(&mut hub).await;
    }
    assert_eq!((&seen[0], &seen[1]), (&seen[2], &seen[3]));
    seen.sort();
    assert_eq!(seen, ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"]);
}

#[tokio::test]
async fn a_name_is_resolved() {
    let backend = Backend::start().await;
    let url = format!("ws://localhost:{}", backend.address.port());
    let server = Running::start(Server::builder().route(route("/chat/", url))).await;
    let (_hub, conn) = connected(&server, &backend).await;
    let host = format!("localhost:{}", backend.address.port());
    assert_eq!(conn.header("host"), Some(&*host));
}

#[cfg(unix)]
#[tokio::test]
async fn an_upstream_may_be_a_unix_socket() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::{accept_hdr_async, tungstenite};
    let path = crate::support::folder("gateway-unix").join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let url = format!("unix:{}:/v1", path.display());
    let server = Running::start(Server::builder().route(route("/chat", url))).await;
    let mut hub = tab(&server).await;
    hub.ask(TAB, 1, "/chat/room", &[]).await;
    let (stream, _) = soon("a connection", listener.accept()).await.unwrap();
    let mut seen = None;
    #[expect(clippy::result_large_err, reason = "the type is the library's")]
    let look = |request: &tungstenite::handshake::server::Request, response| {
        seen = Some(request.uri().to_string());
        Ok(response)
    };
    let mut ws = accept_hdr_async(stream, look).await.unwrap();
    assert_eq!(seen.as_deref(), Some("/v1/room"));
    opened(&mut hub).await;
    ws.send(tungstenite::Message::text("by a file")).await.unwrap();
    assert_eq!(hub.text(TAB, 1).await, "by a file");
    hub.close(TAB, 1, 4000, "").await;
    assert!(matches!(ws.next().await, Some(Ok(tungstenite::Message::Close(Some(_))))));
}
