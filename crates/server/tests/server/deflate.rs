//! Compression, for links that agree to it, by the listener and by axum.

use std::{io::Write, net::SocketAddr};

use flate2::{Compression, write::DeflateDecoder, write::DeflateEncoder};
use tabmux_core::wire::{HubFrame, Payload, ServerFrame, SocketId, TabId, Upstream};
use tabmux_server::{Config, Deflate, Server, ServerHandle};
use tokio::net::TcpListener;

use super::{
    raw::{Raw, head, hello_frame, lines, masked_as},
    support::{Hub, Running, frame},
};

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
const THRESHOLD: usize = 300;

fn config() -> Config {
    let deflate = Deflate::default().enabled(true).threshold_bytes(THRESHOLD);
    Config::default().deflate(deflate).shards(2)
}

async fn running() -> Running {
    Running::start(crate::support::demo::install(Server::builder()).config(config())).await
}

/// The same, with its links through axum.
async fn mounted() -> (SocketAddr, ServerHandle) {
    let server = crate::support::demo::install(Server::builder()).config(config()).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, handle) = (listener.local_addr().unwrap(), server.handle());
    let app = axum::Router::new().merge(server.router());
    tokio::spawn(async move {
        let _server = server;
        axum::serve(listener, app).await
    });
    (address, handle)
}

fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(payload).unwrap();
    encoder.flush().unwrap();
    let mut bytes = encoder.get_ref().clone();
    assert_eq!(bytes.split_off(bytes.len() - 4), [0, 0, 0xff, 0xff]);
    bytes
}

fn inflate(payload: &[u8]) -> Vec<u8> {
    let mut decoder = DeflateDecoder::new(Vec::new());
    decoder.write_all(&[payload, &[0, 0, 0xff, 0xff]].concat()).unwrap();
    decoder.flush().unwrap();
    decoder.get_ref().clone()
}

/// A link that offers compression, and the answer to that.
async fn dial(address: SocketAddr, offer: &str) -> (Raw, String) {
    let mut lines = lines(address);
    lines.push(offer.to_owned());
    let mut raw = Raw::dial(address).await;
    raw.say(head(&lines).as_bytes()).await;
    let (status, text) = raw.head().await;
    assert_eq!(status, 101);
    (raw, text.to_ascii_lowercase())
}

/// A link that agreed, whose hub has a session; it deflates all it says.
async fn welcomed(address: SocketAddr, session: Option<[u8; 16]>) -> Raw {
    let (mut raw, answer) = dial(address, OFFER).await;
    let agreed = "sec-websocket-extensions: permessage-deflate; server_no_context_takeover; \
                  client_no_context_takeover\r\n";
    assert!(answer.contains(agreed), "{answer}");
    raw.say(&masked_as(0xc2, &deflate(&hello_frame(session)))).await;
    assert!(matches!(frame(&raw.message().await), ServerFrame::Welcome(_)));
    raw
}

async fn say(raw: &mut Raw, frame: &HubFrame<'_>) {
    raw.say(&masked_as(0xc2, &deflate(&frame.to_bytes()))).await;
}

async fn subscribed(raw: &mut Raw) {
    say(raw, &HubFrame::Subscribe { request: 1, position: None, topic: "t" }).await;
    assert!(matches!(frame(&raw.message().await), ServerFrame::Subscribed(_)));
}

fn publication(bytes: &[u8]) -> String {
    match frame(bytes) {
        ServerFrame::Publication { payload: Payload::Text(text), .. } => text.to_owned(),
        other => panic!("no publication of a text: {other:?}"),
    }
}

