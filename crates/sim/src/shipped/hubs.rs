//! Checks which session a hub resumes, and what it tells its tabs about it. No session that lives
//! may be dropped while one of its tabs is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tabmux_core::{
    Timestamp,
    wire::{HubId, SessionId, TabId},
};

use super::{
    page::{tab_of, tag_of},
    storm::Deed,
    world::World,
};
use crate::{
    engine::{hub::Note, op::Told},
    invariant::{
        Checked,
        Invariant::{NothingLost, OneHub, OnlyWhatWasAsked},
    },
    seen::Sight,
    server::detached,
};

/// The beginning of the key of a claim in localStorage.
const CLAIM: &str = "tabmux:socket:";

/// What the oracle knows of a hub.
#[derive(Debug)]
pub struct HubRecord {
    /// The numbers of its browser and its worker.
    at: (usize, u32),
    /// The session to which the hub was welcomed last.
    session: Option<SessionId>,
    /// The time since which the hub has no working link. `None` while it has one.
    link_lost_at: Option<Timestamp>,
    /// For each tab: the session that it showed the hub, or that the hub told it.
    shown: BTreeMap<TabId, SessionId>,
    /// For each tab: the session that it found in storage when it attached.
    found: BTreeMap<TabId, SessionId>,
    /// The sessions that the hub has claimed.
    tried: BTreeSet<SessionId>,
}

/// Returns the part of a page's claim that it leaves in storage. The tab's own alias is left out.
fn left(claim: &str) -> &str {
    claim.split(' ').next().unwrap_or_default()
}

/// Returns the name that the oracle has for a tab.
pub(crate) fn key(tab: TabId) -> TabId {
    tab_of(tag_of(tab))
}

impl World {
    /// Called when a hub in this worker was told or said something.
    pub(crate) fn noted(
        &mut self,
        at: (usize, u32),
        (hub, is_mux): (HubId, bool),
        note: Note,
    ) -> Checked {
        let now = self.now;
        if let Note::Attached(tab, _) = note {
            self.attached_through(hub, tab)?;
        }
        if !is_mux {
            return self.mirror_noted(at, note);
        }
        let record = self.hubs.entry(hub).or_insert_with(|| HubRecord {
            at,
            session: None,
            link_lost_at: Some(now),
            shown: BTreeMap::new(),
            found: BTreeMap::new(),
            tried: BTreeSet::new(),
        });
        match note {
            Note::Attached(tab, claim) => {
                let (own, found) = claim.split_once(',').unwrap_or((&claim, ""));
                for (claim, sessions) in [(own, &mut record.shown), (found, &mut record.found)] {
                    match self.claims.get(left(claim)) {
                        Some(session) => sessions.insert(tab, *session),
                        None => sessions.remove(&tab),
                    };
                }
                self.disturb(at.0);
                if let Some(number) = self.browsers[at.0].page_of(tag_of(tab)) {
                    self.count((at.0, number), Deed::Attach)?;
                }
            }
            Note::Welcomed { session, resumed } => {
                if !resumed {
                    self.may_begin_anew(hub)?;
                }
                if let Some(record) = self.hubs.get_mut(&hub) {
                    (record.session, record.link_lost_at) = (Some(session), None);
                }
                self.browsers[at.0].welcomed = now;
                self.disturb(at.0);
            }
            Note::LinkDown => {
                record.link_lost_at.get_or_insert(now);
                self.disturb(at.0);
            }
            Note::TabGone(tab, why) => {
                let lives = self.browsers[at.0].page_of(tag_of(tab)).is_some();
                let why = if lives { why? } else { "the tab is dead" };
                self.given_up.insert(key(tab), why);
            }
            Note::Overflow(tab) => {
                self.given_up.insert(key(tab), "too much waited for it");
            }
            Note::Resumes { tab, claim, continues } => {
                return self.resumes(hub, tab, &claim, continues);
            }
            Note::Lost(tab) => return self.hub_lost_session(hub, tab),
            Note::Moved => self.seen.add(Sight::Moved),
        }
        Ok(())
    }

