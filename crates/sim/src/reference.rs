//! A model of sockets in plain maps, without time. It knows who sent what, who received what, and
//! whether a socket had a reason to end.

use std::collections::{BTreeMap, BTreeSet};

use tabmux_core::wire::{SessionId, TabId};

use crate::{
    credit::{CREDIT, cost},
    invariant::{
        Checked,
        Invariant::{Limits, NothingLost, OnlyWhatWasAsked},
    },
};

/// The reason of a socket that the application refused.
const REFUSED: &str = "refused";

/// Everything that was sent on all sockets.
#[derive(Debug, Default)]
pub struct Reference {
    sockets: BTreeMap<(TabId, u32), Socket>,
    /// Sessions that tabs had to leave, though the server still has them.
    given_up: BTreeSet<(TabId, SessionId)>,
    /// Sessions that the server no longer has.
    dead: BTreeSet<SessionId>,
    /// Sessions by the number that the application gave them.
    serials: BTreeMap<u64, SessionId>,
    /// The session that each page was last told it is part of.
    part: BTreeMap<TabId, SessionId>,
    /// Number of messages that arrived, in both directions.
    pub heard: u64,
}

/// One virtual socket, with both of its directions.
#[derive(Debug, Default)]
struct Socket {
    up: Direction,
    down: Direction,
    app: App,
    /// The session in which the application knows the socket.
    session: Option<SessionId>,
    /// True if the page was told that the socket is open.
    opened: bool,
    /// True if the page closed the socket.
    left: bool,
}

/// The numbered messages of one direction. Numbers begin at 1.
#[derive(Debug, Default)]
struct Direction {
    said: u64,
    heard: u64,
    /// The cost of the messages that were sent downwards and have not arrived.
    flight: u64,
}

/// A socket as the application sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum App {
    /// The application has not heard of the socket.
    #[default]
    Unknown,
    /// The application accepted the socket, in this session.
    Open(SessionId),
    /// The socket was closed cleanly, in this session.
    Closed(SessionId),
    /// The socket is lost, for this reason.
    Lost(&'static str),
}

impl Reference {
    /// Called when a page wants a socket.
    pub fn page_asks(&mut self, tab: TabId, socket: u32) {
        self.sockets.insert((tab, socket), Socket::default());
    }

    /// Called when a page is told that its socket is open. The application must have opened it.
    pub fn page_opens(&mut self, tab: TabId, socket: u32) -> Checked {
        let it = self.get(tab, socket)?;
        NothingLost.unless(!it.opened, || format!("{tab} socket {socket} was opened twice"))?;
        it.opened = true;
        let app = it.app;
        OnlyWhatWasAsked.unless(!matches!(app, App::Unknown | App::Lost(REFUSED)), || {
            format!("{tab} socket {socket} was opened, and is {app:?} at its other end")
        })
    }

    /// Called when a page sends a message. Returns the number of the message.
    pub fn page_says(&mut self, tab: TabId, socket: u32) -> Checked<u64> {
        let it = self.get(tab, socket)?;
        it.up.said += 1;
        Ok(it.up.said)
    }

    /// Called when a page receives a message.
    pub fn page_hears(&mut self, tab: TabId, socket: u32, text: &str) -> Checked {
        let it = self.get(tab, socket)?;
        it.down.hear(&format!("down {tab} {socket}"), text)?;
        it.down.flight -= cost(text);
        self.heard += 1;
        Ok(())
    }

    /// Called when a page closes its socket.
    pub fn page_leaves(&mut self, tab: TabId, socket: u32) -> Checked {
        self.get(tab, socket)?.left = true;
        Ok(())
    }

    /// Called when a page is told that its open socket was closed cleanly. The page must have
    /// received all messages by then.
    pub fn page_closes(&mut self, tab: TabId, socket: u32) -> Checked {
        let it = self.get(tab, socket)?;
        let Direction { said, heard, .. } = it.down;
        NothingLost.unless(said == heard, || {
            format!("{tab} socket {socket} was closed after {heard} of {said} messages")
        })?;
        let app = it.app;
        NothingLost.unless(matches!(app, App::Closed(_)), || {
            format!("{tab} socket {socket} was closed with a word, but is {app:?} at its other end")
        })
    }

    /// Called when a page is told that the socket is closed that it closed itself. Such a page
    /// hears nothing on the socket in between.
    pub fn page_closed_itself(&mut self, tab: TabId, socket: u32) -> Checked {
        let app = self.get(tab, socket)?.app;
        NothingLost.unless(matches!(app, App::Closed(_)), || {
            format!("{tab} socket {socket} was closed with a word, but is {app:?} at its other end")
        })
    }

