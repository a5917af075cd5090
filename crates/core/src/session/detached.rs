//! Sessions that wait for a link: which waits longest, and who has the most of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tabmux_wire::SessionId;

use super::account::{Account, Count};
use crate::Timestamp;

/// When a session lost its link, and which one it is.
type Wait = (Timestamp, SessionId);

/// The bytes of a session here, of nobody and of an account. Nodes that are filled in order are a
/// little more than half full.
const PLACE: usize = 48;

/// All sessions of a registry that wait for a link.
#[derive(Default)]
pub(super) struct Detached {
    all: BTreeSet<Wait>,
    /// The same by the number of their account, where they have one.
    accounts: BTreeMap<u64, BTreeSet<Wait>>,
    /// Accounts by how many of them they have.
    ranks: BTreeSet<(usize, u64)>,
}

impl Detached {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns the memory that a session takes here.
    pub(super) const fn cost(account: Option<&Arc<Account>>) -> usize {
        if account.is_some() { 2 * PLACE } else { PLACE }
    }

    pub(super) fn insert(&mut self, wait: Wait, account: Option<&Arc<Account>>) {
        self.all.insert(wait);
        if let Some(account) = account {
            account.add(Count::Detached);
            let waits = self.accounts.entry(account.number()).or_default();
            self.ranks.remove(&(waits.len(), account.number()));
            waits.insert(wait);
            self.ranks.insert((waits.len(), account.number()));
        }
    }

    pub(super) fn remove(&mut self, wait: Wait, account: Option<&Arc<Account>>) {
        self.all.remove(&wait);
        if let Some(account) = account
            && let Some(waits) = self.accounts.get_mut(&account.number())
        {
            account.remove(Count::Detached);
            self.ranks.remove(&(waits.len(), account.number()));
            waits.remove(&wait);
            if waits.is_empty() {
                self.accounts.remove(&account.number());
            } else {
                self.ranks.insert((waits.len(), account.number()));
            }
        }
    }

    /// Returns the session that waits longest.
    pub(super) fn first(&self) -> Option<Wait> {
        self.all.first().copied()
    }

    /// Returns the session of an account that waits longest.
    pub(super) fn first_of(&self, account: &Account) -> Option<Wait> {
        self.accounts.get(&account.number())?.first().copied()
    }

    /// Returns the session that is given up when there are too many: the one that waits longest of
    /// the account that has the most. Where no account has two, it is the one that waits longest.
    pub(super) fn first_of_most(&self) -> Option<Wait> {
        match self.ranks.last() {
            Some((2.., number)) => self.accounts.get(number)?.first().copied(),
            Some(_) | None => self.first(),
        }
    }
}
