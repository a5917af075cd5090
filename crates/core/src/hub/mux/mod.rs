//! Mux mode: a link to a tabmux server, in which every socket is a virtual socket of its own.

mod connection;
mod frames;
mod tabs;
mod topics;

use std::{mem, time::Duration};

use tabmux_wire::{
    Hello, HubFrame, MAX_PATH, MAX_PROTOCOL, MAX_PROTOCOLS, Payload, ServerFrame, SocketId, TabId,
    Upstream, VERSION, close as code,
};

use self::{
    connection::{Connection, Pulse},
    tabs::{Lane, MuxTab, MuxTabs, Socket},
    topics::Topics,
};
use super::{
    backoff::Backoff,
    base::{Base, Close, Machine, SocketKey, Subscription, Wish},
    config::HubConfig,
    io::{Event, HubMessage, LinkState, SubscriptionId, WakeReason},
};
use crate::{OwnedPayload, Timestamp};

/// Bytes of data a server may send on a virtual socket before it is given more.
const CREDIT: u64 = 256 << 10;
/// The longest wait a server may ask for.
const LONGEST_HINT: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Mux {
    connection: Connection,
    tabs: MuxTabs,
    topics: Topics,
    backoff: Backoff,
    /// Why the last link ended; empty while one works.
    reason: String,
}

impl Mux {
    pub(super) fn new(config: &HubConfig) -> Self {
        Self {
            connection: Connection::Idle,
            tabs: MuxTabs::default(),
            topics: Topics::default(),
            backoff: Backoff::new(config.backoff_first, config.backoff_last),
            reason: String::new(),
        }
    }

    /// Opens the link, once the hub may.
    fn dial(&mut self, now: Timestamp, base: &mut Base) {
        if base.has_lock() {
            self.connection = Connection::Dialling { until: now + base.config.dial_timeout };
            base.open_link();
        } else {
            self.connection = Connection::WaitingForLock;
        }
    }

    /// Says that every socket is lost, and decides when to try again. `hint` is what the server
    /// asked for.
    fn fail(&mut self, now: Timestamp, base: &mut Base, reason: String, hint: Option<Duration>) {
        base.drop_link();
        base.event(Event::LinkDown(reason.clone()));
        self.topics.link_lost();
        for (tab, socket, state) in self.tabs.reset() {
            let was_open = matches!(state, Socket::Open | Socket::Closing);
            base.fail((tab, socket), (!was_open).then_some(&*reason));
        }
        if let Connection::Connected(connected) = &self.connection
            && now.saturating_since(connected.since) >= base.config.backoff_reset
        {
            self.backoff.reset();
        }
        self.reason = reason;
        if base.tabs.any_present() {
            let wait = hint.unwrap_or_else(|| self.backoff.next(&mut base.rng));
            self.connection = Connection::Backoff { until: now + wait };
        } else {
            self.stop(base);
        }
    }

    /// Closes the link from this end, then as above.
    fn abandon(&mut self, now: Timestamp, base: &mut Base, code: u16, reason: String) {
        let brief = reason.get(..reason.len().min(100)).unwrap_or_default();
        base.abandon_link(code, brief);
        self.fail(now, base, reason, None);
    }

    /// Nobody needs a link any more.
    fn stop(&mut self, base: &mut Base) {
        base.drop_link();
        self.topics.link_lost();
        base.release_lock();
        self.connection = Connection::Idle;
    }

    fn not_tabmux(base: &Base, what: &str) -> String {
        let url = &base.config.url;
        format!(
            "tabmux: {url} is no tabmux server: it {what}. mode 'mux' needs a tabmux server; \
             mode 'mirror' works with any WebSocket server"
        )
    }

    fn send_attach(&mut self, base: &mut Base, tab: TabId) {
        self.tabs.asked(tab);
        base.send_control(HubFrame::Attach { tab, last: 0 }.to_bytes());
    }

    /// Every tab that is left is parked. No timer will run once the browser freezes the worker,
    /// so all is done in this task.
    fn suspend(&mut self, now: Timestamp, base: &mut Base) {
        if let Connection::Connected(connected) = &mut self.connection {
            connected.suspended = true;
            base.send_control(HubFrame::Suspend.to_bytes());
            base.flush_all(now);
            base.release_lock();
        } else {
            base.close_link(now, code::NORMAL, "");
            self.stop(base);
        }
    }
}

