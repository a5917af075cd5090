//! What version 2 added, one vector for each shape of each frame.

use tabmux_wire::{
    Alias, Audience, CaughtUp, Denied, Dismissed, Feature, GoAwayReason, HubFrame, IdentityTag,
    Member, Payload, Position, Presence, Present, Publish, Recover, Recovered, RefusedReason,
    Rejected, Reply, Request, ServerFrame, SocketId, Standing, TabId, Term, TopicId, Upstream,
    WelcomeTail,
};

use crate::{golden_file::Vector, server_vectors::welcome};

const TAB: TabId = TabId(0x0123_4567_89ab_cdef);
const LANE: Alias = Alias(1);
const UP: Upstream = Upstream { tab: LANE, n: 1 };
const SOCKET: SocketId = SocketId(1);
const TOPIC: TopicId = TopicId(12);
const HERE: Position = Position { epoch: 7, offset: 1003 };

pub(crate) fn all() -> Vec<Vector> {
    let mut vectors = welcomes();
    vectors.extend(hub_control());
    vectors.extend(questions());
    vectors.extend(server_control());
    vectors.extend(answers());
    vectors.extend(recovery());
    vectors.extend(lane0());
    vectors
}

fn welcomes() -> Vec<Vector> {
    let welcome = |identity, features| {
        ServerFrame::Welcome(welcome(false, 1, vec![], Some(WelcomeTail { identity, features })))
    };
    let features = vec![Feature::Requests, Feature::Publishing, Feature::Other(9)];
    vec![
        Vector::new("version 2, without users", welcome(IdentityTag::NoUsers, vec![])),
        Vector::new("version 2, of nobody", welcome(IdentityTag::Nobody, features.clone())),
        Vector::new("version 2, of a user", welcome(IdentityTag::User("c2V2ZW4".into()), features)),
    ]
}

fn hub_control() -> Vec<Vector> {
    let topic = "room";
    let presence = |present| HubFrame::Presence { topic, present };
    vec![
        Vector::new("renewed", HubFrame::Credentials { request: 1, credentials: "user 7" }),
        Vector::new("none any more", HubFrame::Credentials { request: 2, credentials: "" }),
        Vector::new("comes", presence(Present::Here { idle: false, metadata: "ann" })),
        Vector::new("rests", presence(Present::Here { idle: true, metadata: "" })),
        Vector::new("leaves", presence(Present::Away)),
        Vector::new("the session ends", HubFrame::End),
    ]
}

fn questions() -> Vec<Vector> {
    let (up, socket) = (UP, SOCKET);
    let request = |key, payload| {
        HubFrame::Request(Request { up, socket, credit: 262_144, method: "add", key, payload })
    };
    let publish =
        |key, payload| HubFrame::Publish(Publish { up, socket, topic: "prices", key, payload });
    let open = HubFrame::Open {
        up,
        socket,
        credit: 262_144,
        path: "/chat",
        protocols: vec!["v2"],
        ticket: "once",
    };
    vec![
        Vector::new("with a sub-protocol", open),
        Vector::new("text", request("", Payload::Text("[1,2]"))),
        Vector::new("with a key", request("k1", Payload::Text(""))),
        Vector::new("bytes", request("", Payload::Binary(&[0x00, 0xff]))),
        Vector::new("taken back", HubFrame::Cancel { up, socket }),
        Vector::new("text", publish("", Payload::Text("42"))),
        Vector::new("bytes, with a key", publish("k1", Payload::Binary(&[0x2a]))),
        Vector::new(
            "from a position",
            HubFrame::Recover(Recover { up, socket, since: HERE, topic: "prices" }),
        ),
    ]
}

