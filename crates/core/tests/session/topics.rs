//! Topics: who gets what, and what happens to who does not read.

use std::{sync::Arc, time::Duration};

use tabmux_core::{
    session::{
        Answer, AnswerError, Ask, Denial, Encoded, Input, Joined, LinkId, Output, Publication,
        SessionConfig, SlowPolicy, TopicFrame, Topics,
    },
    wire::{
        ErrorCode, HubFrame, Payload, Position, ServerFrame, Subscribed, TopicId, Unsubscribed,
        UnsubscribedReason, Welcome,
    },
};

use super::support::{Server, ack, frame, frames, resume};

/// A registry, and the topics of a server of which it is shard 0.
struct Shard {
    server: Server,
    topics: Topics,
    policy: SlowPolicy,
}

impl Shard {
    fn new() -> Self {
        Self::with(SlowPolicy::Recover)
    }

    /// Publications wait from 100 unwritten bytes on, and at most 300 bytes of them.
    fn with(policy: SlowPolicy) -> Self {
        let config = SessionConfig {
            subscriptions: 2,
            window_bytes: 100,
            backlog_bytes: 300,
            ..SessionConfig::default()
        };
        Self { server: Server::with(config), topics: Topics::new(7, 100), policy }
    }

    /// Links that are welcomed, with nothing left to write.
    fn links<const N: usize>(links: [u64; N]) -> Self {
        let mut shard = Self::new();
        links.into_iter().for_each(|link| shard.welcome(link));
        shard
    }

    fn welcome(&mut self, link: u64) {
        self.server.welcomed(link);
        self.server.written(link, 10_000);
    }

    fn subscribe(&mut self, link: u64, request: u64, topic: &str) -> Vec<Output> {
        self.subscribe_since(link, request, topic, None)
    }

    fn subscribe_since(
        &mut self,
        link: u64,
        request: u64,
        topic: &str,
        position: Option<Position>,
    ) -> Vec<Output> {
        let mut outputs = self.server.say(link, &HubFrame::Subscribe { request, position, topic });
        self.join(&mut outputs);
        self.server.written(link, 1_000);
        outputs
    }

    /// Joins what is wanted, at once.
    fn join(&mut self, outputs: &mut Vec<Output>) {
        outputs.retain(|output| match output {
            Output::Ask { ask, what: Ask::Join { topic } } => {
                let Joined { topic, position } = self.topics.join(0, topic).unwrap();
                let (registry, now) = (&mut self.server.registry, self.server.now);
                let answer = Answer::Joined { topic, position, policy: self.policy };
                if registry.answer(now, *ask, answer).is_err() {
                    self.topics.leave(0, topic);
                }
                false
            }
            Output::TopicUnwanted { topic } => {
                self.topics.leave(0, *topic);
                false
            }
            _ => true,
        });
        outputs.extend(self.server.drain());
    }

    /// Publishes `len` bytes on the stream.
    fn publish(&mut self, topic: &str, len: usize) -> Vec<Output> {
        let numbered = self.topics.publish(topic, Payload::Text("x"));
        let Some(TopicFrame { topic, .. }) = numbered.frame else {
            return Vec::new();
        };
        let frame = Encoded::new(vec![0; len].into(), None).of_topic(topic, numbered.previous);
        let frame = Arc::new(frame);
        let publication = Publication { topic, position: numbered.position, frame };
        self.server.registry.publish(self.server.now, &[publication]);
        self.server.drain()
    }
}

fn at(offset: u64) -> Position {
    Position { epoch: 7, offset }
}

/// The links that a publication goes to.
fn links(outputs: &[Output]) -> Vec<u64> {
    let links = outputs.iter().flat_map(|output| match output {
        Output::Publish { links, .. } => links.clone(),
        _ => Vec::new(),
    });
    links.map(|link| link.0).collect()
}

fn subscribed(outputs: &[Output]) -> Subscribed<'_> {
    match frame(outputs) {
        ServerFrame::Subscribed(subscribed) => subscribed,
        other => panic!("not subscribed: {other:?}"),
    }
}

