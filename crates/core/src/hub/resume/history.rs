//! Frames of lane 0, kept for tabs that the session has and that have not attached to this hub yet:
//! they may have heard less than the first tab that did.

use std::{collections::VecDeque, time::Duration};

use tabmux_wire::{Payload, Position, ServerFrame, TopicId};

use crate::{
    OwnedPayload, Timestamp,
    hub::io::{HubMessage, SubscriptionId},
};

/// How long a tab that attached may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(2);

/// The frames, and whether there are any to keep. `until` is when the last tab that attached has
/// had time to say what it wants.
#[derive(Debug, Default)]
pub(in crate::hub) enum History {
    /// Nobody is awaited.
    #[default]
    Off,
    On {
        frames: VecDeque<(u64, Vec<u8>)>,
        bytes: usize,
        until: Timestamp,
    },
    /// There were more than may be kept: tabs that are awaited will miss something.
    Lost {
        until: Timestamp,
    },
}

/// What came of a topic.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) enum Past {
    Publication(Position, OwnedPayload),
    /// Something is missing up to this position.
    Gap(Position),
}

impl Past {
    pub(in crate::hub) const fn position(&self) -> Position {
        match self {
            Self::Publication(position, _) | Self::Gap(position) => *position,
        }
    }

    /// Returns the message that tells a tab.
    pub(in crate::hub) fn told(self, subscription: SubscriptionId) -> HubMessage {
        match self {
            Self::Publication(position, payload) => {
                HubMessage::Publication { subscription, position, payload }
            }
            Self::Gap(position) => HubMessage::Gap { subscription, position },
        }
    }
}

impl History {
    /// Frames are to be kept from now on. What is kept already stays: it may be what is missing.
    pub(in crate::hub) fn begin(&mut self, now: Timestamp) {
        let until = now + PATIENCE;
        match self {
            Self::Off => *self = Self::On { frames: VecDeque::new(), bytes: 0, until },
            Self::On { .. } | Self::Lost { .. } => self.tab_came(now),
        }
    }

    /// Frames came that are not here.
    pub(in crate::hub) fn lose(&mut self) {
        if let Some(until) = self.until() {
            *self = Self::Lost { until };
        }
    }

    /// A tab has attached.
    pub(in crate::hub) fn tab_came(&mut self, now: Timestamp) {
        match self {
            Self::Off => {}
            Self::On { until, .. } | Self::Lost { until } => *until = now + PATIENCE,
        }
    }

    /// Returns when the tabs that came have had time to say what they want. Returns `None` if
    /// nothing is to be kept.
    pub(in crate::hub) const fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Off => None,
            Self::On { until, .. } | Self::Lost { until } => Some(*until),
        }
    }

    pub(in crate::hub) fn end(&mut self) {
        *self = Self::Off;
    }

    pub(in crate::hub) const fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// A frame of lane 0 came.
    pub(in crate::hub) fn push(&mut self, count: u64, frame: &[u8], limit: usize) {
        if let Self::On { frames, bytes, until } = self {
            *bytes += frame.len();
            frames.push_back((count, frame.to_vec()));
            if *bytes > limit {
                *self = Self::Lost { until: *until };
            }
        }
    }

    /// Messages to all tabs after the first `last0` frames.
    pub(in crate::hub) fn messages(&self, last0: u64) -> Vec<(u64, OwnedPayload)> {
        let message = |(count, frame): (u64, ToAll<'_>)| match frame {
            ToAll::Message(payload) => (count > last0).then(|| (count, payload.into())),
            ToAll::Publication { .. } | ToAll::Gap { .. } => None,
        };
        self.frames().filter_map(message).collect()
    }

    /// What came of a topic after a position up to now; `None` if something is missing right there.
    pub(in crate::hub) fn publications(
        &self,
        topic: TopicId,
        since: Position,
    ) -> Option<Vec<Past>> {
        let mut last = since.offset;
        let mut past = Vec::new();
        for (_, frame) in self.frames() {
            let (position, previous, payload) = match frame {
                ToAll::Publication { topic: of, position, previous, payload } if of == topic => {
                    (position, previous, Some(payload))
                }
                // What follows it goes on from there.
                ToAll::Gap { topic: of, position } if of == topic => {
                    (position, position.offset, None)
                }
                ToAll::Message(_) | ToAll::Publication { .. } | ToAll::Gap { .. } => continue,
            };
            if position.epoch != since.epoch || position.offset <= since.offset {
                continue;
            }
            if previous != last {
                if past.is_empty() && payload.is_some() {
                    return None;
                }
                past.push(Past::Gap(Position { offset: previous, ..position }));
            }
            last = position.offset;
            past.extend(payload.map(|it| Past::Publication(position, it.into())));
        }
        (!past.is_empty()).then_some(past)
    }

    fn frames(&self) -> impl Iterator<Item = (u64, ToAll<'_>)> {
        let frames = match self {
            Self::On { frames, .. } => Some(frames),
            Self::Off | Self::Lost { .. } => None,
        };
        let frames = frames.into_iter().flatten();
        // They were decoded once before.
        let frame = |bytes| ServerFrame::decode(bytes).ok().and_then(ToAll::new);
        frames.filter_map(move |(count, bytes)| Some((*count, frame(bytes)?)))
    }
}

