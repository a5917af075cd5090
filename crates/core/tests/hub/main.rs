//! The hub, through its public face.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at few of many kinds")]

mod address;
mod asked;
mod dismissed;
mod foreign;
mod heartbeat;
mod identity;
mod mirror;
mod mux;
mod offline;
mod port;
mod reconnect;
mod renewal;
mod resume;
mod rules;
mod support;
mod tabs;
mod topics;
mod versions;