/// Sends OPEN for a socket that is wanted, if the server knows the tab.
fn open_socket(base: &mut Base, tab: &mut MuxTab, socket: SocketId) {
    let MuxTab { lane: Lane::Known { alias, n }, sockets } = tab else { return };
    if let Some(state) = sockets.get_mut(socket)
        && let Socket::Wanted { path, protocols, reused } = state
    {
        *n += 1;
        let up = Upstream { tab: *alias, n: *n };
        let protocols = protocols.iter().map(String::as_str).collect();
        let open = HubFrame::Open { up, socket, credit: CREDIT, path, protocols };
        base.send_control(open.to_bytes());
        *state = Socket::Opening { reused: *reused };
    }
}

impl Machine for Mux {
    fn tab_attached(&mut self, now: Timestamp, base: &mut Base, tab: TabId) {
        self.tabs.insert(tab);
        match &mut self.connection {
            Connection::Idle => self.dial(now, base),
            Connection::Handshaking { .. } => self.send_attach(base, tab),
            Connection::Connected(connected) => {
                connected.linger_until = None;
                if mem::take(&mut connected.suspended) {
                    // The link may have died meanwhile; the lock is needed for the next one.
                    base.has_lock();
                    if let Pulse::Ping { nonce } = connected.probe(now, base.bytes_left()) {
                        base.send_ping(nonce);
                    }
                }
                self.send_attach(base, tab);
            }
            Connection::WaitingForLock
            | Connection::Dialling { .. }
            | Connection::Backoff { .. } => {}
        }
    }

    fn tab_caught_up(&mut self, base: &mut Base, tab: TabId) {
        self.topics.tab_back(base, tab, self.connection.is_open());
    }

    fn tab_parked(&mut self, now: Timestamp, base: &mut Base, tab: TabId) {
        let is_open = self.connection.is_open();
        self.topics.tab_away(base, tab, false, is_open);
        if is_open {
            base.send_control(HubFrame::Park { tab }.to_bytes());
        }
        if !base.tabs.any_present() {
            self.suspend(now, base);
        }
    }

    fn tab_gone(&mut self, now: Timestamp, base: &mut Base, tab: TabId) {
        self.tabs.remove(tab);
        let is_open = self.connection.is_open();
        self.topics.tab_gone(base, tab, is_open);
        if is_open {
            base.send_control(HubFrame::Gone { tab }.to_bytes());
        }
        if base.tabs.any_present() {
            return;
        }
        if base.tabs.len() > 0 {
            self.suspend(now, base);
        } else if let Connection::Connected(connected) = &mut self.connection {
            connected.linger_until = Some(now + base.config.linger);
        } else {
            base.close_link(now, code::NORMAL, "");
            self.stop(base);
        }
    }

    fn tab_overflowed(&mut self, _: Timestamp, base: &mut Base, id: TabId) {
        for socket in self.tabs.forget(id) {
            let reason = "the tab was away for too long".to_owned();
            let code = code::ABNORMAL;
            base.tabs.hold(id, HubMessage::Closed { socket, code, clean: false, reason });
        }
        let is_open = self.connection.is_open();
        self.topics.tab_away(base, id, true, is_open);
        // The server forgets the tab as well; when it attaches again it gets a new alias.
        if is_open {
            base.send_control(HubFrame::Gone { tab: id }.to_bytes());
        }
    }

