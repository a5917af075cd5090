//! Recovery: what a browser missed of a topic, asked of the shell in parts.
//!
//! While a topic is being recovered, its live publications do not go to this browser: they are in
//! the history, from which the next part brings them in order. Others are not held up.

use std::{collections::VecDeque, sync::Arc};

use tabmux_wire::{Position, ServerFrame, Subscribed};

use super::{
    Publication, SlowPolicy,
    asks::{Ask, AskId, Asker},
    effects::Effects,
    lane::Kept,
    ledger::{ASK, Charge},
    publication::Encoded,
    state::Session,
    topic_table::{Joined, TopicPlace, TopicTable},
};
use crate::feed::{Recalled, is_same_place};

/// The topics of which a browser gets what it missed, one after the other.
#[derive(Default)]
pub(super) struct Recoveries(VecDeque<Recovery>);

/// A topic of which a browser gets what it missed.
struct Recovery {
    topic: TopicPlace,
    /// Where the hub is: everything up to here was sent, or told to be missing.
    at: Position,
    /// The SUBSCRIBE that is not answered yet.
    request: Option<u64>,
    question: Option<Question>,
}

/// A part that the shell is asked for.
#[derive(Clone, Copy)]
struct Question {
    ask: AskId,
    /// Where the topic was then. The shell has all up to there.
    goal: Position,
}

impl Recoveries {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the memory that they take.
    pub(super) fn cost(&self) -> usize {
        let asked = self.0.front().is_some_and(|first| first.question.is_some());
        self.0.capacity() * size_of::<Recovery>() + if asked { ASK } else { 0 }
    }

    fn of(&self, topic: TopicPlace) -> Option<&Recovery> {
        self.0.iter().find(|it| it.topic == topic)
    }
}

impl Session {
    /// Answers a SUBSCRIBE of a topic that is joined: now, or with the first part of what the hub
    /// missed.
    pub(super) fn answer_subscribe(
        &mut self,
        fx: &mut Effects,
        topics: &TopicTable,
        topic: TopicPlace,
        request: u64,
        since: Option<Position>,
    ) {
        let Some(Joined { position, .. }) = topics.joined(topic) else {
            return;
        };
        match since {
            Some(at) if fx.config.history && !is_same_place(at, position) => {
                let recovery = Recovery { topic, at, request: Some(request), question: None };
                self.slow.get_or_insert_default().recoveries.0.push_back(recovery);
                fx.stats.topics.recovering += 1;
                self.charge_waiting(fx);
                self.pull(fx, topics);
            }
            Some(at) => {
                let recovered = is_same_place(at, position);
                self.send_subscribed(fx, topics, topic, request, recovered, position);
            }
            None => self.send_subscribed(fx, topics, topic, request, false, position),
        }
    }

    /// Returns true if a topic is being recovered.
    pub(super) fn is_recovering(&self, topic: TopicPlace) -> bool {
        self.slow.as_ref().is_some_and(|slow| slow.recoveries.of(topic).is_some())
    }

    /// Returns true if some topic is being recovered.
    pub(super) fn recovers(&self) -> bool {
        self.slow.as_ref().is_some_and(|slow| !slow.recoveries.is_empty())
    }

    /// Returns where the hub is in a topic that is being recovered.
    pub(super) fn recovered_to(&self, topic: TopicPlace) -> Option<Position> {
        Some(self.slow.as_ref()?.recoveries.of(topic)?.at)
    }

    /// Returns the topics whose SUBSCRIBE waits for the first part.
    pub(super) fn unanswered(&self) -> Vec<TopicPlace> {
        let recoveries = self.slow.iter().flat_map(|slow| &slow.recoveries.0);
        recoveries.filter(|it| it.request.is_some()).map(|it| it.topic).collect()
    }

    /// Ends the recovery of a topic without a word.
    pub(super) fn drop_recovery(&mut self, fx: &mut Effects, topic: TopicPlace) {
        let Some(slow) = &mut self.slow else {
            return;
        };
        let recoveries = &mut slow.recoveries.0;
        if let Some(index) = recoveries.iter().position(|it| it.topic == topic)
            && let Some(recovery) = recoveries.remove(index)
        {
            fx.stats.topics.recovering -= 1;
            if let Some(Question { ask, .. }) = recovery.question {
                fx.withdraw(ask);
            }
            self.tidy_slow(fx);
        }
    }

    /// Ends all recoveries, with the session.
    pub(super) fn drop_recoveries(&mut self, fx: &mut Effects) {
        for recovery in self.slow.iter_mut().flat_map(|slow| slow.recoveries.0.drain(..)) {
            fx.stats.topics.recovering -= 1;
            if let Some(Question { ask, .. }) = recovery.question {
                fx.withdraw(ask);
            }
        }
    }

    /// Asks for the next part of what the hub missed, if it can take it.
    pub(super) fn pull(&mut self, fx: &mut Effects, topics: &TopicTable) {
        if self.link().is_none() || !self.has_room(fx) || fx.drops_publications_of(self) {
            return;
        }
        let place = self.place();
        let Some(first) = self.slow.as_mut().and_then(|slow| slow.recoveries.0.front_mut()) else {
            return;
        };
        let Some(topic) = topics.get(first.topic).filter(|_| first.question.is_none()) else {
            return;
        };
        let Some(Joined { position: goal, .. }) = topic.joined() else {
            return;
        };
        let (topic, since) = (Arc::clone(&topic.name), first.at);
        let what = Ask::Recall { topic, since, bytes: fx.config.recall_bytes };
        let ask = fx.ask(Asker::Recall(place), what);
        first.question = Some(Question { ask, goal });
        self.charge_waiting(fx);
    }

