//! Topics as one session has them: asked for, had, behind, over.

use std::{collections::BTreeMap, sync::Arc};

use tabmux_wire::{ErrorCode, Position, ServerFrame, Subscribed, Unsubscribed, UnsubscribedReason};

use super::{
    Holder, Publication, SlowPolicy,
    account::Count,
    asks::{Ask, AskId, Asker, Denial},
    backlog::Entry,
    config,
    effects::Effects,
    lane::Kept,
    ledger::{ARC, ASK, Charge},
    state::Session,
    topic_table::{Joined, Refusal, TopicPlace, TopicTable},
};

/// A topic that a browser has. Sixteen bytes: most of what a server with topics holds is these.
#[derive(Clone, Copy)]
pub(super) struct Subscription {
    pub(super) topic: TopicPlace,
    /// The SUBSCRIBE that began it.
    pub(super) request: u64,
}

const _: () = assert!(size_of::<Subscription>() == 16, "most of what a server holds is these");

/// A question about a topic that the shell has not answered yet. It lives no longer than its link.
pub(super) struct Wish {
    pub(super) ask: AskId,
    purpose: Purpose,
    name: Arc<str>,
}

/// Why the shell is asked about a topic.
#[derive(Clone, Copy)]
enum Purpose {
    /// The hub wants the topic: it sent SUBSCRIBE with this request, and left the topic there.
    Begin { request: u64, since: Option<Position> },
    /// The browser has the topic, and may have lost the right to it.
    Review,
}

/// All questions about a browser's topics.
#[derive(Default)]
pub(super) struct Wishes(Vec<Wish>);

impl Wish {
    /// Returns the memory that it takes.
    fn cost(&self) -> usize {
        size_of::<Self>() + ARC + self.name.len() + ASK
    }

    /// Returns true if the browser does not have the topic yet.
    const fn begins(&self) -> bool {
        matches!(self.purpose, Purpose::Begin { .. })
    }
}

impl Session {
    /// Takes a SUBSCRIBE.
    pub(super) fn on_subscribe(
        &mut self,
        fx: &mut Effects,
        topics: &mut TopicTable,
        request: u64,
        since: Option<Position>,
        name: &str,
    ) {
        if let Some(at) = topics.find(name).filter(|at| self.has_topic(*at)) {
            self.answer_again(fx, topics, at, request, since);
            return;
        }
        if let Some(wish) = self.wish_named(name) {
            wish.purpose = Purpose::Begin { request, since };
            return;
        }
        let limit = fx.config.subscriptions as usize;
        if self.subscriptions.len() + self.wish_count() >= limit {
            let message = &format!("a browser may subscribe to {limit} topics on this server");
            let refusal = Refusal { reason: UnsubscribedReason::Limit, retry: None, message };
            fx.stats.topics.subscriptions_refused += 1;
            self.send_unsubscribed(fx, request, name, &refusal);
        } else if fx.config.ask_subscriptions {
            self.wish(fx, request, since, name);
        } else {
            self.subscribe(fx, topics, request, since, name);
        }
    }

    /// Takes an UNSUBSCRIBE.
    pub(super) fn on_unsubscribe(&mut self, fx: &mut Effects, topics: &mut TopicTable, name: &str) {
        if let Some(wish) = self.take_wish(fx, |wish| wish.begins() && *wish.name == *name) {
            fx.withdraw(wish.ask);
        } else if let Some(at) = topics.find(name) {
            self.end_subscription(fx, topics, at);
        }
    }

    /// Asks the shell whether the browser may have a topic.
    fn wish(&mut self, fx: &mut Effects, request: u64, since: Option<Position>, name: &str) {
        let name = Arc::<str>::from(name);
        let renews = false;
        let what = Ask::Subscribe { session: self.id, topic: Arc::clone(&name), since, renews };
        let Some(ask) = self.ask(fx, Asker::Subscribe(self.place()), what) else {
            let message = "too many questions of this browser wait for their answers";
            let (reason, retry) = (UnsubscribedReason::Limit, Some(fx.config.retry_after));
            fx.stats.topics.subscriptions_refused += 1;
            self.send_unsubscribed(fx, request, &name, &Refusal { reason, retry, message });
            return;
        };
        let purpose = Purpose::Begin { request, since };
        self.keep_wish(fx, Wish { ask, purpose, name });
    }

