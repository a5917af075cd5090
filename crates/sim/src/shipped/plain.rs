//! A WebSocket server that knows nothing of tabmux. It echoes, sends messages of its own, closes,
//! refuses, answers late, dies and comes back.

use std::{collections::BTreeMap, time::Duration};

use tabmux_core::{Timestamp, wire::close};

use super::{
    links::Peer,
    message::Message,
    views::ViewKey,
    world::{Delivery, World},
};
use crate::{
    invariant::{Checked, Invariant::NothingLost},
    rng::Rng,
};

/// The beginning of the server's addresses. The number of a feed follows.
pub(crate) const PLAIN_URL: &str = "wss://plain/feed/";
/// The sub-protocols that views of the second feed offer.
pub(crate) const PROTOCOLS: &str = "one,two";
/// The sub-protocol of these that the server chooses.
pub(crate) const PROTOCOL: &str = "two";
/// The reason with which the server closes a connection.
pub(crate) const FAREWELL: &str = "enough";
/// The codes with which the server closes connections.
pub(crate) const CODES: [u16; 3] = [1000, 1001, 4001];
/// Longest time that the server takes to answer a dial, in milliseconds. Browsers and hubs give up
/// after 20 s.
const SLOW_MS: u64 = 15_000;

/// The state of the plain server.
#[derive(Debug)]
pub struct Plain {
    /// True while the server runs.
    pub is_up: bool,
    /// True while the server refuses all dials.
    pub refuses: bool,
    /// Time that the server takes to answer a dial.
    pub takes: Duration,
    /// All connections that there ever were, by the number of their link.
    pub connections: BTreeMap<u64, Connection>,
}

/// A connection as the server sees it.
#[derive(Debug, Default)]
pub struct Connection {
    /// Number of messages that the server sent on it.
    pub said: u64,
    /// Number of messages that it received from each view.
    pub heard: BTreeMap<ViewKey, u64>,
    /// Number of messages that it sent to each tab alone, by the tab's name.
    pub routed: BTreeMap<String, u64>,
    /// Whether the connection lives, and how it ended.
    pub end: End,
}

/// Whether a connection lives, and how it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The connection is still open.
    #[default]
    Open,
    /// The server closed the connection with this code.
    Closed(u16),
    /// The browser closed the connection.
    Left,
    /// The connection broke without a close.
    Broken,
}

impl Default for Plain {
    fn default() -> Self {
        let takes = Duration::ZERO;
        Self { is_up: true, refuses: false, takes, connections: BTreeMap::new() }
    }
}

impl Plain {
    /// Returns true if a dial succeeds now.
    pub const fn answers(&self) -> bool {
        self.is_up && !self.refuses
    }

    /// Returns the connections that live.
    pub fn open(&self) -> Vec<u64> {
        let open = self.connections.iter().filter(|(_, it)| it.end == End::Open);
        open.map(|(id, _)| *id).collect()
    }
}

impl World {
    /// Called when a dial reaches the server, which answers it at once or later.
    pub(crate) fn plain_arrives(&mut self, id: u64) {
        let when = self.now + self.plain.takes;
        if let Some(link) = self.network.links.get_mut(&id) {
            link.answered_at = when;
        }
        if self.plain.answers() {
            self.put(when, Delivery::PlainAnswers { link: id });
        } else {
            self.plain_refuses(id);
        }
    }

    fn plain_refuses(&mut self, id: u64) {
        let (now, code) = (self.now, close::ABNORMAL);
        let Some(link) = self.network.links.get_mut(&id) else { return };
        let latency = self.browsers[link.at.0].link_latency();
        let (when, at) = (link.down(now, latency), link.at);
        self.put(when, Delivery::WorkerHears { link: id, at, code, clean: false });
    }

