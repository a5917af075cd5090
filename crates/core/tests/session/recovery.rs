//! Recovery: who was away gets what it missed in order, or is told what is missing.

use std::{sync::Arc, time::Duration};

use tabmux_core::{
    feed::Keep,
    session::{
        Answer, Ask, AskId, Denial, Encoded, Joined, Output, Publication, SessionConfig,
        SlowPolicy, TopicFrame, Topics,
    },
    wire::{ErrorCode, HubFrame, Payload, Position, ServerFrame, Welcome},
};

use super::support::{Server, ack, attach, hello, resume};

const KEEP: Keep = Keep { count: 1_000, bytes: 1 << 20, age: Duration::from_secs(600) };

/// A registry with the history of topics. A part of it has one publication, unless the test says
/// otherwise.
struct Shard {
    server: Server,
    topics: Topics,
    keep: Keep,
    /// Questions for parts are answered at once.
    is_quick: bool,
    asked: Vec<(AskId, Position)>,
    welcome: Option<Welcome>,
}

/// What a hub hears.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// SUBSCRIBED: the request, whether all since then follows, and the position.
    Subscribed(u64, bool, Position),
    /// A publication: its offset and the one before.
    Publication(u64, u64),
    Gap(Position),
    Unsubscribed,
}

use Heard::{Gap, Publication as Heard1, Subscribed};

impl Shard {
    fn new() -> Self {
        Self::with(SessionConfig { recall_bytes: 1, ..SessionConfig::default() })
    }

    fn with(config: SessionConfig) -> Self {
        let server = Server::with(SessionConfig { history: true, ..config });
        let topics = Topics::new(7, 100);
        Self { server, topics, keep: KEEP, is_quick: true, asked: Vec::new(), welcome: None }
    }

    /// A link that is welcomed, with nothing left to write.
    fn welcome(&mut self, link: u64) {
        let (welcome, _) = self.server.hello(link, &hello());
        self.server.say(link, &attach(1));
        self.server.written(link, 10_000);
        self.welcome = Some(welcome);
    }

    fn subscribe(&mut self, link: u64, request: u64, position: Option<Position>) -> Vec<Heard> {
        let topic = "news";
        let outputs = self.server.say(link, &HubFrame::Subscribe { request, position, topic });
        self.hear(outputs)
    }

    /// Answers what is asked. Returns what hubs hear.
    fn hear(&mut self, mut outputs: Vec<Output>) -> Vec<Heard> {
        let mut heard = Vec::new();
        while !outputs.is_empty() {
            for output in std::mem::take(&mut outputs) {
                match output {
                    Output::Send { bytes, .. } => heard.extend(heard_of(&bytes)),
                    Output::Publish { frames, links } => {
                        let all = links.iter().flat_map(|_| &frames);
                        heard.extend(all.filter_map(|frame| heard_of(frame.bytes(false))));
                    }
                    Output::Ask { ask, what: Ask::Join { topic } } => {
                        let Joined { topic, position } = self.topics.join(0, &topic).unwrap();
                        let policy = SlowPolicy::Recover;
                        let answer = Answer::Joined { topic, position, policy };
                        self.server.registry.answer(self.server.now, ask, answer).unwrap();
                    }
                    Output::Ask { ask, what: Ask::Recall { since, .. } } => {
                        self.asked.push((ask, since));
                        if self.is_quick {
                            self.recall();
                        }
                    }
                    Output::TopicUnwanted { topic } => self.topics.leave(0, topic),
                    _ => {}
                }
            }
            outputs = self.server.drain();
        }
        heard
    }

    /// Answers the question for a part that was asked last.
    fn recall(&mut self) {
        let (ask, since) = self.asked.pop().unwrap();
        let now = self.server.now;
        let bytes = self.server.registry.config().recall_bytes;
        let recalled = self.topics.recall(now, "news", since, bytes);
        self.server.registry.answer(now, ask, Answer::Recalled(&recalled)).unwrap();
    }

    fn recall_and_hear(&mut self) -> Vec<Heard> {
        self.recall();
        let outputs = self.server.drain();
        self.hear(outputs)
    }

    fn publish(&mut self) -> Vec<Heard> {
        self.publish_text("x")
    }

    fn publish_text(&mut self, text: &str) -> Vec<Heard> {
        let publication = self.publish_later(text);
        self.arrive(publication)
    }

    /// Publishes what has not reached this registry yet.
    fn publish_later(&mut self, text: &str) -> Option<Publication> {
        let now = self.server.now;
        let numbered = self.topics.publish_kept(now, "news", self.keep, Payload::Text(text));
        let TopicFrame { topic, bytes, .. } = numbered.frame?;
        let frame = Encoded::new(bytes.into(), None).of_topic(topic, numbered.previous);
        Some(Publication { topic, position: numbered.position, frame: Arc::new(frame) })
    }