    /// Takes the answer to a question for a part. `None`: the shell cannot tell.
    pub(super) fn recalled(
        &mut self,
        fx: &mut Effects,
        topics: &TopicTable,
        ask: AskId,
        recalled: Option<&Recalled>,
    ) {
        let recoveries = self.slow.as_mut().map(|slow| &mut slow.recoveries.0);
        let Some(first) = recoveries.and_then(VecDeque::front_mut) else {
            return;
        };
        let Some(Question { goal, .. }) = first.question.take_if(|it| it.ask == ask) else {
            return;
        };
        let (at, topic, request) = (first.at, first.topic, first.request.take());
        let Some(Joined { id, position: now, .. }) = topics.joined(topic) else {
            return;
        };
        let missing = match recalled {
            Some(recalled) => recalled.missing,
            None => Some(now),
        };
        // Nothing yet counts in every epoch, and what follows is of this one.
        let mut at =
            missing.unwrap_or(if at.offset == 0 { Position { offset: 0, ..now } } else { at });
        match (request, missing) {
            (Some(request), None) => {
                let place = if is_behind(at, now) { now } else { at };
                self.send_subscribed(fx, topics, topic, request, true, place);
            }
            (Some(request), Some(at)) => {
                self.send_subscribed(fx, topics, topic, request, false, at);
            }
            (None, Some(position)) => {
                self.push_lane0(fx, ServerFrame::Gap { topic: id, position }.to_bytes().into());
            }
            (None, None) => {}
        }
        fx.stats.topics.recovery_gaps += u64::from(missing.is_some());
        let publications = recalled.map_or(&[][..], |recalled| &recalled.publications);
        // What this registry has not been told yet comes live.
        for it in publications.iter().take_while(|it| !is_behind(now, it.position)) {
            let (position, previous, payload) = (it.position, at.offset, it.payload.as_payload());
            let frame = ServerFrame::Publication { topic: id, position, previous, payload };
            self.push_lane0(fx, frame.to_bytes().into());
            fx.stats.topics.recovered += 1;
            at = position;
        }
        if publications.is_empty() && is_behind(at, goal) {
            // The shell had it, and says that nothing is there.
            at = now;
            self.push_lane0(fx, ServerFrame::Gap { topic: id, position: at }.to_bytes().into());
            fx.stats.topics.recovery_gaps += 1;
        }
        self.go_on(fx, at, now);
        self.pull(fx, topics);
    }

    /// Notes where the first recovery is. It is over when the topic is there too.
    fn go_on(&mut self, fx: &mut Effects, at: Position, now: Position) {
        let Some(slow) = &mut self.slow else {
            return;
        };
        if is_behind(at, now) {
            if let Some(first) = slow.recoveries.0.front_mut() {
                first.at = at;
            }
            self.charge_waiting(fx);
        } else {
            slow.recoveries.0.pop_front();
            fx.stats.topics.recovering -= 1;
            self.tidy_slow(fx);
        }
    }

    /// Takes publications for a hub that does not get them with all others: it is behind, or gets
    /// what it missed of this topic or another.
    pub(super) fn take_aside(
        &mut self,
        fx: &mut Effects,
        topics: &mut TopicTable,
        at: TopicPlace,
        policy: SlowPolicy,
        publications: &[Publication],
    ) {
        if self.is_recovering(at) {
            return;
        }
        for publication in publications {
            if !self.is_behind(fx) && !fx.drops_publications_of(self) {
                self.deliver(fx, Arc::clone(&publication.frame));
            } else if !self.hold(fx, topics, at, policy, publication) {
                return;
            }
        }
    }

    /// Sends a publication to this hub alone.
    pub(super) fn deliver(&mut self, fx: &mut Effects, frame: Arc<Encoded>) {
        let taken = self.lane0.push_shared(Arc::clone(&frame));
        self.ledger.charge(fx, Charge::Lanes, 0, taken);
        self.kept += frame.len();
        fx.stats.memory.kept_bytes += frame.len();
        fx.stats.topics.deliveries += 1;
        self.send_kept(fx, vec![Kept::Shared(frame)]);
    }

    /// Tells the hub that it has a topic.
    fn send_subscribed(
        &mut self,
        fx: &mut Effects,
        topics: &TopicTable,
        at: TopicPlace,
        request: u64,
        recovered: bool,
        position: Position,
    ) {
        let Some(topic) = topics.get(at) else {
            return;
        };
        if let Some(Joined { id, .. }) = topic.joined() {
            let name = &*topic.name;
            let subscribed = Subscribed { request, topic: id, recovered, position, name };
            self.send_frame(fx, &ServerFrame::Subscribed(subscribed));
        }
    }
}

/// Returns true if a position comes before another one in the same epoch.
const fn is_behind(one: Position, other: Position) -> bool {
    one.epoch == other.epoch && one.offset < other.offset
}
