//! A connection that broke and is to be dialled again, with what tabs send meanwhile.

use std::{collections::VecDeque, time::Duration};

use crate::{
    OwnedPayload,
    hub::{base::SocketKey, io::Rules, link::Backoff, rng::Rng},
};

/// Bytes of what tabs send during an outage that are kept. A message takes an entry besides.
const MAX_BYTES: usize = 1 << 20;
const ENTRY: usize = 64;
/// No wait is longer than a day.
const MAX_WAIT: u64 = 86_400_000;

/// An outage.
#[derive(Debug)]
pub(super) struct Outage {
    backoff: Backoff,
    min: Duration,
    /// Dials that are left.
    left: u64,
    kept: VecDeque<Kept>,
    bytes: usize,
}

/// A message that a tab sent on a view, with its number there.
pub(super) type Kept = (SocketKey, u64, OwnedPayload);

impl Outage {
    /// Returns nothing where the rules want no dial after an outage.
    pub(super) fn begin(rules: &Rules) -> Option<Self> {
        (rules.attempts > 0).then(|| Self::asked_for(rules))
    }

    /// Returns an outage that a page asked for. Its first dial is not one of those that the rules
    /// allow.
    pub(super) fn asked_for(rules: &Rules) -> Self {
        let [min, max] = [rules.min_ms, rules.max_ms].map(|ms| ms.min(MAX_WAIT));
        let min = Duration::from_millis(min);
        let backoff = Backoff::new(min, Duration::from_millis(max).saturating_sub(min));
        let (kept, bytes) = (VecDeque::new(), 0);
        Self { backoff, min, left: rules.attempts, kept, bytes }
    }

    /// Returns how long to wait before the next dial, or nothing if there were enough.
    pub(super) fn next(&mut self, rng: &mut Rng) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        Some(self.min + self.backoff.next(rng))
    }

    /// Keeps a message for the next connection, if there is room.
    pub(super) fn keep(&mut self, view: SocketKey, n: u64, payload: OwnedPayload) {
        let bytes = self.bytes + payload.len() + ENTRY;
        if bytes <= MAX_BYTES {
            self.bytes = bytes;
            self.kept.push_back((view, n, payload));
        }
    }

    /// Returns what was kept, in the order in which it was sent.
    pub(super) fn take(&mut self) -> VecDeque<Kept> {
        self.bytes = 0;
        std::mem::take(&mut self.kept)
    }
}

#[cfg(test)]
mod tests {
    use tabmux_wire::{SocketId, TabId};

    use super::*;

    const RULES: Rules =
        Rules { replay_last: 0, linger_ms: 0, min_ms: 100, max_ms: 1000, attempts: 3 };

    #[test]
    fn waits_lie_between_the_two_limits_and_there_are_so_many_as_the_rules_say() {
        let mut rng = Rng::new(1);
        for _ in 0..100 {
            let mut outage = Outage::begin(&RULES).unwrap();
            for _ in 0..3 {
                let wait = outage.next(&mut rng).unwrap();
                assert!((100..=1000).contains(&wait.as_millis()), "{wait:?}");
            }
            assert_eq!(outage.next(&mut rng), None);
        }
        assert!(Outage::begin(&Rules { attempts: 0, ..RULES }).is_none());
    }

    #[test]
    fn what_is_sent_is_kept_up_to_a_mebibyte() {
        let mut outage = Outage::begin(&RULES).unwrap();
        let view = (TabId(1), SocketId(1));
        for n in 0..5 {
            outage.keep(view, n, OwnedPayload::Binary(vec![0; 256 << 10]));
        }
        outage.keep(view, 9, OwnedPayload::Text("small".to_owned()));
        let kept: Vec<_> = outage.take().into_iter().map(|(_, n, _)| n).collect();
        assert_eq!(kept, [0, 1, 2, 9]);
        assert_eq!(outage.take(), []);
    }
}