    fn arrive(&mut self, publication: Option<Publication>) -> Vec<Heard> {
        self.server.registry.publish(self.server.now, publication.as_slice());
        let outputs = self.server.drain();
        self.hear(outputs)
    }

    fn recovering(&self) -> usize {
        self.server.registry.stats().topics.recovering
    }
}

fn heard_of(bytes: &[u8]) -> Option<Heard> {
    Some(match ServerFrame::decode(bytes).unwrap() {
        ServerFrame::Subscribed(it) => Subscribed(it.request, it.recovered, it.position),
        ServerFrame::Publication { position, previous, .. } => Heard1(position.offset, previous),
        ServerFrame::Gap { position, .. } => Gap(position),
        ServerFrame::Unsubscribed(_) => Heard::Unsubscribed,
        _ => return None,
    })
}

const fn at(offset: u64) -> Position {
    Position { epoch: 7, offset }
}

#[test]
fn what_was_missed_comes_in_order_in_parts_and_then_what_is_published_now() {
    let mut shard = Shard::new();
    (0..3).for_each(|_| drop(shard.publish()));
    shard.welcome(1);
    let heard = shard.subscribe(1, 5, Some(at(1)));
    assert_eq!(heard, [Subscribed(5, true, at(3)), Heard1(2, 1), Heard1(3, 2)]);
    assert_eq!(shard.publish(), [Heard1(4, 3)]);
    assert_eq!(shard.recovering(), 0);
    assert_eq!(shard.server.registry.stats().topics.recovered, 2);
}

#[test]
fn who_left_the_topic_where_it_is_is_told_at_once() {
    let mut shard = Shard::new();
    shard.publish();
    shard.welcome(1);
    assert_eq!(shard.subscribe(1, 5, Some(at(1))), [Subscribed(5, true, at(1))]);
    assert!(shard.asked.is_empty());
}

#[test]
fn who_wants_a_topic_from_now_on_gets_nothing_of_before() {
    let mut shard = Shard::new();
    shard.publish();
    shard.welcome(1);
    assert_eq!(shard.subscribe(1, 5, None), [Subscribed(5, false, at(1))]);
}

#[test]
fn what_the_history_has_no_more_is_told_and_the_rest_comes() {
    let mut shard = Shard::new();
    shard.keep.count = 2;
    (0..5).for_each(|_| drop(shard.publish()));
    shard.welcome(1);
    let heard = shard.subscribe(1, 5, Some(at(1)));
    assert_eq!(heard, [Subscribed(5, false, at(3)), Heard1(4, 3), Heard1(5, 4)]);
    assert_eq!(shard.server.registry.stats().topics.recovery_gaps, 1);
}

#[test]
fn the_history_of_another_epoch_is_missing_as_a_whole() {
    let mut shard = Shard::new();
    shard.publish();
    shard.welcome(1);
    let elsewhere = Position { epoch: 6, offset: 1 };
    assert_eq!(shard.subscribe(1, 5, Some(elsewhere)), [Subscribed(5, false, at(1))]);
}

#[test]
fn who_had_nothing_yet_misses_nothing_on_a_server_where_nothing_was_published() {
    let mut shard = Shard::new();
    shard.welcome(1);
    let elsewhere = Position { epoch: 6, offset: 0 };
    assert_eq!(shard.subscribe(1, 5, Some(elsewhere)), [Subscribed(5, true, at(0))]);
}

#[test]
fn who_had_nothing_yet_on_another_server_gets_all_that_was_published_here() {
    let mut shard = Shard::new();
    (0..2).for_each(|_| drop(shard.publish()));
    shard.welcome(1);
    let heard = shard.subscribe(1, 5, Some(Position { epoch: 6, offset: 0 }));
    assert_eq!(heard, [Subscribed(5, true, at(2)), Heard1(1, 0), Heard1(2, 1)]);
}

#[test]
fn what_is_published_meanwhile_comes_in_its_turn_and_goes_to_others_at_once() {
    let mut shard = Shard::new();
    (0..2).for_each(|_| drop(shard.publish()));
    shard.welcome(1);
    shard.welcome(2);
    shard.subscribe(2, 1, None);
    shard.is_quick = false;
    assert_eq!(shard.subscribe(1, 5, Some(at(0))), []);
    assert_eq!(shard.publish(), [Heard1(3, 2)], "the other one alone");
    assert_eq!(shard.recall_and_hear(), [Subscribed(5, true, at(3)), Heard1(1, 0)]);
    assert_eq!(shard.recall_and_hear(), [Heard1(2, 1)]);
    assert_eq!(shard.recall_and_hear(), [Heard1(3, 2)]);
    assert_eq!(shard.publish().len(), 2);
}

