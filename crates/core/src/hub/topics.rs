//! The topics that tabs want: each is subscribed once for the browser.

use std::time::Duration;

use tabmux_wire::{
    HubFrame, MAX_TOPIC_NAME, Payload, Position, Subscribed, TabId, TopicId, Unsubscribed,
};

use super::{
    base::{Base, Subscription},
    io::{Event, HubMessage, SubscriptionId, WakeReason},
    link::LONGEST_HINT,
    resume::{Cache, Hearing, History},
    text::text,
};
use crate::Timestamp;

/// All topics of a hub. Some dozens at most, so looking is quick.
#[derive(Debug, Default)]
pub(super) struct Topics {
    topics: Vec<Topic>,
    /// The last request that was sent. On one link none is used twice.
    requests: u64,
}

#[derive(Debug)]
struct Topic {
    name: String,
    state: State,
    /// Where the topic was when this hub last heard of it.
    last: Option<Position>,
    /// What the hub heard last.
    cache: Cache,
    /// In the order of their numbers, so that tabs with the same number get one message.
    listeners: Vec<Listener>,
    /// The session has it, and a tab that has not attached yet may want it.
    kept: bool,
}

/// How the server knows a topic.
#[derive(Debug)]
enum State {
    /// It does not; it is asked when there is a link and a listener that hears.
    Unknown,
    /// SUBSCRIBE is sent.
    Asked {
        request: u64,
    },
    Subscribed {
        request: u64,
        topic: TopicId,
    },
    /// It said to ask again then.
    Later {
        until: Timestamp,
    },
}

/// One subscription of one tab.
#[derive(Debug)]
struct Listener {
    number: SubscriptionId,
    tab: TabId,
    hearing: Hearing,
}

impl Topics {
    /// Called when a tab wants a topic, which it left at a position. `is_away`: it hears nothing
    /// before [`tab_back`](Self::tab_back).
    pub(super) fn subscribe(
        &mut self,
        base: &mut Base,
        wish: Subscription<'_>,
        is_open: bool,
        is_away: bool,
        history: &History,
    ) {
        let Subscription { tab, number, name, since } = wish;
        let mine = self.topics.iter().flat_map(|topic| &topic.listeners);
        let mine = mine.filter(|it| it.tab == tab).map(|it| it.number);
        let (mut count, mut in_use) = (0, false);
        for other in mine {
            (count, in_use) = (count + 1, in_use || other == number);
        }
        let limit = base.config.topics;
        let refusal = if in_use {
            return self.subscribe_again(base, wish, is_away, history);
        } else if name.is_empty() || name.len() > MAX_TOPIC_NAME {
            Some(text!("tabmux: the name of a topic has 1 to ", MAX_TOPIC_NAME, " bytes"))
        } else if count >= limit || self.find(name).is_none() && self.topics.len() >= limit {
            Some(text!("tabmux: a browser has ", limit, " topics at most"))
        } else {
            None
        };
        if let Some(message) = refusal {
            base.post(tab, HubMessage::Unsubscribed { subscription: number, message });
            return;
        }
        let at = self.find(name).unwrap_or_else(|| {
            self.topics.push(Topic::new(name, since));
            self.topics.len() - 1
        });
        let topic = &mut self.topics[at];
        let place = topic.listeners.partition_point(|it| it.number <= number);
        let hearing = if is_away { Hearing::AwayWaits(since) } else { Hearing::Waits(since) };
        topic.listeners.insert(place, Listener { number, tab, hearing });
        topic.welcome(base, false, history);
        self.ask(base, is_open);
    }

    /// Called when a tab says again what it wants, through another port: what was posted to the one
    /// before may be lost.
    fn subscribe_again(
        &mut self,
        base: &mut Base,
        wish: Subscription<'_>,
        is_away: bool,
        history: &History,
    ) {
        let Subscription { tab, number, name, since } = wish;
        let mine = |it: &&mut Listener| it.tab == tab && it.number == number;
        if let Some(topic) = self.find(name).and_then(|at| self.topics.get_mut(at))
            && let Some(listener) = topic.listeners.iter_mut().find(mine)
        {
            listener.hearing.begins_again(since, topic.last);
            if is_away {
                listener.hearing.goes_away(topic.last, true);
            }
            return topic.welcome(base, false, history);
        }
        base.event(Event::BadTabMessage(tab));
    }

