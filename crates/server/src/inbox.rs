//! What other tasks want from a shard, until it takes it.

use std::sync::{Mutex, PoisonError};

use tabmux_core::{
    OwnedPayload,
    session::{SendError, SocketRef},
};

/// A wish about a socket.
pub(crate) struct Post {
    pub(crate) socket: SocketRef,
    pub(crate) command: Command,
}

pub(crate) enum Command {
    Send(OwnedPayload),
    Close { code: u16, reason: String },
}

/// A queue bounded by bytes.
pub(crate) struct Inbox {
    limit: usize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    posts: Vec<Post>,
    bytes: usize,
}

impl Inbox {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, queue: Mutex::default() }
    }

    pub(crate) fn push(&self, post: Post) -> Result<(), SendError> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let cost = post.cost();
        if queue.bytes + cost > self.limit {
            return Err(SendError::Full);
        }
        queue.bytes += cost;
        queue.posts.push(post);
        Ok(())
    }

    pub(crate) fn take(&self) -> Vec<Post> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *queue).posts
    }
}

impl Post {
    /// The bytes it holds on to.
    fn cost(&self) -> usize {
        let own = match &self.command {
            Command::Send(payload) => payload.as_payload().len(),
            Command::Close { reason, .. } => reason.len(),
        };
        own + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use tabmux_core::wire::{Alias, SessionId, SocketId};

    use super::*;

    fn post(len: usize) -> Post {
        let socket = SocketRef { session: SessionId([0; 16]), tab: Alias(1), socket: SocketId(1) };
        Post { socket, command: Command::Send(OwnedPayload::Binary(vec![0; len])) }
    }

    #[test]
    fn a_full_inbox_refuses_until_it_is_taken() {
        let inbox = Inbox::new(1_000);
        assert_eq!(inbox.push(post(500)), Ok(()));
        assert_eq!(inbox.push(post(500)), Err(SendError::Full));
        assert_eq!(inbox.take().len(), 1);
        assert_eq!(inbox.push(post(500)), Ok(()));
    }
}
