//! Streams beside the links that handlers have their shard watch.

use std::{
    collections::VecDeque,
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
    /// By the number in the token.
    sockets: Vec<Option<SocketRef>>,
    /// Numbers that are free. An event that comes late for the stream before has the next handler
    /// of the number look in vain.
    free: VecDeque<usize>,
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
        let place = watched.free.front().copied().unwrap_or(watched.sockets.len());
        let token = Token(STREAM + place);
        self.registry.register(&mut SourceFd(&fd), token, BOTH)?;
        match watched.free.pop_front() {
            Some(place) => watched.sockets[place] = Some(socket),
            None => watched.sockets.push(Some(socket)),
        }
        Ok(Watch { streams: Arc::clone(self), token, fd })
    }

    /// Returns the socket whose handler has the stream of this token.
    pub(super) fn socket(&self, token: Token) -> Option<SocketRef> {
        self.watched().sockets.get(place(token)).copied().flatten()
    }

    /// Returns the sockets whose handlers have streams.
    pub(super) fn sockets(&self) -> Vec<SocketRef> {
        self.watched().sockets.iter().flatten().copied().collect()
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// Returns the number of a stream.
const fn place(token: Token) -> usize {
    token.0 & !STREAM
}

/// Returns true if the token is that of a handler's stream.
pub(super) const fn is_stream(token: Token) -> bool {
    token.0 & STREAM != 0 && token.0 != usize::MAX
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.streams.registry.deregister(&mut SourceFd(&self.fd));
        let (mut watched, place) = (self.streams.watched(), place(self.token));
        watched.sockets[place] = None;
        watched.free.push_back(place);
    }
}
