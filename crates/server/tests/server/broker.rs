//! Brokers that answer late, and what waits for room.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tabmux_core::wire::{Alias, HubFrame, Payload, Position, ServerFrame, UnsubscribedReason};
use tabmux_server::{
    Broker, BrokerError, BrokerFuture, Config, Ctx, Delivery, Feed, Limits, Message, PublishError,
    Server, SocketHandler,
};
use tokio::sync::{mpsc, oneshot};

use super::support::{Hub, Running, frame, metric, soon};

fn at(offset: u64) -> Position {
    Position { epoch: 5, offset }
}

/// What a test does with a broker's question.
enum Asked {
    Join(String, oneshot::Sender<Result<Position, BrokerError>>),
    Leave(String),
    Publish(String, oneshot::Sender<Result<Position, BrokerError>>),
}

/// A broker that does what the test says, when it says it.
struct Scripted {
    feed: Arc<Mutex<Option<Feed>>>,
    asked: mpsc::UnboundedSender<Asked>,
}

fn answered(answer: oneshot::Receiver<Result<Position, BrokerError>>) -> BrokerFuture<Position> {
    Box::pin(async move { answer.await.unwrap() })
}

impl Broker for Scripted {
    fn start(&self, feed: Feed) {
        *self.feed.lock().unwrap() = Some(feed);
    }

    fn join(&self, topic: &Arc<str>) -> BrokerFuture<Position> {
        let (sender, answer) = oneshot::channel();
        self.asked.send(Asked::Join(topic.to_string(), sender)).unwrap();
        answered(answer)
    }

    fn leave(&self, topic: &str) {
        self.asked.send(Asked::Leave(topic.to_owned())).unwrap();
    }

    fn publish(&self, topic: &str, _: Payload<'_>) -> BrokerFuture<Position> {
        let (sender, answer) = oneshot::channel();
        self.asked.send(Asked::Publish(topic.to_owned(), sender)).unwrap();
        answered(answer)
    }
}

struct Script {
    server: Running,
    feed: Feed,
    asked: mpsc::UnboundedReceiver<Asked>,
}

impl Script {
    async fn start() -> Self {
        Self::with(Config::default().shards(1)).await
    }

    async fn with(config: Config) -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let feed = Arc::new(Mutex::new(None));
        let broker = Scripted { feed: Arc::clone(&feed), asked: sender };
        let builder = Server::builder().config(config).broker(broker);
        let builder = builder.socket("/publish", || Publisher);
        let server = Running::start(builder.socket("/hundred", Hundred::default)).await;
        let feed = feed.lock().unwrap().clone().unwrap();
        Self { server, feed, asked }
    }

    async fn next(&mut self) -> Asked {
        soon("a question to the broker", self.asked.recv()).await.unwrap()
    }

    async fn join(&mut self) -> oneshot::Sender<Result<Position, BrokerError>> {
        match self.next().await {
            Asked::Join(topic, answer) => {
                assert_eq!(topic, "prices");
                answer
            }
            Asked::Leave(_) | Asked::Publish(..) => panic!("another question"),
        }
    }

    fn deliver(&self, offset: u64, text: &str) {
        let (position, previous) = (at(offset), at(offset - 1));
        let message = Payload::Text(text);
        self.feed.deliver(&Delivery::new("prices", position, previous, message));
    }
}

/// Publishes what it hears.
struct Publisher;

impl SocketHandler for Publisher {
    fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
        ctx.publish("prices", message).unwrap();
        ctx.send_text("published").unwrap();
    }
}

async fn wish(hub: &mut Hub, request: u64) {
    wish_for(hub, request, "prices").await;
}

async fn wish_for(hub: &mut Hub, request: u64, topic: &str) {
    hub.say(&HubFrame::Subscribe { request, position: None, topic }).await;
}

/// The reason and the time to try again with which a subscription is refused.
async fn refused(hub: &mut Hub) -> (String, Option<u64>) {
    match frame(&hub.next().await) {
        ServerFrame::Unsubscribed(it) => {
            assert_eq!(it.reason, UnsubscribedReason::Limit);
            (it.message.to_owned(), it.retry_ms)
        }
        other => panic!("not refused: {other:?}"),
    }
}

async fn broker_failures(server: &Running, reason: &str) -> f64 {
    metric(server.address, &format!("tabmux_broker_failures_total{{reason=\"{reason}\"}}")).await
}

