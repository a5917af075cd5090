//! Where topics are, and what was published in them last.

use std::{collections::BTreeMap, fmt, sync::Arc};

use tabmux_wire::{Payload, Position};

use super::history::{History, Keep, Keeping, Recalled, Ring};
use crate::Timestamp;

/// Topics that nobody wants and that are remembered all the same.
pub(crate) const MAX_LEFT: usize = 16_384;

/// Numbers publications, and keeps the last ones of topics. A broker in memory is one.
///
/// Offsets are drawn from one counter, so those of one topic have holes. A publication names the
/// one before it.
pub struct TopicLog {
    epoch: u64,
    limit: usize,
    /// The last offset that was given out.
    offset: u64,
    /// Topics that are not here have no publication after this offset. It is 0 as long as no topic
    /// was forgotten.
    floor: u64,
    topics: BTreeMap<Arc<str>, Mark>,
    /// Topics that nobody wants, the one that was left or published first comes first. They are
    /// kept while there is room, so that whoever comes back learns that nothing was missed.
    left: BTreeMap<u64, Arc<str>>,
    history: History,
}

/// Where a topic is.
pub(crate) struct Mark {
    offset: u64,
    /// Its key in `left`; 0 while somebody wants it.
    left: u64,
    /// What is kept of it. Without a ring nothing is.
    ring: Option<Box<Ring>>,
}

/// A publication that a log has numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its place in the topic.
    pub position: Position,
    /// The place of the one before it.
    pub previous: Position,
    /// True if somebody wants the topic.
    pub is_wanted: bool,
}

/// The server has as many topics as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTopics;

impl fmt::Debug for TopicLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicLog").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl TopicLog {
    /// Makes an empty log, of an epoch that no earlier run of the server had. At most `limit`
    /// topics are wanted at a time. Publications that are kept take `history_bytes` of memory at
    /// most.
    pub fn new(epoch: u64, limit: usize, history_bytes: usize) -> Self {
        Self {
            epoch,
            limit,
            offset: 0,
            floor: 0,
            topics: BTreeMap::new(),
            left: BTreeMap::new(),
            history: History::new(history_bytes),
        }
    }

    /// Returns how many topics are wanted, or remembered.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Returns true if no topic is wanted or remembered.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Returns how much is kept of all topics.
    pub const fn keeping(&self) -> Keeping {
        self.history.keeping()
    }

    /// Notes that a topic is wanted. Returns where it is.
    ///
    /// # Errors
    /// When there are too many.
    pub fn join(&mut self, name: &Arc<str>) -> Result<Position, TooManyTopics> {
        if !self.topics.contains_key(name) {
            self.make_room()?;
            let mark = Mark { offset: self.floor, left: 0, ring: None };
            self.topics.insert(Arc::clone(name), mark);
        }
        let mark = self.topics.get_mut(name).ok_or(TooManyTopics)?;
        self.left.remove(&mark.left);
        mark.left = 0;
        Ok(Position { epoch: self.epoch, offset: mark.offset })
    }

    /// Notes that a topic is wanted no more.
    pub fn leave(&mut self, name: &str) {
        if self.topics.get(name).is_some_and(|mark| mark.left == 0) {
            self.put_last(name);
        }
    }

    /// Numbers a publication, and keeps it as long as `keep` says.
    pub fn publish(
        &mut self,
        now: Timestamp,
        name: &str,
        keep: Keep,
        payload: Payload<'_>,
    ) -> Placed {
        self.offset += 1;
        let (epoch, offset) = (self.epoch, self.offset);
        let position = Position { epoch, offset };
        if !self.remember(name) {
            self.floor = offset;
            return Placed { position, previous: position, is_wanted: false };
        }
        let Some((name, mark)) = self.topics.get_key_value(name) else {
            return Placed { position, previous: position, is_wanted: false };
        };
        let (name, is_wanted) = (Arc::clone(name), mark.left == 0);
        if !is_wanted {
            self.put_last(&name);
        }
        let mut previous = offset;
        if let Some(mark) = self.topics.get_mut(&name) {
            previous = std::mem::replace(&mut mark.offset, offset);
            let ring = (&name, &mut mark.ring);
            self.history.push(ring, keep, now, (previous, offset), payload);
        }
        self.expire(now);
        while let Some(payer) = self.history.payer() {
            self.drop_first(&payer);
        }
        Placed { position, previous: Position { epoch, offset: previous }, is_wanted }
    }

    /// Returns where a topic is, and remembers it: a publication after this position is one that
    /// was not there when it was asked for.
    pub fn position(&mut self, name: &str) -> Position {
        self.remember(name);
        let offset = self.topics.get(name).map_or(self.floor, |mark| mark.offset);
        Position { epoch: self.epoch, offset }
    }

    /// Returns what came of a topic after a position: the first `bytes` of it, and at least one
    /// publication.
    pub fn recall(
        &mut self,
        now: Timestamp,
        name: &str,
        since: Position,
        bytes: usize,
    ) -> Recalled {
        self.expire(now);
        let epoch = self.epoch;
        let mark = self.topics.get(name);
        let offset = mark.map_or(self.floor, |mark| mark.offset);
        let position = Position { epoch, offset };
        // Nothing yet is the same place in every epoch.
        let is_known = since.offset == 0 || since.epoch == epoch && since.offset <= self.offset;
        if !is_known {
            return Recalled { missing: Some(position), publications: Vec::new(), position };
        }
        let ring = mark.and_then(|mark| mark.ring.as_ref());
        let start = ring.map_or(offset, |ring| ring.start());
        let missing = (since.offset < start).then_some(Position { epoch, offset: start });
        let from = since.offset.max(start);
        let publications = ring.map(|ring| ring.after(epoch, from, bytes)).unwrap_or_default();
        Recalled { missing, publications, position }
    }

    /// Remembers a topic that may be new. Returns false if there is no room for it.
    fn remember(&mut self, name: &str) -> bool {
        if self.topics.contains_key(name) {
            return true;
        }
        if self.make_room().is_err() {
            return false;
        }
        let name = Arc::<str>::from(name);
        let mark = Mark { offset: self.floor, left: 0, ring: None };
        self.topics.insert(Arc::clone(&name), mark);
        self.put_last(&name);
        true
    }

    /// Makes a topic the last of those that nobody wants.
    fn put_last(&mut self, name: &str) {
        let key = self.left.last_key_value().map_or(1, |(last, _)| last + 1);
        let Some((name, mark)) = self.topics.get_key_value(name) else {
            return;
        };
        let (name, before) = (Arc::clone(name), mark.left);
        self.left.remove(&before);
        if let Some(mark) = self.topics.get_mut(&name) {
            mark.left = key;
        }
        self.left.insert(key, name);
        if self.left.len() > MAX_LEFT {
            self.forget_oldest();
        }
    }

    /// Forgets publications that are too old.
    fn expire(&mut self, now: Timestamp) {
        while let Some(name) = self.history.overdue(now) {
            self.drop_first(&name);
        }
    }

    fn drop_first(&mut self, name: &Arc<str>) {
        if let Some(ring) = self.topics.get_mut(name).and_then(|mark| mark.ring.as_mut()) {
            self.history.drop_first(name, ring);
        }
    }

    /// Makes room for one topic more.
    fn make_room(&mut self) -> Result<(), TooManyTopics> {
        let is_full = self.topics.len() >= self.limit;
        if is_full && !self.forget_oldest() { Err(TooManyTopics) } else { Ok(()) }
    }

    /// Forgets the topic that was left first. Returns false if there is none.
    fn forget_oldest(&mut self) -> bool {
        let Some((_, oldest)) = self.left.pop_first() else {
            return false;
        };
        if let Some(mut mark) = self.topics.remove(&oldest) {
            self.history.drop_all(&oldest, &mut mark.ring);
            self.floor = self.floor.max(mark.offset);
        }
        true
    }
}