fn unsubscribed(outputs: &[Output]) -> Unsubscribed<'_> {
    match frame(outputs) {
        ServerFrame::Unsubscribed(unsubscribed) => unsubscribed,
        other => panic!("not unsubscribed: {other:?}"),
    }
}

#[test]
fn a_subscription_tells_the_topics_number_and_position() {
    let mut shard = Shard::links([1, 2]);
    let outputs = shard.subscribe(1, 5, "prices");
    let (topic, name) = (TopicId(1), "prices");
    let expected = Subscribed { request: 5, topic, recovered: false, position: at(0), name };
    assert_eq!(subscribed(&outputs), expected);
    shard.publish("prices", 50);
    let outputs = shard.subscribe(2, 9, "prices");
    assert_eq!((subscribed(&outputs).request, subscribed(&outputs).position), (9, at(1)));
}

#[test]
fn a_publication_goes_to_those_who_want_it_once_encoded() {
    let mut shard = Shard::links([1, 2, 3]);
    for link in [1, 3] {
        shard.subscribe(link, 1, "prices");
    }
    shard.subscribe(2, 1, "news");
    let outputs = shard.publish("prices", 50);
    assert!(matches!(&outputs[..], [Output::Publish { .. }]));
    assert_eq!(links(&outputs), [1, 3]);
    assert_eq!(shard.publish("nothing", 50), []);
    let stats = shard.server.registry.stats();
    assert_eq!((stats.topics.subscribed, stats.topics.subscriptions), (2, 3));
    assert_eq!((stats.topics.publications, stats.topics.deliveries), (1, 2));
}

#[test]
fn who_unsubscribed_or_went_gets_nothing_and_the_last_one_ends_the_topic() {
    let mut shard = Shard::links([1, 2, 3]);
    for link in [1, 2, 3] {
        shard.subscribe(link, 1, "prices");
    }
    assert_eq!(shard.server.say(1, &HubFrame::Unsubscribe { topic: "prices" }), []);
    assert_eq!(links(&shard.publish("prices", 9)), [2, 3]);
    shard.server.input(Input::LinkClosed { link: LinkId(3) });
    assert_eq!(links(&shard.publish("prices", 9)), [2]);
    let outputs = shard.server.say(2, &HubFrame::Unsubscribe { topic: "prices" });
    assert_eq!(outputs, [Output::TopicUnwanted { topic: TopicId(1) }]);
    assert_eq!(shard.server.say(2, &HubFrame::Unsubscribe { topic: "prices" }), []);
}

#[test]
fn who_left_the_topic_where_it_is_has_missed_nothing() {
    let mut shard = Shard::links([1, 2]);
    shard.subscribe(1, 1, "prices");
    shard.publish("prices", 9);
    let outputs = shard.subscribe_since(2, 1, "prices", Some(at(1)));
    assert!(subscribed(&outputs).recovered);
    shard.server.say(2, &HubFrame::Unsubscribe { topic: "prices" });
    shard.publish("prices", 9);
    let outputs = shard.subscribe_since(2, 2, "prices", Some(at(1)));
    assert!(!subscribed(&outputs).recovered);
}

#[test]
fn a_topic_that_is_joined_late_answers_all_who_wait() {
    let mut shard = Shard::links([1, 2]);
    let subscribe = |request| HubFrame::Subscribe { request, position: None, topic: "prices" };
    let wanted = shard.server.say(1, &subscribe(1));
    assert_eq!(shard.server.say(2, &subscribe(2)), []);
    assert_eq!(shard.server.say(1, &HubFrame::Unsubscribe { topic: "prices" }), []);
    assert_eq!(shard.server.say(1, &subscribe(3)), []);
    let mut outputs = wanted;
    shard.join(&mut outputs);
    let requests = outputs.iter().map(|output| match output {
        Output::Send { link, bytes } => match ServerFrame::decode(bytes).unwrap() {
            ServerFrame::Subscribed(subscribed) => (link.0, subscribed.request),
            other => panic!("not subscribed: {other:?}"),
        },
        other => panic!("no frame: {other:?}"),
    });
    assert_eq!(requests.collect::<Vec<_>>(), [(2, 2), (1, 3)]);
}

