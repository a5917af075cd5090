//! The topics of a whole server: their numbers, their positions, and which shards want them.
//!
//! Every publication gets its position here, under whatever lock the shell has around this, and
//! goes to the mailboxes of its shards under the same lock: so all shards see the publications of
//! a topic in one order, and a shard that joins a topic misses none that comes after.

use std::{collections::BTreeMap, fmt, sync::Arc};

use tabmux_wire::{MAX_TOPIC_NAME, Payload, Position, ServerFrame, TopicId};

use super::{
    Meter,
    ledger::{ARC, ENTRY},
    publication::Share,
};
use crate::{
    Timestamp,
    feed::{Keep, Keeping, Mark, Placed, Recalled, TooManyTopics, TopicLog},
};

/// Shards that a topic can name.
pub const MAX_SHARDS: usize = 256;

/// All topics of a server that has one node: where they are, and which shards want them.
///
/// It is a broker in memory ([`TopicLog`]) with the shards of its one node.
pub struct Topics {
    log: TopicLog,
    interest: Interest,
}

/// Which shards of a node want which topics.
#[derive(Default)]
pub struct Interest {
    /// The last number that was given out. Numbers are not used again.
    number: u64,
    names: BTreeMap<Arc<str>, TopicId>,
    topics: BTreeMap<TopicId, Topic>,
    /// Counts the memory of all topics, and of all publications that somebody keeps.
    meter: Arc<Meter>,
}

struct Topic {
    name: Arc<str>,
    position: Position,
    shards: Shards,
    meter: Arc<Meter>,
    /// Charges the topic for its own record.
    _record: Share,
}

/// The bytes of a topic beside its name: its record, its meter, and its entries by number, by name
/// and in the log.
const RECORD: usize =
    size_of::<Topic>() + size_of::<Meter>() + size_of::<Mark>() + 2 * ARC + 3 * ENTRY;

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shards([u64; MAX_SHARDS / 64]);

/// A topic that a shard has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its number.
    pub topic: TopicId,
    /// Where it is.
    pub position: Position,
}

/// A publication that has its number.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// Its place.
    pub position: Position,
    /// The place of the one before it.
    pub previous: Position,
    /// The frame, unless no shard wants it.
    pub frame: Option<TopicFrame>,
    /// The shards that want it.
    pub shards: Shards,
}

/// The frame of a publication, as hubs get it.
#[derive(Clone, Debug)]
pub struct TopicFrame {
    /// The topic.
    pub topic: TopicId,
    /// The bytes of the frame.
    pub bytes: Vec<u8>,
    /// Counts the memory of the topic's publications.
    pub meter: Arc<Meter>,
}

/// Why a name is not one of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTopicName;

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics").finish_non_exhaustive()
    }
}

impl Topics {
    /// No topics, in an epoch that no earlier run of the server had. At most `limit` topics are
    /// wanted at a time. What is kept of them takes 64 MiB at most.
    pub fn new(epoch: u64, limit: usize) -> Self {
        Self { log: TopicLog::new(epoch, limit, 64 << 20), interest: Interest::default() }
    }

    /// How many topics are wanted, or remembered.
    pub fn len(&self) -> usize {
        self.log.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.log.is_empty()
    }

    /// Returns the meter of all topics.
    pub const fn meter(&self) -> &Arc<Meter> {
        self.interest.meter()
    }

    /// A shard wants a topic.
    ///
    /// # Errors
    /// When there are too many.
    ///
    /// # Panics
    /// When the shard's number is not below [`MAX_SHARDS`].
    pub fn join(&mut self, shard: usize, name: &Arc<str>) -> Result<Joined, TooManyTopics> {
        let position = self.log.join(name)?;
        Ok(self.interest.join(shard, name, position))
    }

    /// A shard wants a topic no more.
    pub fn leave(&mut self, shard: usize, id: TopicId) {
        if let Some(name) = self.interest.leave(shard, id) {
            self.log.leave(&name);
        }
    }

    /// Numbers a publication, and encodes it if anybody wants it. Nothing of it is kept.
    pub fn publish(&mut self, name: &str, payload: Payload<'_>) -> Numbered {
        self.publish_kept(Timestamp::default(), name, Keep::NOTHING, payload)
    }

