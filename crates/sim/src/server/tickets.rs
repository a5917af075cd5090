//! Tickets: some sockets open only after their hub has shown a ticket at their path, as the gateway
//! wants it. The times are those of the gateway.

use std::{collections::BTreeMap, time::Duration};

use tabmux_core::{
    Timestamp,
    session::{AskId, SendError},
    wire::TabId,
};

use super::{Server, opening::Question};
use crate::{
    invariant::{Checked, Invariant::NoError},
    reference::Reference,
};

/// Time for which a ticket counts.
const LIFE: Duration = Duration::from_secs(10);
/// Time between two frames that tell a hub of the same ticket.
const AGAIN: Duration = Duration::from_millis(3334);
/// Time after which a socket is refused whose tickets nobody showed.
const WAIT: Duration = Duration::from_secs(20);

/// Questions for sockets that wait for their tickets, by the name of the ticket.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    waiting: BTreeMap<String, Waiting>,
    /// Number of tickets that this server has made.
    made: u64,
    /// Tickets that nobody showed in time, until the world has looked at them.
    unshown: Vec<Unshown>,
}

/// A socket that waits for its ticket to be shown.
#[derive(Debug)]
struct Waiting {
    question: Question,
    path: String,
    owner: Option<u64>,
    made: Timestamp,
    /// The time when the server tells of the ticket again.
    again: Timestamp,
    /// The time when the ticket ends.
    ends: Timestamp,
}

/// A ticket that nobody showed in time.
#[derive(Debug)]
pub struct Unshown {
    /// The name of the ticket.
    pub name: String,
    /// The tab of its socket.
    pub tab: TabId,
    /// The time when the ticket was made.
    pub made: Timestamp,
}

/// The server's answer to a ticket that somebody shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The socket goes on.
    Taken,
    /// The ticket was shown by another user, and its socket is refused.
    OtherUser,
    /// No socket waits for such a ticket.
    Unknown,
}

impl Tickets {
    /// Returns the number of sockets that wait for their tickets.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the time when the server has to tell of a ticket, or to give one up.
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.waiting.values().map(|it| it.again.min(it.ends)).min()
    }

    /// Forgets the ticket of a question, and returns the question.
    pub(super) fn forget(&mut self, ask: AskId) -> Option<Question> {
        let (name, _) = self.waiting.iter().find(|(_, it)| it.question.ask == ask)?;
        let name = name.clone();
        self.waiting.remove(&name).map(|it| it.question)
    }
}

impl Server {
    /// Makes a ticket for a socket, whose session is of this user.
    pub fn want_ticket(
        &mut self,
        now: Timestamp,
        question: Question,
        path: &str,
        owner: Option<u64>,
    ) -> Checked {
        self.tickets.made += 1;
        // No server before or after this one makes the same name.
        let name = format!("t{}-{}", now.as_micros(), self.tickets.made);
        let (path, again, ends) = (path.to_owned(), now, now + LIFE);
        let waiting = Waiting { question, path, owner, made: now, again, ends };
        self.tickets.waiting.insert(name.clone(), waiting);
        self.tell_of(now, &name)
    }

    /// Tells of tickets again, makes others for those that ended, and refuses sockets that have
    /// waited for too long.
    pub(super) fn tell_of_tickets(&mut self, now: Timestamp, reference: &mut Reference) -> Checked {
        let is_due = |it: &Waiting| it.again.min(it.ends) <= now;
        let due = self.tickets.waiting.iter().filter(|(_, it)| is_due(it));
        for name in due.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            let Some(it) = self.tickets.waiting.get(&name) else { continue };
            if it.ends > now {
                self.tell_of(now, &name)?;
                continue;
            }
            let Some(it) = self.tickets.waiting.remove(&name) else { continue };
            let tab = it.question.tab;
            self.tickets.unshown.push(Unshown { name, tab, made: it.made });
            if now.saturating_since(it.question.asked) < WAIT {
                self.want_ticket(now, it.question, &it.path, it.owner)?;
                continue;
            }
            self.refuse(now, reference, &it.question, "nobody showed the ticket")?;
        }
        Ok(())
    }

    /// Tells the hub of a socket of its ticket. The socket's question is open, so this works.
    fn tell_of(&mut self, now: Timestamp, name: &str) -> Checked {
        let Some(it) = self.tickets.waiting.get_mut(name) else { return Ok(()) };
        it.again = now + AGAIN;
        let told: Result<(), SendError> =
            self.registry.send_ticket(now, it.question.at, name, &it.path);
        NoError.unless(told.is_ok(), || format!("{name} is not told of: {told:?}"))
    }

    /// Takes a ticket that this user shows at a path.
    ///
    /// # Errors
    /// Returns the invariant that was broken.
    pub fn show(
        &mut self,
        now: Timestamp,
        reference: &mut Reference,
        (ticket, path): (&str, &str),
        user: Option<u64>,
    ) -> Checked<Shown> {
        let found = self.tickets.waiting.get(ticket).is_some_and(|it| it.path == path);
        let Some(it) = found.then(|| self.tickets.waiting.remove(ticket)).flatten() else {
            return Ok(Shown::Unknown);
        };
        if it.owner != user {
            self.refuse(now, reference, &it.question, "another user showed the ticket")?;
            return Ok(Shown::OtherUser);
        }
        self.open(now, reference, it.question)?;
        Ok(Shown::Taken)
    }

    /// Returns the tickets that nobody showed in time, since the last call.
    pub fn take_unshown(&mut self) -> Vec<Unshown> {
        std::mem::take(&mut self.tickets.unshown)
    }
}