#[test]
fn a_topic_that_nobody_wants_any_more_is_not_asked_for_any_more() {
    let mut shard = Shard::links([1]);
    let wanted =
        shard.server.say(1, &HubFrame::Subscribe { request: 1, position: None, topic: "prices" });
    let [Output::Ask { ask, .. }] = wanted[..] else { panic!("not asked: {wanted:?}") };
    let outputs = shard.server.say(1, &HubFrame::Unsubscribe { topic: "prices" });
    assert_eq!(outputs, [Output::Withdrawn(ask)]);
    let position = Position { epoch: 1, offset: 1 };
    let joined = Answer::Joined { topic: TopicId(1), position, policy: SlowPolicy::Recover };
    let late = shard.server.registry.answer(shard.server.now, ask, joined);
    assert_eq!(late, Err(AnswerError::Late));
    assert_eq!(shard.server.drain(), []);
}

#[test]
fn a_topic_that_cannot_be_had_is_refused_by_request_and_name() {
    let mut shard = Shard::links([1]);
    let wanted =
        shard.server.say(1, &HubFrame::Subscribe { request: 7, position: None, topic: "prices" });
    let [Output::Ask { ask, .. }] = wanted[..] else { panic!("not asked: {wanted:?}") };
    let (code, retry) = (ErrorCode::Limit.into(), Some(Duration::from_secs(3)));
    let denied = Answer::Deny(Denial { code, message: "full", retry });
    shard.server.registry.answer(shard.server.now, ask, denied).unwrap();
    let (reason, name) = (UnsubscribedReason::Limit, "prices");
    let expected =
        Unsubscribed { request: 7, reason, retry_ms: Some(3_000), name, message: "full" };
    assert_eq!(unsubscribed(&shard.server.drain()), expected);
    let stats = shard.server.registry.stats();
    assert_eq!(
        (stats.topics.subscribed, stats.topics.subscriptions, stats.topics.subscriptions_refused),
        (0, 0, 1)
    );
}

#[test]
fn a_subscription_past_the_limit_is_refused() {
    let mut shard = Shard::links([1]);
    shard.subscribe(1, 1, "a");
    shard.subscribe(1, 2, "b");
    let outputs = shard.subscribe(1, 3, "c");
    let refused = unsubscribed(&outputs);
    assert_eq!((refused.request, refused.reason), (3, UnsubscribedReason::Limit));
    assert_eq!(refused.message, "a browser may subscribe to 2 topics on this server");
    assert_eq!(links(&shard.publish("b", 9)), [1]);
}

#[test]
fn subscribing_again_is_answered_and_counts_once() {
    let mut shard = Shard::links([1]);
    shard.subscribe(1, 1, "prices");
    let outputs = shard.subscribe(1, 2, "prices");
    assert_eq!(subscribed(&outputs).request, 2);
    assert_eq!(links(&shard.publish("prices", 9)), [1]);
    assert_eq!(shard.server.registry.stats().topics.subscriptions, 1);
}

#[test]
fn a_publication_from_before_the_subscription_is_not_sent() {
    let mut shard = Shard::links([1]);
    shard.subscribe(1, 1, "prices");
    let frame = Arc::new(Encoded::new([0; 9].into(), None));
    let stale = Publication { topic: TopicId(1), position: at(0), frame };
    shard.server.registry.publish(shard.server.now, &[stale]);
    assert_eq!(shard.server.drain(), []);
}

