//! The places of links in the limits.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tabmux_core::{
    Timestamp,
    session::{Admitted, User, Visitor},
};

use super::{cause::Cause, people::People, quota::Quota};
use crate::Handshake;

/// The place of a client that is being judged: one of its address. It is given back when it is
/// dropped.
pub(crate) struct Approach {
    tickets: Arc<Tickets>,
    peer: Option<Holder>,
}

/// A question about a client that is open, or whose answer has yet to be acted on: for so long the
/// table of users remembers who is ended.
pub(crate) struct Asking {
    tickets: Arc<Tickets>,
    /// When it began, as the number of users that were ended before.
    moment: u64,
}

/// A link's place, given back when it is dropped.
pub(crate) struct Ticket {
    tickets: Arc<Tickets>,
    stub: Stub,
    /// The request, for a judge that is asked again when the hub has shown credentials.
    handshake: Option<Box<Handshake>>,
}

/// What is left of a ticket when a shard has taken its link; to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stub {
    peer: Holder,
    /// The client's address where the stream does not tell it; 0.0.0.0 for none.
    address: Ipv4Addr,
    visitor: Option<Arc<Visitor>>,
}

/// The places that are taken.
pub(crate) struct Tickets {
    state: Mutex<State>,
    /// Secret, so that nobody can choose whom to share a number with.
    hasher: RandomState,
}

/// A client's address, or its network of IPv6, as a number. Two that have the same one share a
/// limit, which is rarer than one link in a thousand having to wait for it.
type Holder = u32;

struct State {
    links: usize,
    peers: Crowd,
    people: People,
    /// Until when the links of a second are given away.
    booked: Instant,
}

impl Tickets {
    pub(crate) fn new(now: Instant) -> Self {
        let (peers, people) = (Crowd(HashMap::new()), People::default());
        let state = State { links: 0, peers, people, booked: now };
        Self { state: Mutex::new(state), hasher: RandomState::new() }
    }

    /// Takes one of a second's links, and a place of the client's address.
    pub(super) fn approach(
        self: &Arc<Self>,
        now: Instant,
        client: Option<IpAddr>,
        quota: &Quota,
    ) -> Result<Approach, Cause> {
        let per_ip = quota.links_per_ip;
        let peer = client.filter(|_| per_ip > 0).and_then(|client| self.peer(client));
        let mut state = self.state();
        if peer.is_some_and(|peer| state.peers.of(peer) >= per_ip) {
            return Err(Cause::LinksPerIp);
        }
        // The last, so that only who is let in uses it up.
        state.book(now, quota.per_second)?;
        state.peers.come(peer);
        drop(state);
        Ok(Approach { tickets: Arc::clone(self), peer })
    }

    /// Returns the number of a client's address. `None` for an address of this machine: that is a
    /// proxy, or its operator.
    pub(crate) fn peer(&self, client: IpAddr) -> Option<Holder> {
        let client = match client.to_canonical() {
            // Nobody knows who comes over a Unix socket, and only this machine does.
            client if client.is_loopback() || client.is_unspecified() => return None,
            IpAddr::V6(address) => IpAddr::from((address.to_bits() >> 64 << 64).to_be_bytes()),
            client @ IpAddr::V4(_) => client,
        };
        Some((self.hasher.hash_one(client) as u32).max(NOBODY + 1))
    }

    /// Takes a place back.
    pub(crate) fn give_back(&self, stub: &Stub) {
        if *stub == Stub::NONE {
            return;
        }
        let mut state = self.state();
        state.links -= 1;
        state.peers.go(stub.peer());
        if let Some(user) = stub.user() {
            state.people.go(user.name());
        }
    }

    /// Ends a user: who was let in before, or is asked about now, counts no more.
    pub(crate) fn end_user(&self, name: &str) {
        self.state().people.end(name);
    }

    /// Returns false if the user was ended since the link was let in.
    pub(crate) fn is_current(&self, user: &User) -> bool {
        self.state().people.is_current(user)
    }

