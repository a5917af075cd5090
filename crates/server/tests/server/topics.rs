//! Topics: publishing over HTTP and from code, to hubs on several shards, and to those that do not
//! read.

use tabmux_core::wire::{HubFrame, Payload, Position, ServerFrame, UnsubscribedReason};
use tabmux_server::{
    ApiKey, Config, Ctx, Limits, Message, PublishError, Server, Slow, SocketHandler, TopicRule,
};

use super::support::{Hub, Response, Running, frame, post, soon};

const KEY: &str = "a key of sixteen";

fn config() -> Config {
    Config::default().api_key(Some(ApiKey(KEY.to_owned()))).shards(3)
}

async fn running() -> Running {
    Running::start(Server::builder().config(config())).await
}

async fn publish(server: &Running, body: &str) -> Response {
    let headers = format!("Authorization: Bearer {KEY}\r\n");
    post(server.address, "/tabmux/api/publish", &headers, body).await
}

/// The text of the next publication, the offset of it and of the one before.
async fn publication(hub: &mut Hub) -> (String, u64, u64) {
    match frame(&hub.next().await) {
        ServerFrame::Publication { payload: Payload::Text(text), position, previous, .. } => {
            (text.to_owned(), position.offset, previous)
        }
        other => panic!("no publication of a text: {other:?}"),
    }
}