#[test]
fn what_is_handed_over_together_is_sent_together_but_for_what_came_before() {
    let mut shard = Shard::links([1]);
    let numbered = |shard: &mut Shard| {
        let numbered = shard.topics.publish("prices", Payload::Text("x"));
        let frame = Arc::new(Encoded::new([0; 9].into(), None));
        Publication { topic: TopicId(1), position: numbered.position, frame }
    };
    let mut run = vec![numbered(&mut shard)];
    shard.subscribe(1, 1, "prices");
    run.extend([numbered(&mut shard), numbered(&mut shard)]);
    shard.server.registry.publish(shard.server.now, &run);
    let outputs = shard.server.drain();
    let [Output::Publish { frames, .. }] = &outputs[..] else { panic!("not one: {outputs:?}") };
    assert_eq!(frames.len(), 2);
    let stats = shard.server.registry.stats();
    assert_eq!(
        (stats.topics.publications, stats.topics.deliveries, stats.memory.queued_bytes),
        (2, 2, 18)
    );
}

#[test]
fn a_subscription_that_ends_in_the_middle_gets_nothing_of_the_rest() {
    let mut shard = with_a_slow_link(SlowPolicy::Recover);
    let run = (0..9).map(|_| {
        let position = shard.topics.publish("prices", Payload::Text("x")).position;
        let frame = Arc::new(Encoded::new([0; 100].into(), None));
        Publication { topic: TopicId(1), position, frame }
    });
    let run = run.collect::<Vec<_>>();
    shard.server.registry.publish(shard.server.now, &run);
    let outputs = shard.server.drain();
    assert_eq!((links(&outputs), outputs.len()), (vec![1], 2));
    assert_eq!(shard.server.registry.stats().topics.slow_subscriptions, 1);
    assert_eq!(shard.server.written(2, 10_000), []);
}

/// A shard with a policy, in which link 1 reads and link 2 has stopped to.
fn with_a_slow_link(policy: SlowPolicy) -> Shard {
    let mut shard = Shard::with(policy);
    for link in [1, 2] {
        shard.welcome(link);
        shard.subscribe(link, 4, "prices");
    }
    assert_eq!(links(&shard.publish("prices", 101)), [1, 2]);
    shard.server.written(1, 101);
    shard
}

/// Publishes to both; only link 1 reads.
fn publish_past(shard: &mut Shard, len: usize) -> Vec<Output> {
    let mut outputs = shard.publish("prices", len);
    assert_eq!(links(&outputs), [1]);
    outputs.remove(0);
    shard.server.written(1, len);
    outputs
}

#[test]
fn what_waits_goes_out_in_order_once_the_link_reads() {
    let mut shard = with_a_slow_link(SlowPolicy::Recover);
    publish_past(&mut shard, 60);
    publish_past(&mut shard, 70);
    assert_eq!(shard.server.written(2, 0), []);
    let outputs = shard.server.written(2, 101);
    let lens = outputs.iter().map(|output| match output {
        Output::Publish { frames, links } if *links == [LinkId(2)] => frames[0].len(),
        other => panic!("not for link 2: {other:?}"),
    });
    assert_eq!(lens.collect::<Vec<_>>(), [60, 70]);
    shard.server.written(2, 130);
    assert_eq!(links(&shard.publish("prices", 9)), [1, 2]);
    assert_eq!(shard.server.registry.stats().memory.queued_bytes, 18);
}

#[test]
fn recover_ends_the_subscription_and_nothing_else() {
    let mut shard = with_a_slow_link(SlowPolicy::Recover);
    let news = HubFrame::Subscribe { request: 5, position: None, topic: "news" };
    let mut wanted = shard.server.say(2, &news);
    shard.join(&mut wanted);
    assert_eq!(publish_past(&mut shard, 200), []);
    let outputs = publish_past(&mut shard, 200);
    let ended = unsubscribed(&outputs);
    assert_eq!((ended.request, ended.reason), (4, UnsubscribedReason::Slow));
    assert_eq!((ended.name, ended.retry_ms), ("prices", Some(1_000)));
    let stats = shard.server.registry.stats();
    assert_eq!(
        (stats.topics.slow_subscriptions, stats.links.open, stats.topics.subscriptions),
        (1, 2, 2)
    );
    assert_eq!(stats.topics.dropped_recover, 2, "the one that waited, and the one too many");
    assert_eq!(shard.server.written(2, 10_000), [], "what waited was dropped");
    assert_eq!(links(&shard.publish("news", 9)), [2]);
    let outputs = shard.subscribe_since(2, 6, "prices", Some(at(1)));
    assert_eq!((subscribed(&outputs).recovered, subscribed(&outputs).request), (false, 6));
    assert_eq!(links(&shard.publish("prices", 9)), [1, 2]);
}

