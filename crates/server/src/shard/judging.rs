//! Links whose user the judge tells once it has seen their credentials.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tabmux_core::{
    Timestamp,
    session::{Admitted, Answer, AskId, Denial, Input, LinkId, Registry, Secret, User, Visitor},
    wire::ErrorCode,
};
use tokio::{runtime::Handle, task::AbortHandle};

use super::{home::Home, mailbox::Mail, post::Word, service::Order};
use crate::{
    Admitted as Allowed, Handshake, Refusal,
    admission::Cause,
    identity,
    judge::{self, NoVerdict, Room},
};

/// What is taken to be the memory of a request beside its texts.
const HANDSHAKE: usize = 512;

/// The requests of links before HELLO, and the links that the judge is asked about.
#[derive(Default)]
pub(super) struct Judging {
    heads: BTreeMap<LinkId, Head>,
    cases: BTreeMap<AskId, Case>,
    /// What the loop is to know of links that were judged.
    seats: VecDeque<Order>,
}

/// A request that may be judged again.
struct Head {
    handshake: Box<Handshake>,
    /// The memory that it takes, and that the loop holds for the link.
    size: usize,
    held: usize,
}

/// A link that the judge is asked about.
struct Case {
    link: LinkId,
    renews: bool,
    /// What is known so far of who opened the link.
    known: Option<Arc<Visitor>>,
    handshake: Arc<Handshake>,
    task: AbortHandle,
}

/// Whose a link is.
enum Seated {
    As(Arc<Visitor>),
    /// The user was ended since the judge was asked.
    Outdated,
}

impl Drop for Case {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Judging {
    /// Keeps the request of a link until its hub has said HELLO.
    pub(super) fn keep(
        &mut self,
        registry: &mut Registry,
        now: Timestamp,
        link: LinkId,
        handshake: Box<Handshake>,
    ) {
        let size = size_of(&handshake);
        self.heads.insert(link, Head { handshake, size, held: 0 });
        registry.handle_input(now, Input::LinkHolds { link, bytes: size });
    }

    /// Returns the memory that is held for a link for which the loop holds so much.
    pub(super) fn holds(&mut self, link: LinkId, bytes: usize) -> usize {
        self.heads.get_mut(&link).map_or(bytes, |head| {
            head.held = bytes;
            bytes + head.size
        })
    }

    /// Returns the request of a link that leaves, taken out.
    pub(super) fn take(&mut self, link: LinkId) -> Option<Box<Handshake>> {
        self.heads.remove(&link).map(|head| head.handshake)
    }

    /// Forgets the request of a link that has said HELLO, or is no more.
    pub(super) fn forget(&mut self, registry: &mut Registry, now: Timestamp, link: LinkId) {
        if let Some(Head { held: bytes, .. }) = self.heads.remove(&link) {
            registry.handle_input(now, Input::LinkHolds { link, bytes });
        }
    }

    /// Asks the judge whose a link is.
    pub(super) fn ask(
        &mut self,
        registry: &mut Registry,
        (home, now): (&Home, Timestamp),
        ask: AskId,
        (link, renews): (LinkId, bool),
        (known, Secret(credentials)): (Option<Arc<Visitor>>, Secret),
    ) {
        let head = self.heads.get(&link).map(|head| Handshake::clone(&head.handshake));
        self.forget(registry, now, link);
        let handshake = head.unwrap_or_else(|| Handshake::of(known.as_deref()));
        let handshake = Arc::new(handshake.with_credentials(&credentials));
        let Some(task) = begin(home, ask, &handshake) else {
            let denial = denial("this server judges nobody", None);
            let _ = registry.answer(now, ask, Answer::Deny(denial));
            return;
        };
        self.cases.insert(ask, Case { link, renews, known, handshake, task });
    }

    /// Forgets a question that is over.
    pub(super) fn withdrawn(&mut self, ask: AskId) {
        self.cases.remove(&ask);
    }

    /// Carries out what the judge said of a link. Does nothing if the question is over.
    pub(super) fn answered(
        &mut self,
        registry: &mut Registry,
        (home, now): (&Home, Timestamp),
        ask: AskId,
        answer: Result<judge::Answer, NoVerdict>,
    ) {
        let Some(mut case) = self.cases.remove(&ask) else {
            return;
        };
        match case.seat(home, answer) {
            Ok(Seated::Outdated) => match begin(home, ask, &case.handshake) {
                Some(task) => {
                    case.task = task;
                    self.cases.insert(ask, case);
                }
                None => drop(case),
            },
            Ok(Seated::As(visitor)) => {
                let taken = registry.answer(now, ask, Answer::Admit(&visitor));
                let (link, was_pending) = (case.link, !case.renews);
                if taken.is_ok() {
                    self.seats.push_back(Order::Seat { link, visitor, was_pending });
                } else if let Some(user) = visitor.user().filter(|_| was_pending) {
                    home.board.tickets().leave_seat(user);
                }
            }
            Err(refusal) => {
                let denial = denial(refusal.message(), refusal.retry());
                let _ = registry.answer(now, ask, Answer::Deny(denial));
            }
        }
    }

