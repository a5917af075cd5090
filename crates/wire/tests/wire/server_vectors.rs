//! What servers say, one vector for each shape of each frame.

use tabmux_wire::{
    Alias, ErrorCode, GoAwayReason, LaneCount, Limits, Payload, Position, RefusedReason,
    ServerFrame, SessionId, SocketId, Subscribed, TabId, Term, Token, TopicId, Unsubscribed,
    UnsubscribedReason, Welcome, WelcomeTab, WelcomeTail,
};

use crate::golden_file::Vector;

const TAB: TabId = TabId(0x0123_4567_89ab_cdef);
const LANE: Alias = Alias(1);
/// An alias that takes two bytes as a varint.
const FAR_LANE: Alias = Alias(300);
const SOCKET: SocketId = SocketId(1);
const TOPIC: TopicId = TopicId(12);
const HERE: Position = Position { epoch: 7, offset: 1003 };

pub(crate) fn all() -> Vec<Vector> {
    let mut vectors = vec![
        Vector::new("a new session", ServerFrame::Welcome(welcome(false, 1, vec![], None))),
        Vector::new("a resumed session", ServerFrame::Welcome(welcome(true, 42, tabs(), None))),
    ];
    vectors.extend(control());
    vectors.extend(errors());
    vectors.extend(topics());
    vectors.extend(sockets());
    vectors.extend(lane0());
    vectors.extend(unknown());
    vectors
}

pub(crate) fn welcome(
    resumed: bool,
    next0: u64,
    tabs: Vec<WelcomeTab>,
    tail: Option<WelcomeTail>,
) -> Welcome {
    Welcome {
        session: SessionId(*b"session-16-bytes"),
        token: Token(*b"token---16-bytes"),
        term: Term(4),
        resumed,
        next0,
        heartbeat_ms: 25_000,
        limits: Limits {
            message_bytes: 1 << 20,
            lane_bytes: 256 << 10,
            session_bytes: 1 << 20,
            detached_ms: 60_000,
            parked_ms: 600_000,
            tabs: 64,
            sockets: 256,
        },
        tabs,
        tail,
    }
}

/// Every state a listed tab can be in.
fn tabs() -> Vec<WelcomeTab> {
    let states = [(false, false), (true, false), (false, true), (true, true)];
    (1..)
        .zip(states)
        .map(|(number, (parked, aside))| WelcomeTab {
            tab: TabId(u64::from(number)),
            alias: Alias(number),
            parked,
            aside,
        })
        .collect()
}

fn control() -> Vec<Vector> {
    let attached =
        |alias, next, n_seen, aside| ServerFrame::Attached { tab: TAB, alias, next, n_seen, aside };
    let refused = |reason, term, retry_ms, message| ServerFrame::Refused {
        reason,
        term: Term(term),
        retry_ms,
        message,
    };
    let go_away =
        |reason| ServerFrame::GoAway { reason, after_ms: 1000, spread_ms: 30_000, target: "" };
    let lanes = vec![LaneCount { lane: 1, count: 9 }, LaneCount { lane: 300, count: 200 }];
    vec![
        Vector::new("a new tab", attached(LANE, 1, 0, false)),
        Vector::new("a tab that was set aside", attached(FAR_LANE, 301, 200, true)),
        Vector::new("by term 5", ServerFrame::Fenced { term: Term(5) }),
        Vector::new("a stale term", refused(RefusedReason::Stale, 5, 100, "stale term")),
        Vector::new("no common version", refused(RefusedReason::Version, 0, 0, "")),
        Vector::new("denied", refused(RefusedReason::Denied, 0, 0, "wrong token")),
        Vector::new("at a limit", refused(RefusedReason::Limit, 0, 5000, "full")),
        Vector::new("draining", refused(RefusedReason::Draining, 0, 2000, "")),
        Vector::new("a code of a later release", refused(RefusedReason::Other(9), 0, 0, "")),
        Vector::new("shutdown", go_away(GoAwayReason::Shutdown)),
        Vector::new("rebalance", go_away(GoAwayReason::Rebalance)),
        Vector::new("a code of a later release", go_away(GoAwayReason::Other(9))),
        Vector::new("two tabs", ServerFrame::Ack { lanes }),
        Vector::new("nothing", ServerFrame::Ack { lanes: vec![] }),
        Vector::new("a small nonce", ServerFrame::Pong { nonce: 1 }),
        Vector::new("the largest nonce", ServerFrame::Pong { nonce: u64::MAX }),
    ]
}

