//! A map for the few tabs of a session: a sorted vector that holds no room to spare. A
//! `BTreeMap` takes eleven places with its first entry, more than everything else of a link.

/// Entries in the order of their keys.
pub(super) struct List<K, V>(Vec<(K, V)>);

impl<K: Ord + Copy, V> List<K, V> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.find(key).ok().map(|at| &mut self.0[at].1)
    }

    /// Inserts, or replaces what was there.
    pub(super) fn insert(&mut self, key: K, value: V) {
        match self.find(&key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => {
                // One tab is the common case; four and more grow as vectors do.
                if self.0.len() < 4 {
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, (key, value));
            }
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }

    /// Returns the bytes of its buffer.
    pub(super) const fn cost(&self) -> usize {
        self.0.capacity() * size_of::<(K, V)>()
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (*key, value))
    }

    fn find(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by_key(key, |(key, _)| *key)
    }
}

impl<K, V> Default for List<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K, V> IntoIterator for List<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_btree_map(steps in prop::collection::vec((0..2, 0..8_u8, 0..9), 0..99)) {
            let (mut list, mut model) = (List::new(), BTreeMap::new());
            for (step, key, value) in steps {
                if step == 0 {
                    list.insert(key, value);
                    model.insert(key, value);
                } else {
                    prop_assert_eq!(list.remove(&key), model.remove(&key));
                }
                prop_assert_eq!(list.get(&key), model.get(&key));
                prop_assert_eq!(list.get_mut(&key), model.get_mut(&key));
                prop_assert_eq!(list.len(), model.len());
            }
            prop_assert!(list.into_iter().eq(model));
        }
    }
}
