//! Records in chunks: growing moves none of them, and one that is gone is found out.

use tabmux_core::session::LinkId;

/// Records a chunk. One chunk is what a quiet server holds.
const CHUNK: usize = 256;
/// The end of the list of free slots.
const NONE: u32 = u32::MAX;

/// Values by number. The number's lower half is the place, the upper half counts how often the
/// place was used, so that an old number finds nothing.
pub(super) struct Slab<T> {
    chunks: Vec<Box<[Slot<T>]>>,
    free: u32,
}

struct Slot<T> {
    uses: u32,
    state: State<T>,
}

enum State<T> {
    Used(T),
    /// And the next free one.
    Free(u32),
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), free: NONE }
    }

    /// All places, the free ones included.
    pub(super) fn places(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// Stores what `make` makes of its number; `None` when it makes nothing.
    pub(super) fn insert_with(&mut self, make: impl FnOnce(LinkId) -> Option<T>) -> Option<LinkId> {
        if self.free == NONE {
            self.grow();
        }
        let place = self.free;
        let slot = self.slot(place)?;
        let State::Free(next) = slot.state else {
            return None;
        };
        let id = LinkId(u64::from(slot.uses) << 32 | u64::from(place));
        slot.state = State::Used(make(id)?);
        self.free = next;
        Some(id)
    }

    pub(super) fn get_mut(&mut self, id: LinkId) -> Option<&mut T> {
        let slot = self.slot(place(id))?;
        match &mut slot.state {
            State::Used(value) if uses(id) == slot.uses => Some(value),
            State::Used(_) | State::Free(_) => None,
        }
    }

    /// The number of what is at a place.
    pub(super) fn at(&mut self, place: usize) -> Option<LinkId> {
        let place = u32::try_from(place).ok()?;
        let slot = self.slot(place)?;
        matches!(slot.state, State::Used(_))
            .then(|| LinkId(u64::from(slot.uses) << 32 | u64::from(place)))
    }

    pub(super) fn remove(&mut self, id: LinkId) -> Option<T> {
        self.get_mut(id)?;
        let free = self.free;
        let slot = self.slot(place(id))?;
        slot.uses = slot.uses.wrapping_add(1);
        let State::Used(value) = std::mem::replace(&mut slot.state, State::Free(free)) else {
            return None;
        };
        self.free = place(id);
        Some(value)
    }

    pub(super) fn get(&self, id: LinkId) -> Option<&T> {
        let place = place(id) as usize;
        let slot = self.chunks.get(place / CHUNK)?.get(place % CHUNK)?;
        match &slot.state {
            State::Used(value) if slot.uses == uses(id) => Some(value),
            State::Used(_) | State::Free(_) => None,
        }
    }

    fn slot(&mut self, place: u32) -> Option<&mut Slot<T>> {
        let place = place as usize;
        self.chunks.get_mut(place / CHUNK)?.get_mut(place % CHUNK)
    }

    fn grow(&mut self) {
        let first = self.chunks.len() * CHUNK;
        let slot = |place: usize| {
            let next = if place + 1 == first + CHUNK { NONE } else { place as u32 + 1 };
            Slot { uses: 0, state: State::Free(next) }
        };
        self.chunks.push((first..first + CHUNK).map(slot).collect());
        self.free = first as u32;
    }
}

/// The place that a number names.
pub(super) const fn place(id: LinkId) -> u32 {
    id.0 as u32
}

const fn uses(id: LinkId) -> u32 {
    (id.0 >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn count<T>(slab: &mut Slab<T>) -> usize {
        (0..slab.places()).filter(|place| slab.at(*place).is_some()).count()
    }

    #[test]
    fn an_old_number_finds_nothing() {
        let mut slab = Slab::new();
        let old = slab.insert_with(|_| Some('a')).unwrap();
        assert_eq!(slab.remove(old), Some('a'));
        let new = slab.insert_with(|_| Some('b')).unwrap();
        assert_eq!(place(old), place(new));
        assert_eq!(slab.get_mut(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.at(place(new) as usize), Some(new));
        assert_eq!(slab.get_mut(new), Some(&mut 'b'));
    }

    #[test]
    fn what_is_not_made_takes_no_place() {
        let mut slab = Slab::<u8>::new();
        assert_eq!(slab.insert_with(|_| None), None);
        assert_eq!((count(&mut slab), slab.at(0)), (0, None));
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((any::<bool>(), any::<u16>()), 0..2_000)) {
            let (mut slab, mut model) = (Slab::new(), BTreeMap::new());
            for (insert, value) in steps {
                if insert {
                    let id = slab.insert_with(|_| Some(value)).unwrap();
                    prop_assert_eq!(model.insert(id, value), None);
                } else if let Some((id, expected)) = model.pop_first() {
                    prop_assert_eq!(slab.remove(id), Some(expected));
                }
            }
            prop_assert_eq!(count(&mut slab), model.len());
            for (id, value) in &mut model {
                prop_assert_eq!(slab.get_mut(*id), Some(value));
            }
        }
    }
}
