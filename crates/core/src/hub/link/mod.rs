//! The link to a server: where it is, whether it lives, what waits to be sent on it, and when it is
//! dialled again.

mod backoff;
mod connection;
mod heartbeat;
mod outbox;

use std::time::Duration;

pub(super) use self::{
    backoff::Backoff,
    connection::{Connected, Connection},
    heartbeat::{Heartbeat, Pulse},
    outbox::{Entry, Outbox},
};

/// The longest wait a server may ask for.
pub(super) const LONGEST_HINT: Duration = Duration::from_secs(600);
