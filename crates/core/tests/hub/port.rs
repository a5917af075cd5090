//! Messages to a tab as they cross the port.

use tabmux_core::{
    OwnedPayload,
    hub::{HubKind, HubMessage, LinkState, PortMessage, SubscriptionId},
};
use tabmux_wire::{Position, SocketId};

const SOCKET: SocketId = SocketId(3);
const TOPIC: SubscriptionId = SubscriptionId(4);
const PLACE: Position = Position { epoch: 7, offset: 9 };

fn text(text: &str) -> String {
    text.to_owned()
}

/// The message crosses the port as this kind, with these numbers and this data.
#[track_caller]
fn check(message: HubMessage, kind: HubKind, numbers: &[f64], data: Option<&str>) {
    let name = format!("{message:?}");
    let port = PortMessage::from(message);
    assert_eq!((port.kind, port.numbers.as_slice()), (kind, numbers), "{name}");
    assert_eq!(port.data, data.map(|data| OwnedPayload::Text(text(data))), "{name}");
}

#[test]
fn messages_of_a_socket_have_its_number_first() {
    let opened = |credit| HubMessage::Opened {
        socket: SOCKET,
        count: 5,
        reused: true,
        protocol: text("chat"),
        extensions: text("deflate"),
        credit,
    };
    check(opened(Some(128)), HubKind::Opened, &[3.0, 5.0, 128.0], Some("chat\ndeflate"));
    check(opened(None), HubKind::Joined, &[3.0, 1.0], Some("chat\ndeflate"));
    let payload = OwnedPayload::Text(text("hello"));
    let message = HubMessage::Message { socket: SOCKET, count: 5, payload };
    check(message, HubKind::Message, &[3.0, 5.0, 69.0], Some("hello"));
    let closed = |count, clean| HubMessage::Closed {
        socket: SOCKET,
        count,
        code: 4000,
        clean,
        reason: text("why"),
    };
    check(closed(5, true), HubKind::Closed, &[3.0, 5.0, 4000.0, 1.0], Some("why"));
    check(closed(0, false), HubKind::Ended, &[3.0, 4000.0, 0.0], Some("why"));
    let credit = HubMessage::Credit { socket: SOCKET, count: 5, bytes: 64 };
    check(credit, HubKind::Credit, &[3.0, 5.0, 64.0], None);
    let error = HubMessage::Error { socket: SOCKET, message: text("why") };
    check(error, HubKind::Error, &[3.0], Some("why"));
}

#[test]
fn messages_of_a_subscription_have_its_number_first_and_the_place_after_it() {
    let numbers = [4.0, 7.0, 9.0];
    let (subscription, position) = (TOPIC, PLACE);
    let subscribed = HubMessage::Subscribed { subscription, position, recovered: true };
    check(subscribed, HubKind::Subscribed, &numbers, None);
    let payload = OwnedPayload::Text(text("hello"));
    let publication = HubMessage::Publication { subscription, position, payload };
    check(publication, HubKind::Publication, &numbers, Some("hello"));
    check(HubMessage::Gap { subscription, position }, HubKind::Gap, &numbers, None);
    let unsubscribed = HubMessage::Unsubscribed { subscription, message: text("why") };
    check(unsubscribed, HubKind::Unsubscribed, &[4.0], Some("why"));
}

#[test]
fn messages_to_the_page_have_what_their_kind_says() {
    let state = LinkState::Backoff;
    check(HubMessage::Attached { state, tabs: 2 }, HubKind::Attached, &[3.0, 2.0], None);
    let news = HubMessage::State { state, tabs: 2, reason: text("why") };
    check(news, HubKind::State, &[3.0, 2.0], Some("why"));
    let payload = || OwnedPayload::Text(text("hello"));
    check(HubMessage::Mirror { payload: payload() }, HubKind::Mirror, &[], Some("hello"));
    let browser = HubMessage::Browser { count0: 6, payload: payload() };
    check(browser, HubKind::Browser, &[6.0], Some("hello"));
    let direct = HubMessage::Direct { count: 5, payload: payload() };
    check(direct, HubKind::Direct, &[5.0], Some("hello"));
    check(HubMessage::BrowserGap, HubKind::BrowserGap, &[], None);
    let resume =
        |continues| HubMessage::Resume { n_seen: 8, continues, count0: 6, claim: text("claim") };
    check(resume(true), HubKind::Resume, &[8.0], Some("claim"));
    check(resume(false), HubKind::Renew, &[8.0, 6.0], Some("claim"));
    check(HubMessage::Lost { reason: text("why") }, HubKind::Lost, &[], Some("why"));
    check(HubMessage::Check { count0: 6, count: 5 }, HubKind::Check, &[6.0, 5.0], None);
    check(HubMessage::Sent { n: 8 }, HubKind::Sent, &[8.0], None);
    check(HubMessage::Seen { n: 8 }, HubKind::Seen, &[8.0], None);
    check(HubMessage::Resync, HubKind::Resync, &[], None);
    check(HubMessage::Refused { message: text("why") }, HubKind::Failed, &[], Some("why"));
}
