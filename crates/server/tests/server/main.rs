//! A real server on a real port, and hubs that speak the wire format to it.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at few of many kinds")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broker;
mod credentials;
mod deflate;
mod double;
mod face;
mod failure;
mod fairness;
mod gateway;
mod halves;
mod handlers;
mod held;
mod history;
mod http;
mod identity;
mod judge;
#[cfg(feature = "jwt")]
mod jwt;
mod limits;
mod links;
#[cfg(unix)]
mod listeners;
mod logs;
mod metrics;
mod people;
mod raw;
mod resume;
mod rights;
mod shards;
mod shutdown;
mod support;
mod tasks;
#[cfg(feature = "tls")]
mod tls;
mod topics;
mod upgrade;
mod web;