#[test]
fn what_is_on_its_way_to_the_registry_comes_once() {
    let mut shard = Shard::new();
    (0..2).for_each(|_| drop(shard.publish()));
    shard.welcome(1);
    shard.subscribe(1, 1, None);
    let late = shard.publish_later("x");
    let heard = shard.subscribe(1, 2, Some(at(1)));
    assert_eq!(heard, [Subscribed(2, true, at(2)), Heard1(2, 1)]);
    assert_eq!(shard.arrive(late), [Heard1(3, 2)]);
}

#[test]
fn a_hub_that_is_ahead_of_the_registry_misses_nothing() {
    let mut shard = Shard::new();
    shard.publish();
    shard.welcome(1);
    shard.subscribe(1, 1, None);
    let late = shard.publish_later("x");
    assert_eq!(shard.subscribe(1, 2, Some(at(2))), [Subscribed(2, true, at(2))]);
    assert_eq!(shard.arrive(late), [Heard1(2, 1)], "the hub has it, and ignores it");
}

#[test]
fn a_hub_that_does_not_read_is_asked_for_no_more_than_it_takes() {
    let mut shard = Shard::with(SessionConfig {
        recall_bytes: 1,
        window_bytes: 50,
        lane_bytes: 2_000,
        ..SessionConfig::default()
    });
    (0..3).for_each(|_| drop(shard.publish_text(&"x".repeat(100))));
    shard.welcome(1);
    let heard = shard.subscribe(1, 5, Some(at(0)));
    assert_eq!(heard, [Subscribed(5, true, at(3)), Heard1(1, 0)]);
    assert_eq!(shard.publish(), [], "it is in the history");
    let mut written = || {
        let outputs = shard.server.written(1, 1_000);
        shard.hear(outputs)
    };
    assert_eq!(written(), [Heard1(2, 1)]);
    assert_eq!(written(), [Heard1(3, 2)]);
    assert_eq!(written(), [Heard1(4, 3)]);
    assert_eq!(shard.recovering(), 0);
}

#[test]
fn a_hub_that_does_not_acknowledge_is_asked_for_no_more_than_its_lane_takes() {
    let mut shard =
        Shard::with(SessionConfig { recall_bytes: 1, lane_bytes: 100, ..SessionConfig::default() });
    (0..2).for_each(|_| drop(shard.publish_text(&"x".repeat(100))));
    shard.welcome(1);
    assert_eq!(shard.subscribe(1, 5, Some(at(0))).len(), 2);
    let outputs = shard.server.say(1, &ack(&[(0, 1)]));
    assert_eq!(shard.hear(outputs), [Heard1(2, 1)]);
}

#[test]
fn what_goes_out_of_the_history_during_a_recovery_is_told_in_its_place() {
    let mut shard = Shard::new();
    shard.keep.count = 3;
    (0..3).for_each(|_| drop(shard.publish()));
    shard.welcome(1);
    shard.is_quick = false;
    shard.subscribe(1, 5, Some(at(0)));
    assert_eq!(shard.recall_and_hear(), [Subscribed(5, true, at(3)), Heard1(1, 0)]);
    let (_, since) = *shard.asked.last().unwrap();
    assert_eq!(since, at(1));
    (0..3).for_each(|_| assert_eq!(shard.publish(), []));
    shard.is_quick = true;
    let heard = shard.recall_and_hear();
    assert_eq!(heard, [Gap(at(3)), Heard1(4, 3), Heard1(5, 4), Heard1(6, 5)]);
}

#[test]
fn a_shell_that_cannot_tell_or_does_not_answer_makes_a_gap() {
    let mut shard = Shard::new();
    (0..2).for_each(|_| drop(shard.publish()));
    shard.welcome(1);
    shard.is_quick = false;
    shard.subscribe(1, 5, Some(at(0)));
    let (ask, _) = shard.asked.pop().unwrap();
    let denial = Denial { code: ErrorCode::Failed.into(), message: "", retry: None };
    shard.server.registry.answer(shard.server.now, ask, Answer::Deny(denial)).unwrap();
    let outputs = shard.server.drain();
    assert_eq!(shard.hear(outputs), [Subscribed(5, false, at(2))]);
    shard.subscribe(1, 6, Some(at(0)));
    let mut outputs = Vec::new();
    for _ in 0..4 {
        outputs.extend(shard.server.pass(Duration::from_secs(9)));
        outputs.extend(shard.server.say(1, &HubFrame::Ping { nonce: 1 }));
    }
    assert_eq!(shard.hear(outputs), [Subscribed(6, false, at(2))]);
    assert_eq!(shard.publish(), [Heard1(3, 2)]);
}

