//! The handshake of a link, by the listener and by axum: both must say the same.

use std::{io, net::SocketAddr, pin::Pin, task::Context, task::Poll};

use tabmux_core::wire::ServerFrame;
use tabmux_server::{Config, Server};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

use super::{
    raw::{ACCEPT, Raw, head, hello, lines},
    support::{Hub, Running, frame, soon},
};

fn welcomed(message: &[u8]) {
    assert!(matches!(frame(message), ServerFrame::Welcome(_)), "{message:?}");
}

/// A server whose links all go through axum.
async fn mounted() -> SocketAddr {
    let server = crate::support::demo::install(Server::builder()).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().merge(server.router());
    tokio::spawn(async { axum::serve(listener, app).await });
    address
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte() {
    let server = Running::demo().await;
    for address in [server.address, mounted().await] {
        let lines = lines(address).iter().map(|line| line.to_ascii_lowercase()).collect::<Vec<_>>();
        // The key is told apart by case.
        let text = head(&lines).replace("dghlihnhbxbszsbub25jzq==", "dGhlIHNhbXBsZSBub25jZQ==");
        let mut raw = Raw::dial(address).await;
        for byte in text.as_bytes() {
            raw.say(&[*byte]).await;
            tokio::task::yield_now().await;
        }
        let (status, text) = raw.head().await;
        assert_eq!(status, 101);
        assert!(text.to_ascii_lowercase().contains("upgrade: websocket\r\n"), "{text}");
        assert!(text.contains(ACCEPT), "{text}");
        for byte in hello(None) {
            raw.say(&[byte]).await;
        }
        welcomed(&raw.message().await);
    }
}

#[tokio::test]
async fn bytes_behind_the_head_belong_to_the_link() {
    let server = Running::demo().await;
    for address in [server.address, mounted().await] {
        let mut raw = Raw::dial(address).await;
        raw.say(&[head(&lines(address)).as_bytes(), &hello(None)].concat()).await;
        assert_eq!(raw.head().await.0, 101);
        welcomed(&raw.message().await);
    }
}

#[tokio::test]
async fn a_head_and_what_follows_in_two_pieces_cut_anywhere() {
    let server = Running::demo().await;
    let text = [head(&lines(server.address)).as_bytes(), &hello(None)].concat();
    for cut in 1..text.len() {
        let mut raw = Raw::dial(server.address).await;
        raw.say(&text[..cut]).await;
        tokio::task::yield_now().await;
        raw.say(&text[cut..]).await;
        assert_eq!(raw.head().await.0, 101, "cut at {cut}");
        welcomed(&raw.message().await);
    }
}

#[tokio::test]
async fn a_request_that_is_written_in_other_ways() {
    let server = Running::demo().await;
    for address in [server.address, mounted().await] {
        let text = head(&lines(address));
        let absolute = format!("GET http://{address}/tabmux/ws ");
        let cases = [
            ("a query", text.replace("ws HTTP", "ws?v=1 HTTP")),
            ("an absolute address", text.replace("GET /tabmux/ws ", &absolute)),
            ("an empty line before it", format!("\r\n{text}")),
            ("bare line feeds", text.replace("\r\n", "\n")),
            ("mixed case", text.replace("Upgrade: websocket", "uPGRADE: wEBsOCKET")),
            ("a body of nothing", text.replace("Upgrade:", "Content-Length: 0\r\nUpgrade:")),
        ];
        for (what, text) in cases {
            let mut raw = Raw::dial(address).await;
            raw.say(&[text.as_bytes(), &hello(None)].concat()).await;
            assert_eq!(raw.head().await.0, 101, "{what}");
            welcomed(&raw.message().await);
        }
    }
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_gets_no_link() {
    let server = Running::demo().await;
    for address in [server.address, mounted().await] {
        let text = head(&lines(address));
        let many = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect::<String>() + "Upgrade:";
        let more = (0..70).map(|n| format!("X-{n}: 1\r\n")).collect::<String>() + "Upgrade:";
        let long = format!("X-Long: {}\r\nUpgrade:", "x".repeat(9 << 10));
        let cases = [
            ("HTTP/1.0", 400, text.replace("HTTP/1.1", "HTTP/1.0")),
            ("a folded line", 400, text.replace("Upgrade: web", "Upgrade:\r\n web")),
            ("a space in a name", 400, text.replace("Host:", "Host :")),
            ("a body", 400, text.replace("Upgrade:", "Content-Length: 5\r\nUpgrade:")),
            ("chunks", 400, text.replace("Upgrade:", "Transfer-Encoding: chunked\r\nUpgrade:")),
            ("two hosts", 400, text.replace("Upgrade:", "Host: b\r\nUpgrade:")),
            ("two origins", 400, text.replace("Upgrade:", "Origin: a\r\nOrigin: a\r\nUpgrade:")),
            ("another path", 404, text.replace("/tabmux/ws", "/tabmux/wss")),
            ("many headers", 431, text.replace("Upgrade:", &many)),
            ("more headers than the listener reads", 431, text.replace("Upgrade:", &more)),
            ("a longer head than the listener reads", 431, text.replace("Upgrade:", &long)),
        ];
        for (what, expected, text) in cases {
            let mut raw = Raw::dial(address).await;
            raw.say(text.as_bytes()).await;
            assert_eq!(raw.head().await.0, expected, "{what}, {address}");
        }
    }
    server.stats(|stats| stats.links.open == 0).await;
}

#[tokio::test]
async fn an_upgrade_on_a_connection_that_was_used() {
    let server = Running::demo().await;
    for address in [server.address, mounted().await] {
        let mut raw = Raw::dial(address).await;
        raw.say(format!("GET /tabmux/healthz HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())
            .await;
        assert_eq!(raw.head().await.0, 200);
        raw.0.read_exact(&mut [0; 3]).await.unwrap();
        raw.say(&[head(&lines(address)).as_bytes(), &hello(None)].concat()).await;
        assert_eq!(raw.head().await.0, 101);
        welcomed(&raw.message().await);
    }
}

#[tokio::test]
async fn what_is_missing_doubled_or_wrong_is_told() {
    type Change = fn(&mut Vec<String>);
    let cases: [(&str, u16, Change); 9] = [
        ("no Upgrade", 426, |lines| drop(lines.remove(1))),
        ("no Connection", 426, |lines| drop(lines.remove(2))),
        ("no key", 400, |lines| drop(lines.remove(3))),
        ("no version", 426, |lines| drop(lines.remove(4))),
        ("two keys", 400, |lines| lines.push(lines[3].clone())),
        ("two versions", 400, |lines| lines.push(lines[4].clone())),
        ("another version", 426, |lines| lines[4] = "Sec-WebSocket-Version: 12".to_owned()),
        ("a short key", 400, |lines| lines[3] = "Sec-WebSocket-Key: AAAA".to_owned()),
        ("another origin", 403, |lines| lines.push("Origin: https://evil.example".to_owned())),
    ];
    let server = Running::demo().await;
    for address in [server.address, mounted().await] {
        for (what, expected, change) in cases {
            let mut lines = lines(address);
            change(&mut lines);
            let mut raw = Raw::dial(address).await;
            raw.say(head(&lines).as_bytes()).await;
            let (status, text) = raw.head().await;
            assert_eq!(status, expected, "{what}");
            let version = text.to_ascii_lowercase().contains("sec-websocket-version: 13");
            assert_eq!(version, status == 426, "{text}");
        }
    }
    let mut raw = Raw::dial(server.address).await;
    let text = head(&lines(server.address)).replace("GET", "POST");
    raw.say(text.as_bytes()).await;
    assert_eq!(raw.head().await.0, 405);
    server.stats(|stats| stats.links.open == 0).await;
}

#[tokio::test]
async fn a_head_without_end_is_refused_and_a_slow_one_given_up() {
    let config = Config::default().handshake_timeout_ms(300);
    let server = Running::start(Server::builder().config(config)).await;
    let mut raw = Raw::dial(server.address).await;
    let endless = format!("GET /tabmux/ws HTTP/1.1\r\nCookie: {}", "x".repeat(9 << 10));
    raw.say(endless.as_bytes()).await;
    assert_eq!(raw.head().await.0, 431);
    let mut slow = Raw::dial(server.address).await;
    slow.say(b"GET /tabmux/ws HTTP/1.1\r\n").await;
    assert_eq!(soon("the end", slow.0.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_stream_that_is_no_tcp_stream_is_bridged() {
    let server = crate::support::demo::install(Server::builder()).build().unwrap();
    let listener = Foreign(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.0.local_addr().unwrap();
    let app = server.router();
    tokio::spawn(async { axum::serve(listener, app).await });
    let mut hub = Hub::with_socket(address, "/echo").await;
    let large = "x".repeat(300_000);
    let tab = tabmux_core::wire::Alias(1);
    hub.send(tab, 1, tabmux_core::wire::Payload::Text(&large)).await;
    assert_eq!(hub.text(tab, 1).await, large);
    let leaving = tokio::spawn(async move { server.leave().await });
    assert_eq!(hub.closed().await.0, 1001);
    soon("the server to leave", leaving).await.unwrap();
}

/// A listener whose streams only look like TCP, as those of a TLS library do.
struct Foreign(TcpListener);

struct Wrapped(TcpStream);

impl axum::serve::Listener for Foreign {
    type Io = Wrapped;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wrapped, SocketAddr) {
        let (stream, peer) = self.0.accept().await.unwrap();
        (Wrapped(stream), peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl AsyncRead for Wrapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wrapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
