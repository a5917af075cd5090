//! The oracle of a page: what the page sent, what it must receive, and what it was told. The page
//! itself is the shipped library in a realm.

use std::collections::{BTreeMap, BTreeSet};

use tabmux_core::{
    Timestamp,
    wire::{HubId, Position, SessionId, TabId},
};

use super::{browser::Identity, plan::Doors, topics::Subscription, users::Users, views::View};
use crate::{
    engine::op::Told,
    invariant::{
        Checked,
        Invariant::{NoError, NothingLost, OneUser, OnlyWhatWasAsked},
    },
    reference::Reference,
    topics::Feed,
};

/// The text with which the server refuses a tab for which it has no room.
const NO_ROOM: &str = "tabs on this server";
/// Parts of the texts that a page of an earlier build is told.
const TWO_BUILDS: [&str; 2] = ["was updated", "of another build"];
/// How often a page may be told that messages to all tabs are missing, at each place where some may
/// be.
const GAPS: u32 = 8;

/// One page from its load to its end.
#[derive(Debug)]
pub struct Page {
    /// The upper half of all ids that the page draws.
    pub tag: u32,
    /// The name that the application and the oracle have for its tab.
    pub tab: TabId,
    /// The build of its page library.
    pub build: usize,
    /// The build of its chunk for the other tiers, if the page has loaded that.
    pub tiers: Option<usize>,
    /// True if another build was deployed, the page was told so, and it cannot go on.
    pub outdated: bool,
    /// True if the server had no room for the page, and the page was told so.
    pub refused: bool,
    /// Timers of the page fire at multiples of this many milliseconds.
    pub throttle_ms: u64,
    /// The options of everything that the page opens, as JSON.
    pub options: String,
    /// The time when the page was loaded.
    pub born: Timestamp,
    /// Its virtual sockets, including closed ones.
    pub sockets: BTreeMap<u32, SocketState>,
    /// The users that each socket may have. A socket that is not here may have any user.
    pub users: BTreeMap<u32, Users>,
    /// The time when the page or its machine last stood still.
    pub away_at: Timestamp,
    /// The time when it was last uncertain whether the server has room for the page.
    pub unsure_at: Timestamp,
    /// The servers that the page uses.
    pub doors: Doors,
    /// The name by which servers address its tab (`routeBy`), once it is known.
    pub name: String,
    /// Its sockets in mirror and exclusive mode, including closed ones.
    pub views: BTreeMap<u32, View>,
    /// The step at which each hub last said that the page is attached there.
    pub attached: BTreeMap<HubId, u64>,
    /// In mux mode: the hub on whose messages the page acts, and since which step.
    pub acts_on: Option<(HubId, u64)>,
    /// Its subscriptions to topics.
    pub subscriptions: BTreeMap<u32, Subscription>,
    /// Number of subscriptions that the page has made so far.
    pub subscriptions_made: u32,
    /// The last status that its client reported.
    pub status: Status,
    /// True if a script of the page did not come in time, so that it may have no hub.
    pub excused: bool,
    /// The last message to all tabs: its session, and its number in the session.
    broadcast: Option<(u64, u64)>,
    /// How often the page may still be told that messages to all tabs are missing. The hub that it
    /// leaves, its own library and the next hub may each tell it.
    may_miss: u32,
}

/// The status that a client reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The state, such as `connected` or `closed`.
    pub state: String,
    /// The tier, which says how the hub is hosted.
    pub tier: String,
    /// The name of the hub.
    pub hub: String,
    /// The reason for the state.
    pub reason: String,
    /// The tag of the user, or an empty text.
    pub user: String,
}

/// The state of a socket, like `readyState`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketState {
    /// The page has asked for the socket.
    #[default]
    Connecting,
    /// The socket is open for the page.
    Open,
    /// The page closed the socket after it was open.
    Closing,
    /// The page closed the socket before it was open.
    Abandoned,
    /// The socket is closed for the page.
    Closed,
}

/// Returns the tab that a tag stands for.
pub fn tab_of(tag: u32) -> TabId {
    TabId(tag.into())
}

/// Returns the tag in an id that a page drew.
pub fn tag_of(id: TabId) -> u32 {
    u32::try_from(id.0 >> 32).unwrap_or(0)
}

impl Page {
    /// Returns a page that has just begun.
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
            users: BTreeMap::new(),
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

    /// Returns true if the client waits for room at the server.
    pub fn lacks_room(&self) -> bool {
        self.refused && self.status.reason.contains(NO_ROOM)
    }

    /// Returns true if the page has a socket that is not closed.
    pub fn has_sockets(&self) -> bool {
        self.sockets.values().any(|state| *state != SocketState::Closed)
    }

    /// Returns the numbers of the sockets in this state.
    pub fn sockets_in(&self, state: SocketState) -> Vec<u32> {
        self.sockets.iter().filter(|(_, it)| **it == state).map(|(id, _)| *id).collect()
    }

    /// Called when the page stood still. Messages that arrived meanwhile may be lost.
    pub const fn was_away(&mut self) {
        self.may_miss = GAPS;
    }

    /// Called when the hub or its link has changed. Topics may then repeat an earlier position.
    pub fn disturb(&mut self) {
        self.may_miss = GAPS;
        self.subscriptions.values_mut().for_each(Subscription::disturb);
    }

    /// Called when the application in the page heard something.
    ///
    /// # Errors
    /// Returns an error if it must not have heard that.
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
                    // The server has room for the page now.
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
            "opened" => self.opened(k, reference, owners),
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
        // The page has ended this subscription.
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

    /// I15: messages of a session reach only tabs that are part of it, or were.
    fn is_part_of(
        &self,
        session: Option<SessionId>,
        parts: &BTreeSet<(TabId, SessionId)>,
    ) -> Checked {
        let tab = self.tab;
        let is_part = session.is_some_and(|session| parts.contains(&(tab, session)));
        OneUser.unless(is_part, || format!("{tab} heard something of {session:?}"))
    }

    /// I15: messages to the tabs of one user reach no client that was told it belongs to another
    /// user.
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

    fn opened(
        &mut self,
        k: u32,
        reference: &mut Reference,
        owners: Option<&BTreeMap<SessionId, Option<Identity>>>,
    ) -> Checked {
        owners.map_or(Ok(()), |it| self.is_of_who_was_there(k, reference, it))?;
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
            // The socket failed, and the library closes what it asked for.
            Some(SocketState::Connecting) => reference.page_leaves(tab, k),
            Some(SocketState::Closing | SocketState::Abandoned) => Ok(()),
            state @ (Some(SocketState::Closed) | None) => {
                NoError.broken(format!("{tab} socket {k} was closed, and is {state:?}"))
            }
        }
    }

    /// Checks that messages to all tabs arrive in order within a session. None may come twice, be
    /// missing since the first, or be older than the page.
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