    /// Numbers a publication, keeps it as long as `keep` says, and encodes it if anybody wants it.
    pub fn publish_kept(
        &mut self,
        now: Timestamp,
        name: &str,
        keep: Keep,
        payload: Payload<'_>,
    ) -> Numbered {
        let Placed { position, previous, .. } = self.log.publish(now, name, keep, payload);
        let wanted = self.interest.deliver(name, position, previous, payload);
        let (frame, shards) = wanted.unzip();
        Numbered { position, previous, frame, shards: shards.unwrap_or_default() }
    }

    /// Returns what came of a topic after a position: the first `bytes` of it.
    pub fn recall(
        &mut self,
        now: Timestamp,
        name: &str,
        since: Position,
        bytes: usize,
    ) -> Recalled {
        self.log.recall(now, name, since, bytes)
    }

    /// Returns where a topic is.
    pub fn position(&mut self, name: &str) -> Position {
        self.log.position(name)
    }

    /// Returns how much is kept of all topics.
    pub const fn keeping(&self) -> Keeping {
        self.log.keeping()
    }

    /// The shards that would get a publication now.
    pub fn shards(&self, name: &str) -> Shards {
        self.interest.shards(name)
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interest").finish_non_exhaustive()
    }
}

impl Interest {
    /// Returns the meter of all topics: the memory of topics, and of publications that somebody
    /// keeps.
    pub const fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Returns how many topics are wanted.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Returns true if no topic is wanted.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Returns true if a shard wants the topic.
    pub fn is_wanted(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Adds a shard to those that want a topic. `position` is where the topic is, if no shard wants
    /// it yet; else the topic is where its last publication was.
    ///
    /// # Panics
    /// When the shard's number is not below [`MAX_SHARDS`].
    pub fn join(&mut self, shard: usize, name: &Arc<str>, position: Position) -> Joined {
        let id = self.names.get(name).copied().unwrap_or_else(|| self.create(name, position));
        let mut joined = Joined { topic: id, position };
        if let Some(topic) = self.topics.get_mut(&id) {
            topic.shards.insert(shard);
            joined.position = topic.position;
        }
        joined
    }

    /// Removes a shard from those that want a topic. Returns the topic's name if it was the last.
    pub fn leave(&mut self, shard: usize, id: TopicId) -> Option<Arc<str>> {
        let topic = self.topics.get_mut(&id)?;
        topic.shards.remove(shard);
        if topic.shards != Shards::default() {
            return None;
        }
        let topic = self.topics.remove(&id)?;
        self.names.remove(&topic.name);
        Some(topic.name)
    }

    /// Encodes a publication for the shards that want its topic. Returns nothing if none does.
    pub fn deliver(
        &mut self,
        name: &str,
        position: Position,
        previous: Position,
        payload: Payload<'_>,
    ) -> Option<(TopicFrame, Shards)> {
        let id = *self.names.get(name)?;
        let topic = self.topics.get_mut(&id)?;
        topic.position = position;
        let previous = previous.offset;
        let frame = ServerFrame::Publication { topic: id, position, previous, payload };
        let (bytes, meter) = (frame.to_bytes(), Arc::clone(&topic.meter));
        Some((TopicFrame { topic: id, bytes, meter }, topic.shards))
    }

    /// Returns the shards that would get a publication now.
    pub fn shards(&self, name: &str) -> Shards {
        let topic = self.names.get(name).and_then(|id| self.topics.get(id));
        topic.map_or(Shards::default(), |topic| topic.shards)
    }

    fn create(&mut self, name: &Arc<str>, position: Position) -> TopicId {
        self.number += 1;
        let (id, name) = (TopicId(self.number), Arc::clone(name));
        self.names.insert(Arc::clone(&name), id);
        let (meter, shards) = (Meter::within(&self.meter), Shards::default());
        let _record = Share::new(&meter, RECORD + name.len());
        self.topics.insert(id, Topic { name, position, shards, meter, _record });
        id
    }
}

/// Whether a name may be one of a topic: 1 to 256 bytes.
///
/// # Errors
/// When it may not.
pub const fn check_topic_name(name: &str) -> Result<(), BadTopicName> {
    if name.is_empty() || name.len() > MAX_TOPIC_NAME { Err(BadTopicName) } else { Ok(()) }
}

impl Shards {
    fn insert(&mut self, shard: usize) {
        self.0[shard / 64] |= 1 << (shard % 64);
    }