    /// Called when a tab wants a topic no more.
    pub(super) fn unsubscribe(&mut self, base: &mut Base, tab: TabId, number: SubscriptionId) {
        self.remove(base, |it| it.tab == tab && it.number == number);
    }

    /// Called when a tab is no more.
    pub(super) fn tab_gone(&mut self, base: &mut Base, tab: TabId) {
        self.remove(base, |it| it.tab == tab);
    }

    /// Called when a tab goes away. `lossy`: what was posted to it before may be lost.
    pub(super) fn tab_away(&mut self, base: &mut Base, tab: TabId, lossy: bool) {
        for topic in &mut self.topics {
            for listener in topic.listeners.iter_mut().filter(|it| it.tab == tab) {
                listener.hearing.goes_away(topic.last, lossy);
            }
            topic.let_go(base);
        }
    }

    /// Called when a tab is there, for the first time or again.
    pub(super) fn tab_back(
        &mut self,
        base: &mut Base,
        tab: TabId,
        is_open: bool,
        history: &History,
    ) {
        for topic in &mut self.topics {
            topic.welcome_back(base, tab, history);
        }
        self.ask(base, is_open);
    }

    /// Called when the server may be asked for topics: HELLO is said, and the server has listed the
    /// topics that the session has.
    pub(super) fn link_opened(&mut self, base: &mut Base) {
        self.ask(base, true);
    }

    /// Called when the link is gone. The server knows nothing any more.
    pub(super) fn link_lost(&mut self) {
        for topic in &mut self.topics {
            topic.state = State::Unknown;
        }
    }

    pub(super) fn subscribed(&mut self, base: &mut Base, subscribed: &Subscribed<'_>) {
        let Some(at) = self.find(subscribed.name) else {
            return;
        };
        let topic = &mut self.topics[at];
        let State::Asked { request } = topic.state else {
            return;
        };
        // The answer to a request before this one: the hub has changed its mind twice.
        if request != subscribed.request {
            return;
        }
        topic.state = State::Subscribed { request, topic: subscribed.topic };
        let position = subscribed.position;
        let before = topic.last.map(|last| in_epoch_of(last, position));
        let continues = subscribed.recovered && before.is_some();
        let missed = !continues && before != Some(position);
        if let Some(before) = before.filter(|_| continues) {
            if topic.last != Some(before) {
                topic.cache.begin(before);
            }
            topic.last = Some(before);
        } else {
            topic.goes_on_at(position);
        }
        topic.welcome(base, missed, &History::Off);
    }

    /// Called when the server lists a topic that the session has: everything after this position
    /// follows.
    pub(super) fn listed(&mut self, base: &mut Base, listed: &Subscribed<'_>, history: &History) {
        let known = self.find(listed.name);
        if known.is_none() && self.topics.len() >= base.config.topics {
            let unsubscribe = HubFrame::Unsubscribe { topic: listed.name };
            return base.send_control(unsubscribe.to_bytes());
        }
        let at = known.unwrap_or_else(|| {
            self.topics.push(Topic::new(listed.name, None));
            self.topics.len() - 1
        });
        let topic = &mut self.topics[at];
        topic.state = State::Subscribed { request: 0, topic: listed.topic };
        let before = topic.last.map(|last| in_epoch_of(last, listed.position));
        if before != Some(listed.position) {
            topic.cache.begin(listed.position);
        }
        topic.last = Some(listed.position);
        // They may be ahead of it, in a session that this hub had lost: what came comes again.
        for listener in &mut topic.listeners {
            before.into_iter().for_each(|before| listener.hearing.was_at(before));
        }
        topic.reach(listed.position);
        // A tab may have said what it wants while there was no link.
        topic.welcome(base, before != Some(listed.position), history);
        topic.kept = base.tabs.any_awaited();
        self.tidy(base, |topic| !topic.kept);
    }

    /// Called when all tabs that the session had have attached or are gone.
    pub(super) fn all_came(&mut self, base: &mut Base) {
        self.tidy(base, |topic| std::mem::take(&mut topic.kept));
    }

    /// Called when the session is gone, and with it its topics.
    pub(super) fn session_lost(&mut self) {
        self.topics.iter_mut().for_each(|topic| topic.kept = false);
        self.topics.retain(|topic| !topic.listeners.is_empty());
    }

