//! Topics at the server: the questions for them, and their publications.

use std::{sync::Arc, time::Duration};

use tabmux_core::{
    Timestamp,
    feed::Keep,
    session::{Answer, AskId, Encoded, Joined, Publication, SlowPolicy, TopicFrame},
    wire::{Payload, Position, SessionId, TopicId},
};

use super::{LATE_S, Server};
use crate::{
    invariant::{
        Checked,
        Invariant::{Limits, NoError},
    },
    reference::Reference,
    topics::Feed,
};

/// A question for a topic.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// The broker is asked for the position of this topic.
    Join(Arc<str>),
    /// The broker is asked what came of this topic after a position.
    Recall(Arc<str>, Position, usize),
    /// The application is asked whether a browser may subscribe. It always may.
    Subscription(SessionId),
}

impl Server {
    /// Answers a question for a topic at once, late or never.
    pub fn want(
        &mut self,
        now: Timestamp,
        reference: &mut Reference,
        ask: AskId,
        wanted: Wanted,
    ) -> Checked {
        let dice = match &wanted {
            Wanted::Join(name) => now.as_micros() ^ name.len() as u64,
            // This one is always answered: a server that keeps all must never tell a gap.
            Wanted::Recall(..) => 1 + (now.as_micros() / 3) % 31,
            Wanted::Subscription(SessionId(id)) => (now.as_micros() / 7) ^ u64::from(id[15]),
        };
        let due = match dice % 32 {
            0 => None,
            1..=3 => Some(now + Duration::from_secs(1 + dice / 32 % LATE_S)),
            _ => Some(now),
        };
        self.wanted.insert(ask, (wanted, due));
        self.answer_due(now, reference)?;
        if dice % 32 == 4 {
            self.is_over(now, ask)?;
        }
        Ok(())
    }

    pub(super) fn answer_wanted(&mut self, now: Timestamp, ask: AskId, wanted: &Wanted) -> Checked {
        let recalled;
        let answer = match wanted {
            Wanted::Subscription(_) => Answer::Allow,
            Wanted::Recall(name, since, bytes) => {
                recalled = self.topics.recall(now, name, *since, *bytes);
                Answer::Recalled(&recalled)
            }
            Wanted::Join(name) => {
                let Ok(Joined { topic, position }) = self.topics.join(0, name) else {
                    return Limits.broken("there are too many topics");
                };
                self.told.joined(name, topic);
                let policy = match &**name {
                    "latest" => SlowPolicy::KeepLatest,
                    "gap" => SlowPolicy::DropWithGap,
                    _ => SlowPolicy::Recover,
                };
                Answer::Joined { topic, position, policy }
            }
        };
        let taken = self.registry.answer(now, ask, answer);
        NoError.unless(taken.is_ok(), || format!("{ask:?} is not over, and: {taken:?}"))
    }

    /// Called when no session wants the topic any more.
    pub fn leave(&mut self, topic: TopicId) {
        self.topics.leave(0, topic);
    }

    /// Publishes the next text of a topic.
    pub fn publish(&mut self, now: Timestamp, feed: &mut Feed, name: &'static str) {
        let text = feed.next(name);
        let numbered = self.topics.publish_kept(now, name, keep(name), Payload::Text(&text));
        let position = numbered.position;
        feed.published(name, position);
        if let Some(TopicFrame { topic, bytes, .. }) = numbered.frame {
            let previous = numbered.previous;
            let frame = Arc::new(Encoded::new(bytes.into(), None).of_topic(topic, previous));
            self.registry.publish(now, &[Publication { topic, position, frame }]);
        }
    }
}

/// Returns how much is kept of a topic: all, so little that browsers miss some of it, or nothing.
fn keep(name: &str) -> Keep {
    let all = Keep { count: usize::MAX, bytes: usize::MAX, age: Duration::from_secs(1 << 20) };
    match name {
        "recover" => all,
        "latest" => Keep { count: 3, ..all },
        _ => Keep::NOTHING,
    }
}
