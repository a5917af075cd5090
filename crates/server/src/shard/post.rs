//! What other threads can tell a shard's sessions.

use std::time::Duration;

use tabmux_core::{
    OwnedPayload,
    session::{AskId, Publication, SocketRef},
};

use crate::Decision;

pub(crate) enum Word {
    Post(Post),
    Publication(Publication),
    /// Send away the first of so many equal parts of the links.
    Drain {
        slices: u32,
        spread: Duration,
    },
    /// Close what is left.
    CloseLinks,
}

/// A wish about a socket.
pub(crate) struct Post {
    pub(crate) socket: SocketRef,
    pub(crate) command: Command,
}

pub(crate) enum Command {
    Send(OwnedPayload),
    Close {
        code: u16,
        reason: String,
    },
    /// Call the handler's `writable`.
    Poke,
    /// The handler has dealt with a message whose credit it held.
    GiveBack {
        cost: u64,
    },
    /// Answer the question whether the socket may be opened.
    Answer {
        ask: AskId,
        decision: Decision,
    },
}

impl Post {
    /// The bytes it holds on to.
    pub(crate) fn cost(&self) -> usize {
        let own = match &self.command {
            Command::Send(payload) => payload.len(),
            Command::Close { reason, .. } => reason.len(),
            Command::Poke | Command::GiveBack { .. } => 0,
            Command::Answer { decision: Decision::Accept { protocol }, .. } => protocol.len(),
            Command::Answer { decision: Decision::Reject { message }, .. } => message.len(),
            Command::Answer { decision: Decision::Later, .. } => 0,
        };
        own + size_of::<Self>()
    }
}
