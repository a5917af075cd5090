//! Publications that wait for one hub to read. They are not counted yet, so the policy of their
//! topic may still drop or replace them.

use std::{collections::VecDeque, sync::Arc};

use super::{publication::Encoded, topic_table::TopicPlace};

/// What one entry takes beside the bytes of its publication, which it shares with others.
const ENTRY: usize = 32;

/// A queue that counts its bytes.
#[derive(Default)]
pub(super) struct Backlog {
    entries: VecDeque<Entry>,
    bytes: usize,
}

/// What is due on the link when it is this entry's turn.
pub(super) enum Entry {
    Publication {
        /// The topic's place in the registry.
        topic: TopicPlace,
        frame: Arc<Encoded>,
    },
    /// Publications of a topic were dropped here, up to the one with this offset.
    Gap { topic: TopicPlace, offset: u64 },
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that it holds on to.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the memory that it takes, without the publications that it shares.
    pub(super) fn cost(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// Bytes that it would hold with one more publication.
    pub(super) const fn bytes_with(&self, frame: &Encoded) -> usize {
        self.bytes + ENTRY + frame.len()
    }

    pub(super) fn push(&mut self, topic: TopicPlace, frame: Arc<Encoded>) {
        self.put(Entry::Publication { topic, frame });
    }

    /// Notes that a publication was dropped. Gaps of a topic that follow each other are one.
    pub(super) fn push_gap(&mut self, topic: TopicPlace, offset: u64) {
        let last = self.entries.iter_mut().rfind(|entry| entry.topic() == topic);
        match last {
            Some(Entry::Gap { offset: end, .. }) => *end = offset,
            _ => self.put(Entry::Gap { topic, offset }),
        }
    }

    /// The next entry, taken out.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.cost();
        Some(entry)
    }

    /// Where a topic was before what waits of it, if anything does. With a gap it goes on behind
    /// that: who was elsewhere before has missed something, and need not be told twice.
    pub(super) fn before(&self, topic: TopicPlace) -> Option<u64> {
        match self.entries.iter().find(|entry| entry.topic() == topic)? {
            Entry::Publication { frame, .. } => frame.origin().map(|(_, it)| it.offset),
            Entry::Gap { offset, .. } => Some(*offset),
        }
    }

    /// Takes all of one topic out; how many publications that was.
    pub(super) fn remove(&mut self, topic: TopicPlace) -> u64 {
        let (mut bytes, mut publications) = (0, 0);
        self.entries.retain(|entry| {
            let keep = entry.topic() != topic;
            bytes += if keep { entry.cost() } else { 0 };
            publications += u64::from(!keep && matches!(entry, Entry::Publication { .. }));
            keep
        });
        self.bytes = bytes;
        publications
    }

    fn put(&mut self, entry: Entry) {
        self.bytes += entry.cost();
        self.entries.push_back(entry);
    }
}

impl Entry {
    pub(super) const fn topic(&self) -> TopicPlace {
        match self {
            Self::Publication { topic, .. } | Self::Gap { topic, .. } => *topic,
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Publication { frame, .. } => ENTRY + frame.len(),
            Self::Gap { .. } => ENTRY,
        }
    }
}
