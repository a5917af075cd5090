//! Web Locks by name. They are granted first come, first served. The death of their holder releases
//! them, and another agent may steal them.

use std::collections::BTreeMap;

/// An agent that asks for locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Agent {
    /// A page or a worker of the browser.
    Realm(u32),
    /// Another script of the same origin.
    Stranger,
}

/// One call of `navigator.locks.request`: the agent, and the number of the call.
pub type Call = (Agent, u32);

/// The result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The call got the lock.
    Granted,
    /// The call wanted the lock only if it was free, and it was not.
    Unavailable,
    /// Another call stole the lock from this one.
    Stolen,
}

/// The options of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// True if other shared calls may hold the lock at the same time.
    pub shared: bool,
    /// True if the call must not wait.
    pub if_available: bool,
    /// True if the call takes the lock from its holder.
    pub steal: bool,
}

/// All locks of one storage partition.
#[derive(Debug, Default)]
pub struct Locks(BTreeMap<String, Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    call: Call,
    shared: bool,
    granted: bool,
}

impl Locks {
    /// Called when an agent requests a lock.
    pub fn request(&mut self, name: &str, call: Call, wish: Wish) -> Vec<(Call, News)> {
        let Wish { shared, if_available, steal } = wish;
        let queue = self.0.entry(name.to_owned()).or_default();
        let mut news = Vec::new();
        let entry = Entry { call, shared, granted: false };
        if steal {
            let held = queue.iter().filter(|entry| entry.granted);
            news.extend(held.map(|entry| (entry.call, News::Stolen)));
            queue.retain(|entry| !entry.granted);
            queue.insert(0, entry);
        } else if if_available && !may_have(queue, shared) {
            news.push((call, News::Unavailable));
        } else {
            queue.push(entry);
        }
        news.extend(self.pump());
        news
    }

    /// Releases a lock, or stops waiting for it.
    pub fn release(&mut self, call: Call) -> Vec<(Call, News)> {
        self.drop_where(|entry| entry.call == call)
    }

    /// Releases all locks of an agent that has died.
    pub fn bury(&mut self, who: Agent) -> Vec<(Call, News)> {
        self.drop_where(|entry| entry.call.0 == who)
    }

    /// Returns the names of all locks that are held.
    pub fn held(&self) -> impl Iterator<Item = &str> {
        let held = self.0.iter().filter(|(_, queue)| queue.iter().any(|entry| entry.granted));
        held.map(|(name, _)| name.as_str())
    }

    fn drop_where(&mut self, is: impl Fn(&Entry) -> bool) -> Vec<(Call, News)> {
        for queue in self.0.values_mut() {
            queue.retain(|entry| !is(entry));
        }
        self.0.retain(|_, queue| !queue.is_empty());
        self.pump()
    }

    /// Grants locks after a change, and returns what the calls learn.
    fn pump(&mut self) -> Vec<(Call, News)> {
        let mut news = Vec::new();
        for queue in self.0.values_mut() {
            for at in 0..queue.len() {
                if queue[at].granted {
                    continue;
                }
                let shared = queue[at].shared;
                if !may_have(&queue[..at], shared) {
                    break;
                }
                queue[at].granted = true;
                news.push((queue[at].call, News::Granted));
            }
        }
        news
    }
}

/// Returns true if a lock may be granted behind these entries.
fn may_have(before: &[Entry], shared: bool) -> bool {
    before.is_empty() || shared && before.iter().all(|entry| entry.shared && entry.granted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn call(realm: u32) -> Call {
        (Agent::Realm(realm), 1)
    }

    const SHARED: Wish = Wish { shared: true, if_available: false, steal: false };
    const NOW: Wish = Wish { shared: false, if_available: true, steal: false };
    const STEAL: Wish = Wish { shared: false, if_available: false, steal: true };
    const PLAIN: Wish = Wish { shared: false, if_available: false, steal: false };

    #[test]
    fn an_exclusive_lock_goes_to_the_first_and_then_to_the_next() {
        let mut locks = Locks::default();
        assert_eq!(locks.request("a", call(1), PLAIN), [(call(1), News::Granted)]);
        assert_eq!(locks.request("a", call(2), PLAIN), []);
        assert_eq!(locks.release(call(1)), [(call(2), News::Granted)]);
    }

    #[test]
    fn all_shared_calls_get_the_lock_together_when_its_holder_dies() {
        let mut locks = Locks::default();
        locks.request("a", call(1), PLAIN);
        locks.request("a", call(2), SHARED);
        locks.request("a", call(3), SHARED);
        locks.request("a", call(4), PLAIN);
        let both = [(call(2), News::Granted), (call(3), News::Granted)];
        assert_eq!(locks.bury(Agent::Realm(1)), both);
        assert_eq!(locks.bury(Agent::Realm(2)), []);
        assert_eq!(locks.bury(Agent::Realm(3)), [(call(4), News::Granted)]);
    }

    #[test]
    fn a_thief_gets_the_lock_before_waiting_calls_and_the_holder_is_told() {
        let mut locks = Locks::default();
        locks.request("a", call(1), PLAIN);
        locks.request("a", call(2), PLAIN);
        let news = [(call(1), News::Stolen), (call(3), News::Granted)];
        assert_eq!(locks.request("a", call(3), STEAL), news);
        assert_eq!(locks.release(call(3)), [(call(2), News::Granted)]);
    }

    #[test]
    fn a_call_that_must_not_wait_is_told_that_the_lock_is_held() {
        let mut locks = Locks::default();
        assert_eq!(locks.request("a", call(1), NOW), [(call(1), News::Granted)]);
        assert_eq!(locks.request("a", call(2), NOW), [(call(2), News::Unavailable)]);
        assert_eq!(locks.release(call(1)), []);
    }
}
