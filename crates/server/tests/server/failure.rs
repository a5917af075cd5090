//! What is left of a server when one of its shards fails.

use std::{mem::forget, net::SocketAddr, sync::Once};

use tabmux_core::wire::{Alias, HubFrame, Payload, ServerFrame, TabId};
use tabmux_server::{Builder, Config, Ctx, Message, Server, SocketHandler};
use tokio::net::TcpListener;
use tracing::{Event, Metadata, Subscriber, span};

use super::{
    raw::{Raw, hello},
    support::{Hub, Running, frame, get, metric, soon},
};

/// A log that panics, as one can whose lines are not taken.
struct Broken;

impl Subscriber for Broken {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {
        panic!("the log is broken");
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Has its shard panic at the next line that the shard logs, outside of every handler.
struct Saboteur;

impl SocketHandler for Saboteur {
    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {
        // Handlers are called by the shard's thread.
        forget(tracing::subscriber::set_default(Broken));
    }
}

fn on_two_shards() -> Builder {
    // While there is one subscriber, `tracing` lets the thread that comes to a line of code first
    // decide for all whether anybody wants it. These two are no thread's.
    static TWO: Once = Once::new();
    TWO.call_once(|| [Broken, Broken].map(tracing::Dispatch::new).into_iter().for_each(forget));
    let config = Config::default().shards(2);
    let builder = crate::support::demo::install(Server::builder().config(config));
    builder.socket("/sabotage", || Saboteur)
}

/// A server in an app, which the server cannot end.
async fn mounted() -> SocketAddr {
    let server = on_two_shards().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().merge(server.router()).merge(server.metrics());
    tokio::spawn(async { axum::serve(listener, app).await });
    address
}

/// Has the shard of a hub fail.
async fn fail_shard_of(mut hub: Hub) {
    hub.send(Alias(1), 1, Payload::Text("now")).await;
    hub.say(&HubFrame::Attach { tab: TabId(2), last: 0 }).await;
    hub.broken().await;
}

#[tokio::test]
async fn a_shard_that_fails_ends_the_server_with_an_error() {
    let server = Running::start(on_two_shards()).await;
    let mut other = Hub::with_socket(server.address, "/echo").await;
    fail_shard_of(Hub::with_socket(server.address, "/sabotage").await).await;
    assert_eq!(other.closed().await.0, 1001);
    drop(other);
    let error = server.ended().await.unwrap_err().to_string();
    assert!(error.starts_with("shard 1 failed") && error.contains("start the server again"));
}

#[tokio::test]
async fn health_tells_that_a_shard_failed() {
    let address = mounted().await;
    let mut other = Hub::with_socket(address, "/echo").await;
    assert_eq!(get(address, "/tabmux/healthz", "").await.status, 200);
    fail_shard_of(Hub::with_socket(address, "/sabotage").await).await;
    let told = async {
        loop {
            let health = get(address, "/tabmux/healthz", "").await;
            if health.status != 200 {
                return (health.status, health.body);
            }
        }
    };
    assert_eq!(soon("bad health", told).await, (503, "a shard failed\n".to_owned()));
    assert_eq!(get(address, "/tabmux/livez", "").await.status, 503);
    other.send(Alias(1), 1, Payload::Text("still here")).await;
    assert_eq!(other.text(Alias(1), 1).await, "still here");
}

#[tokio::test]
async fn what_a_failed_shard_served_counts_no_more() {
    let address = mounted().await;
    let _other = Hub::with_socket(address, "/echo").await;
    fail_shard_of(Hub::with_socket(address, "/sabotage").await).await;
    let told = async {
        for name in ["links", "sessions", "tabs", "sockets"] {
            while metric(address, &format!("tabmux_{name}")).await != 1.0 {}
        }
    };
    soon("the numbers of the other shard alone", told).await;
    assert_eq!(metric(address, "tabmux_messages_in_total").await, 1.0);
}

#[tokio::test]
async fn a_browser_whose_shard_failed_begins_anew_on_another() {
    let address = mounted().await;
    fail_shard_of(Hub::with_socket(address, "/sabotage").await).await;
    let mut raw = Raw::link(address).await;
    raw.say(&hello(Some([0; 16]))).await;
    let message = raw.message().await;
    let ServerFrame::Welcome(welcome) = frame(&message) else { panic!("{message:?}") };
    assert_eq!((welcome.session.0[0], welcome.resumed), (1, false));
}
