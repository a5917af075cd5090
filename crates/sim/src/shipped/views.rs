//! `SharedWebSocket` in modes mirror and exclusive: what each view sent, must receive and must be
//! told, and what becomes of a plain `WebSocket` beside it.

mod beside;
mod outage;
mod rest;
mod rules;

use std::{collections::BTreeMap, fmt, time::Duration};

use tabmux_core::{Timestamp, wire::close};

use super::{
    page::SocketState,
    plain::{CODES, End, FAREWELL, PLAIN_URL, PROTOCOL, offered},
    plan::{Special, Tiers},
    waits::Wanted,
    world::{Delivery, World},
};
use crate::{
    engine::op::Told,
    invariant::{
        Checked,
        Invariant::{NeverWorse, NothingLost, OnlyWhatWasAsked},
        LATER_THAN_NATIVE, LATER_THAN_NATIVE_IF_HUNG,
    },
    rng::Rng,
    seen::Sight,
};

/// Numbers of views begin here, so that no virtual socket has the number of a view.
pub(crate) const FIRST: u32 = 1 << 16;
/// The number of feeds of the plain server.
const FEEDS: u64 = 2;
/// Largest number of open views of one page.
const VIEWS: usize = 4;
/// Time after a fault of its worker during which a view may still be closed because of it.
const TOLD: Duration = Duration::from_secs(60);
/// Number of timer ticks that a page needs to host a hub. Ticks may be a minute apart.
const TICKS: u32 = 2;
/// A time that is never reached.
const EVER: Timestamp = Timestamp::from_micros(u64::MAX);

/// The name of a view: its browser, the tag of its page, and its number there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ViewKey {
    /// The number of the browser.
    pub browser: usize,
    tag: u32,
    number: u32,
}

/// The mode of a view, which says what is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One connection for all views of an address.
    Mirror,
    /// A connection for this view alone.
    Exclusive,
}

/// One `SharedWebSocket` of a page.
#[derive(Debug)]
pub struct View {
    mode: Mode,
    feed: u64,
    state: SocketState,
    /// The link whose messages the view hears, if that is known.
    link: Option<u64>,
    /// The number of the last message that the view heard. `None` means that the next may be any.
    heard: Option<u64>,
    /// For a view that came late: the number of messages that the server had sent on each link by
    /// then.
    late: BTreeMap<u64, u64>,
    /// True if its page was in the back/forward cache since then.
    was_cached: bool,
    /// The number of the last message that the view heard of those for its tab alone.
    routed: Option<u64>,
    /// True if the view must stay open when its connection breaks.
    stays: bool,
    /// True if its page asked for another link.
    asked: bool,
    /// While its connection is broken: how often its address had been dialled when it broke.
    outage: Option<u64>,
    /// Number of messages that the view sent.
    said: u64,
    /// The text of its error event, if one came.
    error: Option<String>,
    /// True if it is the page's own connection, which the page shares with nobody.
    is_own: bool,
    /// The time when a plain socket that was asked for at the same moment is open, while it is.
    native: Option<Timestamp>,
    /// The alignment of its page's timers when the view was opened, in milliseconds.
    throttle_ms: u64,
    /// The time of the worker's last fault since then.
    suffered: Option<Timestamp>,
    /// The time until which the view may be closed with 1006, or miss the code of the close.
    may_break: Timestamp,
}

impl ViewKey {
    /// Returns the key in the words of a message.
    pub fn new(browser: u64, tag: u64, number: u64) -> Self {
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let browser = usize::try_from(browser).unwrap_or(usize::MAX);
        Self { browser, tag: small(tag), number: small(number) }
    }
}

impl fmt::Debug for ViewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "view {}/{}/{}", self.browser, self.tag, self.number)
    }
}

impl View {
    /// Returns true if the view waits for its connection.
    pub fn is_connecting(&self) -> bool {
        self.state == SocketState::Connecting
    }

