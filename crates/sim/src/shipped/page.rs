//! What is known of a page: what it said, what it must hear, and what it was told. The page itself
//! is the shipped library, in a realm.

use std::collections::{BTreeMap, BTreeSet};

use tabmux_core::{
    Timestamp,
    wire::{HubId, Position, SessionId, TabId},
};

use super::{browser::Identity, plan::Doors, topics::Subscription, views::View};
use crate::{
    engine::op::Told,
    invariant::{
        Checked,
        Invariant::{NoError, NothingLost, OneUser, OnlyWhatWasAsked},
    },
    reference::Reference,
    topics::Feed,
};

/// Why the server has no place for a tab.
const NO_ROOM: &str = "tabs on this server";
/// The text that a page of an earlier build is told.
const TWO_BUILDS: [&str; 2] = ["was updated", "of another build"];
/// How often a page is told that messages to all tabs are missing where some may be.
const GAPS: u32 = 8;

/// One page load.
#[derive(Debug)]
pub struct Page {
    /// The upper half of all ids that it draws.
    pub tag: u32,
    /// What the application and the oracle call its tab.
    pub tab: TabId,
    /// The build of its page library.
    pub build: usize,
    /// The build of its chunk for the other tiers, if it has loaded that.
    pub tiers: Option<usize>,
    /// Another build was deployed, it was told so, and nothing is left to it.
    pub outdated: bool,
    /// There was no room for it at the server, and it was told so.
    pub refused: bool,
    /// Its timers fire at multiples of so many milliseconds.
    pub throttle_ms: u64,
    /// The options of all that it opens, as JSON.
    pub options: String,
    /// When it was loaded.
    pub born: Timestamp,
    /// Its virtual sockets, those that are closed included.
    pub sockets: BTreeMap<u32, SocketState>,
    /// When it, or its machine, last stood still.
    pub away_at: Timestamp,
    /// When it was last unsure whether the server has room for it.
    pub unsure_at: Timestamp,
    /// The servers that it is at.
    pub doors: Doors,
    /// What servers may call it (`routeBy`), once that is known.
    pub name: String,
    /// Its sockets in mirror and exclusive mode, those that are closed included.
    pub views: BTreeMap<u32, View>,
    /// When each hub last said that it is attached there, by the step.
    pub attached: BTreeMap<HubId, u64>,
    /// The hub on whose messages it acts, if it is in mux mode, and since which step.
    pub acts_on: Option<(HubId, u64)>,
    /// Its subscriptions to topics.
    pub subscriptions: BTreeMap<u32, Subscription>,
    /// How many there were so far.
    pub subscriptions_made: u32,
    /// What its client says of itself.
    pub status: Status,
    /// A script of it did not come in time, so it may have no hub.
    pub excused: bool,
    /// The last message to all tabs: of which session, and its number there.
    broadcast: Option<(u64, u64)>,
    /// How often it may be told that it missed messages to all tabs: by the hub it leaves, by its
    /// own library and by the next hub.
    may_miss: u32,
}

/// What a client says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// `connected`, `closed` and so on.
    pub state: String,
    /// How its hub is hosted.
    pub tier: String,
    /// Its hub.
    pub hub: String,
    /// Why the state is what it is.
    pub reason: String,
    /// The tag of the user, or nothing.
    pub user: String,
}

/// Like `readyState`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketState {
    /// Wished for.
    #[default]
    Connecting,
    /// Open.
    Open,
    /// The page closed it when it was open.
    Closing,
    /// The page closed it before it was open.
    Abandoned,
    /// Closed.
    Closed,
}

/// The tab that a tag stands for.
pub fn tab_of(tag: u32) -> TabId {
    TabId(tag.into())
}

/// The tag in an id that a page drew.
pub fn tag_of(id: TabId) -> u32 {
    u32::try_from(id.0 >> 32).unwrap_or(0)
}

impl Page {
    /// A page that has just begun.
    pub fn new(tag: u32, throttle_ms: u64, options: String, doors: Doors, born: Timestamp) -> Self {
        Self {
            tag,
            tab: tab_of(tag),
            build: 0,
            tiers: None,
            outdated: false,
            refused: false,
            throttle_ms,
            options,
            born,
            sockets: BTreeMap::new(),
            away_at: born,
            unsure_at: born,
            doors,
            name: String::new(),
            views: BTreeMap::new(),
            attached: BTreeMap::new(),
            acts_on: None,
            subscriptions: BTreeMap::new(),
            subscriptions_made: 0,
            status: Status::default(),
            excused: false,
            broadcast: None,
            may_miss: 0,
        }
    }

