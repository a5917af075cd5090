//! What must hold for views after all faults are healed.

use std::collections::BTreeSet;

use tabmux_core::wire::close;

use super::{
    super::{
        browser::Life,
        links::Peer,
        page::SocketState,
        plain::End,
        world::{Delivery, World},
    },
    Mode, ViewKey,
};
use crate::invariant::{Checked, Invariant::Convergence};

impl World {
    /// Checks that all views are open or closed and have received everything, and that each
    /// connection belongs to a view.
    pub(crate) fn views_at_rest(&self) -> Checked {
        for (at, browser) in self.browsers.iter().enumerate() {
            let mut links = BTreeSet::new();
            let mut mirrors = BTreeSet::new();
            for (_, page) in browser.pages() {
                for (number, view) in &page.views {
                    let key = ViewKey { browser: at, tag: page.tag, number: *number };
                    if view.state == SocketState::Closed {
                        continue;
                    }
                    let link = view.link.and_then(|it| self.plain.connections.get(&it));
                    let complete = link.is_some_and(|it| {
                        let heard = it.heard.get(&key).copied().unwrap_or_default();
                        it.end == End::Open && view.heard == Some(it.said) && heard == view.said
                    });
                    Convergence.unless(complete && view.state == SocketState::Open, || {
                        format!("{key:?} is {view:?}, and its link {link:?}")
                    })?;
                    links.extend(view.link);
                    if view.mode == Mode::Mirror && !view.is_own {
                        mirrors.insert((view.feed, view.link));
                    }
                }
            }
            let open = self.network.of_browser(at, Peer::Plain);
            Convergence.unless(open == links.len(), || {
                format!("browser {at} has {open} connections for {links:?}")
            })?;
            let feeds = mirrors.iter().map(|(feed, _)| feed);
            let feeds = feeds.collect::<BTreeSet<_>>();
            // Two lock managers know nothing of each other, and a plain server tells its clients
            // nothing.
            let one = browser.areas.len() == 1 && self.is_one_hub(at);
            let many = one && mirrors.len() > feeds.len();
            Convergence
                .unless(!many, || format!("browser {at} mirrors over the links {mirrors:?}"))?;
        }
        Ok(())
    }

    /// Ends half-open links, gives each page a view, and lets all views receive something.
    pub(crate) fn plain_heals(&mut self) {
        self.plain_recovers();
        let links = self.network.links.iter();
        let broken = links.filter(|(_, it)| it.to == Peer::Plain && it.broken && it.worker_open);
        for (id, at) in broken.map(|(id, it)| (*id, it.at)).collect::<Vec<_>>() {
            let (code, clean) = (close::ABNORMAL, false);
            self.put(self.now, Delivery::WorkerHears { link: id, at, code, clean });
        }
    }

    /// Opens a view of the first feed in every page that uses a plain server.
    pub(crate) fn all_view(&mut self) -> Checked {
        for at in 0..self.browsers.len() {
            for number in self.browsers[at].pages_that(Life::Awake) {
                let page = self.browsers[at].page(number);
                if page.is_some_and(|page| page.doors.plain()) {
                    self.view_opens((at, number), Mode::Mirror, 0)?;
                }
            }
        }
        Ok(())
    }

    /// Checks that no view waits for anything.
    pub(crate) fn views_settled(&self) -> Checked {
        let pages = self.browsers.iter().flat_map(|browser| browser.pages());
        let mut all = pages.flat_map(|(_, page)| page.views.iter());
        let waits =
            all.find(|(_, it)| !matches!(it.state, SocketState::Open | SocketState::Closed));
        Convergence.unless(waits.is_none(), || format!("healed, and yet view {waits:?} waits"))
    }

    /// Lets all views send something and receive something.
    pub(crate) fn last_views(&mut self) -> Checked {
        for at in 0..self.browsers.len() {
            for number in self.browsers[at].pages_that(Life::Awake) {
                let page = self.browsers[at].page(number);
                let views = page.map_or_else(Vec::new, |it| it.views.keys().copied().collect());
                for view in views {
                    self.view_says((at, number), view)?;
                }
            }
        }
        for id in self.plain.open() {
            self.plain_says(id, "push");
        }
        Ok(())
    }
}
