//! A map for the few tabs of a session: a sorted vector that holds no room to spare. A
//! `BTreeMap` takes eleven places with its first entry, more than everything else of a link.

/// A value that knows its key: beside the value, the key would take its alignment.
pub(super) trait Keyed {
    type Key: Ord + Copy;

    fn key(&self) -> Self::Key;
}

/// Values in the order of their keys.
pub(super) struct List<V>(Vec<V>);

impl<V: Keyed> List<V> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn get(&self, key: V::Key) -> Option<&V> {
        self.find(key).ok().map(|at| &self.0[at])
    }

    pub(super) fn get_mut(&mut self, key: V::Key) -> Option<&mut V> {
        self.find(key).ok().map(|at| &mut self.0[at])
    }

    /// Inserts, or replaces what was there.
    pub(super) fn insert(&mut self, value: V) {
        match self.find(value.key()) {
            Ok(at) => self.0[at] = value,
            Err(at) => {
                // One tab is the common case; four and more grow as vectors do.
                if self.0.len() < 4 {
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, value);
            }
        }
    }

    pub(super) fn remove(&mut self, key: V::Key) -> Option<V> {
        self.find(key).ok().map(|at| self.0.remove(at))
    }

    /// Returns the bytes of its buffer.
    pub(super) const fn cost(&self) -> usize {
        self.0.capacity() * size_of::<V>()
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &V> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut()
    }

    fn find(&self, key: V::Key) -> Result<usize, usize> {
        self.0.binary_search_by_key(&key, Keyed::key)
    }
}

impl<V> Default for List<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> IntoIterator for List<V> {
    type Item = V;
    type IntoIter = std::vec::IntoIter<V>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Keyed for (u8, i32) {
        type Key = u8;

        fn key(&self) -> u8 {
            self.0
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_btree_map(steps in prop::collection::vec((0..2, 0..8_u8, 0..9), 0..99)) {
            let (mut list, mut model) = (List::new(), BTreeMap::new());
            for (step, key, value) in steps {
                if step == 0 {
                    list.insert((key, value));
                    model.insert(key, value);
                } else {
                    prop_assert_eq!(list.remove(key).map(|it| it.1), model.remove(&key));
                }
                prop_assert_eq!(list.get(key).map(|it| it.1), model.get(&key).copied());
                prop_assert_eq!(list.get_mut(key).map(|it| it.1), model.get(&key).copied());
                prop_assert_eq!(list.len(), model.len());
            }
            prop_assert!(list.into_iter().eq(model));
        }
    }
}