#[test]
fn keep_latest_keeps_the_latest() {
    let mut shard = with_a_slow_link(SlowPolicy::KeepLatest);
    for len in [200, 210, 220] {
        assert_eq!(publish_past(&mut shard, len), []);
    }
    assert_eq!(shard.server.registry.stats().topics.dropped_replaced, 2);
    let outputs = shard.server.written(2, 101);
    let [Output::Publish { frames, .. }] = &outputs[..] else { panic!("not one: {outputs:?}") };
    assert_eq!(frames.iter().map(|frame| frame.len()).collect::<Vec<_>>(), [220]);
}

#[test]
fn drop_with_gap_tells_where_the_topic_goes_on() {
    let mut shard = with_a_slow_link(SlowPolicy::DropWithGap);
    for len in [200, 210, 220] {
        assert_eq!(publish_past(&mut shard, len), []);
    }
    assert_eq!(shard.server.registry.stats().topics.dropped_gap, 2);
    publish_past(&mut shard, 1);
    let outputs = shard.server.written(2, 101);
    assert_eq!(links(&outputs), [2], "the window is full again: {outputs:?}");
    let outputs = shard.server.written(2, 200);
    assert_eq!(links(&outputs), [2]);
    // The second and third were dropped; the fourth had room again.
    assert_eq!(frame(&outputs), ServerFrame::Gap { topic: TopicId(1), position: at(4) });
}

/// What a hub is told of its topics when it goes on with a session, and how many publications
/// follow.
fn resumed(shard: &mut Shard, welcome: &Welcome, have0: Option<u64>) -> (Vec<Position>, usize) {
    let (_, outputs) = shard.server.hello(50, &resume(welcome, 9, have0));
    let listed = frames(&outputs).into_iter().filter_map(|frame| match frame {
        ServerFrame::Subscribed(it) => {
            assert_eq!((it.request, it.recovered, it.name), (0, true, "prices"));
            Some(it.position)
        }
        _ => None,
    });
    (listed.collect(), links(&outputs).len())
}

#[test]
fn a_hub_that_goes_on_is_told_where_each_topic_is_before_what_follows() {
    let mut shard = Shard::new();
    let (_, welcome) = shard.server.welcome_socket(1);
    shard.subscribe(1, 1, "prices");
    for _ in 0..3 {
        shard.publish("prices", 10);
        shard.server.written(1, 1_000);
    }
    shard.server.say(1, &ack(&[(0, 1)]));
    shard.server.cut(1);
    shard.publish("prices", 10);
    assert_eq!(resumed(&mut shard, &welcome, None), (vec![at(1)], 3));
    shard.server.cut(50);
    assert_eq!(resumed(&mut shard, &welcome, Some(4)), (vec![at(4)], 0));
}

