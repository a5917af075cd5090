//! Any frame within the limits of version 1, for the property tests.

mod second;

use proptest::{collection::vec, option, prelude::*, sample::select};
use tabmux_wire::{
    Alias, ErrorCode, GoAwayReason, Hello, HubFrame, HubId, LaneCount, Limits, MAX_REASON, Payload,
    Position, RefusedReason, Resume, ServerFrame, SessionId, SocketId, Subscribed, TabId, Term,
    Token, TopicId, Unsubscribed, UnsubscribedReason, Upstream, Welcome, WelcomeTab,
};

pub(crate) fn hub_frame() -> impl Strategy<Value = HubFrame<'static>> {
    prop_oneof![hub_control(), hub_reliable(), second::hub_frame()]
}

pub(crate) fn server_frame() -> impl Strategy<Value = ServerFrame<'static>> {
    prop_oneof![server_control(), server_about_topics(), server_reliable(), second::server_frame()]
}

fn hub_control() -> impl Strategy<Value = HubFrame<'static>> {
    let tab = any::<u64>().prop_map(TabId);
    let subscribe = (ordinal(), option::of(position()), text(1..=64));
    let unknown = (0x0d..=0x3f_u8, bytes());
    prop_oneof![
        hello().prop_map(HubFrame::Hello),
        (tab.clone(), number()).prop_map(|(tab, last)| HubFrame::Attach { tab, last }),
        tab.clone().prop_map(|tab| HubFrame::Park { tab }),
        tab.prop_map(|tab| HubFrame::Gone { tab }),
        Just(HubFrame::Suspend),
        (lane_counts(), vec(alias(), 0..5))
            .prop_map(|(lanes, aside)| HubFrame::Ack { lanes, aside }),
        number().prop_map(|nonce| HubFrame::Ping { nonce }),
        subscribe.prop_map(|(request, position, topic)| HubFrame::Subscribe {
            request,
            position,
            topic
        }),
        text(1..=64).prop_map(|topic| HubFrame::Unsubscribe { topic }),
        unknown.prop_map(|(code, body)| HubFrame::Unknown { code, up: None, body }),
    ]
}

fn hub_reliable() -> impl Strategy<Value = HubFrame<'static>> {
    let up = || (alias(), ordinal()).prop_map(|(tab, n)| Upstream { tab, n });
    let protocols = (vec(text(0..=16), 0..4), text(0..=16));
    let open = (up(), socket(), number(), text(0..=64), protocols);
    let close = (up(), socket(), any::<u16>(), text(0..=MAX_REASON));
    prop_oneof![
        open.prop_map(|(up, socket, credit, path, (protocols, ticket))| HubFrame::Open {
            up,
            socket,
            credit,
            path,
            protocols,
            ticket
        }),
        (up(), socket(), payload()).prop_map(|(up, socket, payload)| HubFrame::Data {
            up,
            socket,
            payload
        }),
        close.prop_map(|(up, socket, code, reason)| HubFrame::Close { up, socket, code, reason }),
        (up(), socket(), number()).prop_map(|(up, socket, bytes)| HubFrame::Credit {
            up,
            socket,
            bytes
        }),
        (0x9c..=0xbf_u8, up(), bytes()).prop_map(|(code, up, body)| HubFrame::Unknown {
            code,
            up: Some(up),
            body
        }),
    ]
}

fn hello() -> impl Strategy<Value = Hello<'static>> {
    let resume = (any::<[[u8; 16]; 2]>(), number(), option::of(number()));
    let resume = resume.prop_map(|([session, token], term, have0)| Resume {
        session: SessionId(session),
        token: Token(token),
        term: Term(term),
        have0,
    });
    let fields = (0..=1_u32, 1_u32.., any::<u64>(), option::of(resume), text(0..=64));
    fields.prop_map(|(min_version, max_version, hub, resume, credentials)| Hello {
        min_version,
        max_version,
        hub: HubId(hub),
        resume,
        credentials,
    })
}

fn server_control() -> impl Strategy<Value = ServerFrame<'static>> {
    let tab = any::<u64>().prop_map(TabId);
    let attached = (tab.clone(), alias(), ordinal(), number(), any::<bool>());
    let refused = (select(RefusedReason::ALL), number(), number(), text(0..=64));
    let go_away = (select(GoAwayReason::ALL), number(), number(), text(0..=64));
    let about = (option::of(tab), option::of(socket()));
    prop_oneof![
        welcome().prop_map(ServerFrame::Welcome),
        attached.prop_map(|(tab, alias, next, n_seen, aside)| ServerFrame::Attached {
            tab,
            alias,
            next,
            n_seen,
            aside
        }),
        number().prop_map(|term| ServerFrame::Fenced { term: Term(term) }),
        refused.prop_map(|(reason, term, retry_ms, message)| ServerFrame::Refused {
            reason,
            term: Term(term),
            retry_ms,
            message
        }),
        go_away.prop_map(|(reason, after_ms, spread_ms, target)| ServerFrame::GoAway {
            reason,
            after_ms,
            spread_ms,
            target
        }),
        lane_counts().prop_map(|lanes| ServerFrame::Ack { lanes }),
        number().prop_map(|nonce| ServerFrame::Pong { nonce }),
        (select(ErrorCode::ALL), about, text(0..=64)).prop_map(|(code, (tab, socket), message)| {
            ServerFrame::Error { code, tab, socket, message }
        }),
        (0x50..=0x7f_u8, bytes()).prop_map(|(code, body)| ServerFrame::Unknown {
            code,
            lane: None,
            body
        }),
    ]
}

