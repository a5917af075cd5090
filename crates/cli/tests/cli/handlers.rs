//! The demo's handlers over a link.

use futures_util::FutureExt;
use serde_json::{Value, json};
use tabmux_client::{BrowserEvent, Client, OwnedMessage, Socket};
use tabmux_core::wire::{Alias, Payload, ServerFrame};

use super::support::{Hub, Running, frame, soon};

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

async fn ask(hub: &mut Hub, tab: Alias, text: &str) -> Value {
    hub.send(tab, 1, Payload::Text(text)).await;
    value(&hub.text(tab, 1).await)
}

/// Returns a client, which is a browser with one tab.
fn client(server: &Running) -> Client {
    Client::connect(format!("ws://{}", server.address)).unwrap()
}

/// Returns the next message, which must be a text with JSON.
async fn heard(socket: &mut Socket) -> Value {
    match soon("a message", socket.next()).await {
        Some(OwnedMessage::Text(text)) => value(&text),
        other => panic!("no text: {other:?}"),
    }
}

#[tokio::test]
async fn the_game_answers_only_the_tab_that_asked() {
    let server = Running::demo().await;
    let mut hub = Hub::welcomed(server.address).await;
    let (first, second) = (hub.attach(1).await, hub.attach(2).await);
    hub.open(first, 1, "/demo/game", &[]).await;
    hub.open(second, 1, "/demo/game", &[]).await;
    let answer = ask(&mut hub, second, "guess 101").await;
    assert_eq!(answer["answer"], "error");
    let (mut low, mut high) = (1, 100);
    loop {
        let guess = u32::midpoint(low, high);
        let answer = ask(&mut hub, first, &format!("guess {guess}")).await;
        match answer["answer"].as_str() {
            Some("higher") => low = guess + 1,
            Some("lower") => high = guess - 1,
            Some("right") => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ask(&mut hub, second, "new").await, json!({ "answer": "new" }));
    hub.quiet().await;
}

#[tokio::test]
async fn a_notification_names_the_tab_it_came_from() {
    let server = Running::demo().await;
    let mut hub = Hub::with_socket(server.address, "/demo/notify").await;
    hub.attach(2).await;
    hub.send(Alias(1), 1, Payload::Text("dinner")).await;
    let bytes = hub.next().await;
    let ServerFrame::Message { payload: Payload::Text(text) } = frame(&bytes) else {
        panic!("no broadcast: {bytes:?}")
    };
    let from = "0000000000000001";
    assert_eq!(value(text), json!({ "kind": "notification", "text": "dinner", "from": from }));
    hub.quiet().await;
}

#[tokio::test]
async fn a_notification_that_is_too_long_is_an_error_for_its_tab_only() {
    let server = Running::demo().await;
    let (one, other) = (client(&server), client(&server));
    let (mut here, mut there) = (one.broadcasts(), other.broadcasts());
    let mut socket = soon("a socket", one.open("/demo/notify", &[])).await.unwrap();
    let _waits = soon("a socket", other.open("/demo/notify", &[])).await.unwrap();
    socket.send("é".repeat(201)).await.unwrap();
    assert_eq!(heard(&mut socket).await["kind"], "error");
    socket.send("é".repeat(200)).await.unwrap();
    // The message belongs to this browser alone.
    assert!(matches!(soon("a broadcast", here.next()).await, Some(BrowserEvent::Message(_))));
    assert!(there.next().now_or_never().is_none());
}

#[tokio::test]
async fn the_numbers_are_pushed_when_they_change() {
    let server = Running::demo().await;
    let mut hub = Hub::with_socket(server.address, "/demo/stats").await;
    let first = value(&hub.text(Alias(1), 1).await);
    assert_eq!(first, json!({ "links": 1, "tabs": 1, "parked": 0, "sockets": 1 }));
    let mut other = Hub::welcomed(server.address).await;
    other.attach(1).await;
    let expected = json!({ "links": 2, "tabs": 2, "parked": 0, "sockets": 1 });
    while value(&hub.text(Alias(1), 1).await) != expected {}
    drop(other);
    while value(&hub.text(Alias(1), 1).await) != first {}
}

#[tokio::test]
async fn the_numbers_do_not_count_tabs_whose_browser_is_gone() {
    let server = Running::demo().await;
    drop(Hub::with_socket(server.address, "/echo").await);
    server.stats(|stats| (stats.links.open, stats.sessions.detached) == (0, 1)).await;
    let mut hub = Hub::with_socket(server.address, "/demo/stats").await;
    let numbers = value(&hub.text(Alias(1), 1).await);
    // The sockets of the session that waits for its browser are still counted.
    assert_eq!(numbers, json!({ "links": 1, "tabs": 1, "parked": 0, "sockets": 2 }));
}

#[tokio::test]
async fn the_numbers_go_on_after_a_time_without_watchers() {
    let server = Running::demo().await;
    for _ in 0..3 {
        let mut hub = Hub::with_socket(server.address, "/demo/stats").await;
        hub.text(Alias(1), 1).await;
        hub.say(&tabmux_core::wire::HubFrame::Attach { tab: tabmux_core::wire::TabId(2), last: 0 })
            .await;
        loop {
            if let ServerFrame::Data { payload: Payload::Text(text), .. } = frame(&hub.next().await)
                && value(text)["tabs"] == 2
            {
                break;
            }
        }
        hub.leave(&[1, 2]).await;
        server.stats(|stats| stats.links.open == 0).await;
    }
}

#[tokio::test]
async fn an_echo_of_more_than_a_lane_waits_for_the_browser() {
    let server = Running::demo().await;
    let client = client(&server);
    let mut socket = soon("a socket", client.open("/echo", &[])).await.unwrap();
    let text = "x".repeat(200 << 10);
    // The test acts as a page does: it sends while it has credit, and gets more when its answers
    // are sent.
    for _ in 0..2 {
        soon("room", socket.send(text.as_str())).await.unwrap();
    }
    for number in 0..8 {
        assert_eq!(soon("a message", socket.next()).await, Some(OwnedMessage::Text(text.clone())));
        if number < 6 {
            soon("room", socket.send(text.as_str())).await.unwrap();
        }
    }
    assert_eq!(server.handle.stats().sockets.over_credit, 0);
}