async fn subscribed(hub: &mut Hub) -> Position {
    match frame(&hub.next().await) {
        ServerFrame::Subscribed(it) => it.position,
        other => panic!("not subscribed: {other:?}"),
    }
}

async fn hears(hub: &mut Hub, offset: u64, text: &str) {
    let bytes = hub.next().await;
    match frame(&bytes) {
        ServerFrame::Publication { position, previous, payload, .. } => {
            assert_eq!((position, previous), (at(offset), offset - 1));
            assert_eq!(payload, Payload::Text(text));
        }
        other => panic!("no publication: {other:?}"),
    }
}

#[tokio::test]
async fn a_topic_is_subscribed_when_the_broker_has_answered_and_misses_nothing_meanwhile() {
    let mut script = Script::start().await;
    let mut hub = Hub::welcomed(script.server.address).await;
    wish(&mut hub, 1).await;
    let answer = script.join().await;
    hub.quiet().await;
    script.deliver(7, "counted in the answer");
    script.deliver(8, "after it");
    answer.send(Ok(at(7))).unwrap();
    assert_eq!(subscribed(&mut hub).await, at(7));
    hears(&mut hub, 8, "after it").await;
    script.deliver(9, "later");
    hears(&mut hub, 9, "later").await;
    // Another one is answered by what is known here.
    let mut other = Hub::welcomed(script.server.address).await;
    wish(&mut other, 1).await;
    assert_eq!(subscribed(&mut other).await, at(9));
}

#[tokio::test]
async fn a_broker_that_is_not_there_ends_the_subscription_with_a_time_to_try_again() {
    let mut script = Script::start().await;
    let mut hub = Hub::welcomed(script.server.address).await;
    wish(&mut hub, 1).await;
    let away = BrokerError::Unavailable("on holiday".to_owned());
    script.join().await.send(Err(away)).unwrap();
    let (message, retry) = refused(&mut hub).await;
    assert!(message.contains("on holiday") && retry == Some(5_000), "{message}");
    assert_eq!(broker_failures(&script.server, "refused").await, 1.0);
}

#[tokio::test]
async fn a_broker_that_never_joins_a_topic_holds_it_up_for_its_time_and_no_longer() {
    let mut script = Script::with(Config::default().shards(1).broker_timeout_ms(50)).await;
    let mut hub = Hub::welcomed(script.server.address).await;
    wish(&mut hub, 1).await;
    let _never = script.join().await;
    let (message, retry) = refused(&mut hub).await;
    assert!(message.contains("within 50ms") && retry == Some(5_000), "{message}");
    assert_eq!(broker_failures(&script.server, "timeout").await, 1.0);
    // It may have joined the topic all the same.
    assert!(matches!(script.next().await, Asked::Leave(topic) if topic == "prices"));
    wish(&mut hub, 2).await;
    script.join().await.send(Ok(at(3))).unwrap();
    assert_eq!(subscribed(&mut hub).await, at(3));
    script.deliver(4, "news");
    hears(&mut hub, 4, "news").await;
}

#[tokio::test]
async fn a_broker_that_never_takes_a_publication_holds_nobody_up() {
    let mut script = Script::with(narrow().broker_timeout_ms(50)).await;
    let handle = script.server.handle.clone();
    let publishing = handle.publish("prices", Payload::Text("1"));
    match soon("the answer", publishing).await {
        Err(PublishError::Broker(why)) => assert!(why.contains("within 50ms"), "{why}"),
        other => panic!("{other:?}"),
    }
    // A handler is told that there is no room, and then that there is.
    let mut hub = Hub::with_socket(script.server.address, "/hundred").await;
    hub.send(Alias(1), 1, Payload::Text("go")).await;
    assert_eq!(hub.text(Alias(1), 1).await, "waited");
    while !matches!(script.next().await, Asked::Publish(..)) {}
    assert!(broker_failures(&script.server, "timeout").await > 1.0);
}

