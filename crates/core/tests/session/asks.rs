//! Questions to the shell: answered now, later, twice or never, and withdrawn.

use std::{sync::Arc, time::Duration};

use tabmux_core::{
    session::{
        Answer, AnswerError, Ask, AskId, Denial, Output, SessionConfig, SlowPolicy, WakeReason,
    },
    wire::{
        Alias, ErrorCode, HubFrame, Position, Rejected, ServerFrame, SocketId, TabId, TopicId,
        Unsubscribed, UnsubscribedReason,
    },
};

use super::support::{Server, attach, close, frame, frames, hello, open, resume};

const TIMEOUT: Duration = Duration::from_secs(30);

fn asked(outputs: &[Output]) -> (AskId, &Ask) {
    let asked = outputs.iter().find_map(|output| match output {
        Output::Ask { ask, what } => Some((*ask, what)),
        _ => None,
    });
    asked.unwrap_or_else(|| panic!("nothing is asked: {outputs:?}"))
}

/// A server that asks for each subscription.
fn judging() -> Server {
    Server::with(SessionConfig { ask_subscriptions: true, ..SessionConfig::default() })
}

fn subscribe(request: u64, topic: &str) -> HubFrame<'_> {
    HubFrame::Subscribe { request, position: None, topic }
}

const OPEN: Answer<'static> = Answer::Open { protocol: "" };

fn deny(code: ErrorCode) -> Answer<'static> {
    Answer::Deny(Denial { code: code.into(), message: "no", retry: None })
}

#[test]
fn a_question_for_a_socket_survives_its_link() {
    let mut server = Server::new();
    let (_, welcome) = server.welcome_socket(1);
    let (ask, _) = asked(&server.say(1, &open(2, 2)));
    server.cut(1);
    server.hello(2, &resume(&welcome, 9, None));
    server.say(2, &attach(1));
    server.registry.answer(server.now, ask, OPEN).unwrap();
    let outputs = server.drain();
    assert!(matches!(frame(&outputs), ServerFrame::Opened { socket: SocketId(2), .. }));
}

#[test]
fn a_question_for_a_socket_survives_its_hub() {
    let mut server = Server::new();
    let (_, welcome) = server.welcome_socket(1);
    let (ask, _) = asked(&server.say(1, &open(2, 2)));
    let (_, outputs) = server.hello(2, &resume(&welcome, 10, None));
    assert!(!outputs.contains(&Output::Withdrawn(ask)));
    server.registry.answer(server.now, ask, deny(ErrorCode::Denied)).unwrap();
    assert_eq!(server.drain(), [], "it waits for the tab");
    let outputs = server.say(2, &attach(1));
    let is_rejected = |frame: &ServerFrame<'_>| matches!(frame, ServerFrame::Rejected(_));
    assert!(frames(&outputs).iter().any(is_rejected), "{outputs:?}");
}

#[test]
fn a_tab_that_goes_withdraws_its_questions_and_no_other() {
    let mut server = Server::new();
    server.attached(1);
    server.say(1, &attach(2));
    let (first, _) = asked(&server.say(1, &open(1, 1)));
    let mut second = open(1, 1);
    if let HubFrame::Open { up, .. } = &mut second {
        up.tab = Alias(2);
    }
    let (second, _) = asked(&server.say(1, &second));
    let outputs = server.say(1, &HubFrame::Gone { tab: TabId(1) });
    assert_eq!(outputs[0], Output::Withdrawn(first));
    let late = server.registry.answer(server.now, first, OPEN);
    assert_eq!(late, Err(AnswerError::Late));
    assert_eq!(server.registry.answer(server.now, second, OPEN), Ok(()));
    let stats = server.registry.stats();
    assert_eq!((stats.asks.open, stats.sockets.open), (0, 1));
}

