//! The places of links in the limits.

use std::{
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tabmux_core::{
    Timestamp,
    session::{Account, Admitted, User, Visitor},
};

use super::{cause::Cause, crowd::Crowd, people::People, quota::Quota};
use crate::Handshake;

/// The place of a client that is being judged: one of its address. It is given back when it is
/// dropped.
pub(crate) struct Approach {
    tickets: Arc<Tickets>,
    peer: Option<Peer>,
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

/// The open file of a connection to an upstream, given back when it is dropped.
pub(crate) struct File(Arc<Tickets>);

/// What is left of a ticket when a shard has taken its link; to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stub {
    peer: Peer,
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
pub(super) type Peer = u32;

struct State {
    links: usize,
    /// Connections to upstreams, which take open files as links do.
    upstreams: usize,
    peers: Crowd,
    people: People,
    /// Until when the links of a second are given away.
    booked: Instant,
}

impl Tickets {
    pub(crate) fn new(now: Instant) -> Self {
        let (peers, people) = (Crowd::default(), People::default());
        let state = State { links: 0, upstreams: 0, peers, people, booked: now };
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
        let peer = client.and_then(|client| self.peer(client));
        let mut state = self.state();
        if peer.is_some_and(|peer| per_ip > 0 && state.peers.links_of(peer) >= per_ip) {
            return Err(Cause::LinksPerIp);
        }
        let State { peers, booked, .. } = &mut *state;
        let mut place = peer.map(|peer| peers.come(peer, now));
        let own = place.as_mut().map(|place| (&mut place.booked, quota.per_ip_per_second));
        let taken = match own {
            // Who takes all of a second for itself is refused first.
            Some((own, each)) if !has_room(*own, now, each) => Err(Cause::RatePerIp),
            own => book(booked, now, quota.per_second).map(|()| {
                if let Some((own, each)) = own {
                    let _ = book(own, now, each);
                }
            }),
        };
        if let Err(cause) = taken {
            state.peers.go(peer);
            return Err(cause);
        }
        drop(state);
        Ok(Approach { tickets: Arc::clone(self), peer })
    }

    /// Returns the number of a client's address. `None` for an address of this machine: that is a
    /// proxy, or its operator.
    pub(crate) fn peer(&self, client: IpAddr) -> Option<Peer> {
        let client = match client.to_canonical() {
            // Nobody knows who comes over a Unix socket, and only this machine does.
            client if client.is_loopback() || client.is_unspecified() => return None,
            IpAddr::V6(address) => IpAddr::from((address.to_bits() >> 64 << 64).to_be_bytes()),
            client @ IpAddr::V4(_) => client,
        };
        Some((self.hasher.hash_one(client) as u32).max(NOBODY + 1))
    }

    /// Takes an open file for a connection to an upstream, if there is one left.
    pub(super) fn take_file(self: &Arc<Self>, quota: &Quota) -> Option<File> {
        let mut state = self.state();
        if !state.has_file(quota) {
            return None;
        }
        state.upstreams += 1;
        drop(state);
        Some(File(Arc::clone(self)))
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

    /// Returns who pays for a link that has its place: the user, else the address.
    pub(crate) fn account_of(
        &self,
        user: Option<&str>,
        client: Option<IpAddr>,
    ) -> Option<Arc<Account>> {
        let peer = client.and_then(|client| self.peer(client));
        let state = self.state();
        match user {
            Some(user) => state.people.account_of(user),
            None => peer.and_then(|peer| state.peers.visitor_of(peer))?.account().cloned(),
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
        Ok(Some(state.people.come(user).0))
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

impl Drop for File {
    fn drop(&mut self) {
        self.0.state().upstreams -= 1;
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
        let seat = self.tickets.state().take_place(quota, guest.user, self.peer)?;
        Ok(self.sit_down(seat, guest))
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
        let seat = state.take_place(quota, guest.user, self.peer)?;
        drop(state);
        Ok(Ok(self.sit_down(seat, guest)))
    }

    fn sit_down(mut self, seat: Seat, guest: Guest<'_>) -> Ticket {
        let Seat { user, account, blank } = seat;
        let Guest { user: _, tag, until, address, headers, granted, is_undecided } = guest;
        let (v4, address) = match address {
            Some(IpAddr::V4(v4)) => (v4, None),
            address => (Ipv4Addr::UNSPECIFIED, address),
        };
        let is_blank = user.is_none()
            && until.is_none()
            && address.is_none()
            && headers.is_empty()
            && granted.is_empty();
        let admitted = Admitted { user, tag, until, address, account, headers, granted };
        let visitor = if is_undecided {
            Some(Arc::new(Visitor::Undecided(address)))
        } else if is_blank {
            blank
        } else {
            Some(Arc::new(Visitor::Admitted(admitted)))
        };
        self.ticket(Stub { peer: NOBODY, address: v4, visitor })
    }

    /// Takes a link's place for a client that is refused once it has said HELLO.
    pub(super) fn enter_refused(
        mut self,
        quota: &Quota,
        visitor: Visitor,
    ) -> Result<Ticket, Cause> {
        let mut state = self.tickets.state();
        if !state.has_room(quota) {
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
    /// Patterns of topics that the browser may have.
    pub(crate) granted: Box<[Box<str>]>,
    /// The application decides once the hub has shown its credentials.
    pub(crate) is_undecided: bool,
}

/// What a link is given with its place.
struct Seat {
    user: Option<Arc<User>>,
    /// Who pays for the link: the user, else the address.
    account: Option<Arc<Account>>,
    /// What is known of a client of whom nothing is known but the address.
    blank: Option<Arc<Visitor>>,
}

impl State {
    /// Returns true if there is room for a link.
    const fn has_room(&self, quota: &Quota) -> bool {
        self.links < quota.links && self.has_file(quota)
    }

    /// Returns true if there is an open file left.
    const fn has_file(&self, quota: &Quota) -> bool {
        self.links + self.upstreams < quota.files
    }

    /// Takes a link's place, and one of its user.
    fn take_place(
        &mut self,
        quota: &Quota,
        user: Option<&str>,
        peer: Option<Peer>,
    ) -> Result<Seat, Cause> {
        if !self.has_room(quota) {
            return Err(Cause::Links);
        }
        let per_user = quota.links_per_user;
        if user.is_some_and(|user| per_user > 0 && self.people.links_of(user) >= per_user) {
            return Err(Cause::LinksPerUser);
        }
        self.links += 1;
        let blank = peer.and_then(|peer| self.peers.visitor_of(peer));
        let (user, account) = match user {
            Some(user) => {
                let (user, account) = self.people.come(user);
                (Some(user), Some(account))
            }
            None => (None, blank.as_ref().and_then(|blank| blank.account().cloned())),
        };
        Ok(Seat { user, account, blank })
    }
}

/// Takes one of a second's links; a quiet second lets as many in at once.
fn book(booked: &mut Instant, now: Instant, per_second: u32) -> Result<(), Cause> {
    if !has_room(*booked, now, per_second) {
        return Err(Cause::Rate);
    }
    if let Some(each) = Duration::from_secs(1).checked_div(per_second) {
        *booked = (*booked).max(now) + each;
    }
    Ok(())
}

fn has_room(booked: Instant, now: Instant, per_second: u32) -> bool {
    Duration::from_secs(1)
        .checked_div(per_second)
        .is_none_or(|each| booked.max(now) + each <= now + Duration::from_secs(1))
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

    fn peer(&self) -> Option<Peer> {
        (self.peer != NOBODY).then_some(self.peer)
    }
}

/// Who is not counted.
const NOBODY: Peer = 1;

/// A link that nothing is known of pays for no more than its place.
const _: () = assert!(size_of::<Stub>() == 16);

#[cfg(test)]
impl Tickets {
    /// Returns how many links there are, and how many addresses are counted.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.links, state.peers.len())
    }

    pub(super) fn capacity(&self) -> usize {
        self.state().peers.capacity()
    }
}