    fn open(&mut self, _: Timestamp, base: &mut Base, key: SocketKey, wish: Wish<'_>) {
        let (id, socket) = key;
        let Some(tab) = self.tabs.get_mut(id) else {
            return;
        };
        if tab.sockets.contains(socket) {
            base.event(Event::BadTabMessage(id));
            return;
        }
        if let Lane::Refused { error } = &tab.lane {
            base.fail(key, Some(error));
            return;
        }
        if tab.sockets.len() >= base.config.sockets {
            let error = format!("tabmux: a tab has {} sockets at most", base.config.sockets);
            base.fail(key, Some(&error));
            return;
        }
        if wish.path.len() > MAX_PATH
            || wish.protocols.len() > MAX_PROTOCOLS
            || wish.protocols.iter().any(|name| name.len() > MAX_PROTOCOL)
        {
            let error = format!(
                "tabmux: a path has {MAX_PATH} bytes at most, and there are {MAX_PROTOCOLS} \
                 sub-protocols of {MAX_PROTOCOL} bytes at most"
            );
            base.fail(key, Some(&error));
            return;
        }
        let protocols = wish.protocols.iter().map(|&name| name.to_owned()).collect();
        let reused = matches!(self.connection, Connection::Connected(_));
        let wanted = Socket::Wanted { path: wish.path.to_owned(), protocols, reused };
        tab.sockets.insert(socket, wanted);
        open_socket(base, tab, socket);
    }

    fn send(&mut self, _: Timestamp, base: &mut Base, key: SocketKey, payload: Payload<'_>) {
        let (id, socket) = key;
        let Connection::Connected(connected) = &self.connection else {
            return;
        };
        let limit = connected.limits.message_bytes;
        let Some(tab) = self.tabs.get_mut(id) else {
            return;
        };
        if !matches!(tab.sockets.get(socket), Some(Socket::Open)) {
            return;
        }
        let Some(up) = tab.next_up() else { return };
        let frame = HubFrame::Data { up, socket, payload }.to_bytes();
        let error = if frame.len() as u64 > limit {
            let bytes = frame.len();
            format!(
                "tabmux: the server takes messages of {limit} bytes at most, and this one has \
                 {bytes} with its header"
            )
        } else if base.send(OwnedPayload::Binary(frame), key, payload.len()) {
            return;
        } else {
            format!("tabmux: more than {} bytes wait to be sent", base.config.outbox_bytes)
        };
        // The frame was not sent, so its number goes to the CLOSE.
        base.event(Event::Overflow(id));
        tab.sockets.remove(socket);
        let close = HubFrame::Close { up, socket, code: code::TOO_BIG, reason: "" };
        base.send_control(close.to_bytes());
        base.fail(key, Some(&error));
    }

    fn close(&mut self, _: Timestamp, base: &mut Base, key: SocketKey, close: Close<'_>) {
        let (id, socket) = key;
        let Some(tab) = self.tabs.get_mut(id) else {
            return;
        };
        match tab.sockets.get(socket) {
            Some(Socket::Wanted { .. }) => {
                tab.sockets.remove(socket);
                base.fail(key, Some("tabmux: the socket was closed before it was open"));
            }
            Some(Socket::Opening { .. } | Socket::Open) => {
                let Some(up) = tab.next_up() else { return };
                tab.sockets.insert(socket, Socket::Closing);
                let Close { code, reason, .. } = close;
                base.send_control(HubFrame::Close { up, socket, code, reason }.to_bytes());
            }
            Some(Socket::Closing) | None => {}
        }
    }

    fn subscribe(&mut self, base: &mut Base, wish: Subscription<'_>) {
        self.topics.subscribe(base, wish, self.connection.is_open());
    }

    fn unsubscribe(&mut self, base: &mut Base, tab: TabId, number: SubscriptionId) {
        self.topics.unsubscribe(base, tab, number, self.connection.is_open());
    }

    fn lock_granted(&mut self, now: Timestamp, base: &mut Base) {
        if matches!(self.connection, Connection::WaitingForLock) {
            self.dial(now, base);
        }
    }

    fn link_opened(&mut self, now: Timestamp, base: &mut Base, _: &str, _: &str) {
        if !matches!(self.connection, Connection::Dialling { .. }) {
            return;
        }
        self.connection = Connection::Handshaking { until: now + base.config.handshake_timeout };
        let hello = Hello {
            min_version: VERSION,
            max_version: VERSION,
            hub: base.config.hub,
            resume: None,
            credentials: "",
        };
        base.send_control(HubFrame::Hello(hello).to_bytes());
        self.tabs.new_link();
        // A parked tab attaches when it is back.
        for tab in base.tabs.present() {
            self.send_attach(base, tab);
        }
        self.topics.link_opened(base);
    }