    /// Returns what the loop is to know, taken out.
    pub(super) fn pop(&mut self) -> Option<Order> {
        self.seats.pop_front()
    }
}

impl Case {
    /// Takes a place for the user that the judge named.
    fn seat(
        &self,
        home: &Home,
        answer: Result<judge::Answer, NoVerdict>,
    ) -> Result<Seated, Refusal> {
        let (admission, client) = (&home.control.desk.admission, self.handshake.client);
        let later = |cause: Cause| {
            let refusal = admission.refuse(cause, client);
            let seconds = refusal.retry_after.unwrap_or(1);
            Refusal::retry_after(Duration::from_secs(seconds.into()), refusal.text.trim_end())
        };
        let judge::Answer { verdict, asking } = answer.map_err(|trouble| later(trouble.cause()))?;
        let verdict = verdict.and_then(Allowed::decided).and_then(Allowed::unexpired);
        let allowed = verdict.inspect_err(|_| admission.count(Cause::Judged, client))?;
        let known = self.known.as_ref().and_then(|known| known.user());
        let user = match allowed.name() {
            None => None,
            Some(name) if self.renews => {
                if asking.is_outdated(name) {
                    return Ok(Seated::Outdated);
                }
                // Its place is taken already if the user is the same, and else it gets none.
                let same = known.filter(|known| known.name() == name).cloned();
                Some(same.unwrap_or_else(|| Arc::new(User::new(name, 0))))
            }
            Some(name) => match admission.seat(name, &asking).map_err(later)? {
                Some(user) => Some(user),
                None => return Ok(Seated::Outdated),
            },
        };
        Ok(Seated::As(Arc::new(Visitor::Admitted(self.admitted(home, &allowed, user)))))
    }

    fn admitted(&self, home: &Home, allowed: &Allowed, user: Option<Arc<User>>) -> Admitted {
        let parts = &self.handshake.parts;
        let (old_tag, address, mut headers) = match self.known.as_deref() {
            Some(Visitor::Admitted(known)) => {
                (known.tag.as_deref(), known.address, known.headers.clone())
            }
            Some(Visitor::Undecided(address)) => (None, *address, Vec::new()),
            Some(Visitor::Refused(_)) | None => (None, None, Vec::new()),
        };
        if !self.renews {
            headers = allowed.headers(parts);
        }
        let shown = identity::shown(parts.uri.path_and_query().map_or("", |it| it.as_str()));
        let makes = home.control.desk.identity.as_ref();
        let tag = makes.zip(user.as_ref());
        let tag = tag.map(|(makes, user)| makes.tag_for(user.name(), old_tag.or(shown)));
        let until = allowed.lives().map(|lives| home.board.now() + lives);
        let name = user.as_ref().map(|user| user.name());
        let account = home.board.tickets().account_of(name, self.handshake.client);
        let granted = allowed.granted();
        Admitted { user, tag, until, address, account, headers, granted }
    }
}

impl NoVerdict {
    /// Returns what is counted.
    pub(crate) const fn cause(self) -> Cause {
        match self {
            Self::Full => Cause::Judging,
            Self::Overdue => Cause::JudgeTimeout,
            Self::Failed => Cause::JudgeFailed,
        }
    }
}

/// Has the judge asked in a task. Returns nothing on a server without one.
fn begin(home: &Home, ask: AskId, handshake: &Arc<Handshake>) -> Option<AbortHandle> {
    let room: Arc<Room> = home.control.desk.room.clone()?;
    let (mailbox, handshake) = (Arc::downgrade(&home.mailbox), Arc::clone(handshake));
    let task = Handle::try_current().ok()?.spawn(async move {
        let answer = room.ask(&handshake).await;
        if let Some(mailbox) = mailbox.upgrade() {
            // A shard that failed has no links.
            let _ = mailbox.push(Mail::Word(Word::Judged { ask, answer }), 0);
        }
    });
    Some(task.abort_handle())
}

fn denial(message: &str, retry: Option<Duration>) -> Denial<'_> {
    Denial { code: ErrorCode::Denied.into(), message, retry }
}

/// Returns about how much memory a request takes.
fn size_of(handshake: &Handshake) -> usize {
    let headers = handshake.parts.headers.iter();
    let headers = headers.map(|(name, value)| 64 + name.as_str().len() + value.len());
    let uri = handshake.parts.uri.path_and_query().map_or(0, |it| it.as_str().len());
    HANDSHAKE + uri + headers.sum::<usize>()
}