    /// Returns true if the view is neither closed nor closing.
    const fn is_alive(&self) -> bool {
        matches!(self.state, SocketState::Connecting | SocketState::Open)
    }
}

impl World {
    /// Returns all views that are not closed, of one browser or of all.
    pub(crate) fn views_of(&self, browser: Option<usize>) -> Vec<ViewKey> {
        let all = self.browsers.iter().enumerate();
        let all = all.filter(|(at, _)| browser.is_none_or(|browser| browser == *at));
        let all = all.flat_map(|(browser, it)| it.pages().map(move |(_, page)| (browser, page)));
        let all = all.flat_map(|(browser, page)| {
            let lives = page.views.iter().filter(|(_, it)| it.state != SocketState::Closed);
            lives.map(move |(number, _)| ViewKey { browser, tag: page.tag, number: *number })
        });
        all.collect()
    }

    fn view(&mut self, key: ViewKey) -> Option<&mut View> {
        let browser = self.browsers.get_mut(key.browser)?;
        let page = browser.page_of(key.tag)?;
        browser.page(page)?.views.get_mut(&key.number)
    }

    /// Called when a connection broke that the view may use.
    pub(crate) fn view_may_break(&mut self, key: ViewKey) {
        let dials = self.dials_of(key);
        if let Some(view) = self.view(key) {
            (view.may_break, view.native) = (EVER, None);
            view.outage.get_or_insert(dials);
        }
    }

    /// Called when a plain socket of the same time would now fare differently.
    pub(crate) fn plain_changed(&mut self, key: ViewKey) {
        if let Some(view) = self.view(key).filter(|it| it.state == SocketState::Connecting) {
            view.native = None;
        }
    }

    /// Records that a worker of a browser, or a page that may host one, has a fault until then.
    pub(crate) fn hosts_suffer(&mut self, browser: usize, until: Timestamp) {
        let suffers = &mut self.browsers[browser].suffers;
        *suffers = until.max(*suffers);
        for key in self.views_of(Some(browser)) {
            if let Some(view) = self.view(key) {
                view.suffered = view.suffered.max(Some(until));
                view.may_break = view.may_break.max(until + TOLD);
            }
        }
    }

    /// Records that a script of a browser does not come before then, or never. Pages that wait for
    /// it may take longer than a plain socket.
    pub(crate) fn scripts_hang(&mut self, browser: usize, until: Timestamp) {
        let now = self.now;
        let hung = &mut self.browsers[browser].hung_until;
        *hung = until.max(*hung);
        for key in self.views_of(Some(browser)) {
            if let Some(view) = self.view(key).filter(|view| view.is_connecting()) {
                view.suffered = view.suffered.max(Some(now));
            }
        }
    }

    /// Returns true if all hubs of a browser are in shared workers, whatever its pages do.
    fn is_calm(&self, browser: usize) -> bool {
        let traits = &self.browsers[browser].traits;
        traits.tiers == Tiers::Any && traits.locks && self.plan.special == Special::None
    }

    /// Called when a page does something that no other page must notice, unless it may host the hub
    /// of others.
    pub(crate) fn page_changes(&mut self, browser: usize) {
        if !self.is_calm(browser) {
            self.hosts_suffer(browser, self.now);
        }
    }

    /// Called when a page or its machine stands still, or did. A plain socket in it does so too.
    pub(crate) fn page_is_away(&mut self, at: (usize, u32)) {
        let now = self.now;
        let Some(page) = self.browsers[at.0].page(at.1) else { return };
        page.away_at = now;
        for view in page.views.values_mut() {
            (view.may_break, view.native) = (EVER, None);
        }
    }

    /// Called when a page comes back from the back/forward cache.
    pub(crate) fn views_return(&mut self, at: (usize, u32)) {
        if let Some(page) = self.browsers[at.0].page(at.1) {
            page.views.values_mut().for_each(|view| view.was_cached = true);
        }
    }

