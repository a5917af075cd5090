//! The only source of randomness: SplitMix64 (Steele, Lea and Flood, 2014).

/// A generator of pseudo-random numbers.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Returns a generator. The same seed gives the same numbers.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns any 64-bit number.
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`, which must not be 0.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Returns true once in `n` times on average.
    pub(crate) const fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Returns one of the items, or `None` if there is none.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let len = u64::try_from(from.len()).ok().filter(|len| *len > 0)?;
        usize::try_from(self.below(len)).ok().and_then(|at| from.get(at).copied())
    }
}
