//! What a call changes besides the record that it is about: orders, numbers and questions.

use std::{collections::VecDeque, sync::Arc};

use tabmux_wire::{ServerFrame, SessionId};

use super::{
    Event, LinkId, Output, SessionConfig, Stats,
    asks::{Ask, AskId, Asker, Asks},
    pressure::Pressure,
};
use crate::Timestamp;

/// Handed to every method of a record. A record sees nothing of its registry but this.
pub(super) struct Effects {
    /// The time of the call.
    pub(super) now: Timestamp,
    pub(super) config: SessionConfig,
    pub(super) stats: Stats,
    pub(super) asks: Asks,
    pub(super) pressure: Pressure,
    outputs: VecDeque<Output>,
    /// Links whose queue passed the last limit. They are closed before the call returns.
    overflowed: Vec<LinkId>,
    /// Sessions in which more is kept than may be. They are ended in the same way.
    swollen: Vec<SessionId>,
}

impl Effects {
    pub(super) fn new(config: SessionConfig, now: Timestamp) -> Self {
        Self {
            now,
            config,
            stats: Stats::default(),
            asks: Asks::new(),
            pressure: Pressure::new(),
            outputs: VecDeque::new(),
            overflowed: Vec::new(),
            swollen: Vec::new(),
        }
    }

    /// Gives the shell an order.
    pub(super) fn order(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Tells the log.
    pub(super) fn event(&mut self, event: Event) {
        self.order(Output::Event(event));
    }

    /// Returns the next order, taken out.
    pub(super) fn pop(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Sends a frame on a link that is not, or no longer, that of a session. Such a link gets one
    /// frame and is closed, so nothing counts it.
    pub(super) fn send(&mut self, link: LinkId, frame: &ServerFrame<'_>) {
        let bytes: Arc<[u8]> = frame.to_bytes().into();
        self.order(Output::Send { link, bytes });
    }

    /// Asks the shell.
    pub(super) fn ask(&mut self, asker: Asker, what: Ask) -> AskId {
        self.ask_until(self.now + self.config.ask_timeout, asker, what)
    }

    /// The same with a deadline.
    pub(super) fn ask_until(&mut self, deadline: Timestamp, asker: Asker, what: Ask) -> AskId {
        let ask = self.asks.open(asker, deadline);
        self.order(Output::Ask { ask, what });
        ask
    }

    /// Takes a question back, unless it is answered: whoever asked is gone.
    pub(super) fn withdraw(&mut self, ask: AskId) {
        if self.asks.close(ask) {
            self.order(Output::Withdrawn(ask));
        }
    }

    /// Notes that more waits to be written to a link than may.
    pub(super) fn overflow(&mut self, link: LinkId) {
        self.overflowed.push(link);
    }

    /// Notes that a session keeps more than any may.
    pub(super) fn swell(&mut self, session: SessionId) {
        self.swollen.push(session);
    }

    /// Returns the links and sessions that went beyond the last limits, taken out.
    pub(super) fn take_excess(&mut self) -> (Vec<LinkId>, Vec<SessionId>) {
        (std::mem::take(&mut self.overflowed), std::mem::take(&mut self.swollen))
    }
}
