//! The way from a broker to the shards: each publication is encoded once, and put into the inboxes
//! of the shards that want it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tabmux_core::{
    OwnedPayload,
    feed::{Keeping, Recalled},
    session::{
        AskId, BadTopicName, Encoded, Interest, LONG_FRAME, Meter, Publication, SlowPolicy,
        TopicFrame, check_topic_name,
    },
    wire::{Payload, Position, ServerFrame, TopicId},
};

use tokio::sync::futures::OwnedNotified;

use super::{
    mailbox::{Mail, Mailbox, Room},
    post::{JoinAnswer, Word},
};
use crate::{
    Config, Deflate, PublishError,
    broker::{Broker, BrokerError, Delivery, Failure, Feed, Guarded, Later, Outcome, Trouble},
    topics::TopicDesk,
    ws::{Deflater, Opcode, put_deflated, put_frame},
};

/// What a publication's frame has beside its payload, at most.
const HEADER: usize = 48;

/// The topics of a node.
pub(crate) struct Fanout {
    broker: Arc<Guarded>,
    state: Mutex<State>,
    meter: Arc<Meter>,
    mailboxes: Arc<[Arc<Mailbox<Word>>]>,
    room: Arc<Room>,
    /// The rules of topics.
    pub(crate) desk: Arc<TopicDesk>,
    message_bytes: usize,
    /// Topics that may be wanted at a time, or be joined and left.
    topics: usize,
    /// Bytes of publications that the broker has not taken yet, of handlers, and their limit.
    under_way: AtomicUsize,
    limit: usize,
    deflater: Option<Mutex<Deflater>>,
}

#[derive(Default)]
struct State {
    interest: Interest,
    /// Topics that the broker is asked for, or told to leave.
    pending: BTreeMap<Arc<str>, Pending>,
    /// Bytes of all deliveries that came before an answer.
    early: usize,
}

/// What waits for a broker.
#[derive(Default)]
struct Pending {
    /// Questions of shards.
    asks: Vec<(usize, AskId)>,
    /// Deliveries that came before the answer.
    early: Vec<(Position, Position, OwnedPayload)>,
}

impl State {
    /// Removes what waits for the broker's answer about a topic.
    fn take_pending(&mut self, name: &str) -> Pending {
        let pending = self.pending.remove(name).unwrap_or_default();
        let costs = pending.early.iter().map(|(.., message)| message.len() + HEADER);
        self.early -= costs.sum::<usize>();
        pending
    }
}

impl Fanout {
    pub(crate) fn new(
        config: &Config,
        mailboxes: Arc<[Arc<Mailbox<Word>>]>,
        room: Arc<Room>,
        broker: Arc<dyn Broker>,
        desk: Arc<TopicDesk>,
    ) -> Arc<Self> {
        let Deflate { enabled, threshold_bytes } = config.deflate;
        let state = State::default();
        let patience = Duration::from_millis(config.broker_timeout_ms);
        let fanout = Arc::new(Self {
            broker: Arc::new(Guarded::new(broker, patience)),
            topics: config.limits.topics,
            meter: Arc::clone(state.interest.meter()),
            state: Mutex::new(state),
            mailboxes,
            room,
            desk,
            message_bytes: config.limits.message_bytes,
            under_way: AtomicUsize::new(0),
            limit: config.limits.inbox_bytes,
            deflater: enabled.then(|| Mutex::new(Deflater::new(threshold_bytes))),
        });
        // The broker keeps no server alive.
        let weak = Arc::downgrade(&fanout);
        fanout.broker.start(Feed::new(move |delivery| {
            if let Some(fanout) = weak.upgrade() {
                fanout.deliver(delivery);
            }
        }));
        fanout
    }

