//! Credentials in HELLO, and those that renew them.

use std::{sync::Arc, time::Duration};

use tabmux_core::{
    session::{
        Admitted, Answer, AnswerError, Ask, AskId, Denial, Farewell, LinkDown, LinkId, Output,
        SessionConfig, User, Visitor, WakeReason,
    },
    wire::{
        Denied, ErrorCode, Feature, Hello, HubFrame, HubId, RefusedReason, Resume, ServerFrame,
        Standing, Term, Welcome, close,
    },
};

use crate::support::{Server, attach, cause, closed, frame, frames, open, resume};

const MINUTE: Duration = Duration::from_secs(60);

/// A server that takes credentials.
fn server() -> Server {
    Server::with(SessionConfig { credentials: true, users: true, ..SessionConfig::default() })
}

fn hello(credentials: &'static str) -> HubFrame<'static> {
    hello_of(None, credentials)
}

fn hello_of(resume: Option<Resume>, credentials: &'static str) -> HubFrame<'static> {
    let (min_version, max_version, hub) = (1, 2, HubId(9));
    HubFrame::Hello(Hello { min_version, max_version, hub, resume, credentials })
}

/// The question among the outputs: its number, the link, whether it renews, and the credentials.
fn asked(outputs: &[Output]) -> (AskId, LinkId, bool, String) {
    let mut questions = outputs.iter().filter_map(|output| match output {
        Output::Ask { ask, what: Ask::Connect { link, renews, credentials, .. } } => {
            Some((*ask, *link, *renews, credentials.0.to_string()))
        }
        _ => None,
    });
    let question = questions.next().unwrap_or_else(|| panic!("nothing was asked: {outputs:?}"));
    assert_eq!(questions.next(), None);
    question
}

fn visitor(name: &str, until: Option<tabmux_core::Timestamp>) -> Arc<Visitor> {
    let user = Some(Arc::new(User::new(name, 0)));
    Arc::new(Visitor::Admitted(Admitted { user, until, ..Admitted::default() }))
}

fn no(message: &str, retry: Option<Duration>) -> Answer<'_> {
    Answer::Deny(Denial { code: ErrorCode::Denied.into(), message, retry })
}

impl Server {
    fn admit(&mut self, ask: AskId, who: &Arc<Visitor>) -> Vec<Output> {
        assert_eq!(self.registry.answer(self.now, ask, Answer::Admit(who)), Ok(()));
        self.drain()
    }

    fn deny(&mut self, ask: AskId, message: &str, retry: Option<Duration>) -> Vec<Output> {
        assert_eq!(self.registry.answer(self.now, ask, no(message, retry)), Ok(()));
        self.drain()
    }

    /// A link of Ann with tab 1, whose credentials expire after a minute.
    fn ann(&mut self, link: u64) -> Welcome {
        self.open(link);
        let (ask, ..) = asked(&self.say(link, &hello("ann 1")));
        let who = visitor("ann", Some(self.now + MINUTE));
        let outputs = self.admit(ask, &who);
        let ServerFrame::Welcome(welcome) = frames(&outputs).remove(0) else { panic!() };
        self.say(link, &attach(1));
        self.say(link, &open(1, 1));
        welcome
    }

    /// The question about credentials that renew those of a link.
    fn renew(&mut self, link: u64, request: u64, credentials: &'static str) -> AskId {
        let frame = HubFrame::Credentials { request, credentials };
        let (ask, asked_of, renews, shown) = asked(&self.say(link, &frame));
        assert_eq!((asked_of, renews, &*shown), (LinkId(link), true, credentials));
        ask
    }
}

fn standing(outputs: &[Output]) -> Standing<'_> {
    let standing = frames(outputs).into_iter().find_map(|frame| match frame {
        ServerFrame::Credentials(standing) => Some(standing),
        _ => None,
    });
    standing.unwrap_or_else(|| panic!("{outputs:?}"))
}

#[test]
fn a_link_that_shows_credentials_is_welcomed_when_they_are_allowed() {
    let mut server = server();
    server.open(1);
    let outputs = server.say(1, &hello("ann 1"));
    let (ask, link, renews, shown) = asked(&outputs);
    assert_eq!((link, renews, &*shown), (LinkId(1), false, "ann 1"));
    assert!(server.registry.is_pending(link));
    assert_eq!(frames(&outputs), [], "before the answer nothing is said");
    assert_eq!(server.registry.sessions().count(), 0);
    let who = visitor("ann", Some(server.now + MINUTE));
    let outputs = server.admit(ask, &who);
    assert!(!server.registry.is_pending(link));
    let frames = frames(&outputs);
    let ServerFrame::Welcome(welcome) = &frames[0] else { panic!("{frames:?}") };
    assert_eq!(welcome.tail.as_ref().unwrap().features, [Feature::Renewal]);
    let (request, accepted, expires_ms, message) = (0, true, Some(60_000), "");
    let told = ServerFrame::Credentials(Standing { request, accepted, expires_ms, message });
    assert_eq!(frames[1..], [told]);
    assert_eq!(server.registry.sessions_of("ann").len(), 1);
}

