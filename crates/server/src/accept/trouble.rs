//! What the listener does when it cannot accept.

use std::{
    io::{self, ErrorKind},
    time::Duration,
};

use tokio::time::Instant;

use crate::logs::rarely;

/// How long the listener rests when it cannot accept: at first, and at most.
const REST: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// Errors of `accept`.
pub(super) struct Trouble {
    rest: Duration,
    pub(super) until: Option<Instant>,
}

impl Default for Trouble {
    fn default() -> Self {
        Self { rest: REST[0], until: None }
    }
}

impl Trouble {
    /// A connection was accepted.
    pub(super) const fn is_over(&mut self) {
        self.rest = REST[0];
    }

    /// Has the listener rest: out of file descriptors or memory, the server serves the links it
    /// has, and the kernel keeps those that knock.
    pub(super) fn bear(&mut self, error: &io::Error) {
        // The peer went while it waited.
        let gone = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset];
        if gone.contains(&error.kind()) {
            return;
        }
        rarely!(
            error,
            "no connection can be accepted: {error}; trying again until it works. If there are \
             too many open files, raise the limit (ulimit -n) or lower limits.links"
        );
        self.until = Some(Instant::now() + self.rest);
        self.rest = (self.rest * 2).min(REST[1]);
    }
}
