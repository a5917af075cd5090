//! What should be true of sockets, in plain maps, without time: who said what, who heard what, and
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

/// All that was said on all sockets.
#[derive(Debug, Default)]
pub struct Reference {
    sockets: BTreeMap<(TabId, u32), Socket>,
    /// Sessions that tabs had to leave, though the server still has them.
    given_up: BTreeSet<(TabId, SessionId)>,
    /// Sessions that the server no longer has.
    dead: BTreeSet<SessionId>,
    /// Sessions by the number that the application has for them.
    serials: BTreeMap<u64, SessionId>,
    /// The session that each page was last told it is part of.
    part: BTreeMap<TabId, SessionId>,
    /// Messages that arrived, in either direction.
    pub heard: u64,
}

/// One socket.
#[derive(Debug, Default)]
struct Socket {
    up: Direction,
    down: Direction,
    app: App,
    /// The session in which the application knows it.
    session: Option<SessionId>,
    /// Whether the page was told that it is open.
    opened: bool,
    /// Whether the page closed it.
    left: bool,
}

/// Numbered messages, from 1.
#[derive(Debug, Default)]
struct Direction {
    said: u64,
    heard: u64,
    /// What of it was said downwards and not heard, by what it costs.
    flight: u64,
}

/// A socket as the application sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum App {
    /// It has not heard of it.
    #[default]
    Unknown,
    /// It accepted it, in this session.
    Open(SessionId),
    /// It is closed, with a word, in this session.
    Closed(SessionId),
    /// It is gone, for this reason.
    Lost(&'static str),
}

impl Reference {
    /// A page wants a socket.
    pub fn page_asks(&mut self, tab: TabId, socket: u32) {
        self.sockets.insert((tab, socket), Socket::default());
    }

    /// A page is told that its socket is open.
    pub fn page_opens(&mut self, tab: TabId, socket: u32) -> Checked {
        let it = self.get(tab, socket)?;
        NothingLost.unless(!it.opened, || format!("{tab} socket {socket} was opened twice"))?;
        it.opened = true;
        Ok(())
    }

    /// A page says something: the number of its message.
    pub fn page_says(&mut self, tab: TabId, socket: u32) -> Checked<u64> {
        let it = self.get(tab, socket)?;
        it.up.said += 1;
        Ok(it.up.said)
    }

    /// A page hears something.
    pub fn page_hears(&mut self, tab: TabId, socket: u32, text: &str) -> Checked {
        let it = self.get(tab, socket)?;
        it.down.hear(&format!("down {tab} {socket}"), text)?;
        it.down.flight -= cost(text);
        self.heard += 1;
        Ok(())
    }

    /// A page closes its socket.
    pub fn page_leaves(&mut self, tab: TabId, socket: u32) -> Checked {
        self.get(tab, socket)?.left = true;
        Ok(())
    }

    /// A page is told that its socket, which was open, is closed with a word: then it has heard
    /// all there was.
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

    /// A page, which closed its socket and hears nothing on it since, is told that it is closed.
    pub fn page_closed_itself(&mut self, tab: TabId, socket: u32) -> Checked {
        let app = self.get(tab, socket)?.app;
        NothingLost.unless(matches!(app, App::Closed(_)), || {
            format!("{tab} socket {socket} was closed with a word, but is {app:?} at its other end")
        })
    }

    /// A page is told that its socket, which was open, is lost.
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