impl fmt::Display for TooManyTopics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server is at its limit of topics")
    }
}

impl std::error::Error for TooManyTopics {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ALL: Keep = Keep { count: 100, bytes: 10_000, age: Duration::from_secs(60) };
    const EPOCH: u64 = 9;

    fn at(offset: u64) -> Position {
        Position { epoch: EPOCH, offset }
    }

    fn log() -> TopicLog {
        TopicLog::new(EPOCH, 100, 1 << 20)
    }

    fn publish(log: &mut TopicLog, name: &str, keep: Keep, text: &str) -> Position {
        log.publish(Timestamp::default(), name, keep, Payload::Text(text)).position
    }

    /// Returns up to where publications are missing, and the offsets of those that are there.
    fn recall(log: &mut TopicLog, since: Position) -> (Option<u64>, Vec<u64>) {
        let recalled = log.recall(Timestamp::default(), "a", since, 10_000);
        let offsets = recalled.publications.iter().map(|kept| kept.position.offset).collect();
        (recalled.missing.map(|it| it.offset), offsets)
    }

    #[test]
    fn all_that_came_after_a_position_is_there_also_when_nobody_wanted_the_topic() {
        let mut log = log();
        for (name, text) in [("a", "1"), ("b", "2"), ("a", "3")] {
            publish(&mut log, name, ALL, text);
        }
        assert_eq!(recall(&mut log, at(0)), (None, vec![1, 3]));
        assert_eq!(recall(&mut log, at(1)), (None, vec![3]));
        assert_eq!(recall(&mut log, at(2)), (None, vec![3]), "the place need not be a publication");
        assert_eq!(recall(&mut log, at(3)), (None, vec![]));
    }

