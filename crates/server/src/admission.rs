//! Who may open a link: how many in all, of one address, and in a second.
//!
//! A link that was admitted holds a [`Ticket`] while its handshake is answered, and then a
//! [`Stub`] of sixteen bytes, which its shard's loop gives back when the stream goes.

mod cause;
mod crowd;
mod people;
mod quota;
mod tickets;

use std::{
    net::IpAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tabmux_core::session::{Farewell, User, Visitor};

pub(crate) use self::{
    cause::Cause,
    quota::Quota,
    tickets::{Approach, Asking, File, Guest, Stub, Ticket, Tickets},
};
use crate::{histogram::Histogram, logs::Rare, ws::upgrade::Refusal};

/// The door of a server.
pub(crate) struct Admission {
    quota: RwLock<Quota>,
    tickets: Arc<Tickets>,
    /// The server will drain, and says so to load balancers.
    leaving: AtomicBool,
    draining: AtomicBool,
    /// Connections that have not yet said what they want.
    pub(crate) handshakes: AtomicUsize,
    /// Connections for HTTP.
    pub(crate) http: AtomicUsize,
    /// From the acceptance of a connection to its link.
    pub(crate) opening: Histogram,
    admitted: AtomicU64,
    refused: [AtomicU64; Cause::ALL.len()],
    warned: [Rare; Cause::ALL.len()],
    /// Spreads the hints of when to come back.
    hints: AtomicU32,
}

impl Admission {
    pub(crate) fn new(quota: Quota, tickets: Arc<Tickets>) -> Self {
        Self {
            quota: RwLock::new(quota),
            tickets,
            leaving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            handshakes: AtomicUsize::new(0),
            http: AtomicUsize::new(0),
            opening: Histogram::default(),
            admitted: AtomicU64::new(0),
            refused: Default::default(),
            warned: Default::default(),
            hints: AtomicU32::new(0),
        }
    }

    pub(crate) fn quota(&self) -> Quota {
        *self.quota.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets in as much as this from now on. Who is in stays.
    pub(crate) fn set_quota(&self, quota: Quota) {
        *self.quota.write().unwrap_or_else(PoisonError::into_inner) = quota;
    }

    /// Lets a client come near: its address has room, and so has the second.
    ///
    /// # Errors
    /// The refusal that the client is told.
    pub(crate) fn approach(
        &self,
        now: Instant,
        client: Option<IpAddr>,
    ) -> Result<Approach, Refusal> {
        if self.is_draining() {
            return Err(self.refuse(Cause::Draining, client));
        }
        let approach = self.tickets.approach(now, client, &self.quota());
        approach.map_err(|cause| self.refuse(cause, client))
    }

    /// Lets in a client that came near, if there is room for its link and for its user's.
    ///
    /// # Errors
    /// The refusal that the client is told.
    pub(crate) fn admit(
        &self,
        approach: Approach,
        client: Option<IpAddr>,
        guest: Guest<'_>,
    ) -> Result<Ticket, Refusal> {
        let ticket = approach.enter(&self.quota(), guest);
        let ticket = ticket.map_err(|cause| self.refuse(cause, client))?;
        self.admitted.fetch_add(1, Ordering::Relaxed);
        Ok(ticket)
    }

    /// Lets in a client that the application judged, as [`admit`](Self::admit) does. Returns the
    /// client's approach if its user was ended since the question began: it has to be judged again.
    ///
    /// # Errors
    /// The refusal that the client is told.
    pub(crate) fn admit_judged(
        &self,
        approach: Approach,
        client: Option<IpAddr>,
        guest: Guest<'_>,
        asking: &Asking,
    ) -> Result<Result<Ticket, Approach>, Refusal> {
        let entered = approach.enter_judged(&self.quota(), guest, asking);
        let entered = entered.map_err(|cause| self.refuse(cause, client))?;
        if entered.is_ok() {
            self.admitted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(entered)
    }

    /// Lets in a client that is refused once it has said HELLO.
    ///
    /// # Errors
    /// The refusal that the client is told, when there is no room for its link.
    pub(crate) fn admit_refused(
        &self,
        approach: Approach,
        client: Option<IpAddr>,
        farewell: Farewell,
    ) -> Result<Ticket, Refusal> {
        self.count(Cause::Judged, client);
        let ticket = approach.enter_refused(&self.quota(), Visitor::Refused(farewell));
        ticket.map_err(|cause| self.refuse(cause, client))
    }

    /// Takes a place of a user for a link that is open, and that the application judged by its
    /// credentials. Returns the user's record, or nothing if the user was ended since the question
    /// began: the link has to be judged again.
    ///
    /// # Errors
    /// When the user has no room for the link.
    pub(crate) fn seat(&self, user: &str, asking: &Asking) -> Result<Option<Arc<User>>, Cause> {
        self.tickets.seat(&self.quota(), user, asking)
    }

    /// Takes an open file for a connection to an upstream, if there is one left.
    pub(crate) fn take_file(&self) -> Option<File> {
        self.tickets.take_file(&self.quota())
    }

    pub(crate) const fn tickets(&self) -> &Arc<Tickets> {
        &self.tickets
    }

    /// Counts a refusal, and tells the operator now and then.
    pub(crate) fn count(&self, cause: Cause, client: Option<IpAddr>) {
        self.refused[cause as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(advice) = cause.advice()
            && let Some(more) = self.warned[cause as usize].pass()
        {
            let client = client.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
            tracing::warn!(%client, more, "connections are refused: {advice}");
        }
    }

    /// Counts a refusal, and says it.
    pub(crate) fn refuse(&self, cause: Cause, client: Option<IpAddr>) -> Refusal {
        self.count(cause, client);
        let (status, text, Hint { first, spread }) = match cause {
            Cause::Draining => (503, "the server is shutting down", Hint { first: 1, spread: 5 }),
            Cause::HttpPerIp => {
                (429, "too many connections of this address", Hint { first: 5, spread: 10 })
            }
            Cause::LinksPerIp => {
                (429, "too many links of this address", Hint { first: 30, spread: 30 })
            }
            Cause::RatePerIp => {
                (429, "too many links of this address in a second", Hint { first: 2, spread: 9 })
            }
            Cause::LinksPerUser => {
                (429, "too many links of this user", Hint { first: 30, spread: 30 })
            }
            Cause::Links => (503, "the server is at its limit of links", Hint::BUSY),
            Cause::Rate
            | Cause::Handshakes
            | Cause::Silent
            | Cause::Http
            | Cause::Host
            | Cause::Tls
            | Cause::Origin
            | Cause::Malformed
            | Cause::UserHeader
            | Cause::Judged
            | Cause::Judging
            | Cause::JudgeTimeout
            | Cause::JudgeFailed => (503, "the server is busy", Hint::BUSY),
        };
        let drawn = mix(self.hints.fetch_add(1, Ordering::Relaxed)) % spread;
        Refusal { retry_after: Some(first + drawn), ..Refusal::new(status, text) }
    }

    /// From now on every link is refused.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Tells load balancers that the server will drain. Clients that come are let in as before.
    pub(crate) fn announce_drain(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Returns true when load balancers are to send nobody here any more.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) || self.is_draining()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Links that were admitted since the start.
    pub(crate) fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self, cause: Cause) -> u64 {
        self.refused[cause as usize].load(Ordering::Relaxed)
    }
}

/// When to come back: in `first` seconds and up to `spread` more.
struct Hint {
    first: u32,
    spread: u32,
}

impl Hint {
    const BUSY: Self = Self { first: 2, spread: 9 };
}

/// Numbers that look random, so that those who are refused together do not return together.
const fn mix(number: u32) -> u32 {
    let number = number.wrapping_mul(0x9e37_79b9);
    (number ^ number >> 16).wrapping_mul(0x85eb_ca6b) >> 8
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn quota() -> Quota {
        Quota {
            links: 10,
            files: usize::MAX,
            links_per_ip: 2,
            links_per_user: 2,
            per_second: 0,
            per_ip_per_second: 0,
            handshakes: 9,
            http: 9,
            http_per_ip: 0,
        }
    }

    fn door(quota: Quota) -> (Admission, Instant) {
        let now = Instant::now();
        (Admission::new(quota, Arc::new(Tickets::new(now))), now)
    }

    impl Admission {
        /// Lets a link in at once.
        fn let_in(
            &self,
            now: Instant,
            client: Option<IpAddr>,
            user: Option<&str>,
        ) -> Result<Ticket, Refusal> {
            let approach = self.approach(now, client)?;
            self.admit(
                approach,
                client,
                Guest {
                    user,
                    tag: None,
                    until: None,
                    address: None,
                    headers: Vec::new(),
                    granted: Box::default(),
                    is_undecided: false,
                },
            )
        }
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn the_limit_of_links_holds_until_one_goes() {
        let (door, now) = door(Quota { links: 2, ..quota() });
        let one = door.let_in(now, None, None).unwrap();
        let _two = door.let_in(now, None, None).unwrap();
        assert_eq!(door.let_in(now, None, None).err().unwrap().status, 503);
        drop(one);
        assert!(door.let_in(now, None, None).is_ok());
        assert_eq!((door.admitted(), door.refused(Cause::Links)), (3, 1));
    }

    #[test]
    fn links_of_one_address_are_counted_and_others_are_not_hurt() {
        let (door, now) = door(quota());
        let mine = [(); 2].map(|()| door.let_in(now, ip("192.0.2.1"), None).unwrap());
        assert_eq!(door.let_in(now, ip("192.0.2.1"), None).err().unwrap().status, 429);
        let mapped = door.let_in(now, ip("::ffff:192.0.2.1"), None);
        assert!(mapped.is_err(), "the same address in other words");
        let _other = door.let_in(now, ip("192.0.2.2"), None).unwrap();
        drop(mine);
        assert!(door.let_in(now, ip("192.0.2.1"), None).is_ok());
        assert_eq!(door.refused(Cause::LinksPerIp), 2);
    }

    #[test]
    fn ipv6_is_counted_by_its_network() {
        let (door, now) = door(quota());
        let _one = door.let_in(now, ip("2001:db8::1"), None).unwrap();
        let _two = door.let_in(now, ip("2001:db8::ffff:2"), None).unwrap();
        assert!(door.let_in(now, ip("2001:db8::3"), None).is_err());
        assert!(door.let_in(now, ip("2001:db8:0:1::3"), None).is_ok());
    }

    #[test]
    fn this_machine_and_an_unknown_address_are_not_counted() {
        let (door, now) = door(quota());
        let clients = [ip("127.0.0.1"), ip("::1"), None, ip("127.0.0.1"), ip("::1"), None];
        let tickets = clients.map(|client| door.let_in(now, client, None).unwrap());
        assert_eq!(door.tickets.counts().1, 0);
        drop(tickets);
    }

    #[test]
    fn a_place_is_given_back_once_by_whoever_has_the_ticket() {
        let (door, now) = door(quota());
        let stub = door.let_in(now, ip("192.0.2.1"), None).unwrap().tear();
        assert_eq!(door.tickets.counts(), (1, 1));
        door.tickets.give_back(&stub);
        door.tickets.give_back(&Stub::NONE);
        assert_eq!(door.tickets.counts(), (0, 0));
    }

    #[test]
    fn nothing_is_kept_of_links_that_went() {
        let (door, now) = door(Quota { links: 1_000, ..quota() });
        let client = |n: u32| Some(IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
        let crowd =
            (0..1_000).map(|n| door.let_in(now, client(n), None).unwrap()).collect::<Vec<_>>();
        drop(crowd);
        assert_eq!(door.tickets.counts(), (0, 0));
        assert!(door.tickets.capacity() < 100, "{}", door.tickets.capacity());
    }

    #[test]
    fn a_second_lets_so_many_in_and_a_quiet_one_as_many_at_once() {
        let (door, now) = door(Quota { links: 100, per_second: 10, ..quota() });
        let admitted = |at| (0..50).filter(|_| door.let_in(at, None, None).is_ok()).count();
        assert_eq!(admitted(now), 10);
        assert_eq!(admitted(now + Duration::from_millis(100)), 1);
        assert_eq!(admitted(now + Duration::from_millis(1_100)), 10);
        assert_eq!(admitted(now + Duration::from_secs(60)), 10, "not more after a longer rest");
        assert_eq!(door.refused(Cause::Rate), 200 - 31);
    }

    #[test]
    fn who_is_refused_for_another_reason_does_not_use_up_the_rate() {
        let (door, now) = door(Quota { links_per_ip: 1, per_second: 2, ..quota() });
        let _one = door.let_in(now, ip("192.0.2.1"), None).unwrap();
        for _ in 0..5 {
            assert_eq!(door.let_in(now, ip("192.0.2.1"), None).err().unwrap().status, 429);
        }
        assert!(door.let_in(now, ip("192.0.2.2"), None).is_ok());
    }

    #[test]
    fn those_who_are_refused_are_told_different_times() {
        let (door, now) = door(Quota { links: 0, ..quota() });
        let hints =
            (0..900).map(|_| door.let_in(now, None, None).err().unwrap().retry_after.unwrap());
        let mut counts = [0; 12];
        for hint in hints {
            counts[hint as usize] += 1;
        }
        assert_eq!(&counts[..2], [0, 0]);
        assert!(counts[2..11].iter().all(|count| (50..150).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_server_that_drains_admits_nobody() {
        let (door, now) = door(quota());
        door.drain();
        let refusal = door.let_in(now, None, None).err().unwrap();
        assert_eq!(refusal.status, 503);
        assert!(refusal.retry_after.is_some());
        assert_eq!(door.refused(Cause::Draining), 1);
    }

    #[test]
    fn causes_have_their_places_and_names() {
        for (place, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, place);
            assert!(!Cause::ALL[..place].iter().any(|other| other.name() == cause.name()));
        }
    }

    #[test]
    fn descriptors_bound_what_is_let_in() {
        let wide = Quota { links: 65_536, handshakes: 4_096, http: 4_096, ..quota() };
        let (files, quota) = ((1 << 20) - 40 - 2 * 4_096, wide.within(1 << 20, 40));
        assert_eq!(quota, Quota { files, ..wide });
        assert_eq!(quota.beside_upstreams(), quota);
        let Quota { links, handshakes, http, .. } = wide.within(1_024, 40);
        assert_eq!((links, handshakes, http), (831, 123, 30));
        assert_eq!(wide.within(1_024, 40).beside_upstreams().links, 207);
        let Quota { links, handshakes, http, .. } = wide.within(10, 40);
        assert_eq!((links, handshakes, http), (1, 2, 2));
    }

    #[test]
    fn links_and_upstream_connections_share_the_open_files() {
        let (door, now) = door(Quota { files: 3, ..quota() });
        let _link = door.let_in(now, None, None).unwrap();
        let files = [door.take_file(), door.take_file()].map(Option::unwrap);
        assert!(door.take_file().is_none());
        assert_eq!(door.let_in(now, None, None).err().unwrap().status, 503);
        drop(files);
        let _another = door.let_in(now, None, None).unwrap();
        let _file = door.take_file().unwrap();
        assert!(door.take_file().is_none());
        assert_eq!(door.refused(Cause::Links), 1);
    }

    #[test]
    fn an_address_has_so_many_links_in_a_second_and_others_are_not_hurt() {
        let (door, now) = door(Quota {
            links: 100,
            links_per_ip: 0,
            per_second: 30,
            per_ip_per_second: 10,
            ..quota()
        });
        let admitted =
            |at, from| (0..20).filter(|_| door.let_in(at, ip(from), None).is_ok()).count();
        assert_eq!(admitted(now, "192.0.2.1"), 10);
        assert_eq!(door.refused(Cause::RatePerIp), 10);
        // They came and went, which makes no room.
        assert_eq!(admitted(now, "192.0.2.1"), 0);
        assert_eq!(admitted(now, "192.0.2.2"), 10);
        assert_eq!(admitted(now + Duration::from_millis(100), "192.0.2.1"), 1);
        assert_eq!(door.refused(Cause::Rate), 0);
    }

    #[test]
    fn what_sessions_of_an_address_hold_is_remembered_without_a_link() {
        let (door, now) = door(quota());
        let account = |from| {
            let visitor = door.let_in(now, ip(from), None).unwrap().tear().visitor().cloned();
            visitor.unwrap().account().cloned().unwrap()
        };
        let (one, two) = (account("192.0.2.1"), account("192.0.2.1"));
        assert!(Arc::ptr_eq(&one, &two));
        assert!(!Arc::ptr_eq(&one, &account("192.0.2.2")));
        assert!(door.let_in(now, ip("127.0.0.1"), None).unwrap().tear().visitor().is_none());
    }

    #[test]
    fn an_address_that_is_being_judged_takes_its_place_until_it_leaves() {
        let (door, now) = door(quota());
        let near = [(); 2].map(|()| door.approach(now, ip("192.0.2.1")).unwrap());
        assert_eq!(door.approach(now, ip("192.0.2.1")).err().unwrap().status, 429);
        assert_eq!(door.tickets.counts(), (0, 1));
        drop(near);
        assert_eq!(door.tickets.counts(), (0, 0));
    }

    #[test]
    fn a_user_has_so_many_links_from_wherever_they_come() {
        let (door, now) = door(quota());
        let user = |user, from| door.let_in(now, ip(from), Some(user));
        let _one = user("ann", "192.0.2.1").unwrap();
        let two = user("ann", "192.0.2.2").unwrap();
        assert_eq!(user("ann", "192.0.2.3").err().unwrap().status, 429);
        let _other = user("bob", "192.0.2.3").unwrap();
        assert_eq!(door.refused(Cause::LinksPerUser), 1);
        drop(two);
        assert!(user("ann", "192.0.2.3").is_ok());
    }
}
