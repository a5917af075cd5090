//! How sockets end, and what becomes of their upstreams.

use tabmux_core::wire::{HubFrame, Payload, ServerFrame, TabId};
use tabmux_server::{Config, Parked, Server};
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::world::{Backend, TAB, closed, connected, opened, route, tab};
use crate::support::{Hub, Running, claim, frame, hello, say_hello_on, soon};

#[tokio::test]
async fn the_codes_and_reasons_of_an_upstream_reach_the_tab() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    for (code, reason) in [(1000, "done"), (1001, ""), (1012, "restart"), (3000, "ä"), (4999, "x")]
    {
        let (mut hub, mut conn) = connected(&server, &backend).await;
        conn.send("last").await;
        conn.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await;
        assert_eq!(hub.text(TAB, 1).await, "last");
        assert_eq!(closed(&mut hub).await, (code, reason.to_owned()));
        assert_eq!(conn.closed().await, (code, reason.to_owned()), "the answer");
    }
    let (mut hub, mut conn) = connected(&server, &backend).await;
    conn.close(None).await;
    assert_eq!(closed(&mut hub).await, (1005, String::new()));
    let (mut hub, conn) = connected(&server, &backend).await;
    drop(conn);
    assert_eq!(closed(&mut hub).await, (1006, String::new()));
}

#[tokio::test]
async fn the_codes_and_reasons_of_a_tab_reach_the_upstream_after_what_it_sent() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    for (code, reason) in [(1000, "done"), (1005, ""), (3000, "ä"), (4999, "x")] {
        let (mut hub, mut conn) = connected(&server, &backend).await;
        hub.send(TAB, 1, Payload::Text("last")).await;
        hub.close(TAB, 1, code, reason).await;
        assert_eq!(conn.text().await, "last");
        assert_eq!(conn.closed().await, (code, reason.to_owned()));
    }
}

#[tokio::test]
async fn a_tab_that_goes_is_going_away_for_the_upstream_as_with_browsers() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let (mut hub, mut conn) = connected(&server, &backend).await;
    hub.say(&HubFrame::Gone { tab: TabId(1) }).await;
    assert_eq!(conn.closed().await.0, 1001);
    server.stats(|stats| stats.sockets.open == 0).await;
}

#[tokio::test]
async fn a_tab_that_goes_while_its_upstream_is_slow_ends_the_connection() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let mut hub = tab(&server).await;
    hub.ask(TAB, 1, "/chat/", &[]).await;
    let mut stream = backend.stream().await;
    hub.say(&HubFrame::Gone { tab: TabId(1) }).await;
    let mut rest = Vec::new();
    // It would wait for 30 s otherwise.
    let _ = soon("the end of the connection", stream.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn a_page_in_the_cache_keeps_its_upstream_unless_the_route_says_otherwise() {
    let backend = Backend::start().await;
    for parked in [Parked::Keep, Parked::Millis(60_000)] {
        let server = backend.behind_route(|route| route.parked(parked)).await;
        let (mut hub, mut conn) = connected(&server, &backend).await;
        hub.say(&HubFrame::Park { tab: TabId(1) }).await;
        server.stats(|stats| stats.tabs.parked == 1).await;
        conn.send("meanwhile").await;
        hub.say(&HubFrame::Attach { tab: TabId(1), last: 1 }).await;
        assert!(matches!(frame(&hub.next().await), ServerFrame::Attached { .. }));
        assert_eq!(hub.text(TAB, 1).await, "meanwhile");
    }
    for parked in [Parked::Close, Parked::Millis(20)] {
        let server = backend.behind_route(|route| route.parked(parked)).await;
        let (mut hub, mut conn) = connected(&server, &backend).await;
        hub.say(&HubFrame::Park { tab: TabId(1) }).await;
        assert_eq!(conn.closed().await.0, 1001);
        hub.say(&HubFrame::Attach { tab: TabId(1), last: 1 }).await;
        assert!(matches!(frame(&hub.next().await), ServerFrame::Attached { .. }));
        assert_eq!(closed(&mut hub).await.0, 1006);
    }
}

#[tokio::test]
async fn an_upstream_stays_when_the_link_breaks_and_when_another_hub_takes_over() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let (mut hub, welcome) = say_hello_on(Hub::dial(server.address).await, &hello()).await;
    hub.attach(1).await;
    hub.ask(TAB, 1, "/chat/", &[]).await;
    let mut conn = backend.conn().await;
    opened(&mut hub).await;
    for (heard, hub_id) in (1..).zip([9, 10]) {
        drop(hub);
        conn.send("while nobody was there").await;
        let next = Hub::dial(server.address).await;
        (hub, _) = say_hello_on(next, &claim(&welcome, hub_id)).await;
        hub.say(&HubFrame::Attach { tab: TabId(1), last: heard }).await;
        let bytes = hub.next().await;
        let ServerFrame::Attached { n_seen, .. } = frame(&bytes) else { panic!("{bytes:?}") };
        hub.skip_to(TAB, n_seen);
        assert_eq!(hub.text(TAB, 1).await, "while nobody was there");
        hub.send(TAB, 1, Payload::Text("back")).await;
        assert_eq!(conn.text().await, "back");
    }
}

#[tokio::test]
async fn a_server_that_ends_closes_its_upstreams_cleanly() {
    let backend = Backend::start().await;
    let config = Config::default().drain_ms(100);
    let mut server = backend
        .behind_server(|builder: tabmux_server::Builder| builder.config(config), |it| it)
        .await;
    let (_hub, mut conn) = connected(&server, &backend).await;
    server.stop();
    assert_eq!(conn.closed().await.0, 1001);
    server.ended().await.unwrap();
}

#[tokio::test]
async fn pings_of_an_upstream_are_answered() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let backend = Backend::start().await;
    let server = Running::start(Server::builder().route(route("/chat", backend.url()))).await;
    let (_hub, mut conn) = connected(&server, &backend).await;
    conn.ws.send(Message::Ping("x".into())).await.unwrap();
    let answer = soon("a pong", conn.ws.next()).await.unwrap().unwrap();
    assert_eq!(answer, Message::Pong("x".into()));
}
