//! Upstreams that are down, slow, or break the rules: only their socket ends.

use tabmux_core::wire::Payload;
use tabmux_server::Server;
use tokio::{io::AsyncWriteExt, net::TcpListener};

use super::world::{Backend, TAB, closed, connected, failed, opened, rejected, route, tab};
use crate::support::{Hub, Running, soon};

/// A socket of the tab that has nothing to do with what ends.
async fn with_neighbour(server: &Running, backend: &Backend) -> (Hub, super::world::Conn) {
    let mut hub = tab(server).await;
    hub.ask(TAB, 9, "/chat/neighbour", &[]).await;
    let conn = backend.conn().await;
    opened(&mut hub).await;
    (hub, conn)
}

async fn still_there(hub: &mut Hub, neighbour: &mut super::world::Conn) {
    hub.send(TAB, 9, Payload::Text("there?")).await;
    assert_eq!(neighbour.text().await, "there?");
    neighbour.send("yes").await;
    assert_eq!(hub.text(TAB, 9).await, "yes");
}

#[tokio::test]
async fn an_upstream_that_refuses_fails_the_socket_with_its_status() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let (mut hub, mut neighbour) = with_neighbour(&server, &backend).await;
    hub.ask(TAB, 1, "/chat/", &[]).await;
    let answer = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
    let _stream = backend.answer(answer).await;
    assert!(rejected(&mut hub).await.contains("status 403"));
    still_there(&mut hub, &mut neighbour).await;
}

#[tokio::test]
async fn an_upstream_that_is_down_fails_the_socket_and_its_address_is_told_to_nobody() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let builder = Server::builder().route(route("/chat", format!("ws://127.0.0.1:{port}")));
    let server = Running::start(builder).await;
    let mut hub = tab(&server).await;
    hub.ask(TAB, 1, "/chat", &[]).await;
    let text = rejected(&mut hub).await;
    assert!(text.contains("takes no connections") && !text.contains(&port.to_string()), "{text}");
}

#[tokio::test]
async fn an_upstream_that_is_slow_fails_the_socket_in_time() {
    let backend = Backend::start().await;
    let server = backend.behind_route(|route| route.open_timeout_ms(50)).await;
    let mut hub = tab(&server).await;
    hub.ask(TAB, 1, "/chat/", &[]).await;
    let _stream = backend.stream().await;
    assert!(rejected(&mut hub).await.contains("0.05 s"));
}

#[tokio::test]
async fn what_is_no_handshake_fails_the_socket() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let (mut hub, mut neighbour) = with_neighbour(&server, &backend).await;
    let answers: [&[u8]; 5] = [
        b"\xff\xfe\x00garbage\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
          sec-websocket-accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ];
    for (socket, answer) in (1..).zip(answers) {
        hub.ask(TAB, socket, "/chat/", &[]).await;
        drop(backend.answer(answer).await);
        let text = rejected(&mut hub).await;
        assert!(text.contains("did not open a WebSocket"), "{text}");
    }
    still_there(&mut hub, &mut neighbour).await;
}

#[tokio::test]
async fn an_endless_head_fails_the_socket() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let mut hub = tab(&server).await;
    hub.ask(TAB, 1, "/chat/", &[]).await;
    let (mut stream, _) = backend.answer(b"HTTP/1.1 101 Switching Protocols\r\n").await;
    let line = [b"x: ".as_slice(), &[b'y'; 8 << 10], b"\r\n"].concat();
    let flood = async {
        // Until the gateway has had enough.
        while stream.write_all(&line).await.is_ok() {}
    };
    soon("the gateway to leave", flood).await;
    assert!(rejected(&mut hub).await.contains("did not open a WebSocket"));
}

#[tokio::test]
async fn what_a_browser_would_not_take_ends_the_socket_as_it_would_there() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let (mut hub, mut neighbour) = with_neighbour(&server, &backend).await;
    let frames: [&[u8]; 7] = [
        b"\x83\x00",          // A reserved opcode.
        b"\xc1\x01x",         // A reserved bit.
        b"\x81\x81\0\0\0\0x", // A mask.
        b"\x81\x01\xff",      // No UTF-8.
        b"\x80\x01x",         // A continuation of nothing.
        b"\x88\x01x",         // Half a code.
        b"\x88\x02\x03\xed",  // 1005 in a close frame.
    ];
    for (socket, bytes) in (1..).zip(frames) {
        hub.ask(TAB, socket, "/chat/", &[]).await;
        let mut conn = backend.conn().await;
        opened(&mut hub).await;
        conn.ws.get_mut().write_all(bytes).await.unwrap();
        // A native socket has an `error` first.
        assert!(failed(&mut hub).await.contains("broke the rules"), "{bytes:?}");
        assert_eq!(closed(&mut hub).await, (1006, String::new()), "{bytes:?}");
    }
    still_there(&mut hub, &mut neighbour).await;
}

#[tokio::test]
async fn an_upstream_that_goes_in_the_middle_of_a_message_ends_the_socket_with_1006() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let (mut hub, mut conn) = connected(&server, &backend).await;
    conn.ws.get_mut().write_all(b"\x82\x7e\x10\x00half").await.unwrap();
    drop(conn);
    assert_eq!(closed(&mut hub).await, (1006, String::new()));
}

#[tokio::test]
async fn a_message_that_no_page_may_get_ends_its_socket_and_is_never_held() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let (mut hub, mut neighbour) = with_neighbour(&server, &backend).await;
    // 100 MB, in one frame and in many.
    let whole = [b"\x82\x7f".as_slice(), &100_000_000_u64.to_be_bytes()].concat();
    let part = [b"\x02\x7e\xff\xff".as_slice(), &[0; 0xffff]].concat();
    let next = [b"\x00\x7e\xff\xff".as_slice(), &[0; 0xffff]].concat();
    for (socket, head, rest) in [(1, whole, vec![0; 1 << 16]), (2, part, next)] {
        hub.ask(TAB, socket, "/chat/", &[]).await;
        let mut conn = backend.conn().await;
        opened(&mut hub).await;
        let flood = async {
            let stream = conn.ws.get_mut();
            stream.write_all(&head).await.unwrap();
            // The gateway has had enough long before that.
            for _ in 0..100_000_000 / rest.len() {
                if stream.write_all(&rest).await.is_err() {
                    return;
                }
            }
        };
        let flood = soon("the flood", flood);
        let ((), close) = tokio::join!(flood, closed(&mut hub));
        assert_eq!(close.0, 1009, "{close:?}");
    }
    still_there(&mut hub, &mut neighbour).await;
}
