//! The hub, through its public face.

mod foreign;
mod heartbeat;
mod mirror;
mod mux;
mod reconnect;
mod support;
mod tabs;
mod topics;