#[tokio::test]
async fn a_publication_is_deflated_for_links_that_agreed() {
    let server = running().await;
    let (address, handle) = mounted().await;
    for (address, handle) in [(server.address, server.handle.clone()), (address, handle)] {
        let (mut raw, mut more) = (welcomed(address, None).await, welcomed(address, None).await);
        subscribed(&mut raw).await;
        subscribed(&mut more).await;
        let mut plain = Hub::welcomed(address).await;
        plain.subscribe(1, "t").await;
        let text = "all work and no play ".repeat(50);
        handle.publish("t", Payload::Text(&text)).await.unwrap();
        handle.publish("t", Payload::Text("short")).await.unwrap();
        for raw in [&mut raw, &mut more] {
            let (first, payload) = raw.frame().await;
            assert_eq!(first, 0xc2);
            assert!(payload.len() < text.len() / 5, "{} bytes", payload.len());
            assert_eq!(publication(&inflate(&payload)), text);
            assert_eq!(publication(&raw.message().await), "short");
        }
        assert_eq!(publication(&plain.next().await), text);
        assert_eq!(publication(&plain.next().await), "short");
    }
}

#[tokio::test]
async fn what_a_socket_sends_is_deflated_above_the_threshold() {
    let server = running().await;
    let mut raw = welcomed(server.address, None).await;
    say(&mut raw, &HubFrame::Attach { tab: TabId(1), last: 0 }).await;
    let ServerFrame::Attached { alias, .. } = frame(&raw.message().await) else {
        panic!("not attached");
    };
    let up = |n| Upstream { tab: alias, n };
    let socket = SocketId(1);
    let open = HubFrame::Open {
        up: up(1),
        socket,
        credit: 1 << 20,
        path: "/echo",
        protocols: Vec::new(),
        ticket: "",
    };
    say(&mut raw, &open).await;
    assert!(matches!(frame(&raw.message().await), ServerFrame::Opened { .. }));
    for (count, len) in [(2, THRESHOLD), (3, 3)] {
        let text = "x".repeat(len);
        let payload = Payload::Text(&text);
        say(&mut raw, &HubFrame::Data { up: up(count), socket, payload }).await;
        let (first, mut bytes) = raw.frame().await;
        assert_eq!(first, if len == THRESHOLD { 0xc2 } else { 0x82 });
        if first == 0xc2 {
            bytes = inflate(&bytes);
        }
        let ServerFrame::Data { payload, .. } = frame(&bytes) else { panic!("{bytes:?}") };
        assert_eq!(payload, Payload::Text(&text));
    }
}

#[tokio::test]
async fn a_link_that_moves_to_its_shard_takes_what_was_agreed_with_it() {
    let server = running().await;
    for shard in 0..2 {
        let mut session = [0; 16];
        session[0] = shard;
        let mut raw = welcomed(server.address, Some(session)).await;
        subscribed(&mut raw).await;
        let text = "x".repeat(1_000);
        server.handle.publish("t", Payload::Text(&text)).await.unwrap();
        assert_eq!(raw.frame().await.0, 0xc2);
    }
}

#[tokio::test]
async fn a_bomb_costs_its_own_link() {
    let server = running().await;
    let mut other = Hub::welcomed(server.address).await;
    let mut raw = welcomed(server.address, None).await;
    let bomb = deflate(&vec![0; 8 << 20]);
    raw.say(&masked_as(0xc2, &bomb)).await;
    assert_eq!(raw.closed().await, 1009);
    let mut raw = welcomed(server.address, None).await;
    raw.say(&masked_as(0xc2, b"\xff no deflate")).await;
    assert_eq!(raw.closed().await, 1007);
    other.subscribe(1, "t").await;
    server.stats(|stats| stats.links.open == 1).await;
}

#[tokio::test]
async fn nothing_is_agreed_unless_both_want_it() {
    let off = Running::demo().await;
    let (mut raw, answer) = dial(off.address, OFFER).await;
    assert!(!answer.contains("extensions"), "{answer}");
    raw.say(&masked_as(0xc2, &deflate(&hello_frame(None)))).await;
    assert_eq!(raw.closed().await, 1002);
    let on = running().await;
    for offer in ["X-Other: 1", "Sec-WebSocket-Extensions: permessage-deflate; unknown"] {
        let (mut raw, answer) = dial(on.address, offer).await;
        assert!(!answer.contains("extensions"), "{answer}");
        raw.say(&masked_as(0xc2, &deflate(&hello_frame(None)))).await;
        assert_eq!(raw.closed().await, 1002);
    }
}