    fn keep_wish(&mut self, fx: &mut Effects, wish: Wish) {
        self.ledger.charge(fx, Charge::Asks, 0, wish.cost());
        self.wishes.get_or_insert_default().0.push(wish);
    }

    /// Asks the shell about every topic that the browser has or wishes for, since rights may have
    /// changed. Questions that are open are asked again. A session without a link is asked about
    /// when it has one.
    pub(super) fn review(&mut self, fx: &mut Effects, topics: &TopicTable) {
        if !fx.config.ask_subscriptions || self.link().is_none() {
            return;
        }
        let wishes = self.wishes.take().map(|wishes| wishes.0).unwrap_or_default();
        for mut wish in wishes {
            fx.withdraw(wish.ask);
            self.ledger.charge(fx, Charge::Asks, wish.cost(), 0);
            if let Purpose::Begin { since, .. } = wish.purpose {
                wish.ask = self.ask_again(fx, &wish.name, since, false);
                self.keep_wish(fx, wish);
            }
        }
        for subscription in self.subscriptions.clone() {
            if let Some(topic) = topics.get(subscription.topic) {
                let name = Arc::clone(&topic.name);
                let (ask, purpose) = (self.ask_again(fx, &name, None, true), Purpose::Review);
                self.keep_wish(fx, Wish { ask, purpose, name });
            }
        }
    }

    /// Asks about a topic past the limit of questions: there are at most as many as there are
    /// subscriptions.
    fn ask_again(
        &self,
        fx: &mut Effects,
        name: &Arc<str>,
        since: Option<Position>,
        renews: bool,
    ) -> AskId {
        let what = Ask::Subscribe { session: self.id, topic: Arc::clone(name), since, renews };
        fx.ask(Asker::Subscribe(self.place()), what)
    }

    fn wish_count(&self) -> usize {
        let wishes = self.wishes.iter().flat_map(|wishes| &wishes.0);
        wishes.filter(|wish| wish.begins()).count()
    }

    /// The shell has answered: the browser may have the topic.
    pub(super) fn wish_granted(&mut self, fx: &mut Effects, topics: &mut TopicTable, ask: AskId) {
        if let Some(Wish { purpose: Purpose::Begin { request, since }, name, .. }) =
            self.take_wish(fx, |wish| wish.ask == ask)
        {
            self.subscribe(fx, topics, request, since, &name);
        }
    }

    /// The shell has answered: the browser may not have the topic.
    pub(super) fn wish_denied(
        &mut self,
        fx: &mut Effects,
        topics: &mut TopicTable,
        ask: AskId,
        denial: &Denial<'_>,
    ) {
        let Some(Wish { purpose, name, .. }) = self.take_wish(fx, |wish| wish.ask == ask) else {
            return;
        };
        let refusal = Refusal::from(*denial);
        match purpose {
            Purpose::Begin { request, .. } => {
                fx.stats.topics.subscriptions_refused += 1;
                self.send_unsubscribed(fx, request, &name, &refusal);
            }
            Purpose::Review => {
                if let Some(at) = topics.find(&name).filter(|at| self.has_topic(*at)) {
                    fx.stats.topics.rights_lost += 1;
                    self.finish_subscription(fx, topics, at, &refusal);
                }
            }
        }
    }

    /// Withdraws all questions for topics, since the link that asked is gone.
    pub(super) fn withdraw_wishes(&mut self, fx: &mut Effects) {
        for wish in self.wishes.take().map(|wishes| wishes.0).unwrap_or_default() {
            if wish.begins() {
                self.question_ended();
            }
            self.ledger.charge(fx, Charge::Asks, wish.cost(), 0);
            fx.withdraw(wish.ask);
        }
    }

    fn wish_named(&mut self, name: &str) -> Option<&mut Wish> {
        let mut wishes = self.wishes.as_mut()?.0.iter_mut();
        wishes.find(|wish| wish.begins() && *wish.name == *name)
    }

    fn take_wish(&mut self, fx: &mut Effects, is_it: impl Fn(&Wish) -> bool) -> Option<Wish> {
        let Wishes(wishes) = &mut **self.wishes.as_mut()?;
        let index = wishes.iter().position(is_it)?;
        let wish = wishes.swap_remove(index);
        if wishes.is_empty() {
            self.wishes = None;
        }
        self.ledger.charge(fx, Charge::Asks, wish.cost(), 0);
        if wish.begins() {
            self.question_ended();
        }
        Some(wish)
    }