    fn link_message(&mut self, now: Timestamp, base: &mut Base, payload: Payload<'_>) {
        let welcomed = matches!(self.connection, Connection::Connected(_));
        let why = match payload {
            Payload::Binary(bytes) => match ServerFrame::decode(bytes) {
                Ok(frame) => return self.handle_frame(now, base, frame),
                Err(error) => {
                    base.event(Event::BadFrame(error));
                    error.to_string()
                }
            },
            Payload::Text(_) => "sent a text message".to_owned(),
        };
        let why = if welcomed {
            format!("tabmux: the server sent what is no frame: {why}")
        } else {
            Self::not_tabmux(base, "did not answer HELLO with WELCOME")
        };
        self.abandon(now, base, code::HUB_PROTOCOL_ERROR, why);
    }

    fn link_closed(&mut self, now: Timestamp, base: &mut Base, close: Close<'_>) {
        let Close { code, reason, .. } = close;
        let url = &base.config.url;
        let (why, hint) = match &self.connection {
            Connection::Handshaking { .. } => {
                (Self::not_tabmux(base, "closed before WELCOME"), None)
            }
            Connection::Connected(connected) => {
                (format!("tabmux: the link was closed ({code} {reason})"), connected.go_away)
            }
            Connection::Idle
            | Connection::WaitingForLock
            | Connection::Dialling { .. }
            | Connection::Backoff { .. } => (
                format!(
                    "tabmux: could not connect to {url}: the server is not there, or it refused \
                     this page's origin"
                ),
                None,
            ),
        };
        self.fail(now, base, why, hint);
    }

    fn network_changed(&mut self, now: Timestamp, base: &mut Base, online: bool) {
        if !online {
            return;
        }
        match &mut self.connection {
            Connection::Backoff { until } => {
                // All browsers of a network come back with it: spread them.
                let soon = now + base.rng.below(base.config.backoff_first);
                *until = (*until).min(soon);
            }
            Connection::Connected(connected) => {
                if let Pulse::Ping { nonce } = connected.probe(now, base.bytes_left()) {
                    base.send_ping(nonce);
                }
            }
            Connection::Idle
            | Connection::WaitingForLock
            | Connection::Dialling { .. }
            | Connection::Handshaking { .. } => {}
        }
    }

    fn handle_timeout(&mut self, now: Timestamp, base: &mut Base) {
        self.topics.handle_timeout(now, base, self.connection.is_open());
        match &mut self.connection {
            Connection::Dialling { until } if *until <= now => {
                let why = format!("tabmux: {} did not answer in time", base.config.url);
                self.abandon(now, base, 0, why);
            }
            Connection::Handshaking { until } if *until <= now => {
                let seconds = base.config.handshake_timeout.as_secs();
                let what = format!("did not say WELCOME within {seconds} s");
                let why = Self::not_tabmux(base, &what);
                self.abandon(now, base, code::HANDSHAKE_TIMEOUT, why);
            }
            Connection::Backoff { until } if *until <= now => self.dial(now, base),
            Connection::Connected(connected) => {
                if connected.linger_until.is_some_and(|until| until <= now) {
                    base.close_link(now, code::NORMAL, "");
                    self.stop(base);
                    return;
                }
                match connected.pulse(now, base.bytes_left()) {
                    Pulse::Nothing => {}
                    Pulse::Ping { nonce } => base.send_ping(nonce),
                    Pulse::Dead => {
                        let why = "tabmux: the server fell silent".to_owned();
                        self.abandon(now, base, code::HEARTBEAT_TIMEOUT, why);
                    }
                }
            }
            Connection::Idle
            | Connection::WaitingForLock
            | Connection::Dialling { .. }
            | Connection::Handshaking { .. }
            | Connection::Backoff { .. } => {}
        }
    }

    fn poll_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        [self.connection.poll_timeout(), self.topics.poll_timeout()].into_iter().flatten().min()
    }

    fn state(&self) -> (LinkState, &str) {
        (self.connection.state(), &self.reason)
    }
}
