//! What a hub makes of servers of each version of the protocol.

use std::time::Duration;

use tabmux_core::hub::{HubMessage, LinkState, Mode, Output};
use tabmux_wire::{
    Denied, HubFrame, IdentityTag, Payload, RefusedReason, Rejected, Reply, ServerFrame, Term,
    WelcomeTail,
};

use crate::support::{ATTACH, Bench, ONE, alias, data, opened, text, welcome};

fn dialled(bench: &Bench) -> bool {
    bench.outputs.iter().any(|output| matches!(output, Output::OpenLink { .. }))
}

/// A hub that has said HELLO.
fn asking() -> Bench {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, ATTACH);
    bench.open(1, ONE);
    bench.grant_and_open();
    bench
}

fn denied(retry_ms: Option<u64>) -> ServerFrame<'static> {
    ServerFrame::Denied(Denied {
        code: RefusedReason::Denied,
        term: Term(0),
        retry_ms,
        target: "",
        message: "log in first",
    })
}

#[test]
fn a_hub_offers_both_versions() {
    let bench = asking();
    let sent = bench.sent();
    let Ok(HubFrame::Hello(hello)) = HubFrame::decode(&sent[0]) else {
        panic!("HELLO does not come first: {sent:?}");
    };
    assert_eq!((hello.min_version, hello.max_version), (1, 2));
}

#[test]
fn a_server_of_either_version_is_connected_to() {
    let second = WelcomeTail { identity: IdentityTag::User("c2V2ZW4".into()), features: vec![] };
    for tail in [None, Some(second)] {
        let mut bench = asking();
        bench.server(&ServerFrame::Welcome(tabmux_wire::Welcome { tail, ..welcome() }));
        assert_eq!(bench.hub.state(), LinkState::Connected);
    }
}

#[test]
fn a_denial_for_a_while_is_told_with_its_reason_and_obeyed() {
    let mut bench = asking();
    bench.take();
    bench.server(&denied(Some(3000)));
    let told = |message: &HubMessage| match message {
        HubMessage::State { reason, .. } => reason.contains("log in first"),
        _ => false,
    };
    assert!(bench.posted(1).iter().any(told));
    bench.take();
    bench.pass(Duration::from_millis(2999));
    assert!(!dialled(&bench));
    bench.pass(Duration::from_millis(1));
    assert!(dialled(&bench));
}

#[test]
fn after_a_denial_for_good_nothing_is_dialled_until_a_tab_attaches() {
    let mut bench = asking();
    bench.server(&denied(None));
    bench.take();
    bench.pass(Duration::from_secs(3600));
    bench.input(tabmux_core::hub::Input::NetworkChanged { online: true });
    assert!(!dialled(&bench));
    bench.tab(2, ATTACH);
    assert!(dialled(&bench));
}

#[test]
fn a_living_session_may_be_ended_by_a_denial() {
    let mut bench = Bench::connected();
    bench.server(&denied(None));
    assert!(matches!(
        bench.outputs.last(),
        Some(Output::PostToTab { .. } | Output::PostToTabs { .. })
    ));
    assert_eq!(bench.hub.state(), LinkState::Refused);
}

/// Returns what tab 1 was told that it lost.
fn lost(bench: &Bench) -> Option<String> {
    bench.posted(1).into_iter().find_map(|message| match message {
        HubMessage::Lost { reason } => Some(reason.clone()),
        _ => None,
    })
}

#[test]
fn a_session_goes_on_after_a_denial_for_a_while() {
    let mut bench = Bench::connected();
    bench.open(1, ONE);
    bench.server(&opened(1, ONE));
    bench.link_closed(1006);
    bench.pass(Duration::from_secs(1));
    bench.grant_and_open();
    bench.take();
    // What a judge says that cannot tell now: its database is away.
    let (code, term, target, message) = (RefusedReason::Limit, Term(0), "", "no database");
    let retry_ms = Some(3_000);
    bench.server(&ServerFrame::Denied(Denied { code, term, retry_ms, target, message }));
    assert_eq!(lost(&bench), None);
    bench.take();
    bench.pass(Duration::from_millis(2_999));
    assert!(!dialled(&bench));
    bench.pass(Duration::from_millis(1));
    bench.grant_and_open();
    let claims = |bytes: &Vec<u8>| match HubFrame::decode(bytes) {
        Ok(HubFrame::Hello(hello)) => hello.resume.is_some(),
        _ => false,
    };
    assert!(bench.sent().iter().any(claims));
}