fn server_control() -> Vec<Vector> {
    let denied = |code, term, retry_ms, target, message| {
        let term = Term(term);
        ServerFrame::Denied(Denied { code, term, retry_ms, target, message })
    };
    let standing = |request, accepted, expires_ms, message| {
        ServerFrame::Credentials(Standing { request, accepted, expires_ms, message })
    };
    let dismissed =
        |retry_ms| ServerFrame::Dismissed(Dismissed { tab: TAB, retry_ms, message: "moderated" });
    use RefusedReason as Reason;
    vec![
        Vector::new(
            "to another node",
            ServerFrame::GoAway {
                reason: GoAwayReason::Rebalance,
                after_ms: 1000,
                spread_ms: 30_000,
                target: "node-2",
            },
        ),
        Vector::new("never", denied(Reason::Denied, 0, None, "", "log in first")),
        Vector::new("a stale term", denied(Reason::Stale, 5, Some(100), "", "stale term")),
        Vector::new("at a limit", denied(Reason::Limit, 0, Some(5000), "", "")),
        Vector::new("ended", denied(Reason::Ended, 0, None, "", "logged out")),
        Vector::new("on another node", denied(Reason::Moved, 0, Some(0), "node-2", "")),
        Vector::new("accepted for an hour", standing(1, true, Some(3_600_000), "")),
        Vector::new("refused", standing(2, false, None, "of another user")),
        Vector::new("they end soon", standing(0, true, Some(30_000), "")),
        Vector::new("for a while", dismissed(Some(60_000))),
        Vector::new("for good", dismissed(None)),
        Vector::new("a mebibyte", ServerFrame::Coming { bytes: 1 << 20 }),
        Vector::new("for /chat", ServerFrame::Ticket { ticket: "once", path: "/chat?room=1" }),
    ]
}

fn answers() -> Vec<Vector> {
    let (tab, socket) = (LANE, SOCKET);
    let rejected = |code, retry_ms, message| {
        ServerFrame::Rejected(Rejected { tab, socket, code, retry_ms, message })
    };
    let reply = |last, payload| ServerFrame::Reply(Reply { tab, socket, last, payload });
    let published = |position| ServerFrame::Published { tab, socket, position };
    vec![
        Vector::new("for good", rejected(7, None, "not yours")),
        Vector::new("for a while", rejected(8, Some(1000), "busy")),
        Vector::new("by the application", rejected(4000, None, "")),
        Vector::new("the only one", reply(true, Payload::Text("3"))),
        Vector::new("one of several", reply(false, Payload::Text("1"))),
        Vector::new("bytes", reply(true, Payload::Binary(&[0x03]))),
        Vector::new("with its position", published(Some(HERE))),
        Vector::new("somewhere", published(None)),
    ]
}

fn recovery() -> Vec<Vector> {
    let (tab, socket, position) = (LANE, SOCKET, HERE);
    let recovered = |payload| {
        ServerFrame::Recovered(Recovered { tab, socket, position, previous: 1002, payload })
    };
    let caught_up = |missing| ServerFrame::CaughtUp(CaughtUp { tab, socket, missing, position });
    vec![
        Vector::new("text", recovered(Payload::Text("42"))),
        Vector::new("bytes", recovered(Payload::Binary(&[0x2a]))),
        Vector::new("with all", caught_up(None)),
        Vector::new("with a hole", caught_up(Some(Position { epoch: 7, offset: 900 }))),
    ]
}

fn lane0() -> Vec<Vector> {
    let member = Member { user: "ann", browsers: 1, tabs: 3, idle: false, metadata: "A" };
    let presence = |whole, count, members, left| {
        ServerFrame::Presence(Presence { topic: TOPIC, whole, count, members, left })
    };
    let direct = |lane, audience, payload| ServerFrame::Direct { lane, audience, payload };
    vec![
        Vector::new("all there are", presence(true, 1, vec![member], vec![])),
        Vector::new("one came, two left", presence(false, 9, vec![member], vec!["bob", "eve"])),
        Vector::new("only how many", presence(false, 1000, vec![], vec![])),
        Vector::new("to a user", direct(0, Audience::User, Payload::Text("hi"))),
        Vector::new("to a browser", direct(0, Audience::Browser, Payload::Text("hi"))),
        Vector::new("to a tab", direct(1, Audience::Tab, Payload::Text("hi"))),
        Vector::new("bytes", direct(0, Audience::User, Payload::Binary(&[0xff]))),
    ]
}
