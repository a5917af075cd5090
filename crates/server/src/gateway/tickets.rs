//! Tickets: how the gateway gets the headers that a native socket of a path would have.
//!
//! A socket that is about to open has a ticket. Its hub shows the ticket by a short WebSocket to
//! the path of the socket (`show`), and the headers of that go to the upstream.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tabmux_core::session::SendError;
use tokio::{sync::oneshot, time::timeout};

use super::{Refused, Target, Visit};
use crate::{Opening, app::Whose};

/// How long a ticket counts.
const LIFE: Duration = Duration::from_secs(10);
/// How often a hub is told of a ticket while it counts: the frame may be lost with its link.
const TELLS: u32 = 3;
/// Tickets that a socket has, one after the other. After the last one it is refused.
const TICKETS: u32 = 2;
/// How long a socket waits for its hub at most.
const WAIT: Duration = LIFE.saturating_mul(TICKETS);
/// What a ticket takes beside its texts: its place in the table, twice because the table grows by
/// half, and the channel by which its headers come.
const TICKET: usize = 2 * (size_of::<(Box<str>, Waiting)>() + 1) + 128;
/// Random bytes of a ticket.
const BYTES: usize = 16;

/// The tickets that count. There are as many as sockets that wait for one, which have their places
/// in all limits already.
#[derive(Default)]
pub(super) struct Tickets {
    waiting: Mutex<HashMap<Box<str>, Waiting>>,
    counts: [AtomicU64; Fate::ALL.len()],
}

/// A socket that waits for its ticket to be shown.
struct Waiting {
    /// The path of the socket, without its query.
    path: Box<str>,
    user: Option<Box<str>>,
    shown: oneshot::Sender<Result<Visit<'static>, Refused>>,
}

/// A ticket that counts until this is dropped.
struct Ticket<'a> {
    tickets: &'a Tickets,
    name: Box<str>,
}

/// What became of a ticket, or of what came as one.
#[derive(Clone, Copy)]
enum Fate {
    /// The gateway made it.
    Made,
    /// A hub showed it, and the socket went on.
    Shown,
    /// Somebody else showed it than the user of the socket.
    OtherUser,
    /// Nobody showed it in time.
    Expired,
    /// There is none of that name and path: it was never made, was shown before, or has expired.
    Unknown,
}

impl Fate {
    const ALL: [(&'static str, Self); 5] = [
        ("made", Self::Made),
        ("shown", Self::Shown),
        ("other_user", Self::OtherUser),
        ("expired", Self::Expired),
        ("unknown", Self::Unknown),
    ];
}

impl Tickets {
    /// Has the hub of a socket show the headers that a native socket of its path would have.
    pub(super) async fn ask(
        &self,
        opening: &Opening,
        target: &Target,
    ) -> Result<Visit<'static>, Refused> {
        for _ in 0..TICKETS {
            let (ticket, mut shown) = self.make(target.path(), opening.user())?;
            let names = ticket.name.len() + target.path().len();
            let user = opening.user().map_or(0, str::len);
            opening.keep(TICKET + names + user).map_err(|_| Refused::Gone)?;
            for _ in 0..TELLS {
                if let Err(SendError::Closed) = opening.send_ticket(&ticket.name) {
                    return Err(Refused::Gone);
                }
                // The sender is dropped with the ticket alone.
                if let Ok(Ok(visit)) = timeout(LIFE / TELLS, &mut shown).await {
                    let bytes = visit.as_ref().map_or(0, Visit::bytes);
                    opening.keep(bytes).map_err(|_| Refused::Gone)?;
                    return visit;
                }
            }
            self.count(Fate::Expired);
        }
        Err(Refused::Unshown(WAIT))
    }

