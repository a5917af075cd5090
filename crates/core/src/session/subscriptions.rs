//! Topics as one registry sees them: who wants which, and what goes to whom.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tabmux_wire::{
    Position, ServerFrame, SessionId, Subscribed, TopicId, Unsubscribed, UnsubscribedReason,
};

use super::{
    Output, Publication, Registry, SlowPolicy,
    backlog::Entry,
    config,
    lane::{Burst, Kept},
    places::FreeList,
    state::{Session, Stage, Subscription},
};
use crate::Timestamp;

/// The topics that somebody here wants.
#[derive(Default)]
pub(super) struct TopicTable {
    topics: Vec<Option<Topic>>,
    free: FreeList,
    by_name: BTreeMap<Arc<str>, u32>,
    by_id: BTreeMap<TopicId, u32>,
}

struct Topic {
    name: Arc<str>,
    state: State,
    /// Places of sessions.
    subscribers: Vec<u32>,
}

enum State {
    /// The shell was asked for the topic. For each session that waits, where it left the topic.
    Joining(Vec<(u32, Option<Position>)>),
    Joined {
        id: TopicId,
        position: Position,
        policy: SlowPolicy,
    },
}

impl TopicTable {
    fn get(&self, place: u32) -> Option<&Topic> {
        self.topics.get(place as usize)?.as_ref()
    }

    fn get_mut(&mut self, place: u32) -> Option<&mut Topic> {
        self.topics.get_mut(place as usize)?.as_mut()
    }

    fn insert(&mut self, name: &str) -> u32 {
        let (place, name) = (self.free.take(), Arc::<str>::from(name));
        let state = State::Joining(Vec::new());
        let topic = Topic { name: Arc::clone(&name), state, subscribers: Vec::new() };
        if self.topics.len() <= place as usize {
            self.topics.resize_with(place as usize + 1, || None);
        }
        self.topics[place as usize] = Some(topic);
        self.by_name.insert(name, place);
        place
    }

    fn remove(&mut self, place: u32) -> Option<Topic> {
        let topic = self.topics.get_mut(place as usize)?.take()?;
        self.free.give_back(place);
        self.by_name.remove(&topic.name);
        if let State::Joined { id, .. } = topic.state {
            self.by_id.remove(&id);
        }
        Some(topic)
    }
}