fn errors() -> Vec<Vector> {
    let error = |code, tab, socket, message| ServerFrame::Error { code, tab, socket, message };
    let (tab, socket) = (Some(TAB), Some(SOCKET));
    vec![
        Vector::new("of a socket", error(ErrorCode::NoRoute, tab, socket, "no handler")),
        Vector::new("rejected", error(ErrorCode::Rejected, tab, socket, "log in first")),
        Vector::new("of a tab", error(ErrorCode::TabLimit, tab, None, "64 tabs")),
        Vector::new("too many sockets", error(ErrorCode::SocketLimit, tab, socket, "")),
        Vector::new("of the link", error(ErrorCode::UnknownTab, None, None, "no tab 9")),
        Vector::new("unsupported", error(ErrorCode::Unsupported, None, None, "")),
        Vector::new("a code of a later release", error(ErrorCode::Other(200), None, None, "")),
    ]
}

fn topics() -> Vec<Vector> {
    let subscribed = |request, recovered| {
        ServerFrame::Subscribed(Subscribed {
            request,
            topic: TOPIC,
            recovered,
            position: HERE,
            name: "prices",
        })
    };
    let unsubscribed = |request, reason, retry_ms, message| {
        ServerFrame::Unsubscribed(Unsubscribed {
            request,
            reason,
            retry_ms,
            name: "prices",
            message,
        })
    };
    use UnsubscribedReason as Reason;
    vec![
        Vector::new("from now", subscribed(1, false)),
        Vector::new("from a position", subscribed(2, true)),
        Vector::new("of a resumed session", subscribed(0, true)),
        Vector::new("denied", unsubscribed(1, Reason::Denied, None, "not yours")),
        Vector::new("at a limit", unsubscribed(1, Reason::Limit, Some(5000), "")),
        Vector::new("unsupported", unsubscribed(1, Reason::Unsupported, None, "no topics")),
        Vector::new("too slow", unsubscribed(2, Reason::Slow, Some(0), "")),
        Vector::new("closed", unsubscribed(0, Reason::Closed, None, "")),
        Vector::new("a code of a later release", unsubscribed(1, Reason::Other(9), None, "")),
    ]
}

fn sockets() -> Vec<Vector> {
    let opened =
        |tab, protocol| ServerFrame::Opened { tab, socket: SOCKET, credit: 1 << 20, protocol };
    let data = |tab, payload| ServerFrame::Data { tab, socket: SOCKET, payload };
    let close = |tab, code, reason| ServerFrame::Close { tab, socket: SOCKET, code, reason };
    let credit = ServerFrame::Credit { tab: LANE, socket: SOCKET, bytes: 65_536 };
    vec![
        Vector::new("no sub-protocol", opened(LANE, "")),
        Vector::new("a sub-protocol", opened(FAR_LANE, "v2")),
        Vector::new("ascii", data(LANE, Payload::Text("hi"))),
        Vector::new("beyond ascii", data(FAR_LANE, Payload::Text("é✓"))),
        Vector::new("empty", data(LANE, Payload::Text(""))),
        Vector::new("bytes", data(LANE, Payload::Binary(&[0x00, 0xff, 0x80]))),
        Vector::new("no bytes", data(FAR_LANE, Payload::Binary(&[]))),
        Vector::new("code and reason", close(LANE, 4000, "bye")),
        Vector::new("no code", close(FAR_LANE, 1005, "")),
        Vector::new("broken", close(LANE, 1006, "")),
        Vector::new("64 KiB more", credit),
    ]
}

fn lane0() -> Vec<Vector> {
    let message = |payload| ServerFrame::Message { payload };
    let publication = |payload| ServerFrame::Publication {
        topic: TOPIC,
        position: HERE,
        previous: 1002,
        payload,
    };
    let gap = |topic, position| ServerFrame::Gap { topic, position };
    let nowhere = Position { epoch: 0, offset: 0 };
    vec![
        Vector::new("text", message(Payload::Text("hi"))),
        Vector::new("bytes", message(Payload::Binary(&[0x00, 0xff]))),
        Vector::new("text", publication(Payload::Text("42"))),
        Vector::new("bytes", publication(Payload::Binary(&[0x2a]))),
        Vector::new("of a topic", gap(TOPIC, HERE)),
        Vector::new("of the messages to all tabs", gap(TopicId(0), nowhere)),
    ]
}

fn unknown() -> Vec<Vector> {
    let unknown = |code, lane| ServerFrame::Unknown { code, lane, body: &[1, 2, 3] };
    vec![
        Vector::new("not reliable", unknown(0x7f, None)),
        Vector::new("reliable, lane 0", unknown(0xff, Some(0))),
        Vector::new("reliable, lane 300", unknown(0xff, Some(300))),
    ]
}
