//! Streams beside the links that handlers have their shard watch.

use std::{
    collections::BTreeMap,
    io,
    os::fd::RawFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mio::{Interest, Registry, Token, unix::SourceFd};
use tabmux_core::session::SocketRef;

/// The tokens of streams have this bit. Those of links, which count from 0, never reach it.
const STREAM: usize = 1 << (usize::BITS - 1);

/// The streams that a shard watches for its handlers.
pub(crate) struct Streams {
    registry: Registry,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    sockets: BTreeMap<usize, SocketRef>,
    /// Number of streams so far. No token is used again, so that a late event finds nothing.
    count: usize,
}

/// A stream that is watched until this is dropped.
pub(crate) struct Watch {
    streams: Arc<Streams>,
    token: Token,
    fd: RawFd,
}

impl Streams {
    /// Returns the streams of a shard whose loop polls this registry.
    pub(super) fn new(registry: Registry) -> Self {
        Self { registry, watched: Mutex::default() }
    }

    /// Watches a stream of the handler that serves a socket. Its `writable` is called when there is
    /// something to read or room to write, and not again before that was used up.
    ///
    /// # Errors
    /// Returns an error if the system cannot watch it.
    pub(crate) fn watch(self: &Arc<Self>, socket: SocketRef, fd: RawFd) -> io::Result<Watch> {
        let mut watched = self.watched();
        let token = STREAM + watched.count;
        self.registry.register(&mut SourceFd(&fd), Token(token), BOTH)?;
        watched.count += 1;
        watched.sockets.insert(token, socket);
        Ok(Watch { streams: Arc::clone(self), token: Token(token), fd })
    }

    /// Returns the socket whose handler has the stream of this token.
    pub(super) fn socket(&self, token: Token) -> Option<SocketRef> {
        self.watched().sockets.get(&token.0).copied()
    }

    /// Returns the sockets whose handlers have streams.
    pub(super) fn sockets(&self) -> Vec<SocketRef> {
        self.watched().sockets.values().copied().collect()
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// Returns true if the token is that of a handler's stream.
pub(super) const fn is_stream(token: Token) -> bool {
    token.0 & STREAM != 0 && token.0 != usize::MAX
}

impl Watch {
    /// Has `writable` called again, in the next turn, although nothing happens.
    pub(crate) fn again(&self) {
        // The stream is registered, so there is nothing that could fail.
        let _ = self.streams.registry.reregister(&mut SourceFd(&self.fd), self.token, BOTH);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.streams.watched().sockets.remove(&self.token.0);
        let _ = self.streams.registry.deregister(&mut SourceFd(&self.fd));
    }
}
