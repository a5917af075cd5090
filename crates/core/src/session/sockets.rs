//! Virtual sockets: opened, used and closed by their tab and by the application.

use tabmux_wire::{
    Alias, ErrorCode, MAX_MESSAGE_TEXT, MAX_PROTOCOL, MAX_REASON, Payload, Rejected, ServerFrame,
    SocketId, close, message_cost,
};

use super::{
    Output, PeerMisbehaved, SendError,
    asks::{Ask, Asker, Denial},
    config,
    credit::Credit,
    cut,
    effects::Effects,
    ledger::Charge,
    state::Session,
    tab::{Opening, Socket, SocketEnd},
};

/// An OPEN.
pub(super) struct Open<'a> {
    pub(super) socket: SocketId,
    pub(super) credit: u64,
    pub(super) path: &'a str,
    pub(super) protocols: Vec<&'a str>,
}

impl Session {
    /// Takes an OPEN, which becomes a question.
    pub(super) fn on_open(&mut self, fx: &mut Effects, alias: Alias, open: Open<'_>) {
        let Open { socket, credit, path, protocols } = open;
        let limit = fx.config.sockets as usize;
        let Some(tab) = self.tabs.get(alias) else {
            return;
        };
        // The hub passes on what its tabs say: a number in use is a page's fault, and costs it
        // alone.
        if tab.socket(socket).is_some() {
            fx.stats.sockets.bad_opens += 1;
            return;
        }
        if tab.socket_count() >= limit {
            fx.stats.sockets.refused += 1;
            let message = &format!("a tab may have {limit} sockets on this server");
            let denial = Denial { code: ErrorCode::SocketLimit.into(), message, retry: None };
            self.refuse_socket(fx, alias, socket, &denial);
            return;
        }
        let name = self.name(alias, socket);
        let what = Ask::Open {
            socket: name,
            tab: tab.id,
            path: path.to_owned(),
            protocols: protocols.iter().map(|&name| name.to_owned()).collect(),
        };
        let Some(ask) = self.ask(fx, Asker::Open(name), what) else {
            fx.stats.sockets.refused += 1;
            let limit = fx.config.asks;
            let message = &format!("a browser may wait for {limit} answers of this server");
            let retry = Some(fx.config.retry_after);
            let denial = Denial { code: ErrorCode::SocketLimit.into(), message, retry };
            self.refuse_socket(fx, alias, socket, &denial);
            return;
        };
        fx.stats.sockets.open += 1;
        let texts = protocols.iter().map(|name| size_of::<String>() + name.len());
        let opening = Opening {
            ask,
            credit: Credit::new(credit),
            path: u16::try_from(path.len()).unwrap_or(u16::MAX),
            protocols: texts.sum::<usize>() as u32,
            kept: 0,
        };
        self.set_socket(fx, alias, socket, Socket::Opening(Box::new(opening)));
    }

    /// Opens a socket whose question is answered, with a sub-protocol; empty for none.
    pub(super) fn open_socket(
        &mut self,
        fx: &mut Effects,
        tab: Alias,
        socket: SocketId,
        protocol: &str,
    ) {
        self.question_ended();
        let Some(Socket::Opening(opening)) = self.socket(tab, socket) else {
            return;
        };
        let open = Socket::Open { credit: opening.credit, path: opening.path };
        self.replace_socket(fx, tab, socket, open);
        let protocol = cut(protocol, MAX_PROTOCOL);
        let credit = fx.config.credit_bytes.into();
        self.send_lane(fx, tab, &ServerFrame::Opened { tab, socket, credit, protocol });
    }

    /// Refuses a socket whose question is answered.
    pub(super) fn reject_socket(
        &mut self,
        fx: &mut Effects,
        tab: Alias,
        socket: SocketId,
        denial: &Denial<'_>,
    ) {
        if self.take_socket(fx, tab, socket).is_some() {
            fx.stats.sockets.open -= 1;
            self.refuse_socket(fx, tab, socket, denial);
        }
    }

