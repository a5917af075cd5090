//! Who is logged in in each browser, and whose the sockets are that pages open.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tabmux_core::{Timestamp, wire::SessionId};

use super::{
    browser::Identity,
    links::{Link, Peer},
    page::{Page, SocketState},
    plan::Special,
    world::World,
};
use crate::{
    invariant::{Checked, Invariant::OneUser},
    reference::Reference,
    rng::Rng,
};

/// Users of one browser, of which the second is nobody.
const USERS: u64 = 4;
/// The part of a step's dice that says whether a cookie changes before the step.
const PART: u64 = 0x0075_7365_7273;
/// A hub waits for 10 s at most for the server's word on whose the browser is.
const UNANSWERED: Duration = Duration::from_secs(9);

/// Whose a socket may be: everybody who was logged in since its page asked for it, and whose link
/// was being dialled at that moment.
pub type Users = BTreeSet<Option<Identity>>;

impl World {
    /// In a run with users, a cookie may change before any step.
    pub(crate) fn cookies_change(&mut self, dice: u64) {
        if self.plan.special != Special::Users {
            return;
        }
        let mut rng = Rng::of_part(dice, PART);
        for at in 0..self.browsers.len() {
            if rng.one_in(self.plan.log_in_every) {
                self.change_user(at, &mut rng);
            }
        }
    }

    /// Another user logs in, or one who was there before, or nobody.
    pub(crate) fn change_user(&mut self, at: usize, rng: &mut Rng) {
        let user = rng.below(USERS);
        if self.plan.special != Special::Users || user == self.browsers[at].user {
            return;
        }
        let before = self.browsers[at].identity(at);
        self.disowned
            .extend(self.owners.iter().filter(|(_, it)| **it == before).map(|(id, _)| (at, *id)));
        self.browsers[at].user = user;
        let now = self.browsers[at].identity(at);
        for Page { sockets, users, .. } in self.browsers[at].pages_mut() {
            for (number, users) in users {
                if sockets.get(number) == Some(&SocketState::Connecting) {
                    users.insert(now);
                }
            }
        }
    }

    /// A page asks for a socket.
    pub(crate) fn socket_is_wanted(&mut self, (at, page): (usize, u32), socket: u32) {
        let is_dialling = |it: &&Link| it.to == Peer::Tabmux && it.worker_open && !it.was_heard;
        let links = self.network.links.values().filter(|it| it.at.0 == at).filter(is_dialling);
        let mut users = links.map(|it| it.identity).collect::<Users>();
        users.insert(self.browsers[at].identity(at));
        if let Some(page) = self.browsers[at].page(page) {
            page.users.insert(socket, users);
        }
    }

    /// A question whose the browser is came to nothing: tabs may attach as they come.
    pub(crate) fn nobody_can_tell(&mut self, at: usize) {
        self.browsers[at].pages_mut().for_each(|page| page.users.clear());
    }

    /// True if a question of this browser has had no answer for so long that its hub may go on.
    pub(crate) fn is_unanswered(&self, at: usize) -> bool {
        let is_old = |asked: Timestamp| self.now.saturating_since(asked) >= UNANSWERED;
        let mut links = self.network.links.values();
        links.any(|it| it.at.0 == at && it.to == Peer::Who && !it.was_heard && is_old(it.dialled))
    }
}

impl Page {
    /// I15: a socket is of somebody who was there when its page asked for it, or later.
    pub(super) fn is_of_who_was_there(
        &self,
        socket: u32,
        reference: &Reference,
        owners: &BTreeMap<SessionId, Option<Identity>>,
    ) -> Checked {
        let owner = reference.session_of(self.tab, socket).and_then(|it| owners.get(&it));
        let (Some(owner), Some(users)) = (owner, self.users.get(&socket)) else { return Ok(()) };
        OneUser.unless(users.contains(owner), || {
            format!("{} socket {socket} is of {owner:?}, and there were {users:?}", self.tab)
        })
    }
}