    /// Answers a dial, unless the server or the link has ended meanwhile.
    pub(crate) fn plain_answers(&mut self, id: u64) {
        if !self.plain.answers() {
            return self.plain_refuses(id);
        }
        let now = self.now;
        let Some(link) = self.network.links.get_mut(&id) else { return };
        if !link.worker_open || link.broken || link.closing {
            return;
        }
        let latency = self.browsers[link.at.0].link_latency();
        link.server_open = true;
        let (when, at) = (link.down(now, latency), link.at);
        self.plain.connections.insert(id, Connection::default());
        self.put(when, Delivery::Opened { at, link: id });
    }

    /// Called when a message reaches the server, which echoes it.
    pub(crate) fn plain_hears(&mut self, id: u64, message: &Message) -> Checked {
        let text = message.text();
        let mut words = text.split(' ').skip(1).map(str::parse::<u64>);
        let mut next = || words.next().and_then(Result::ok).unwrap_or_default();
        let (browser, tag, view, n) = (next(), next(), next(), next());
        let key = ViewKey::new(browser, tag, view);
        let Some(it) = self.plain.connections.get_mut(&id) else {
            return NothingLost.broken(format!("link {id} heard {text:?}, and was never open"));
        };
        let last = it.heard.insert(key, n);
        let (is_next, last) = (n == last.unwrap_or_default() + 1, last.unwrap_or_default());
        // Messages that were on their way when the connection before this one broke are lost.
        let goes_on = last == 0 && n > 0 && self.view_may_go_on(key);
        NothingLost.unless(is_next || goes_on, || {
            format!("link {id} heard {text:?} after number {last} of that view")
        })?;
        if !self.view_may_go_on(key) {
            self.bind_view(key, id)?;
        }
        self.plain_says(id, &text);
        Ok(())
    }

    /// Sends the server's next message on a connection. Every third message is binary.
    pub(crate) fn plain_says(&mut self, id: u64, what: &str) {
        let now = self.now;
        let Some(it) = self.plain.connections.get_mut(&id).filter(|it| it.end == End::Open) else {
            return;
        };
        it.said += 1;
        let text = format!("down {id} {} {what}", it.said);
        let message =
            if it.said.is_multiple_of(3) { text.into_bytes().into() } else { text.into() };
        let Some(link) = self.network.links.get_mut(&id) else { return };
        let latency = self.browsers[link.at.0].link_latency();
        let (when, at) = (link.down(now, latency), link.at);
        self.put(when, Delivery::Down { at, link: id, message });
    }

