//! Any bytes of a WebSocket client come to the same however they are cut, within the limit of a
//! message, and leave nothing behind once all is heard.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tabmux_server::conformance;

/// Small, so that it is reached.
const LIMIT: usize = 200;

// The first byte tells how many of those behind it are lengths of pieces.
fuzz_target!(|bytes: &[u8]| {
    let Some((&cuts, rest)) = bytes.split_first() else {
        return;
    };
    let (cuts, stream) = rest.split_at(usize::from(cuts).min(rest.len()));
    conformance::check(stream, cuts, LIMIT, false);
    conformance::check(stream, cuts, LIMIT, true);
});