    /// A shard wants a topic. Returns the answer if it is known at once; else it goes to the
    /// shard's inbox.
    pub(crate) fn join(
        self: &Arc<Self>,
        shard: usize,
        ask: AskId,
        name: &Arc<str>,
    ) -> Option<JoinAnswer> {
        let mut state = self.lock();
        if let Some(pending) = state.pending.get_mut(name) {
            pending.asks.push((shard, ask));
            return None;
        }
        if state.interest.is_wanted(name) {
            // The position of before does not count: the topic has one.
            let joined = state.interest.join(shard, name, Position { epoch: 0, offset: 0 });
            return Some(Ok((joined, self.policy(name))));
        }
        if state.interest.len() + state.pending.len() >= self.topics {
            return Some(Err(BrokerError::TooManyTopics));
        }
        state.pending.insert(Arc::clone(name), Pending::default());
        drop(state);
        self.ask_broker(name, Some((shard, ask)))
    }

    /// Asks the broker for a topic that is pending. Returns the answer to the question of a shard,
    /// if there is one and the answer is known at once.
    fn ask_broker(
        self: &Arc<Self>,
        name: &Arc<str>,
        asker: Option<(usize, AskId)>,
    ) -> Option<JoinAnswer> {
        match self.broker.join(name) {
            Ok(outcome) => self.joined(name, outcome, asker.map(|(shard, _)| shard)),
            Err(future) => {
                if let Some(pending) = self.lock().pending.get_mut(name) {
                    pending.asks.extend(asker);
                }
                let (fanout, name) = (Arc::clone(self), Arc::clone(name));
                tokio::spawn(async move {
                    let outcome = future.await;
                    fanout.joined(&name, outcome, None);
                });
                None
            }
        }
    }

    /// The broker has answered, or failed. Returns the answer for the shard that waits for it now.
    fn joined(
        self: &Arc<Self>,
        name: &Arc<str>,
        outcome: Outcome,
        shard: Option<usize>,
    ) -> Option<JoinAnswer> {
        let is_lost = matches!(outcome, Err(Trouble::Lost(_)));
        let position = outcome.map_err(Trouble::into_error);
        let mut state = self.lock();
        let Pending { asks, early } = state.take_pending(name);
        let policy = self.policy(name);
        let mut join = |shard| match &position {
            Ok(position) => Ok((state.interest.join(shard, name, *position), policy)),
            Err(error) => Err(error.clone()),
        };
        let answer = shard.map(&mut join);
        for (shard, ask) in asks {
            let word = Word::Joined { ask, answer: join(shard) };
            self.mailboxes[shard].force(Mail::Word(word), 0);
        }
        if let Ok(joined) = position {
            for (position, previous, message) in early {
                // What the answer counts in already is no news.
                if position.epoch != joined.epoch || position.offset > joined.offset {
                    let message = message.as_payload();
                    let delivery = Delivery { topic: name, position, previous, message };
                    self.pass_on(&mut state, &delivery);
                }
            }
        }
        if is_lost {
            // The broker may have joined it all the same.
            self.tell_left(state, name);
        }
        answer
    }

    /// A shard asks what came of a topic after a position. Returns the answer if it is known at
    /// once, which is nothing if the history cannot be had; else it goes to the shard's inbox.
    pub(crate) fn recall(
        &self,
        shard: usize,
        ask: AskId,
        (name, since, bytes): (&str, Position, usize),
    ) -> Option<Option<Recalled>> {
        match self.broker.recall(name, since, bytes) {
            None => Some(None),
            Some(Ok(outcome)) => Some(outcome.ok()),
            Some(Err(future)) => {
                let mailbox = Arc::clone(&self.mailboxes[shard]);
                tokio::spawn(async move {
                    let answer = future.await.ok();
                    mailbox.force(Mail::Word(Word::Recalled((ask, answer))), bytes);
                });
                None
            }
        }
    }