#[test]
fn a_visitor_of_whom_nothing_is_decided_is_asked_about_without_credentials_too() {
    let mut server = server();
    server.open_by(1, Some(Visitor::Undecided(None)));
    let (ask, _, _, shown) = asked(&server.say(1, &hello("")));
    assert_eq!(shown, "");
    let outputs = server.deny(ask, "log in first", None);
    let (code, term, target) = (RefusedReason::Denied, Term(0), "");
    let denied = Denied { code, term, retry_ms: None, target, message: "log in first" };
    assert_eq!(frame(&outputs), ServerFrame::Denied(denied));
    assert_eq!(closed(&outputs), (1, close::POLICY, "log in first"));
    assert_eq!(cause(&outputs), LinkDown::TurnedAway);
    assert_eq!(server.registry.stats().charged.bytes(), 0);
}

#[test]
fn a_server_that_takes_no_credentials_ignores_them() {
    let mut server = Server::new();
    server.open(1);
    let outputs = server.say(1, &hello("ann 1"));
    let ServerFrame::Welcome(welcome) = frame(&outputs) else { panic!() };
    assert_eq!(welcome.tail.unwrap().features, []);
    let outputs = server.say(1, &HubFrame::Credentials { request: 4, credentials: "ann 2" });
    let message = "this server takes no credentials";
    let refused = Standing { request: 4, accepted: false, expires_ms: None, message };
    assert_eq!(standing(&outputs), refused);
}

#[test]
fn a_refusal_for_now_leaves_the_session_to_the_next_link() {
    let mut server = server();
    let welcome = server.ann(1);
    server.cut(1);
    server.open(2);
    let HubFrame::Hello(Hello { resume, .. }) = resume(&welcome, 9, Some(0)) else { panic!() };
    let (ask, ..) = asked(&server.say(2, &hello_of(resume, "ann 2")));
    let outputs = server.deny(ask, "no database", Some(Duration::from_secs(5)));
    let ServerFrame::Denied(denied) = frame(&outputs) else { panic!() };
    assert_eq!((denied.code, denied.retry_ms), (RefusedReason::Limit, Some(5_000)));
    server.open(3);
    let (ask, ..) = asked(&server.say(3, &hello_of(resume, "ann 2")));
    let who = visitor("ann", None);
    let outputs = server.admit(ask, &who);
    assert!(matches!(&frames(&outputs)[0], ServerFrame::Welcome(it) if it.resumed));
}

#[test]
fn the_old_link_stays_until_the_answer_comes_and_the_claim_is_looked_at_then() {
    let mut server = server();
    let welcome = server.ann(1);
    server.open(2);
    let HubFrame::Hello(Hello { resume, .. }) = resume(&welcome, 9, Some(0)) else { panic!() };
    let (ask, ..) = asked(&server.say(2, &hello_of(resume, "ann 2")));
    assert_eq!(server.registry.link_of(welcome.session), Some(LinkId(1)));
    let outputs = server.say(1, &HubFrame::Ping { nonce: 1 });
    assert_eq!(frames(&outputs).last(), Some(&ServerFrame::Pong { nonce: 1 }));
    let who = visitor("ann", None);
    let outputs = server.admit(ask, &who);
    assert_eq!(cause(&outputs), LinkDown::Replaced);
    assert_eq!(server.registry.link_of(welcome.session), Some(LinkId(2)));
    // Of another user the same claim is refused, whatever the link was before.
    server.open(3);
    let (ask, ..) = asked(&server.say(3, &hello_of(resume, "bob 1")));
    let bob = visitor("bob", None);
    let outputs = server.admit(ask, &bob);
    assert!(matches!(frame(&outputs), ServerFrame::Denied(it) if it.code == RefusedReason::Denied));
    assert_eq!(server.registry.link_of(welcome.session), Some(LinkId(2)));
}