    /// Lets go of topics that nobody wants.
    fn tidy(&mut self, base: &mut Base, mut wanted: impl FnMut(&mut Topic) -> bool) {
        for topic in &mut self.topics {
            if wanted(topic) {
                topic.let_go(base);
            }
        }
        self.topics.retain(|topic| topic.kept || !topic.listeners.is_empty());
    }

    pub(super) fn unsubscribed(
        &mut self,
        now: Timestamp,
        base: &mut Base,
        unsubscribed: &Unsubscribed<'_>,
    ) {
        let Some(at) = self.find(unsubscribed.name) else {
            return;
        };
        match self.topics[at].state {
            State::Asked { request } | State::Subscribed { request, .. }
                if request == unsubscribed.request => {}
            State::Unknown
            | State::Asked { .. }
            | State::Subscribed { .. }
            | State::Later { .. } => return,
        }
        if let Some(retry) = unsubscribed.retry_ms {
            let retry = Duration::from_millis(retry).min(LONGEST_HINT);
            // All browsers of a slow moment would come back together.
            let spread = (retry / 2).max(base.config.backoff_first);
            let until = now + retry + base.rng.below(spread);
            self.topics[at].state = State::Later { until };
            return;
        }
        let topic = self.topics.swap_remove(at);
        let message = unsubscribed.message;
        for Listener { number, tab, .. } in topic.listeners {
            let message = text!("tabmux: ", topic.name, " is refused: ", message);
            base.post(tab, HubMessage::Unsubscribed { subscription: number, message });
        }
    }

    pub(super) fn publication(
        &mut self,
        base: &mut Base,
        topic: TopicId,
        position: Position,
        previous: u64,
        payload: Payload<'_>,
    ) {
        let Some(topic) = self.by_id(topic) else {
            return;
        };
        let (mut news, mut missed) = (true, false);
        if let Some(last) = topic.last.map(|last| in_epoch_of(last, position)) {
            news = last.epoch != position.epoch || last.offset < position.offset;
            missed = last.epoch != position.epoch || last.offset != previous;
        }
        if !news {
            return;
        }
        topic.last = Some(position);
        // Not for those who were there already.
        let before = Position { offset: previous, ..position };
        if missed {
            topic.cache.begin(before);
            topic.reach(before);
            topic.post_gap(base, before);
        }
        topic.cache.begin_if_new(before);
        topic.cache.push(position, payload.into());
        topic.reach(position);
        topic.post(base, |subscription| {
            let payload = payload.into();
            HubMessage::Publication { subscription, position, payload }
        });
        self.bound_caches(base.config.held_bytes);
    }

    /// Drops publications that are kept for late tabs, as far as there are too many.
    fn bound_caches(&mut self, limit: usize) {
        let mut bytes = self.topics.iter().map(|topic| topic.cache.bytes()).sum::<usize>();
        while bytes > limit
            && let Some(topic) = self.topics.iter_mut().max_by_key(|topic| topic.cache.bytes())
        {
            bytes -= topic.cache.bytes();
            topic.cache.drop_first();
            bytes += topic.cache.bytes();
        }
    }

    pub(super) fn gap(&mut self, base: &mut Base, topic: TopicId, position: Position) {
        // A server that goes back would have the tabs hear again what they have heard.
        let is_news = |topic: &&mut Topic| {
            topic.last.is_none_or(|it| it.epoch != position.epoch || it.offset < position.offset)
        };
        if let Some(topic) = self.by_id(topic).filter(is_news) {
            topic.goes_on_at(position);
            topic.post_gap(base, position);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp, base: &mut Base, is_open: bool) {
        for topic in &mut self.topics {
            if matches!(topic.state, State::Later { until } if until <= now) {
                topic.state = State::Unknown;
            }
        }
        self.ask(base, is_open);
    }

    pub(super) fn poll_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        let later = self.topics.iter().filter_map(|topic| match topic.state {
            State::Later { until } => Some((until, WakeReason::Subscribe)),
            State::Unknown | State::Asked { .. } | State::Subscribed { .. } => None,
        });
        later.min()
    }