    /// Sends a message to one tab alone, of those that have sent something on a connection.
    fn plain_routes(&mut self, id: u64, rng: &mut Rng) {
        let Some(it) = self.plain.connections.get(&id).filter(|it| it.end == End::Open) else {
            return;
        };
        let speakers = it.heard.keys().copied().collect::<Vec<_>>();
        let Some(name) = rng.pick(&speakers).and_then(|key| self.name_for(key, id)) else { return };
        let now = self.now;
        let Some(it) = self.plain.connections.get_mut(&id) else { return };
        let n = it.routed.entry(name.clone()).or_default();
        *n += 1;
        let text = format!(r#"{{"to":"{name}","down":"down {id} {n}"}}"#);
        let Some(link) = self.network.links.get_mut(&id) else { return };
        let latency = self.browsers[link.at.0].link_latency();
        let (when, at) = (link.down(now, latency), link.at);
        self.put(when, Delivery::Down { at, link: id, message: text.into() });
    }

    /// Called when the server hears that a connection is closed or broken.
    pub(crate) fn plain_loses(&mut self, id: u64) {
        let left = self.network.links.get(&id).is_some_and(|link| link.closing && !link.broken);
        if let Some(it) = self.plain.connections.get_mut(&id).filter(|it| it.end == End::Open) {
            it.end = if left { End::Left } else { End::Broken };
        }
    }

    /// Lets the server close or send, on one connection or on all.
    pub(crate) fn plain_does(&mut self, kicks: bool, rng: &mut Rng) {
        let open = self.plain.open();
        let Some(id) = rng.pick(&open) else { return };
        if !kicks {
            for _ in 0..=rng.below(6) {
                self.plain_says(id, "push");
            }
            for _ in 0..rng.below(3) {
                self.plain_routes(id, rng);
            }
            return;
        }
        let code = CODES[rng.index(CODES.len())];
        let Some(link) = self.network.links.get_mut(&id) else { return };
        if let Some(it) = self.plain.connections.get_mut(&id) {
            it.end = End::Closed(code);
        }
        link.farewell = FAREWELL;
        self.server_closes(tabmux_core::session::LinkId(id), code);
    }

    /// Draws a new fault of the server, or lets it recover.
    pub(crate) fn plain_suffers(&mut self, rng: &mut Rng) {
        match rng.below(6) {
            0 | 1 => self.plain_dies(rng),
            2 => self.plain.refuses = true,
            3 => self.plain.takes = rng.millis(0, SLOW_MS),
            _ => self.plain_recovers(),
        }
        let pages = self.views_of(None);
        pages.into_iter().for_each(|key| self.plain_changed(key));
    }

    /// Ends the faults of the server, which runs and answers at once.
    pub(crate) const fn plain_recovers(&mut self) {
        self.plain.is_up = true;
        self.plain.refuses = false;
        self.plain.takes = Duration::ZERO;
    }

    fn plain_dies(&mut self, rng: &mut Rng) {
        self.plain.is_up = false;
        let links = self.network.links.iter();
        let links = links.filter(|(_, link)| link.to == Peer::Plain && link.server_open);
        for id in links.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.cut(id, rng);
            self.plain_breaks(id);
            if let Some(link) = self.network.links.get_mut(&id) {
                link.server_open = false;
            }
        }
    }

    /// Called when a link breaks. If it leads to this server, its views may end.
    pub(crate) fn plain_breaks(&mut self, id: u64) {
        let link = self.network.links.get_mut(&id);
        let Some(link) = link.filter(|link| link.to == Peer::Plain) else { return };
        link.was_lost = true;
        let browser = link.at.0;
        if let Some(it) = self.plain.connections.get_mut(&id).filter(|it| it.end == End::Open) {
            it.end = End::Broken;
        }
        self.views_of(Some(browser)).into_iter().for_each(|key| self.view_may_break(key));
    }

    /// Returns true if a browser has a connection to this address that is broken and does not know
    /// it.
    pub(crate) fn plain_is_broken(&self, browser: usize, url: &str) -> bool {
        let mut all = self.network.links.values();
        all.any(|it| it.at.0 == browser && it.url == url && it.worker_open && it.broken)
    }

    /// Returns the time at which a dial that a browser makes now would be open, if it would be.
    /// Dials to one address share one that is under way, so if that was lost, this one counts as
    /// lost too.
    pub(crate) fn plain_would_open(&self, browser: usize, url: &str) -> Option<Timestamp> {
        let it = &self.browsers[browser];
        if it.offline || !self.plain.answers() {
            return None;
        }
        let way = Duration::from_millis(it.traits.link_ms);
        let under_way = self.network.links.values().filter(|link| {
            let dials = link.worker_open && !link.was_opened;
            dials && link.at.0 == browser && link.url == url
        });
        let under_way = under_way.collect::<Vec<_>>();
        if under_way.iter().any(|link| link.was_lost) {
            return None;
        }
        let answers = under_way
            .iter()
            .filter(|link| !link.broken)
            .map(|link| link.answered_at.max(link.stalled_until));
        Some(answers.fold(self.now + way + self.plain.takes, Timestamp::max) + way)
    }
}

/// Returns the sub-protocols that views of an address offer.
pub(crate) fn offered(url: &str) -> &'static str {
    if url.ends_with('1') { PROTOCOLS } else { "" }
}