    /// I13: a page in mux mode tells its application only what one hub at a time said. It changes
    /// to another hub when that one says that the page is attached there.
    pub(crate) fn acts_on_one_hub(&mut self, at: (usize, u32), told: &[Told]) -> Checked {
        // A client reports the status of the next hub before it is attached there.
        let is_status = told.first().is_some_and(|it| it.text() == "status");
        let Some((hub, step)) = self.speaks.filter(|_| !is_status) else {
            return Ok(());
        };
        let Some(page) = self.browsers[at.0].page(at.1) else {
            return Ok(());
        };
        let Some((before, since)) = page.acts_on.filter(|(before, _)| *before != hub) else {
            page.acts_on.get_or_insert((hub, step));
            return Ok(());
        };
        page.acts_on = Some((hub, step));
        let attached = page.attached.get(&hub).copied();
        // A page that opens a socket after a log-in is also attached to the hub of that user.
        let is_old = attached.is_some_and(|at| at <= since) && self.plan.names_users();
        if is_old {
            self.seen.add(Sight::TwoHubs);
        }
        let is_attached = is_old || attached.is_some_and(|at| at > since);
        OneHub.unless(is_attached, || {
            format!("a page in {at:?} has the hub {before}, and acts on what {hub} says: {told:?}")
        })
    }

    /// A page listens to the last port that it asked for. What it sent on an earlier port may
    /// arrive later, and must not replace that.
    fn attached_through(&mut self, hub: HubId, tab: TabId) -> Checked {
        let Some(port) = self.hears_on else {
            return Ok(());
        };
        let before = self.attached_on.insert((hub, tab), port);
        OnlyWhatWasAsked.unless(before.is_none_or(|before| before <= port), || {
            format!(
                "{tab} is attached to {hub} through port {port}, and has left it for {before:?}"
            )
        })
    }

    /// The same for a hub in mirror or exclusive mode, which has no session.
    fn mirror_noted(&mut self, at: (usize, u32), note: Note) -> Checked {
        match note {
            Note::Attached(tab, _) => match self.browsers[at.0].page_of(tag_of(tab)) {
                Some(number) => self.count((at.0, number), Deed::Attach),
                None => Ok(()),
            },
            Note::TabGone(tab, why) => {
                let lives = self.browsers[at.0].page_of(tag_of(tab)).is_some();
                if lives { why.map(|_| ()) } else { Ok(()) }
            }
            Note::Overflow(_)
            | Note::LinkDown
            | Note::Resumes { .. }
            | Note::Lost(_)
            | Note::Moved
            | Note::Welcomed { .. } => Ok(()),
        }
    }

    /// Called when topics may repeat what they said.
    fn disturb(&mut self, at: usize) {
        let pages = self.browsers[at].pages().map(|(number, _)| number).collect::<Vec<_>>();
        for number in pages {
            if let Some(page) = self.browsers[at].page(number) {
                page.disturb();
            }
        }
    }

    /// Called when the hubs of a worker have lost their link.
    pub(crate) fn link_is_lost(&mut self, at: (usize, u32)) {
        let now = self.now;
        let its = self.hubs.values_mut().filter(|record| record.at == at);
        its.for_each(|record| _ = record.link_lost_at.get_or_insert(now));
    }

    /// Called when a page left its claim in storage, which means that it took a session for its
    /// own.
    pub(crate) fn left_claim(&mut self, at: (usize, u32), key: Option<&str>, new: Option<&str>) {
        let (Some(key), Some(new)) = (key, new) else { return };
        if !key.starts_with(CLAIM) {
            return;
        }
        if let (Some(session), Some(page)) =
            (self.claims.get(new).copied(), self.browsers[at.0].page(at.1))
        {
            self.reference.joins(page.tab, session);
        }
    }

    /// Returns true if the session lives and its user is logged in, so that hubs of the browser can
    /// have it.
    fn lives(&self, at: usize, session: SessionId) -> bool {
        let lives = self.server.as_ref().is_some_and(|server| server.has(session));
        lives && !self.disowned.contains(&(at, session))
    }

    /// Returns the tabs of a hub that are not parked.
    fn present(&self, hub: HubId) -> Vec<TabId> {
        let Some(record) = self.hubs.get(&hub) else { return Vec::new() };
        let Some(actor) = self.browsers[record.at.0].actors.get(&record.at.1) else {
            return Vec::new();
        };
        let hubs = actor.realm.host.hubs.borrow();
        let its = hubs.values().find(|it| it.id() == hub);
        its.map_or_else(Vec::new, |it| it.with_view(|view| view.present().collect()))
    }

