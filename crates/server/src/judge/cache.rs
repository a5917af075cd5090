//! Answers of a judge that hold for a while.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};

use super::Verdict;

/// A key may be as long as the head of a request, and may be a secret. So its hash is kept.
type Hash = [u8; 32];

/// Answers by key. The oldest goes when there are too many.
pub(super) struct Cache {
    limit: usize,
    life: Duration,
    answers: HashMap<Hash, (Instant, Verdict)>,
    /// Keys by when they were answered. The answers of some are newer or gone.
    order: VecDeque<(Instant, Hash)>,
}

impl Cache {
    pub(super) fn new(limit: usize, life: Duration) -> Self {
        Self { limit, life, answers: HashMap::new(), order: VecDeque::new() }
    }

    /// Returns the answer for a key, if it still holds.
    pub(super) fn get(&self, now: Instant, key: &str) -> Option<&Verdict> {
        let (at, verdict) = self.answers.get(&hash(key))?;
        (now.saturating_duration_since(*at) < self.life).then_some(verdict)
    }

    /// Remembers an answer.
    pub(super) fn put(&mut self, now: Instant, key: &str, verdict: Verdict) {
        let key = hash(key);
        self.answers.insert(key, (now, verdict));
        self.order.push_back((now, key));
        while let Some((at, _)) = self.order.front() {
            let is_over = now.saturating_duration_since(*at) >= self.life;
            if !is_over && self.order.len() <= self.limit {
                return;
            }
            if let Some((at, key)) = self.order.pop_front()
                && self.answers.get(&key).is_some_and(|(answered, _)| *answered == at)
            {
                self.answers.remove(&key);
            }
        }
    }

    /// Forgets what was answered of a user.
    pub(super) fn forget(&mut self, user: &str) {
        let is_other = |verdict: &Verdict| match verdict {
            Ok(admitted) => admitted.name() != Some(user),
            // Who it was is not known.
            Err(_) => false,
        };
        self.answers.retain(|_, (_, verdict)| is_other(verdict));
        let answers = &self.answers;
        self.order.retain(|(_, key)| answers.contains_key(key));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.answers.len(), self.order.len())
    }
}

fn hash(key: &str) -> Hash {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Admitted, Refusal},
        *,
    };

    const LIFE: Duration = Duration::from_secs(10);

    #[test]
    fn an_answer_holds_for_its_life_and_no_longer() {
        let (now, mut cache) = (Instant::now(), Cache::new(9, LIFE));
        cache.put(now, "a", Ok(Admitted::user("ann")));
        assert_eq!(cache.get(now, "a"), Some(&Ok(Admitted::user("ann"))));
        assert_eq!(cache.get(now, "b"), None);
        assert_eq!(cache.get(now + LIFE, "a"), None);
    }

    #[test]
    fn the_oldest_answer_goes_when_there_are_too_many() {
        let (now, mut cache) = (Instant::now(), Cache::new(3, LIFE));
        for key in 0..1_000_u32 {
            let now = now + Duration::from_millis(key.into());
            cache.put(now, &key.to_string(), Err(Refusal::never("no")));
            // One key again and again makes no room for others.
            cache.put(now, "same", Ok(Admitted::nobody()));
            assert!(cache.len().0 <= 3 && cache.len().1 <= 3, "{:?}", cache.len());
        }
        assert!(cache.get(now, "same").is_some());
    }

    #[test]
    fn what_was_answered_of_a_user_can_be_forgotten() {
        let (now, mut cache) = (Instant::now(), Cache::new(9, LIFE));
        for user in ["ann", "bob"] {
            cache.put(now, user, Ok(Admitted::user(user)));
        }
        cache.put(now, "who", Err(Refusal::never("no")));
        cache.forget("ann");
        assert!(cache.get(now, "ann").is_none() && cache.get(now, "who").is_none());
        assert!(cache.get(now, "bob").is_some());
        assert_eq!(cache.len(), (1, 1));
    }
}
