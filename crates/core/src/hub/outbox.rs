//! What waits to be sent on the link. A browser's WebSocket takes everything and tells only how
//! much it still holds, so the hub keeps back what is above a mark.

use std::collections::VecDeque;

use tabmux_wire::{SocketId, TabId};

use crate::OwnedPayload;

/// A bounded queue in front of the link. Order is kept.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: VecDeque<Entry>,
    queued: usize,
    limit: usize,
    /// Bytes the link holds unsent: as last told, and what was handed to it since.
    buffered: u64,
    mark: u64,
}

/// A message and whose it is.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) payload: OwnedPayload,
    /// The socket whose `bufferedAmount` falls by so many bytes when this is handed over.
    pub(super) owner: Option<(TabId, SocketId, usize)>,
}

/// The queue is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Outbox {
    pub(super) const fn new(limit: usize, mark: u64) -> Self {
        Self { queue: VecDeque::new(), queued: 0, limit, buffered: 0, mark }
    }

    /// Queues a message that a tab caused.
    pub(super) fn push(&mut self, entry: Entry) -> Result<(), Full> {
        if self.queued + entry.payload.len() > self.limit && !self.queue.is_empty() {
            return Err(Full);
        }
        self.push_control(entry);
        Ok(())
    }

    /// Queues a frame of the hub's own, which are few and small.
    pub(super) fn push_control(&mut self, entry: Entry) {
        self.queued += entry.payload.len();
        self.queue.push_back(entry);
    }

    /// The next message that the link may be given now.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        if self.buffered > self.mark {
            return None;
        }
        let entry = self.queue.pop_front()?;
        self.queued -= entry.payload.len();
        self.buffered += entry.payload.len() as u64;
        Some(entry)
    }

    /// The link told how much it holds.
    pub(super) const fn set_buffered(&mut self, bytes: u64) {
        self.buffered = bytes;
    }

    /// A new link holds nothing, and nothing of the old one is sent on it.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.limit, self.mark);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(len: usize) -> Entry {
        Entry { payload: OwnedPayload::Binary(vec![0; len]), owner: None }
    }

    #[test]
    fn holds_back_what_is_above_the_mark_and_goes_on_when_the_link_has_sent() {
        let mut outbox = Outbox::new(100, 10);
        for _ in 0..3 {
            outbox.push(entry(8)).unwrap();
        }
        assert!(outbox.pop().is_some());
        assert!(outbox.pop().is_some());
        assert!(outbox.pop().is_none(), "16 bytes are above the mark of 10");
        outbox.set_buffered(0);
        assert!(outbox.pop().is_some());
        assert!(outbox.is_empty());
    }

    #[test]
    fn refuses_what_is_above_its_limit() {
        let mut outbox = Outbox::new(20, 0);
        outbox.push(entry(15)).unwrap();
        assert_eq!(outbox.push(entry(6)), Err(Full));
        outbox.push(entry(5)).unwrap();
    }
}
