//! The server's half, through its public face.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at few of many kinds")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod absent;
mod asks;
mod credentials;
mod credit;
mod fairness;
mod foreign;
mod handshake;
mod limits;
mod liveness;
mod pace;
mod people;
mod recovery;
mod requests;
mod resume;
mod rights;
mod sockets;
mod support;
mod tabs;
mod topics;
mod versions;
mod waiting;
