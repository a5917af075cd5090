//! The users of links, and how their links are ended.

use std::{collections::HashMap, sync::Arc};

use tabmux_core::session::User;

/// Users that were ended and are remembered while questions are open. Beyond that many, every
/// question that is open is asked again.
const REMEMBERED: usize = 4_096;

/// The users who have links, and those who were ended while somebody was being judged.
#[derive(Default)]
pub(super) struct People {
    seats: HashMap<Box<str>, Seat>,
    /// How often a user was ended.
    generation: u64,
    /// Questions that are open.
    asking: usize,
    /// When users were last ended, as long as a question of before is open.
    ended: HashMap<Box<str>, u64>,
    /// Answers to questions of before count for nobody.
    floor: u64,
}

/// The links of a user.
struct Seat {
    links: u32,
    user: Arc<User>,
}

impl People {
    /// Returns the number of links of a user.
    pub(super) fn links_of(&self, name: &str) -> u32 {
        self.seats.get(name).map_or(0, |seat| seat.links)
    }

    /// Adds a link of a user. Returns the record that all of the user's links share.
    pub(super) fn come(&mut self, name: &str) -> Arc<User> {
        let generation = self.generation;
        if let Some(seat) = self.seats.get_mut(name) {
            seat.links += 1;
            return Arc::clone(&seat.user);
        }
        let user = Arc::new(User::new(name, generation));
        self.seats.insert(name.into(), Seat { links: 1, user: Arc::clone(&user) });
        user
    }

    /// Removes a link of a user.
    pub(super) fn go(&mut self, name: &str) {
        match self.seats.get_mut(name) {
            Some(seat) if seat.links > 1 => seat.links -= 1,
            _ => drop(self.seats.remove(name)),
        }
        // A crowd that went leaves no memory behind.
        if self.seats.len() < self.seats.capacity() / 8 {
            self.seats.shrink_to_fit();
        }
    }

    /// Ends a user: who was let in before, or is asked about now, counts no more.
    pub(super) fn end(&mut self, name: &str) {
        self.generation += 1;
        if let Some(seat) = self.seats.get_mut(name) {
            seat.user = Arc::new(User::new(name, self.generation));
        }
        if self.asking == 0 {
            return;
        }
        if self.ended.len() >= REMEMBERED {
            self.ended.clear();
            self.floor = self.generation;
        }
        self.ended.insert(name.into(), self.generation);
    }

    /// Returns false if the user was ended since the record was made.
    pub(super) fn is_current(&self, user: &User) -> bool {
        let seat = self.seats.get(user.name());
        seat.is_none_or(|seat| seat.user.generation() == user.generation())
    }

    /// Returns how often a user was ended.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Begins a question. Returns the moment, to be held against `is_outdated`.
    pub(super) const fn begin_question(&mut self) -> u64 {
        self.asking += 1;
        self.generation
    }

    /// Ends a question.
    pub(super) fn end_question(&mut self) {
        self.asking -= 1;
        if self.asking == 0 {
            self.ended = HashMap::new();
        }
    }

    /// Returns true if the user was ended since the moment.
    pub(super) fn is_outdated(&self, name: &str, moment: u64) -> bool {
        moment < self.floor || self.ended.get(name).is_some_and(|ended| *ended > moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_a_user_share_a_record_until_the_user_is_ended() {
        let mut people = People::default();
        let [one, two] = [(); 2].map(|()| people.come("ann"));
        assert!(Arc::ptr_eq(&one, &two) && people.is_current(&one));
        people.end("ann");
        assert!(!people.is_current(&one), "it was let in before");
        let three = people.come("ann");
        assert!(people.is_current(&three));
        (0..3).for_each(|_| people.go("ann"));
        assert_eq!((people.links_of("ann"), people.seats.len()), (0, 0));
    }

    #[test]
    fn an_answer_to_a_question_of_before_the_end_is_outdated() {
        let mut people = People::default();
        let before = people.begin_question();
        people.end("ann");
        let after = people.begin_question();
        assert!(people.is_outdated("ann", before));
        assert!(!people.is_outdated("ann", after) && !people.is_outdated("bob", before));
        people.end_question();
        people.end_question();
        assert!(people.ended.is_empty(), "nobody asks any more");
        people.end("bob");
        assert!(people.ended.is_empty(), "nobody asks");
    }

    #[test]
    fn who_ends_ever_other_users_is_not_remembered_for_all_of_them() {
        let mut people = People::default();
        let before = people.begin_question();
        for user in 0..2 * REMEMBERED + 1 {
            people.end(&user.to_string());
        }
        assert!(people.ended.len() <= REMEMBERED);
        assert!(people.is_outdated("0", before), "an answer too many is asked for again");
        assert!(people.is_outdated("somebody", before));
    }
}
