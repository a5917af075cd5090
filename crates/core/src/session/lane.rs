//! A lane: reliable frames on their way down, kept until the hub says that it has them.
//!
//! Frames are counted from 1 in the order in which they are pushed. What is acknowledged is
//! forgotten, so an idle lane is two words.

use std::{collections::VecDeque, sync::Arc};

use tabmux_wire::{Position, ServerFrame, TopicId};

use super::{
    ledger::ARC,
    publication::{Encoded, Share},
};

/// The frames of one lane that are not acknowledged.
#[derive(Default)]
pub(super) struct Lane {
    /// How many were acknowledged.
    base: u64,
    /// What came after them; nothing while there is none.
    ring: Option<Box<Ring>>,
}

#[derive(Default)]
struct Ring {
    entries: VecDeque<Entry>,
    /// Frames of the first entry that are acknowledged.
    skip: usize,
    /// Frames that are kept.
    count: u64,
    /// Their bytes.
    bytes: usize,
    /// The memory of the frames of this session alone.
    own: usize,
}

/// What was pushed at once.
enum Entry {
    Own(Arc<[u8]>),
    Shared(Arc<Encoded>),
    Burst(Arc<Burst>),
}

/// Publications that went to many links together. What a delivery costs is most of what a server
/// does, so a lane holds one pointer for all of them, which only this shard counts.
pub(super) struct Burst {
    frames: Box<[Arc<Encoded>]>,
    /// Charges the topic for this list.
    _share: Option<Share>,
}

/// A frame that may have to be sent again.
#[derive(Clone)]
pub(super) enum Kept {
    /// A frame of this session alone.
    Own(Arc<[u8]>),
    /// A publication, whose bytes all its links share.
    Shared(Arc<Encoded>),
}

/// A hub acknowledged, or asked for, frames that were never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoSuchFrame;

impl Lane {
    /// How many frames were pushed so far.
    pub(super) fn sent(&self) -> u64 {
        self.base + self.ring.as_ref().map_or(0, |ring| ring.count)
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.ring.as_ref().map_or(0, |ring| ring.bytes)
    }

    /// Returns the memory that it takes, without the publications that it shares.
    pub(super) fn cost(&self) -> usize {
        self.ring.as_ref().map_or(0, |ring| {
            size_of::<Ring>() + ring.entries.capacity() * size_of::<Entry>() + ring.own
        })
    }

    /// Takes a frame of this session alone. Returns the memory that this takes.
    pub(super) fn push(&mut self, frame: Arc<[u8]>) -> usize {
        let bytes = frame.len();
        self.push_entry(Entry::Own(frame), 1, bytes)
    }

    /// Takes a publication. Returns the memory that this takes.
    pub(super) fn push_shared(&mut self, frame: Arc<Encoded>) -> usize {
        let bytes = frame.len();
        self.push_entry(Entry::Shared(frame), 1, bytes)
    }

    /// Takes publications, which have so many bytes in all. Returns the memory that this takes.
    pub(super) fn push_burst(&mut self, burst: &Arc<Burst>, bytes: usize) -> usize {
        self.push_entry(Entry::Burst(Arc::clone(burst)), burst.frames.len() as u64, bytes)
    }

    fn push_entry(&mut self, entry: Entry, count: u64, bytes: usize) -> usize {
        let record = if self.ring.is_none() { size_of::<Ring>() } else { 0 };
        let ring = self.ring.get_or_insert_default();
        let (capacity, own) = (ring.entries.capacity(), entry.own());
        ring.count += count;
        ring.bytes += bytes;
        ring.own += own;
        ring.entries.push_back(entry);
        record + own + (ring.entries.capacity() - capacity) * size_of::<Entry>()
    }

    /// The hub has the first `count` frames; how many bytes that frees. Counts only grow: a lower
    /// one than before is ignored.
    pub(super) fn acknowledge(&mut self, count: u64) -> Result<usize, NoSuchFrame> {
        if count > self.sent() {
            return Err(NoSuchFrame);
        }
        let Some(ring) = &mut self.ring else {
            return Ok(0);
        };
        let before = ring.bytes;
        while self.base < count {
            let taken = ring.take_first(count - self.base);
            self.base += taken;
        }
        let freed = before - ring.bytes;
        if ring.count == 0 {
            self.ring = None;
        }
        Ok(freed)
    }

    /// The first frame that a hub which has `count` of them is to get, and all from there on.
    /// What was acknowledged is gone, whatever the hub says now.
    pub(super) fn after(&self, count: u64) -> Result<(u64, Vec<Kept>), NoSuchFrame> {
        if count > self.sent() {
            return Err(NoSuchFrame);
        }
        let count = count.max(self.base);
        let gone = usize::try_from(count - self.base).unwrap_or(usize::MAX);
        let frames = self.ring.iter().flat_map(|ring| {
            let all = ring.entries.iter().flat_map(Entry::frames);
            all.skip(ring.skip.saturating_add(gone))
        });
        Ok((count + 1, frames.collect()))
    }
}

impl Ring {
    /// Takes out frames of the first entry, at most so many; how many that were, at least one.
    fn take_first(&mut self, most: u64) -> u64 {
        let Some(entry) = self.entries.front() else {
            return most;
        };
        let (len, most) = (entry.len(), usize::try_from(most).unwrap_or(usize::MAX));
        let end = len.min(self.skip.saturating_add(most));
        self.bytes -= entry.bytes(self.skip, end);
        let taken = (end - self.skip) as u64;
        self.count -= taken;
        self.skip = end;
        if end == len {
            self.own -= entry.own();
            self.entries.pop_front();
            self.skip = 0;
        }
        taken
    }
}

