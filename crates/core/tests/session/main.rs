//! The server's half, through its public face.

mod foreign;
mod handshake;
mod limits;
mod liveness;
mod sockets;
mod support;
mod tabs;
