//! A client against a real server, over a network that breaks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broken;
mod credentials;
mod people;
mod sockets;
mod support;
mod topics;
