//! Replays and makes traces. [`replay`](mod@replay) gives a hub the recorded inputs of a hub in a
//! browser. [`record`](mod@record) makes traces from seeds, to compare the native build with the
//! WebAssembly build. The format is that of `tabmux_core::trace`.

#![expect(clippy::wildcard_enum_match_arm, reason = "a tool looks at few of many kinds")]
#![forbid(unsafe_code)]

pub mod record;
pub mod replay;
mod rng;
