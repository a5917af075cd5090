//! What the server says, frame by frame.

use std::time::Duration;

use tabmux_wire::{Alias, ErrorCode, ServerFrame, SocketId, TabId, Welcome, close as code};

use super::{
    LONGEST_HINT, Mux,
    connection::{Connected, Connection},
    open_socket,
    tabs::{Lane, Socket},
};
use crate::{
    Timestamp,
    hub::{
        base::{Base, Close},
        io::{Event, HubMessage},
    },
};

impl Mux {
    pub(super) fn handle_frame(&mut self, now: Timestamp, base: &mut Base, frame: ServerFrame<'_>) {
        if let Connection::Connected(connected) = &mut self.connection {
            connected.heard(now);
        }
        match frame {
            ServerFrame::Welcome(welcome) => self.welcomed(now, base, &welcome),
            ServerFrame::Refused { retry_ms, message, .. } => {
                let why = format!("tabmux: {} refused: {message}", base.config.url);
                let hint = match retry_ms {
                    0 => base.config.backoff_last,
                    ms => Duration::from_millis(ms).min(LONGEST_HINT),
                };
                base.close_link(now, code::NORMAL, "");
                self.fail(now, base, why, Some(hint));
            }
            ServerFrame::Fenced { .. } => {
                self.abandon(now, base, code::NORMAL, "tabmux: another hub took over".to_owned());
            }
            // Before WELCOME nothing else may come.
            _ if !matches!(self.connection, Connection::Connected(_)) => {
                let why = Self::not_tabmux(base, "sent something else before WELCOME");
                self.abandon(now, base, code::HUB_PROTOCOL_ERROR, why);
            }
            ServerFrame::Attached { tab, alias, n_seen, .. } => {
                if self.tabs.answered(tab) {
                    self.tabs.set_alias(tab, alias, n_seen);
                    self.open_wanted(base, tab);
                }
            }
            ServerFrame::GoAway { after_ms, spread_ms, .. } => {
                let spread = Duration::from_millis(spread_ms).min(LONGEST_HINT);
                let after = Duration::from_millis(after_ms).min(LONGEST_HINT);
                let wait = after + base.rng.below(spread);
                if let Connection::Connected(connected) = &mut self.connection {
                    connected.go_away = Some(wait);
                }
            }
            ServerFrame::Error { code, tab, socket, message } => {
                self.handle_error(base, code, tab, socket, message);
            }
            ServerFrame::Opened { tab, socket, protocol, .. } => {
                self.socket_opened(base, tab, socket, protocol);
            }
            ServerFrame::Data { tab, socket, payload } => {
                if let Some((id, tab)) = self.tabs.by_alias(tab)
                    && matches!(tab.sockets.get(socket), Some(Socket::Open | Socket::Closing))
                {
                    base.post(id, HubMessage::Message { socket, payload: payload.into() });
                }
            }
            ServerFrame::Close { tab, socket, code, reason } => {
                if let Some((id, tab)) = self.tabs.by_alias(tab)
                    && tab.sockets.remove(socket).is_some()
                {
                    let clean = code != code::ABNORMAL;
                    base.closed((id, socket), Close { code, reason, clean });
                }
            }
            ServerFrame::Message { payload } => {
                let message = HubMessage::Browser { payload: payload.into() };
                base.post_all(base.tabs.all(), &message);
            }
            ServerFrame::Subscribed(subscribed) => self.topics.subscribed(base, &subscribed),
            ServerFrame::Unsubscribed(unsubscribed) => {
                self.topics.unsubscribed(now, base, &unsubscribed);
            }
            ServerFrame::Publication { topic, position, previous, payload } => {
                self.topics.publication(base, topic, position, previous, payload);
            }
            ServerFrame::Gap { topic, position } => self.topics.gap(base, topic, position),
            // Laid down in version 1, and not yet asked for by this hub.
            ServerFrame::Ack { .. }
            | ServerFrame::Pong { .. }
            | ServerFrame::Credit { .. }
            | ServerFrame::Unknown { .. } => {}
        }
    }

    fn welcomed(&mut self, now: Timestamp, base: &mut Base, welcome: &Welcome) {
        if !matches!(self.connection, Connection::Handshaking { .. }) {
            let why = "tabmux: the server said WELCOME twice".to_owned();
            self.abandon(now, base, code::HUB_PROTOCOL_ERROR, why);
            return;
        }
        let (session, resumed) = (welcome.session, welcome.resumed);
        base.event(Event::Welcomed { session, resumed });
        self.reason.clear();
        let mut connected = Connected::new(now, welcome, &base.config);
        if base.tabs.len() == 0 {
            connected.linger_until = Some(now + base.config.linger);
        }
        self.connection = Connection::Connected(connected);
    }

    fn handle_error(
        &mut self,
        base: &mut Base,
        code: ErrorCode,
        tab: Option<TabId>,
        socket: Option<SocketId>,
        message: &str,
    ) {
        let Some(id) = tab else { return };
        let is_refusal = code == ErrorCode::TabLimit && socket.is_none();
        if is_refusal && !self.tabs.answered(id) {
            return;
        }
        let Some(tab) = self.tabs.get_mut(id) else { return };
        let error = format!("tabmux: {message}");
        if let Some(socket) = socket {
            if tab.sockets.contains(socket) {
                base.post(id, HubMessage::Error { socket, message: error });
            }
        } else if is_refusal {
            for (socket, _) in tab.sockets.take() {
                base.fail((id, socket), Some(&error));
            }
            tab.lane = Lane::Refused { error };
        }
    }

    fn socket_opened(&mut self, base: &mut Base, tab: Alias, socket: SocketId, protocol: &str) {
        let Some((id, tab)) = self.tabs.by_alias(tab) else {
            return;
        };
        if let Some(state) = tab.sockets.get_mut(socket)
            && let Socket::Opening { reused } = *state
        {
            *state = Socket::Open;
            base.track((id, socket));
            let (protocol, extensions) = (protocol.to_owned(), String::new());
            base.post(id, HubMessage::Opened { socket, reused, protocol, extensions });
        }
    }

    /// Opens what a tab wished for before the server knew it.
    fn open_wanted(&mut self, base: &mut Base, id: TabId) {
        let Some(tab) = self.tabs.get_mut(id) else {
            return;
        };
        for socket in tab.sockets.keys_where(|_, state| matches!(state, Socket::Wanted { .. })) {
            open_socket(base, tab, socket);
        }
    }
}
