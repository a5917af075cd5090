//! History of topics: what a hub gets that was away, positions, and the limit.

use std::sync::Arc;

use tabmux_core::wire::{HubFrame, Payload, Position, ServerFrame};
use tabmux_server::{
    ApiKey, Broker, BrokerError, BrokerFuture, Config, Feed, Kept, Limits, OwnedMessage,
    PublishError, Recalled, Server, TopicHistory, TopicRule,
};

use super::support::{Hub, Response, Running, frame, get, metric};

const KEY: &str = "a key of sixteen";

fn rule(history: TopicHistory) -> TopicRule {
    TopicRule::new("news/*").history(history)
}

fn config() -> Config {
    let config = Config::default().api_key(Some(ApiKey(KEY.to_owned()))).shards(2);
    config.topics(vec![rule(TopicHistory::default())])
}

async fn running(config: Config) -> Running {
    Running::start(Server::builder().config(config)).await
}

async fn publish(server: &Running, topic: &str, text: &str) -> Position {
    server.handle.publish(topic, Payload::Text(text)).await.unwrap()
}

/// Subscribes from a position. Returns whether all since then follows, and where the topic is.
async fn subscribe(hub: &mut Hub, topic: &str, since: Position) -> (bool, Position) {
    hub.say(&HubFrame::Subscribe { request: 1, position: Some(since), topic }).await;
    match frame(&hub.next().await) {
        ServerFrame::Subscribed(it) => (it.recovered, it.position),
        other => panic!("not subscribed: {other:?}"),
    }
}

async fn text(hub: &mut Hub) -> String {
    match frame(&hub.next().await) {
        ServerFrame::Publication { payload: Payload::Text(text), .. } => text.to_owned(),
        other => panic!("no publication of a text: {other:?}"),
    }
}

async fn position(server: &Running, query: &str) -> Response {
    let headers = format!("Authorization: Bearer {KEY}\r\n");
    get(server.address, &format!("/tabmux/api/position{query}"), &headers).await
}

#[tokio::test]
async fn a_hub_that_was_away_gets_what_it_missed_and_then_what_is_published() {
    let server = running(config()).await;
    let first = publish(&server, "news/a", "1").await;
    publish(&server, "news/b", "other").await;
    publish(&server, "news/a", "2").await;
    let last = publish(&server, "news/a", "3").await;
    let mut hub = Hub::welcomed(server.address).await;
    assert_eq!(subscribe(&mut hub, "news/a", first).await, (true, last));
    publish(&server, "news/a", "4").await;
    assert_eq!([text(&mut hub).await, text(&mut hub).await, text(&mut hub).await], ["2", "3", "4"]);
    let stats = server.stats(|stats| stats.topics.recovered == 2).await;
    assert_eq!((stats.topics.recovering, stats.topics.recovery_gaps), (0, 0));
}

#[tokio::test]
async fn more_than_a_part_comes_in_several_parts_and_in_order() {
    let server = running(config()).await;
    let start = server.handle.position("news/a").await.unwrap();
    for number in 0..200 {
        publish(&server, "news/a", &format!("{number} {}", "x".repeat(2_000))).await;
    }
    let mut hub = Hub::welcomed(server.address).await;
    assert!(subscribe(&mut hub, "news/a", start).await.0);
    for number in 0..200 {
        assert!(text(&mut hub).await.starts_with(&format!("{number} ")));
    }
}

#[tokio::test]
async fn what_the_rule_keeps_no_more_is_told_and_the_rest_comes() {
    let history = TopicHistory::default().count(1);
    let server = running(config().topics(vec![rule(history)])).await;
    let first = publish(&server, "news/a", "1").await;
    let second = publish(&server, "news/a", "2").await;
    publish(&server, "news/a", "3").await;
    let mut hub = Hub::welcomed(server.address).await;
    assert_eq!(subscribe(&mut hub, "news/a", first).await, (false, second));
    assert_eq!(text(&mut hub).await, "3");
}

#[tokio::test]
async fn a_topic_without_history_tells_that_something_is_missing() {
    let server = running(config()).await;
    let first = publish(&server, "prices", "1").await;
    let last = publish(&server, "prices", "2").await;
    let mut hub = Hub::welcomed(server.address).await;
    assert_eq!(subscribe(&mut hub, "prices", first).await, (false, last));
}

#[tokio::test]
async fn another_server_has_no_gap_for_a_topic_on_which_nothing_was_published() {
    let (server, other) = (running(config()).await, running(config()).await);
    publish(&server, "news/b", "1").await;
    publish(&other, "news/b", "1").await;
    let mut hub = Hub::welcomed(server.address).await;
    let (_, at) = hub.subscribe(1, "news/a").await;
    let mut hub = Hub::welcomed(other.address).await;
    let (recovered, now) = subscribe(&mut hub, "news/a", at).await;
    assert_eq!((recovered, now.offset), (true, 0));
    assert_ne!(now.epoch, at.epoch);
}

