//! The binary `tabmux` as a process, and the demo's handlers.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at few of many kinds")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod binary;
mod handlers;
mod process;
#[cfg(target_os = "linux")]
mod supervisor;
// The hub with which the tests of the library drive a server.
#[path = "../../../server/tests/server/raw.rs"]
#[expect(dead_code, reason = "the tests of the server use the rest")]
mod raw;
#[path = "../../../server/tests/server/support.rs"]
#[expect(dead_code, reason = "the tests of the server use the rest")]
mod support;