    /// Checks that a hub may say HELLO with this claim, or with none.
    pub(crate) fn may_say_hello(&mut self, hub: HubId, claim: Option<SessionId>) -> Checked {
        let (now, present) = (self.now, self.present(hub));
        let Some(record) = self.hubs.get(&hub) else {
            return Ok(());
        };
        let late = record.link_lost_at.is_some_and(|at| now.saturating_since(at) >= detached());
        let is_first = record.session.is_none();
        let of_tabs = |sessions: &BTreeMap<TabId, SessionId>| {
            present.iter().filter_map(|tab| sessions.get(tab).copied()).collect::<Vec<_>>()
        };
        let (shown, found) = (of_tabs(&record.shown), of_tabs(&record.found));
        // A session of the hub itself, or of one of its tabs, comes before one that a new tab
        // found.
        let ever_shown = |claim: SessionId| record.shown.values().any(|shown| *shown == claim);
        let is_found = is_first && claim.is_some_and(|claim| !ever_shown(claim));
        let better = if is_found || claim.is_none() { &*shown } else { &[] };
        let other = if claim.is_none() { &*found } else { &[] };
        let mut all = better.iter().chain(other);
        let at = record.at.0;
        let thrown_away =
            all.find(|it| self.lives(at, **it) && !record.tried.contains(it)).copied();
        if let Some((record, claim)) = self.hubs.get_mut(&hub).zip(claim) {
            record.tried.insert(claim);
        }
        NothingLost.unless(late || thrown_away.is_none(), || {
            format!("{hub} claims {claim:?} in HELLO, though its tabs have {thrown_away:?}")
        })
    }

    /// Checks that a hub may begin a new session.
    fn may_begin_anew(&mut self, hub: HubId) -> Checked {
        let (now, present) = (self.now, self.present(hub));
        let Some(record) = self.hubs.get(&hub).filter(|record| record.session.is_none()) else {
            return Ok(());
        };
        let late = record.link_lost_at.is_some_and(|at| now.saturating_since(at) >= detached());
        let of_tab = |tab| [record.shown.get(tab), record.found.get(tab)].into_iter().flatten();
        let mut all = present.iter().flat_map(of_tab).copied();
        // A server keeps no session in which nothing was said, so the sessions that were tried are
        // over.
        let at = record.at.0;
        let lives =
            |session: &SessionId| self.lives(at, *session) && !record.tried.contains(session);
        let thrown_away = all.find(lives);
        NothingLost.unless(late || thrown_away.is_none(), || {
            format!("{hub} begins a session, though its tabs have {thrown_away:?}")
        })
    }

    /// Called when a hub tells a tab that it goes on, or begins anew, in the hub's session.
    fn resumes(&mut self, hub: HubId, tab: TabId, claim: &str, continues: bool) -> Checked {
        let Some(record) = self.hubs.get_mut(&hub) else {
            return Ok(());
        };
        let Some(session) = record.session else {
            return Ok(());
        };
        self.claims.insert(left(claim).to_owned(), session);
        record.found.remove(&tab);
        let before = record.shown.insert(tab, session);
        if !continues {
            if let Some(before) = before.filter(|before| *before != session) {
                self.reference.gives_up(key(tab), before);
            }
            return Ok(());
        }
        NothingLost.unless(before == Some(session), || {
            format!("{tab} goes on with {session:?}, and had {before:?}")
        })
    }

    /// Called when a hub tells a tab that its session is lost.
    fn hub_lost_session(&mut self, hub: HubId, tab: TabId) -> Checked {
        let now = self.now;
        let Some(record) = self.hubs.get_mut(&hub) else {
            return Ok(());
        };
        let without = record.link_lost_at.map_or(Duration::ZERO, |at| now.saturating_since(at));
        let Some(before) = record.shown.remove(&tab) else {
            return Ok(());
        };
        let at = record.at.0;
        let fine = without >= detached() || !self.lives(at, before);
        if self.disowned.contains(&(at, before)) {
            self.seen.add(Sight::OtherUser);
        }
        self.reference.gives_up(key(tab), before);
        NothingLost.unless(fine, || {
            format!("{tab} was told after {without:?} without a link that {before:?} is lost")
        })
    }
}
