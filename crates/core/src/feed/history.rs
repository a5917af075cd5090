//! The last publications of topics, within a limit for all of them.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tabmux_wire::{Payload, Position};

use crate::{OwnedPayload, Timestamp};

/// How much is kept of a topic. What is beyond any of the three goes, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How many publications are kept.
    pub count: usize,
    /// Bytes of their payloads.
    pub bytes: usize,
    /// How long a publication is kept.
    pub age: Duration,
}

/// A publication that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its place in the topic.
    pub position: Position,
    /// The payload that was published.
    pub payload: Arc<OwnedPayload>,
}

/// What came of a topic after a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recalled {
    /// Publications after the position that was asked for are missing, up to this one. `None`
    /// proves that nothing is missing.
    pub missing: Option<Position>,
    /// The first publications after that, in order. There are none only if there are no more.
    pub publications: Vec<Kept>,
    /// Where the topic is.
    pub position: Position,
}

/// How much is kept in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    /// Bytes of memory that the history takes.
    pub bytes: usize,
    /// How many publications are kept.
    pub publications: usize,
    /// Publications that went because the limit in all was reached.
    pub evicted: u64,
}

/// The publications of one topic that are kept.
pub(super) struct Ring {
    /// Every publication after this offset is here.
    start: u64,
    entries: VecDeque<Entry>,
    /// Bytes of the payloads.
    bytes: usize,
    /// How long they are kept.
    age: Duration,
}

struct Entry {
    offset: u64,
    came: Timestamp,
    payload: Arc<OwnedPayload>,
}

/// The bytes that a publication takes besides its payload: its entry, and the counts of what is
/// shared.
const OVERHEAD: usize = size_of::<Entry>() + size_of::<OwnedPayload>() + 16;

/// What is kept of all topics. The rings themselves lie with their topics.
pub(super) struct History {
    limit: usize,
    keeping: Keeping,
    /// Topics of which something is kept, by the memory that they take.
    by_size: BTreeSet<(usize, Arc<str>)>,
    /// The same topics, by when their oldest publication goes.
    by_age: BTreeSet<(Timestamp, Arc<str>)>,
}

/// Where a topic stands in the indexes.
type Place = (usize, Timestamp, usize);

impl Keep {
    /// Nothing of the topic is kept.
    pub const NOTHING: Self = Self { count: 0, bytes: 0, age: Duration::ZERO };

    const fn is_nothing(self) -> bool {
        self.count == 0 || self.bytes == 0 || self.age.is_zero()
    }
}

impl Ring {
    fn cost(&self) -> usize {
        self.bytes + self.entries.len() * OVERHEAD
    }

    fn place(&self) -> Option<Place> {
        let first = self.entries.front()?;
        Some((self.cost(), first.came + self.age, self.entries.len()))
    }

    fn drop_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.start = entry.offset;
            self.bytes -= entry.payload.len();
        }
    }

    /// Returns the offset behind which all publications are here.
    pub(super) const fn start(&self) -> u64 {
        self.start
    }

    /// Returns the first publications after an offset, of so many bytes, and at least one.
    pub(super) fn after(&self, epoch: u64, offset: u64, bytes: usize) -> Vec<Kept> {
        let first = self.entries.partition_point(|entry| entry.offset <= offset);
        let (mut sum, mut kept) = (0, Vec::new());
        for Entry { offset, payload, .. } in self.entries.iter().skip(first) {
            sum += payload.len() + OVERHEAD;
            if sum > bytes && !kept.is_empty() {
                break;
            }
            let position = Position { epoch, offset: *offset };
            kept.push(Kept { position, payload: Arc::clone(payload) });
        }
        kept
    }
}

impl History {
    pub(super) fn new(limit: usize) -> Self {
        let keeping = Keeping::default();
        Self { limit, keeping, by_size: BTreeSet::new(), by_age: BTreeSet::new() }
    }

    pub(super) const fn keeping(&self) -> Keeping {
        self.keeping
    }

    /// Keeps a publication of a topic, whose last one before it was at `previous`.
    pub(super) fn push(
        &mut self,
        (name, ring): (&Arc<str>, &mut Option<Box<Ring>>),
        keep: Keep,
        now: Timestamp,
        (previous, offset): (u64, u64),
        payload: Payload<'_>,
    ) {
        if keep.is_nothing() {
            return self.drop_all(name, ring);
        }
        let ring = ring.get_or_insert_with(|| {
            let (entries, age) = (VecDeque::new(), keep.age);
            Box::new(Ring { start: previous, entries, bytes: 0, age })
        });
        let before = ring.place();
        let payload = Arc::new(OwnedPayload::from(payload));
        ring.bytes += payload.len();
        ring.entries.push_back(Entry { offset, came: now, payload });
        ring.age = keep.age;
        while ring.entries.len() > keep.count || ring.bytes > keep.bytes {
            ring.drop_first();
        }
        self.moved(name, before, ring.place());
    }

    /// Keeps nothing of a topic any more.
    pub(super) fn drop_all(&mut self, name: &Arc<str>, ring: &mut Option<Box<Ring>>) {
        if let Some(ring) = ring.take() {
            self.moved(name, ring.place(), None);
        }
    }

    /// Drops the oldest publication of a topic.
    pub(super) fn drop_first(&mut self, name: &Arc<str>, ring: &mut Ring) {
        let before = ring.place();
        ring.drop_first();
        self.moved(name, before, ring.place());
    }

    /// Returns a topic whose oldest publication is too old.
    pub(super) fn overdue(&self, now: Timestamp) -> Option<Arc<str>> {
        let (due, name) = self.by_age.first()?;
        (*due <= now).then(|| Arc::clone(name))
    }

    /// Returns the topic of which the most is kept, if more is kept than may be. It pays.
    pub(super) fn payer(&mut self) -> Option<Arc<str>> {
        if self.keeping.bytes <= self.limit {
            return None;
        }
        let (_, name) = self.by_size.last()?;
        self.keeping.evicted += 1;
        Some(Arc::clone(name))
    }

    fn moved(&mut self, name: &Arc<str>, before: Option<Place>, after: Option<Place>) {
        if let Some((cost, due, count)) = before {
            self.by_size.remove(&(cost, Arc::clone(name)));
            self.by_age.remove(&(due, Arc::clone(name)));
            self.keeping.bytes -= cost;
            self.keeping.publications -= count;
        }
        if let Some((cost, due, count)) = after {
            self.by_size.insert((cost, Arc::clone(name)));
            self.by_age.insert((due, Arc::clone(name)));
            self.keeping.bytes += cost;
            self.keeping.publications += count;
        }
    }
}
