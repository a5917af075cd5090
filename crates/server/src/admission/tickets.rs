//! The places of links in the limits.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    num::NonZeroU64,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tabmux_core::session::Identity;

use super::cause::Cause;

/// A link's place, given back when it is dropped.
pub(crate) struct Ticket {
    tickets: Arc<Tickets>,
    stub: Stub,
}

/// What is left of a ticket when a shard has taken its link; to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stub {
    peer: Holder,
    user: Option<Identity>,
}

/// The places that are taken.
pub(crate) struct Tickets {
    state: Mutex<State>,
    /// Secret, so that nobody can choose whom to share a number with.
    hasher: RandomState,
}

/// A client's address, or its network of IPv6, as a number. Two that have the same one share a
/// limit, which is rarer than one link in a thousand having to wait for it.
pub(super) type Holder = u32;

pub(super) struct State {
    pub(super) links: usize,
    pub(super) peers: Crowd<Holder>,
    pub(super) users: Crowd<Identity>,
    /// Until when the links of a second are given away.
    booked: Instant,
}

impl Tickets {
    pub(crate) fn new(now: Instant) -> Self {
        let (peers, users) = (Crowd(HashMap::new()), Crowd(HashMap::new()));
        let state = State { links: 0, peers, users, booked: now };
        Self { state: Mutex::new(state), hasher: RandomState::new() }
    }

    /// `None` for an address of this machine: that is a proxy, or its operator.
    pub(super) fn peer(&self, client: IpAddr) -> Option<Holder> {
        let client = match client.to_canonical() {
            client if client.is_loopback() => return None,
            IpAddr::V6(address) => IpAddr::from((address.to_bits() >> 64 << 64).to_be_bytes()),
            client @ IpAddr::V4(_) => client,
        };
        Some(self.number(client))
    }

    fn number(&self, holder: impl Hash) -> Holder {
        (self.hasher.hash_one(holder) as u32).max(NOBODY + 1)
    }

    /// All bits, since it also guards sessions.
    pub(super) fn identity(&self, user: &str) -> Identity {
        Identity(NonZeroU64::new(self.hasher.hash_one(user)).unwrap_or(NonZeroU64::MIN))
    }

    /// Takes a place back.
    pub(crate) fn give_back(&self, stub: Stub) {
        if stub == Stub::NONE {
            return;
        }
        let mut state = self.state();
        state.links -= 1;
        state.peers.go(stub.peer());
        state.users.go(stub.user);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many links each of many holds.
pub(super) struct Crowd<T>(pub(super) HashMap<T, u32>);

impl<T: Eq + Hash> Crowd<T> {
    pub(super) fn of(&self, holder: T) -> u32 {
        self.0.get(&holder).copied().unwrap_or(0)
    }

    pub(super) fn come(&mut self, holder: Option<T>) {
        if let Some(holder) = holder {
            *self.0.entry(holder).or_default() += 1;
        }
    }

    /// One who did not come, since there is no limit, may go.
    fn go(&mut self, holder: Option<T>) {
        let Some(holder) = holder else {
            return;
        };
        match self.0.get_mut(&holder) {
            Some(links) if *links > 1 => *links -= 1,
            _ => drop(self.0.remove(&holder)),
        }
        // A crowd that went leaves no memory behind.
        if self.0.len() < self.0.capacity() / 8 {
            self.0.shrink_to_fit();
        }
    }
}

impl State {
    /// Takes one of a second's links; a quiet second lets as many in at once.
    pub(super) fn book(&mut self, now: Instant, per_second: u32) -> Result<(), Cause> {
        let Some(each) = Duration::from_secs(1).checked_div(per_second) else {
            return Ok(());
        };
        let booked = self.booked.max(now);
        if booked + each > now + Duration::from_secs(1) {
            return Err(Cause::Rate);
        }
        self.booked = booked + each;
        Ok(())
    }
}

impl Ticket {
    pub(super) fn new(tickets: &Arc<Tickets>, stub: Stub) -> Self {
        Self { tickets: Arc::clone(tickets), stub }
    }

    /// Leaves it to the caller to give the place back.
    pub(crate) fn tear(mut self) -> Stub {
        std::mem::replace(&mut self.stub, Stub::NONE)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.tickets.give_back(self.stub);
    }
}

impl Stub {
    /// Of a stream that nobody counts.
    pub(crate) const NONE: Self = Self { peer: 0, user: None };

    pub(super) fn new(peer: Option<Holder>, user: Option<Identity>) -> Self {
        Self { peer: peer.unwrap_or(NOBODY), user }
    }

    /// Whose link it is.
    pub(crate) const fn identity(self) -> Option<Identity> {
        self.user
    }

    fn peer(self) -> Option<Holder> {
        (self.peer != NOBODY).then_some(self.peer)
    }
}

/// Who is not counted.
const NOBODY: Holder = 1;
