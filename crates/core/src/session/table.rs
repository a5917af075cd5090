//! Sessions, by place and by id.

use tabmux_wire::SessionId;

use super::{
    places::{FreeList, Places},
    state::{Birth, Session, SessionPlace},
};

/// Bytes of a session's id that name its place in its registry. The bytes before them belong to
/// the shell, which names shard and node there. The rest is as random as the shell made it.
const PLACE: std::ops::Range<usize> = 3..7;

/// All sessions of a registry. An id names the place of its session, so that no map is needed.
pub(super) struct Sessions {
    places: Places<Session>,
    free: FreeList,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { places: Places::new(), free: FreeList::default() }
    }
}

impl Sessions {
    /// Begins a session. Its place is written into its id.
    pub(super) fn insert(&mut self, mut birth: Birth) -> &mut Session {
        let place = self.free.take();
        birth.id.0[PLACE].copy_from_slice(&place.to_be_bytes());
        self.places.insert(place.into(), Session::new(birth));
        self.places.get_mut(place.into()).expect("it was put there just now")
    }

    /// Returns the place of a session, if it lives.
    pub(super) fn place(&self, id: SessionId) -> Option<SessionPlace> {
        self.by_id(id).map(|_| place(id))
    }

    pub(super) fn get(&self, place: SessionPlace) -> Option<&Session> {
        self.places.get(u64::from(place.0))
    }

    pub(super) fn get_mut(&mut self, place: SessionPlace) -> Option<&mut Session> {
        self.places.get_mut(u64::from(place.0))
    }

    /// Returns all sessions, in the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.places.numbers().filter_map(|number| self.places.get(number))
    }

    pub(super) fn by_id(&self, id: SessionId) -> Option<&Session> {
        self.get(place(id)).filter(|session| session.id == id)
    }

    pub(super) fn by_id_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.get_mut(place(id)).filter(|session| session.id == id)
    }

    pub(super) fn remove(&mut self, place: SessionPlace) -> Option<Session> {
        let session = self.places.remove(u64::from(place.0))?;
        self.free.give_back(place.0);
        Some(session)
    }
}

/// Returns the place that a session's id names.
pub(super) fn place(SessionId(id): SessionId) -> SessionPlace {
    let mut place = [0; 4];
    place.copy_from_slice(&id[PLACE]);
    SessionPlace(u32::from_be_bytes(place))
}
