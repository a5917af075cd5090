//! A timer wheel: four bytes a link, and no work when a deadline moves away.
//!
//! Deadlines are kept to the end of their tick, so a timer fires up to one tick late and never
//! early. A deadline beyond the wheel's round is looked at again at the end of the round.

use std::time::Duration;

use crate::Timestamp;

const TICK: Duration = Duration::from_millis(64);
/// Ticks a round: more than a heartbeat of 25 s and the 10 s of patience.
const SLOTS: u64 = 1_024;
const WORDS: usize = (SLOTS / 64) as usize;

/// Places of links by the tick at which to look at them.
pub(super) struct Wheel {
    slots: Box<[Vec<u32>]>,
    /// One bit a slot that is not empty.
    occupied: [u64; WORDS],
    /// The first tick that has not been taken.
    next: u64,
    len: usize,
}

/// The slot of the wheel that a link stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick(u16);

impl Wheel {
    pub(super) fn new(now: Timestamp) -> Self {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Self { slots, occupied: [0; WORDS], next: tick(now), len: 0 }
    }

    /// Puts a place in, to be looked at when `at` has passed or at the end of the round.
    pub(super) fn insert(&mut self, place: u32, at: Timestamp) -> Tick {
        let due = tick(at).clamp(self.next, self.next + SLOTS - 1);
        let slot = slot(due);
        self.slots[slot].push(place);
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.len += 1;
        Tick(slot as u16)
    }

    /// Takes a place out.
    pub(super) fn remove(&mut self, place: u32, tick: Tick) {
        let slot = usize::from(tick.0);
        let places = &mut self.slots[slot];
        if let Some(at) = places.iter().position(|candidate| *candidate == place) {
            places.swap_remove(at);
            self.len -= 1;
            self.clear_if_empty(slot);
        }
    }

    /// A place whose tick has ended at `now`, taken out.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<u32> {
        loop {
            let due = self.first().filter(|due| end(*due) <= now);
            let Some(due) = due else {
                // What comes in from here on is not due before now.
                self.next = self.next.max(tick(now));
                return None;
            };
            self.next = due;
            let slot = slot(due);
            if let Some(place) = self.slots[slot].pop() {
                self.len -= 1;
                self.clear_if_empty(slot);
                return Some(place);
            }
        }
    }

    /// When to look next, and at whom.
    pub(super) fn peek(&self) -> Option<(Timestamp, u32)> {
        let due = self.first()?;
        Some((end(due), *self.slots[slot(due)].last()?))
    }

    /// The first tick that has a place in it.
    fn first(&self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        let begin = slot(self.next);
        // The rest of the word it begins in, the others, and the beginning of that word.
        (0..=WORDS).find_map(|step| {
            let word = (begin / 64 + step) % WORDS;
            let mask = match step {
                0 => u64::MAX << (begin % 64),
                WORDS => !(u64::MAX << (begin % 64)),
                _ => u64::MAX,
            };
            let bits = self.occupied[word] & mask;
            let found = (bits != 0).then(|| word as u64 * 64 + u64::from(bits.trailing_zeros()))?;
            Some(self.next + (found + SLOTS - begin as u64) % SLOTS)
        })
    }

    fn clear_if_empty(&mut self, slot: usize) {
        if self.slots[slot].is_empty() {
            self.slots[slot] = Vec::new();
            self.occupied[slot / 64] &= !(1 << (slot % 64));
        }
    }
}

const fn slot(tick: u64) -> usize {
    (tick % SLOTS) as usize
}

/// The tick that a moment lies in. A moment on the border belongs to the tick before, whose end
/// it is.
fn tick(at: Timestamp) -> u64 {
    at.as_micros().saturating_sub(1) / TICK.as_micros() as u64
}

fn end(tick: u64) -> Timestamp {
    Timestamp::from_micros((tick + 1).saturating_mul(TICK.as_micros() as u64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_fires_within_a_tick_of_its_time_and_never_before(
            steps in prop::collection::vec((0..60_000_u64, 0..3_000_u64, any::<bool>()), 1..200),
        ) {
            let mut now = Timestamp::from_millis(0);
            let mut wheel = Wheel::new(now);
            let mut model = Vec::<(u32, Timestamp, Tick)>::new();
            for (place, (span, pass, remove)) in steps.into_iter().enumerate() {
                let (place, at) = (place as u32, now + Duration::from_millis(span));
                model.push((place, at, wheel.insert(place, at)));
                if remove {
                    let (place, _, tick) = model.swap_remove(model.len() / 2);
                    wheel.remove(place, tick);
                }
                now = now + Duration::from_millis(pass);
                while let Some(fired) = wheel.pop(now) {
                    let at = model.iter().position(|(place, ..)| *place == fired).unwrap();
                    prop_assert!(model.swap_remove(at).1 <= now);
                }
                prop_assert!(model.iter().all(|(_, at, _)| *at + TICK > now));
                prop_assert_eq!(wheel.peek().is_some(), !model.is_empty());
                prop_assert!(wheel.peek().is_none_or(|(at, _)| at > now));
            }
        }
    }

    #[test]
    fn what_lies_beyond_the_round_is_looked_at_at_its_end() {
        let mut wheel = Wheel::new(Timestamp::from_millis(0));
        wheel.insert(7, Timestamp::from_millis(86_400_000));
        let (at, place) = wheel.peek().unwrap();
        assert_eq!((at, place), (Timestamp::from_millis(SLOTS * 64), 7));
        assert_eq!(wheel.pop(at), Some(7));
        assert_eq!(wheel.peek(), None);
    }
}
