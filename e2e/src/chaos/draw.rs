//! Random numbers that follow from a seed.

/// SplitMix64: the same seed gives the same numbers, everywhere and for ever.
pub(super) struct Draw(u64);

impl Draw {
    /// Returns a generator that begins with `seed`.
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `limit`, which must not be 0.
    pub(super) const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Returns an index below `length`, which must not be 0.
    pub(super) fn index(&mut self, length: usize) -> usize {
        (self.next() % length as u64) as usize
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
