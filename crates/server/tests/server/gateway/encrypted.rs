//! A gateway that speaks TLS itself.

use tabmux_core::wire::{HubFrame, ServerFrame, SocketId, TabId, Upstream};
use tabmux_server::{Config, Cookies};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::world::{Backend, TAB, route};
use crate::{
    raw::{head, hello, lines, masked},
    support::{folder, frame},
    tls::{certificate, dial, message, read_head, start_with, trusting},
};

/// The head of a request whose client claims what only a proxy may say.
fn lying(server: std::net::SocketAddr) -> Vec<String> {
    let mut lines = lines(server);
    let said = ["X-Forwarded-Proto: http", "X-Forwarded-Host: evil.example"];
    lines.extend(said.map(str::to_owned));
    lines.push("X-Forwarded-For: 203.0.113.9".to_owned());
    lines
}

/// Opens a link with one tab, which wants a socket at this path.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), lines: &[String], path: &str) {
    let attach = HubFrame::Attach { tab: TabId(1), last: 0 }.to_bytes();
    let (up, socket) = (Upstream { tab: TAB, n: 1 }, SocketId(1));
    let (protocols, credit) = (Vec::new(), u64::MAX);
    let open = HubFrame::Open { up, socket, credit, path, protocols, ticket: "" }.to_bytes();
    let head = head(lines);
    let bytes = [head.as_bytes(), &hello(None), &masked(&attach), &masked(&open)].concat();
    stream.write_all(&bytes).await.unwrap();
    assert!(read_head(stream).await.starts_with("HTTP/1.1 101"));
    for _ in 0..2 {
        message(stream).await;
    }
}

#[tokio::test]
async fn an_upstream_hears_that_the_gateway_itself_speaks_tls() {
    let (tls, cert) = certificate(&folder("tls-gateway"), "localhost");
    let backend = Backend::start().await;
    let routes = [("/link/", Cookies::Link), ("/open/", Cookies::Open)]
        .map(|(prefix, cookies)| route(prefix, backend.url()).cookies(cookies));
    let install = |builder| routes.into_iter().fold(builder, tabmux_server::Builder::route);
    let (server, _) = start_with(Config::default().tls(vec![tls]), install);
    let connect = async || {
        let config = trusting(std::slice::from_ref(&cert), &[b"http/1.1"]);
        dial(server.address, "localhost", config).await.unwrap()
    };
    let lines = lying(server.address);
    let mut links = Vec::new();
    for path in ["/link/a", "/open/a"] {
        let mut link = connect().await;
        ask(&mut link, &lines, path).await;
        if path == "/open/a" {
            let told = message(&mut link).await;
            let ServerFrame::Ticket { ticket, .. } = frame(&told) else { panic!("no ticket") };
            let mut short = connect().await;
            let protocols = format!("Sec-WebSocket-Protocol: tabmux.ticket, {ticket}");
            let request = head(&[&*lines, &[protocols]].concat()).replace("/tabmux/ws", path);
            short.write_all(request.as_bytes()).await.unwrap();
            assert!(read_head(&mut short).await.starts_with("HTTP/1.1 101"));
        }
        let conn = backend.conn().await;
        for (name, value) in [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", &*server.address.to_string()),
            ("x-forwarded-for", "127.0.0.1"),
        ] {
            let all = conn.request.headers().get_all(name).iter().collect::<Vec<_>>();
            assert_eq!(all, [value], "{path}: {name}");
        }
        assert!(matches!(frame(&message(&mut link).await), ServerFrame::Opened { .. }));
        links.push(link);
    }
}
