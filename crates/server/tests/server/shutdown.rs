//! The end of a server.

use tabmux_core::wire::{GoAwayReason, HubFrame, ServerFrame};
use tabmux_server::{Config, Server};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::support::{Hub, Running, frame};

/// A server whose links have `grace` milliseconds to go by themselves.
async fn with_grace(grace: u64) -> Running {
    let config = Config { shutdown_grace_ms: grace, ..Config::default() };
    Running::start(Server::builder().config(config)).await
}

#[tokio::test]
async fn every_hub_is_asked_to_go_and_then_closed() {
    let mut server = with_grace(50).await;
    let mut hubs = [Hub::welcomed(server.address).await, Hub::welcomed(server.address).await];
    server.stop();
    for hub in &mut hubs {
        let bytes = hub.next().await;
        let ServerFrame::GoAway { reason, .. } = frame(&bytes) else { panic!("{bytes:?}") };
        assert_eq!(reason, GoAwayReason::Shutdown);
        assert_eq!(hub.closed().await.0, 1001);
    }
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_server_without_links_ends() {
    let mut server = with_grace(5_000).await;
    server.stop();
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_hub_that_goes_by_itself_is_not_waited_for() {
    let mut server = with_grace(5_000).await;
    let mut hub = Hub::welcomed(server.address).await;
    server.stop();
    assert!(matches!(frame(&hub.next().await), ServerFrame::GoAway { .. }));
    drop(hub);
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_link_is_served_until_the_grace_is_over() {
    let mut server = with_grace(5_000).await;
    let mut hub = Hub::welcomed(server.address).await;
    server.stop();
    hub.next().await;
    hub.say(&HubFrame::Ping { nonce: 1 }).await;
    assert_eq!(frame(&hub.next().await), ServerFrame::Pong { nonce: 1 });
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_keep_the_server() {
    let mut server = with_grace(0).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    // Accepted for sure: the next connection is answered.
    super::support::get(server.address, "/healthz", "").await;
    server.stop();
    server.ended().await.unwrap();
}
