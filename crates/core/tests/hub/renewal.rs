//! Credentials: what HELLO shows, when they are renewed, and when another token is noticed.

use std::time::Duration;

use tabmux_core::hub::{
    Ask, AskId, HubConfig, HubMessage, Input, LinkState, Mode, Output, TabMessage,
};
use tabmux_wire::{
    Denied, Feature, HubFrame, HubId, IdentityTag, RefusedReason, ServerFrame, Standing, Term,
    Welcome, WelcomeTail, close,
};

use crate::support::{ATTACH, Bench, welcome};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// A hub of these tabs, whose tabs know the credentials.
fn hub(tabs: &[u64]) -> Bench {
    let config = HubConfig { asks: true, ..HubConfig::new(Mode::Mux, HubId(1), "chat") };
    let mut bench = Bench::with(config);
    for tab in tabs {
        bench.tab(*tab, ATTACH);
        bench.tab(*tab, TabMessage::Visible { online: true });
    }
    bench.input(Input::LinkLockGranted);
    bench
}

/// The tab that was asked since outputs were last taken, by which number, and for what.
fn asked(bench: &mut Bench) -> Vec<(u64, AskId, Ask)> {
    let ask = |output| match output {
        Output::PostToTab { tab, message: HubMessage::Ask { id, what } } => Some((tab.0, id, what)),
        _ => None,
    };
    bench.take().into_iter().filter_map(ask).collect()
}

fn answer(bench: &mut Bench, answer: Result<bool, &str>) {
    let [(tab, id, _)] = asked(bench)[..] else { panic!("asks a tab") };
    bench.tab(tab, TabMessage::Answer { id, answer });
}

/// The frames behind which the shell puts the credentials.
fn shown(bench: &Bench) -> Vec<Vec<u8>> {
    let frame = |output: &Output| match output {
        Output::ShowCredentials(_, frame) => Some(frame.clone()),
        _ => None,
    };
    bench.outputs.iter().filter_map(frame).collect()
}

fn welcomed(bench: &mut Bench) {
    let (identity, features) = (IdentityTag::Nobody, vec![Feature::Renewal]);
    let tail = Some(WelcomeTail { identity, features });
    bench.connect_by(Welcome { tail, ..welcome() });
}

fn says(bench: &mut Bench, request: u64, accepted: bool, seconds: u64, message: &str) {
    let expires_ms = (seconds > 0).then_some(seconds * 1_000);
    let standing = Standing { request, accepted, expires_ms, message };
    bench.server(&ServerFrame::Credentials(standing));
}

/// A hub of tab 1, connected, whose credentials expire after so many seconds.
fn connected(seconds: u64) -> Bench {
    let mut bench = hub(&[1]);
    answer(&mut bench, Ok(true));
    welcomed(&mut bench);
    says(&mut bench, 0, true, seconds, "");
    bench.take();
    bench
}

/// Time passes, in which the server answers each PING.
fn pass(bench: &mut Bench, seconds: u64) {
    for _ in 0..seconds {
        bench.pass(SECONDS(1));
        for bytes in bench.sent() {
            if let Ok(HubFrame::Ping { nonce }) = HubFrame::decode(&bytes) {
                bench.server(&ServerFrame::Pong { nonce });
            }
        }
        bench.outputs.retain(|output| !matches!(output, Output::SendLink { .. }));
    }
}

fn reasons(bench: &Bench) -> Vec<String> {
    let reason = |message| match message {
        HubMessage::State { reason, .. } => Some(reason),
        _ => None,
    };
    bench.posted(1).into_iter().filter_map(reason).collect()
}

fn denied(bench: &mut Bench) {
    let (code, term, target, message) = (RefusedReason::Denied, Term(0), "", "log in first");
    let denied = Denied { code, term, retry_ms: None, target, message };
    bench.server(&ServerFrame::Denied(denied));
    bench.link_closed(close::NORMAL);
    bench.take();
}

#[test]
fn hello_has_room_for_the_credentials_at_its_end() {
    let mut bench = hub(&[1]);
    answer(&mut bench, Ok(true));
    bench.grant_and_open();
    let [mut hello] = <[_; 1]>::try_from(shown(&bench)).unwrap();
    hello.extend_from_slice(b"token");
    let decoded = HubFrame::decode(&hello);
    assert!(matches!(decoded, Ok(HubFrame::Hello(hello)) if hello.credentials == "token"));
    assert_eq!(bench.sent()[0], shown(&bench)[0], "nothing goes before it");
}

