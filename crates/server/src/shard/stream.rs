//! The streams that links come on.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Shutdown, TcpStream},
    sync::Arc,
};

use mio::{Interest, Registry, Token, event::Source};
use tabmux_core::session::Visitor;

use crate::{
    Handshake,
    admission::{Stub, Ticket},
    incoming::Fresh,
};

/// A stream on its way to a shard; it must not block.
pub(crate) struct Connection {
    pub(crate) io: Io,
    /// Its link's place in the limits, if it has one.
    pub(crate) ticket: Option<Ticket>,
    /// Messages may be deflated.
    pub(crate) inflates: bool,
}

pub(crate) enum Io {
    Tcp(TcpStream),
    /// A Unix socket, or the near end of a bridge.
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
    /// A stream whose TLS handshake is done.
    #[cfg(feature = "tls")]
    Tls(TcpStream, Box<rustls::ServerConnection>),
}

/// A stream that a shard's loop reads and writes.
pub(super) struct Stream {
    io: Socket,
    stub: Stub,
}

enum Socket {
    Tcp(mio::net::TcpStream),
    #[cfg(unix)]
    Unix(mio::net::UnixStream),
    #[cfg(feature = "tls")]
    Tls(super::tls::TlsStream),
}

/// Does the same with either.
macro_rules! either {
    ($stream:expr, $inner:ident => $what:expr) => {
        match &mut $stream.io {
            Socket::Tcp($inner) => $what,
            #[cfg(unix)]
            Socket::Unix($inner) => $what,
            #[cfg(feature = "tls")]
            Socket::Tls($inner) => $what,
        }
    };
}

impl Connection {
    /// Returns the request that opened it, taken out, if it may be judged again.
    pub(super) fn take_handshake(&mut self) -> Option<Box<Handshake>> {
        self.ticket.as_mut()?.take_handshake()
    }
}

impl From<Connection> for Stream {
    fn from(connection: Connection) -> Self {
        let io = match connection.io {
            Io::Tcp(stream) => Socket::Tcp(mio::net::TcpStream::from_std(stream)),
            #[cfg(unix)]
            Io::Unix(stream) => Socket::Unix(mio::net::UnixStream::from_std(stream)),
            #[cfg(feature = "tls")]
            Io::Tls(stream, session) => {
                let stream = mio::net::TcpStream::from_std(stream);
                Socket::Tls(super::tls::TlsStream::new(stream, session))
            }
        };
        Self { io, stub: connection.ticket.map_or(Stub::NONE, Ticket::tear) }
    }
}

impl Stream {
    /// Makes a stream whose link has no place in the limits yet.
    pub(super) fn fresh(stream: Fresh) -> Self {
        let io = match stream {
            Fresh::Tcp(stream) => Socket::Tcp(mio::net::TcpStream::from_std(stream)),
            #[cfg(unix)]
            Fresh::Unix(stream) => Socket::Unix(mio::net::UnixStream::from_std(stream)),
        };
        Self { io, stub: Stub::NONE }
    }

    /// Takes it back out, if no layer is below it.
    pub(super) fn into_fresh(self) -> Option<Fresh> {
        match self.io {
            Socket::Tcp(stream) => Some(Fresh::Tcp(stream.into())),
            #[cfg(unix)]
            Socket::Unix(stream) => Some(Fresh::Unix(std::os::fd::OwnedFd::from(stream).into())),
            #[cfg(feature = "tls")]
            Socket::Tls(_) => None,
        }
    }

    /// Gives its link a place in the limits.
    pub(super) fn take_place(&mut self, ticket: Ticket) {
        self.stub = ticket.tear();
    }

    /// Its link's place in the limits, to be given back when it is dropped.
    pub(super) const fn stub(&self) -> &Stub {
        &self.stub
    }

    /// Sets whose its link is. Returns what was known before.
    pub(super) const fn seat(&mut self, visitor: Arc<Visitor>) -> Option<Arc<Visitor>> {
        self.stub.seat(visitor)
    }

    /// Returns the client's address, if it is known.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.stub.address().or_else(|| match &self.io {
            Socket::Tcp(stream) => Some(stream.peer_addr().ok()?.ip().to_canonical()),
            #[cfg(unix)]
            Socket::Unix(_) => None,
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => Some(stream.get().peer_addr().ok()?.ip().to_canonical()),
        })
    }

    /// Watches it both ways, once for all: readiness is told when it changes.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        either!(self, it => it.register(registry, token, Interest::READABLE | Interest::WRITABLE))
    }

    /// Stops watching it.
    pub(super) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        either!(self, it => it.deregister(registry))
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, it => it.read(buffer))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, it => it.write(bytes))
    }

    /// Writes what a layer below still holds, now that the kernel takes something again. Returns
    /// true if there was something.
    pub(super) fn push(&mut self) -> bool {
        #[cfg(feature = "tls")]
        if let Socket::Tls(stream) = &mut self.io {
            let was_pending = stream.is_pending();
            // The next read tells what is the matter.
            let _ = stream.push();
            return was_pending;
        }
        false
    }

    /// Returns true if the kernel has not yet taken all that was written.
    pub(super) fn is_pending(&self) -> bool {
        match &self.io {
            Socket::Tcp(_) => false,
            #[cfg(unix)]
            Socket::Unix(_) => false,
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => stream.is_pending(),
        }
    }

    /// Returns true if a layer below may have read what no event will tell of.
    pub(super) const fn may_hold(&self) -> bool {
        match &self.io {
            Socket::Tcp(_) => false,
            #[cfg(unix)]
            Socket::Unix(_) => false,
            #[cfg(feature = "tls")]
            Socket::Tls(_) => true,
        }
    }

    /// Returns the bytes that a layer below keeps.
    pub(super) const fn held(&self) -> usize {
        match &self.io {
            Socket::Tcp(_) => 0,
            #[cfg(unix)]
            Socket::Unix(_) => 0,
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => stream.held(),
        }
    }

    /// Tells the peer that nothing more comes.
    pub(super) fn end(&mut self) -> io::Result<()> {
        match &mut self.io {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(unix)]
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => stream.end(),
        }
    }

    /// Who is at the other end, for logs.
    pub(super) fn peer(&self) -> String {
        match &self.io {
            Socket::Tcp(stream) => {
                stream.peer_addr().map_or_else(|_| "?".into(), |it| it.to_string())
            }
            #[cfg(unix)]
            Socket::Unix(_) => "a Unix socket".to_owned(),
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => {
                stream.get().peer_addr().map_or_else(|_| "?".into(), |it| it.to_string())
            }
        }
    }
}