#[tokio::test]
async fn a_publication_over_http_reaches_the_subscribers_of_all_shards() {
    let server = running().await;
    let mut hubs = Vec::new();
    for _ in 0..6 {
        let mut hub = Hub::welcomed(server.address).await;
        hub.subscribe(1, "prices").await;
        hubs.push(hub);
    }
    let mut other = Hub::welcomed(server.address).await;
    other.subscribe(1, "news").await;
    let response = publish(&server, r#"{"topic":"prices","text":"42"}"#).await;
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    let position: serde_json::Value = serde_json::from_str(&response.body).unwrap();
    for hub in &mut hubs {
        assert_eq!(publication(hub).await, ("42".to_owned(), 1, 0));
    }
    assert_eq!(position["offset"], 1);
    other.quiet().await;
    let stats = server.stats(|stats| stats.topics.deliveries == 6).await;
    assert_eq!(
        (stats.topics.subscriptions, stats.topics.subscribed),
        (7, 4),
        "each shard counts its topics"
    );
}

#[tokio::test]
async fn a_batch_is_published_in_order() {
    let server = running().await;
    let mut hub = Hub::welcomed(server.address).await;
    let (topic, at) = hub.subscribe(1, "a").await;
    let body =
        r#"[{"topic":"a","text":"1"},{"topic":"b","text":"2"},{"topic":"a","base64":"Kg=="}]"#;
    let response = publish(&server, body).await;
    let epoch = at.epoch;
    let expected = (1..=3).map(|offset| format!(r#"{{"epoch":{epoch},"offset":{offset}}}"#));
    assert_eq!(response.body, format!("[{}]", expected.collect::<Vec<_>>().join(",")));
    assert_eq!(publication(&mut hub).await, ("1".to_owned(), 1, 0));
    let (position, payload) = (Position { epoch, offset: 3 }, Payload::Binary(b"*"));
    let expected = ServerFrame::Publication { topic, position, previous: 1, payload };
    assert_eq!(frame(&hub.next().await), expected);
}

#[tokio::test]
async fn who_has_no_key_cannot_publish() {
    let server = running().await;
    let body = r#"{"topic":"prices","text":"42"}"#;
    for headers in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic a\r\n"] {
        let response = post(server.address, "/tabmux/api/publish", headers, body).await;
        assert_eq!((response.status, response.header("www-authenticate")), (401, Some("Bearer")));
        assert!(response.body.contains("Authorization: Bearer <API key>"), "{}", response.body);
    }
    let server = Running::start(Server::builder()).await;
    let response = publish(&server, body).await;
    assert_eq!(response.status, 403);
    assert!(response.body.contains("set api_key"), "{}", response.body);
}

#[tokio::test]
async fn a_wrong_request_is_told_what_is_wrong_and_publishes_nothing() {
    let server = running().await;
    let mut hub = Hub::welcomed(server.address).await;
    hub.subscribe(1, "a").await;
    let long = "x".repeat(257);
    let large = "x".repeat(1 << 20);
    for (body, status, text) in [
        ("", 400, "the body is no JSON"),
        ("{\"topic\":\"a\"}", 400, "either text or base64"),
        ("{\"topic\":\"a\",\"text\":\"\",\"base64\":\"\"}", 400, "either text or base64"),
        ("{\"topic\":\"a\",\"base64\":\"*\"}", 400, "base64 is wrong"),
        ("{\"topic\":\"\",\"text\":\"\"}", 400, "1 to 256 bytes"),
        (&format!("{{\"topic\":\"{long}\",\"text\":\"\"}}"), 400, "1 to 256 bytes"),
        (&format!("{{\"topic\":\"a\",\"text\":\"{large}\"}}"), 413, "limits.message_bytes"),
        ("[{\"topic\":\"a\",\"text\":\"\"},{\"topic\":\"a\"}]", 400, "\"index\":1"),
    ] {
        let response = publish(&server, body).await;
        assert_eq!(response.status, status, "{}", response.body);
        assert!(response.body.contains(text), "{}", response.body);
    }
    hub.quiet().await;
}

/// Publishes what it hears.
struct Publisher;

impl SocketHandler for Publisher {
    fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
        ctx.publish("prices", message).unwrap();
    }
}

#[tokio::test]
async fn a_handler_publishes_too() {
    let builder = Server::builder().config(config()).socket("/publish", || Publisher);
    let server = Running::start(builder).await;
    let mut hub = Hub::with_socket(server.address, "/publish").await;
    hub.subscribe(1, "prices").await;
    for (text, offset) in [("1", 1), ("2", 2)] {
        hub.send(tabmux_core::wire::Alias(1), 1, Payload::Text(text)).await;
        assert_eq!(publication(&mut hub).await, (text.to_owned(), offset, offset - 1));
    }
}

/// Publishes so many messages of so many bytes in one call.
struct Burst {
    messages: u64,
    bytes: usize,
}

impl SocketHandler for Burst {
    fn message(&mut self, ctx: &mut Ctx<'_>, _: Message<'_>) {
        let text = "x".repeat(self.bytes);
        for _ in 0..self.messages {
            ctx.publish("prices", Payload::Text(&text)).unwrap();
        }
    }
}

/// A hub that reads hears all of a burst, in order, and its subscription goes on.
async fn a_burst_arrives(messages: u64, bytes: usize, limits: Limits) {
    let factory = move || Burst { messages, bytes };
    let config = config().limits(limits);
    let builder = Server::builder().config(config).socket("/burst", factory);
    let server = Running::start(builder).await;
    let mut hub = Hub::with_socket(server.address, "/burst").await;
    hub.subscribe(1, "prices").await;
    hub.send(tabmux_core::wire::Alias(1), 1, Payload::Text("now")).await;
    for offset in 1..=messages {
        assert_eq!(publication(&mut hub).await.1, offset);
    }
    let stats = server.stats(|stats| stats.memory.queued_bytes == 0).await;
    assert_eq!((stats.topics.subscriptions, stats.topics.slow_subscriptions), (1, 0));
}

#[tokio::test]
async fn a_burst_of_many_small_publications_is_no_slow_reader() {
    a_burst_arrives(3_000, 200, Limits::default()).await;
}

#[tokio::test]
async fn a_burst_of_a_mebibyte_is_no_slow_reader() {
    a_burst_arrives(64, 16 << 10, Limits::default()).await;
}

#[tokio::test]
async fn a_shard_writes_before_it_takes_a_reader_for_slow() {
    // More than the window of 64 KiB, and the kernel takes it without the reader's help.
    a_burst_arrives(100, 1 << 10, Limits::default().backlog_bytes(0)).await;
}

#[tokio::test]
async fn publishing_to_a_server_that_is_gone_says_so() {
    let mut server = running().await;
    let handle = server.handle.clone();
    server.stop();
    server.ended().await.unwrap();
    let gone = async {
        while handle.publish("a", Payload::Text("")).await != Err(PublishError::Closed) {
            tokio::task::yield_now().await;
        }
    };
    soon("the server to be gone", gone).await;
}

#[tokio::test]
async fn at_the_limits_of_topics_and_subscriptions_a_hub_is_refused_with_a_reason() {
    let limits = Limits::default().subscriptions(2).topics(3);
    let server = Running::start(Server::builder().config(config().limits(limits))).await;
    let refused = async |hub: &mut Hub, topic| {
        hub.say(&HubFrame::Subscribe { request: 9, position: None, topic }).await;
        match frame(&hub.next().await) {
            ServerFrame::Unsubscribed(it) if it.name == topic => {
                assert_eq!(it.reason, UnsubscribedReason::Limit);
                it.retry_ms
            }
            other => panic!("not refused: {other:?}"),
        }
    };
    let [mut first, mut second] =
        [Hub::welcomed(server.address).await, Hub::welcomed(server.address).await];
    first.subscribe(1, "a").await;
    first.subscribe(2, "b").await;
    assert_eq!(refused(&mut first, "c").await, None);
    second.subscribe(1, "c").await;
    assert_eq!(refused(&mut second, "d").await, Some(60_000));
    let stats = server.stats(|stats| stats.topics.subscriptions_refused == 2).await;
    assert_eq!(stats.topics.subscriptions, 3);
    first.say(&HubFrame::Unsubscribe { topic: "a" }).await;
    first.quiet().await;
    second.subscribe(2, "d").await;
}

/// Publishes to a hub that does not read until `stop`, while another one reads all; the number
/// of publications.
async fn flood(server: &Running, quick: &mut Hub, stop: impl Fn() -> bool) -> u64 {
    let chunk = "x".repeat(32 << 10);
    for number in 1.. {
        server.handle.publish("prices", Payload::Text(&chunk)).await.unwrap();
        assert_eq!(publication(quick).await.1, number);
        if stop() {
            return number;
        }
    }
    unreachable!("it stops in the end")
}

#[tokio::test]
async fn who_does_not_read_loses_the_subscription_and_not_the_link() {
    let server = running().await;
    let mut hubs = [Hub::welcomed(server.address).await, Hub::welcomed(server.address).await];
    for hub in &mut hubs {
        hub.subscribe(7, "prices").await;
    }
    let [quick, slow] = &mut hubs;
    let published =
        flood(&server, quick, || server.handle.stats().topics.slow_subscriptions > 0).await;
    // The kernel's buffers, the window, and the backlog of 1 MiB.
    assert!(published < 1_000, "{published} of 32 KiB");
    let mut got = 0;
    let ended = loop {
        let bytes = slow.next().await;
        match frame(&bytes) {
            ServerFrame::Publication { position, .. } => {
                got += 1;
                assert_eq!(position.offset, got, "in order, nothing left out");
            }
            ServerFrame::Unsubscribed(it) => break (it.request, it.reason, it.retry_ms),
            other => panic!("unexpected: {other:?}"),
        }
    };
    assert_eq!(ended, (7, UnsubscribedReason::Slow, Some(1_000)));
    assert!(got < published);
    let (_, at) = slow.subscribe(8, "prices").await;
    assert_eq!(at.offset, published);
    server.handle.publish("prices", Payload::Text("again")).await.unwrap();
    assert_eq!(publication(slow).await.2, published);
    assert_eq!(server.stats(|stats| stats.memory.queued_bytes == 0).await.links.open, 2);
}

#[tokio::test]
async fn a_state_topic_keeps_the_latest_for_who_does_not_read() {
    let topics = vec![TopicRule::new("pri*").slow(Slow::KeepLatest)];
    let server = Running::start(Server::builder().config(config().topics(topics))).await;
    let mut hubs = [Hub::welcomed(server.address).await, Hub::welcomed(server.address).await];
    for hub in &mut hubs {
        hub.subscribe(7, "prices").await;
    }
    let [quick, slow] = &mut hubs;
    let published =
        flood(&server, quick, || server.handle.stats().topics.dropped_replaced > 9).await;
    let mut offsets = vec![publication(slow).await.1];
    while offsets.last() != Some(&published) {
        offsets.push(publication(slow).await.1);
    }
    assert!(offsets.is_sorted() && (offsets.len() as u64) < published);
    let stats = server.stats(|stats| stats.memory.queued_bytes == 0).await;
    assert_eq!(offsets.len() as u64 + stats.topics.dropped_replaced, published);
}
