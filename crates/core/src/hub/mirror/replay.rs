//! The last messages of a shared connection, for tabs that come late.

use std::collections::VecDeque;

use crate::OwnedPayload;

/// Bytes that are kept. A message takes an entry besides its payload.
const MAX_BYTES: usize = 256 << 10;
const ENTRY: usize = 64;

/// The last messages, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Replay {
    messages: VecDeque<OwnedPayload>,
    bytes: usize,
}

impl Replay {
    /// Keeps a message among the last `limit`.
    pub(super) fn push(&mut self, payload: OwnedPayload, limit: u64) {
        self.bytes += payload.len() + ENTRY;
        self.messages.push_back(payload);
        while self.messages.len() as u64 > limit || self.bytes > MAX_BYTES {
            let Some(oldest) = self.messages.pop_front() else { return };
            self.bytes -= oldest.len() + ENTRY;
        }
    }

    /// Forgets all: another connection has another state.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &OwnedPayload> {
        self.messages.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(replay: &Replay) -> Vec<OwnedPayload> {
        replay.iter().cloned().collect()
    }

    #[test]
    fn the_last_messages_are_kept_and_no_others() {
        let mut replay = Replay::default();
        for text in ["a", "b", "c"] {
            replay.push(OwnedPayload::Text(text.to_owned()), 2);
        }
        assert_eq!(texts(&replay), ["b", "c"].map(|it| OwnedPayload::Text(it.to_owned())));
        replay.push(OwnedPayload::Text("d".to_owned()), 0);
        assert_eq!(texts(&replay), []);
    }

    #[test]
    fn no_more_than_256_kib_are_kept() {
        let mut replay = Replay::default();
        for _ in 0..5 {
            replay.push(OwnedPayload::Binary(vec![0; 64 << 10]), 100);
        }
        assert_eq!(texts(&replay).len(), 3);
        replay.push(OwnedPayload::Binary(vec![0; MAX_BYTES]), 100);
        assert_eq!(texts(&replay), []);
        assert_eq!(replay.bytes, 0);
    }
}