#[test]
fn a_tab_is_asked_before_the_credentials_expire_and_the_server_is_shown_what_is_new() {
    let mut bench = connected(3_600);
    pass(&mut bench, 3_509);
    assert_eq!(asked(&mut bench), []);
    pass(&mut bench, 1);
    let [(1, id, Ask::Credentials)] = asked(&mut bench)[..] else { panic!("asks the tab") };
    bench.tab(1, TabMessage::Answer { id, answer: Ok(true) });
    let [mut frame] = <[_; 1]>::try_from(shown(&bench)).unwrap();
    frame.extend_from_slice(b"token");
    let expected = HubFrame::Credentials { request: 1, credentials: "token" };
    assert_eq!(HubFrame::decode(&frame), Ok(expected));
    bench.take();
    says(&mut bench, 1, true, 40, "");
    pass(&mut bench, 29);
    assert_eq!(asked(&mut bench), []);
    pass(&mut bench, 1);
    assert_eq!(asked(&mut bench).len(), 1, "a quarter of the time is left");
}

#[test]
fn the_same_credentials_are_not_shown_again_and_a_tab_is_asked_less_and_less() {
    let mut bench = connected(400);
    let mut times = Vec::new();
    for second in 1..400 {
        pass(&mut bench, 1);
        for (tab, id, _) in asked(&mut bench) {
            times.push(second);
            bench.tab(tab, TabMessage::Answer { id, answer: Ok(false) });
            assert!(shown(&bench).is_empty());
        }
    }
    assert_eq!(times, [310, 378, 395, 399]);
}

#[test]
fn credentials_that_never_expire_are_not_renewed_unless_the_page_wants_it() {
    let mut bench = connected(0);
    pass(&mut bench, 3_600);
    assert_eq!(asked(&mut bench), []);
    bench.tab(1, TabMessage::Renew);
    bench.pass(Duration::ZERO);
    assert_eq!(asked(&mut bench).len(), 1);
    bench.tab(1, TabMessage::Renew);
    bench.pass(Duration::ZERO);
    assert_eq!(asked(&mut bench), [], "not twice within a second");
}

#[test]
fn a_server_that_takes_none_is_shown_none() {
    let mut bench = hub(&[1]);
    answer(&mut bench, Ok(true));
    bench.connect();
    bench.tab(1, TabMessage::Renew);
    pass(&mut bench, 5);
    assert_eq!(asked(&mut bench), []);
}

#[test]
fn the_page_hears_why_credentials_were_refused_and_that_others_count() {
    let mut bench = connected(100);
    pass(&mut bench, 75);
    answer(&mut bench, Ok(true));
    bench.take();
    says(&mut bench, 1, false, 25, "these credentials are of another user");
    let reason = "tabmux: chat refused the credentials: these credentials are of another user";
    assert_eq!(reasons(&bench), [reason]);
    assert_eq!(bench.hub.state(), LinkState::Connected);
    bench.take();
    pass(&mut bench, 19);
    answer(&mut bench, Ok(true));
    says(&mut bench, 2, true, 100, "");
    assert_eq!(reasons(&bench), [""]);
}

#[test]
fn the_page_hears_that_no_tab_has_credentials_and_the_link_goes_on() {
    let mut bench = connected(100);
    pass(&mut bench, 75);
    answer(&mut bench, Err("logged out"));
    let told = reasons(&bench);
    assert_eq!(told, ["tabmux: the page could not renew its credentials: logged out"]);
    assert_eq!(bench.hub.state(), LinkState::Connected);
}

