//! The topics that somebody here wants: where each is, and which sessions have it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tabmux_wire::{Position, TopicId, UnsubscribedReason};

use super::{
    Output, Publication, SlowPolicy,
    account::{Account, Count},
    asks::{Ask, AskId, Asker},
    effects::Effects,
    lane::Burst,
    ledger::{ARC, ASK, Charge, ENTRY},
    places::FreeList,
    state::SessionPlace,
    table::Sessions,
};

/// Where a topic is in its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TopicPlace(u32);

#[cfg(test)]
impl TopicPlace {
    pub(super) const fn numbered(number: u32) -> Self {
        Self(number)
    }

    pub(super) const fn number(self) -> u32 {
        self.0
    }
}

/// All topics that a session of this registry is subscribed to.
#[derive(Default)]
pub(super) struct TopicTable {
    topics: Vec<Option<Topic>>,
    free: FreeList,
    by_name: BTreeMap<Arc<str>, TopicPlace>,
    by_id: BTreeMap<TopicId, TopicPlace>,
}

pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) state: State,
    /// Whose session was the first that wanted it, where that is known.
    founder: Option<Arc<Account>>,
    /// In ascending order.
    subscribers: Vec<SessionPlace>,
}

pub(super) enum State {
    /// The shell is asked where the topic is. For each session that waits, where it left the topic.
    Joining {
        ask: AskId,
        waiting: Vec<(SessionPlace, Option<Position>)>,
    },
    Joined(Joined),
}

/// Where a topic is, as the shell has said and as publications have told since.
#[derive(Clone, Copy)]
pub(super) struct Joined {
    pub(super) id: TopicId,
    pub(super) position: Position,
    pub(super) policy: SlowPolicy,
}

impl TopicTable {
    pub(super) fn find(&self, name: &str) -> Option<TopicPlace> {
        self.by_name.get(name).copied()
    }

    pub(super) fn get(&self, at: TopicPlace) -> Option<&Topic> {
        self.topics.get(at.0 as usize)?.as_ref()
    }

    fn get_mut(&mut self, at: TopicPlace) -> Option<&mut Topic> {
        self.topics.get_mut(at.0 as usize)?.as_mut()
    }

    /// Returns where a topic is, once the shell has said so.
    pub(super) fn joined(&self, at: TopicPlace) -> Option<Joined> {
        self.get(at)?.joined()
    }

    /// Returns the place of a topic, which is asked for if it is new.
    pub(super) fn want(
        &mut self,
        fx: &mut Effects,
        name: &str,
        account: Option<&Arc<Account>>,
    ) -> TopicPlace {
        if let Some(at) = self.find(name) {
            return at;
        }
        let (at, name) = (TopicPlace(self.free.take()), Arc::<str>::from(name));
        let ask = fx.ask(Asker::Join(at), Ask::Join { topic: Arc::clone(&name) });
        let state = State::Joining { ask, waiting: Vec::new() };
        let founder = account.cloned();
        if let Some(founder) = &founder {
            founder.add(Count::Topics);
        }
        let topic = Topic { name: Arc::clone(&name), state, founder, subscribers: Vec::new() };
        fx.charge(Charge::Topics, 0, topic.cost());
        if self.topics.len() <= at.0 as usize {
            self.topics.resize_with(at.0 as usize + 1, || None);
        }
        self.topics[at.0 as usize] = Some(topic);
        self.by_name.insert(name, at);
        fx.stats.topics.subscribed += 1;
        at
    }

    /// Adds a session, which left the topic at `since`. Returns false if the session waits until
    /// the shell has said where the topic is.
    pub(super) fn enter(
        &mut self,
        fx: &mut Effects,
        at: TopicPlace,
        session: SessionPlace,
        since: Option<Position>,
    ) -> bool {
        let Some(topic) = self.get_mut(at) else {
            return false;
        };
        let before = topic.cost();
        if let Err(index) = topic.subscribers.binary_search(&session) {
            topic.subscribers.insert(index, session);
        }
        let is_joined = match &mut topic.state {
            State::Joining { waiting, .. } => {
                waiting.push((session, since));
                false
            }
            State::Joined(_) => true,
        };
        fx.charge(Charge::Topics, before, topic.cost());
        is_joined
    }

    /// Takes a session out. A topic that nobody wants any more is left.
    pub(super) fn leave(&mut self, fx: &mut Effects, at: TopicPlace, session: SessionPlace) {
        let Some(topic) = self.get_mut(at) else {
            return;
        };
        let before = topic.cost();
        if let Ok(index) = topic.subscribers.binary_search(&session) {
            topic.subscribers.remove(index);
        }
        if let State::Joining { waiting, .. } = &mut topic.state {
            waiting.retain(|(candidate, _)| *candidate != session);
        }
        if !topic.subscribers.is_empty() {
            fx.charge(Charge::Topics, before, topic.cost());
            return;
        }
        fx.stats.topics.subscribed -= 1;
        fx.charge(Charge::Topics, before, 0);
        match self.remove(at) {
            Some(Topic { state: State::Joined(Joined { id, .. }), .. }) => {
                fx.order(Output::TopicUnwanted { topic: id });
            }
            Some(Topic { state: State::Joining { ask, .. }, .. }) => fx.withdraw(ask),
            None => {}
        }
    }

