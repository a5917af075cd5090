//! The end of a server.

use tabmux_core::wire::{GoAwayReason, ServerFrame};
use tabmux_server::{Config, Server};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::support::{Hub, Running, frame, get, metric, soon};

const HOUR: u64 = 3_600_000;

/// A server with one shard, which takes so many milliseconds to drain.
async fn draining_over(drain_ms: u64) -> Running {
    let config = Config::default().drain_ms(drain_ms).shards(1);
    Running::start(Server::builder().config(config)).await
}

/// The hub is asked to go, and its link closes.
async fn sent_away(hub: &mut Hub) {
    let bytes = hub.next().await;
    let ServerFrame::GoAway { reason, spread_ms, .. } = frame(&bytes) else { panic!("{bytes:?}") };
    assert_eq!((reason, spread_ms), (GoAwayReason::Shutdown, 1_000));
    assert_eq!(hub.closed().await.0, 1001);
}

#[tokio::test]
async fn every_hub_is_asked_to_go_and_then_closed() {
    for drain_ms in [0, 300] {
        let mut server = draining_over(drain_ms).await;
        let mut hubs = Vec::new();
        for _ in 0..5 {
            hubs.push(Hub::welcomed(server.address).await);
        }
        server.stop();
        for hub in &mut hubs {
            sent_away(hub).await;
        }
        server.ended().await.unwrap();
    }
}

#[tokio::test]
async fn a_server_without_links_ends() {
    let mut server = draining_over(HOUR).await;
    server.stop();
    server.ended().await.unwrap();
}

#[tokio::test]
async fn links_go_a_part_at_a_time_and_the_others_are_served() {
    let mut server = draining_over(HOUR).await;
    let mut first = Hub::welcomed(server.address).await;
    let mut second = Hub::welcomed(server.address).await;
    server.stop();
    sent_away(&mut first).await;
    drop(first);
    second.quiet().await;
    // A hub that goes by itself is not waited for.
    drop(second);
    server.ended().await.unwrap();
}

#[tokio::test]
async fn who_comes_to_a_server_that_drains_is_sent_elsewhere() {
    let mut server = draining_over(HOUR).await;
    let address = server.address;
    assert_eq!(get(address, "/healthz", "").await.status, 200);
    let _hubs = [Hub::welcomed(address).await, Hub::welcomed(address).await];
    server.stop();
    server.stats(|stats| stats.links.open == 1).await;
    let health = get(address, "/healthz", "").await;
    assert_eq!((health.status, health.body.as_str()), (503, "draining\n"));
    let (status, retry) = Hub::refused(address, &[]).await;
    assert_eq!(status, 503);
    assert!(retry.is_some_and(|seconds| (1..=5).contains(&seconds)), "{retry:?}");
    assert_eq!(metric(address, "tabmux_draining").await, 1.0);
    assert_eq!(metric(address, "tabmux_refused_total{reason=\"draining\"}").await, 1.0);
    assert_eq!(get(address, "/tabmux/stats", "").await.status, 200);
}

#[tokio::test]
async fn a_server_says_that_it_leaves_while_everything_still_works() {
    let config = Config::default().drain_ms(0).drain_min_ms(HOUR).shards(1);
    let mut server = Running::start(Server::builder().config(config)).await;
    let address = server.address;
    server.stop();
    let told = async { while get(address, "/healthz", "").await.status != 503 {} };
    soon("the health of a server that leaves", told).await;
    assert_eq!(get(address, "/tabmux/healthz", "").await.body, "draining\n");
    for path in ["/livez", "/tabmux/livez"] {
        assert_eq!(get(address, path, "").await.status, 200);
    }
    assert_eq!(metric(address, "tabmux_draining").await, 1.0);
    Hub::welcomed(address).await.quiet().await;
}

#[tokio::test]
async fn a_server_in_an_app_of_yours_leaves_the_same_way() {
    let config = Config::default().drain_ms(0);
    let server = Server::builder().config(config).build().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, server.router()).into_future());
    let mut hub = Hub::welcomed(address).await;
    let left = tokio::spawn(async move { server.leave().await });
    sent_away(&mut hub).await;
    drop(hub);
    soon("leave() to return", left).await.unwrap();
    assert_eq!(Hub::refused(address, &[]).await.0, 503);
    assert_eq!(get(address, "/tabmux/healthz", "").await.status, 503);
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_keep_the_server() {
    let mut server = draining_over(0).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    // Accepted for sure: the next connection is answered.
    get(server.address, "/healthz", "").await;
    server.stop();
    server.ended().await.unwrap();
}
