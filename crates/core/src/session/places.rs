//! Records by the small numbers that somebody else gives out: chunks, so that growing moves none.

/// Records a chunk. One chunk is what a quiet registry holds.
const CHUNK: usize = 256;

/// Values by number. The lower half of a number is a place, which is in use once at a time; the
/// upper half tells the uses of a place apart, so that an old number finds nothing.
pub(super) struct Places<T> {
    chunks: Vec<Box<[Slot<T>]>>,
    len: usize,
}

struct Slot<T> {
    uses: u32,
    value: Option<T>,
}

impl<T> Places<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Puts a value in; `false` if its place is in use.
    pub(super) fn insert(&mut self, number: u64, value: T) -> bool {
        let place = place(number);
        while self.chunks.len() <= place / CHUNK {
            self.chunks.push((0..CHUNK).map(|_| Slot { uses: 0, value: None }).collect());
        }
        let slot = &mut self.chunks[place / CHUNK][place % CHUNK];
        if slot.value.is_some() {
            return false;
        }
        *slot = Slot { uses: uses(number), value: Some(value) };
        self.len += 1;
        true
    }

    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let slot = self.chunks.get(place(number) / CHUNK)?.get(place(number) % CHUNK)?;
        slot.value.as_ref().filter(|_| slot.uses == uses(number))
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let slot = self.chunks.get_mut(place(number) / CHUNK)?.get_mut(place(number) % CHUNK)?;
        slot.value.as_mut().filter(|_| slot.uses == uses(number))
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        self.get(number)?;
        self.len -= 1;
        self.chunks[place(number) / CHUNK][place(number) % CHUNK].value.take()
    }

    /// The number in use at a place.
    pub(super) fn at(&self, place: u32) -> Option<u64> {
        let slot = self.chunks.get(place as usize / CHUNK)?.get(place as usize % CHUNK)?;
        slot.value.as_ref().map(|_| u64::from(slot.uses) << 32 | u64::from(place))
    }

    /// All numbers, in the order of their places.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        (0..(self.chunks.len() * CHUNK) as u32).filter_map(|place| self.at(place))
    }
}

const fn place(number: u64) -> usize {
    (number & 0xffff_ffff) as usize
}

const fn uses(number: u64) -> u32 {
    (number >> 32) as u32
}

/// Gives out places, the one that was free last first.
#[derive(Default)]
pub(super) struct FreeList {
    free: Vec<u32>,
    next: u32,
}

impl FreeList {
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    pub(super) fn give_back(&mut self, place: u32) {
        self.free.push(place);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_map(steps in prop::collection::vec((any::<bool>(), 0..600_u32), 0..900)) {
            let (mut places, mut model, mut uses) = (Places::new(), BTreeMap::new(), 0_u64);
            for (insert, place) in steps {
                uses += 1;
                let old = model.keys().copied().find(|number| *number as u32 == place);
                if insert {
                    let number = uses << 32 | u64::from(place);
                    prop_assert_eq!(places.insert(number, uses), old.is_none());
                    if old.is_none() {
                        model.insert(number, uses);
                    }
                } else if let Some(number) = old {
                    prop_assert_eq!(places.remove(number), model.remove(&number));
                    prop_assert_eq!(places.get(number), None);
                }
                prop_assert_eq!(places.len(), model.len());
            }
            for (number, value) in &model {
                prop_assert_eq!(places.get(*number), Some(value));
                prop_assert_eq!(places.at(*number as u32), Some(*number));
            }
            prop_assert_eq!(places.numbers().collect::<Vec<_>>().len(), model.len());
        }
    }
}