    /// Returns where a topic is.
    ///
    /// # Errors
    /// As for [`ServerHandle::position`](crate::ServerHandle::position).
    pub(crate) async fn position(&self, name: &str) -> Result<Position, PublishError> {
        check_topic_name(name).map_err(|BadTopicName| PublishError::Name)?;
        let public = self.desk.rules().public_name(name);
        match self.broker.position(public.as_deref().unwrap_or(name)) {
            Some(Ok(outcome)) => outcome.map_err(PublishError::from),
            Some(Err(future)) => future.await.map_err(PublishError::from),
            None => Err(PublishError::Broker("this broker tells no positions".to_owned())),
        }
    }

    /// Returns how much history the broker keeps.
    pub(crate) fn keeping(&self) -> Keeping {
        self.broker.keeping()
    }

    /// A shard wants a topic no more.
    pub(crate) fn leave(self: &Arc<Self>, shard: usize, topic: TopicId) {
        let mut state = self.lock();
        if let Some(name) = state.interest.leave(shard, topic) {
            self.tell_left(state, &name);
        }
    }

    /// Tells the broker that nobody wants a topic. Who wants it meanwhile waits: brokers are told
    /// one thing after the other.
    fn tell_left(self: &Arc<Self>, mut state: MutexGuard<'_, State>, name: &Arc<str>) {
        state.pending.insert(Arc::clone(name), Pending::default());
        drop(state);
        self.broker.leave(name);
        let mut state = self.lock();
        if state.pending.get(name).is_some_and(|pending| pending.asks.is_empty()) {
            state.take_pending(name);
            return;
        }
        drop(state);
        self.ask_broker(name, None);
    }

    /// Publishes a message if there is room for it. Returns what the broker says, or will say.
    ///
    /// # Errors
    /// As for [`ServerHandle::publish`](crate::ServerHandle::publish).
    fn start(
        &self,
        name: &str,
        message: Payload<'_>,
    ) -> Result<Result<Outcome, Later>, PublishError> {
        self.check(name, message.len())?;
        let public = self.desk.rules().public_name(name);
        let name = public.as_deref().unwrap_or(name);
        let cost = message.len() + HEADER;
        let shards = self.lock().interest.shards(name);
        if !shards.iter().all(|shard| self.mailboxes[shard].has_room(cost)) {
            return Err(PublishError::Full);
        }
        Ok(self.broker.publish(name, message))
    }

