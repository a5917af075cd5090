//! How fast a link may be read. Who sends faster is read later: nothing is lost, and the link is
//! not closed for it.

use std::time::Duration;

use crate::Timestamp;

/// What a link may use at once after it was quiet, in time.
const BURST: Duration = Duration::from_secs(1);
/// A link is read again after so long, whatever came in one read: it must not look silent.
const LONGEST: Duration = Duration::from_secs(10);

/// A rate of messages and of bytes; 0 is no limit.
///
/// All that is kept of a link is until when its share is used up: in the beginning
/// [`Timestamp::default`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Messages in a second.
    pub messages_per_s: u32,
    /// Bytes in a second.
    pub bytes_per_s: u32,
}

impl Pace {
    /// Until when a link's share is used up, after it sent this much more.
    #[must_use]
    pub fn charge(
        &self,
        used: Timestamp,
        now: Timestamp,
        messages: usize,
        bytes: usize,
    ) -> Timestamp {
        let time = time(messages, self.messages_per_s).max(time(bytes, self.bytes_per_s));
        (used.max(now) + time).min(now + BURST + LONGEST)
    }

    /// Until when a link is not to be read; `None` if it may be read now.
    pub fn pause(&self, used: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let over = used.saturating_since(now).checked_sub(BURST)?;
        (over > Duration::ZERO).then(|| now + over)
    }
}

/// The time in which a rate allows so many.
fn time(count: usize, per_s: u32) -> Duration {
    let micros = (count as u64).saturating_mul(1_000_000).checked_div(per_s.into());
    Duration::from_micros(micros.unwrap_or(0))
}