    /// Takes a place of a user for a link that has one. Returns nothing if the user was ended since
    /// the question began.
    pub(super) fn seat(
        &self,
        quota: &Quota,
        user: &str,
        asking: &Asking,
    ) -> Result<Option<Arc<User>>, Cause> {
        let mut state = self.state();
        if state.people.is_outdated(user, asking.moment) {
            return Ok(None);
        }
        let per_user = quota.links_per_user;
        if per_user > 0 && state.people.links_of(user) >= per_user {
            return Err(Cause::LinksPerUser);
        }
        Ok(Some(state.people.come(user)))
    }

    /// Takes a place of a user back, whose link goes on without it or is no more.
    pub(crate) fn leave_seat(&self, user: &User) {
        self.state().people.go(user.name());
    }

    /// Begins a question about a client.
    pub(crate) fn begin_question(self: &Arc<Self>) -> Asking {
        let moment = self.state().people.begin_question();
        Asking { tickets: Arc::clone(self), moment }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    /// Returns true if an answer that names this user does not count, because the user was ended
    /// since the question began.
    pub(crate) fn is_outdated(&self, user: &str) -> bool {
        self.tickets.state().people.is_outdated(user, self.moment)
    }

    /// Returns true if any user was ended since the question began.
    pub(crate) fn is_old(&self) -> bool {
        self.tickets.state().people.generation() > self.moment
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.tickets.state().people.end_question();
    }
}

impl Approach {
    /// Takes a link's place for a client that nobody judged.
    pub(super) fn enter(self, quota: &Quota, guest: Guest<'_>) -> Result<Ticket, Cause> {
        let user = self.tickets.state().take_place(quota, guest.user)?;
        Ok(self.seat(user, guest))
    }

    /// Takes a link's place for a client that was judged. Returns the client's approach if its user
    /// was ended since the question began. One lock holds over the look and the taking of the
    /// place, so nobody is ended between the two.
    pub(super) fn enter_judged(
        self,
        quota: &Quota,
        guest: Guest<'_>,
        asking: &Asking,
    ) -> Result<Result<Ticket, Self>, Cause> {
        let mut state = self.tickets.state();
        if guest.user.is_some_and(|user| state.people.is_outdated(user, asking.moment)) {
            drop(state);
            return Ok(Err(self));
        }
        let user = state.take_place(quota, guest.user)?;
        drop(state);
        Ok(Ok(self.seat(user, guest)))
    }

    fn seat(mut self, user: Option<Arc<User>>, guest: Guest<'_>) -> Ticket {
        let Guest { user: _, tag, until, address, headers, is_undecided } = guest;
        let (v4, address) = match address {
            Some(IpAddr::V4(v4)) => (v4, None),
            address => (Ipv4Addr::UNSPECIFIED, address),
        };
        let is_blank = user.is_none() && until.is_none() && address.is_none() && headers.is_empty();
        let admitted = (!is_blank).then_some(Admitted { user, tag, until, address, headers });
        let visitor = if is_undecided {
            Some(Visitor::Undecided(address))
        } else {
            admitted.map(Visitor::Admitted)
        };
        let visitor = visitor.map(Arc::new);
        self.ticket(Stub { peer: NOBODY, address: v4, visitor })
    }

    /// Takes a link's place for a client that is refused once it has said HELLO.
    pub(super) fn enter_refused(
        mut self,
        quota: &Quota,
        visitor: Visitor,
    ) -> Result<Ticket, Cause> {
        let mut state = self.tickets.state();
        if state.links >= quota.links {
            return Err(Cause::Links);
        }
        state.links += 1;
        drop(state);
        let (address, visitor) = (Ipv4Addr::UNSPECIFIED, Some(Arc::new(visitor)));
        Ok(self.ticket(Stub { peer: NOBODY, address, visitor }))
    }