/// A frame of lane 0.
enum ToAll<'a> {
    Message(Payload<'a>),
    Publication { topic: TopicId, position: Position, previous: u64, payload: Payload<'a> },
    Gap { topic: TopicId, position: Position },
}

impl<'a> ToAll<'a> {
    fn new(frame: ServerFrame<'a>) -> Option<Self> {
        Some(match frame {
            ServerFrame::Message { payload } | ServerFrame::Direct { lane: 0, payload, .. } => {
                Self::Message(payload)
            }
            ServerFrame::Publication { topic, position, previous, payload } => {
                Self::Publication { topic, position, previous, payload }
            }
            ServerFrame::Gap { topic, position } => Self::Gap { topic, position },
            // A frame of a later version, which nobody here understands.
            ServerFrame::Unknown { .. } => return None,
            // Frames of other lanes, and frames without a lane.
            ServerFrame::Welcome(_)
            | ServerFrame::Attached { .. }
            | ServerFrame::Fenced { .. }
            | ServerFrame::Refused { .. }
            | ServerFrame::GoAway { .. }
            | ServerFrame::Ack { .. }
            | ServerFrame::Pong { .. }
            | ServerFrame::Subscribed(_)
            | ServerFrame::Unsubscribed(_)
            | ServerFrame::Error { .. }
            | ServerFrame::Denied(_)
            | ServerFrame::Credentials(_)
            | ServerFrame::Dismissed(_)
            | ServerFrame::Coming { .. }
            | ServerFrame::Ticket { .. }
            | ServerFrame::Opened { .. }
            | ServerFrame::Data { .. }
            | ServerFrame::Close { .. }
            | ServerFrame::Credit { .. }
            | ServerFrame::Rejected(_)
            | ServerFrame::Reply(_)
            | ServerFrame::Published { .. }
            | ServerFrame::Recovered(_)
            | ServerFrame::CaughtUp(_)
            | ServerFrame::Presence(_)
            | ServerFrame::Direct { .. } => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use tabmux_wire::Payload;

    use super::*;

    const TOPIC: TopicId = TopicId(1);

    fn at(offset: u64) -> Position {
        Position { epoch: 9, offset }
    }

    fn history() -> History {
        let mut history = History::default();
        history.begin(Timestamp::default());
        for (count, (offset, previous)) in [(10, 4), (12, 10), (13, 12)].into_iter().enumerate() {
            let payload = Payload::Text("x");
            let frame =
                ServerFrame::Publication { topic: TOPIC, position: at(offset), previous, payload };
            history.push(count as u64 + 1, &frame.to_bytes(), 1_000);
        }
        history
    }

    fn offsets(since: u64) -> Option<Vec<u64>> {
        let found = history().publications(TOPIC, at(since))?;
        Some(found.into_iter().map(|past| past.position().offset).collect())
    }

    #[test]
    fn all_after_a_position_is_there_or_none() {
        assert_eq!(offsets(4), Some(vec![10, 12, 13]));
        assert_eq!(offsets(12), Some(vec![13]));
        assert_eq!(offsets(3), None, "it does not reach back so far");
        assert_eq!(offsets(13), None, "there is nothing after it");
    }

    #[test]
    fn a_gap_in_between_is_there_too() {
        let mut history = history();
        let payload = Payload::Text("y");
        let later = [
            ServerFrame::Publication { topic: TOPIC, position: at(20), previous: 17, payload },
            ServerFrame::Gap { topic: TOPIC, position: at(30) },
        ];
        for (count, frame) in later.iter().enumerate() {
            history.push(count as u64 + 4, &frame.to_bytes(), 1_000);
        }
        let found = history.publications(TOPIC, at(12)).unwrap();
        let of = |offset, text: &str| Past::Publication(at(offset), Payload::Text(text).into());
        let expected = [of(13, "x"), Past::Gap(at(17)), of(20, "y"), Past::Gap(at(30))];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_too_much_is_dropped_as_a_whole() {
        let mut history = history();
        history.push(4, &[0; 1_000], 1_000);
        assert!(history.is_lost());
        assert_eq!(history.publications(TOPIC, at(12)), None);
    }
}
