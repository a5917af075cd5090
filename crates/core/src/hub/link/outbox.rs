//! What waits to be sent on the link. A browser's WebSocket takes everything and tells only how
//! much it still holds, so the hub keeps back what is above a mark.

use std::collections::VecDeque;

use tabmux_wire::TabId;

use crate::{OwnedPayload, hub::map::Map};

/// A queue in front of the link, bounded for each tab. Order is kept.
#[derive(Debug)]
pub(in crate::hub) struct Outbox {
    queue: VecDeque<Entry>,
    /// How many at its front were put before all others.
    first: usize,
    /// Bytes that wait, by the tab that sent them.
    waiting: Map<TabId, usize>,
    limit: usize,
    /// Bytes that the link held unsent when it last told, and what was handed to it since.
    buffered: u64,
    mark: u64,
}

/// A message and whose it is.
#[derive(Debug)]
pub(in crate::hub) struct Entry {
    pub(in crate::hub) payload: OwnedPayload,
    /// The tab that sent it, its number there, and the bytes that count against the tab.
    pub(in crate::hub) owner: Option<(TabId, u64, usize)>,
    /// Whether the hub wants to know that it arrived.
    pub(in crate::hub) awaits: bool,
}

/// More of the tab's messages wait than may.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) struct Full;

impl Outbox {
    pub(in crate::hub) const fn new(limit: usize, mark: u64) -> Self {
        Self { queue: VecDeque::new(), first: 0, waiting: Map::new(), limit, buffered: 0, mark }
    }

    /// Queues a message. One that a tab sent is refused if too much of that tab's waits already.
    pub(in crate::hub) fn push(&mut self, entry: Entry) -> Result<(), Full> {
        if let Some((tab, _, len)) = entry.owner {
            let waiting = self.waiting.entry(tab, || 0);
            if *waiting > 0 && *waiting + len > self.limit {
                return Err(Full);
            }
            *waiting += len;
        }
        self.queue.push_back(entry);
        Ok(())
    }

    /// Puts a message before all others, but for those that were put there before it.
    pub(in crate::hub) fn push_first(&mut self, payload: OwnedPayload) {
        self.queue.insert(self.first, Entry { payload, owner: None, awaits: false });
        self.first += 1;
    }

    /// The next message that the link may be given now. `full`: the link may be given only what was
    /// put before all others.
    pub(in crate::hub) fn pop(&mut self, full: bool) -> Option<Entry> {
        let held_back = self.first == 0 && (full || self.is_over_mark());
        if held_back { None } else { self.pop_anyway() }
    }

    /// Returns true if the link holds more unsent bytes than may wait there.
    pub(in crate::hub) const fn is_over_mark(&self) -> bool {
        self.buffered > self.mark
    }

    /// The next message, even if the link holds a lot: a browser's WebSocket takes everything.
    pub(in crate::hub) fn pop_anyway(&mut self) -> Option<Entry> {
        let entry = self.queue.pop_front()?;
        self.first = self.first.saturating_sub(1);
        self.buffered += entry.payload.len() as u64;
        if let Some((tab, _, len)) = entry.owner
            && let Some(waiting) = self.waiting.get_mut(tab)
        {
            *waiting -= len;
            if *waiting == 0 {
                self.waiting.remove(tab);
            }
        }
        Some(entry)
    }

    /// The link told how much it holds.
    pub(in crate::hub) const fn set_buffered(&mut self, bytes: u64) {
        self.buffered = bytes;
    }

    /// The link holds no more than so much: the rest has arrived.
    pub(in crate::hub) fn holds_at_most(&mut self, bytes: u64) {
        self.buffered = self.buffered.min(bytes);
    }

    /// A new link holds nothing, and nothing of the old one is sent on it.
    pub(in crate::hub) fn clear(&mut self) {
        *self = Self::new(self.limit, self.mark);
    }

    pub(in crate::hub) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tab: u64, len: usize) -> Entry {
        let owner = Some((TabId(tab), 1, len));
        Entry { payload: OwnedPayload::Binary(vec![0; len]), owner, awaits: true }
    }

    #[test]
    fn holds_back_what_is_above_the_mark_and_goes_on_when_the_link_has_sent() {
        let mut outbox = Outbox::new(100, 10);
        for _ in 0..3 {
            outbox.push(entry(1, 8)).unwrap();
        }
        assert!(outbox.pop(false).is_some());
        assert!(outbox.pop(false).is_some());
        assert!(outbox.pop(false).is_none(), "16 bytes are above the mark of 10");
        outbox.set_buffered(0);
        assert!(outbox.pop(false).is_some());
        assert!(outbox.is_empty());
    }

    #[test]
    fn refuses_what_is_above_the_limit_of_a_tab_and_takes_another_tabs() {
        let mut outbox = Outbox::new(20, 0);
        outbox.push(entry(1, 15)).unwrap();
        assert_eq!(outbox.push(entry(1, 6)), Err(Full));
        outbox.push(entry(1, 5)).unwrap();
        outbox.push(entry(2, 20)).unwrap();
    }
}