    /// Tells a tab that its socket, or its request, failed, and why.
    pub(super) fn refuse_socket(
        &mut self,
        fx: &mut Effects,
        alias: Alias,
        socket: SocketId,
        denial: &Denial<'_>,
    ) {
        let Denial { code, message, retry } = *denial;
        if self.version > 1 {
            let retry_ms = retry.map(config::millis);
            let (code, message) = (code.wire(), cut(message, MAX_MESSAGE_TEXT));
            let rejected = Rejected { tab: alias, socket, code, retry_ms, message };
            self.send_lane(fx, alias, &ServerFrame::Rejected(rejected));
            return;
        }
        let tab = self.tabs.get(alias).map(|tab| tab.id);
        self.send_error(fx, code.known(), tab, Some(socket), message);
        self.send_close(fx, alias, socket, close::ABNORMAL, "");
    }

    /// Asks the hub to show a ticket at the path of a socket that is about to open. Without a link
    /// nothing is sent, nor on one of version 1.
    pub(super) fn send_ticket(
        &mut self,
        fx: &mut Effects,
        (tab, socket): (Alias, SocketId),
        ticket: &str,
        path: &str,
    ) -> Result<(), SendError> {
        let Some(Socket::Opening(_)) = self.socket(tab, socket) else {
            return Err(SendError::Closed);
        };
        if self.version > 1 {
            self.send_frame(fx, &ServerFrame::Ticket { ticket, path });
        }
        Ok(())
    }

    /// Charges what the application keeps for a socket that is about to open.
    pub(super) fn keep_for_opening(
        &mut self,
        fx: &mut Effects,
        (tab, socket): (Alias, SocketId),
        bytes: usize,
    ) -> Result<(), SendError> {
        let Some(Socket::Opening(opening)) = self.socket_mut(tab, socket) else {
            return Err(SendError::Closed);
        };
        let (before, kept) = (opening.kept as usize, u32::try_from(bytes).unwrap_or(u32::MAX));
        opening.kept = kept;
        self.ledger.charge(fx, Charge::Asks, before, kept as usize);
        Ok(())
    }

    /// Takes a message of a tab. On a socket that is not open it is ignored, since a close may be
    /// under way. A page that sends what it has no credit for loses the socket, and no other
    /// notices.
    pub(super) fn on_data(
        &mut self,
        fx: &mut Effects,
        tab: Alias,
        socket: SocketId,
        payload: Payload<'_>,
    ) {
        let limit = fx.config.credit_bytes;
        let Some(Socket::Open { credit, .. }) = self.socket_mut(tab, socket) else {
            return;
        };
        let before = credit.held();
        let is_paid = credit.take(limit, message_cost(payload.len()));
        let after = credit.held();
        self.ledger.charge(fx, Charge::Credit, before, after);
        if is_paid {
            fx.stats.messages.received += 1;
            let (socket, payload) = (self.name(tab, socket), payload.into());
            fx.order(Output::SocketMessage { socket, payload });
        } else {
            fx.stats.sockets.over_credit += 1;
            let reason = "more was sent than there was credit for";
            self.close_socket(fx, tab, socket, close::POLICY, reason);
        }
    }

    /// Takes a CLOSE: the handler is told, and the frame goes back, which completes the closing
    /// handshake. A socket that was never open fails, as a WebSocket does.
    pub(super) fn on_close(
        &mut self,
        fx: &mut Effects,
        tab: Alias,
        socket: SocketId,
        code: u16,
        reason: &str,
    ) -> Result<(), PeerMisbehaved> {
        let code = match code {
            0 => close::NO_STATUS,
            1000..=4999 => code,
            _ => return Err(PeerMisbehaved::BadCloseCode),
        };
        // An unknown socket was closed by the server, and the two closes crossed.
        let end = match self.socket(tab, socket) {
            Some(Socket::Open { .. }) => SocketEnd { code, reason, clean: true },
            Some(Socket::Opening(_)) => SocketEnd::LOST,
            // A request is not closed but cancelled.
            Some(Socket::Requesting(_)) | None => return Ok(()),
        };
        let Some(state) = self.take_socket(fx, tab, socket) else {
            return Ok(());
        };
        let SocketEnd { code, reason, .. } = end;
        state.end(fx, self.name(tab, socket), end);
        self.send_close(fx, tab, socket, code, reason);
        Ok(())
    }

