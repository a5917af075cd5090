//! What a link is made of.

use std::time::Duration;

use tabmux_core::Timestamp;

/// What a HELLO said, as the oracle needs it.
#[derive(Clone, Copy, Debug)]
pub struct Hello {
    /// Session and term, if it claims one.
    pub claims: Option<(tabmux_core::wire::SessionId, u64)>,
}

/// One direction: what is sent later arrives later.
#[derive(Debug, Default)]
pub struct Lane(Timestamp);

impl Lane {
    /// The moment, or just after what was sent before.
    pub fn arrival(&mut self, at: Timestamp) -> Timestamp {
        self.0 = at.max(self.0 + Duration::from_micros(1));
        self.0
    }
}