    /// Called when a page is told that its open socket is lost.
    pub fn page_loses(&mut self, tab: TabId, socket: u32) -> Checked {
        let app = self.get(tab, socket)?.app;
        let right = match app {
            App::Lost(_) => true,
            App::Open(session) | App::Closed(session) => {
                self.dead.contains(&session) || self.given_up.contains(&(tab, session))
            }
            App::Unknown => false,
        };
        NothingLost.unless(right, || {
            format!("{tab} socket {socket} was lost, but is {app:?} at its other end")
        })
    }

    /// Called when the application accepts a socket.
    pub fn app_opens(&mut self, tab: TabId, socket: u32, session: SessionId) -> Checked {
        // The page was in another session before its OPEN arrived, so it never hears of this
        // socket.
        if self.is_elsewhere(tab, session) {
            return Ok(());
        }
        let given_up = self.given_up.contains(&(tab, session));
        let it = self.get(tab, socket)?;
        let app = it.app;
        let is_of_another = match app {
            App::Open(other) | App::Closed(other) => other != session,
            App::Lost(_) | App::Unknown => false,
        };
        // The page gave this session up, and has the same socket in another one.
        if given_up && is_of_another {
            return Ok(());
        }
        // A page asks again in the next session for a socket that it never heard of, whatever
        // became of it in the session before.
        let again = !it.opened
            && match app {
                App::Unknown => false,
                App::Lost(_) => true,
                App::Open(before) | App::Closed(before) => before != session || given_up,
            };
        NothingLost.unless(app == App::Unknown || again, || {
            format!("{tab} socket {socket} is asked for again, and was {app:?}")
        })?;
        (it.app, it.session) = (App::Open(session), Some(session));
        it.up.heard = 0;
        it.down = Direction::default();
        Ok(())
    }

    /// Returns true if the page hears of the socket that the application knows in this session.
    /// Otherwise the page asked for the socket again in another session.
    pub fn is_heard(&self, tab: TabId, socket: u32, session: SessionId) -> bool {
        self.sockets.get(&(tab, socket)).is_some_and(|it| it.session == Some(session))
    }

    /// Called when the application refuses a socket.
    pub fn app_refuses(&mut self, tab: TabId, socket: u32) -> Checked {
        self.get(tab, socket)?.app = App::Lost(REFUSED);
        Ok(())
    }

    /// Called when the application receives a message.
    pub fn app_hears(&mut self, tab: TabId, socket: u32, text: &str) -> Checked {
        let it = self.get(tab, socket)?;
        it.up.hear(&format!("up {tab} {socket}"), text)?;
        self.heard += 1;
        Ok(())
    }

    /// Returns the text of the application's next message, with the number that it has if it is
    /// sent.
    pub fn app_text(&mut self, tab: TabId, socket: u32) -> Checked<String> {
        let it = self.get(tab, socket)?;
        Ok(format!("down {tab} {socket} {}", it.down.said + 1))
    }

    /// Called when that message was sent. There must have been credit for it.
    pub fn app_said(&mut self, tab: TabId, socket: u32, text: &str) -> Checked {
        let it = self.get(tab, socket)?;
        it.down.said += 1;
        // A page that has closed its socket gives credit for messages that it no longer hears.
        let credit = if it.left { u64::MAX } else { CREDIT.into() };
        it.down.takes_off(text, credit)
    }

    /// Called when the application is told that the page closed the socket. It must have received
    /// all messages by then.
    pub fn app_closes(&mut self, tab: TabId, socket: u32) -> Checked {
        let it = self.get(tab, socket)?;
        let Direction { said, heard, .. } = it.up;
        let (left, all) = (it.left, said == heard);
        NothingLost.unless(left && all, || {
            format!("{tab} socket {socket} was closed (left: {left}) after {heard} of {said}")
        })?;
        it.app.close();
        Ok(())
    }

    /// Called when the application closes the socket itself.
    pub fn app_kicks(&mut self, tab: TabId, socket: u32) -> Checked {
        self.get(tab, socket)?.app.close();
        Ok(())
    }

    /// Returns true if the application accepted the socket in this session. If a tab has left a
    /// session, the application may still have a socket there, which nobody hears.
    pub fn is_of(&self, tab: TabId, socket: u32, session: SessionId) -> bool {
        self.sockets.get(&(tab, socket)).is_some_and(|it| it.app == App::Open(session))
    }

