//! What one subscription of a tab hears of its topic, and what it missed of that.

use tabmux_wire::{Position, TopicId};

use super::{Cache, History, Past};
use crate::{
    feed::is_same_place,
    hub::io::{HubMessage, SubscriptionId},
};

/// How far one subscription of a tab is with its topic.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) enum Hearing {
    /// It hears nothing yet, and is to be told that the topic is subscribed. It left the topic
    /// here, if it ever heard of it.
    Waits(Option<Position>),
    /// It hears everything.
    Hears,
    /// It hears everything after this position, which the hub has not reached yet.
    Ahead(Position),
    /// Its tab went away while it waited.
    AwayWaits(Option<Position>),
    /// Its tab is away, and left the topic here. `None` if something was lost before.
    Away(Option<Position>),
}

impl Hearing {
    /// Returns true if the topic is wanted for this subscription now.
    pub(in crate::hub) const fn wants(&self) -> bool {
        match self {
            Self::Waits(_) | Self::Hears | Self::Ahead(_) => true,
            Self::AwayWaits(_) | Self::Away(_) => false,
        }
    }

    /// Called when the tab subscribes again, through another port: what was posted to the one
    /// before may be lost. It left the topic at `since`, and the hub is at `last`.
    pub(in crate::hub) fn begins_again(&mut self, since: Option<Position>, last: Option<Position>) {
        // The tab may have said so before it heard where the topic is: if that goes on elsewhere,
        // the tab has missed something.
        let told = last.filter(|_| *self == Self::Hears);
        *self = Self::Waits(since.or(told));
    }

    /// Called when the tab goes away, while the hub is at `last`. `lossy`: what was posted to the
    /// tab before may be lost.
    pub(in crate::hub) fn goes_away(&mut self, last: Option<Position>, lossy: bool) {
        let lost_or = |position| if lossy { None } else { position };
        *self = match *self {
            Self::Waits(since) | Self::AwayWaits(since) => Self::AwayWaits(since),
            Self::Hears => Self::Away(lost_or(last)),
            Self::Ahead(since) => Self::Away(lost_or(Some(since))),
            Self::Away(since) => Self::Away(lost_or(since)),
        };
    }

    /// Called when the tab is back, while the hub is at `last`. Returns up to where the tab missed
    /// something, if it did. What a topic that is not subscribed now went on without the tab, the
    /// next SUBSCRIBED tells.
    pub(in crate::hub) fn comes_back(&mut self, last: Option<Position>) -> Option<Position> {
        match *self {
            Self::AwayWaits(since) => *self = Self::Waits(since),
            Self::Away(Some(since)) if last.is_some_and(|last| is_after(since, last)) => {
                *self = Self::Ahead(since);
            }
            Self::Away(since) => {
                *self = Self::Hears;
                let at_same_place = |at| since.is_some_and(|since| is_same_place(since, at));
                return last.filter(|at| !at_same_place(*at));
            }
            Self::Waits(_) | Self::Hears | Self::Ahead(_) => {}
        }
        None
    }

    /// Called when the server tells where the session has the topic, and this hub was at `before`.
    /// If that is further on, what came up to there comes again, and the tab has heard it.
    pub(in crate::hub) fn was_at(&mut self, before: Position) {
        if *self == Self::Hears {
            *self = Self::Ahead(before);
        }
    }

    /// Called when the hub reaches a position: a subscription that is not ahead of it hears it.
    pub(in crate::hub) fn reaches(&mut self, position: Position) {
        if let Self::Ahead(since) = *self
            && !is_after(since, position)
            && since != position
        {
            *self = Self::Hears;
        }
    }

    /// Called when the topic is subscribed and the hub is at `position`. Returns what the tab is
    /// told: if it waited, that the topic is subscribed and what came since it left; if it heard
    /// the topic before and `missed` is true, that something is missing.
    pub(in crate::hub) fn is_subscribed(
        &mut self,
        subscription: SubscriptionId,
        topic: TopicId,
        position: Position,
        missed: bool,
        (cache, history): (&Cache, &History),
    ) -> Vec<HubMessage> {
        let since = match *self {
            Self::Waits(since) => since,
            Self::Hears if missed => return vec![HubMessage::Gap { subscription, position }],
            // The hub had nothing yet when the server began another epoch, and the tab had more.
            Self::Ahead(since) if since.epoch != position.epoch => {
                *self = Self::Hears;
                return vec![HubMessage::Gap { subscription, position }];
            }
            Self::Hears | Self::Ahead(_) | Self::AwayWaits(_) | Self::Away(_) => return Vec::new(),
        };
        *self = Self::Hears;
        // Nothing yet is the same place in every epoch.
        let since =
            since.map(|it| if it.offset == 0 { Position { offset: 0, ..position } } else { it });
        // Where the tab goes on, and what it has not heard after that.
        let (start, rest) = match since {
            None => (position, Vec::new()),
            Some(since) if since == position => (since, Vec::new()),
            Some(since) if is_after(since, position) => {
                *self = Self::Ahead(since);
                (since, Vec::new())
            }
            Some(since) => {
                let missed = Missed { since, to: position };
                let known = missed.known(topic, cache, history);
                let start = if known.is_some() { since } else { position };
                (start, known.unwrap_or_else(|| vec![Past::Gap(position)]))
            }
        };
        let recovered = since == Some(start);
        let mut told = vec![HubMessage::Subscribed { subscription, position: start, recovered }];
        told.extend(rest.into_iter().map(|past| past.told(subscription)));
        told
    }
}

/// What a tab has not heard of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Missed {
    /// The last position of the tab, as the tab says.
    since: Position,
    /// Where the hub is.
    to: Position,
}

impl Missed {
    /// Returns all that came, gaps included, if that is known.
    fn known(self, topic: TopicId, cache: &Cache, history: &History) -> Option<Vec<Past>> {
        let since = self.since;
        let known = cache.after(since);
        known.or_else(|| {
            let mut rest = history.publications(topic, since)?;
            // The topic was subscribed anew since, and went on elsewhere.
            if rest.last().map(Past::position) != Some(self.to) {
                rest.push(Past::Gap(self.to));
            }
            Some(rest)
        })
    }
}

/// Returns true if a position comes after another one in the same history.
const fn is_after(one: Position, other: Position) -> bool {
    one.epoch == other.epoch && one.offset > other.offset
}
