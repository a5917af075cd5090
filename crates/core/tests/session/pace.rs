//! How fast a link is read.

use std::time::Duration;

use tabmux_core::{Timestamp, session::Pace};

const START: Timestamp = Timestamp::from_millis(5_000);

/// How many messages of so many bytes are read in a span, by a shell that reads whenever it may.
fn read_in(pace: Pace, span: Duration, bytes: usize) -> u32 {
    let (mut used, mut now, mut count) = (Timestamp::default(), START, 0);
    loop {
        now = pace.pause(used, now).unwrap_or(now);
        if now > START + span || count == 100_000 {
            return count;
        }
        used = pace.charge(used, now, 1, bytes);
        count += 1;
    }
}

#[test]
fn a_quiet_second_is_given_at_once_and_then_the_rate_holds() {
    let pace = Pace { messages_per_s: 100, bytes_per_s: 0 };
    assert_eq!(read_in(pace, Duration::ZERO, 1), 101);
    assert_eq!(read_in(pace, Duration::from_secs(10), 1), 1_101);
}

#[test]
fn bytes_have_a_rate_too_and_the_tighter_one_holds() {
    let pace = Pace { messages_per_s: 100, bytes_per_s: 1_000 };
    assert_eq!(read_in(pace, Duration::from_secs(10), 100), 111);
    assert_eq!(read_in(pace, Duration::from_secs(10), 1), 1_101);
}

#[test]
fn without_a_rate_nothing_waits() {
    assert_eq!(read_in(Pace::default(), Duration::ZERO, usize::MAX), 100_000);
}

#[test]
fn a_large_read_is_paid_for_afterwards() {
    let pace = Pace { messages_per_s: 10, bytes_per_s: 0 };
    let used = pace.charge(Timestamp::default(), START, 30, 0);
    assert_eq!(pace.pause(used, START), Some(START + Duration::from_secs(2)));
    assert_eq!(pace.pause(used, START + Duration::from_secs(2)), None);
    let used = pace.charge(used, START, 10_000, 0);
    assert_eq!(pace.pause(used, START), Some(START + Duration::from_secs(10)), "not for ever");
    // A rest longer than that gives no more than a quiet second.
    let later = START + Duration::from_secs(600);
    let used = pace.charge(used, later, 10, 0);
    assert_eq!(pace.pause(used, later), None);
}
