//! The connections for HTTP: how many there are, in all and of one address, and which of them goes
//! when another one comes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::task::{AbortHandle, Id, JoinSet};

use crate::{
    admission::{Cause, Quota},
    pulse::Pulse,
};

/// When there are too many, a connection whose peer did nothing for so long goes for another one.
/// Who means well reads faster, and asks again on a new connection.
const STILL: Duration = Duration::from_millis(500);

/// The number of a client's address.
type Client = u32;

/// The connections for HTTP.
#[derive(Default)]
pub(crate) struct Places {
    tasks: JoinSet<()>,
    open: HashMap<Id, Place>,
    of: HashMap<Client, u32>,
}

struct Place {
    task: AbortHandle,
    pulse: Arc<Pulse>,
    client: Option<Client>,
}

impl Places {
    /// Returns how many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Makes room for a connection of a client, of whom nothing is known if its address does not
    /// count. Returns how many others had to go. `reserve` is room beyond the limit.
    ///
    /// # Errors
    /// When all others are at work, or moved a moment ago.
    pub(crate) fn make_room(
        &mut self,
        client: Option<Client>,
        quota: &Quota,
        reserve: usize,
    ) -> Result<usize, Cause> {
        let mut gone = 0;
        let held = client.and_then(|client| self.of.get(&client)).copied().unwrap_or(0);
        if quota.http_per_ip > 0 && held >= quota.http_per_ip {
            gone += self.end_one(|place| place.client == client).ok_or(Cause::HttpPerIp)?;
        }
        if self.open.len() >= quota.http + reserve {
            gone += self.end_one(|_| true).ok_or(Cause::Http)?;
        }
        Ok(gone)
    }

    /// Serves a connection.
    pub(crate) fn put(
        &mut self,
        client: Option<Client>,
        pulse: Arc<Pulse>,
        serves: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.tasks.spawn(serves);
        if let Some(client) = client {
            *self.of.entry(client).or_default() += 1;
        }
        self.open.insert(task.id(), Place { task, pulse, client });
    }

    /// Waits until a connection ends. Returns false at once if there is none.
    pub(crate) async fn one_ended(&mut self) -> bool {
        let id = match self.tasks.join_next_with_id().await {
            None => return false,
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => error.id(),
        };
        self.forget(id);
        true
    }

    /// Ends all.
    pub(crate) async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Ends the connection that stands still for longest, if one of these does.
    fn end_one(&mut self, is_meant: impl Fn(&Place) -> bool) -> Option<usize> {
        let places = self.open.iter().filter(|(_, place)| is_meant(place));
        let still = places.filter_map(|(id, place)| Some((place.pulse.still()?, *id)));
        let (_, id) = still.filter(|(still, _)| *still >= STILL).max()?;
        self.open.get(&id)?.task.abort();
        self.forget(id);
        Some(1)
    }

    fn forget(&mut self, id: Id) {
        let Some(client) = self.open.remove(&id).and_then(|place| place.client) else {
            return;
        };
        match self.of.get_mut(&client) {
            Some(held) if *held > 1 => *held -= 1,
            _ => drop(self.of.remove(&client)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::{Config, Limits};

    fn quota(http: usize, per_ip: u32) -> Quota {
        Quota::new(
            &Config::default()
                .limits(Limits::default().http_connections(http).http_per_ip(per_ip))
                .limits,
        )
    }

    fn put(places: &mut Places, client: Option<Client>) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::new());
        places.put(client, Arc::clone(&pulse), pending());
        pulse
    }

    fn wait_until_still(pulse: &Pulse) {
        while pulse.still().is_none_or(|still| still < STILL) {
            std::thread::yield_now();
        }
    }

    #[tokio::test]
    async fn a_client_has_no_more_connections_than_its_address_may() {
        let (mut places, quota) = (Places::default(), quota(9, 2));
        let _first = put(&mut places, Some(7));
        let second = put(&mut places, Some(7));
        assert_eq!(places.make_room(Some(7), &quota, 0), Err(Cause::HttpPerIp));
        assert_eq!(places.make_room(Some(8), &quota, 0), Ok(0));
        assert_eq!(places.make_room(None, &quota, 0), Ok(0));
        let other = put(&mut places, Some(8));
        wait_until_still(&other);
        wait_until_still(&second);
        // One of its own goes, and no other's.
        assert_eq!(places.make_room(Some(7), &quota, 0), Ok(1));
        assert_eq!((places.len(), places.of[&7], places.of[&8]), (2, 1, 1));
    }

    #[tokio::test]
    async fn of_too_many_the_one_goes_that_stands_still_for_longest() {
        let (mut places, quota) = (Places::default(), quota(2, 0));
        let moves = put(&mut places, None);
        let works = put(&mut places, Some(1));
        let working = works.work();
        wait_until_still(&moves);
        moves.moves();
        assert_eq!(places.make_room(None, &quota, 0), Err(Cause::Http));
        assert_eq!(places.make_room(None, &quota, 1), Ok(0));
        wait_until_still(&moves);
        assert_eq!(places.make_room(None, &quota, 0), Ok(1));
        drop(working);
        put(&mut places, None);
        wait_until_still(&works);
        assert_eq!(places.make_room(None, &quota, 0), Ok(1));
        assert!(places.of.is_empty());
        assert!(places.one_ended().await && places.one_ended().await);
        assert_eq!(places.len(), 1);
    }
}
