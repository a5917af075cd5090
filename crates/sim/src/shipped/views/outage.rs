//! Options of mirror mode: addresses that pages are asked for, messages for one tab, and views that
//! outlive their connection.

use std::time::Duration;

use super::{
    super::{browser::Life, plain::PLAIN_URL, world::World},
    Mode, SocketState, TOLD, ViewKey,
};
use crate::{
    invariant::{
        Checked,
        Invariant::{NoStorm, NothingLost, OnlyWhatWasAsked},
    },
    seen::Sight,
};

/// Largest number of dials in an outage, if the pages set the option.
pub(super) const ATTEMPTS: u64 = 3;
/// Time in which a hub knows a tab again that was away.
const BACK: Duration = Duration::from_secs(10);

/// Time in which a worker hears that the browser is offline.
const TOLD_OFFLINE: Duration = Duration::from_secs(2);

// Which pages give which options follows from traits, so that no other draw of a seed changes.
impl World {
    /// Returns true if the pages of a browser give functions in place of addresses.
    pub(super) fn has_asks(&self, browser: usize) -> bool {
        self.browsers[browser].traits.load_ms == 500
    }

    /// Returns true if the pages of a browser hear messages for one tab alone.
    pub(super) fn has_routes(&self, browser: usize) -> bool {
        self.browsers[browser].traits.load_ms == 5
    }

    /// Returns true if views of a browser must stay open when their connection breaks.
    pub(super) fn has_policy(&self, browser: usize) -> bool {
        matches!(self.browsers[browser].traits.port_ms, 5 | 60)
    }