#[test]
fn a_hub_that_takes_over_is_not_answered_what_the_one_before_it_asked() {
    let mut shard = Shard::new();
    let (_, welcome) = shard.server.welcome_socket(1);
    let ask = |position| HubFrame::Subscribe { request: 1, position, topic: "prices" };
    let wanted = shard.server.say(1, &ask(Some(at(0))));
    let [Output::Ask { ask: first, .. }] = wanted[..] else { panic!("not asked: {wanted:?}") };
    let (_, outputs) = shard.server.hello(2, &resume(&welcome, 10, None));
    assert!(outputs.contains(&Output::Withdrawn(first)), "{outputs:?}");
    // It left the topic elsewhere, and would have missed what is between without a word.
    let earlier = Position { epoch: 6, offset: 9 };
    let outputs = shard.subscribe_since(2, 1, "prices", Some(earlier));
    let ServerFrame::Subscribed(it) = frame(&outputs) else { panic!("{outputs:?}") };
    assert_eq!((it.request, it.recovered, it.position), (1, false, at(0)));
    assert_eq!(shard.server.registry.stats().topics.subscriptions, 1);
}

#[test]
fn what_does_not_fit_the_lane_of_a_session_without_a_link_meets_the_policy() {
    let config = SessionConfig { lane_bytes: 100, ..SessionConfig::default() };
    let mut shard = Shard { server: Server::with(config), ..Shard::with(SlowPolicy::KeepLatest) };
    let (_, welcome) = shard.server.welcome_socket(1);
    shard.subscribe(1, 1, "prices");
    shard.server.cut(1);
    for _ in 0..5 {
        shard.publish("prices", 60);
    }
    // Two fit the lane; of the three that wait the latest is left.
    assert_eq!(shard.server.registry.stats().topics.dropped_replaced, 2);
    assert_eq!(resumed(&mut shard, &welcome, None), (vec![at(0)], 2));
    let outputs = shard.server.say(50, &ack(&[(0, 2)]));
    assert_eq!(links(&outputs), [50]);
}

#[test]
fn a_hub_that_goes_on_at_a_gap_is_told_the_place_behind_it_so_that_it_says_gap_once() {
    let config = SessionConfig { lane_bytes: 100, backlog_bytes: 0, ..SessionConfig::default() };
    let policy = SlowPolicy::DropWithGap;
    let mut shard = Shard { server: Server::with(config), ..Shard::with(policy) };
    let (_, welcome) = shard.server.welcome_socket(1);
    shard.subscribe(1, 1, "prices");
    shard.publish("prices", 101);
    shard.publish("prices", 1);
    shard.server.cut(1);
    // It waits for room in the lane, and then is in the lane.
    assert_eq!(resumed(&mut shard, &welcome, Some(1)), (vec![at(2)], 0));
    let outputs = shard.server.say(50, &ack(&[(0, 1)]));
    let gap = ServerFrame::Gap { topic: TopicId(1), position: at(2) };
    assert_eq!(frame(&outputs), gap);
    shard.server.cut(50);
    let (_, outputs) = shard.server.hello(51, &resume(&welcome, 9, Some(1)));
    let frames = frames(&outputs);
    let listed = frames.iter().find_map(|frame| match frame {
        ServerFrame::Subscribed(it) => Some(it.position),
        _ => None,
    });
    assert_eq!((listed, frames.last()), (Some(at(2)), Some(&gap)));
}

/// Each subscription would look at all that waits: with so many of both, that took minutes.
#[test]
fn what_waits_does_not_slow_a_resume_or_a_second_subscribe_down() {
    let config = SessionConfig { window_bytes: 100, ..SessionConfig::default() };
    let (server, topics) = (Server::with(config), Topics::new(7, 2_000));
    let mut shard = Shard { server, topics, policy: SlowPolicy::DropWithGap };
    let (mut welcome, _) = shard.server.hello(1, &super::support::hello());
    shard.server.say(1, &super::support::attach(1));
    for request in 1..=1_000 {
        shard.subscribe(1, request, &format!("topic {request}"));
    }
    for _ in 0..20_000 {
        shard.publish("topic 7", 4);
    }
    let stats = shard.server.registry.stats();
    assert!(stats.memory.queued_bytes > 500_000, "much waits: {stats:?}");
    for link in 2..40 {
        let hello = resume(&welcome, link, None);
        (welcome, _) = shard.server.hello(link, &hello);
    }
    for request in 1_001..21_000 {
        shard.subscribe(39, request, "topic 8");
    }
}