    /// Sends SUBSCRIBE for what is wanted and unknown to the server.
    fn ask(&mut self, base: &mut Base, is_open: bool) {
        for topic in self.topics.iter_mut().filter(|_| is_open) {
            if matches!(topic.state, State::Unknown) && topic.has_listeners() {
                self.requests += 1;
                let request = self.requests;
                topic.state = State::Asked { request };
                let (position, topic) = (topic.last, &*topic.name);
                base.send_control(HubFrame::Subscribe { request, position, topic }.to_bytes());
            }
        }
    }

    fn remove(&mut self, base: &mut Base, gone: impl Fn(&Listener) -> bool) {
        for topic in &mut self.topics {
            topic.listeners.retain(|it| !gone(it));
            topic.let_go(base);
        }
        self.topics.retain(|topic| topic.kept || !topic.listeners.is_empty());
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.topics.iter().position(|topic| topic.name == name)
    }

    fn by_id(&mut self, id: TopicId) -> Option<&mut Topic> {
        self.topics
            .iter_mut()
            .find(|it| matches!(it.state, State::Subscribed { topic, .. } if topic == id))
    }
}

impl Topic {
    fn new(name: &str, last: Option<Position>) -> Self {
        let (name, listeners) = (name.to_owned(), Vec::new());
        let mut cache = Cache::default();
        last.into_iter().for_each(|last| cache.begin(last));
        Self { name, state: State::Unknown, last, cache, listeners, kept: false }
    }

    /// Called when the hub goes on at a position, and nobody knows what came before.
    fn goes_on_at(&mut self, position: Position) {
        self.last = Some(position);
        self.cache.begin(position);
        self.reach(position);
    }

    fn has_listeners(&self) -> bool {
        self.kept || self.listeners.iter().any(|it| it.hearing.wants())
    }

    /// Called when the hub reaches a position: subscriptions that are not ahead of it hear it.
    fn reach(&mut self, position: Position) {
        self.listeners.iter_mut().for_each(|it| it.hearing.reaches(position));
    }

    /// Sends UNSUBSCRIBE if nobody hears the topic any more, and the server knows it: also while it
    /// tells which topics the session has, when nothing may be asked.
    fn let_go(&mut self, base: &mut Base) {
        if self.has_listeners() || matches!(self.state, State::Unknown) {
            return;
        }
        if !matches!(self.state, State::Later { .. }) {
            base.send_control(HubFrame::Unsubscribe { topic: &self.name }.to_bytes());
        }
        self.state = State::Unknown;
    }

    /// Tells subscriptions that wait that they hear the topic now, and those that heard it before
    /// that they missed something, if they did.
    fn welcome(&mut self, base: &mut Base, missed: bool, history: &History) {
        let (State::Subscribed { topic, .. }, Some(position)) = (&self.state, self.last) else {
            return;
        };
        for Listener { number, tab, hearing } in &mut self.listeners {
            let kept = (&self.cache, history);
            for told in hearing.is_subscribed(*number, *topic, position, missed, kept) {
                base.post(*tab, told);
            }
        }
    }

    /// Called when a tab that was away hears the topic again.
    fn welcome_back(&mut self, base: &mut Base, back: TabId, history: &History) {
        for listener in self.listeners.iter_mut().filter(|it| it.tab == back) {
            // Its browser may have dropped what was posted before it went, so nobody but its page
            // knows where it is. A publication that is told before that could hide an earlier one.
            if let Some(position) = listener.hearing.comes_back(self.last) {
                base.post(back, HubMessage::Gap { subscription: listener.number, position });
            }
        }
        self.welcome(base, false, history);
    }

    fn post_gap(&self, base: &mut Base, position: Position) {
        self.post(base, |subscription| HubMessage::Gap { subscription, position });
    }

    /// Posts to all subscriptions that hear the topic, once for each number.
    fn post(&self, base: &mut Base, message: impl Fn(SubscriptionId) -> HubMessage) {
        let heard = |it: &&Listener| it.hearing == Hearing::Hears;
        for same in self.listeners.chunk_by(|a, b| a.number == b.number) {
            let tabs = same.iter().filter(heard).map(|it| it.tab).collect::<Vec<_>>();
            if let (Some(first), false) = (same.first(), tabs.is_empty()) {
                base.post_all(tabs, &message(first.number));
            }
        }
    }
}

/// Returns a position as it stands beside another one: nothing yet is the same place in every
/// epoch.
const fn in_epoch_of(one: Position, other: Position) -> Position {
    if one.offset == 0 { Position { epoch: other.epoch, offset: 0 } } else { one }
}