fn server_about_topics() -> impl Strategy<Value = ServerFrame<'static>> {
    let topic = || ordinal().prop_map(TopicId);
    let subscribed = (number(), topic(), any::<bool>(), position(), text(1..=64));
    let reason = select(UnsubscribedReason::ALL);
    let unsubscribed = (number(), reason, option::of(number()), text(1..=64), text(0..=64));
    let publication = (topic(), position(), number(), payload());
    let gap = (number().prop_map(TopicId), position());
    prop_oneof![
        subscribed.prop_map(|(request, topic, recovered, position, name)| {
            ServerFrame::Subscribed(Subscribed { request, topic, recovered, position, name })
        }),
        unsubscribed.prop_map(|(request, reason, retry_ms, name, message)| {
            ServerFrame::Unsubscribed(Unsubscribed { request, reason, retry_ms, name, message })
        }),
        publication.prop_map(|(topic, position, previous, payload)| {
            ServerFrame::Publication { topic, position, previous, payload }
        }),
        gap.prop_map(|(topic, position)| ServerFrame::Gap { topic, position }),
    ]
}

fn server_reliable() -> impl Strategy<Value = ServerFrame<'static>> {
    let close = (alias(), socket(), any::<u16>(), text(0..=MAX_REASON));
    prop_oneof![
        (alias(), socket(), number(), text(0..=64)).prop_map(|(tab, socket, credit, protocol)| {
            ServerFrame::Opened { tab, socket, credit, protocol }
        }),
        (alias(), socket(), payload()).prop_map(|(tab, socket, payload)| ServerFrame::Data {
            tab,
            socket,
            payload
        }),
        close.prop_map(|(tab, socket, code, reason)| ServerFrame::Close {
            tab,
            socket,
            code,
            reason
        }),
        (alias(), socket(), number()).prop_map(|(tab, socket, bytes)| ServerFrame::Credit {
            tab,
            socket,
            bytes
        }),
        payload().prop_map(|payload| ServerFrame::Message { payload }),
        (0xe8..=0xff_u8, any::<u32>(), bytes()).prop_map(|(code, lane, body)| {
            ServerFrame::Unknown { code, lane: Some(lane), body }
        }),
    ]
}

fn welcome() -> impl Strategy<Value = Welcome> {
    let tab = (any::<u64>(), alias(), any::<[bool; 2]>());
    let tab = tab.prop_map(|(tab, alias, [parked, aside])| WelcomeTab {
        tab: TabId(tab),
        alias,
        parked,
        aside,
    });
    let limits = ([(); 5].map(|()| number()), any::<[u32; 2]>());
    let fields = (
        any::<[[u8; 16]; 2]>(),
        (number(), any::<bool>(), ordinal(), number()),
        limits,
        vec(tab, 0..5),
        option::of(second::welcome_tail()),
    );
    fields.prop_map(|([session, token], numbers, (limits, [tabs, sockets]), list, tail)| {
        let (term, resumed, next0, heartbeat_ms) = numbers;
        let [message_bytes, lane_bytes, session_bytes, detached_ms, parked_ms] = limits;
        Welcome {
            session: SessionId(session),
            token: Token(token),
            term: Term(term),
            resumed,
            next0,
            heartbeat_ms,
            limits: Limits {
                message_bytes,
                lane_bytes,
                session_bytes,
                detached_ms,
                parked_ms,
                tabs,
                sockets,
            },
            tabs: list,
            tail,
        }
    })
}

/// Numbers of every length.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64_u32).prop_map(|(number, shift)| number >> shift)
}

fn ordinal() -> impl Strategy<Value = u64> {
    number().prop_map(|number| number.max(1))
}

fn alias() -> impl Strategy<Value = Alias> {
    (1..=u32::MAX).prop_map(Alias)
}

fn socket() -> impl Strategy<Value = SocketId> {
    (1..=u32::MAX).prop_map(SocketId)
}

fn position() -> impl Strategy<Value = Position> {
    (number(), number()).prop_map(|(epoch, offset)| Position { epoch, offset })
}

fn lane_counts() -> impl Strategy<Value = Vec<LaneCount>> {
    let entry = (any::<u32>(), number()).prop_map(|(lane, count)| LaneCount { lane, count });
    vec(entry, 0..5)
}

/// Frames borrow what they carry. A test may leak it.
fn bytes() -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 0..32).prop_map(|bytes| &*bytes.leak())
}

/// Text of any characters, of so many bytes.
fn text(bytes: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = &'static str> {
    let (min, max) = (*bytes.start(), *bytes.end());
    vec(any::<char>(), min..=max).prop_map(move |characters| {
        let text = characters.into_iter().collect::<String>().leak();
        &text[..text.floor_char_boundary(max)]
    })
}

fn payload() -> impl Strategy<Value = Payload<'static>> {
    prop_oneof![text(0..=32).prop_map(Payload::Text), bytes().prop_map(Payload::Binary),]
}
