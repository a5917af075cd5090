//! Topics at the server: the questions for them, and their publications.

use std::{sync::Arc, time::Duration};

use tabmux_core::{
    Timestamp,
    session::{Answer, AskId, Encoded, Joined, Publication, SlowPolicy, TopicFrame},
    wire::{Payload, SessionId, TopicId},
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
        let answer = match wanted {
            Wanted::Subscription(_) => Answer::Allow,
            Wanted::Join(name) => {
                let Ok(Joined { topic, position }) = self.topics.join(0, name) else {
                    return Limits.broken("there are too many topics");
                };
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
        let numbered = self.topics.publish(name, Payload::Text(&feed.next(name)));
        let position = numbered.position;
        feed.published(name, position);
        if let Some(TopicFrame { topic, bytes, .. }) = numbered.frame {
            let previous = numbered.previous;
            let frame = Arc::new(Encoded::new(bytes.into(), None).of_topic(topic, previous));
            self.registry.publish(now, &[Publication { topic, position, frame }]);
        }
    }
}
