//! Random bytes for the names of sessions.

/// The bytes that one session takes.
const EACH: usize = 32;
/// Sessions that one call of the system serves.
const SESSIONS: usize = 32;

/// Random bytes of the system, drawn for many sessions at once. None is given out twice, and none
/// is kept that was given out.
pub(super) struct Entropy {
    bytes: [[u8; EACH]; SESSIONS],
    /// How many are left; the last one goes first.
    left: usize,
}

impl Default for Entropy {
    fn default() -> Self {
        Self { bytes: [[0; EACH]; SESSIONS], left: 0 }
    }
}

impl Entropy {
    /// Returns bytes that nobody was given before.
    ///
    /// # Errors
    /// When the system has none.
    pub(super) fn draw(&mut self) -> Result<[u8; EACH], getrandom::Error> {
        if self.left == 0 {
            getrandom::fill(self.bytes.as_flattened_mut())?;
            self.left = SESSIONS;
        }
        self.left -= 1;
        Ok(std::mem::take(&mut self.bytes[self.left]))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_bytes_are_given_out_twice_and_none_are_kept() {
        let mut entropy = Entropy::default();
        let drawn = (0..3 * SESSIONS).map(|_| entropy.draw().unwrap()).collect::<BTreeSet<_>>();
        assert_eq!(drawn.len(), 3 * SESSIONS);
        assert!(!drawn.contains(&[0; EACH]));
        assert_eq!(entropy.bytes, [[0; EACH]; SESSIONS]);
    }
}