    /// Returns the memory of its subscriptions.
    pub(super) const fn subscriptions_cost(&self) -> usize {
        self.subscriptions.capacity() * size_of::<Subscription>()
    }

    fn has_topic(&self, at: TopicPlace) -> bool {
        self.subscriptions.iter().any(|it| it.topic == at)
    }

    fn subscribe(
        &mut self,
        fx: &mut Effects,
        topics: &mut TopicTable,
        request: u64,
        since: Option<Position>,
        name: &str,
    ) {
        if let Some(message) = self.account_is_full(fx, topics, name) {
            let (reason, retry) = (UnsubscribedReason::Limit, Some(fx.config.retry_after));
            fx.stats.topics.subscriptions_refused += 1;
            fx.stats.topics.account_full += 1;
            self.send_unsubscribed(
                fx,
                request,
                name,
                &Refusal { reason, retry, message: &message },
            );
            return;
        }
        let at = topics.want(fx, name, self.ledger.account());
        let before = self.subscriptions_cost();
        if self.subscriptions.len() < 4 {
            self.subscriptions.reserve_exact(1);
        }
        self.subscriptions.push(Subscription { topic: at, request });
        self.ledger.charge(fx, Charge::Topics, before, self.subscriptions_cost());
        fx.stats.topics.subscriptions += 1;
        if let Some(account) = self.ledger.account() {
            account.add(Count::Subscriptions);
        }
        if topics.enter(fx, at, self.place(), since) {
            self.answer_subscribe(fx, topics, at, request, since);
        }
    }

    /// Returns why the session's account may not have a topic more, if so.
    fn account_is_full(&self, fx: &Effects, topics: &TopicTable, name: &str) -> Option<String> {
        let account = self.ledger.account()?;
        let limits = fx.limits_of(account);
        let is_full = |what| limits.is_reached(what, account.count(what));
        let who = match account.holder() {
            Holder::User => "a user",
            Holder::Address => "an address",
        };
        if is_full(Count::Subscriptions) {
            let limit = limits.subscriptions;
            return Some(format!("{who} may have {limit} subscriptions on this server"));
        }
        let is_new = topics.find(name).is_none();
        let limit = limits.topics;
        (is_new && is_full(Count::Topics))
            .then(|| format!("{who} may bring up {limit} topics on this server"))
    }

    /// Tells the hub where a topic is that it waited for.
    pub(super) fn topic_joined(
        &mut self,
        fx: &mut Effects,
        topics: &TopicTable,
        at: TopicPlace,
        since: Option<Position>,
    ) {
        let subscription = self.subscriptions.iter().find(|it| it.topic == at);
        if let Some(&Subscription { request, .. }) = subscription {
            self.answer_subscribe(fx, topics, at, request, since);
        }
    }

    /// Returns true if publications for the hub wait: it has not read, or not acknowledged, so much
    /// that they are not counted yet.
    pub(super) fn is_behind(&self, fx: &Effects) -> bool {
        self.slow.as_ref().is_some_and(|it| !it.backlog.is_empty()) || !self.has_room(fx)
    }

    pub(super) fn has_room(&self, fx: &Effects) -> bool {
        self.unwritten <= fx.config.window_bytes && self.lane0.bytes() <= fx.config.lane_bytes
    }

    /// Keeps a publication for a hub that is behind, as the topic's policy wants it. Returns false
    /// if the subscription ends.
    pub(super) fn hold(
        &mut self,
        fx: &mut Effects,
        topics: &mut TopicTable,
        at: TopicPlace,
        policy: SlowPolicy,
        publication: &Publication,
    ) -> bool {
        let full = fx.drops_publications_of(self);
        let backlog = &mut self.slow.get_or_insert_default().backlog;
        let before = backlog.bytes();
        if policy == SlowPolicy::KeepLatest {
            fx.stats.topics.dropped_replaced += backlog.remove(at);
        }
        let Publication { position, frame, .. } = publication;
        let fits = !full && backlog.bytes_with(frame) <= fx.config.backlog_bytes;
        if fits {
            backlog.push(at, Arc::clone(frame));
        } else if policy != SlowPolicy::Recover {
            backlog.push_gap(at, position.offset);
            fx.stats.topics.dropped_gap += 1;
        }
        fx.stats.memory.queued_bytes = fx.stats.memory.queued_bytes + backlog.bytes() - before;
        self.charge_waiting(fx);
        let goes_on = fits || policy != SlowPolicy::Recover;
        if !goes_on {
            fx.stats.topics.slow_subscriptions += 1;
            // What waits goes with the subscription, and so does this one.
            fx.stats.topics.dropped_recover += self.drop_backlog(fx, at) + 1;
            let (reason, retry) = (UnsubscribedReason::Slow, Some(fx.config.slow_retry));
            let message = "this browser does not read fast enough";
            self.finish_subscription(fx, topics, at, &Refusal { reason, retry, message });
        }
        goes_on
    }