#[test]
fn a_link_that_breaks_ends_the_question_and_the_next_one_counts_anew() {
    let mut bench = connected(100);
    pass(&mut bench, 75);
    let [(1, id, _)] = asked(&mut bench)[..] else { panic!("asks the tab") };
    bench.link_closed(1006);
    bench.tab(1, TabMessage::Answer { id, answer: Ok(true) });
    assert!(shown(&bench).is_empty());
    bench.pass(SECONDS(1));
    answer(&mut bench, Ok(false));
    welcomed(&mut bench);
    says(&mut bench, 0, true, 100, "");
    bench.take();
    pass(&mut bench, 75);
    answer(&mut bench, Ok(true));
    let [frame] = <[_; 1]>::try_from(shown(&bench)).unwrap();
    assert!(matches!(HubFrame::decode(&frame), Ok(HubFrame::Credentials { request: 1, .. })));
}

#[test]
fn a_hub_that_was_refused_for_good_dials_when_there_are_other_credentials() {
    let mut bench = hub(&[1]);
    answer(&mut bench, Ok(true));
    bench.grant_and_open();
    denied(&mut bench);
    bench.pass(SECONDS(29));
    assert_eq!(asked(&mut bench), []);
    bench.pass(SECONDS(1));
    answer(&mut bench, Ok(false));
    assert_eq!(bench.hub.state(), LinkState::Refused);
    // Looked at: somebody may have logged in.
    bench.tab(1, TabMessage::Visible { online: true });
    bench.pass(SECONDS(1));
    answer(&mut bench, Err("not yet"));
    assert_eq!(bench.hub.state(), LinkState::Refused);
    bench.pass(SECONDS(30));
    answer(&mut bench, Ok(true));
    assert!(bench.outputs.iter().any(|output| matches!(output, Output::OpenLink { .. })));
    assert_eq!(bench.hub.state(), LinkState::Connecting);
    welcomed(&mut bench);
    assert_eq!(bench.hub.state(), LinkState::Connected);
}

#[test]
fn a_hub_whose_page_ended_the_session_asks_for_no_other_credentials_by_itself() {
    let mut bench = connected(100);
    bench.tab(1, TabMessage::Logout);
    bench.take();
    bench.pass(SECONDS(30));
    bench.tab(1, TabMessage::Visible { online: true });
    bench.pass(SECONDS(30));
    assert_eq!(asked(&mut bench), []);
    assert_eq!(bench.hub.state(), LinkState::Refused);
    bench.tab(1, TabMessage::Renew);
    bench.pass(SECONDS(1));
    answer(&mut bench, Ok(false));
    bench.pass(SECONDS(60));
    assert_eq!(asked(&mut bench), [], "it was asked once");
}

#[test]
fn a_page_that_is_back_hears_why_its_user_was_sent_away_and_nothing_is_dialled() {
    let mut bench = hub(&[1, 2]);
    answer(&mut bench, Ok(true));
    welcomed(&mut bench);
    bench.tab(2, TabMessage::Park);
    denied(&mut bench);
    bench.back(2, 0);
    let reason = "tabmux: chat refused: log in first".to_owned();
    let posted = bench.posted(2);
    let state = LinkState::Refused;
    assert!(matches!(posted[0], HubMessage::Attached { state: LinkState::Refused, .. }));
    let told =
        [HubMessage::State { state, tabs: 2, reason: reason.clone() }, HubMessage::Lost { reason }];
    assert_eq!(posted[1..], told);
    assert!(!bench.outputs.iter().any(|output| matches!(output, Output::OpenLink { .. })));
    assert_eq!(bench.hub.state(), LinkState::Refused);
    // A page that is loaded anew is another one.
    bench.take();
    bench.tab(3, ATTACH);
    assert_eq!(asked(&mut bench).len(), 1);
}

#[test]
fn a_tab_hears_of_the_new_dial_before_it_is_asked_for_the_address() {
    let mut bench = hub(&[1]);
    answer(&mut bench, Ok(true));
    bench.grant_and_open();
    denied(&mut bench);
    bench.take();
    bench.tab(1, TabMessage::Reconnect);
    let place = |wanted: fn(&HubMessage) -> bool| {
        let is_it = |output: &Output| match output {
            Output::PostToTab { message, .. } | Output::PostToTabs { message, .. } => {
                wanted(message)
            }
            _ => false,
        };
        bench.outputs.iter().position(is_it)
    };
    let news = place(|it| matches!(it, HubMessage::State { state: LinkState::Connecting, .. }));
    let question = place(|it| matches!(it, HubMessage::Ask { .. }));
    assert!(news.is_some() && news < question, "{:?}", bench.outputs);
}