    #[test]
    fn a_ring_that_was_overrun_tells_up_to_where_publications_are_missing() {
        let mut log = log();
        for _ in 0..5 {
            publish(&mut log, "a", Keep { count: 2, ..ALL }, "text");
        }
        assert_eq!(recall(&mut log, at(3)), (None, vec![4, 5]));
        assert_eq!(recall(&mut log, at(2)), (Some(3), vec![4, 5]));
        assert_eq!(recall(&mut log, at(0)), (Some(3), vec![4, 5]));
    }

    #[test]
    fn bytes_are_a_limit_of_a_topic_too() {
        let mut log = log();
        for text in ["12345", "12345", "123456789"] {
            publish(&mut log, "a", Keep { bytes: 10, ..ALL }, text);
        }
        assert_eq!(recall(&mut log, at(1)), (Some(2), vec![3]));
        publish(&mut log, "a", Keep { bytes: 10, ..ALL }, "more than may be kept");
        assert_eq!(recall(&mut log, at(3)), (Some(4), vec![]));
        assert_eq!(log.keeping(), Keeping::default());
    }

    #[test]
    fn what_is_too_old_is_missing_also_if_nothing_was_published_since() {
        let mut log = log();
        let keep = Keep { age: Duration::from_secs(2), ..ALL };
        for second in 0..3 {
            let now = Timestamp::from_millis(second * 1_000);
            log.publish(now, "a", keep, Payload::Text("text"));
        }
        let recalled = log.recall(Timestamp::from_millis(3_500), "a", at(0), 10_000);
        assert_eq!(recalled.missing, Some(at(2)));
        assert_eq!(recalled.publications.len(), 1);
        let recalled = log.recall(Timestamp::from_millis(9_000), "a", at(0), 10_000);
        assert_eq!((recalled.missing, recalled.publications), (Some(at(3)), Vec::new()));
        assert_eq!(log.keeping(), Keeping::default());
    }

    #[test]
    fn a_topic_without_history_is_complete_only_from_where_it_is() {
        let mut log = log();
        publish(&mut log, "a", Keep::NOTHING, "text");
        assert_eq!(recall(&mut log, at(0)), (Some(1), vec![]));
        assert_eq!(recall(&mut log, at(1)), (None, vec![]));
    }

    #[test]
    fn another_epoch_and_an_offset_that_was_never_given_out_prove_nothing() {
        let mut log = log();
        publish(&mut log, "a", ALL, "text");
        assert_eq!(recall(&mut log, at(2)), (Some(1), vec![]));
        let elsewhere = Position { epoch: EPOCH + 1, offset: 1 };
        assert_eq!(recall(&mut log, elsewhere), (Some(1), vec![]));
    }

    #[test]
    fn nothing_yet_counts_in_every_epoch() {
        let mut log = log();
        let nothing = Position { epoch: EPOCH + 1, offset: 0 };
        assert_eq!(recall(&mut log, nothing), (None, vec![]));
        publish(&mut log, "a", ALL, "text");
        assert_eq!(recall(&mut log, nothing), (None, vec![1]));
    }

    #[test]
    fn a_part_has_as_many_bytes_as_were_asked_for_and_at_least_one_publication() {
        let mut log = log();
        for _ in 0..3 {
            publish(&mut log, "a", ALL, &"x".repeat(100));
        }
        let mut count =
            |bytes| log.recall(Timestamp::default(), "a", at(0), bytes).publications.len();
        assert_eq!([count(1), count(400), count(10_000)], [1, 2, 3]);
    }

    #[test]
    fn at_the_limit_in_all_the_topic_that_holds_the_most_pays() {
        let mut log = TopicLog::new(EPOCH, 100, 2_000);
        publish(&mut log, "a", ALL, "old and small");
        for _ in 0..20 {
            publish(&mut log, "loud", ALL, &"x".repeat(300));
            assert!(log.keeping().bytes <= 2_000);
        }
        assert_eq!(recall(&mut log, at(0)), (None, vec![1]));
        let keeping = log.keeping();
        assert_eq!(keeping.publications as u64 + keeping.evicted, 21);
    }

    #[test]
    fn a_position_that_was_told_is_good_whatever_else_is_forgotten() {
        let mut log = TopicLog::new(EPOCH, 2, 1 << 20);
        publish(&mut log, "x", ALL, "1");
        let told = log.position("a");
        assert_eq!(told, at(0));
        publish(&mut log, "y", ALL, "2");
        assert_eq!(log.len(), 2, "x is forgotten");
        publish(&mut log, "a", ALL, "3");
        assert_eq!(recall(&mut log, told), (None, vec![3]));
    }

    #[test]
    fn a_topic_that_was_forgotten_has_its_history_no_more() {
        let mut log = TopicLog::new(EPOCH, 1, 1 << 20);
        publish(&mut log, "a", ALL, "1");
        publish(&mut log, "b", ALL, "2");
        assert_eq!(log.keeping().publications, 1);
        assert_eq!(recall(&mut log, at(0)), (Some(1), vec![]));
        assert_eq!(log.position("c"), at(2));
    }
}
