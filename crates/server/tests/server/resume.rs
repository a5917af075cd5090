//! Sessions that go on with another link of a running server.

use tabmux_core::wire::{
    Alias, Denied, HubFrame, Payload, RefusedReason, ServerFrame, TabId, Token, Welcome,
};
use tabmux_server::{Config, Limits, Server};

use super::support::{Hub, Running, claim, frame, hello, metric, say_hello_on, soon};

const TAB: Alias = Alias(1);

/// What a HELLO is answered with.
async fn say_hello(server: &Running, hello: &HubFrame<'_>) -> (Hub, Welcome) {
    say_hello_on(Hub::dial(server.address).await, hello).await
}

/// A link with an open echo socket that has sent one message.
async fn talking(server: &Running) -> (Hub, Welcome) {
    talking_on(Hub::dial(server.address).await).await
}

async fn talking_on(hub: Hub) -> (Hub, Welcome) {
    let (mut hub, welcome) = say_hello_on(hub, &hello()).await;
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
    let config = Config::default().shards(4);
    let server =
        Running::start(crate::support::demo::install(Server::builder().config(config))).await;
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
    let ServerFrame::Denied(Denied { code: reason, term, .. }) = frame(&bytes) else {
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
    let config = Config::default().detached_ms(30);
    let server =
        Running::start(crate::support::demo::install(Server::builder().config(config))).await;
    let (hub, welcome) = talking(&server).await;
    drop(hub);
    server.stats(|stats| stats.sessions.held == 0 && stats.sessions.expired == 1).await;
    let (_hub, again) = say_hello(&server, &claim(&welcome, 9)).await;
    assert!(!again.resumed && again.session != welcome.session);
}

/// A server behind a proxy that names users.
async fn with_users(links_per_user: u32) -> Running {
    let limits = Limits::default().links_per_user(links_per_user);
    let trusted_proxies = vec!["127.0.0.1".to_owned()];
    let user_header = Some("X-User".to_owned());
    let config = Config::default()
        .limits(limits)
        .trusted_proxies(trusted_proxies)
        .user_header(user_header)
        .shards(4);
    Running::start(crate::support::demo::install(Server::builder().config(config))).await
}

/// A link of a user; of nobody, if the name is empty.
async fn dial_as(server: &Running, user: &str) -> Hub {
    Hub::dial_with(server.address, &[("x-user", user)]).await.unwrap()
}

#[tokio::test]
async fn another_user_of_the_same_browser_does_not_get_the_session() {
    // Sessions are guarded whether or not links are counted.
    for links_per_user in [100, 0] {
        let server = with_users(links_per_user).await;
        let (mut hub, welcome) = talking_on(dial_as(&server, "ann").await).await;
        // Each comes to the shard with the fewest links, and moves to that of the session.
        let others = ["bob", "", "Ann", "bob", "bob"];
        for (user, hub) in others.into_iter().zip([9, 9, 10, 10, 9]) {
            let mut other = dial_as(&server, user).await;
            other.say(&claim(&welcome, hub)).await;
            let bytes = other.next().await;
            let ServerFrame::Denied(Denied { code: reason, term, .. }) = frame(&bytes) else {
                panic!("not refused: {:?}", frame(&bytes))
            };
            assert_eq!((reason, term.0), (RefusedReason::Denied, 0), "{user}");
            assert_eq!(other.closed().await.0, 1008);
        }
        let name = "tabmux_claims_refused_total{reason=\"foreign\"}";
        assert!((metric(server.address, name).await - 5.0).abs() < 0.5);
        hub.send(TAB, 1, Payload::Text("unharmed")).await;
        assert_eq!(hub.text(TAB, 1).await, "unharmed");
        drop(hub);
        let (_hub, again) = say_hello_on(dial_as(&server, "ann").await, &claim(&welcome, 10)).await;
        assert!(again.resumed);
    }
}

#[tokio::test]
async fn a_user_has_as_many_links_after_a_session_went_on_as_before() {
    let server = with_users(2).await;
    // What is closing may still have its place.
    let dial = async || {
        let dialled = async {
            loop {
                if let Ok(hub) = Hub::dial_with(server.address, &[("x-user", "ann")]).await {
                    return hub;
                }
            }
        };
        soon("a free place", dialled).await
    };
    let (mut hub, welcome) = talking_on(dial().await).await;
    for _ in 0..8 {
        // The new link is there before the old one goes.
        let (next, again) = say_hello_on(dial().await, &claim(&welcome, 9)).await;
        assert!(again.resumed);
        assert_eq!(hub.closed().await.0, 1000);
        hub = next;
    }
    drop(hub);
    server.stats(|stats| (stats.links.open, stats.sessions.detached) == (0, 1)).await;
    // Without a link the session takes none of its user's places.
    let _both = (dial().await, dial().await);
    assert_eq!(Hub::refused(server.address, &[("x-user", "ann")]).await.0, 429);
    let _bob = dial_as(&server, "bob").await;
}