    /// Returns how a page answers when it is asked for the address of a view. Empty if the page
    /// gives a text.
    pub(super) fn asks(&mut self, at: (usize, u32), mode: Mode) -> &'static str {
        if self.browsers[at.0].offline_since.is_some() {
            self.seen.add(Sight::SaidOffline);
        }
        if !self.has_asks(at.0) {
            return "";
        }
        let healed = self.healed;
        let Some(page) = self.browsers[at.0].page(at.1) else { return "" };
        let dice = page.tag.wrapping_add(u32::try_from(page.views.len()).unwrap_or(0));
        match dice % 4 {
            2 if !healed && mode == Mode::Mirror => {
                self.seen.add(Sight::LateUrl);
                "late"
            }
            3 if !healed => {
                self.seen.add(Sight::NoUrl);
                "fail"
            }
            _ => "now",
        }
    }

    /// Returns how often hubs of a browser dialled the address of a view.
    pub(super) fn dials_of(&mut self, key: ViewKey) -> u64 {
        let Some(feed) = self.view(key).map(|view| view.feed) else { return 0 };
        let dials = &self.browsers[key.browser].dials;
        dials.get(&format!("{PLAIN_URL}{feed}")).copied().unwrap_or_default()
    }

    /// Returns true if a view may have another connection than before.
    pub(crate) fn view_may_go_on(&mut self, key: ViewKey) -> bool {
        let asks = self.views_of(Some(key.browser)).into_iter();
        let asks = asks.collect::<Vec<_>>();
        let feed = self.view(key).map(|view| view.feed);
        self.view(key).is_none_or(|view| view.stays)
            || asks
                .into_iter()
                .any(|other| self.view(other).is_some_and(|it| it.asked && Some(it.feed) == feed))
    }

    /// Lets a page ask for another link. All its views stay open, if the first dial is answered.
    pub(super) fn view_reconnects(&mut self, at: (usize, u32), number: u32) -> Checked {
        let Some(page) = self.browsers[at.0].page(at.1) else {
            return Ok(());
        };
        let tag = page.tag;
        let Some(view) = page.views.get_mut(&number) else {
            return Ok(());
        };
        let own = ViewKey { browser: at.0, tag, number };
        let (feed, is_mirror) = (view.feed, view.mode == Mode::Mirror);
        for key in self.views_of(Some(at.0)) {
            let shares =
                self.view(key).is_some_and(|it| it.feed == feed && it.mode == Mode::Mirror);
            if key == own || is_mirror && shares {
                self.view_may_break(key);
                if let Some(view) = self.view(key) {
                    view.asked = true;
                }
            }
        }
        self.seen.add(Sight::AskedForLink);
        self.app(at, "reconnect", &format!("[{number}]"))
    }

    /// Called when a view has another connection.
    pub(super) fn view_goes_on(&mut self, key: ViewKey) -> Checked {
        let may = self.view_may_go_on(key);
        let Some(view) = self.view(key) else {
            return Ok(());
        };
        OnlyWhatWasAsked.unless(may && view.state == SocketState::Open, || {
            format!("{key:?} is {:?}, and was told of another connection", view.state)
        })?;
        (view.link, view.heard, view.routed, view.outage) = (None, None, None, None);
        view.late.clear();
        self.seen.add(Sight::Outage);
        Ok(())
    }

    /// Checks that a view which should stay open closes only after its address was dialled as often
    /// as it may be.
    pub(super) fn outage_is_over(&mut self, key: ViewKey, clean: bool) -> Checked {
        let (now, dials) = (self.now, self.dials_of(key));
        let suffers = self.browsers.get(key.browser).is_some_and(|it| now <= it.suffers + TOLD);
        let asks = self.has_asks(key.browser);
        let Some(number) = self.browsers[key.browser].page_of(key.tag) else {
            return Ok(());
        };
        let page = self.browsers[key.browser].page(number);
        let was_away = page.is_none_or(|it| it.away_at != it.born && now <= it.away_at + TOLD);
        let Some(view) = self.view(key) else {
            return Ok(());
        };
        let is_judged = view.stays && view.state == SocketState::Open && !clean && !view.is_own;
        let Some(before) = view.outage.filter(|_| is_judged && !suffers && !asks && !was_away)
        else {
            return Ok(());
        };
        NothingLost.unless(dials >= before + ATTEMPTS, || {
            format!("{key:?} was to stay open, and closed after {} dials", dials - before)
        })
    }

    /// Checks that a hub dials the address that a page gave just now, if pages are asked, and does
    /// not dial without a network.
    pub(crate) fn hub_dials(&mut self, at: (usize, u32), url: &str, secret: &str) -> Checked {
        if !secret.is_empty() {
            self.seen.add(Sight::AskedUrl);
            let is_new = self.network.secrets.insert(secret.to_owned());
            OnlyWhatWasAsked.unless(is_new, || {
                format!("{at:?} dials {url} as before, and asks no page for the address")
            })?;
        }
        let browser = &mut self.browsers[at.0];
        *browser.dials.entry(url.to_owned()).or_default() += 1;
        let runs = browser.actors.get(&at.1).map_or(self.now, |actor| actor.runs_since);
        let Some(since) = browser.offline_since else {
            return Ok(());
        };
        let knows = self.now > since.max(runs).max(browser.woke) + TOLD_OFFLINE;
        NoStorm.unless(!knows, || format!("{at:?} dials {url} though the browser is offline"))
    }

    /// Returns the name that a server has for the tab of a view that is open on this connection.
    pub(crate) fn name_for(&mut self, key: ViewKey, link: u64) -> Option<String> {
        let has_routes = self.browsers.get(key.browser).is_some() && self.has_routes(key.browser);
        let browser = self.browsers.get_mut(key.browser).filter(|_| has_routes)?;
        let number = browser.page_of(key.tag)?;
        let page = browser.page(number)?;
        let view = page.views.get(&key.number)?;
        let is_there = view.state == SocketState::Open && view.link == Some(link);
        (is_there && !page.name.is_empty()).then(|| page.name.clone())
    }

    /// Called when a view hears a message for one tab.
    pub(super) fn view_hears_alone(&mut self, key: ViewKey, text: &str) -> Checked {
        let mut words = text.split(['"', ' ']).filter(|word| !word.is_empty());
        let mut word = |at: usize| words.nth(at).unwrap_or_default().to_owned();
        let (name, link, n) = (word(3), word(4), word(0));
        let (Ok(link), Ok(n)) = (link.parse::<u64>(), n.parse::<u64>()) else {
            return NothingLost.broken(format!("{key:?} heard {text:?}"));
        };
        self.bind_view(key, link)?;
        let own = self.name_for(key, link);
        if own.as_ref() != Some(&name) {
            return self.is_for_nobody_else(key, link, &name);
        }
        self.seen.add(Sight::Routed);
        let Some(view) = self.view(key) else {
            return Ok(());
        };
        let before = view.routed.replace(n);
        NothingLost.unless(before.is_none_or(|before| n == before + 1), || {
            format!("{key:?} heard {text:?} after {before:?}")
        })
    }

    /// Checks that a message which names a tab on the same connection goes to that tab alone.
    fn is_for_nobody_else(&self, key: ViewKey, link: u64, name: &str) -> Checked {
        let now = self.now;
        let browser = &self.browsers[key.browser];
        let owner = browser.pages().find(|(number, page)| {
            let is_here = page.away_at == page.born || now > page.away_at + BACK;
            let is_open =
                |view: &super::View| view.state == SocketState::Open && view.link == Some(link);
            let awake = browser.actors.get(number).is_some_and(|it| it.life == Life::Awake);
            page.name == name && is_here && awake && page.views.values().any(is_open)
        });
        OnlyWhatWasAsked.unless(owner.is_none(), || {
            format!("{key:?} heard on link {link} what is for {name} alone")
        })
    }
}