    fn make(
        &self,
        path: &str,
        user: Option<&str>,
    ) -> Result<(Ticket<'_>, oneshot::Receiver<Result<Visit<'static>, Refused>>), Refused> {
        let mut bytes = [0; BYTES];
        let fault = |_| Refused::Garbage("the system has no random bytes".to_owned());
        getrandom::fill(&mut bytes).map_err(fault)?;
        let name = Box::<str>::from(URL_SAFE_NO_PAD.encode(bytes));
        let (shown, receiver) = oneshot::channel();
        let waiting = Waiting { path: path.into(), user: user.map(Box::from), shown };
        self.waiting().insert(name.clone(), waiting);
        self.count(Fate::Made);
        Ok((Ticket { tickets: self, name }, receiver))
    }

    /// Takes a ticket that somebody shows at a path. Returns false if it does not count.
    pub(super) fn show(
        &self,
        ticket: &str,
        target: &str,
        whose: &Whose,
        visit: Visit<'static>,
    ) -> bool {
        let Ok(target) = Target::parse(target) else {
            self.count(Fate::Unknown);
            return false;
        };
        let mut waiting = self.waiting();
        let is_here = waiting.get(ticket).is_some_and(|it| *it.path == *target.path());
        let taken = is_here.then(|| waiting.remove(ticket)).flatten();
        drop(waiting);
        let Some(Waiting { user, shown, .. }) = taken else {
            self.count(Fate::Unknown);
            return false;
        };
        let is_same = match whose {
            Whose::User(name) => *name == user.as_deref().map(str::to_owned),
            // Credentials name the user, and the request has none.
            Whose::Undecided => true,
            Whose::Refused => false,
        };
        self.count(if is_same { Fate::Shown } else { Fate::OtherUser });
        // The tab may have gone.
        let _ = shown.send(if is_same { Ok(visit) } else { Err(Refused::OtherUser) });
        true
    }

    /// Returns how many tickets count.
    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Returns what became of tickets.
    pub(super) fn counts(&self) -> [(&'static str, u64); Fate::ALL.len()] {
        Fate::ALL.map(|(name, fate)| (name, self.counts[fate as usize].load(Ordering::Relaxed)))
    }

    fn count(&self, fate: Fate) {
        self.counts[fate as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Box<str>, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut waiting = self.tickets.waiting();
        waiting.remove(&self.name);
        if waiting.is_empty() {
            // What a crowd needed is not kept for ever.
            waiting.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> Whose {
        Whose::User(None)
    }

    #[test]
    fn a_ticket_counts_once_and_not_at_another_path() {
        let tickets = Tickets::default();
        let (ticket, mut shown) = tickets.make("/chat/room", None).unwrap();
        let name = ticket.name.clone();
        assert!(!tickets.show(&name, "/other", &nobody(), Visit::default()));
        assert!(!tickets.show("", "/chat/room", &nobody(), Visit::default()));
        assert!(shown.try_recv().is_err());
        assert!(tickets.show(&name, "/chat/./room?x=1", &nobody(), Visit::default()));
        assert!(shown.try_recv().unwrap().is_ok());
        assert!(!tickets.show(&name, "/chat/room", &nobody(), Visit::default()));
        let counts = tickets.counts().map(|(_, count)| count);
        assert_eq!(counts, [1, 1, 0, 0, 3]);
    }

    #[test]
    fn nothing_is_kept_of_a_ticket_that_is_dropped() {
        let tickets = Tickets::default();
        let made = (0..100).map(|_| tickets.make("/", Some("ann")).unwrap()).collect::<Vec<_>>();
        assert_eq!(tickets.len(), 100);
        drop(made);
        assert_eq!((tickets.len(), tickets.waiting().capacity()), (0, 0));
    }

    #[test]
    fn a_ticket_of_another_user_refuses_its_socket_and_counts_no_more() {
        let tickets = Tickets::default();
        for whose in [Whose::User(Some("bob".to_owned())), nobody(), Whose::Refused] {
            let (ticket, mut shown) = tickets.make("/", Some("ann")).unwrap();
            assert!(tickets.show(&ticket.name, "/", &whose, Visit::default()));
            assert!(matches!(shown.try_recv().unwrap(), Err(Refused::OtherUser)));
            assert!(!tickets.show(&ticket.name, "/", &whose, Visit::default()));
        }
    }
}
