//! Parts of which the model of a link is made.

use std::time::Duration;

use tabmux_core::Timestamp;

/// The part of a HELLO that the oracle needs.
#[derive(Clone, Copy, Debug)]
pub struct Hello {
    /// The session and the term that it claims, if it claims one.
    pub claims: Option<(tabmux_core::wire::SessionId, u64)>,
}

/// One direction of a link. A message that is sent later arrives later.
#[derive(Debug, Default)]
pub struct Lane(Timestamp);

impl Lane {
    /// Returns `at`, or a moment just after the arrival of the message that was sent before.
    pub fn arrival(&mut self, at: Timestamp) -> Timestamp {
        self.0 = at.max(self.0 + Duration::from_micros(1));
        self.0
    }
}
