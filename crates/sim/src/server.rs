//! The server: the real registry and a small application that echoes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use tabmux_core::{
    OwnedPayload, Timestamp,
    session::{
        Encoded, Event, LinkId, Publication, Registry, SendError, SessionConfig, SlowPolicy,
        SocketRef, Topics,
    },
    wire::{ErrorCode, Payload, SessionId, TabId, TopicId},
};

use crate::{oracle::Checked, rng::Rng, topics::Feed};

/// The code with which the application closes sockets.
const KICK: u16 = 4000;

/// A server while it runs.
pub struct Server {
    /// The registry.
    pub registry: Registry,
    /// When it is to be woken.
    pub wake_at: Option<Timestamp>,
    /// The sessions it told of.
    pub sessions: BTreeMap<SessionId, Session>,
    /// The sockets it told of.
    pub sockets: BTreeMap<SocketRef, Echo>,
    topics: Topics,
    /// Sockets that closed before all their echoes were sent.
    pub lossy: BTreeSet<(TabId, u32)>,
    last_session: u64,
}

/// A session as the application sees it.
#[derive(Debug)]
pub struct Session {
    /// Its link.
    pub link: LinkId,
    /// Its tabs.
    pub tabs: BTreeSet<TabId>,
    serial: u64,
    broadcasts: u64,
}

/// The application's side of a socket.
#[derive(Debug)]
pub struct Echo {
    tab: TabId,
    pending: VecDeque<OwnedPayload>,
}

impl Server {
    /// A server that has just started. `serial` is larger than that of any session before.
    pub fn new(now: Timestamp, serial: u64) -> Self {
        // Small, so that a link that stalls does fill its queue.
        let config =
            SessionConfig { message_bytes: 1024, queue_bytes: 1024, ..SessionConfig::default() };
        let config = SessionConfig { window_bytes: 150, backlog_bytes: 400, ..config };
        // Hubs do not resume yet.
        let lane_bytes = usize::MAX / 8;
        let config = SessionConfig { lane_bytes, session_bytes: lane_bytes, ..config };
        let config = SessionConfig { detached: Duration::ZERO, ..config };
        Self {
            registry: Registry::new(config, now),
            wake_at: None,
            sessions: BTreeMap::new(),
            sockets: BTreeMap::new(),
            // Another epoch than any server before.
            topics: Topics::new(now.as_micros() + 1, 100),
            lossy: BTreeSet::new(),
            last_session: serial,
        }
    }

    /// The number of the latest session.
    pub const fn serial(&self) -> u64 {
        self.last_session
    }

    /// A tab wants a socket. One in ten is refused while there are faults.
    pub fn open(&mut self, now: Timestamp, rng: &mut Rng, faults: bool, at: SocketRef, tab: TabId) {
        if faults && rng.one_in(10) {
            self.registry.reject(now, at, ErrorCode::Rejected, "the dice said so");
        } else {
            self.sockets.insert(at, Echo { tab, pending: VecDeque::new() });
            self.registry.accept(now, at, "");
        }
    }

    /// Sends back what came, now or when there is room.
    pub fn echo(
        &mut self,
        now: Timestamp,
        at: SocketRef,
        payload: Option<OwnedPayload>,
    ) -> Checked {
        let Some(echo) = self.sockets.get_mut(&at) else {
            return Err(format!("{at:?} is not open at the application"));
        };
        echo.pending.extend(payload);
        while let Some(first) = echo.pending.front() {
            match self.registry.send(now, at, first.as_payload()) {
                Ok(()) => drop(echo.pending.pop_front()),
                Err(SendError::Full | SendError::Closed) => break,
                Err(SendError::TooLarge) => return Err("an echo was too large".to_owned()),
            }
        }
        Ok(())
    }

    /// A socket is no more.
    pub fn closed(&mut self, at: SocketRef) -> Checked {
        let echo = self.sockets.remove(&at).ok_or_else(|| format!("{at:?} was closed twice"))?;
        if !echo.pending.is_empty() {
            self.lossy.insert((echo.tab, at.socket.0));
        }
        Ok(())
    }

    /// The application closes a socket.
    pub fn kick(&mut self, now: Timestamp, rng: &mut Rng) {
        let all = self.sockets.keys().copied().collect::<Vec<_>>();
        if let Some(at) = rng.pick(&all) {
            // Closed already: its end waits in the outputs.
            let _ = self.registry.close(now, at, KICK, "kicked");
        }
    }

    /// Sends a numbered message to all tabs of a browser.
    pub fn broadcast(&mut self, now: Timestamp, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let text = format!("{} {}", session.serial, session.broadcasts + 1);
        if self.registry.broadcast(now, id, Payload::Text(&text)).is_ok() {
            session.broadcasts += 1;
        }
    }

    /// Somebody wants a topic.
    pub fn join(&mut self, now: Timestamp, name: &Arc<str>) -> Checked {
        let joined = self.topics.join(0, name).map_err(|full| full.to_string())?;
        let policy = match &**name {
            "latest" => SlowPolicy::KeepLatest,
            "gap" => SlowPolicy::DropWithGap,
            _ => SlowPolicy::Recover,
        };
        self.registry.topic_joined(now, name, joined.topic, joined.position, policy);
        Ok(())
    }

    /// Nobody wants it any more.
    pub fn leave(&mut self, topic: TopicId) {
        self.topics.leave(0, topic);
    }

    /// Publishes the next text of a topic.
    pub fn publish(&mut self, now: Timestamp, feed: &mut Feed, name: &'static str) {
        let numbered = self.topics.publish(name, Payload::Text(&feed.next(name)));
        let position = numbered.position;
        feed.published(name, position);
        if let Some((topic, bytes)) = numbered.frame {
            let frame = Arc::new(Encoded::new(bytes.into(), None));
            self.registry.publish(now, &[Publication { topic, position, frame }]);
        }
    }

    /// Keeps count of what the registry tells.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::LinkUp { link, session, .. } => {
                self.last_session += 1;
                let (serial, tabs) = (self.last_session, BTreeSet::new());
                let known = Session { link: *link, tabs, serial, broadcasts: 0 };
                self.sessions.insert(*session, known);
            }
            Event::LinkDown { link, .. } => {
                self.sessions.retain(|_, session| session.link != *link);
            }
            Event::TabAttached { session, tab } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.tabs.insert(*tab);
                }
            }
            Event::TabGone { session, tab } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.tabs.remove(tab);
                }
            }
            Event::TabParked { .. } | Event::SessionEnded { .. } => {}
        }
    }

    /// The registry's numbers are those of what it told.
    pub fn agrees(&self) -> Checked {
        let stats = self.registry.stats();
        let tabs = self.sessions.values().map(|session| session.tabs.len()).sum::<usize>();
        let told = (self.sessions.len(), tabs, self.sockets.len());
        let says = (stats.sessions, stats.tabs + stats.parked, stats.sockets);
        let sane = stats.protocol_errors == 0;
        (told == says && sane)
            .then_some(())
            .ok_or_else(|| format!("the registry told of {told:?}, counts {says:?}: {stats:?}"))
    }

    /// Whether any session has the tab.
    pub fn knows(&self, tab: TabId) -> bool {
        self.sessions.values().any(|session| session.tabs.contains(&tab))
    }

    /// Whether echoes wait.
    pub fn is_idle(&self) -> bool {
        self.sockets.values().all(|echo| echo.pending.is_empty())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}