    /// Gives a hub that has read, or acknowledged, what waits for it, as far as there is room. Then
    /// it gets more of what it missed.
    pub(super) fn release(&mut self, fx: &mut Effects, topics: &TopicTable) {
        self.release_backlog(fx, topics);
        if self.recovers() {
            self.pull(fx, topics);
        }
    }

    fn release_backlog(&mut self, fx: &mut Effects, topics: &TopicTable) {
        while self.has_room(fx) {
            let Some(slow) = &mut self.slow else {
                return;
            };
            let before = slow.backlog.bytes();
            let Some(entry) = slow.backlog.pop() else {
                self.tidy_slow(fx);
                return;
            };
            fx.stats.memory.queued_bytes -= before - slow.backlog.bytes();
            match entry {
                Entry::Publication { frame, .. } => self.deliver(fx, frame),
                Entry::Gap { topic, offset } => self.send_gap(fx, topics, topic, offset),
            }
        }
    }

    /// Tells a hub, which goes on with the session, its topics: where each is before the `frames`
    /// of lane 0 that it gets next, and before what waits.
    pub(super) fn list_subscriptions(
        &mut self,
        fx: &mut Effects,
        topics: &TopicTable,
        frames: &[Kept],
    ) {
        // In one pass: a hub may have many topics, and keep much unacknowledged.
        let mut firsts = BTreeMap::new();
        for (id, before) in frames.iter().filter_map(Kept::before) {
            firsts.entry(id).or_insert(before);
        }
        let waiting = self.slow.as_ref().map(|slow| slow.backlog.firsts()).unwrap_or_default();
        let topics_had = self.subscriptions.iter().map(|it| it.topic);
        let recovered = topics_had.filter_map(|it| Some((it, self.recovered_to(it)?)));
        let recovered = recovered.collect::<BTreeMap<_, _>>();
        let mut listed = Vec::with_capacity(self.subscriptions.len());
        for subscription in &mut self.subscriptions {
            let Some(topic) = topics.get(subscription.topic) else {
                continue;
            };
            let Some(Joined { id, position, .. }) = topic.joined() else {
                continue;
            };
            subscription.request = 0;
            let kept = firsts.get(&id).copied();
            let waits = waiting.get(&subscription.topic);
            let waits = waits.map(|&offset| Position { offset, ..position });
            let recovered = recovered.get(&subscription.topic).copied();
            let position = kept.or(waits).or(recovered).unwrap_or(position);
            listed.push((id, position, Arc::clone(&topic.name)));
        }
        for (topic, position, name) in listed {
            let (request, recovered) = (0, true);
            let subscribed = Subscribed { request, topic, recovered, position, name: &name };
            self.send_frame(fx, &ServerFrame::Subscribed(subscribed));
        }
    }

    /// Forgets subscriptions of a link that is gone to topics that are not joined yet, and those of
    /// which it is not known yet what the hub missed. The hub asks again, and another hub may ask
    /// from elsewhere, with the same number: it would take the answer to the one before for its
    /// own.
    pub(super) fn forget_unjoined(&mut self, fx: &mut Effects, topics: &mut TopicTable) {
        let places = self.subscriptions.iter().map(|subscription| subscription.topic);
        let unjoined = places.filter(|at| topics.joined(*at).is_none()).collect::<Vec<_>>();
        for at in unjoined.into_iter().chain(self.unanswered()) {
            self.end_subscription(fx, topics, at);
        }
    }

