//! Ports that stay ours between the end of one server and the start of the next.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

use crate::Result;

/// Below the range from which the kernel takes the local ports of outgoing connections: a browser
/// cannot take the port while a test restarts its server.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// A port of 127.0.0.1 on which nothing listens, another one at each call.
pub fn free() -> Result<u16> {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    // Two harnesses at once start at different places.
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let offset = start.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = FIRST + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(format!("no free port between {FIRST} and {}", FIRST + COUNT))
}
