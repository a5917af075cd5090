//! The sessions of each user.

use std::{collections::BTreeMap, sync::Arc};

use super::{User, state::SessionPlace};

/// The sessions of a registry that have a user, by the user's name. Sessions of nobody take nothing
/// here.
#[derive(Default)]
pub(super) struct Users {
    sessions: BTreeMap<Arc<str>, Vec<SessionPlace>>,
}

impl Users {
    /// Adds a session of a user.
    pub(super) fn add(&mut self, user: &User, place: SessionPlace) {
        self.sessions.entry(Arc::clone(user.shared_name())).or_default().push(place);
    }

    /// Removes a session of a user.
    pub(super) fn remove(&mut self, user: &User, place: SessionPlace) {
        let Some(places) = self.sessions.get_mut(user.name()) else {
            return;
        };
        places.retain(|it| *it != place);
        if places.is_empty() {
            self.sessions.remove(user.name());
        }
    }

    /// Returns the sessions of a user.
    pub(super) fn of(&self, name: &str) -> &[SessionPlace] {
        self.sessions.get(name).map_or(&[], Vec::as_slice)
    }
}