    /// Ends a subscription without a word. Returns the one that was there.
    fn end_subscription(
        &mut self,
        fx: &mut Effects,
        topics: &mut TopicTable,
        at: TopicPlace,
    ) -> Option<Subscription> {
        let index = self.subscriptions.iter().position(|it| it.topic == at)?;
        if let Some(name) = topics.get(at).map(|topic| Arc::clone(&topic.name))
            && let Some(wish) = self.take_wish(fx, |wish| !wish.begins() && wish.name == name)
        {
            fx.withdraw(wish.ask);
        }
        let before = self.subscriptions_cost();
        let subscription = self.subscriptions.swap_remove(index);
        self.ledger.charge(fx, Charge::Topics, before, self.subscriptions_cost());
        self.drop_backlog(fx, at);
        self.drop_recovery(fx, at);
        fx.stats.topics.subscriptions -= 1;
        if let Some(account) = self.ledger.account() {
            account.remove(Count::Subscriptions);
        }
        topics.leave(fx, at, self.place());
        Some(subscription)
    }

    /// Ends a subscription and says why.
    pub(super) fn finish_subscription(
        &mut self,
        fx: &mut Effects,
        topics: &mut TopicTable,
        at: TopicPlace,
        refusal: &Refusal<'_>,
    ) {
        let Some(name) = topics.get(at).map(|topic| Arc::clone(&topic.name)) else {
            return;
        };
        if let Some(Subscription { request, .. }) = self.end_subscription(fx, topics, at) {
            self.send_unsubscribed(fx, request, &name, refusal);
        }
    }

    /// Answers a SUBSCRIBE of what is subscribed already. While the topic is being joined, the
    /// one answer that is due names the latest request. What waits of the topic lies before the
    /// position that is told now, so it goes: the hub gets it from the history, or hears that it is
    /// not all.
    fn answer_again(
        &mut self,
        fx: &mut Effects,
        topics: &TopicTable,
        at: TopicPlace,
        request: u64,
        since: Option<Position>,
    ) {
        if let Some(it) = self.subscriptions.iter_mut().find(|it| it.topic == at) {
            it.request = request;
        }
        self.drop_recovery(fx, at);
        let dropped = self.drop_backlog(fx, at);
        fx.stats.topics.dropped_gap += dropped;
        let since = since.filter(|_| dropped == 0 || fx.config.history);
        self.answer_subscribe(fx, topics, at, request, since);
    }

    /// Takes what waits of a topic out of the backlog. Returns how many publications that was.
    fn drop_backlog(&mut self, fx: &mut Effects, at: TopicPlace) -> u64 {
        let Some(slow) = &mut self.slow else {
            return 0;
        };
        let before = slow.backlog.bytes();
        let dropped = slow.backlog.remove(at);
        fx.stats.memory.queued_bytes -= before - slow.backlog.bytes();
        self.tidy_slow(fx);
        dropped
    }

    fn send_unsubscribed(
        &mut self,
        fx: &mut Effects,
        request: u64,
        name: &str,
        &Refusal { reason, retry, message }: &Refusal<'_>,
    ) {
        let retry_ms = retry.map(config::millis);
        let unsubscribed = Unsubscribed { request, reason, retry_ms, name, message };
        self.send_frame(fx, &ServerFrame::Unsubscribed(unsubscribed));
    }

    fn send_gap(&mut self, fx: &mut Effects, topics: &TopicTable, at: TopicPlace, offset: u64) {
        if let Some(Joined { id: topic, position, .. }) = topics.joined(at) {
            let position = Position { epoch: position.epoch, offset };
            self.push_lane0(fx, ServerFrame::Gap { topic, position }.to_bytes().into());
        }
    }
}

impl<'a> From<Denial<'a>> for Refusal<'a> {
    fn from(Denial { code, message, retry }: Denial<'a>) -> Self {
        let reason = match code.known() {
            ErrorCode::NoRoute | ErrorCode::Rejected | ErrorCode::Denied => {
                UnsubscribedReason::Denied
            }
            ErrorCode::Unsupported => UnsubscribedReason::Unsupported,
            ErrorCode::TabLimit
            | ErrorCode::SocketLimit
            | ErrorCode::UnknownTab
            | ErrorCode::Limit
            | ErrorCode::Cancelled
            | ErrorCode::Timeout
            | ErrorCode::Failed
            | ErrorCode::Other(_) => UnsubscribedReason::Limit,
        };
        Self { reason, retry, message }
    }
}