    /// Takes a CREDIT. A socket that is not there is ignored: its close is under way.
    pub(super) fn on_credit(&mut self, fx: &mut Effects, tab: Alias, socket: SocketId, bytes: u64) {
        if let Some(state) = self.socket_mut(tab, socket) {
            state.credit_mut().add(bytes);
        }
        self.credit_changed(fx, tab, socket);
        self.wake_waiting(fx);
    }

    /// Sends a message on an open socket. `rush` is how many times the session may be filled.
    pub(super) fn send_data(
        &mut self,
        fx: &mut Effects,
        tab: Alias,
        socket: SocketId,
        payload: Payload<'_>,
        rush: usize,
    ) -> Result<(), SendError> {
        let credit = self.socket(tab, socket).and_then(Socket::open).ok_or(SendError::Closed)?;
        if rush == 1 && !credit.is_left() {
            fx.stats.messages.no_credit += 1;
            return Err(SendError::Full);
        }
        let frame = ServerFrame::Data { tab, socket, payload };
        self.send_message(fx, Some(tab), &frame, payload.len(), rush)?;
        if let Some(Socket::Open { credit, .. }) = self.socket_mut(tab, socket) {
            credit.spend(message_cost(payload.len()));
        }
        self.credit_changed(fx, tab, socket);
        Ok(())
    }

    /// Closes an open socket from this end.
    pub(super) fn close_socket(
        &mut self,
        fx: &mut Effects,
        tab: Alias,
        socket: SocketId,
        code: u16,
        reason: &str,
    ) {
        let Some(state) = self.take_socket(fx, tab, socket) else {
            return;
        };
        if code == close::ABNORMAL && !reason.is_empty() {
            let id = self.tabs.get(tab).map(|tab| tab.id);
            let what = if self.version > 1 { ErrorCode::Failed } else { ErrorCode::Rejected };
            self.send_error(fx, what, id, Some(socket), reason);
        }
        let (code, reason) = match code {
            close::NO_STATUS | close::ABNORMAL => (code, ""),
            code => (code.clamp(1000, 4999), cut(reason, MAX_REASON)),
        };
        let clean = code != close::ABNORMAL;
        self.send_close(fx, tab, socket, code, reason);
        state.end(fx, self.name(tab, socket), SocketEnd { code, reason, clean });
    }

    /// Gives a tab credit back for messages that the application has dealt with.
    pub(super) fn give_back(&mut self, fx: &mut Effects, tab: Alias, socket: SocketId, cost: u64) {
        let limit = fx.config.credit_bytes;
        let Some(Socket::Open { credit, .. }) = self.socket_mut(tab, socket) else {
            return;
        };
        let before = credit.held();
        let given = credit.done(limit, cost);
        let after = credit.held();
        self.ledger.charge(fx, Charge::Credit, before, after);
        if let Some(bytes) = given {
            self.send_lane(fx, tab, &ServerFrame::Credit { tab, socket, bytes });
        }
    }

    fn send_close(
        &mut self,
        fx: &mut Effects,
        tab: Alias,
        socket: SocketId,
        code: u16,
        reason: &str,
    ) {
        self.send_lane(fx, tab, &ServerFrame::Close { tab, socket, code, reason });
    }

    /// Notes that the credit of a socket has changed: if it waits, that may not be for credit any
    /// more.
    pub(super) fn credit_changed(&mut self, fx: &mut Effects, tab: Alias, socket: SocketId) {
        let has_credit = self.socket(tab, socket).is_some_and(Socket::has_credit);
        if let Some(slow) = &mut self.slow
            && slow.waiting.contains((tab, socket))
        {
            fx.stats.sockets.awaiting_credit -= slow.waiting.without_credit();
            slow.waiting.insert((tab, socket), has_credit);
            fx.stats.sockets.awaiting_credit += slow.waiting.without_credit();
        }
    }
}