    fn remove(&mut self, shard: usize) {
        self.0[shard / 64] &= !(1 << (shard % 64));
    }

    /// Their numbers.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_SHARDS).filter(move |shard| self.0[shard / 64] >> (shard % 64) & 1 == 1)
    }
}

impl fmt::Display for BadTopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name of a topic has 1 to {MAX_TOPIC_NAME} bytes")
    }
}

impl std::error::Error for BadTopicName {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::MAX_LEFT;

    fn position(offset: u64) -> Position {
        Position { epoch: 9, offset }
    }

    #[test]
    fn shards_that_want_a_topic_get_its_publications_until_they_leave() {
        let mut topics = Topics::new(9, 10);
        let name = Arc::from("prices");
        let joined = topics.join(3, &name).unwrap();
        assert_eq!(joined, Joined { topic: TopicId(1), position: position(0) });
        assert_eq!(topics.join(200, &name).unwrap().topic, TopicId(1));
        let numbered = topics.publish("prices", Payload::Text("42"));
        assert_eq!(numbered.position, position(1));
        assert_eq!(numbered.shards.iter().collect::<Vec<_>>(), [3, 200]);
        topics.leave(3, TopicId(1));
        assert_eq!(topics.shards("prices").iter().collect::<Vec<_>>(), [200]);
        topics.leave(200, TopicId(1));
        assert!(topics.publish("prices", Payload::Text("43")).frame.is_none());
    }

    #[test]
    fn a_publication_names_the_one_before_it_in_its_topic() {
        let mut topics = Topics::new(9, 10);
        for name in ["a", "b"] {
            topics.join(0, &Arc::from(name)).unwrap();
        }
        let mut previous = |name| {
            let frame = topics.publish(name, Payload::Text("")).frame.unwrap();
            let frame = ServerFrame::decode(&frame.bytes).unwrap();
            let ServerFrame::Publication { previous, position, .. } = frame else {
                panic!("no publication: {frame:?}")
            };
            (previous, position.offset)
        };
        assert_eq!(previous("a"), (0, 1));
        assert_eq!(previous("b"), (0, 2));
        assert_eq!(previous("a"), (1, 3));
    }

    #[test]
    fn who_comes_back_finds_the_topic_where_it_was() {
        let mut topics = Topics::new(9, 10);
        let name = Arc::from("prices");
        let id = topics.join(0, &name).unwrap().topic;
        topics.publish("prices", Payload::Text("1"));
        topics.leave(0, id);
        topics.publish("other", Payload::Text("2"));
        let Joined { topic: id, position: at } = topics.join(0, &name).unwrap();
        assert_eq!(at, position(1));
        topics.leave(0, id);
        topics.publish("prices", Payload::Text("3"));
        assert_eq!(topics.join(0, &name).unwrap().position, position(3));
    }

    #[test]
    fn who_subscribes_to_ever_other_topics_is_not_remembered_for_all_of_them() {
        let mut topics = Topics::new(9, usize::MAX);
        for number in 0..MAX_LEFT + 10 {
            let id = topics.join(0, &Arc::from(number.to_string())).unwrap().topic;
            topics.leave(0, id);
        }
        assert_eq!(topics.len(), MAX_LEFT);
        assert_eq!(topics.interest.names.len(), 0);
    }

    #[test]
    fn at_the_limit_a_topic_that_nobody_wants_makes_room_and_one_that_is_wanted_does_not() {
        let mut topics = Topics::new(9, 2);
        let [a, b, c] = ["a", "b", "c"].map(Arc::from);
        let first = topics.join(0, &a).unwrap().topic;
        topics.join(0, &b).unwrap();
        assert_eq!(topics.join(0, &c), Err(TooManyTopics));
        topics.leave(0, first);
        assert_eq!(topics.join(0, &c).unwrap().position, position(0));
        assert_eq!((topics.len(), topics.join(0, &a)), (2, Err(TooManyTopics)));
    }
}
