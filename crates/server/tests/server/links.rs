//! Links: what they carry, and how each fault ends the one it belongs to.

use tabmux_core::wire::{Alias, HubFrame, Payload, Rejected, ServerFrame, TabId};
use tabmux_server::{Config, Limits, Server};
use tokio_tungstenite::tungstenite::Message;

use super::support::{Hub, Running, frame, hello};

#[tokio::test]
async fn hello_is_welcomed() {
    let server = Running::demo().await;
    let mut hub = Hub::dial(server.address).await;
    hub.say(&hello()).await;
    let bytes = hub.next().await;
    let ServerFrame::Welcome(welcome) = frame(&bytes) else { panic!("no WELCOME: {bytes:?}") };
    assert!(!welcome.resumed);
    assert_ne!(welcome.session.0, [0; 16]);
    assert_ne!(welcome.session.0, welcome.token.0);
}

#[tokio::test]
async fn text_and_bytes_come_back() {
    let server = Running::demo().await;
    let mut hub = Hub::welcomed(server.address).await;
    let tab = hub.attach(1).await;
    assert_eq!(hub.open(tab, 1, "/echo", &["first", "second"]).await, "first");
    for payload in [Payload::Text("héllo"), Payload::Binary(&[0, 1, 255]), Payload::Text("")] {
        hub.send(tab, 1, payload).await;
        let bytes = hub.next().await;
        let ServerFrame::Data { payload: echoed, .. } = frame(&bytes) else { panic!("{bytes:?}") };
        assert_eq!(echoed, payload);
    }
}

#[tokio::test]
async fn a_socket_closes_with_the_tabs_code() {
    let server = Running::demo().await;
    let mut hub = Hub::welcomed(server.address).await;
    let tab = hub.attach(1).await;
    hub.open(tab, 1, "/echo", &[]).await;
    hub.close(tab, 1, 4000, "done").await;
    let bytes = hub.next().await;
    assert!(matches!(frame(&bytes), ServerFrame::Close { code: 4000, reason: "done", .. }));
}

#[tokio::test]
async fn a_path_without_a_handler_is_refused() {
    let server = Running::demo().await;
    let mut hub = Hub::welcomed(server.address).await;
    let tab = hub.attach(1).await;
    hub.ask(tab, 1, "/nowhere?x=1", &[]).await;
    let bytes = hub.next().await;
    let ServerFrame::Rejected(Rejected { message, .. }) = frame(&bytes) else {
        panic!("{bytes:?}")
    };
    assert_eq!(message, "this server has no handler for /nowhere");
}

#[tokio::test]
async fn garbage_closes_its_own_link_only() {
    let server = Running::demo().await;
    let mut good = Hub::with_socket(server.address, "/echo").await;
    let mut bad = Hub::welcomed(server.address).await;
    bad.raw(Message::binary(vec![0xff; 8])).await;
    let (code, reason) = bad.closed().await;
    assert_eq!(code, 1002);
    assert_eq!(reason, "no frame of this direction has type 0xff");
    server.stats(|stats| stats.links.open == 1 && stats.links.protocol_errors == 1).await;
    good.quiet().await;
}

#[tokio::test]
async fn a_text_message_closes_with_1003() {
    let server = Running::demo().await;
    let mut hub = Hub::welcomed(server.address).await;
    hub.raw(Message::text("hello")).await;
    assert_eq!(hub.closed().await.0, 1003);
}

#[tokio::test]
async fn a_message_past_the_limit_closes_with_1009() {
    let limits = Limits::default().message_bytes(1 << 16);
    let config = Config::default().limits(limits);
    let server = Running::start(Server::builder().config(config)).await;
    let mut hub = Hub::welcomed(server.address).await;
    hub.raw(Message::binary(vec![0; (1 << 16) + 1])).await;
    assert_eq!(hub.closed().await.0, 1009);
    server.stats(|stats| stats.links.open == 0).await;
}

#[tokio::test]
async fn a_message_at_the_limit_passes() {
    let server = Running::demo().await;
    let mut hub = Hub::with_socket(server.address, "/echo").await;
    let alias = Alias(1);
    // Frame headers are taken off: four bytes upstream, three down.
    let large = vec![7; (1 << 20) - 4];
    hub.send(alias, 1, Payload::Binary(&large)).await;
    let bytes = hub.next().await;
    assert!(
        matches!(frame(&bytes), ServerFrame::Data { payload, .. } if payload.len() == large.len())
    );
}

#[tokio::test]
async fn a_link_that_says_nothing_is_closed() {
    let config = Config::default().handshake_timeout_ms(50);
    let server = Running::start(Server::builder().config(config)).await;
    let mut hub = Hub::dial(server.address).await;
    assert_eq!(hub.closed().await.0, 4008);
}

#[tokio::test]
async fn a_silent_hub_is_closed() {
    let config = Config::default().heartbeat_ms(20);
    let server = Running::start(Server::builder().config(config)).await;
    let mut hub = Hub::welcomed(server.address).await;
    assert_eq!(hub.closed().await.0, 4009);
    server.stats(|stats| stats.links.open == 0).await;
}

#[tokio::test]
async fn a_suspended_link_is_closed_in_time() {
    let config = Config::default().suspend_timeout_ms(20);
    let server = Running::start(Server::builder().config(config)).await;
    let mut hub = Hub::welcomed(server.address).await;
    hub.attach(1).await;
    hub.say(&HubFrame::Park { tab: TabId(1) }).await;
    hub.say(&HubFrame::Suspend).await;
    assert_eq!(hub.closed().await.0, 1001);
}

#[tokio::test]
async fn the_numbers_follow_what_happens() {
    let server = Running::demo().await;
    let mut hub = Hub::with_socket(server.address, "/echo").await;
    hub.attach(2).await;
    hub.say(&HubFrame::Park { tab: TabId(2) }).await;
    hub.send(Alias(1), 1, Payload::Text("x")).await;
    hub.text(Alias(1), 1).await;
    let stats = server.stats(|stats| stats.tabs.parked == 1).await;
    assert_eq!(
        (stats.links.open, stats.sessions.held, stats.tabs.attached, stats.sockets.open),
        (1, 1, 1, 1)
    );
    let stats = server.handle.stats();
    assert_eq!((stats.messages.received, stats.messages.sent), (1, 1));
    hub.leave(&[1, 2]).await;
    let stats = server.stats(|stats| stats.links.open == 0).await;
    assert_eq!(
        (stats.sessions.held, stats.tabs.attached, stats.tabs.parked, stats.sockets.open),
        (0, 0, 0, 0)
    );
}

#[tokio::test]
async fn many_browsers_at_once_each_hear_their_own() {
    let server = Running::demo().await;
    let address = server.address;
    let browsers = (0..200).map(|number| {
        tokio::spawn(async move {
            let mut hub = Hub::with_socket(address, "/echo").await;
            for round in 0..5 {
                let text = format!("{number} {round}");
                hub.send(Alias(1), 1, Payload::Text(&text)).await;
                assert_eq!(hub.text(Alias(1), 1).await, text);
            }
            hub.leave(&[1]).await;
        })
    });
    for browser in browsers.collect::<Vec<_>>() {
        browser.await.unwrap();
    }
    let stats = server.stats(|stats| stats.links.open == 0).await;
    assert_eq!((stats.messages.received, stats.messages.sent), (1_000, 1_000));
    assert_eq!((stats.sessions.held, stats.tabs.attached, stats.sockets.open), (0, 0, 0));
}
