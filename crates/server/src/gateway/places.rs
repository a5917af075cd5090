//! How many upstream connections a browser, a user and a route have.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tabmux_core::{session::Visitor, wire::SessionId};
use tokio::sync::watch;

use super::Refused;

/// The upstream connections that are open or being opened.
pub(super) struct Places {
    /// Of one browser at most; 0 for no limit.
    per_browser: u32,
    /// Of one user at most; 0 for no limit.
    per_user: u32,
    taken: Mutex<Taken>,
    /// All places that are taken.
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct Taken {
    browsers: HashMap<SessionId, u32>,
    users: HashMap<Box<str>, u32>,
}

/// The place of one upstream connection, given back when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    session: SessionId,
    visitor: Option<Arc<Visitor>>,
}

impl Places {
    pub(super) fn new(per_browser: u32, per_user: u32) -> Self {
        let count = watch::Sender::new(0);
        Self { per_browser, per_user, taken: Mutex::default(), count }
    }

    /// Waits until no place is taken.
    pub(super) async fn empty(&self) {
        // An error would mean that the sender is gone, which is here.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Takes a place.
    ///
    /// # Errors
    /// When the browser or its user has as many as it may.
    pub(super) fn take(
        self: &Arc<Self>,
        session: SessionId,
        visitor: Option<Arc<Visitor>>,
    ) -> Result<Place, Refused> {
        let mut taken = self.taken();
        let is_full = |count: u32, limit: u32| limit > 0 && count >= limit;
        if is_full(taken.browsers.get(&session).copied().unwrap_or(0), self.per_browser) {
            return Err(Refused::Browser(self.per_browser));
        }
        if let Some(user) = name(visitor.as_ref()) {
            let count = taken.users.get(user).copied().unwrap_or(0);
            if is_full(count, self.per_user) {
                return Err(Refused::User(self.per_user));
            }
            taken.users.insert(user.into(), count + 1);
        }
        *taken.browsers.entry(session).or_default() += 1;
        drop(taken);
        self.count.send_modify(|count| *count += 1);
        Ok(Place { places: Arc::clone(self), session, visitor })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(count) = taken.browsers.get_mut(&self.session) {
            *count -= 1;
            if *count == 0 {
                taken.browsers.remove(&self.session);
            }
        }
        if let Some(user) = name(self.visitor.as_ref())
            && let Some(count) = taken.users.get_mut(user)
        {
            *count -= 1;
            if *count == 0 {
                taken.users.remove(user);
            }
        }
        drop(taken);
        self.places.count.send_modify(|count| *count -= 1);
    }
}

fn name(visitor: Option<&Arc<Visitor>>) -> Option<&str> {
    Some(visitor?.user()?.name())
}

#[cfg(test)]
mod tests {
    use tabmux_core::session::{Admitted, User};

    use super::*;

    fn ann() -> Option<Arc<Visitor>> {
        let user = Some(Arc::new(User::new("ann", 0)));
        Some(Arc::new(Visitor::Admitted(Admitted { user, ..Admitted::default() })))
    }

    #[test]
    fn a_place_is_free_again_when_it_is_dropped_and_nothing_is_kept_of_it() {
        let places = Arc::new(Places::new(1, 1));
        let (one, two) = (SessionId([1; 16]), SessionId([2; 16]));
        let place = places.take(one, ann()).ok().unwrap();
        assert!(matches!(places.take(one, None), Err(Refused::Browser(1))));
        assert!(matches!(places.take(two, ann()), Err(Refused::User(1))));
        drop(places.take(two, None).ok().unwrap());
        drop(place);
        drop(places.take(one, ann()).ok().unwrap());
        let taken = places.taken();
        assert!(taken.browsers.is_empty() && taken.users.is_empty());
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let places = Arc::new(Places::new(0, 0));
        let taken = [(); 100].map(|()| places.take(SessionId([1; 16]), ann()));
        assert!(taken.iter().all(Result::is_ok));
    }
}