    /// True if its client waits for room at the server.
    pub fn lacks_room(&self) -> bool {
        self.refused && self.status.reason.contains(NO_ROOM)
    }

    /// True if it has sockets that are not closed.
    pub fn has_sockets(&self) -> bool {
        self.sockets.values().any(|state| *state != SocketState::Closed)
    }

    /// Numbers of the sockets in a state.
    pub fn sockets_in(&self, state: SocketState) -> Vec<u32> {
        self.sockets.iter().filter(|(_, it)| **it == state).map(|(id, _)| *id).collect()
    }

    /// It stood still: not all that came meanwhile was kept.
    pub const fn was_away(&mut self) {
        self.may_miss = GAPS;
    }

    /// Its hub is another one, or has another link: topics may name an earlier place again.
    pub fn disturb(&mut self) {
        self.may_miss = GAPS;
        self.subscriptions.values_mut().for_each(Subscription::disturb);
    }

    /// The application in the page heard something.
    ///
    /// # Errors
    /// If it must not have heard that.
    pub fn heard(
        &mut self,
        told: &[Told],
        reference: &mut Reference,
        feed: &Feed,
        (parts, last_build): (&BTreeSet<(TabId, SessionId)>, usize),
        owners: Option<&BTreeMap<SessionId, Option<Identity>>>,
    ) -> Checked {
        let text = |at: usize| told.get(at).map_or("", Told::text);
        let number = |at: usize| told.get(at).and_then(Told::number).unwrap_or(0);
        let k = u32::try_from(number(1)).unwrap_or(0);
        let position = Position { epoch: number(2), offset: number(3) };
        match text(0) {
            "status" => {
                self.status = Status {
                    state: text(1).to_owned(),
                    tier: text(2).to_owned(),
                    hub: text(3).to_owned(),
                    reason: text(5).to_owned(),
                    user: text(6).to_owned(),
                };
                if self.status.reason.contains(NO_ROOM) {
                    (self.refused, self.excused) = (true, true);
                } else if self.refused && self.status.state == "connected" {
                    // It has its place now.
                    (self.refused, self.excused) = (false, false);
                }
                let of_two = TWO_BUILDS.iter().any(|it| self.status.reason.contains(it));
                if self.status.state == "closed" && of_two {
                    (self.excused, self.outdated) = (true, true);
                    let build = self.build;
                    return NoError.unless(build < last_build, || {
                        format!("a page of the latest build {build} hears {:?}", self.status)
                    });
                }
                Ok(())
            }
            "browser" => {
                let serial = text(1).split(' ').next().and_then(|word| word.parse().ok());
                let session = reference.session_called(serial.unwrap_or(0));
                self.is_part_of(session, parts)?;
                let owner = session.zip(owners).and_then(|(session, owners)| owners.get(&session));
                self.is_of_its_user(owner)?;
                self.browser_message(text(1))
            }
            "browserGap" => {
                self.broadcast = None;
                let tab = self.tab;
                let right = self.may_miss > 0;
                self.may_miss = self.may_miss.saturating_sub(1);
                NothingLost.unless(right, || {
                    format!("{tab} was told that messages to all tabs are missing, and none is")
                })
            }
            "opened" => self.opened(k, reference),
            "message" => {
                self.is_open(k, told)?;
                self.is_part_of(reference.session_of(self.tab, k), parts)?;
                reference.page_hears(self.tab, k, text(2))
            }
            "error" => Ok(()),
            "closed" => {
                let clean = told.get(4) == Some(&Told::Flag(true));
                self.closed(k, clean, reference)
            }
            what => self.of_topic(what, k, position, text(4), feed),
        }
    }