#[test]
fn a_session_that_ends_withdraws_its_questions() {
    let mut server = Server::new();
    server.attached(1);
    let (ask, _) = asked(&server.say(1, &open(1, 1)));
    server.cut(1);
    let outputs = server.pass(Duration::from_secs(121));
    assert!(outputs.contains(&Output::Withdrawn(ask)), "{outputs:?}");
    assert_eq!((server.registry.stats().asks.open, server.registry.stats().sockets.open), (0, 0));
}

#[test]
fn the_second_answer_is_late() {
    let mut server = Server::new();
    let socket = server.opening(1);
    assert_eq!(server.answer(socket, OPEN), Ok(()));
    server.drain();
    assert_eq!(server.answer(socket, deny(ErrorCode::Denied)), Err(AnswerError::Late));
    assert_eq!(server.drain(), []);
}

#[test]
fn the_answer_to_another_kind_of_question_leaves_it_open() {
    let mut server = Server::new();
    let socket = server.opening(1);
    let position = Position { epoch: 1, offset: 1 };
    let joined = Answer::Joined { topic: TopicId(1), position, policy: SlowPolicy::Recover };
    for unfit in [Answer::Allow, joined] {
        assert_eq!(server.answer(socket, unfit), Err(AnswerError::Unfit));
    }
    assert_eq!(server.answer(socket, OPEN), Ok(()));
}

#[test]
fn a_question_that_nobody_answers_is_denied_at_its_deadline() {
    let mut server = Server::new();
    server.attached(1);
    let (ask, _) = asked(&server.say(1, &open(1, 1)));
    server.pass(Duration::from_secs(10));
    server.say(1, &HubFrame::Ping { nonce: 1 });
    assert!(server.pass(TIMEOUT - Duration::from_secs(11)).is_empty());
    let wake = server.registry.poll_timeout().map(|(_, reason)| reason);
    assert_eq!(wake, Some(WakeReason::Ask));
    let outputs = server.pass(Duration::from_secs(2));
    let ServerFrame::Rejected(Rejected { code, retry_ms, .. }) = frame(&outputs) else {
        panic!("not rejected: {outputs:?}")
    };
    assert_eq!((code, retry_ms), (ErrorCode::Timeout.byte().into(), Some(5_000)));
    assert!(outputs.contains(&Output::Withdrawn(ask)));
    assert_eq!(server.registry.answer(server.now, ask, OPEN), Err(AnswerError::Late));
    let stats = server.registry.stats();
    assert_eq!((stats.asks.open, stats.asks.overdue, stats.sockets.open), (0, 1, 0));
}

#[test]
fn a_browser_may_have_so_many_questions_open() {
    let mut server = Server::with(SessionConfig { asks: 2, ..SessionConfig::default() });
    server.attached(1);
    for n in 1..=2 {
        asked(&server.say(1, &open(u64::from(n), n)));
    }
    let outputs = server.say(1, &open(3, 3));
    let ServerFrame::Rejected(Rejected { code, retry_ms, message, .. }) = frame(&outputs) else {
        panic!("not rejected: {outputs:?}")
    };
    assert_eq!((code, retry_ms), (ErrorCode::SocketLimit.byte().into(), Some(5_000)));
    assert_eq!(message, "a browser may wait for 2 answers of this server");
    assert_eq!(server.registry.stats().asks.refused, 1);
    server.say(1, &close(4, 1, 1000, ""));
    asked(&server.say(1, &open(5, 4)));
}

#[test]
fn without_a_judge_nobody_is_asked_for_a_subscription() {
    let mut server = Server::new();
    server.welcomed(1);
    let outputs = server.say(1, &subscribe(1, "prices"));
    assert!(matches!(asked(&outputs).1, Ask::Join { .. }));
}

