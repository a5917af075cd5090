//! The demo's handlers over a link.

use serde_json::{Value, json};
use tabmux_core::wire::{Alias, Payload, ServerFrame, message_cost};

use super::support::{Hub, Running, frame};

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

async fn ask(hub: &mut Hub, tab: Alias, text: &str) -> Value {
    hub.send(tab, 1, Payload::Text(text)).await;
    value(&hub.text(tab, 1).await)
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
async fn a_long_notification_is_told_to_its_tab_only() {
    let server = Running::demo().await;
    let mut hub = Hub::with_socket(server.address, "/demo/notify").await;
    let answer = ask(&mut hub, Alias(1), &"é".repeat(201)).await;
    assert_eq!(answer["kind"], "error");
    hub.send(Alias(1), 1, Payload::Text(&"é".repeat(200))).await;
    assert!(matches!(frame(&hub.next().await), ServerFrame::Message { .. }));
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
    // The sockets of the session that waits for its browser are there.
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
    let mut hub = Hub::with_socket(server.address, "/echo").await;
    let text = "x".repeat(200 << 10);
    // As a page does: it sends while it has credit, and gets more when its answers go out.
    let (mut sent, mut spent) = (0, 0);
    for _ in 0..8 {
        while sent < 8 && spent < (256 << 10) + hub.given.get(&(Alias(1), 1)).unwrap_or(&0) {
            hub.send(Alias(1), 1, Payload::Text(&text)).await;
            (sent, spent) = (sent + 1, spent + message_cost(text.len()));
        }
        assert_eq!(hub.text(Alias(1), 1).await.len(), text.len());
    }
    assert_eq!(server.handle.stats().sockets.over_credit, 0);
}