    fn of_topic(
        &mut self,
        what: &str,
        k: u32,
        position: Position,
        said: &str,
        feed: &Feed,
    ) -> Checked {
        let tab = self.tab;
        OnlyWhatWasAsked.unless(k <= self.subscriptions_made && k > 0, || {
            format!("{tab} never asked for subscription {k}, and heard {what}")
        })?;
        // One that the page has ended.
        let Some(it) = self.subscriptions.get_mut(&k) else {
            return OnlyWhatWasAsked.unless(matches!(what, "unready" | "end"), || {
                format!("{tab} ended subscription {k}, and heard {what}")
            });
        };
        let heard = match what {
            "unready" | "end" if self.excused => {
                self.subscriptions.remove(&k);
                return Ok(());
            }
            "ready" => it.subscribed(position),
            "gap" => it.missed(feed, position),
            "publication" => it.heard(feed, position, said),
            what => Err(format!("the page was told {what}")),
        };
        let (name, tier) = (it.name, &self.status.tier);
        heard.or_else(|why| {
            NothingLost.broken(format!("{tab} ({tier}) subscription {k} of {name}: {why}"))
        })
    }

    /// I15: what was said in a session reaches only tabs that are part of it, or were.
    fn is_part_of(
        &self,
        session: Option<SessionId>,
        parts: &BTreeSet<(TabId, SessionId)>,
    ) -> Checked {
        let tab = self.tab;
        let is_part = session.is_some_and(|session| parts.contains(&(tab, session)));
        OneUser.unless(is_part, || format!("{tab} heard something of {session:?}"))
    }

    /// I15: what was said to the tabs of one user reaches no client that was told it is of another.
    fn is_of_its_user(&self, owner: Option<&Option<Identity>>) -> Checked {
        let Some(owner) = owner else { return Ok(()) };
        let user = owner.map(Identity::tag).unwrap_or_default();
        OneUser.unless(self.status.user == user, || {
            format!("{} is of {:?}, and heard what was said to {user:?}", self.tab, self.status)
        })
    }

    fn is_open(&self, k: u32, told: &[Told]) -> Checked {
        let state = self.sockets.get(&k);
        OnlyWhatWasAsked.unless(state == Some(&SocketState::Open), || {
            format!("{} socket {k} is {state:?}, and heard {told:?}", self.tab)
        })
    }

    fn opened(&mut self, k: u32, reference: &mut Reference) -> Checked {
        match self.sockets.get_mut(&k) {
            Some(state @ SocketState::Connecting) => {
                *state = SocketState::Open;
                reference.page_opens(self.tab, k)
            }
            state => OnlyWhatWasAsked
                .broken(format!("{} socket {k} was opened, and is {state:?}", self.tab)),
        }
    }

    fn closed(&mut self, k: u32, clean: bool, reference: &mut Reference) -> Checked {
        let tab = self.tab;
        match self.sockets.insert(k, SocketState::Closed) {
            Some(SocketState::Open) if clean => reference.page_closes(tab, k),
            Some(SocketState::Open) => reference.page_loses(tab, k),
            Some(SocketState::Closing) if clean => reference.page_closed_itself(tab, k),
            // It failed, and the library closes what it asked for.
            Some(SocketState::Connecting) => reference.page_leaves(tab, k),
            Some(SocketState::Closing | SocketState::Abandoned) => Ok(()),
            state @ (Some(SocketState::Closed) | None) => {
                NoError.broken(format!("{tab} socket {k} was closed, and is {state:?}"))
            }
        }
    }

    /// Within a session: in order, none twice, none missing since the first, none of before it.
    fn browser_message(&mut self, text: &str) -> Checked {
        let tab = self.tab;
        let number = |at| text.split(' ').nth(at).and_then(|word| word.parse::<u64>().ok());
        let (Some(session), Some(n)) = (number(0), number(1)) else {
            return NothingLost.broken(format!("{tab} got a strange message: {text:?}"));
        };
        let early = number(2).is_none_or(|said| said < self.born.as_micros());
        OnlyWhatWasAsked.unless(!early, || format!("{tab} got {text:?} of before it was"))?;
        let before = self.broadcast.replace((session, n));
        let right = match before {
            Some((before, last)) if before == session => n == last + 1,
            // Of the session that its hub has, of which it is about to be a part.
            Some(_) | None => true,
        };
        NothingLost.unless(right, || {
            format!("{tab} got message to all tabs {n} of session {session} after {before:?}")
        })
    }
}