    /// Does with a page's views what `does` says.
    pub(crate) fn page_views(&mut self, at: (usize, u32), does: Wish, rng: &mut Rng) -> Checked {
        let Some(page) = self.browsers[at.0].page(at.1) else {
            return Ok(());
        };
        let alive = page.views.iter().filter(|(_, view)| view.is_alive());
        let alive = alive.map(|(number, _)| *number).collect::<Vec<_>>();
        match does {
            Wish::Open if alive.len() < VIEWS => {
                let mode = if rng.one_in(3) { Mode::Exclusive } else { Mode::Mirror };
                self.view_opens(at, mode, rng.below(FEEDS))?;
            }
            Wish::Say => {
                for _ in 0..=rng.below(6) {
                    if let Some(number) = rng.pick(&alive) {
                        self.view_says(at, number)?;
                    }
                }
                if let Some(number) = rng.pick(&alive).filter(|_| rng.one_in(12)) {
                    self.view_reconnects(at, number)?;
                }
            }
            Wish::Close => {
                if let Some(number) = rng.pick(&alive) {
                    self.view_closes(at, number)?;
                }
            }
            Wish::Open => {}
        }
        Ok(())
    }

    /// Opens a `SharedWebSocket` in a page, and in the model a plain socket beside it.
    pub(crate) fn view_opens(&mut self, at: (usize, u32), mode: Mode, feed: u64) -> Checked {
        let url = format!("{PLAIN_URL}{feed}");
        // If the page insists on tiers that it cannot have, the fault is not the library's.
        let asks = self.asks(at, mode);
        let native = self.plain_would_open(at.0, &url).filter(|_| !self.has_no_tier(at.0));
        // A plain socket would have to ask for the address too.
        let native = native.filter(|_| asks.is_empty());
        let broken = self.plain_is_broken(at.0, &url);
        let suffers = self.browsers[at.0].suffers;
        let hangs = self.browsers[at.0].hung_until > self.now;
        let (now, rules) = (self.now, self.rules(at.0, mode, feed));
        let stays = mode == Mode::Mirror && self.has_policy(at.0);
        let Some(page) = self.browsers[at.0].page(at.1) else {
            return Ok(());
        };
        // A page whose timers are slow may only be about to ask for another worker.
        let ticks = Duration::from_millis(page.throttle_ms) * TICKS;
        let suffered = Some(suffers).filter(|it| *it + LATER_THAN_NATIVE_IF_HUNG + ticks > now);
        let suffered = suffered.or(hangs.then_some(now));
        let number = FIRST + u32::try_from(page.views.len()).unwrap_or(0);
        let view = View {
            mode,
            feed,
            state: SocketState::Connecting,
            link: None,
            heard: None,
            late: BTreeMap::new(),
            was_cached: false,
            routed: None,
            stays,
            asked: false,
            outage: None,
            said: 0,
            error: None,
            is_own: false,
            native,
            throttle_ms: page.throttle_ms,
            suffered,
            may_break: if broken { EVER } else { suffers + TOLD },
        };
        page.views.insert(number, view);
        let name = if mode == Mode::Mirror { "mirror" } else { "exclusive" };
        let options = format!(r#"{{"mode":"{name}",{rules}{}"#, &page.options[1..]);
        let options = options.replace(",}", "}");
        let offered = format!("{:?}", offered(&url).split(',').collect::<Vec<_>>());
        let offered = offered.replace(r#"[""]"#, "[]");
        if let Some(native) = native {
            let when = native + LATER_THAN_NATIVE;
            self.put(when, Delivery::Beside { at, view: number });
        }
        self.must_connect(at, Wanted::View(number));
        self.app(at, "open", &format!(r#"[{number},"{url}",{options},{offered},"{asks}"]"#))
    }

    /// Sends the next numbered message of a page on a view.
    pub(crate) fn view_says(&mut self, at: (usize, u32), number: u32) -> Checked {
        let Some(page) = self.browsers[at.0].page(at.1) else {
            return Ok(());
        };
        let tag = page.tag;
        let Some(view) = page.views.get_mut(&number).filter(|it| it.state == SocketState::Open)
        else {
            return Ok(());
        };
        view.said += 1;
        let text = format!("up {} {tag} {number} {}", at.0, view.said);
        self.app(at, "send", &format!(r#"[{number},"{text}"]"#))
    }

    fn view_closes(&mut self, at: (usize, u32), number: u32) -> Checked {
        let Some(page) = self.browsers[at.0].page(at.1) else {
            return Ok(());
        };
        let Some(view) = page.views.get_mut(&number) else {
            return Ok(());
        };
        view.state = match view.state {
            SocketState::Open => SocketState::Closing,
            SocketState::Connecting => SocketState::Abandoned,
            SocketState::Closing | SocketState::Abandoned | SocketState::Closed => return Ok(()),
        };
        view.native = None;
        // If it was the last view of its page, the page no longer hosts the hub.
        self.page_changes(at.0);
        self.app(at, "close", &format!("[{number},1000]"))
    }

    /// Called when a view of a page heard something.
    pub(crate) fn view_heard(&mut self, at: (usize, u32), told: &[Told]) -> Checked {
        let text = |at: usize| told.get(at).map_or("", Told::text);
        let number = |at: usize| told.get(at).and_then(Told::number).unwrap_or(0);
        let Some(page) = self.browsers[at.0].page(at.1) else {
            return Ok(());
        };
        let key = ViewKey::new(at.0 as u64, page.tag.into(), number(1));
        match text(0) {
            "opened" => {
                let joins = told.get(2) == Some(&Told::Flag(true));
                let is_own = text(4) == "page";
                if is_own {
                    self.seen.add(Sight::LastResort);
                }
                if let Some(view) = self.view(key) {
                    view.is_own = is_own;
                }
                if let Some(page) = self.browsers[at.0].page(at.1) {
                    text(5).clone_into(&mut page.name);
                }
                self.view_opened(key, joins, text(3))
            }
            "reconnected" => self.view_goes_on(key),
            "message" if text(2).starts_with('{') => self.view_hears_alone(key, text(2)),
            "message" => self.view_hears(key, text(2)),
            "error" => {
                if let Some(view) = self.view(key) {
                    view.error = Some(text(2).to_owned());
                }
                Ok(())
            }
            "closed" => {
                let clean = told.get(4) == Some(&Told::Flag(true));
                let code = u16::try_from(number(2)).unwrap_or(0);
                self.view_closed(key, code, text(3), clean)?;
                self.application_reopens(at, key);
                Ok(())
            }
            what => OnlyWhatWasAsked.broken(format!("{key:?} was told {what}")),
        }
    }

    fn view_opened(&mut self, key: ViewKey, joins: bool, protocol: &str) -> Checked {
        let Some(view) = self.view(key) else {
            return Ok(());
        };
        OnlyWhatWasAsked.unless(view.state == SocketState::Connecting, || {
            format!("{key:?} was opened, and is {:?}", view.state)
        })?;
        let wanted = if view.feed == 1 { PROTOCOL } else { "" };
        NothingLost.unless(protocol == wanted, || {
            format!("{key:?} is open with protocol {protocol:?}, and the server took {wanted:?}")
        })?;
        view.state = SocketState::Open;
        if joins {
            self.view_joins(key);
        } else {
            // The connection was opened for this view.
            view.heard = Some(0);
        }
        Ok(())
    }

    fn view_hears(&mut self, key: ViewKey, text: &str) -> Checked {
        let word = |at: usize| text.split(' ').nth(at).and_then(|it| it.parse::<u64>().ok());
        let (Some(link), Some(m)) = (word(1), word(2)) else {
            return NothingLost.broken(format!("{key:?} heard {text:?}"));
        };
        self.bind_view(key, link)?;
        self.late_view_hears(key, link, m)?;
        let Some(view) = self.view(key) else {
            return Ok(());
        };
        OnlyWhatWasAsked.unless(view.state == SocketState::Open, || {
            format!("{key:?} is {:?}, and heard {text:?}", view.state)
        })?;
        let before = view.heard;
        let right = before.is_none_or(|before| m == before + 1);
        let back = if view.was_cached { "; its page came back from the cache" } else { "" };
        NothingLost.unless(right, || {
            format!("{key:?} heard number {m} of its link after {before:?}{back}")
        })?;
        (view.heard, view.was_cached) = (Some(m), false);
        self.reference.heard += 1;
        Ok(())
    }

    /// Checks that the view uses this link, and no other, ever.
    pub(crate) fn bind_view(&mut self, key: ViewKey, link: u64) -> Checked {
        let Some(view) = self.view(key) else {
            return Ok(());
        };
        let before = view.link.replace(link);
        NothingLost.unless(before.is_none_or(|before| before == link), || {
            format!("{key:?} looked at link {before:?} and now at {link}")
        })
    }

    fn view_closed(&mut self, key: ViewKey, code: u16, reason: &str, clean: bool) -> Checked {
        let now = self.now;
        let tiers = self.browsers.get(key.browser).map(|it| it.traits.tiers);
        let Some(view) = self.view(key) else {
            return Ok(());
        };
        let excused = now <= view.may_break;
        let link = view.link;
        self.outage_is_over(key, clean)?;
        let Some(view) = self.view(key) else {
            return Ok(());
        };
        let before = std::mem::replace(&mut view.state, SocketState::Closed);
        let said = || format!("closed with {code} {reason:?} ({clean})");
        match before {
            SocketState::Connecting => {
                let fine = view.native.is_none() || view.suffered.is_some();
                let text = view.error.clone().unwrap_or_default();
                NothingLost
                    .unless(!clean && code == close::ABNORMAL && !text.is_empty(), || {
                        format!("{key:?} failed without a reason: {}", said())
                    })?;
                NeverWorse
                    .unless(fine, || format!("{key:?} failed where a plain socket opens: {text}"))
            }
            SocketState::Open if clean => {
                let heard = view.heard;
                let end = link.and_then(|link| self.plain.connections.get(&link));
                let told = reason == FAREWELL && CODES.contains(&code);
                let right = match end.map(|it| (it.end, it.said)) {
                    Some((End::Closed(with), said)) => {
                        with == code && told && heard.is_none_or(|it| it == said)
                    }
                    Some((End::Open | End::Left | End::Broken, _)) => false,
                    // The view heard nothing, so it is not known which link it used.
                    None => told,
                };
                NothingLost.unless(right || excused, || {
                    format!("{key:?} was {} after {heard:?}, and its link {end:?}", said())
                })
            }
            SocketState::Open => {
                let right = excused && code == close::ABNORMAL;
                NothingLost.unless(right, || {
                    format!("{key:?} was {}, though nothing broke; tiers: {tiers:?}", said())
                })
            }
            SocketState::Closing => {
                let right = if clean { code == 1000 || CODES.contains(&code) } else { excused };
                NothingLost.unless(right, || format!("{key:?} closed itself, and was {}", said()))
            }
            SocketState::Abandoned => NothingLost
                .unless(!clean, || format!("{key:?} was given up unopened, and was {}", said())),
            SocketState::Closed => {
                OnlyWhatWasAsked.broken(format!("{key:?} was {}, once more", said()))
            }
        }
    }

    /// Lets an application whose socket was closed open another one soon.
    fn application_reopens(&mut self, at: (usize, u32), key: ViewKey) {
        let Some(View { mode, feed, .. }) = self.view(key) else { return };
        let (mode, feed) = (*mode, *feed);
        let rng = &mut self.browsers[at.0].rng;
        let after = rng.millis(2000, 10_000);
        if rng.one_in(2) && !self.healed {
            self.put(self.now + after, Delivery::Reopen { at, mode, feed });
        }
    }
}

/// What a page wants to do with its views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The page opens another view.
    Open,
    /// The page sends on a view.
    Say,
    /// The page closes a view.
    Close,
}
