//! Virtual sockets that another server serves. What is checked there is checked at that server.

#[cfg(feature = "tls")]
mod encrypted;
mod ends;
mod hostile;
mod limits;
mod pressure;
mod requests;
mod tickets;
#[cfg(feature = "wss")]
mod tls;
mod upstreams;
mod world;
