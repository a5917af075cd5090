//! Which session a hub goes on with, and what it tells its tabs of it: no session that lives is
//! thrown away while a tab of it is there.

use std::time::Duration;

use tabmux_core::wire::{HubId, SessionId, TabId};

use crate::{
    invariant::{Checked, Invariant::NothingLost},
    world::World,
};

/// How long a hub keeps a session for which it has no link.
const DETACHED: Duration = Duration::from_secs(60);

impl World {
    fn lives(&self, session: SessionId) -> bool {
        self.server.as_ref().is_some_and(|server| server.has(session))
    }

    /// A hub says HELLO with this claim, or with none.
    pub(crate) fn may_say_hello(
        &mut self,
        at: usize,
        hub: HubId,
        claim: Option<SessionId>,
    ) -> Checked {
        let now = self.now;
        let Some(host) = self.browsers[at].host_of(hub) else {
            return Ok(());
        };
        let Some(run) = self.browsers[at].run(host) else {
            return Ok(());
        };
        let late = run.link_lost_at.is_some_and(|at| now.saturating_since(at) >= DETACHED);
        let shown = run.view.present().filter_map(|tab| run.shown.get(&tab).copied());
        let shown = shown.collect::<Vec<_>>();
        let thrown_away = shown.iter().find(|session| self.lives(**session));
        let fine = claim.is_some() || late || thrown_away.is_none();
        NothingLost.unless(fine, || {
            format!("{hub} says HELLO without a claim, though its tabs have {thrown_away:?}")
        })
    }

    /// A hub tells a tab that it goes on, or begins anew, in this session.
    pub(crate) fn resumes(
        &mut self,
        at: usize,
        host: u32,
        tab: TabId,
        (claim, continues): (&str, bool),
        session: SessionId,
    ) -> Checked {
        self.claims.insert(claim.to_owned(), session);
        let Some(run) = self.browsers[at].run(host) else {
            return Ok(());
        };
        let before = run.shown.insert(tab, session);
        if !continues {
            if let Some(before) = before.filter(|before| *before != session) {
                self.reference.gives_up(tab, before);
            }
            return Ok(());
        }
        NothingLost.unless(before == Some(session), || {
            format!("{tab} goes on with {session:?}, and had {before:?}")
        })
    }

    /// A hub tells a tab that its session is lost.
    pub(crate) fn hub_lost_session(&mut self, at: usize, host: u32, tab: TabId) -> Checked {
        let now = self.now;
        let Some(run) = self.browsers[at].run(host) else {
            return Ok(());
        };
        let without = run.link_lost_at.map_or(Duration::ZERO, |at| now.saturating_since(at));
        let before = run.shown.remove(&tab);
        let Some(before) = before else {
            return Ok(());
        };
        let fine = without >= DETACHED || !self.lives(before);
        self.reference.gives_up(tab, before);
        NothingLost.unless(fine, || {
            format!("{tab} was told after {without:?} without a link that {before:?} is lost")
        })
    }
}