    /// Publishes a message. Waits for room in the inboxes of shards, and for the broker.
    ///
    /// # Errors
    /// As for [`ServerHandle::publish`](crate::ServerHandle::publish).
    pub(crate) async fn publish(
        &self,
        name: &str,
        message: Payload<'_>,
    ) -> Result<Position, PublishError> {
        loop {
            // Before it is looked for, so that none is missed.
            let room = self.room.came();
            match self.start(name, message) {
                Ok(Ok(outcome)) => return outcome.map_err(PublishError::from),
                Ok(Err(future)) => return future.await.map_err(PublishError::from),
                Err(PublishError::Full) => room.await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Publishes a message of a handler, which waits for nothing. With [`PublishError::Full`] it
    /// leaves in `room` what is done when there may be room.
    ///
    /// # Errors
    /// As for [`Ctx::publish`](crate::Ctx::publish).
    pub(crate) fn publish_now(
        self: &Arc<Self>,
        name: &str,
        message: Payload<'_>,
        room: &mut Option<OwnedNotified>,
    ) -> Result<(), PublishError> {
        let published = self.try_publish(name, message);
        if published != Err(PublishError::Full) {
            return published;
        }
        // It may come between the two.
        let came = self.room.came();
        let published = self.try_publish(name, message);
        if published == Err(PublishError::Full) {
            *room = Some(came);
        }
        published
    }

    fn try_publish(self: &Arc<Self>, name: &str, message: Payload<'_>) -> Result<(), PublishError> {
        let len = message.len();
        if self.under_way.load(Ordering::Relaxed) > self.limit.saturating_sub(len) {
            return Err(PublishError::Full);
        }
        match self.start(name, message)? {
            Ok(outcome) => outcome.map(drop).map_err(PublishError::from),
            Err(future) => {
                self.under_way.fetch_add(len, Ordering::Relaxed);
                let fanout = Arc::clone(self);
                tokio::spawn(async move {
                    if let Err(trouble) = future.await {
                        let error = trouble.into_error();
                        crate::logs::rarely!(warn, "a publication is lost: {error}");
                    }
                    fanout.under_way.fetch_sub(len, Ordering::Relaxed);
                    fanout.room.tell();
                });
                Ok(())
            }
        }
    }

    /// Whether something can be published at all.
    pub(crate) fn check(&self, name: &str, len: usize) -> Result<(), PublishError> {
        check_topic_name(name).map_err(|BadTopicName| PublishError::Name)?;
        if self.fits(len) { Ok(()) } else { Err(PublishError::TooLarge) }
    }

    /// Returns true if a message of so many bytes can be sent to hubs.
    pub(crate) const fn fits(&self, len: usize) -> bool {
        len.saturating_add(HEADER) <= self.message_bytes
    }

    /// Takes a publication from the broker.
    fn deliver(&self, delivery: &Delivery<'_>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Delivery { topic, position, previous, message } = *delivery;
        if let Some(pending) = state.pending.get_mut(topic) {
            let cost = message.len() + HEADER;
            // What is dropped shows as a gap: the next one names another position before it.
            if state.early + cost <= self.limit {
                state.early += cost;
                pending.early.push((position, previous, OwnedPayload::from(message)));
            }
            return;
        }
        self.pass_on(state, delivery);
    }

    /// Encodes a publication, and puts it into the inboxes of all who want it: under one lock, so
    /// that every shard sees one order.
    fn pass_on(&self, state: &mut State, delivery: &Delivery<'_>) {
        let Delivery { topic: name, position, previous, message } = *delivery;
        let wanted = state.interest.deliver(name, position, previous, message);
        let Some((TopicFrame { topic, bytes: frame, meter }, shards)) = wanted else {
            return;
        };
        let mut bytes = Vec::with_capacity(frame.len() + HEADER);
        announce(&mut bytes, &frame);
        put_frame(&mut bytes, Opcode::Binary, &frame);
        let deflated = self.deflate(&frame);
        let frame = Encoded::new(bytes.into(), deflated).of_topic(topic, previous);
        let frame = Arc::new(frame.charged_to(&meter));
        for shard in shards.iter() {
            let publication = Publication { topic, position, frame: Arc::clone(&frame) };
            let cost = message.len() + HEADER;
            self.mailboxes[shard].force(Mail::Word(Word::Publication(publication)), cost);
        }
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

    fn policy(&self, name: &str) -> SlowPolicy {
        self.desk.rules().slow(name)
    }

    /// Returns how often the broker failed, by the way in which it did.
    pub(crate) fn broker_failures(&self) -> [(&'static str, u64); 3] {
        Failure::ALL.map(|failure| (failure.name(), self.broker.failures(failure)))
    }

    /// Returns the memory of all topics, and of all publications that somebody keeps, in bytes.
    pub(crate) fn shared_bytes(&self) -> usize {
        self.meter.bytes()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Trouble> for PublishError {
    fn from(trouble: Trouble) -> Self {
        match trouble.into_error() {
            BrokerError::Unavailable(why) => Self::Broker(why),
            error @ BrokerError::TooManyTopics => Self::Broker(error.to_string()),
        }
    }
}

/// Tells hubs before a long frame that it comes. Hubs of version 1 ignore that.
fn announce(out: &mut Vec<u8>, message: &[u8]) {
    if message.len() > LONG_FRAME {
        let coming = ServerFrame::Coming { bytes: message.len() as u64 };
        put_frame(out, Opcode::Binary, &coming.to_bytes());
    }
}
