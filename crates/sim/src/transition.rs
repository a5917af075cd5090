//! What happens to the world, drawn from the seed. Each run draws its own weights, so that some
//! runs are all cuts and others know no restart.

use std::time::Duration;

use tabmux_core::wire::TabId;

use crate::{
    browser::{PageMessage, SocketState, Tab},
    oracle::Checked,
    rng::Rng,
    topics::NAMES,
    world::{BROWSERS, Delivery, World},
};

/// Transitions of one run.
pub(crate) const COUNT: u64 = 400;
/// How soon a hub that is awake drops a dead tab: the grace of 500 ms, and what is under way.
pub(crate) const HUB_FORGETS: Duration = Duration::from_secs(1);
/// How soon the server does: a link that is half-open lives for 62.5 s, and machines sleep.
pub(crate) const SERVER_FORGETS: Duration = Duration::from_secs(240);
/// The longest that a machine sleeps in the world's time.
const LONGEST_SLEEP_MS: u64 = 100_000;
/// The tabs of one browser at most, in the first phase.
const TABS: usize = 5;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// A page is loaded.
    OpenTab,
    /// A tab is closed, and says bye.
    CloseTab,
    /// A tab dies without a word.
    CrashTab,
    /// A tab enters the back/forward cache.
    ParkTab,
    /// A tab comes back from it.
    RestoreTab,
    /// A page opens a socket.
    OpenSocket,
    /// A page sends some messages.
    Send,
    /// A page closes a socket.
    CloseSocket,
    /// The application closes a socket.
    Kick,
    /// The application sends a message to all tabs of a browser.
    Broadcast,
    /// A page subscribes to a topic.
    Subscribe,
    /// A page ends a subscription.
    Unsubscribe,
    /// The application publishes some messages.
    Publish,
    /// A link breaks.
    CutLink,
    /// Nothing arrives on a link for a while.
    StallLink,
    /// Dials of a browser are not answered, or are again.
    ToggleOffline,
    /// The server stops, politely or not, and comes back without its sessions.
    RestartServer,
    /// A machine sleeps, and its clock is an hour ahead when it wakes.
    Sleep,
}

const ALL: [Transition; 18] = [
    Transition::OpenTab,
    Transition::CloseTab,
    Transition::CrashTab,
    Transition::ParkTab,
    Transition::RestoreTab,
    Transition::OpenSocket,
    Transition::Send,
    Transition::CloseSocket,
    Transition::Kick,
    Transition::Broadcast,
    Transition::Subscribe,
    Transition::Unsubscribe,
    Transition::Publish,
    Transition::CutLink,
    Transition::StallLink,
    Transition::ToggleOffline,
    Transition::RestartServer,
    Transition::Sleep,
];

/// How likely each transition is in one run.
#[derive(Debug)]
pub struct Weights([u64; ALL.len()]);

impl Weights {
    /// Weights for one run.
    pub fn draw(rng: &mut Rng) -> Self {
        let weight = |transition: Transition| match transition {
            Transition::OpenTab | Transition::RestoreTab => 4 + rng.below(6),
            Transition::OpenSocket => 6 + rng.below(8),
            Transition::Subscribe => 3 + rng.below(6),
            Transition::Publish => 5 + rng.below(20),
            Transition::Send => 15 + rng.below(30),
            Transition::RestartServer => rng.below(2),
            _ => rng.below(2) * rng.below(6),
        };
        Self(ALL.map(weight))
    }

    /// The next transition.
    pub fn next(&self, rng: &mut Rng) -> Transition {
        let mut at = rng.below(self.0.iter().sum());
        for (transition, weight) in ALL.into_iter().zip(self.0) {
            match at.checked_sub(weight) {
                Some(rest) => at = rest,
                None => return transition,
            }
        }
        Transition::Send
    }
}