#[test]
fn a_session_that_is_denied_for_good_is_lost_and_nothing_is_dialled() {
    let mut bench = Bench::connected();
    bench.link_closed(1006);
    bench.pass(Duration::from_secs(1));
    bench.grant_and_open();
    bench.take();
    // With a time to try again the same code means that the claim was wrong.
    bench.server(&denied(None));
    assert!(lost(&bench).is_some_and(|reason| reason.contains("log in first")));
    bench.take();
    bench.pass(Duration::from_secs(3600));
    assert!(!dialled(&bench));
}

#[test]
fn a_session_that_the_application_ended_is_lost_and_another_one_begins_later() {
    let mut bench = Bench::connected();
    let (code, term, target, message) = (RefusedReason::Ended, Term(0), "", "logged out");
    let retry_ms = Some(2_000);
    bench.server(&ServerFrame::Denied(Denied { code, term, retry_ms, target, message }));
    assert!(lost(&bench).is_some_and(|reason| reason.contains("logged out")));
    bench.take();
    bench.pass(Duration::from_millis(1_999));
    assert!(!dialled(&bench));
    bench.pass(Duration::from_millis(1));
    assert!(dialled(&bench));
}

#[test]
fn frames_that_the_hub_does_not_act_on_are_counted_and_ignored() {
    let mut bench = Bench::connected();
    bench.open(1, ONE);
    bench.server(&opened(1, ONE));
    bench.take();
    let (tab, socket, last) = (alias(1), ONE, true);
    let reply = Reply { tab, socket, last, payload: Payload::Text("hi") };
    bench.server(&ServerFrame::Reply(reply));
    assert!(bench.posted(1).is_empty());
    bench.server(&data(1, ONE, "hi"));
    let count = 3;
    let message = HubMessage::Message { socket: ONE, count, payload: text("hi") };
    assert_eq!(bench.all_posted(1), [message]);
}

#[test]
fn a_refused_socket_fails_with_the_text_and_counts_once() {
    let own = [(3000, 3000), (4403, 4403), (4999, 4999)];
    let others = [(2, 1006), (1000, 1006), (2999, 1006), (5000, 1006)];
    for (sent, code) in own.into_iter().chain(others) {
        let mut bench = Bench::connected();
        bench.open(1, ONE);
        bench.take();
        let (tab, socket, message) = (alias(1), ONE, "log in first");
        let rejected = Rejected { tab, socket, code: sent, retry_ms: None, message };
        bench.server(&ServerFrame::Rejected(rejected));
        let (clean, reason) = (false, String::new());
        let error = HubMessage::Error { socket, message: message.to_owned() };
        let closed = HubMessage::Closed { socket, count: 1, code, clean, reason };
        assert_eq!(bench.all_posted(1), [error, closed]);
    }
}

#[test]
fn a_ticket_is_shown_if_it_may_be_a_sub_protocol_and_has_a_path() {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, ATTACH);
    bench.connect();
    bench.take();
    let long = "a".repeat(128);
    for (ticket, path, is_shown) in [
        ("once_-9", "/chat?room=1", true),
        (&*long, "/", true),
        ("on ce", "/", false),
        ("on,ce", "/", false),
        ("once", "//elsewhere/chat", true),
        ("once", "chat", false),
        ("once", "", false),
    ] {
        bench.server(&ServerFrame::Ticket { ticket, path });
        let shown = Output::ShowTicket { ticket: ticket.to_owned(), path: path.to_owned() };
        assert_eq!(bench.outputs.contains(&shown), is_shown, "{ticket} {path}");
        bench.take();
        assert_eq!(bench.hub.state(), LinkState::Connected);
    }
}
