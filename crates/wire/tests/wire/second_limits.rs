//! What version 2 holds its frames to: accepted at each limit, refused one past it.

use tabmux_wire::{
    Alias, DecodeError, Denied, Dismissed, Feature, HubFrame, IdentityTag, MAGIC, MAX_CREDENTIALS,
    MAX_FEATURES, MAX_KEY, MAX_MESSAGE_TEXT, MAX_METADATA, MAX_METHOD, MAX_PRESENCE_ENTRIES,
    MAX_TAG, MAX_TARGET, MAX_TICKET, MAX_TOPIC_NAME, MAX_USER, Member, Payload, Position, Presence,
    Present, Publish, Recover, RefusedReason, Rejected, Request, ServerFrame, SocketId, Standing,
    TabId, Term, TopicId, Upstream, WelcomeTail,
};

use crate::{
    frame::{Frame, assert_refused},
    limits::{assert_limit, x},
    server_vectors::welcome,
};

const UP: Upstream = Upstream { tab: Alias(1), n: 1 };
const SOCKET: SocketId = SocketId(1);
const EMPTY: Payload<'static> = Payload::Text("");

#[test]
fn other_credentials_have_a_limit() {
    assert_limit(MAX_CREDENTIALS, "credentials", |len| {
        Frame::Hub(HubFrame::Credentials { request: 1, credentials: x(len) })
    });
}

#[test]
fn a_ticket_has_a_limit() {
    assert_limit(MAX_TICKET, "ticket", |len| {
        Frame::Hub(HubFrame::Open {
            up: UP,
            socket: SOCKET,
            credit: 0,
            path: "/",
            protocols: vec![],
            ticket: x(len),
        })
    });
}

fn request(method: &'static str, key: &'static str) -> Frame<'static> {
    let (up, socket, credit, payload) = (UP, SOCKET, 0, EMPTY);
    Frame::Hub(HubFrame::Request(Request { up, socket, credit, method, key, payload }))
}

#[test]
fn a_method_has_a_limit() {
    assert_limit(MAX_METHOD, "method", |len| request(x(len), ""));
}

#[test]
fn the_key_of_a_request_has_a_limit() {
    assert_limit(MAX_KEY, "key", |len| request("add", x(len)));
}

fn publish(topic: &'static str, key: &'static str) -> Frame<'static> {
    let (up, socket, payload) = (UP, SOCKET, EMPTY);
    Frame::Hub(HubFrame::Publish(Publish { up, socket, topic, key, payload }))
}

#[test]
fn the_topic_of_a_publication_of_a_tab_has_a_limit() {
    assert_limit(MAX_TOPIC_NAME, "topic", |len| publish(x(len), ""));
}

#[test]
fn the_key_of_a_publication_of_a_tab_has_a_limit() {
    assert_limit(MAX_KEY, "key", |len| publish("t", x(len)));
}

#[test]
fn a_topic_to_recover_has_a_limit() {
    assert_limit(MAX_TOPIC_NAME, "topic", |len| {
        let since = Position { epoch: 1, offset: 1 };
        Frame::Hub(HubFrame::Recover(Recover { up: UP, socket: SOCKET, since, topic: x(len) }))
    });
}

fn present(topic: &'static str, metadata: &'static str) -> Frame<'static> {
    let present = Present::Here { idle: false, metadata };
    Frame::Hub(HubFrame::Presence { topic, present })
}

#[test]
fn a_topic_to_be_present_in_has_a_limit() {
    assert_limit(MAX_TOPIC_NAME, "topic", |len| present(x(len), ""));
}

#[test]
fn the_metadata_of_a_browser_have_a_limit() {
    assert_limit(MAX_METADATA, "metadata", |len| present("t", x(len)));
}

fn denied(target: &'static str, message: &'static str) -> Frame<'static> {
    let (code, term, retry_ms) = (RefusedReason::Limit, Term(0), None);
    Frame::Server(ServerFrame::Denied(Denied { code, term, retry_ms, target, message }))
}

#[test]
fn the_target_of_denied_has_a_limit() {
    assert_limit(MAX_TARGET, "target", |len| denied(x(len), ""));
}

#[test]
fn the_text_of_denied_has_a_limit() {
    assert_limit(MAX_MESSAGE_TEXT, "message", |len| denied("", x(len)));
}

#[test]
fn the_text_about_credentials_has_a_limit() {
    assert_limit(MAX_MESSAGE_TEXT, "message", |len| {
        Frame::Server(ServerFrame::Credentials(Standing {
            request: 1,
            accepted: false,
            expires_ms: None,
            message: x(len),
        }))
    });
}