#[test]
fn a_recovery_goes_on_when_the_hub_is_back() {
    let mut shard = Shard::new();
    (0..3).for_each(|_| drop(shard.publish()));
    shard.welcome(1);
    shard.is_quick = false;
    shard.subscribe(1, 5, Some(at(0)));
    shard.recall_and_hear();
    shard.server.cut(1);
    assert_eq!(shard.recall_and_hear(), []);
    shard.is_quick = true;
    let welcome = shard.welcome.take().unwrap();
    let (_, outputs) = shard.server.hello(2, &resume(&welcome, 9, Some(1)));
    assert_eq!(shard.hear(outputs), [Subscribed(0, true, at(1)), Heard1(2, 1), Heard1(3, 2)]);
    assert_eq!(shard.publish(), [Heard1(4, 3)]);
}

#[test]
fn a_subscription_whose_first_part_did_not_come_in_time_for_its_link_is_asked_for_again() {
    let mut shard = Shard::new();
    shard.publish();
    shard.welcome(1);
    shard.is_quick = false;
    shard.subscribe(1, 5, Some(at(0)));
    shard.server.cut(1);
    let welcome = shard.welcome.take().unwrap();
    let (_, outputs) = shard.server.hello(2, &resume(&welcome, 9, None));
    assert!(outputs.iter().any(|it| matches!(it, Output::Withdrawn(_))));
    assert_eq!(shard.hear(outputs), []);
    shard.is_quick = true;
    assert_eq!(shard.subscribe(2, 1, Some(at(0))), [Subscribed(1, true, at(1)), Heard1(1, 0)]);
}

#[test]
fn who_wants_the_topic_no_more_takes_the_question_back() {
    let mut shard = Shard::new();
    shard.publish();
    shard.welcome(1);
    shard.is_quick = false;
    shard.subscribe(1, 5, Some(at(0)));
    let outputs = shard.server.say(1, &HubFrame::Unsubscribe { topic: "news" });
    assert!(matches!(outputs[..], [Output::Withdrawn(_), Output::TopicUnwanted { .. }]));
    assert_eq!(shard.recovering(), 0);
}

#[test]
fn topics_are_recovered_one_after_the_other_so_that_they_do_not_fill_the_session() {
    let mut shard = Shard::new();
    shard.publish();
    shard.welcome(1);
    shard.is_quick = false;
    shard.subscribe(1, 5, Some(at(0)));
    let (request, position, topic) = (6, Some(Position { epoch: 3, offset: 9 }), "other");
    let outputs = shard.server.say(1, &HubFrame::Subscribe { request, position, topic });
    shard.hear(outputs);
    assert_eq!((shard.recovering(), shard.asked.len()), (2, 1));
    shard.is_quick = true;
    let heard = shard.recall_and_hear();
    assert_eq!(heard[..2], [Subscribed(5, true, at(1)), Heard1(1, 0)]);
    assert_eq!((shard.recovering(), heard.len()), (0, 3));
}

#[test]
fn a_session_that_ends_charges_nothing_for_its_recoveries() {
    let mut shard = Shard::new();
    shard.publish();
    let before = shard.server.registry.stats();
    shard.welcome(1);
    shard.is_quick = false;
    shard.subscribe(1, 5, Some(at(0)));
    assert_eq!(shard.recovering(), 1);
    let outputs = shard.server.say(1, &HubFrame::End);
    shard.hear(outputs);
    let after = shard.server.registry.stats();
    assert_eq!((shard.recovering(), after.charged), (0, before.charged));
}

#[test]
fn a_slow_hub_whose_subscription_ended_misses_nothing() {
    let mut shard = Shard::with(SessionConfig {
        window_bytes: 50,
        backlog_bytes: 100,
        ..SessionConfig::default()
    });
    shard.welcome(1);
    shard.subscribe(1, 5, None);
    let mut heard = Vec::new();
    (0..4).for_each(|_| heard.extend(shard.publish_text(&"x".repeat(60))));
    assert_eq!(heard, [Heard1(1, 0), Heard::Unsubscribed]);
    shard.server.written(1, 10_000);
    let heard = shard.subscribe(1, 6, Some(at(1)));
    assert_eq!(heard, [Subscribed(6, true, at(4)), Heard1(2, 1), Heard1(3, 2), Heard1(4, 3)],);
}
