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

/// Topics that nobody wants and that are remembered all the same.
const MAX_LEFT: usize = 16_384;

/// Shards that a topic can name.
pub const MAX_SHARDS: usize = 256;

/// All topics of a server.
///
/// Offsets are drawn from one counter, so those of one topic have holes; a publication names the
/// one before it. There is no history: what a topic remembers is where it is.
pub struct Topics {
    epoch: u64,
    limit: usize,
    /// The last offset that was given out.
    offset: u64,
    /// The last number that was given out. Numbers are not used again.
    number: u64,
    names: BTreeMap<Arc<str>, TopicId>,
    topics: BTreeMap<TopicId, Topic>,
    /// Topics that nobody wants any more, the one that was left first first. They are kept while
    /// there is room, so that who comes back learns that nothing was missed.
    left: BTreeMap<u64, TopicId>,
    /// Counts the memory of all topics, and of all publications that somebody keeps.
    meter: Arc<Meter>,
}

struct Topic {
    name: Arc<str>,
    offset: u64,
    shards: Shards,
    /// Its key in `left`, which is the number of leavings before; 0 while somebody wants it.
    left: u64,
    meter: Arc<Meter>,
    /// Charges the topic for its own record.
    _record: Share,
}

/// The bytes of a topic beside its name: its record, its meter, and its entries by number and by
/// name.
const RECORD: usize = size_of::<Topic>() + size_of::<Meter>() + 2 * ARC + 2 * ENTRY;

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

/// The server has as many topics as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTopics;

/// Why a name is not one of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTopicName;

impl Topics {
    /// No topics, in an epoch that no earlier run of the server had. At most `limit` topics are
    /// wanted at a time.
    pub fn new(epoch: u64, limit: usize) -> Self {
        let (names, topics, left) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let meter = Arc::default();
        Self { epoch, limit, offset: 0, number: 0, names, topics, left, meter }
    }

    /// How many topics are wanted, or remembered.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Returns the meter of all topics: the memory of topics, and of publications that somebody
    /// keeps.
    pub const fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// A shard wants a topic.
    ///
    /// # Errors
    /// When there are too many.
    ///
    /// # Panics
    /// When the shard's number is not below [`MAX_SHARDS`].
    pub fn join(&mut self, shard: usize, name: &Arc<str>) -> Result<Joined, TooManyTopics> {
        let id = match self.names.get(name) {
            Some(id) => *id,
            None => self.create(name)?,
        };
        let topic = self.topics.get_mut(&id).ok_or(TooManyTopics)?;
        self.left.remove(&topic.left);
        topic.left = 0;
        topic.shards.insert(shard);
        let position = Position { epoch: self.epoch, offset: topic.offset };
        Ok(Joined { topic: id, position })
    }

    /// A shard wants a topic no more.
    pub fn leave(&mut self, shard: usize, id: TopicId) {
        let Some(topic) = self.topics.get_mut(&id) else {
            return;
        };
        topic.shards.remove(shard);
        if topic.shards == Shards::default() && topic.left == 0 {
            topic.left = self.left.last_key_value().map_or(1, |(last, _)| last + 1);
            self.left.insert(topic.left, id);
            if self.left.len() > MAX_LEFT {
                self.forget_oldest();
            }
        }
    }

    /// Numbers a publication, and encodes it if anybody wants it.
    pub fn publish(&mut self, name: &str, payload: Payload<'_>) -> Numbered {
        self.offset += 1;
        let position = Position { epoch: self.epoch, offset: self.offset };
        let id = self.names.get(name).copied();
        let Some((id, topic)) = id.and_then(|id| Some((id, self.topics.get_mut(&id)?))) else {
            let (previous, shards) = (position, Shards::default());
            return Numbered { position, previous, frame: None, shards };
        };
        let previous = std::mem::replace(&mut topic.offset, self.offset);
        let frame = (topic.shards != Shards::default()).then(|| {
            let frame = ServerFrame::Publication { topic: id, position, previous, payload };
            TopicFrame { topic: id, bytes: frame.to_bytes(), meter: Arc::clone(&topic.meter) }
        });
        let previous = Position { offset: previous, ..position };
        Numbered { position, previous, frame, shards: topic.shards }
    }

    /// The shards that would get a publication now.
    pub fn shards(&self, name: &str) -> Shards {
        let topic = self.names.get(name).and_then(|id| self.topics.get(id));
        topic.map_or(Shards::default(), |topic| topic.shards)
    }

    fn create(&mut self, name: &Arc<str>) -> Result<TopicId, TooManyTopics> {
        if self.topics.len() >= self.limit && !self.forget_oldest() {
            return Err(TooManyTopics);
        }
        self.number += 1;
        let (id, name) = (TopicId(self.number), Arc::clone(name));
        self.names.insert(Arc::clone(&name), id);
        let (offset, shards) = (self.offset, Shards::default());
        let meter = Meter::within(&self.meter);
        let _record = Share::new(&meter, RECORD + name.len());
        self.topics.insert(id, Topic { name, offset, shards, left: 0, meter, _record });
        Ok(id)
    }

    /// Forgets the topic that was left first; whether there was one.
    fn forget_oldest(&mut self) -> bool {
        let Some((_, oldest)) = self.left.pop_first() else {
            return false;
        };
        if let Some(topic) = self.topics.remove(&oldest) {
            self.names.remove(&topic.name);
        }
        true
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

impl fmt::Display for TooManyTopics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server is at its limit of topics")
    }
}

impl std::error::Error for TooManyTopics {}

impl fmt::Display for BadTopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name of a topic has 1 to {MAX_TOPIC_NAME} bytes")
    }
}

impl std::error::Error for BadTopicName {}

#[cfg(test)]
mod tests {
    use super::*;

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
            match ServerFrame::decode(&frame.bytes).unwrap() {
                ServerFrame::Publication { previous, position, .. } => (previous, position.offset),
                other => panic!("no publication: {other:?}"),
            }
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
        assert_eq!(topics.join(0, &name).unwrap(), Joined { topic: id, position: position(1) });
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
        assert_eq!(
            (topics.len(), topics.names.len(), topics.left.len()),
            (MAX_LEFT, MAX_LEFT, MAX_LEFT)
        );
    }

    #[test]
    fn at_the_limit_a_topic_that_nobody_wants_makes_room_and_one_that_is_wanted_does_not() {
        let mut topics = Topics::new(9, 2);
        let [a, b, c] = ["a", "b", "c"].map(Arc::from);
        let first = topics.join(0, &a).unwrap().topic;
        topics.join(0, &b).unwrap();
        assert_eq!(topics.join(0, &c), Err(TooManyTopics));
        topics.leave(0, first);
        assert_eq!(topics.join(0, &c).unwrap().topic, TopicId(3));
        assert_eq!((topics.len(), topics.join(0, &a)), (2, Err(TooManyTopics)));
    }
}