    /// The application accepts a socket.
    pub fn app_opens(&mut self, tab: TabId, socket: u32, session: SessionId) -> Checked {
        // The page was long in another session when its wish came through: nobody will hear of it.
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
        // The page gave this session up, and has the socket in another: the same.
        if given_up && is_of_another {
            return Ok(());
        }
        // One that the page never heard of is asked for again in the next session, whatever became
        // of it in the one before.
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

    /// Whether the page hears of a socket that the application knows in this session; else it asked
    /// for the socket again in another one.
    pub fn is_heard(&self, tab: TabId, socket: u32, session: SessionId) -> bool {
        self.sockets.get(&(tab, socket)).is_some_and(|it| it.session == Some(session))
    }

    /// The application refuses a socket.
    pub fn app_refuses(&mut self, tab: TabId, socket: u32) -> Checked {
        self.get(tab, socket)?.app = App::Lost("refused");
        Ok(())
    }

    /// The application hears something.
    pub fn app_hears(&mut self, tab: TabId, socket: u32, text: &str) -> Checked {
        let it = self.get(tab, socket)?;
        it.up.hear(&format!("up {tab} {socket}"), text)?;
        self.heard += 1;
        Ok(())
    }

    /// The text of the next message of the application, and the number it has if it is sent.
    pub fn app_text(&mut self, tab: TabId, socket: u32) -> Checked<String> {
        let it = self.get(tab, socket)?;
        Ok(format!("down {tab} {socket} {}", it.down.said + 1))
    }

    /// That message was sent: so there was credit for it.
    pub fn app_said(&mut self, tab: TabId, socket: u32, text: &str) -> Checked {
        let it = self.get(tab, socket)?;
        it.down.said += 1;
        // A page that has closed its socket gives credit for what it does not hear any more.
        let credit = if it.left { u64::MAX } else { CREDIT.into() };
        it.down.takes_off(text, credit)
    }

    /// The application is told that the page closed the socket: then it has heard all there was.
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

    /// The application closed the socket itself.
    pub fn app_kicks(&mut self, tab: TabId, socket: u32) -> Checked {
        self.get(tab, socket)?.app.close();
        Ok(())
    }

    /// Whether a socket is the one that the application accepted in this session. Of a tab that has
    /// left a session, the application may still have a socket there, which nobody hears.
    pub fn is_of(&self, tab: TabId, socket: u32, session: SessionId) -> bool {
        self.sockets.get(&(tab, socket)).is_some_and(|it| it.app == App::Open(session))
    }

    /// Whether the application closed the socket.
    pub fn is_closed(&self, tab: TabId, socket: u32) -> bool {
        self.sockets.get(&(tab, socket)).is_some_and(|it| matches!(it.app, App::Closed(_)))
    }

    /// The application is told that the socket is lost, and why that may be.
    pub fn app_loses(&mut self, tab: TabId, socket: u32, why: Option<&'static str>) -> Checked {
        let it = self.get(tab, socket)?;
        let left = (it.left && !it.opened).then_some("closed before it was open");
        let Some(why) = why.or(left) else {
            return NothingLost.broken(format!("{tab} socket {socket} was lost for no reason"));
        };
        it.app = App::Lost(why);
        Ok(())
    }

    /// Whether it did, and began anew.
    pub fn gave_up(&self, tab: TabId, session: SessionId) -> bool {
        self.given_up.contains(&(tab, session))
    }

    /// The application has a number for a session.
    pub fn session_begins(&mut self, serial: u64, session: SessionId) {
        self.serials.insert(serial, session);
    }

    /// The session of that number.
    pub fn session_called(&self, serial: u64) -> Option<SessionId> {
        self.serials.get(&serial).copied()
    }

    /// The session in which the application knows a socket.
    pub fn session_of(&self, tab: TabId, socket: u32) -> Option<SessionId> {
        self.sockets.get(&(tab, socket))?.session
    }

    /// A page is told that it is part of a session.
    pub fn joins(&mut self, tab: TabId, session: SessionId) {
        self.part.insert(tab, session);
    }

    /// Whether the page is part of another session by now: what it said in this one was under way
    /// for long, and it says it again in the other, or did.
    pub fn is_elsewhere(&self, tab: TabId, session: SessionId) -> bool {
        self.part.get(&tab).is_some_and(|part| *part != session)
    }

    /// The server has no such session any more.
    pub fn session_ends(&mut self, session: SessionId) {
        self.dead.insert(session);
    }

    /// The server is gone, and with it the sockets of all its sessions.
    pub fn server_lost(&mut self) {
        for it in self.sockets.values_mut() {
            self.dead.extend(it.session);
            if matches!(it.app, App::Open(_)) {
                it.app = App::Lost("the server was restarted");
            }
        }
    }

    /// A tab had a reason to leave all sessions that it has sockets in.
    pub fn leaves_all(&mut self, tab: TabId) {
        let its = self.sockets.range((tab, 0)..=(tab, u32::MAX));
        let sessions = its.filter_map(|(_, it)| it.session).collect::<Vec<_>>();
        self.given_up.extend(sessions.into_iter().map(|session| (tab, session)));
    }

    /// A tab had a reason to leave a session.
    pub fn gives_up(&mut self, tab: TabId, session: SessionId) {
        self.given_up.insert((tab, session));
    }

    /// Everything that was said on the socket was heard.
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
    /// A message is on its way, for which no more was on its way than it may.
    fn takes_off(&mut self, text: &str, credit: u64) -> Checked {
        let before = self.flight;
        self.flight += cost(text);
        Limits.unless(before < credit, || format!("{text:?} was sent with {before} on the way"))
    }

    /// In order, none twice, none missing, and its own.
    fn hear(&mut self, stream: &str, text: &str) -> Checked {
        self.heard += 1;
        let expected = format!("{stream} {}", self.heard);
        let right = text == expected && self.heard <= self.said;
        NothingLost.unless(right, || format!("heard {text:?} instead of {expected:?}"))
    }
}
