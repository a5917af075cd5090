//! Sessions that go on with another link of a running server.

use tabmux_core::wire::{
    Alias, Hello, HubFrame, HubId, Payload, RefusedReason, Resume, ServerFrame, TabId, Token,
    VERSION, Welcome,
};
use tabmux_server::{Config, Server, demo};

use super::support::{Hub, Running, frame, hello, metric};

const TAB: Alias = Alias(1);

/// HELLO that claims the session of a WELCOME.
fn claim(welcome: &Welcome, hub: u64) -> HubFrame<'static> {
    let Welcome { session, token, term, .. } = *welcome;
    let resume = Some(Resume { session, token, term, have0: Some(0) });
    let (min_version, max_version, credentials) = (VERSION, VERSION, "");
    HubFrame::Hello(Hello { min_version, max_version, hub: HubId(hub), resume, credentials })
}

/// What a HELLO is answered with.
async fn say_hello(server: &Running, hello: &HubFrame<'_>) -> (Hub, Welcome) {
    let mut hub = Hub::dial(server.address).await;
    hub.say(hello).await;
    match frame(&hub.next().await) {
        ServerFrame::Welcome(welcome) => (hub, welcome),
        other => panic!("not welcomed: {other:?}"),
    }
}

/// A link with an open echo socket that has sent one message.
async fn talking(server: &Running) -> (Hub, Welcome) {
    let (mut hub, welcome) = say_hello(server, &hello()).await;
    assert_eq!(hub.attach(1).await, TAB);
    hub.open(TAB, 1, "/echo", &[]).await;
    hub.send(TAB, 1, Payload::Text("one")).await;
    assert_eq!(hub.text(TAB, 1).await, "one");
    (hub, welcome)
}

async fn attach(hub: &mut Hub, last: u64) -> (u64, u64) {
    hub.say(&HubFrame::Attach { tab: TabId(1), last }).await;
    match frame(&hub.next().await) {
        ServerFrame::Attached { next, n_seen, .. } => (next, n_seen),
        other => panic!("not attached: {other:?}"),
    }
}

#[tokio::test]
async fn a_session_goes_on_with_another_link_whichever_shard_that_comes_to() {
    let config = Config { shards: 4, ..Config::default() };
    let server = Running::start(demo::install(Server::builder().config(config))).await;
    let (mut hub, welcome) = talking(&server).await;
    for round in 0..8_u64 {
        drop(hub);
        let (next, again) = say_hello(&server, &claim(&welcome, 9)).await;
        hub = next;
        assert!(again.resumed && again.session == welcome.session, "round {round}");
        // OPENED, and an echo for each round so far; the first of both were OPEN and one message.
        assert_eq!(attach(&mut hub, 2 + round).await, (3 + round, 2 + round));
        hub.skip_to(TAB, 2 + round);
        hub.send(TAB, 1, Payload::Text("more")).await;
        assert_eq!(hub.text(TAB, 1).await, "more");
    }
    let name = "tabmux_sessions_resumed_total{reason=\"reconnect\"}";
    assert!((metric(server.address, name).await - 8.0).abs() < 0.5);
}

#[tokio::test]
async fn what_was_lost_on_the_way_is_sent_again() {
    let server = Running::demo().await;
    let (hub, welcome) = talking(&server).await;
    drop(hub);
    let (mut hub, _) = say_hello(&server, &claim(&welcome, 9)).await;
    assert_eq!(attach(&mut hub, 1).await, (2, 2));
    assert_eq!(hub.text(TAB, 1).await, "one");
}

#[tokio::test]
async fn another_hub_takes_over_and_the_first_is_fenced() {
    let server = Running::demo().await;
    let (mut first, welcome) = talking(&server).await;
    let (_second, taken) = say_hello(&server, &claim(&welcome, 10)).await;
    assert_eq!((taken.resumed, taken.term.0), (true, 2));
    assert!(matches!(frame(&first.next().await), ServerFrame::Fenced { term } if term.0 == 2));
    assert_eq!(first.closed().await.0, 1000);
    let mut late = Hub::dial(server.address).await;
    late.say(&claim(&welcome, 9)).await;
    let bytes = late.next().await;
    let ServerFrame::Refused { reason, term, .. } = frame(&bytes) else {
        panic!("not refused: {:?}", frame(&bytes))
    };
    assert_eq!((reason, term.0), (RefusedReason::Stale, 2));
    assert_eq!(late.closed().await.0, 1002);
}

#[tokio::test]
async fn a_forged_token_is_refused_and_counted_and_reaches_nothing() {
    let server = Running::demo().await;
    let (mut hub, welcome) = talking(&server).await;
    let mut forger = Hub::dial(server.address).await;
    let forged = Welcome { token: Token([0; 16]), ..welcome };
    forger.say(&claim(&forged, 9)).await;
    assert_eq!(forger.closed().await.0, 1008);
    let refused = metric(server.address, "tabmux_claims_refused_total{reason=\"forged\"}").await;
    assert!((refused - 1.0).abs() < 0.5);
    hub.send(TAB, 1, Payload::Text("unharmed")).await;
    assert_eq!(hub.text(TAB, 1).await, "unharmed");
}

#[tokio::test]
async fn a_session_that_has_expired_is_a_new_one() {
    let config = Config { detached_ms: 30, ..Config::default() };
    let server = Running::start(demo::install(Server::builder().config(config))).await;
    let (hub, welcome) = talking(&server).await;
    drop(hub);
    server.stats(|stats| stats.sessions == 0 && stats.expired == 1).await;
    let (_hub, again) = say_hello(&server, &claim(&welcome, 9)).await;
    assert!(!again.resumed && again.session != welcome.session);
}