    fn remove(&mut self, at: TopicPlace) -> Option<Topic> {
        let topic = self.topics.get_mut(at.0 as usize)?.take()?;
        if let Some(founder) = &topic.founder {
            founder.remove(Count::Topics);
        }
        self.free.give_back(at.0);
        self.by_name.remove(&topic.name);
        if let State::Joined(Joined { id, .. }) = topic.state {
            self.by_id.remove(&id);
        }
        Some(topic)
    }

    /// The shell has said where a topic is: tells the sessions that wait.
    pub(super) fn join(
        &mut self,
        fx: &mut Effects,
        sessions: &mut Sessions,
        at: TopicPlace,
        joined: Joined,
    ) {
        let Some(topic) = self.get_mut(at) else {
            return;
        };
        let State::Joining { waiting, .. } = &mut topic.state else {
            return;
        };
        let waiting = std::mem::take(waiting);
        let before = waiting.capacity() * WAITING + topic.cost();
        topic.state = State::Joined(joined);
        fx.charge(Charge::Topics, before, topic.cost());
        self.by_id.insert(joined.id, at);
        for (place, since) in waiting {
            if let Some(session) = sessions.get_mut(place) {
                session.topic_joined(fx, self, at, since);
            }
        }
    }

    /// The shell has said that a topic cannot be had: refuses all sessions that wait for it.
    pub(super) fn refuse(
        &mut self,
        fx: &mut Effects,
        sessions: &mut Sessions,
        at: TopicPlace,
        refusal: &Refusal<'_>,
    ) {
        let places = self.get(at).map(|topic| topic.subscribers.clone()).unwrap_or_default();
        for place in places {
            fx.stats.topics.subscriptions_refused += 1;
            if let Some(session) = sessions.get_mut(place) {
                session.finish_subscription(fx, self, at, refusal);
            }
        }
    }

    /// Passes publications of one topic, in order, to the sessions that have it. What is handed
    /// over together is looked at together: each session is looked up once for all.
    pub(super) fn publish(
        &mut self,
        fx: &mut Effects,
        sessions: &mut Sessions,
        publications: &[Publication],
    ) {
        let Some(last) = publications.last() else {
            return;
        };
        let Some(&at) = self.by_id.get(&last.topic) else {
            return;
        };
        let Some(topic) = self.get_mut(at) else {
            return;
        };
        let State::Joined(Joined { position, policy, .. }) = &mut topic.state else {
            return;
        };
        // What was under way when this registry left the topic and joined it again is no news.
        let news = publications.partition_point(|it| it.position <= *position);
        let publications = &publications[news..];
        if publications.is_empty() {
            return;
        }
        (*position, fx.stats.topics.publications) =
            (last.position, fx.stats.topics.publications + publications.len() as u64);
        let policy = *policy;
        let mut links = Vec::with_capacity(topic.subscribers.len());
        let mut slow = Vec::new();
        let mut kept = 0;
        let len = publications.iter().map(|it| it.frame.len()).sum::<usize>();
        let burst = Burst::new(publications.iter().map(|it| Arc::clone(&it.frame)));
        fx.meter_is(last.frame.meter_of_all());
        let is_pressed = fx.is_pressed();
        for &place in &topic.subscribers {
            let Some(session) = sessions.get_mut(place) else {
                continue;
            };
            let is_slow = session.is_behind(fx) || session.recovers();
            if is_slow || is_pressed && fx.drops_publications_of(session) {
                slow.push(place);
                continue;
            }
            links.extend(session.push_burst(fx, &burst, len));
            kept += 1;
        }
        fx.stats.memory.kept_bytes += len * kept;
        fx.stats.topics.deliveries += (kept * publications.len()) as u64;
        fx.stats.memory.queued_bytes += len * links.len();
        if !links.is_empty() {
            let frames = publications.iter().map(|it| Arc::clone(&it.frame)).collect();
            fx.order(Output::Publish { frames, links });
        }
        for place in slow {
            let Some(session) = sessions.get_mut(place) else {
                continue;
            };
            session.take_aside(fx, self, at, policy, publications);
        }
    }
}

/// Why sessions may not have a topic.
#[derive(Clone, Copy)]
pub(super) struct Refusal<'a> {
    pub(super) reason: UnsubscribedReason,
    pub(super) retry: Option<Duration>,
    pub(super) message: &'a str,
}

/// The bytes of a session that waits until the shell has said where a topic is.
const WAITING: usize = size_of::<(SessionPlace, Option<Position>)>();

impl Topic {
    /// Returns the memory that it takes in its registry.
    fn cost(&self) -> usize {
        let state = match &self.state {
            State::Joining { waiting, .. } => ASK + waiting.capacity() * WAITING,
            State::Joined(_) => 0,
        };
        let subscribers = self.subscribers.capacity() * size_of::<SessionPlace>();
        // With its entries by name and by number.
        size_of::<Option<Self>>() + 2 * ENTRY + ARC + self.name.len() + state + subscribers
    }

    pub(super) const fn joined(&self) -> Option<Joined> {
        match self.state {
            State::Joining { .. } => None,
            State::Joined(joined) => Some(joined),
        }
    }
}