#[tokio::test]
async fn the_limit_of_topics_binds_every_broker() {
    let limits = Limits::default().topics(2);
    let mut script = Script::with(Config::default().shards(1).limits(limits)).await;
    let mut hub = Hub::welcomed(script.server.address).await;
    for (request, topic) in [(1, "a"), (2, "b")] {
        wish_for(&mut hub, request, topic).await;
    }
    let Asked::Join(_, first) = script.next().await else { panic!("another question") };
    let Asked::Join(_, second) = script.next().await else { panic!("another question") };
    // One that is not yet joined counts.
    wish_for(&mut hub, 3, "c").await;
    let (message, retry) = refused(&mut hub).await;
    assert!(message.contains("limit of topics") && retry == Some(60_000), "{message}");
    first.send(Ok(at(1))).unwrap();
    second.send(Ok(at(1))).unwrap();
    for _ in 0..2 {
        subscribed(&mut hub).await;
    }
    wish_for(&mut hub, 4, "c").await;
    refused(&mut hub).await;
    hub.say(&HubFrame::Unsubscribe { topic: "a" }).await;
    assert!(matches!(script.next().await, Asked::Leave(topic) if topic == "a"));
    wish_for(&mut hub, 5, "c").await;
    assert!(matches!(script.next().await, Asked::Join(topic, _) if topic == "c"));
}

/// When a broker panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// In the call.
    AtOnce,
    /// When its future is polled again.
    Later,
    /// When its future, which is never done, is dropped.
    Dropped,
}

/// A broker whose methods panic.
struct Panicking(Moment);

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a future that panics when it is dropped");
    }
}

impl Panicking {
    fn panics(&self) -> BrokerFuture<Position> {
        assert_ne!(self.0, Moment::AtOnce, "a broker that panics at once");
        let moment = self.0;
        Box::pin(async move {
            tokio::task::yield_now().await;
            assert_ne!(moment, Moment::Later, "a broker that panics later");
            let _bomb = Bomb;
            std::future::pending().await
        })
    }
}

impl Broker for Panicking {
    fn start(&self, _: Feed) {}

    fn join(&self, _: &Arc<str>) -> BrokerFuture<Position> {
        self.panics()
    }

    fn leave(&self, _: &str) {
        panic!("a broker that panics")
    }

    fn publish(&self, _: &str, _: Payload<'_>) -> BrokerFuture<Position> {
        self.panics()
    }
}

#[tokio::test]
async fn a_broker_that_panics_costs_nobody_a_link_or_a_shard() {
    for moment in [Moment::AtOnce, Moment::Later, Moment::Dropped] {
        let config = Config::default().shards(1).broker_timeout_ms(50);
        let builder = Server::builder().config(config).broker(Panicking(moment));
        let builder = builder.socket("/publish", || Quiet);
        let server = Running::start(builder).await;
        let mut hub = Hub::with_socket(server.address, "/publish").await;
        for request in [1, 2] {
            wish(&mut hub, request).await;
            let (message, retry) = refused(&mut hub).await;
            let why = if moment == Moment::Dropped { "within 50ms" } else { "panicked" };
            assert!(message.contains(why) && retry == Some(5_000), "{message}");
        }
        hub.send(Alias(1), 1, Payload::Text("news")).await;
        assert_eq!(hub.text(Alias(1), 1).await, "asked");
        let published = server.handle.publish("prices", Payload::Text("news")).await;
        assert!(matches!(published, Err(PublishError::Broker(_))), "{published:?}");
        // Each join is followed by a `leave`, which panics as well.
        let panics = if moment == Moment::Dropped { 2.0 } else { 5.0 };
        assert!(broker_failures(&server, "panic").await >= panics);
    }
}

/// Publishes what it hears, whatever comes of it.
struct Quiet;

impl SocketHandler for Quiet {
    fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
        let _ = ctx.publish("prices", message);
        ctx.send_text("asked").unwrap();
    }
}

#[tokio::test]
async fn a_topic_that_is_left_and_wanted_again_is_joined_again() {
    let mut script = Script::start().await;
    let mut hub = Hub::welcomed(script.server.address).await;
    for offset in [3, 8] {
        wish(&mut hub, offset).await;
        script.join().await.send(Ok(at(offset))).unwrap();
        assert_eq!(subscribed(&mut hub).await, at(offset));
        hub.say(&HubFrame::Unsubscribe { topic: "prices" }).await;
        assert!(matches!(script.next().await, Asked::Leave(topic) if topic == "prices"));
        script.deliver(offset + 1, "for nobody");
    }
    hub.quiet().await;
}

