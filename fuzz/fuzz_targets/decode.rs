//! Any bytes decode to an error or to a frame, and a frame has exactly one encoding: the bytes it
//! came from.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tabmux_wire::{HubFrame, ServerFrame};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(frame) = HubFrame::decode(bytes) {
        let again = frame.to_bytes();
        assert_eq!(again, bytes, "{frame:?}");
        assert_eq!(HubFrame::decode(&again).as_ref(), Ok(&frame));
    }
    if let Ok(frame) = ServerFrame::decode(bytes) {
        let again = frame.to_bytes();
        assert_eq!(again, bytes, "{frame:?}");
        assert_eq!(ServerFrame::decode(&again).as_ref(), Ok(&frame));
    }
});
