//! Web Locks: first come, first served; let go of by whoever dies; taken by whoever steals.

use std::collections::BTreeMap;

use tabmux_core::wire::{HubId, TabId};

/// What can be locked in one browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockName {
    /// Held by a tab while it lives.
    Tab(TabId),
    /// Held by a hub while it lives.
    Hub(HubId),
    /// Held by whoever may open the link.
    Link,
}

/// Who asks for locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Agent {
    /// A page.
    Tab(TabId),
    /// A worker in which a hub runs.
    Host(u32),
    /// Someone of another build, which this one knows nothing of.
    Stranger,
}

/// One call of `navigator.locks.request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request(u64);

/// All locks of a browser.
#[derive(Debug, Default)]
pub struct Locks {
    queues: BTreeMap<LockName, Vec<Entry>>,
    last: u64,
}

#[derive(Debug)]
struct Entry {
    request: Request,
    by: Agent,
    shared: bool,
    granted: bool,
}

/// A lock that someone just got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub to: Agent,
    /// Which.
    pub name: LockName,
    /// By which request.
    pub request: Request,
}

impl Locks {
    /// Someone queues for a lock.
    pub fn request(&mut self, name: LockName, by: Agent, shared: bool) -> Request {
        self.last += 1;
        let request = Request(self.last);
        self.queues.entry(name).or_default().push(Entry { request, by, shared, granted: false });
        request
    }

    /// Someone takes a lock from whoever holds it.
    pub fn steal(&mut self, name: LockName, by: Agent) -> Request {
        self.last += 1;
        let request = Request(self.last);
        let queue = self.queues.entry(name).or_default();
        queue.retain(|entry| !entry.granted);
        queue.insert(0, Entry { request, by, shared: false, granted: false });
        request
    }

    /// Someone lets go of a lock, or stops queueing for it.
    pub fn release(&mut self, request: Request) {
        for queue in self.queues.values_mut() {
            queue.retain(|entry| entry.request != request);
        }
        self.queues.retain(|_, queue| !queue.is_empty());
    }

    /// Someone is no more.
    pub fn bury(&mut self, who: Agent) {
        for queue in self.queues.values_mut() {
            queue.retain(|entry| entry.by != who);
        }
        self.queues.retain(|_, queue| !queue.is_empty());
    }

    /// Whether a request is granted and was not stolen.
    pub fn holds(&self, request: Request) -> bool {
        let mut all = self.queues.values().flatten();
        all.any(|entry| entry.request == request && entry.granted)
    }

    /// Who gets what, now that something changed.
    pub fn pump(&mut self) -> Vec<Grant> {
        let mut grants = Vec::new();
        for (name, queue) in &mut self.queues {
            for (at, entry) in queue.iter_mut().enumerate() {
                if !entry.shared && at > 0 {
                    break;
                }
                if !entry.granted {
                    entry.granted = true;
                    let Entry { request, by: to, .. } = *entry;
                    grants.push(Grant { to, name: *name, request });
                }
                if !entry.shared {
                    break;
                }
            }
        }
        grants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: LockName = LockName::Link;

    fn granted(locks: &mut Locks) -> Vec<Agent> {
        locks.pump().iter().map(|grant| grant.to).collect()
    }

    #[test]
    fn an_exclusive_lock_goes_to_the_first_and_then_to_the_next() {
        let mut locks = Locks::default();
        let first = locks.request(NAME, Agent::Host(1), false);
        let second = locks.request(NAME, Agent::Host(2), false);
        assert_eq!(granted(&mut locks), [Agent::Host(1)]);
        assert_eq!(granted(&mut locks), []);
        locks.release(first);
        assert_eq!(granted(&mut locks), [Agent::Host(2)]);
        assert!(locks.holds(second));
    }

    #[test]
    fn all_who_share_get_it_together_when_the_holder_dies() {
        let mut locks = Locks::default();
        locks.request(NAME, Agent::Host(1), false);
        locks.request(NAME, Agent::Tab(TabId(1)), true);
        locks.request(NAME, Agent::Tab(TabId(2)), true);
        locks.request(NAME, Agent::Host(2), false);
        assert_eq!(granted(&mut locks), [Agent::Host(1)]);
        locks.bury(Agent::Host(1));
        assert_eq!(granted(&mut locks), [Agent::Tab(TabId(1)), Agent::Tab(TabId(2))]);
        locks.bury(Agent::Tab(TabId(1)));
        locks.bury(Agent::Tab(TabId(2)));
        assert_eq!(granted(&mut locks), [Agent::Host(2)]);
    }

    #[test]
    fn a_thief_gets_it_before_all_who_wait() {
        let mut locks = Locks::default();
        let held = locks.request(NAME, Agent::Host(1), false);
        locks.request(NAME, Agent::Host(2), false);
        locks.pump();
        let stolen = locks.steal(NAME, Agent::Stranger);
        assert_eq!(granted(&mut locks), [Agent::Stranger]);
        assert!(!locks.holds(held));
        locks.release(stolen);
        assert_eq!(granted(&mut locks), [Agent::Host(2)]);
    }
}