#[tokio::test]
async fn publishing_is_done_when_the_broker_has_the_message() {
    let mut script = Script::start().await;
    let handle = script.server.handle.clone();
    let publishing =
        tokio::spawn(async move { handle.publish("prices", Payload::Text("1")).await });
    let Asked::Publish(topic, answer) = script.next().await else { panic!("another question") };
    assert!(topic == "prices" && !publishing.is_finished());
    answer.send(Ok(at(1))).unwrap();
    assert_eq!(soon("the position", publishing).await.unwrap(), Ok(at(1)));
    // A handler does not wait.
    let mut hub = Hub::with_socket(script.server.address, "/publish").await;
    hub.send(Alias(1), 1, Payload::Text("2")).await;
    assert_eq!(hub.text(Alias(1), 1).await, "published");
    let Asked::Publish(_, answer) = script.next().await else { panic!("another question") };
    answer.send(Err(BrokerError::Unavailable("lost".to_owned()))).unwrap();
    hub.quiet().await;
}

/// Publishes a hundred messages, and says how often it had to wait for room.
#[derive(Default)]
struct Hundred {
    published: u32,
    waits: u32,
}

impl Hundred {
    fn go_on(&mut self, ctx: &mut Ctx<'_>) {
        let text = "x".repeat(1_000);
        while self.published < 100 {
            match ctx.publish("prices", Payload::Text(&text)) {
                Ok(()) => self.published += 1,
                Err(error) => {
                    assert_eq!(error, PublishError::Full);
                    self.waits += 1;
                    return;
                }
            }
        }
        ctx.send_text(if self.waits > 0 { "waited" } else { "did not wait" }).unwrap();
    }
}

impl SocketHandler for Hundred {
    fn message(&mut self, ctx: &mut Ctx<'_>, _: Message<'_>) {
        self.go_on(ctx);
    }

    fn publishable(&mut self, ctx: &mut Ctx<'_>) {
        self.go_on(ctx);
    }
}

fn narrow() -> Config {
    let limits = Limits::default().inbox_bytes(10_000).message_bytes(2_000);
    Config::default().shards(1).limits(limits)
}

#[tokio::test]
async fn a_handler_that_finds_no_room_is_told_when_there_is_some() {
    let builder = Server::builder().config(narrow()).socket("/hundred", Hundred::default);
    let server = Running::start(builder).await;
    let mut hub = Hub::with_socket(server.address, "/hundred").await;
    hub.subscribe(1, "prices").await;
    hub.send(Alias(1), 1, Payload::Text("go")).await;
    let (mut publications, mut told) = (0, String::new());
    while publications < 100 || told.is_empty() {
        match frame(&hub.next().await) {
            ServerFrame::Publication { .. } => publications += 1,
            ServerFrame::Data { payload: Payload::Text(text), .. } => told = text.to_owned(),
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert_eq!((publications, &*told), (100, "waited"));
}

/// Holds its shard up until it is let go.
struct Blocking(Arc<(Mutex<bool>, Condvar)>, mpsc::UnboundedSender<()>);

impl SocketHandler for Blocking {
    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {
        self.1.send(()).unwrap();
        let (gate, opened) = &*self.0;
        let wait =
            opened.wait_timeout_while(gate.lock().unwrap(), Duration::from_secs(20), |it| !*it);
        drop(wait.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_waits_for_room_in_a_shard_that_is_behind() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let (entered, mut inside) = mpsc::unbounded_channel();
    let shared = Arc::clone(&gate);
    let factory = move || Blocking(Arc::clone(&shared), entered.clone());
    let server = Running::start(Server::builder().config(narrow()).socket("/b", factory)).await;
    let mut hub = Hub::with_socket(server.address, "/b").await;
    hub.subscribe(1, "prices").await;
    hub.send(Alias(1), 1, Payload::Text("stop")).await;
    soon("the shard to stand still", inside.recv()).await.unwrap();
    let (handle, published) = (server.handle.clone(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&published);
    let publishing = tokio::spawn(async move {
        for _ in 0..50 {
            let text = "x".repeat(1_000);
            handle.publish("prices", Payload::Text(&text)).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let full = async {
        while published.load(Ordering::Relaxed) < 9 {
            tokio::task::yield_now().await;
        }
    };
    soon("the inbox to be full", full).await;
    assert!(!publishing.is_finished());
    assert!(published.load(Ordering::Relaxed) <= 10, "no more than fits");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    soon("the rest", publishing).await.unwrap();
    for _ in 0..50 {
        let bytes = hub.next().await;
        assert!(matches!(frame(&bytes), ServerFrame::Publication { .. }));
    }
}
