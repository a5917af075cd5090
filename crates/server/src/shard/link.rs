//! One link: its stream, and what of it is under way.

use std::{
    io::{self, ErrorKind},
    net::IpAddr,
};

use tabmux_core::{Timestamp, session::LinkId};

use super::{
    outgoing::Outgoing,
    service::Clients,
    slab::Slab,
    stream::{Connection, Stream},
};
use crate::{
    Handshake,
    ws::{Decoder, Kind},
};

/// A stream whose WebSocket handshake is done, on its way to a shard.
pub(crate) struct Arrival {
    pub(super) origin: Origin,
    /// What was read behind the handshake, or behind the first message.
    pub(super) early: Vec<u8>,
}

/// Where a stream comes from.
pub(super) enum Origin {
    /// A listener.
    Outside(Connection),
    /// Another shard, which read the first message. What was agreed comes along, and what is to
    /// be written: a pong, if the client's first word was a ping.
    Shard { link: Link, first: (Kind, Vec<u8>), handshake: Option<Box<Handshake>> },
}

/// A link in a loop. While it is idle this is all there is of it.
pub(super) struct Link {
    pub(super) stream: Stream,
    pub(super) decoder: Decoder,
    pub(super) out: Outgoing,
    pub(super) phase: Phase,
    /// No message came yet.
    pub(super) fresh: bool,
    /// In the loop's list of links with something to write.
    pub(super) dirty: bool,
    /// Until when its share of being read is used up.
    pub(super) used: Timestamp,
    /// Messages may be deflated.
    pub(super) inflates: bool,
    /// Nothing is read of it for now.
    pub(super) is_held: bool,
    /// The service was told that memory is held for it.
    told: bool,
}

/// How far the end of a link is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody knows yet what the connection is for.
    Knocking,
    Open,
    /// We closed: the peer's close is awaited.
    Closing,
    /// What the peer sends cannot be read any more: its end of stream is awaited, since a stream
    /// that is closed with unread bytes is reset, and our close might be lost with them.
    Deaf,
    /// Both have closed: the stream goes when all is written.
    Leaving,
}

impl Link {
    pub(super) fn new(stream: Stream, inflates: bool) -> Self {
        let (decoder, out) = (Decoder::default(), Outgoing::default());
        let (phase, fresh, dirty) = (Phase::Open, true, false);
        let used = Timestamp::default();
        let (is_held, told) = (false, false);
        Self { stream, decoder, out, phase, fresh, dirty, used, inflates, is_held, told }
    }

    /// Returns the memory that is held for it, if the service is to be told: when there is some,
    /// and once when there is none any more.
    /// `more` is held elsewhere.
    pub(super) fn news_of_memory(&mut self, more: usize) -> Option<usize> {
        let held = self.stream.held() + self.decoder.held() + self.out.held() + more;
        let told = std::mem::replace(&mut self.told, held > 0);
        (told || held > 0).then_some(held)
    }

    /// Reads what has come: `Ok(None)` when that is nothing, `Ok(Some(0))` at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.stream.read(buffer) {
                Ok(len) => return Ok(Some(len)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Clients for Slab<Link> {
    fn address(&self, link: LinkId) -> Option<IpAddr> {
        self.get(link)?.stream.address()
    }
}