impl World {
    /// Something happens.
    pub(crate) fn chance(&mut self) -> Checked {
        let transition = self.weights.next(&mut self.rng);
        let at = usize::try_from(self.rng.below(BROWSERS as u64)).unwrap_or(0);
        match transition {
            Transition::Kick | Transition::Broadcast | Transition::Publish => {
                return self.application(transition);
            }
            Transition::CutLink | Transition::StallLink => {
                let links = self.network.links.keys().copied().collect::<Vec<_>>();
                let until = self.now + self.rng.millis(0, 40_000);
                match self.rng.pick(&links) {
                    Some(id) if transition == Transition::CutLink => self.cut(id),
                    Some(id) => {
                        if let Some(link) = self.network.links.get_mut(&id) {
                            link.stalled_until = until;
                        }
                    }
                    None => {}
                }
            }
            Transition::RestartServer => return self.restart_server(),
            _ if self.browsers[at].asleep => {}
            Transition::ToggleOffline => {
                let online = self.browsers[at].offline;
                self.browsers[at].offline = !online;
                return self.hub_input(at, tabmux_core::hub::Input::NetworkChanged { online });
            }
            Transition::Sleep => {
                self.browsers[at].asleep = true;
                let wakes = self.now + self.rng.millis(0, LONGEST_SLEEP_MS);
                self.put(wakes, Delivery::Wake { browser: at });
            }
            Transition::OpenTab if self.browsers[at].tabs.len() < TABS => self.open_tab(at),
            Transition::RestoreTab => {
                let parked = self.browsers[at].tabs_where(true);
                if let Some(tab) = self.rng.pick(&parked) {
                    return self.restore(at, tab);
                }
            }
            _ => {
                let tabs = self.browsers[at].tabs_where(false);
                if let Some(tab) = self.rng.pick(&tabs) {
                    self.tab_does(at, tab, transition);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn open_tab(&mut self, at: usize) {
        let id = TabId(self.rng.next());
        self.browsers[at].tabs.insert(id, Tab::default());
        let next = self.browsers[at].locks.want(id);
        self.grant(at, id, next);
    }

    /// A tab comes back from the back/forward cache, and hears what was posted meanwhile.
    pub(crate) fn restore(&mut self, at: usize, id: TabId) -> Checked {
        let Some(tab) = self.browsers[at].tabs.get_mut(&id) else {
            return Ok(());
        };
        tab.parked = false;
        let waiting = std::mem::take(&mut tab.frozen);
        let next = self.browsers[at].locks.want(id);
        self.grant(at, id, next);
        for message in waiting {
            self.page_receives(at, id, message)?;
        }
        Ok(())
    }

    fn tab_does(&mut self, at: usize, id: TabId, transition: Transition) {
        let Self { browsers, rng, .. } = self;
        let Some(tab) = browsers[at].tabs.get_mut(&id) else {
            return;
        };
        let open = tab.sockets_in(SocketState::Open);
        let messages = match transition {
            Transition::CloseTab => vec![PageMessage::Bye],
            Transition::ParkTab => vec![PageMessage::Park],
            Transition::OpenSocket => tab.open().into_iter().collect(),
            Transition::CloseSocket => {
                let mut any = open;
                any.extend(tab.sockets_in(SocketState::Connecting));
                rng.pick(&any).and_then(|socket| tab.close(socket)).into_iter().collect()
            }
            Transition::Send => {
                let count = 1 + rng.below(12);
                let socket = |_| rng.pick(&open);
                let sockets = (0..count).filter_map(socket).collect::<Vec<_>>();
                sockets.into_iter().filter_map(|socket| tab.send(id, socket)).collect()
            }
            Transition::Subscribe if tab.subscriptions.len() < 4 => {
                rng.pick(&NAMES).and_then(|name| tab.subscribe(name)).into_iter().collect()
            }
            Transition::Unsubscribe => {
                let all = tab.subscriptions.keys().copied().collect::<Vec<_>>();
                rng.pick(&all).and_then(|number| tab.unsubscribe(number)).into_iter().collect()
            }
            _ => Vec::new(),
        };
        self.post(at, id, messages);
        match transition {
            Transition::CloseTab | Transition::CrashTab => self.bury(at, id),
            Transition::ParkTab => {
                if let Some(tab) = self.browsers[at].tabs.get_mut(&id) {
                    tab.parked = true;
                }
                let next = self.browsers[at].locks.release(id);
                self.grant(at, id, next);
            }
            _ => {}
        }
    }

    fn application(&mut self, transition: Transition) -> Checked {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        if transition == Transition::Kick {
            server.kick(self.now, &mut self.rng);
        } else if transition == Transition::Publish {
            for _ in 0..=self.rng.below(15) {
                if let Some(name) = self.rng.pick(&NAMES) {
                    server.publish(self.now, &mut self.feed, name);
                }
            }
        } else {
            let sessions = server.sessions.keys().copied().collect::<Vec<_>>();
            if let Some(session) = self.rng.pick(&sessions) {
                server.broadcast(self.now, session);
            }
        }
        self.drain_server()
    }

    /// It goes without a word, or after a GO_AWAY with closes; it is back after a while.
    fn restart_server(&mut self) -> Checked {
        if let Some(server) = &mut self.server {
            if self.rng.one_in(2) {
                let (after, spread) = (Duration::from_secs(1), Duration::from_secs(2));
                // A half of the links; the others are not told.
                server.registry.drain(self.now, 2, after, spread);
                server.registry.shutdown(self.now);
                self.drain_server()?;
            }
            self.server = None;
            let links = self.network.links.keys().copied().collect::<Vec<_>>();
            for link in links {
                if self.network.links[&link].server_open {
                    self.cut(link);
                    if let Some(link) = self.network.links.get_mut(&link) {
                        link.server_open = false;
                    }
                }
            }
            let back = self.now + self.rng.millis(0, 10_000);
            self.put(back, Delivery::ServerUp);
        }
        Ok(())
    }
}
