//! Rights to topics that change: the shell is asked again about what a browser has.

use tabmux_core::{
    session::{Answer, AnswerError, Ask, AskId, Denial, Output, SessionConfig, SlowPolicy},
    wire::{ErrorCode, HubFrame, Position, ServerFrame, TopicId, Unsubscribed, UnsubscribedReason},
};

use super::support::{Server, frame, frames, resume};

fn judging() -> Server {
    Server::with(SessionConfig { ask_subscriptions: true, ..SessionConfig::default() })
}

fn subscribe(request: u64, topic: &str) -> HubFrame<'_> {
    HubFrame::Subscribe { request, position: None, topic }
}

const DENY: Answer<'static> = Answer::Deny(Denial {
    code: tabmux_core::session::DenialCode::Known(ErrorCode::Denied),
    message: "no longer",
    retry: None,
});

/// The questions whether a browser may have topics: the number, the name, and whether it has the
/// topic.
fn asked(outputs: &[Output]) -> Vec<(AskId, &str, bool)> {
    let asked = outputs.iter().filter_map(|output| match output {
        Output::Ask { ask, what: Ask::Subscribe { topic, renews, .. } } => {
            Some((*ask, &**topic, *renews))
        }
        _ => None,
    });
    asked.collect()
}

/// Says yes to a SUBSCRIBE, and where the topic is.
fn has(server: &mut Server, link: u64, request: u64, topic: &str) {
    let outputs = server.say(link, &subscribe(request, topic));
    let (ask, ..) = asked(&outputs)[0];
    server.registry.answer(server.now, ask, Answer::Allow).unwrap();
    let join = server.drain().into_iter().find_map(|output| match output {
        Output::Ask { ask, what: Ask::Join { .. } } => Some(ask),
        _ => None,
    });
    let position = Position { epoch: 1, offset: 1 };
    let (topic, policy) = (TopicId(request), SlowPolicy::Recover);
    let joined = Answer::Joined { topic, position, policy };
    server.registry.answer(server.now, join.unwrap(), joined).unwrap();
    server.drain();
}

fn review(server: &mut Server) -> Vec<Output> {
    server.registry.review(server.now);
    server.drain()
}

#[test]
fn a_browser_that_lost_its_right_is_told_with_the_reason_and_keeps_its_other_topics() {
    let mut server = judging();
    server.welcomed(1);
    has(&mut server, 1, 1, "prices");
    has(&mut server, 1, 2, "news");
    let outputs = review(&mut server);
    let asked = asked(&outputs);
    assert_eq!(
        asked.iter().map(|(_, name, had)| (*name, *had)).collect::<Vec<_>>(),
        [("prices", true), ("news", true)]
    );
    server.registry.answer(server.now, asked[1].0, Answer::Allow).unwrap();
    assert_eq!(server.drain(), [], "nobody is told of a right that goes on");
    server.registry.answer(server.now, asked[0].0, DENY).unwrap();
    let (request, reason, name) = (1, UnsubscribedReason::Denied, "prices");
    let told = Unsubscribed { request, reason, retry_ms: None, name, message: "no longer" };
    let outputs = server.drain();
    assert_eq!(frames(&outputs), [ServerFrame::Unsubscribed(told)]);
    let stats = server.registry.stats();
    assert_eq!((stats.topics.subscriptions, stats.topics.rights_lost, stats.asks.open), (1, 1, 0));
}

#[test]
fn a_question_of_before_counts_no_more() {
    let mut server = judging();
    server.welcomed(1);
    let outputs = server.say(1, &subscribe(7, "prices"));
    let (before, ..) = asked(&outputs)[0];
    let outputs = review(&mut server);
    assert_eq!(outputs[0], Output::Withdrawn(before));
    let (now, name, had) = asked(&outputs)[0];
    assert_eq!((name, had), ("prices", false));
    let late = server.registry.answer(server.now, before, Answer::Allow);
    assert_eq!(late, Err(AnswerError::Late));
    server.registry.answer(server.now, now, DENY).unwrap();
    let outputs = server.drain();
    assert!(matches!(frame(&outputs), ServerFrame::Unsubscribed(it) if it.request == 7));
}

#[test]
fn a_review_ends_with_its_subscription_and_with_its_link() {
    let mut server = judging();
    let (_, welcome) = server.welcome_socket(1);
    has(&mut server, 1, 1, "prices");
    has(&mut server, 1, 2, "news");
    let outputs = review(&mut server);
    let [(first, ..), (second, ..)] = asked(&outputs)[..] else { panic!("{outputs:?}") };
    let outputs = server.say(1, &HubFrame::Unsubscribe { topic: "prices" });
    assert!(outputs.contains(&Output::Withdrawn(first)), "{outputs:?}");
    assert!(server.cut(1).contains(&Output::Withdrawn(second)));
    assert_eq!(review(&mut server), [], "it has no link");
    let (_, outputs) = server.hello(2, &resume(&welcome, 9, None));
    let asked = asked(&outputs);
    assert_eq!((asked.len(), asked[0].1, asked[0].2), (1, "news", true));
    server.registry.answer(server.now, asked[0].0, DENY).unwrap();
    let outputs = server.drain();
    assert!(matches!(frame(&outputs), ServerFrame::Unsubscribed(it) if it.request == 0));
}

#[test]
fn a_server_whose_rules_say_nothing_is_asked_nothing() {
    let mut server = Server::new();
    server.welcomed(1);
    server.say(1, &subscribe(1, "prices"));
    assert_eq!(review(&mut server), []);
}