#[tokio::test]
async fn the_position_of_a_topic_is_told_by_the_handle_and_over_http() {
    let server = running(config()).await;
    let nothing = server.handle.position("news/a").await.unwrap();
    assert_eq!(nothing.offset, 0);
    let at = publish(&server, "news/a", "1").await;
    assert_eq!(server.handle.position("news/a").await, Ok(at));
    let response = position(&server, "?topic=news%2Fa").await;
    let Position { epoch, offset } = at;
    let expected = format!(r#"{{"epoch":{epoch},"offset":{offset}}}"#);
    assert_eq!((response.status, response.body), (200, expected));
    let mut hub = Hub::welcomed(server.address).await;
    assert_eq!(subscribe(&mut hub, "news/a", nothing).await, (true, at));
    assert_eq!(text(&mut hub).await, "1");
}

#[tokio::test]
async fn a_position_needs_the_key_and_a_name() {
    let server = running(config()).await;
    let response = get(server.address, "/tabmux/api/position?topic=a", "").await;
    assert_eq!(response.status, 401);
    for query in ["", "?topic=", "?name=a", "?topic=a&more=1"] {
        let response = position(&server, query).await;
        assert_eq!(response.status, 400, "{query}: {}", response.body);
        assert!(response.body.contains(r#""field":"topic""#), "{}", response.body);
    }
    assert_eq!(server.handle.position("").await, Err(PublishError::Name));
}

#[tokio::test]
async fn at_the_limit_of_history_the_topic_that_holds_the_most_pays() {
    let limits = Limits::default().history_bytes(20_000);
    let server = running(config().limits(limits)).await;
    let start = server.handle.position("news/quiet").await.unwrap();
    publish(&server, "news/quiet", "kept").await;
    for _ in 0..50 {
        publish(&server, "news/loud", &"x".repeat(1_000)).await;
    }
    assert!(metric(server.address, "tabmux_history_bytes").await <= 20_000.0);
    let kept = metric(server.address, "tabmux_history_publications").await;
    let evicted = metric(server.address, "tabmux_history_evicted_total").await;
    assert!(evicted > 30.0);
    assert_eq!((kept + evicted) as u64, 51);
    let mut hub = Hub::welcomed(server.address).await;
    assert!(subscribe(&mut hub, "news/quiet", start).await.0);
    assert_eq!(text(&mut hub).await, "kept");
}

/// A broker with a history, which it tells late or not at all.
struct Late(bool);

const AT: Position = Position { epoch: 3, offset: 9 };

impl Broker for Late {
    fn start(&self, _: Feed) {}

    fn join(&self, _: &Arc<str>) -> BrokerFuture<Position> {
        Box::pin(async { Ok(AT) })
    }

    fn leave(&self, _: &str) {}

    fn publish(&self, _: &str, _: Payload<'_>) -> BrokerFuture<Position> {
        Box::pin(async { Ok(AT) })
    }

    fn recall(&self, _: &str, _: Position, _: usize) -> Option<BrokerFuture<Recalled>> {
        let fails = self.0;
        Some(Box::pin(async move {
            tokio::task::yield_now().await;
            if fails {
                return Err(BrokerError::Unavailable("it is away".to_owned()));
            }
            let payload = Arc::new(OwnedMessage::from("9"));
            let publications = vec![Kept { position: AT, payload }];
            Ok(Recalled { missing: None, publications, position: AT })
        }))
    }
}

#[tokio::test]
async fn a_broker_of_the_application_may_tell_its_history_later() {
    let server = Running::start(Server::builder().broker(Late(false))).await;
    let mut hub = Hub::welcomed(server.address).await;
    let since = Position { offset: 8, ..AT };
    assert_eq!(subscribe(&mut hub, "news/a", since).await, (true, AT));
    assert_eq!(text(&mut hub).await, "9");
    let told = server.handle.position("news/a").await;
    assert!(matches!(told, Err(PublishError::Broker(_))), "{told:?}");
}

#[tokio::test]
async fn a_broker_that_cannot_tell_its_history_makes_a_gap() {
    let server = Running::start(Server::builder().broker(Late(true))).await;
    let mut hub = Hub::welcomed(server.address).await;
    let since = Position { offset: 8, ..AT };
    assert_eq!(subscribe(&mut hub, "news/a", since).await, (false, AT));
}

#[test]
fn a_history_of_nothing_is_refused() {
    for history in ["count = 0", "bytes = 0", "age_s = 0"] {
        let text = format!("[[topics]]\npattern = \"*\"\nhistory = {{ {history} }}");
        let config = toml::from_str::<Config>(&text).unwrap();
        let error = Server::builder().config(config).build().err().unwrap().to_string();
        assert!(error.contains("must be at least 1"), "{error}");
    }
}
