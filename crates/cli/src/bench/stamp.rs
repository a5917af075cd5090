//! The stamp of a publication: its run, its number, and the time when it was sent.

use std::time::{Duration, Instant};

/// Smallest payload that has room for a stamp, in bytes.
pub const MIN_SIZE: usize = 40;

/// The clock and the name of one run. Several runs may publish to one server at once.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    run: u32,
    start: Instant,
}

impl Clock {
    /// Returns the clock of a run that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { run: std::process::id(), start: Instant::now() }
    }

    /// Returns a payload of `size` characters, or [`MIN_SIZE`] if that is more, stamped with the
    /// time now.
    #[must_use]
    pub fn stamp(&self, number: u64, size: usize) -> String {
        let nanos = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut text = format!("{:08x}{number:016x}{nanos:016x}", self.run);
        text.extend(std::iter::repeat_n('x', size.saturating_sub(MIN_SIZE)));
        text
    }

    /// Returns the number and the age of a payload of this run, or `None` for any other payload.
    #[must_use]
    pub fn read(&self, payload: &[u8]) -> Option<(u64, Duration)> {
        let stamp = payload.first_chunk::<MIN_SIZE>()?;
        if hex(&stamp[..8])? != u64::from(self.run) {
            return None;
        }
        let sent = Duration::from_nanos(hex(&stamp[24..])?);
        Some((hex(&stamp[8..24])?, self.start.elapsed().saturating_sub(sent)))
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_by_its_own_run_only() {
        let clock = Clock::start();
        let payload = clock.stamp(77, 128);
        assert_eq!(payload.len(), 128);
        assert_eq!(clock.read(payload.as_bytes()).unwrap().0, 77);
        assert_eq!(clock.read(&payload.as_bytes()[..39]), None);
        let other = Clock { run: clock.run + 1, ..clock };
        assert_eq!(other.read(payload.as_bytes()), None);
    }

    #[test]
    fn a_small_size_still_holds_a_stamp() {
        assert_eq!(Clock::start().stamp(1, 0).len(), MIN_SIZE);
    }
}
