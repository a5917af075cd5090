//! The topics of the server, and publishing to them from anywhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tabmux_core::{
    session::{
        self, BadTopicName, Encoded, Joined, LONG_FRAME, Meter, Publication, SlowPolicy,
        TooManyTopics, TopicFrame, check_topic_name,
    },
    wire::{Payload, Position, ServerFrame, TopicId},
};

use super::{
    mailbox::{Mail, Mailbox},
    post::Word,
};
use crate::{
    Config, Deflate, PublishError, Slow, TopicRule,
    ws::{Deflater, Opcode, put_deflated, put_frame},
};

/// What a publication's frame has beside its payload, at most.
const HEADER: usize = 48;

/// The topics of a server.
pub(crate) struct Fanout {
    topics: Mutex<session::Topics>,
    meter: Arc<Meter>,
    mailboxes: Arc<[Arc<Mailbox<Word>>]>,
    /// The longest prefix first.
    rules: RwLock<Vec<TopicRule>>,
    message_bytes: usize,
    deflater: Option<Mutex<Deflater>>,
}

impl Fanout {
    pub(crate) fn new(
        config: &Config,
        mailboxes: Arc<[Arc<Mailbox<Word>>]>,
    ) -> std::io::Result<Self> {
        let mut epoch = [0; 4];
        getrandom::fill(&mut epoch)?;
        // Four bytes tell the runs of a server apart and keep publications short.
        let epoch = u64::from(u32::from_be_bytes(epoch)) + 1;
        let topics = session::Topics::new(epoch, config.limits.topics);
        let meter = Arc::clone(topics.meter());
        let topics = Mutex::new(topics);
        let rules = RwLock::new(sorted(&config.topics));
        let Deflate { enabled, threshold_bytes } = config.deflate;
        let deflater = enabled.then(|| Mutex::new(Deflater::new(threshold_bytes)));
        let message_bytes = config.limits.message_bytes;
        Ok(Self { topics, meter, mailboxes, rules, message_bytes, deflater })
    }

    /// A shard wants a topic.
    pub(crate) fn join(
        &self,
        shard: usize,
        name: &Arc<str>,
    ) -> Result<(Joined, SlowPolicy), TooManyTopics> {
        Ok((self.lock().join(shard, name)?, self.policy(name)))
    }

    /// A shard wants a topic no more.
    pub(crate) fn leave(&self, shard: usize, topic: TopicId) {
        self.lock().leave(shard, topic);
    }

    /// Publishes to all who want it: numbered, encoded once, and put into the mailboxes under
    /// one lock, so that every shard sees one order.
    pub(crate) fn publish(
        &self,
        name: &str,
        payload: Payload<'_>,
    ) -> Result<Position, PublishError> {
        self.check(name, payload.len())?;
        let mut topics = self.lock();
        let cost = payload.len() + HEADER;
        if !topics.shards(name).iter().all(|shard| self.mailboxes[shard].has_room(cost)) {
            return Err(PublishError::Full);
        }
        let numbered = topics.publish(name, payload);
        let position = numbered.position;
        if let Some(TopicFrame { topic, bytes: message, meter }) = numbered.frame {
            let mut bytes = Vec::with_capacity(message.len() + HEADER);
            announce(&mut bytes, &message);
            put_frame(&mut bytes, Opcode::Binary, &message);
            let deflated = self.deflate(&message);
            let frame = Encoded::new(bytes.into(), deflated).of_topic(topic, numbered.previous);
            let frame = Arc::new(frame.charged_to(&meter));
            for shard in numbered.shards.iter() {
                let publication = Publication { topic, position, frame: Arc::clone(&frame) };
                self.mailboxes[shard].force(Mail::Word(Word::Publication(publication)), cost);
            }
        }
        Ok(position)
    }

    /// Whether something can be published at all.
    pub(crate) fn check(&self, name: &str, len: usize) -> Result<(), PublishError> {
        check_topic_name(name).map_err(|BadTopicName| PublishError::Name)?;
        if len + HEADER > self.message_bytes {
            return Err(PublishError::TooLarge);
        }
        Ok(())
    }

    /// A finished frame for links that agreed to it, if it gets shorter.
    fn deflate(&self, message: &[u8]) -> Option<Box<[u8]>> {
        let mut deflater = self.deflater.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let deflated = deflater.deflate(message)?;
        let mut bytes = Vec::with_capacity(deflated.len() + HEADER);
        announce(&mut bytes, deflated);
        put_deflated(&mut bytes, Opcode::Binary, deflated);
        Some(bytes.into())
    }

    /// Replaces the rules of topics, for shards that join them from now on.
    pub(crate) fn set_rules(&self, rules: &[TopicRule]) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = sorted(rules);
    }

    fn policy(&self, name: &str) -> SlowPolicy {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let rule = rules.iter().find(|rule| name.starts_with(&rule.prefix));
        match rule.map(|rule| rule.slow).unwrap_or_default() {
            Slow::Recover => SlowPolicy::Recover,
            Slow::KeepLatest => SlowPolicy::KeepLatest,
            Slow::DropWithGap => SlowPolicy::DropWithGap,
        }
    }

    /// Returns the memory of all topics, and of all publications that somebody keeps, in bytes.
    pub(crate) fn shared_bytes(&self) -> usize {
        self.meter.bytes()
    }

    fn lock(&self) -> MutexGuard<'_, session::Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the rules, the longest prefix first.
fn sorted(rules: &[TopicRule]) -> Vec<TopicRule> {
    let mut rules = rules.to_vec();
    rules.sort_by_key(|rule| std::cmp::Reverse(rule.prefix.len()));
    rules
}

/// Tells hubs before a long frame that it comes. Hubs of version 1 ignore that.
fn announce(out: &mut Vec<u8>, message: &[u8]) {
    if message.len() > LONG_FRAME {
        let coming = ServerFrame::Coming { bytes: message.len() as u64 };
        put_frame(out, Opcode::Binary, &coming.to_bytes());
    }
}
