//! The wire format seen from outside: bytes to frames and back.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at few of many kinds")]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test, which clippy.toml cannot tell from other code"
)]

mod arbitrary;
mod codes;
mod counts;
mod damage;
mod frame;
mod golden;
mod golden_file;
mod hello;
mod hub_vectors;
mod limits;
mod properties;
mod protocol_md;
mod second_limits;
mod second_vectors;
mod server_vectors;
mod types;
mod varints;