impl Registry {
    /// SUBSCRIBE.
    pub(super) fn on_subscribe(
        &mut self,
        place: u32,
        request: u64,
        since: Option<Position>,
        name: &str,
    ) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let known = self.topics.by_name.get(name).copied();
        let subscribed = |at: &u32| session.subscriptions.iter().any(|it| it.topic == *at);
        if let Some(at) = known.filter(subscribed) {
            self.answer_again(place, at, request, since);
            return;
        }
        let limit = self.config.subscriptions as usize;
        if session.subscriptions.len() >= limit {
            let message = format!("a browser may subscribe to {limit} topics on this server");
            self.stats.subscriptions_refused += 1;
            let reason = UnsubscribedReason::Limit;
            self.send_unsubscribed(place, request, reason, None, name, &message);
            return;
        }
        let at = known.unwrap_or_else(|| {
            let at = self.topics.insert(name);
            self.stats.topics += 1;
            if let Some(topic) = self.topics.get(at) {
                self.outputs.push_back(Output::TopicWanted { name: Arc::clone(&topic.name) });
            }
            at
        });
        self.add_subscriber(place, at, request);
        let Some(topic) = self.topics.get_mut(at) else {
            return;
        };
        match &mut topic.state {
            State::Joining(waiting) => waiting.push((place, since)),
            State::Joined { .. } => self.send_subscribed(place, at, request, since),
        }
    }

    /// UNSUBSCRIBE.
    pub(super) fn on_unsubscribe(&mut self, place: u32, name: &str) {
        if let Some(&at) = self.topics.by_name.get(name) {
            self.end_subscription(place, at);
        }
    }

    /// A topic that was wanted is there: it is at `position`, and every publication after that
    /// will be told. Does nothing if nobody wants it any more.
    pub fn topic_joined(
        &mut self,
        now: Timestamp,
        name: &str,
        id: TopicId,
        position: Position,
        policy: SlowPolicy,
    ) {
        self.advance(now);
        let Some(&at) = self.topics.by_name.get(name) else {
            self.outputs.push_back(Output::TopicUnwanted { topic: id });
            return;
        };
        let Some(topic) = self.topics.get_mut(at) else {
            return;
        };
        if let State::Joining(waiting) = &mut topic.state {
            let waiting = std::mem::take(waiting);
            topic.state = State::Joined { id, position, policy };
            self.topics.by_id.insert(id, at);
            for (place, since) in waiting {
                if let Some(subscription) = self.subscription(place, at) {
                    self.send_subscribed(place, at, subscription.request, since);
                }
            }
        }
        self.settle();
    }

    /// A topic that was wanted cannot be had: all who wait for it are refused.
    pub fn topic_refused(
        &mut self,
        now: Timestamp,
        name: &str,
        reason: UnsubscribedReason,
        retry: Option<Duration>,
        message: &str,
    ) {
        self.advance(now);
        let at = self.topics.by_name.get(name).copied();
        let Some(at) = at.filter(|at| self.is_joining(*at)) else {
            return;
        };
        let places = self.topics.get(at).map(|topic| topic.subscribers.clone());
        for place in places.unwrap_or_default() {
            self.stats.subscriptions_refused += 1;
            self.finish_subscription(place, at, reason, retry, message);
        }
        self.settle();
    }

    /// Publications of one topic, in order, which go to the links that want it. What is handed
    /// over together is looked at together: each link is looked up once for all.
    pub fn publish(&mut self, now: Timestamp, publications: &[Publication]) {
        self.advance(now);
        let Some(last) = publications.last() else {
            return;
        };
        let Some(&at) = self.topics.by_id.get(&last.topic) else {
            return;
        };
        let Some(topic) = self.topics.get_mut(at) else {
            return;
        };
        let State::Joined { position, policy, .. } = &mut topic.state else {
            return;
        };
        // What was under way when this registry left the topic and joined it again is no news.
        let news = publications.partition_point(|it| it.position <= *position);
        let publications = &publications[news..];
        if publications.is_empty() {
            return;
        }
        (*position, self.stats.publications) =
            (last.position, self.stats.publications + publications.len() as u64);
        let policy = *policy;
        let subscribers = std::mem::take(&mut topic.subscribers);
        let (mut links, mut slow) = (Vec::with_capacity(subscribers.len()), Vec::new());
        let mut kept = 0;
        let len = publications.iter().map(|it| it.frame.len()).sum::<usize>();
        let burst = Burst::new(publications.iter().map(|it| Arc::clone(&it.frame)));
        let (window, lane) = (self.config.window_bytes, self.config.lane_bytes);
        for &place in &subscribers {
            let Some(session) = self.sessions.get_mut(place) else {
                continue;
            };
            let behind = session.slow.as_ref().is_some_and(|it| !it.backlog.is_empty());
            if behind || session.unwritten > window || session.lane0.bytes() > lane {
                slow.push(place);
                continue;
            }
            session.lane0.push_burst(&burst, len);
            session.kept += len;
            kept += 1;
            match session.stage {
                Stage::Attached(link) => {
                    session.unwritten += len;
                    links.push(link);
                }
                Stage::Detached { since } => {
                    self.keeping.insert((since, session.id));
                }
            }
        }
        self.stats.kept_bytes += len * kept;
        self.stats.deliveries += (kept * publications.len()) as u64;
        self.stats.queued_bytes += len * links.len();
        if let Some(topic) = self.topics.get_mut(at) {
            topic.subscribers = subscribers;
        }
        if !links.is_empty() {
            let frames = publications.iter().map(|it| Arc::clone(&it.frame)).collect();
            self.outputs.push_back(Output::Publish { frames, links });
        }
        for place in slow {
            // Until the subscription ends, if it does.
            let mut held = publications.iter().map(|it| self.hold(place, at, policy, it));
            held.all(|goes_on| goes_on);
        }
        self.settle();
    }

    /// Keeps a publication for a hub that is behind, as the topic's policy wants it; whether the
    /// subscription goes on.
    fn hold(&mut self, place: u32, at: u32, policy: SlowPolicy, publication: &Publication) -> bool {
        let full = self.stats.held_bytes() > self.config.total_queue_bytes;
        let Some(session) = self.sessions.get_mut(place) else {
            return false;
        };
        let backlog = &mut session.slow.get_or_insert_default().backlog;
        let before = backlog.bytes();
        if policy == SlowPolicy::KeepLatest {
            self.stats.dropped_replaced += backlog.remove(at);
        }
        let Publication { position, frame, .. } = publication;
        let fits = !full && backlog.bytes_with(frame) <= self.config.backlog_bytes;
        if fits {
            backlog.push(at, Arc::clone(frame));
        } else if policy != SlowPolicy::Recover {
            backlog.push_gap(at, position.offset);
            self.stats.dropped_gap += 1;
        }
        self.stats.queued_bytes = self.stats.queued_bytes + backlog.bytes() - before;
        let goes_on = fits || policy != SlowPolicy::Recover;
        if !goes_on {
            self.stats.slow_subscriptions += 1;
            // What waits goes with the subscription, and so does this one.
            self.stats.dropped_recover += self.drop_backlog(place, at) + 1;
            let retry = Some(self.config.slow_retry);
            let message = "this browser does not read fast enough";
            self.finish_subscription(place, at, UnsubscribedReason::Slow, retry, message);
        }
        goes_on
    }

    /// Gives a hub that has read, or acknowledged, what waits for it, as far as there is room.
    pub(super) fn release(&mut self, place: u32) {
        let (window, lane) = (self.config.window_bytes, self.config.lane_bytes);
        while let Some(session) = self.sessions.get_mut(place) {
            if session.unwritten > window || session.lane0.bytes() > lane {
                return;
            }
            let (id, link) = (session.id, session.link());
            let Some(slow) = &mut session.slow else {
                return;
            };
            let before = slow.backlog.bytes();
            let Some(entry) = slow.backlog.pop() else {
                session.tidy_slow();
                return;
            };
            self.stats.queued_bytes -= before - slow.backlog.bytes();
            match entry {
                Entry::Publication { frame, .. } => {
                    let burst = Burst::new(std::iter::once(Arc::clone(&frame)));
                    session.lane0.push_burst(&burst, frame.len());
                    session.kept += frame.len();
                    self.stats.kept_bytes += frame.len();
                    self.stats.deliveries += 1;
                    if let Some(link) = link {
                        self.send_kept(link, vec![Kept::Shared(frame)]);
                    }
                }
                Entry::Gap { topic, offset } => self.send_gap(id, topic, offset),
            }
        }
    }

    /// Tells a hub, which goes on with a session, its topics: where each is before the `frames` of
    /// lane 0 that it gets next, and before what waits.
    pub(super) fn list_subscriptions(&mut self, place: u32, frames: &[Kept]) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let Some(link) = session.link() else {
            return;
        };
        // In one pass: a hub may have many topics, and keep much unacknowledged.
        let mut firsts = BTreeMap::new();
        for (id, before) in frames.iter().filter_map(Kept::before) {
            firsts.entry(id).or_insert(before);
        }
        let mut listed = Vec::with_capacity(session.subscriptions.len());
        for subscription in &mut session.subscriptions {
            let Some(topic) = self.topics.get(subscription.topic) else {
                continue;
            };
            let State::Joined { id, position, .. } = topic.state else {
                continue;
            };
            subscription.request = 0;
            let kept = firsts.get(&id).copied();
            let waits = || session.slow.as_ref()?.backlog.before(subscription.topic);
            let waits = || waits().map(|offset| Position { offset, ..position });
            let position = kept.or_else(waits).unwrap_or(position);
            listed.push((id, position, Arc::clone(&topic.name)));
        }
        for (topic, position, name) in listed {
            let (request, recovered) = (0, true);
            let subscribed = Subscribed { request, topic, recovered, position, name: &name };
            self.send_frame(link, &ServerFrame::Subscribed(subscribed));
        }
    }

    /// Forgets wishes of a link that is gone for topics that are not joined yet. The hub asks
    /// again, and another hub may ask from elsewhere, with the same number: it would take the
    /// answer to the one before for its own.
    pub(super) fn forget_wishes(&mut self, place: u32) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let topics = session.subscriptions.iter().map(|subscription| subscription.topic);
        for at in topics.filter(|at| self.is_joining(*at)).collect::<Vec<_>>() {
            self.end_subscription(place, at);
        }
    }

    /// Ends all subscriptions of a session that is taken out.
    pub(super) fn forget_subscriptions(&mut self, place: u32, subscriptions: &[Subscription]) {
        for subscription in subscriptions {
            self.stats.subscriptions -= 1;
            self.remove_subscriber(place, *subscription);
        }
    }

    fn is_joining(&self, at: u32) -> bool {
        self.topics.get(at).is_some_and(|topic| matches!(topic.state, State::Joining(_)))
    }

    fn subscription(&self, place: u32, at: u32) -> Option<Subscription> {
        let session = self.sessions.get(place)?;
        session.subscriptions.iter().find(|it| it.topic == at).copied()
    }

    fn add_subscriber(&mut self, place: u32, at: u32, request: u64) {
        let (Some(topic), Some(session)) = (self.topics.get_mut(at), self.sessions.get_mut(place))
        else {
            return;
        };
        let index = topic.subscribers.len() as u32;
        topic.subscribers.push(place);
        if session.subscriptions.len() < 4 {
            session.subscriptions.reserve_exact(1);
        }
        session.subscriptions.push(Subscription { topic: at, index, request });
        self.stats.subscriptions += 1;
    }

    /// Ends a subscription without a word; the one that was there.
    fn end_subscription(&mut self, place: u32, at: u32) -> Option<Subscription> {
        let session = self.sessions.get_mut(place)?;
        let index = session.subscriptions.iter().position(|it| it.topic == at)?;
        let subscription = session.subscriptions.swap_remove(index);
        self.drop_backlog(place, at);
        self.stats.subscriptions -= 1;
        self.remove_subscriber(place, subscription);
        Some(subscription)
    }

    /// Takes a session out of a topic's list; the last one there takes its index.
    fn remove_subscriber(
        &mut self,
        place: u32,
        Subscription { topic: at, index, .. }: Subscription,
    ) {
        let Some(topic) = self.topics.get_mut(at) else {
            return;
        };
        topic.subscribers.swap_remove(index as usize);
        if let State::Joining(waiting) = &mut topic.state {
            waiting.retain(|(candidate, _)| *candidate != place);
        }
        let moved = topic.subscribers.get(index as usize).copied();
        if topic.subscribers.is_empty() {
            self.stats.topics -= 1;
            if let Some(Topic { state: State::Joined { id, .. }, .. }) = self.topics.remove(at) {
                self.outputs.push_back(Output::TopicUnwanted { topic: id });
            }
        }
        let moved = moved.and_then(|moved| self.sessions.get_mut(moved));
        let moved = moved.and_then(|it| it.subscriptions.iter_mut().find(|it| it.topic == at));
        if let Some(moved) = moved {
            moved.index = index;
        }
    }

    /// Ends a subscription and says why.
    fn finish_subscription(
        &mut self,
        place: u32,
        at: u32,
        reason: UnsubscribedReason,
        retry: Option<Duration>,
        message: &str,
    ) {
        let Some(name) = self.topics.get(at).map(|topic| Arc::clone(&topic.name)) else {
            return;
        };
        if let Some(Subscription { request, .. }) = self.end_subscription(place, at) {
            self.send_unsubscribed(place, request, reason, retry, &name, message);
        }
    }

    /// Answers a SUBSCRIBE of what is subscribed already. While the topic is being joined, the
    /// one answer that is due names the latest request. What waits of the topic lies before the
    /// position that is told now, so it goes, and the hub hears that it is not all.
    fn answer_again(&mut self, place: u32, at: u32, request: u64, since: Option<Position>) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        if let Some(it) = session.subscriptions.iter_mut().find(|it| it.topic == at) {
            it.request = request;
        }
        let dropped = self.drop_backlog(place, at);
        self.stats.dropped_gap += dropped;
        self.send_subscribed(place, at, request, since.filter(|_| dropped == 0));
    }

    /// Takes what waits of a topic out of a session's backlog; how many publications that was.
    fn drop_backlog(&mut self, place: u32, at: u32) -> u64 {
        let Some(session) = self.sessions.get_mut(place) else {
            return 0;
        };
        let Some(slow) = &mut session.slow else {
            return 0;
        };
        let before = slow.backlog.bytes();
        let dropped = slow.backlog.remove(at);
        self.stats.queued_bytes -= before - slow.backlog.bytes();
        session.tidy_slow();
        dropped
    }

    fn send_subscribed(&mut self, place: u32, at: u32, request: u64, since: Option<Position>) {
        let Some(link) = self.sessions.get(place).and_then(Session::link) else {
            return;
        };
        let Some(topic) = self.topics.get(at) else {
            return;
        };
        if let State::Joined { id, position, .. } = topic.state {
            // Without history, nothing was missed only if there was nothing.
            let recovered = since == Some(position);
            let name = Arc::clone(&topic.name);
            let subscribed = Subscribed { request, topic: id, recovered, position, name: &name };
            self.send_frame(link, &ServerFrame::Subscribed(subscribed));
        }
    }

    fn send_unsubscribed(
        &mut self,
        place: u32,
        request: u64,
        reason: UnsubscribedReason,
        retry: Option<Duration>,
        name: &str,
        message: &str,
    ) {
        let Some(link) = self.sessions.get(place).and_then(Session::link) else {
            return;
        };
        let retry_ms = retry.map(config::millis);
        let unsubscribed = Unsubscribed { request, reason, retry_ms, name, message };
        self.send_frame(link, &ServerFrame::Unsubscribed(unsubscribed));
    }

    fn send_gap(&mut self, session: SessionId, at: u32, offset: u64) {
        if let Some(Topic { state: State::Joined { id, position, .. }, .. }) = self.topics.get(at) {
            let position = Position { epoch: position.epoch, offset };
            let gap = ServerFrame::Gap { topic: *id, position };
            self.push_lane0(session, gap.to_bytes().into());
        }
    }
}