#[test]
fn a_subscription_that_is_allowed_begins() {
    let mut server = judging();
    let session = server.welcomed(1);
    let outputs = server.say(1, &subscribe(1, "prices"));
    let (ask, what) = asked(&outputs);
    let topic: Arc<str> = "prices".into();
    assert_eq!(
        *what,
        Ask::Subscribe { session, topic: Arc::clone(&topic), since: None, renews: false }
    );
    assert_eq!(server.registry.stats().topics.subscriptions, 0, "nobody has allowed it");
    server.registry.answer(server.now, ask, Answer::Allow).unwrap();
    let outputs = server.drain();
    let (ask, what) = asked(&outputs);
    assert_eq!(*what, Ask::Join { topic });
    let position = Position { epoch: 1, offset: 1 };
    let joined = Answer::Joined { topic: TopicId(1), position, policy: SlowPolicy::Recover };
    server.registry.answer(server.now, ask, joined).unwrap();
    assert!(matches!(frame(&server.drain()), ServerFrame::Subscribed(_)));
    assert_eq!(server.registry.stats().topics.subscriptions, 1);
}

#[test]
fn a_subscription_that_is_denied_is_told_with_the_reason() {
    let mut server = judging();
    server.welcomed(1);
    let (ask, _) = asked(&server.say(1, &subscribe(7, "prices")));
    server.registry.answer(server.now, ask, deny(ErrorCode::Denied)).unwrap();
    let (reason, name) = (UnsubscribedReason::Denied, "prices");
    let expected = Unsubscribed { request: 7, reason, retry_ms: None, name, message: "no" };
    assert_eq!(frame(&server.drain()), ServerFrame::Unsubscribed(expected));
    let stats = server.registry.stats();
    assert_eq!(
        (stats.topics.subscribed, stats.topics.subscriptions, stats.topics.subscriptions_refused),
        (0, 0, 1)
    );
}

#[test]
fn a_question_for_a_subscription_ends_with_its_link() {
    let mut server = judging();
    let (_, welcome) = server.welcome_socket(1);
    let (ask, _) = asked(&server.say(1, &subscribe(1, "prices")));
    let outputs = server.cut(1);
    assert_eq!(outputs[0], Output::Withdrawn(ask));
    server.hello(2, &resume(&welcome, 9, None));
    assert_eq!(server.registry.answer(server.now, ask, Answer::Allow), Err(AnswerError::Late));
    assert_eq!(server.drain(), []);
}

#[test]
fn a_topic_that_is_not_wanted_any_more_withdraws_its_question() {
    let mut server = judging();
    server.welcomed(1);
    let (ask, _) = asked(&server.say(1, &subscribe(1, "prices")));
    let outputs = server.say(1, &HubFrame::Unsubscribe { topic: "prices" });
    assert_eq!(outputs, [Output::Withdrawn(ask)]);
    assert_eq!(server.registry.stats().asks.open, 0);
}

#[test]
fn a_topic_that_is_asked_for_twice_is_one_question_and_the_last_request_is_answered() {
    let mut server = judging();
    server.welcomed(1);
    let (ask, _) = asked(&server.say(1, &subscribe(1, "prices")));
    assert_eq!(server.say(1, &subscribe(2, "prices")), []);
    server.registry.answer(server.now, ask, deny(ErrorCode::Denied)).unwrap();
    let outputs = server.drain();
    let ServerFrame::Unsubscribed(Unsubscribed { request, .. }) = frame(&outputs) else {
        panic!("{outputs:?}")
    };
    assert_eq!(request, 2);
}

#[test]
fn wishes_count_as_subscriptions() {
    let config =
        SessionConfig { ask_subscriptions: true, subscriptions: 1, ..SessionConfig::default() };
    let mut server = Server::with(config);
    server.open(1);
    server.say(1, &hello());
    server.say(1, &subscribe(1, "a"));
    let outputs = server.say(1, &subscribe(2, "b"));
    let ServerFrame::Unsubscribed(refused) = frame(&outputs) else { panic!("{outputs:?}") };
    assert_eq!((refused.request, refused.reason), (2, UnsubscribedReason::Limit));
}
