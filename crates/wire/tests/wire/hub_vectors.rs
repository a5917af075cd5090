//! What hubs say, one vector for each shape of each frame.

use tabmux_wire::{
    Alias, Hello, HubFrame, HubId, LaneCount, Payload, Position, Resume, SessionId, SocketId,
    TabId, Term, Token, Upstream,
};

use crate::golden_file::Vector;

const TAB: TabId = TabId(0x0123_4567_89ab_cdef);
const UP: Upstream = Upstream { tab: Alias(1), n: 1 };
/// An alias and a count that take two bytes each.
const LATER: Upstream = Upstream { tab: Alias(300), n: 200 };
const SOCKET: SocketId = SocketId(1);

pub(crate) fn all() -> Vec<Vector> {
    let mut vectors = control();
    vectors.extend(sockets());
    vectors.extend(data());
    vectors.extend(unknown());
    vectors
}

fn hello(resume: Option<Resume>, credentials: &'static str) -> HubFrame<'static> {
    HubFrame::Hello(Hello {
        min_version: 1,
        max_version: 1,
        hub: HubId(0xfeed_face_cafe_beef),
        resume,
        credentials,
    })
}

fn resume(have0: Option<u64>) -> Option<Resume> {
    Some(Resume {
        session: SessionId(*b"session-16-bytes"),
        token: Token(*b"token---16-bytes"),
        term: Term(3),
        have0,
    })
}

fn control() -> Vec<Vector> {
    let topic = "prices";
    let at = Some(Position { epoch: 7, offset: 1000 });
    let lanes = vec![LaneCount { lane: 0, count: 41 }, LaneCount { lane: 1, count: 300 }];
    vec![
        Vector::new("a new session", hello(None, "")),
        Vector::new("with credentials", hello(None, "user 7")),
        Vector::new("takes a session over", hello(resume(None), "")),
        Vector::new("goes on after a break", hello(resume(Some(41)), "user 7")),
        Vector::new(
            "speaks versions 1 to 3",
            HubFrame::Hello(Hello {
                min_version: 1,
                max_version: 3,
                hub: HubId(1),
                resume: None,
                credentials: "",
            }),
        ),
        Vector::new("a new tab", HubFrame::Attach { tab: TAB, last: 0 }),
        Vector::new("a tab that is back", HubFrame::Attach { tab: TAB, last: 300 }),
        Vector::new("a tab parks", HubFrame::Park { tab: TAB }),
        Vector::new("a tab is gone", HubFrame::Gone { tab: TAB }),
        Vector::new("all tabs are parked", HubFrame::Suspend),
        Vector::new("two lanes", HubFrame::Ack { lanes, aside: vec![] }),
        Vector::new(
            "lane 0 without tabs 2 and 5",
            HubFrame::Ack {
                lanes: vec![LaneCount { lane: 0, count: 50 }],
                aside: vec![Alias(2), Alias(5)],
            },
        ),
        Vector::new("nothing", HubFrame::Ack { lanes: vec![], aside: vec![] }),
        Vector::new("a small nonce", HubFrame::Ping { nonce: 1 }),
        Vector::new("the largest nonce", HubFrame::Ping { nonce: u64::MAX }),
        Vector::new("from now", HubFrame::Subscribe { request: 1, position: None, topic }),
        Vector::new("from a position", HubFrame::Subscribe { request: 2, position: at, topic }),
        Vector::new("by name", HubFrame::Unsubscribe { topic }),
    ]
}

fn sockets() -> Vec<Vector> {
    let open = |up, path, protocols| HubFrame::Open {
        up,
        socket: SOCKET,
        credit: 262_144,
        path,
        protocols,
        ticket: "",
    };
    let close = |up, code, reason| HubFrame::Close { up, socket: SOCKET, code, reason };
    vec![
        Vector::new("no sub-protocol", open(UP, "/echo", vec![])),
        Vector::new("two sub-protocols", open(LATER, "/chat?room=1", vec!["v2", "v1"])),
        Vector::new("no code", close(UP, 0, "")),
        Vector::new("code and reason", close(LATER, 4000, "bye")),
        Vector::new("64 KiB more", HubFrame::Credit { up: UP, socket: SOCKET, bytes: 65_536 }),
    ]
}

fn data() -> Vec<Vector> {
    let data = |up, payload| HubFrame::Data { up, socket: SOCKET, payload };
    vec![
        Vector::new("ascii", data(UP, Payload::Text("hi"))),
        Vector::new("beyond ascii", data(LATER, Payload::Text("é✓"))),
        Vector::new("empty", data(UP, Payload::Text(""))),
        Vector::new("bytes", data(UP, Payload::Binary(&[0x00, 0xff, 0x80]))),
        Vector::new("no bytes", data(LATER, Payload::Binary(&[]))),
    ]
}

fn unknown() -> Vec<Vector> {
    let unknown = |code, up| HubFrame::Unknown { code, up, body: &[1, 2, 3] };
    vec![
        Vector::new("not reliable", unknown(0x3f, None)),
        Vector::new("reliable", unknown(0xbf, Some(UP))),
    ]
}