#[test]
fn a_claim_of_a_session_that_ends_before_the_answer_begins_a_new_one() {
    let mut server = server();
    let welcome = server.ann(1);
    server.open(2);
    let HubFrame::Hello(Hello { resume, .. }) = resume(&welcome, 9, Some(0)) else { panic!() };
    let (ask, ..) = asked(&server.say(2, &hello_of(resume, "ann 2")));
    let farewell = Farewell { code: RefusedReason::Ended, retry: None, message: "bye".into() };
    server.registry.end_session(server.now, welcome.session, &farewell).unwrap();
    server.drain();
    let who = visitor("ann", None);
    let outputs = server.admit(ask, &who);
    assert!(matches!(&frames(&outputs)[0], ServerFrame::Welcome(it) if !it.resumed));
}

#[test]
fn a_question_that_nobody_answers_refuses_the_link_for_now_as_long_as_its_hub_waits() {
    let mut server = server();
    server.open(1);
    let (ask, ..) = asked(&server.say(1, &hello("ann 1")));
    assert_eq!(server.registry.poll_timeout().map(|(_, why)| why), Some(WakeReason::Ask));
    assert_eq!(server.pass(Duration::from_millis(9_900)), []);
    let outputs = server.pass(Duration::from_millis(100));
    let ServerFrame::Denied(denied) = frame(&outputs) else { panic!() };
    assert_eq!((denied.code, denied.retry_ms), (RefusedReason::Limit, Some(5_000)));
    assert!(outputs.contains(&Output::Withdrawn(ask)));
    let who = visitor("ann", None);
    let late = server.registry.answer(server.now, ask, Answer::Admit(&who));
    assert_eq!(late, Err(AnswerError::Late));
    let stats = server.registry.stats();
    assert_eq!((stats.links.open, stats.asks.overdue, stats.charged.bytes()), (0, 1, 0));
}

#[test]
fn a_link_that_goes_withdraws_its_question() {
    let mut server = server();
    server.open(1);
    let (ask, ..) = asked(&server.say(1, &hello("ann 1")));
    assert!(server.registry.stats().charged.asks > "ann 1".len());
    let outputs = server.cut(1);
    assert!(outputs.contains(&Output::Withdrawn(ask)), "{outputs:?}");
    let stats = server.registry.stats();
    assert_eq!((stats.asks.open, stats.charged.bytes()), (0, 0));
    assert_eq!(server.registry.poll_timeout(), None);
}

#[test]
fn a_link_is_answered_once_and_by_what_fits() {
    let mut server = server();
    server.open(1);
    let (ask, ..) = asked(&server.say(1, &hello("ann 1")));
    let unfit = server.registry.answer(server.now, ask, Answer::Allow);
    assert_eq!(unfit, Err(AnswerError::Unfit));
    let who = visitor("ann", None);
    server.admit(ask, &who);
    let twice = server.registry.answer(server.now, ask, Answer::Admit(&who));
    assert_eq!(twice, Err(AnswerError::Late));
    assert_eq!(server.registry.sessions().count(), 1);
}

#[test]
fn a_draining_server_asks_about_nobody_and_refuses_whom_it_asked_about() {
    let mut server = server();
    server.open(1);
    let (ask, ..) = asked(&server.say(1, &hello("ann 1")));
    server.registry.drain(server.now, u32::MAX, MINUTE, MINUTE);
    server.drain();
    let who = visitor("ann", None);
    let late = server.registry.answer(server.now, ask, Answer::Admit(&who));
    assert_eq!(late, Err(AnswerError::Late), "the link was the first to be sent away");
    server.open(2);
    let outputs = server.say(2, &hello("ann 1"));
    assert!(
        matches!(frame(&outputs), ServerFrame::Denied(it) if it.code == RefusedReason::Draining)
    );
}

#[test]
fn newer_credentials_of_the_same_user_extend_the_link() {
    let mut server = server();
    server.ann(1);
    server.pass(MINUTE / 2);
    let ask = server.renew(1, 7, "ann 2");
    let who = visitor("ann", Some(server.now + 2 * MINUTE));
    let outputs = server.admit(ask, &who);
    let (request, accepted, expires_ms, message) = (7, true, Some(120_000), "");
    assert_eq!(standing(&outputs), Standing { request, accepted, expires_ms, message });
    for _ in 0..5 {
        let outputs = server.pass(Duration::from_secs(20));
        assert!(outputs.is_empty(), "{outputs:?}");
        server.say(1, &HubFrame::Ping { nonce: 1 });
    }
    let outputs = server.pass(Duration::from_secs(20));
    assert_eq!(cause(&outputs), LinkDown::Expired);
    assert_eq!(server.registry.stats().links.renewed, 1);
}

