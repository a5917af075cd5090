//! The users of links, and how their links are ended.

use std::{collections::HashMap, sync::Arc};

use tabmux_core::session::{Account, Holder, User};

/// Users that were ended and are remembered while questions are open. Beyond that many, every
/// question that is open is asked again.
const REMEMBERED: usize = 4_096;

/// Users that are looked through at least, before those who left nothing are sorted out.
const TIDIED: usize = 64;

/// The users who have links, and those who were ended while somebody was being judged.
#[derive(Default)]
pub(super) struct People {
    seats: HashMap<Box<str>, Seat>,
    /// With so many users those who left nothing are sorted out.
    tidy_at: usize,
    /// The number of the last account.
    last: u64,
    /// How often a user was ended.
    generation: u64,
    /// Questions that are open.
    asking: usize,
    /// When users were last ended, as long as a question of before is open.
    ended: HashMap<Box<str>, u64>,
    /// Answers to questions of before count for nobody.
    floor: u64,
}

/// A user who has links, or whose sessions wait for one.
struct Seat {
    links: u32,
    user: Arc<User>,
    account: Arc<Account>,
}

impl Seat {
    fn is_over(&self) -> bool {
        self.links == 0 && self.account.is_idle()
    }
}

impl People {
    /// Returns the number of links of a user.
    pub(super) fn links_of(&self, name: &str) -> u32 {
        self.seats.get(name).map_or(0, |seat| seat.links)
    }

    /// Adds a link of a user. Returns the records that all of the user's links share.
    pub(super) fn come(&mut self, name: &str) -> (Arc<User>, Arc<Account>) {
        if self.seats.len() >= self.tidy_at.max(TIDIED) {
            self.seats.retain(|_, seat| !seat.is_over());
            self.tidy_at = 2 * self.seats.len();
        }
        if !self.seats.contains_key(name) {
            // Addresses have even numbers.
            self.last += 2;
            let account = Arc::new(Account::new(self.last + 1, Holder::User));
            let user = Arc::new(User::new(name, self.generation));
            self.seats.insert(name.into(), Seat { links: 0, user, account });
        }
        let seat = self.seats.get_mut(name).expect("it was put there if it was missing");
        seat.links += 1;
        (Arc::clone(&seat.user), Arc::clone(&seat.account))
    }

    /// Returns who pays for the links of a user.
    pub(super) fn account_of(&self, name: &str) -> Option<Arc<Account>> {
        self.seats.get(name).map(|seat| Arc::clone(&seat.account))
    }

    /// Removes a link of a user.
    pub(super) fn go(&mut self, name: &str) {
        if let Some(seat) = self.seats.get_mut(name) {
            seat.links = seat.links.saturating_sub(1);
            if seat.is_over() {
                self.seats.remove(name);
            }
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
        let [one, two] = [(); 2].map(|()| people.come("ann").0);
        assert!(Arc::ptr_eq(&one, &two) && people.is_current(&one));
        people.end("ann");
        assert!(!people.is_current(&one), "it was let in before");
        let (three, _) = people.come("ann");
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