    /// Returns true if the application closed the socket.
    pub fn is_closed(&self, tab: TabId, socket: u32) -> bool {
        self.sockets.get(&(tab, socket)).is_some_and(|it| matches!(it.app, App::Closed(_)))
    }

    /// Called when the application is told that the socket is lost. `why` is the reason that allows
    /// it.
    pub fn app_loses(&mut self, tab: TabId, socket: u32, why: Option<&'static str>) -> Checked {
        let it = self.get(tab, socket)?;
        let left = (it.left && !it.opened).then_some("closed before it was open");
        let Some(why) = why.or(left) else {
            return NothingLost.broken(format!("{tab} socket {socket} was lost for no reason"));
        };
        it.app = App::Lost(why);
        Ok(())
    }

    /// Returns true if the tab gave the session up and began anew.
    pub fn gave_up(&self, tab: TabId, session: SessionId) -> bool {
        self.given_up.contains(&(tab, session))
    }

    /// Called when the application gives a session a number.
    pub fn session_begins(&mut self, serial: u64, session: SessionId) {
        self.serials.insert(serial, session);
    }

    /// Returns the session with this number.
    pub fn session_called(&self, serial: u64) -> Option<SessionId> {
        self.serials.get(&serial).copied()
    }

    /// Returns the session in which the application knows a socket.
    pub fn session_of(&self, tab: TabId, socket: u32) -> Option<SessionId> {
        self.sockets.get(&(tab, socket))?.session
    }

    /// Called when a page is told that it is part of a session.
    pub fn joins(&mut self, tab: TabId, session: SessionId) {
        self.part.insert(tab, session);
    }

    /// Returns true if the page is part of another session by now. Its messages in this session
    /// were under way for long, and it sends them again in the other.
    pub fn is_elsewhere(&self, tab: TabId, session: SessionId) -> bool {
        self.part.get(&tab).is_some_and(|part| *part != session)
    }

    /// Called when the server no longer has the session.
    pub fn session_ends(&mut self, session: SessionId) {
        self.dead.insert(session);
    }

    /// Called when the server is gone, with the sockets of all its sessions.
    pub fn server_lost(&mut self) {
        for it in self.sockets.values_mut() {
            self.dead.extend(it.session);
            if matches!(it.app, App::Open(_)) {
                it.app = App::Lost("the server was restarted");
            }
        }
    }

    /// Called when a tab had a reason to leave all sessions in which it has sockets.
    pub fn leaves_all(&mut self, tab: TabId) {
        let its = self.sockets.range((tab, 0)..=(tab, u32::MAX));
        let sessions = its.filter_map(|(_, it)| it.session).collect::<Vec<_>>();
        self.given_up.extend(sessions.into_iter().map(|session| (tab, session)));
    }

    /// Called when a tab had a reason to leave a session.
    pub fn gives_up(&mut self, tab: TabId, session: SessionId) {
        self.given_up.insert((tab, session));
    }

    /// Checks that everything that was sent on the socket was received.
    pub fn is_complete(&self, tab: TabId, socket: u32) -> Checked {
        let Some(Socket { up, down, .. }) = self.sockets.get(&(tab, socket)) else {
            return OnlyWhatWasAsked.broken(format!("{tab} has no socket {socket}"));
        };
        NothingLost.unless(up.said == up.heard && down.said == down.heard, || {
            format!("{tab} socket {socket}: at rest, and yet up {up:?}, down {down:?}")
        })
    }

    fn get(&mut self, tab: TabId, socket: u32) -> Checked<&mut Socket> {
        match self.sockets.get_mut(&(tab, socket)) {
            Some(it) => Ok(it),
            None => OnlyWhatWasAsked.broken(format!("{tab} never asked for a socket {socket}")),
        }
    }
}

impl App {
    fn close(&mut self) {
        if let Self::Open(session) = *self {
            *self = Self::Closed(session);
        }
    }
}

impl Direction {
    /// Checks that a message does not exceed the credit, and counts it as under way.
    fn takes_off(&mut self, text: &str, credit: u64) -> Checked {
        let before = self.flight;
        self.flight += cost(text);
        Limits.unless(before < credit, || format!("{text:?} was sent with {before} on the way"))
    }

    /// Checks that messages arrive in order, none twice, none missing, and none of another socket.
    fn hear(&mut self, stream: &str, text: &str) -> Checked {
        self.heard += 1;
        let expected = format!("{stream} {}", self.heard);
        let right = text == expected && self.heard <= self.said;
        NothingLost.unless(right, || format!("heard {text:?} instead of {expected:?}"))
    }
}
