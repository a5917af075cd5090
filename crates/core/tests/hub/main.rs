//! The hub, through its public face.

mod foreign;
mod heartbeat;
mod mirror;
mod mux;
mod reconnect;
mod resume;
mod support;
mod tabs;
mod topics;
mod versions;