    /// The place of the address goes with the link.
    fn ticket(&mut self, stub: Stub) -> Ticket {
        let peer = self.peer.take().unwrap_or(NOBODY);
        let (tickets, stub) = (Arc::clone(&self.tickets), Stub { peer, ..stub });
        Ticket { tickets, stub, handshake: None }
    }
}

impl Drop for Approach {
    fn drop(&mut self) {
        if self.peer.is_some() {
            self.tickets.state().peers.go(self.peer);
        }
    }
}

/// A client that is let in.
pub(crate) struct Guest<'a> {
    /// The user, if one was named.
    pub(crate) user: Option<&'a str>,
    /// The user's identity tag.
    pub(crate) tag: Option<Box<str>>,
    /// When the link ends.
    pub(crate) until: Option<Timestamp>,
    /// The client's address, if its stream does not tell it.
    pub(crate) address: Option<IpAddr>,
    /// Headers to keep.
    pub(crate) headers: Vec<(Box<str>, Box<[u8]>)>,
    /// The application decides once the hub has shown its credentials.
    pub(crate) is_undecided: bool,
}

/// How many links each of many holds.
struct Crowd(HashMap<Holder, u32>);

impl Crowd {
    fn of(&self, holder: Holder) -> u32 {
        self.0.get(&holder).copied().unwrap_or(0)
    }

    fn come(&mut self, holder: Option<Holder>) {
        if let Some(holder) = holder {
            *self.0.entry(holder).or_default() += 1;
        }
    }

    /// One who did not come, since there is no limit, may go.
    fn go(&mut self, holder: Option<Holder>) {
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
    /// Takes a link's place, and one of its user. Returns the user's record.
    fn take_place(
        &mut self,
        quota: &Quota,
        user: Option<&str>,
    ) -> Result<Option<Arc<User>>, Cause> {
        if self.links >= quota.links {
            return Err(Cause::Links);
        }
        let per_user = quota.links_per_user;
        if user.is_some_and(|user| per_user > 0 && self.people.links_of(user) >= per_user) {
            return Err(Cause::LinksPerUser);
        }
        self.links += 1;
        Ok(user.map(|user| self.people.come(user)))
    }

    /// Takes one of a second's links; a quiet second lets as many in at once.
    fn book(&mut self, now: Instant, per_second: u32) -> Result<(), Cause> {
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
    /// Keeps the request until the hub has said HELLO.
    pub(crate) fn with(mut self, handshake: Handshake) -> Self {
        self.handshake = Some(Box::new(handshake));
        self
    }

    /// Returns the request, taken out.
    pub(crate) fn take_handshake(&mut self) -> Option<Box<Handshake>> {
        self.handshake.take()
    }

    /// Leaves it to the caller to give the place back.
    pub(crate) fn tear(mut self) -> Stub {
        std::mem::replace(&mut self.stub, Stub::NONE)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.tickets.give_back(&self.stub);
    }
}

impl Stub {
    /// Of a stream that nobody counts.
    pub(crate) const NONE: Self = Self { peer: 0, address: Ipv4Addr::UNSPECIFIED, visitor: None };

    /// Returns what is known of who opened the link.
    pub(crate) const fn visitor(&self) -> Option<&Arc<Visitor>> {
        self.visitor.as_ref()
    }

    /// Returns the client's address, where the stream does not tell it.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        if !self.address.is_unspecified() {
            return Some(self.address.into());
        }
        match self.visitor.as_deref()? {
            Visitor::Admitted(admitted) => admitted.address,
            Visitor::Undecided(address) => *address,
            Visitor::Refused(_) => None,
        }
    }

    /// Sets whose the link is. Returns what was known before.
    pub(crate) const fn seat(&mut self, visitor: Arc<Visitor>) -> Option<Arc<Visitor>> {
        self.visitor.replace(visitor)
    }

    fn user(&self) -> Option<&Arc<User>> {
        self.visitor.as_ref()?.user()
    }

    fn peer(&self) -> Option<Holder> {
        (self.peer != NOBODY).then_some(self.peer)
    }
}

/// Who is not counted.
const NOBODY: Holder = 1;

/// A link that nothing is known of pays for no more than its place.
const _: () = assert!(size_of::<Stub>() == 16);

#[cfg(test)]
impl Tickets {
    /// Returns how many links there are, and how many addresses are counted.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.links, state.peers.0.len())
    }

    pub(super) fn capacity(&self) -> usize {
        self.state().peers.0.capacity()
    }
}
