//! What test suites of RFC 6455 need: plain echo through a shard's loop, and a check of the
//! decoder. Not part of the API.

mod hear;

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use tabmux_core::{
    Timestamp,
    session::{LinkId, Visitor},
};

pub use self::hear::check;
#[cfg(test)]
pub(crate) use self::hear::{Heard, Hearing, hear};
use crate::{
    Handshake,
    shard::{Clients, Connection, Io, Order, Service, Single},
    ws::{Kind, upgrade},
};

/// More than the largest message of the Autobahn cases.
const MESSAGE_LIMIT: usize = 32 << 20;

/// Answers every message on every connection with the same message, until the listener fails.
/// Deflates for everybody who offers it.
///
/// # Errors
/// When the listener fails.
pub fn echo(listener: &TcpListener) -> io::Result<()> {
    let shard = Arc::new(Single::start(Echo::default(), 0)?);
    loop {
        let (stream, _) = listener.accept()?;
        let shard = Arc::clone(&shard);
        thread::spawn(move || {
            // A connection that breaks is its own.
            let _ = greet(stream, &shard);
        });
    }
}

fn greet(mut stream: TcpStream, shard: &Single<Echo>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 1 << 10]);
    loop {
        let seen = bytes.len();
        let len = stream.read(&mut buffer)?;
        bytes.extend_from_slice(&buffer[..len]);
        match upgrade::parse(&bytes, seen) {
            Some(Ok((offer, head))) => {
                stream.write_all(offer.response().as_bytes())?;
                stream.set_nonblocking(true)?;
                let inflates = offer.deflate.is_on();
                let connection = Connection { io: Io::Tcp(stream), ticket: None, inflates };
                shard.place(connection, bytes.split_off(head));
                return Ok(());
            }
            Some(Err(refusal)) => return stream.write_all(refusal.response().as_bytes()),
            None if len == 0 => return Ok(()),
            None => {}
        }
    }
}

#[derive(Default)]
struct Echo(VecDeque<Order>);

impl Service for Echo {
    type Word = ();

    fn message_limit(&self) -> usize {
        MESSAGE_LIMIT
    }

    fn opened(
        &mut self,
        _: Timestamp,
        _: LinkId,
        _: Option<&Arc<Visitor>>,
        _: Option<Box<Handshake>>,
    ) -> bool {
        true
    }

    fn home(&self, _: &[u8]) -> Option<usize> {
        None
    }

    fn message(&mut self, _: Timestamp, link: LinkId, kind: Kind, bytes: &[u8]) {
        self.0.push_back(Order::Send { link, kind, bytes: bytes.into() });
    }

    fn written(&mut self, _: Timestamp, _: LinkId, _: usize) {}

    fn closed(&mut self, _: Timestamp, _: LinkId) {}

    fn word(&mut self, _: Timestamp, (): (), _: &dyn Clients) -> bool {
        false
    }

    fn stop(&mut self, _: Timestamp) {}

    fn wake(&mut self, _: Timestamp) {}

    fn deadline(&self) -> Option<Timestamp> {
        None
    }

    fn order(&mut self, _: Timestamp, _: &dyn Clients) -> Option<Order> {
        self.0.pop_front()
    }

    fn publish(&mut self) {}
}