#[test]
fn the_text_of_dismissed_has_a_limit() {
    assert_limit(MAX_MESSAGE_TEXT, "message", |len| {
        let (tab, retry_ms) = (TabId(1), None);
        Frame::Server(ServerFrame::Dismissed(Dismissed { tab, retry_ms, message: x(len) }))
    });
}

#[test]
fn the_text_of_rejected_has_a_limit() {
    assert_limit(MAX_MESSAGE_TEXT, "message", |len| {
        Frame::Server(ServerFrame::Rejected(Rejected {
            tab: Alias(1),
            socket: SOCKET,
            code: 1,
            retry_ms: None,
            message: x(len),
        }))
    });
}

fn presence(members: Vec<Member<'static>>, left: Vec<&'static str>) -> Frame<'static> {
    let (topic, whole, count) = (TopicId(1), false, 0);
    Frame::Server(ServerFrame::Presence(Presence { topic, whole, count, members, left }))
}

fn member(user: &'static str, metadata: &'static str) -> Member<'static> {
    Member { user, browsers: 1, tabs: 1, idle: false, metadata }
}

#[test]
fn members_have_a_limit() {
    assert_limit(MAX_PRESENCE_ENTRIES, "members", |len| {
        presence(vec![member("a", ""); len], vec![])
    });
}

#[test]
fn users_that_left_have_a_limit() {
    assert_limit(MAX_PRESENCE_ENTRIES, "left", |len| presence(vec![], vec!["a"; len]));
}

#[test]
fn the_name_of_a_user_has_a_limit() {
    assert_limit(MAX_USER, "user", |len| presence(vec![member(x(len), "")], vec![]));
}

#[test]
fn the_metadata_of_a_member_have_a_limit() {
    assert_limit(MAX_METADATA, "metadata", |len| presence(vec![member("a", x(len))], vec![]));
}

#[test]
fn an_identity_tag_has_a_limit() {
    assert_limit(MAX_TAG, "tag", |len| {
        let tail = WelcomeTail { identity: IdentityTag::User(x(len).into()), features: vec![] };
        Frame::Server(ServerFrame::Welcome(welcome(false, 1, vec![], Some(tail))))
    });
}

#[test]
fn features_have_a_limit() {
    assert_limit(MAX_FEATURES, "features", |len| {
        let features = (100..).take(len).map(Feature::Other).collect();
        let tail = WelcomeTail { identity: IdentityTag::NoUsers, features };
        Frame::Server(ServerFrame::Welcome(welcome(false, 1, vec![], Some(tail))))
    });
}

#[test]
fn features_that_are_not_in_order_are_refused() {
    for features in [[Feature::Presence, Feature::Requests], [Feature::Requests; 2]] {
        let tail = WelcomeTail { identity: IdentityTag::NoUsers, features: features.to_vec() };
        let welcome = ServerFrame::Welcome(welcome(false, 1, vec![], Some(tail)));
        assert_refused(welcome, DecodeError::BadValue("features"));
    }
}

#[test]
fn a_name_that_is_empty_is_refused() {
    assert_refused(request("", ""), DecodeError::BadValue("method"));
    assert_refused(publish("", ""), DecodeError::BadValue("topic"));
    assert_refused(present("", ""), DecodeError::BadValue("topic"));
    assert_refused(presence(vec![], vec![""]), DecodeError::BadValue("user"));
}

#[test]
fn a_ticket_or_a_target_that_is_empty_has_another_type() {
    let open = HubFrame::decode(&[0x95, 1, 1, 0, 1, 0, 0, 0]);
    assert_eq!(open, Err(DecodeError::BadValue("ticket")));
    let go_away = ServerFrame::decode(&[0x4b, 1, 0, 0, 0]);
    assert_eq!(go_away, Err(DecodeError::BadValue("target")));
}

#[test]
fn a_message_to_one_tab_is_in_its_lane_and_one_to_all_tabs_in_lane_0() {
    for (lane, audience) in [(0, 3), (1, 1), (1, 2)] {
        let bytes = [0xe6, lane, audience];
        let refused = ServerFrame::decode(&bytes);
        assert_eq!(refused, Err(DecodeError::BadValue("lane")), "{audience} in {lane}");
    }
}

#[test]
fn an_identity_without_a_meaning_is_refused() {
    let fixed = [&[0x41][..], &MAGIC, &[2], &[0; 32], &[1, 1, 1, 1]].concat();
    let bytes = [fixed, vec![0; 8], vec![3, 0]].concat();
    assert_eq!(ServerFrame::decode(&bytes), Err(DecodeError::BadValue("identity")));
}
