//! Sessions, by place and by id.

use tabmux_wire::{HubId, SessionId, Token};

use super::{
    Identity, LinkId,
    places::{FreeList, Places},
    state::Session,
};

/// Bytes of a session's id that name its place in its registry. The byte before them is the
/// shell's, which names the shard; the rest is as random as the shell made it.
const PLACE: std::ops::Range<usize> = 1..5;

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
    /// Begins a session; its place, and its id with the place in it.
    pub(super) fn insert(
        &mut self,
        SessionId(mut id): SessionId,
        token: Token,
        identity: Option<Identity>,
        hub: HubId,
        link: LinkId,
    ) -> (u32, SessionId) {
        let place = self.free.take();
        id[PLACE].copy_from_slice(&place.to_be_bytes());
        let id = SessionId(id);
        self.places.insert(place.into(), Session::new(id, token, identity, hub, link));
        (place, id)
    }

    /// The place of a session, if it lives.
    pub(super) fn place(&self, id: SessionId) -> Option<u32> {
        self.by_id(id).map(|_| place(id))
    }

    pub(super) fn get(&self, place: u32) -> Option<&Session> {
        self.places.get(place.into())
    }

    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut Session> {
        self.places.get_mut(place.into())
    }

    pub(super) fn by_id(&self, id: SessionId) -> Option<&Session> {
        self.get(place(id)).filter(|session| session.id == id)
    }

    pub(super) fn by_id_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.get_mut(place(id)).filter(|session| session.id == id)
    }

    pub(super) fn remove(&mut self, place: u32) -> Option<Session> {
        let session = self.places.remove(place.into())?;
        self.free.give_back(place);
        Some(session)
    }
}

fn place(SessionId(id): SessionId) -> u32 {
    let mut place = [0; 4];
    place.copy_from_slice(&id[PLACE]);
    u32::from_be_bytes(place)
}