impl Entry {
    fn len(&self) -> usize {
        match self {
            Self::Own(_) | Self::Shared(_) => 1,
            Self::Burst(burst) => burst.frames.len(),
        }
    }

    /// Bytes of its frames from one to before another.
    fn bytes(&self, from: usize, to: usize) -> usize {
        match self {
            Self::Own(bytes) => bytes.len(),
            Self::Shared(frame) => frame.len(),
            Self::Burst(burst) => burst.frames[from..to].iter().map(|frame| frame.len()).sum(),
        }
    }

    /// Returns the memory of what only this entry refers to.
    fn own(&self) -> usize {
        match self {
            Self::Own(bytes) => (ARC + bytes.len()).next_multiple_of(8),
            Self::Shared(_) | Self::Burst(_) => 0,
        }
    }

    fn frames(&self) -> impl Iterator<Item = Kept> {
        let (one, burst) = match self {
            Self::Own(bytes) => (Some(Kept::Own(Arc::clone(bytes))), &[][..]),
            Self::Shared(frame) => (Some(Kept::Shared(Arc::clone(frame))), &[][..]),
            Self::Burst(burst) => (None, &burst.frames[..]),
        };
        one.into_iter().chain(burst.iter().map(|frame| Kept::Shared(Arc::clone(frame))))
    }
}

impl Burst {
    pub(super) fn new(frames: impl Iterator<Item = Arc<Encoded>>) -> Arc<Self> {
        let frames = frames.collect::<Box<[_]>>();
        let cost = ARC + size_of::<Self>() + size_of_val(&*frames);
        let share = frames.first().and_then(|frame| frame.share_of_topic(cost));
        Arc::new(Self { frames, _share: share })
    }
}

impl Kept {
    /// If it is of a topic: which, and where the topic was before it; with a gap, behind it.
    pub(super) fn before(&self) -> Option<(TopicId, Position)> {
        match self {
            Self::Shared(frame) => frame.origin(),
            Self::Own(bytes) => match ServerFrame::decode(bytes) {
                Ok(ServerFrame::Gap { topic, position }) => Some((topic, position)),
                // One that the hub had missed.
                Ok(ServerFrame::Publication { topic, position, previous, .. }) => {
                    Some((topic, Position { offset: previous, ..position }))
                }
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(frames: u8) -> Lane {
        let mut lane = Lane::default();
        for number in 1..=frames {
            lane.push(Arc::new([number; 10]));
        }
        lane
    }

    fn numbers(lane: &Lane, count: u64) -> Result<(u64, Vec<u8>), NoSuchFrame> {
        let (next, frames) = lane.after(count)?;
        let first = |frame: &Kept| match frame {
            Kept::Own(bytes) => bytes[0],
            Kept::Shared(frame) => frame.bytes(false)[0],
        };
        Ok((next, frames.iter().map(first).collect()))
    }

    #[test]
    fn what_is_acknowledged_is_forgotten_and_the_rest_can_be_had_again() {
        let mut lane = lane(4);
        assert_eq!((lane.sent(), lane.bytes()), (4, 40));
        assert_eq!(lane.acknowledge(2), Ok(20));
        assert_eq!((lane.sent(), lane.bytes()), (4, 20));
        assert_eq!(numbers(&lane, 2), Ok((3, vec![3, 4])));
        assert_eq!(numbers(&lane, 3), Ok((4, vec![4])));
        assert_eq!(numbers(&lane, 4), Ok((5, vec![])));
    }

    #[test]
    fn counts_only_grow() {
        let mut lane = lane(4);
        lane.acknowledge(3).unwrap();
        assert_eq!(lane.acknowledge(1), Ok(0));
        assert_eq!(lane.acknowledge(5), Err(NoSuchFrame));
        assert_eq!(numbers(&lane, 1), Ok((4, vec![4])), "the first three are gone");
        assert_eq!(numbers(&lane, 5), Err(NoSuchFrame), "it was never sent");
    }

    #[test]
    fn an_idle_lane_holds_nothing() {
        let mut lane = lane(4);
        lane.acknowledge(4).unwrap();
        assert!(lane.ring.is_none());
        assert_eq!((lane.sent(), lane.bytes()), (4, 0));
        lane.push(Arc::new([5; 10]));
        assert_eq!(numbers(&lane, 4), Ok((5, vec![5])));
    }

    #[test]
    fn what_came_together_need_not_be_acknowledged_together() {
        let mut lane = lane(1);
        let frame = |number| Arc::new(Encoded::new([number; 10].into(), None));
        lane.push_burst(&Burst::new([2, 3, 4].map(frame).into_iter()), 30);
        lane.push(Arc::new([5; 10]));
        assert_eq!(numbers(&lane, 2), Ok((3, vec![3, 4, 5])));
        assert_eq!(lane.acknowledge(2), Ok(20));
        assert_eq!((lane.sent(), lane.bytes()), (5, 30));
        assert_eq!(numbers(&lane, 0), Ok((3, vec![3, 4, 5])));
        assert_eq!(lane.acknowledge(3), Ok(10));
        assert_eq!(numbers(&lane, 3), Ok((4, vec![4, 5])));
        assert_eq!(lane.acknowledge(5), Ok(20));
        assert!(lane.ring.is_none());
    }
}
