//! Publications that wait for one hub to read. They are not counted yet, so the policy of their
//! topic may still drop or replace them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::{ledger, publication::Encoded, topic_table::TopicPlace};

/// The bytes of an entry beside those of its publication, which it shares with others.
const ENTRY: usize = 32;

/// A queue that counts its bytes.
///
/// A hub that does not read decides how long it gets, so nothing but the end of a subscription
/// looks at all of it.
#[derive(Default)]
pub(super) struct Backlog {
    /// The entries that wait, in order. An entry that was taken out of the middle leaves a hole.
    entries: VecDeque<Option<Entry>>,
    /// The number of the first entry. Each entry has the number behind that of the one before.
    first: u64,
    holes: usize,
    /// Each topic of which something waits.
    topics: BTreeMap<TopicPlace, Mark>,
    bytes: usize,
}

/// The entries of one topic.
#[derive(Clone, Copy)]
struct Mark {
    /// The number of its last entry.
    last: u64,
    /// How many entries it has.
    entries: usize,
}

/// A publication or a gap, due on the link when its turn comes.
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
        self.topics.is_empty()
    }

    /// Returns the bytes that it holds on to.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the memory that it takes, without the publications that it shares.
    pub(super) fn cost(&self) -> usize {
        let entries = self.entries.capacity() * size_of::<Option<Entry>>();
        entries + self.topics.len() * ledger::ENTRY
    }

    /// Returns the bytes that it would hold with one more publication.
    pub(super) const fn bytes_with(&self, frame: &Encoded) -> usize {
        self.bytes + ENTRY + frame.len()
    }

    pub(super) fn push(&mut self, topic: TopicPlace, frame: Arc<Encoded>) {
        self.put(Entry::Publication { topic, frame });
    }

    /// Notes that a publication was dropped. Gaps of a topic that follow each other are one.
    pub(super) fn push_gap(&mut self, topic: TopicPlace, offset: u64) {
        let last = self.topics.get(&topic).map(|mark| mark.last);
        match last.and_then(|last| self.at(last)) {
            Some(Some(Entry::Gap { offset: end, .. })) => *end = offset,
            Some(_) | None => self.put(Entry::Gap { topic, offset }),
        }
    }

    /// Returns the next entry, taken out.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        loop {
            let front = self.entries.pop_front()?;
            self.first += 1;
            let Some(entry) = front else {
                self.holes -= 1;
                continue;
            };
            self.bytes -= entry.cost();
            let topic = entry.topic();
            if let Some(mark) = self.topics.get_mut(&topic) {
                mark.entries -= 1;
                if mark.entries == 0 {
                    self.topics.remove(&topic);
                }
            }
            self.close_holes();
            return Some(entry);
        }
    }

    /// Returns for each topic where it was before what waits of it. With a gap it goes on behind
    /// that: who was elsewhere before has missed something, and need not be told twice.
    pub(super) fn firsts(&self) -> BTreeMap<TopicPlace, u64> {
        let mut firsts = BTreeMap::new();
        for entry in self.entries.iter().flatten() {
            let before = match entry {
                Entry::Publication { frame, .. } => frame.origin().map(|(_, it)| it.offset),
                Entry::Gap { offset, .. } => Some(*offset),
            };
            if let Some(before) = before {
                firsts.entry(entry.topic()).or_insert(before);
            }
        }
        firsts
    }

    /// Takes all of one topic out. Returns how many publications that was. A topic of which one
    /// entry waits is found at once.
    pub(super) fn remove(&mut self, topic: TopicPlace) -> u64 {
        let Some(mark) = self.topics.remove(&topic) else {
            return 0;
        };
        let mut publications = 0;
        let (mut number, mut left) = (mark.last, mark.entries);
        while left > 0 {
            if let Some(slot) = self.at(number)
                && let Some(entry) = slot.take_if(|entry| entry.topic() == topic)
            {
                self.bytes -= entry.cost();
                publications += u64::from(matches!(entry, Entry::Publication { .. }));
                self.holes += 1;
                left -= 1;
            }
            let Some(before) = number.checked_sub(1) else { break };
            number = before;
        }
        self.close_holes();
        publications
    }

    fn put(&mut self, entry: Entry) {
        self.bytes += entry.cost();
        let last = self.first + self.entries.len() as u64;
        let mark = self.topics.entry(entry.topic()).or_insert(Mark { last, entries: 0 });
        *mark = Mark { last, entries: mark.entries + 1 };
        self.entries.push_back(Some(entry));
    }

    /// Returns the place of an entry by its number.
    fn at(&mut self, number: u64) -> Option<&mut Option<Entry>> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(at)
    }

    /// Closes the holes once they are most of the queue, so that an entry pays for its own only.
    fn close_holes(&mut self) {
        if self.holes <= self.entries.len() / 2 {
            return;
        }
        self.entries.retain(Option::is_some);
        self.holes = 0;
        for (number, entry) in (self.first..).zip(self.entries.iter().flatten()) {
            if let Some(mark) = self.topics.get_mut(&entry.topic()) {
                mark.last = number;
            }
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tabmux_wire::{Position, TopicId};

    use super::*;

    /// An entry, as it goes in and comes out: topic, offset, and whether it is a gap.
    type Seen = (u8, u64, bool);

    fn seen(entry: &Entry) -> Seen {
        let topic = entry.topic().number() as u8;
        match entry {
            Entry::Publication { frame, .. } => {
                (topic, frame.origin().map_or(0, |(_, at)| at.offset), false)
            }
            Entry::Gap { offset, .. } => (topic, *offset, true),
        }
    }

    fn frame(offset: u64) -> Arc<Encoded> {
        let at = Position { epoch: 1, offset };
        Arc::new(Encoded::new([0; 10].into(), None).of_topic(TopicId(1), at))
    }

    proptest! {
        #[test]
        fn behaves_as_a_list(steps in prop::collection::vec((0..6_u8, 0..4_u8), 1..300)) {
            let mut backlog = Backlog::default();
            let mut model = Vec::<Seen>::new();
            for (offset, (step, topic)) in (1..).zip(steps) {
                let at = TopicPlace::numbered(topic.into());
                match step {
                    0..=2 => {
                        backlog.push(at, frame(offset));
                        model.push((topic, offset, false));
                    }
                    3 => {
                        backlog.push_gap(at, offset);
                        match model.iter_mut().rfind(|it| it.0 == topic) {
                            Some((_, end, true)) => *end = offset,
                            _ => model.push((topic, offset, true)),
                        }
                    }
                    4 => {
                        let popped = backlog.pop().map(|entry| seen(&entry));
                        let wanted = (!model.is_empty()).then(|| model.remove(0));
                        prop_assert_eq!(popped, wanted);
                    }
                    _ => {
                        let of_topic = model.iter().filter(|it| it.0 == topic && !it.2).count();
                        prop_assert_eq!(backlog.remove(at), of_topic as u64);
                        model.retain(|it| it.0 != topic);
                    }
                }
                let bytes = model.iter().map(|it| ENTRY + if it.2 { 0 } else { 10 });
                prop_assert_eq!(backlog.bytes(), bytes.sum::<usize>());
                prop_assert_eq!(backlog.is_empty(), model.is_empty());
                let mut firsts = BTreeMap::new();
                for (topic, offset, _) in &model {
                    firsts.entry(TopicPlace::numbered((*topic).into())).or_insert(*offset);
                }
                prop_assert_eq!(backlog.firsts(), firsts);
                prop_assert!(backlog.entries.len() <= 2 * model.len() + 1, "holes are closed");
            }
            let rest = std::iter::from_fn(|| backlog.pop().map(|entry| seen(&entry)));
            prop_assert_eq!(rest.collect::<Vec<_>>(), model);
        }
    }
}
