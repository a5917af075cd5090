//! Requests of tabs: questions to the application, with one reply or several.
//!
//! A request has a number of the row of its tab's virtual sockets, and stands among them. It lives
//! with its tab, across links and hubs, until the last reply, a refusal, or CANCEL.

use tabmux_wire::{Alias, ErrorCode, Payload, Reply, Request, ServerFrame, SocketId, message_cost};

use super::{
    SendError,
    asks::{Ask, AskId, Asker, Denial},
    credit::Credit,
    effects::Effects,
    state::Session,
    tab::{Requesting, Socket, Tab},
};

impl Session {
    /// Takes a REQUEST, which becomes a question.
    pub(super) fn on_request(&mut self, fx: &mut Effects, alias: Alias, request: &Request<'_>) {
        // A hub of version 1 cannot ask: to the server such a frame is one of a later version.
        let is_taken = fx.config.requests && self.version > 1;
        let Some(tab) = self.tabs.get(alias).filter(|_| is_taken) else {
            return;
        };
        // A number in use is a page's fault, as with OPEN.
        if tab.socket(request.socket).is_some() {
            fx.stats.sockets.bad_opens += 1;
            return;
        }
        let Request { socket, credit, method, key, payload, .. } = *request;
        let (tab, name) = (tab.id, self.name(alias, socket));
        let text = method.len() + key.len() + payload.len();
        let asked = if self.asked_bytes() + text > fx.config.ask_bytes {
            fx.stats.asks.refused += 1;
            None
        } else {
            let (method, key, payload) = (method.to_owned(), key.to_owned(), payload.into());
            let what = Ask::Request { request: name, tab, method, key, payload };
            self.ask(fx, Asker::Request(name), what)
        };
        let Some(ask) = asked else {
            let message = "too many requests of this browser wait for their answers";
            let retry = Some(fx.config.retry_after);
            let denial = Denial { code: ErrorCode::Limit.into(), message, retry };
            self.refuse_socket(fx, alias, socket, &denial);
            return;
        };
        let text = u32::try_from(text).unwrap_or(u32::MAX);
        let requesting = Requesting { ask, credit: Credit::new(credit), text };
        self.set_socket(fx, alias, socket, Socket::Requesting(Box::new(requesting)));
    }

    /// Takes a CANCEL: the application is told, and the tab gets its last answer. A number that is
    /// of no request is ignored, since the last reply may be under way.
    pub(super) fn on_cancel(&mut self, fx: &mut Effects, tab: Alias, socket: SocketId) {
        let Some(Socket::Requesting(requesting)) = self.socket(tab, socket) else {
            return;
        };
        fx.withdraw(requesting.ask);
        let (code, message) = (ErrorCode::Cancelled.into(), "the tab took the request back");
        self.reject_request(fx, tab, socket, &Denial { code, message, retry: None });
    }

    /// Sends a reply. The last one ends the question, and each one before gives the next as long as
    /// the first one had.
    pub(super) fn reply(
        &mut self,
        fx: &mut Effects,
        ask: AskId,
        (tab, socket): (Alias, SocketId),
        payload: Payload<'_>,
        last: bool,
    ) -> Result<(), SendError> {
        let Some(Socket::Requesting(requesting)) = self.socket(tab, socket) else {
            return Err(SendError::Closed);
        };
        let sent = if requesting.credit.is_left() {
            let frame = ServerFrame::Reply(Reply { tab, socket, last, payload });
            self.send_message(fx, Some(tab), &frame, payload.len(), 1)
        } else {
            fx.stats.messages.no_credit += 1;
            Err(SendError::Full)
        };
        match sent {
            Ok(()) if last => {
                fx.asks.close(ask);
                self.take_socket(fx, tab, socket);
            }
            Ok(()) => {
                fx.asks.renew(ask, fx.now + fx.config.ask_timeout);
                if let Some(state) = self.socket_mut(tab, socket) {
                    state.credit_mut().spend(message_cost(payload.len()));
                }
                self.credit_changed(fx, tab, socket);
            }
            Err(SendError::Full) => self.wait(fx, tab, socket),
            Err(SendError::Closed | SendError::TooLarge) => {}
        }
        sent
    }

    /// Ends a request without its last reply. Its question is over.
    pub(super) fn reject_request(
        &mut self,
        fx: &mut Effects,
        tab: Alias,
        socket: SocketId,
        denial: &Denial<'_>,
    ) {
        if self.take_socket(fx, tab, socket).is_some() {
            self.refuse_socket(fx, tab, socket, denial);
        }
    }

    /// Returns the bytes of the requests that wait for their answers.
    fn asked_bytes(&self) -> usize {
        self.tabs.iter().map(Tab::asked_bytes).sum()
    }
}
