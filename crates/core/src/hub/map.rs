//! A map for some dozens of entries: a sorted vector. Every `BTreeMap` of another type would add
//! some kilobytes to the wasm module that each browser loads; this adds some hundred bytes.

/// Entries in the order of their keys.
#[derive(Debug)]
pub(super) struct Map<K, V>(Vec<(K, V)>);

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Map<K, V> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord + Copy, V> Map<K, V> {
    pub(super) fn get(&self, key: K) -> Option<&V> {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.find(key).ok().map(|at| &mut self.0[at].1)
    }

    pub(super) fn contains(&self, key: K) -> bool {
        self.find(key).is_ok()
    }

    /// Inserts, or replaces what was there.
    pub(super) fn insert(&mut self, key: K, value: V) {
        match self.find(key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    /// What is there, or what `make` makes.
    pub(super) fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let at = match self.find(key) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (key, make()));
                at
            }
        };
        &mut self.0[at].1
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.0.iter().map(|(key, value)| (*key, value))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (*key, value))
    }

    /// The keys whose entry is wanted.
    pub(super) fn keys_where(&self, mut wanted: impl FnMut(K, &V) -> bool) -> Vec<K> {
        self.iter().filter(|(key, value)| wanted(*key, value)).map(|(key, _)| key).collect()
    }

    /// Leaves the map empty.
    pub(super) fn take(&mut self) -> Vec<(K, V)> {
        std::mem::take(&mut self.0)
    }

    fn find(&self, key: K) -> Result<usize, usize> {
        self.0.binary_search_by_key(&key, |(key, _)| *key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_btree_map(
            steps in prop::collection::vec((0..3_u8, 0..8_u8, 0..9_u8), 0..99),
        ) {
            let (mut map, mut model) = (Map::default(), BTreeMap::new());
            for (step, key, value) in steps {
                match step {
                    0 => {
                        map.insert(key, value);
                        model.insert(key, value);
                    }
                    1 => prop_assert_eq!(map.remove(key), model.remove(&key)),
                    _ => {
                        let there = *map.entry(key, || value);
                        prop_assert_eq!(there, *model.entry(key).or_insert(value));
                    }
                }
                prop_assert_eq!(map.get(key), model.get(&key));
                prop_assert_eq!(map.len(), model.len());
                let entries: Vec<_> = map.iter().map(|(key, value)| (key, *value)).collect();
                prop_assert_eq!(entries, model.clone().into_iter().collect::<Vec<_>>());
            }
        }
    }
}
