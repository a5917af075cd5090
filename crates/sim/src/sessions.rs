//! Which session a hub goes on with, and what it tells its tabs of it: no session that lives is
//! thrown away while a tab of it is there.

use std::{collections::BTreeMap, time::Duration};

use tabmux_core::{
    session::SessionConfig,
    wire::{HubId, SessionId, TabId},
};

use crate::{
    invariant::{Checked, Invariant::NothingLost},
    world::World,
};

/// Returns how long both ends keep a session that has no link.
pub(crate) fn detached() -> Duration {
    SessionConfig::default().detached
}

/// What a page leaves in storage of its claim: all but what it is called there itself.
pub(crate) fn left(claim: &str) -> &str {
    claim.split(' ').next().unwrap_or_default()
}

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
        let late = run.link_lost_at.is_some_and(|at| now.saturating_since(at) >= detached());
        let is_first = run.session.is_none();
        let of_tabs = |sessions: &BTreeMap<TabId, SessionId>| {
            let tabs = run.view.present().filter_map(|tab| sessions.get(&tab).copied());
            tabs.collect::<Vec<_>>()
        };
        let (shown, found) = (of_tabs(&run.shown), of_tabs(&run.found));
        // What it has itself, or one of its tabs, comes before what a new tab found.
        let ever_shown = |claim: SessionId| run.shown.values().any(|shown| *shown == claim);
        let is_found = is_first && claim.is_some_and(|claim| !ever_shown(claim));
        let better = if is_found || claim.is_none() { &*shown } else { &[] };
        let other = if claim.is_none() { &*found } else { &[] };
        let mut all = better.iter().chain(other);
        let tried = run.tried.clone();
        let thrown_away = all.find(|it| self.lives(**it) && !tried.contains(it)).copied();
        if let Some((run, claim)) = self.browsers[at].run(host).zip(claim) {
            run.tried.insert(claim);
        }
        NothingLost.unless(late || thrown_away.is_none(), || {
            format!("{hub} claims {claim:?} in HELLO, though its tabs have {thrown_away:?}")
        })
    }

    /// A hub takes a new session for its own.
    pub(crate) fn may_begin_anew(&mut self, at: usize, host: u32) -> Checked {
        let now = self.now;
        let Some(run) = self.browsers[at].run(host).filter(|run| run.session.is_none()) else {
            return Ok(());
        };
        let late = run.link_lost_at.is_some_and(|at| now.saturating_since(at) >= detached());
        let of_tab = |tab| [run.shown.get(&tab), run.found.get(&tab)].into_iter().flatten();
        let all = run.view.present().flat_map(of_tab).copied().collect::<Vec<_>>();
        let tried = run.tried.clone();
        // Servers keep no session in which nothing was said: those that were tried are over.
        let lives = |session: &SessionId| self.lives(*session) && !tried.contains(session);
        let thrown_away = all.into_iter().find(lives);
        NothingLost.unless(late || thrown_away.is_none(), || {
            format!("browser {at} begins a session, though its tabs have {thrown_away:?}")
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
        self.claims.insert(left(claim).to_owned(), session);
        let Some(run) = self.browsers[at].run(host) else {
            return Ok(());
        };
        run.found.remove(&tab);
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
        let fine = without >= detached() || !self.lives(before);
        self.reference.gives_up(tab, before);
        NothingLost.unless(fine, || {
            format!("{tab} was told after {without:?} without a link that {before:?} is lost")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        browser::SHARED,
        page::{Life, Page, Phase, SocketState},
        plan::{Kept, Tiers},
    };

    /// A browser with locks and a shared worker, in which some tabs have a socket each.
    fn with_sockets(tabs: &[TabId]) -> World {
        let mut world = World::new(1, &Kept(Some(Vec::new())), false);
        let traits = &mut world.browsers[0].traits;
        (traits.tiers, traits.locks) = (Tiers::Shared, true);
        world.server.as_mut().unwrap().is_prompt = true;
        for tab in tabs {
            world.open_tab(0, Page::new(*tab, SHARED, 1));
        }
        soon(&mut world);
        for tab in tabs {
            let page = world.browsers[0].tabs.get_mut(tab).unwrap();
            let acts = page.open(&mut world.reference);
            world.act(0, *tab, acts);
        }
        soon(&mut world);
        all_open(&world, tabs);
        world
    }

    fn soon(world: &mut World) {
        world.pass(Duration::from_secs(5)).unwrap();
    }

    fn all_open(world: &World, tabs: &[TabId]) {
        for tab in tabs {
            let page = &world.browsers[0].tabs[tab];
            assert_eq!((page.phase, page.sockets[&1]), (Phase::Attached, SocketState::Open));
        }
    }

    /// The worker dies while no tab of it runs, and a page that is just opened is the first at the
    /// next one: it goes on with the session of the others.
    fn newcomer(pause: impl Fn(&mut World, TabId), wake: impl Fn(&mut World, TabId)) {
        // Tabs whose first socket the application does not refuse.
        let tabs = [TabId(16), TabId(32)];
        let mut world = with_sockets(&tabs);
        let session = world.browsers[0].hosts.values().find_map(|it| it.run.as_ref()?.session);
        for tab in tabs {
            pause(&mut world, tab);
        }
        soon(&mut world);
        for host in world.browsers[0].hosts.keys().copied().collect::<Vec<_>>() {
            world.kill_host(0, host);
        }
        world.server.as_mut().unwrap().broadcast(world.now, session.unwrap());
        world.drain_server().unwrap();
        soon(&mut world);
        world.open_tab(0, Page::new(TabId(48), SHARED, 1));
        soon(&mut world);
        for tab in tabs {
            wake(&mut world, tab);
        }
        soon(&mut world);
        all_open(&world, &tabs);
        for tab in [16, 32, 48] {
            let page = &world.browsers[0].tabs[&TabId(tab)];
            assert_eq!((page.life, page.phase), (Life::Awake, Phase::Attached));
            assert_eq!(page.session.last0, 1, "{tab}");
        }
        let sessions = world.server.as_ref().unwrap().sessions.keys().copied();
        assert_eq!(sessions.collect::<Vec<_>>(), [session.unwrap()]);
    }

    #[test]
    fn tabs_that_were_frozen_find_their_session_in_the_hands_of_a_new_page() {
        newcomer(
            |world, tab| world.set_frozen(0, tab, true).unwrap(),
            |world, tab| world.set_frozen(0, tab, false).unwrap(),
        );
    }

    #[test]
    fn so_do_tabs_that_were_in_the_back_forward_cache() {
        newcomer(|world, tab| world.park(0, tab), |world, tab| world.restore(0, tab).unwrap());
    }
}