#[test]
fn credentials_of_another_user_are_refused_and_change_nothing() {
    let mut server = server();
    let welcome = server.ann(1);
    let ask = server.renew(1, 7, "bob 1");
    let bob = visitor("bob", None);
    let outputs = server.admit(ask, &bob);
    let (request, accepted, expires_ms) = (7, false, Some(60_000));
    let message = "these credentials are of another user";
    assert_eq!(standing(&outputs), Standing { request, accepted, expires_ms, message });
    assert_eq!(server.registry.sessions_of("bob"), []);
    assert_eq!(server.registry.link_of(welcome.session), Some(LinkId(1)));
    server.pass(MINUTE / 2);
    server.say(1, &HubFrame::Ping { nonce: 1 });
    assert_eq!(cause(&server.pass(MINUTE / 2)), LinkDown::Expired, "as if nobody had asked");
    assert_eq!(server.registry.stats().links.not_renewed, 1);
}

#[test]
fn credentials_that_are_refused_change_nothing() {
    let mut server = server();
    server.ann(1);
    let ask = server.renew(1, 7, "ann 2");
    let outputs = server.deny(ask, "the token has expired", None);
    let (request, accepted, expires_ms) = (7, false, Some(60_000));
    let message = "the token has expired";
    assert_eq!(standing(&outputs), Standing { request, accepted, expires_ms, message });
    let outputs = server.say(1, &HubFrame::Ping { nonce: 1 });
    assert_eq!(frames(&outputs).last(), Some(&ServerFrame::Pong { nonce: 1 }));
}

#[test]
fn a_hub_has_one_question_about_its_credentials_at_a_time() {
    let mut server = server();
    server.ann(1);
    let ask = server.renew(1, 7, "ann 2");
    let outputs = server.say(1, &HubFrame::Credentials { request: 8, credentials: "ann 3" });
    let refused = standing(&outputs);
    assert_eq!((refused.request, refused.accepted), (8, false));
    let who = visitor("ann", None);
    let accepted = server.admit(ask, &who);
    assert_eq!((standing(&accepted).request, standing(&accepted).accepted), (7, true));
    server.renew(1, 9, "ann 4");
}

#[test]
fn a_link_that_breaks_withdraws_the_question_about_its_newer_credentials() {
    let mut server = server();
    server.ann(1);
    let before = server.registry.stats().charged.asks;
    let ask = server.renew(1, 7, "ann 2");
    assert!(server.registry.stats().charged.asks > before + "ann 2".len());
    let outputs = server.cut(1);
    assert!(outputs.contains(&Output::Withdrawn(ask)), "{outputs:?}");
    assert_eq!(server.registry.stats().charged.asks, before);
    let who = visitor("ann", None);
    let late = server.registry.answer(server.now, ask, Answer::Admit(&who));
    assert_eq!(late, Err(AnswerError::Late));
}

#[test]
fn a_question_about_newer_credentials_that_nobody_answers_changes_nothing() {
    let mut server = server();
    server.ann(1);
    server.renew(1, 7, "ann 2");
    server.pass(Duration::from_secs(20));
    server.say(1, &HubFrame::Ping { nonce: 1 });
    let outputs = server.pass(Duration::from_secs(10));
    let overdue = standing(&outputs);
    assert_eq!((overdue.request, overdue.accepted, overdue.expires_ms), (7, false, Some(30_000)));
}

#[test]
fn a_hub_of_version_1_has_no_frame_that_renews_and_is_told_of_no_end() {
    let mut server = server();
    server.open(1);
    let (min_version, max_version, hub) = (1, 1, HubId(9));
    let old = Hello { min_version, max_version, hub, resume: None, credentials: "ann 1" };
    let (ask, ..) = asked(&server.say(1, &HubFrame::Hello(old)));
    let who = visitor("ann", Some(server.now + MINUTE));
    let outputs = server.admit(ask, &who);
    assert!(matches!(frame(&outputs), ServerFrame::Welcome(_)));
    let outputs = server.say(1, &HubFrame::Credentials { request: 1, credentials: "ann 2" });
    assert_eq!(outputs, []);
}

#[test]
fn what_is_asked_does_not_print_the_credentials() {
    let mut server = server();
    server.open(1);
    let outputs = server.say(1, &hello("ann s3cret"));
    assert!(!format!("{outputs:?}").contains("s3cret"), "{outputs:?}");
}
