//! WebSockets of upstreams that a shard reads and writes without a task.

use std::{
    io::{self, Read, Write},
    os::fd::{AsRawFd, RawFd},
};

use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{
    Error, HandshakeError, WebSocket, client::client_with_config,
};

use super::{
    LAST_WAIT, Refused,
    dial::{self, Dialled, Stream, Upgraded, Wanted},
    ends::Goodbye,
    upstream::Seat,
};

/// A WebSocket whose reads and writes never wait.
pub(super) type Ws = WebSocket<Wire>;

/// A stream whose reads and writes never wait. A task that has it can wait for it. A shard watches
/// it.
pub(super) struct Wire {
    io: Io,
    /// True if a write was the last that could not be done at once, and not a read.
    waits_to_write: bool,
    /// The last read got less than it asked for, so there was no more. An event tells when there
    /// is, and until then nothing is asked of the system.
    is_drained: bool,
    /// The other end has ended the stream. No event may follow, so each read asks the system.
    is_ending: bool,
    /// Bytes that a shard may still read in this turn. Fragments of a message, which may be empty,
    /// end no read of the WebSocket, so their number must have a limit here.
    left: usize,
    /// A read was refused in this turn, since there were no such bytes left.
    is_starved: bool,
}

/// Bytes that a shard reads of an upstream in one turn.
const TURN_BYTES: usize = 256 << 10;

enum Io {
    /// A task has it.
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
    /// A shard has it.
    WatchedTcp(std::net::TcpStream),
    WatchedUnix(std::os::unix::net::UnixStream),
    /// It was lost on the way from one to the other.
    Lost,
}

impl Wire {
    fn new(stream: Stream) -> io::Result<Self> {
        let io = match stream {
            Stream::Tcp(stream) => Io::Tcp(stream),
            Stream::Unix(stream) => Io::Unix(stream),
            #[cfg(feature = "wss")]
            Stream::Tls(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let (waits_to_write, is_drained, is_ending) = (false, false, false);
        let (left, is_starved) = (TURN_BYTES, false);
        Ok(Self { io, waits_to_write, is_drained, is_ending, left, is_starved })
    }

    /// Called when a task gives the stream to a shard.
    ///
    /// # Errors
    /// Returns an error if the system does not let it go.
    fn give_to_shard(&mut self) -> io::Result<()> {
        self.is_drained = false;
        self.io = match std::mem::replace(&mut self.io, Io::Lost) {
            Io::Tcp(stream) => Io::WatchedTcp(stream.into_std()?),
            Io::Unix(stream) => Io::WatchedUnix(stream.into_std()?),
            other @ (Io::WatchedTcp(_) | Io::WatchedUnix(_) | Io::Lost) => other,
        };
        Ok(())
    }

    /// Called when a shard gives the stream to a task.
    ///
    /// # Errors
    /// Returns an error if the system cannot watch it.
    fn give_to_task(&mut self) -> io::Result<()> {
        self.io = match std::mem::replace(&mut self.io, Io::Lost) {
            Io::WatchedTcp(stream) => Io::Tcp(tokio::net::TcpStream::from_std(stream)?),
            Io::WatchedUnix(stream) => Io::Unix(tokio::net::UnixStream::from_std(stream)?),
            other @ (Io::Tcp(_) | Io::Unix(_) | Io::Lost) => other,
        };
        Ok(())
    }

    /// Called when a shard begins to look at the stream.
    pub(super) const fn begin_turn(&mut self) {
        (self.left, self.is_starved) = (TURN_BYTES, false);
    }

    /// Returns true if there may be more to read, for which this turn has no room.
    pub(super) const fn is_starved(&self) -> bool {
        self.is_starved
    }

    /// Called when there may be something to read.
    pub(super) const fn has_news(&mut self, is_ending: bool) {
        self.is_drained = false;
        self.is_ending |= is_ending;
    }

    /// Waits, in a task, until it is worth to do again what could not be done at once.
    async fn wait(&self) -> io::Result<()> {
        match (&self.io, self.waits_to_write) {
            (Io::Tcp(stream), true) => stream.writable().await,
            (Io::Tcp(stream), false) => stream.readable().await,
            (Io::Unix(stream), true) => stream.writable().await,
            (Io::Unix(stream), false) => stream.readable().await,
            (Io::WatchedTcp(_) | Io::WatchedUnix(_) | Io::Lost, _) => {
                Err(io::ErrorKind::NotConnected.into())
            }
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let is_watched = matches!(self.io, Io::WatchedTcp(_) | Io::WatchedUnix(_));
        if is_watched && self.left == 0 && (self.is_ending || !self.is_drained) {
            self.is_starved = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = match &mut self.io {
            Io::Tcp(stream) => stream.try_read(buffer),
            Io::Unix(stream) => stream.try_read(buffer),
            Io::WatchedTcp(_) | Io::WatchedUnix(_) if self.is_drained && !self.is_ending => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            Io::WatchedTcp(stream) => stream.read(buffer),
            Io::WatchedUnix(stream) => stream.read(buffer),
            Io::Lost => Err(io::ErrorKind::NotConnected.into()),
        };
        let would_block = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        self.waits_to_write &= !read.as_ref().is_err_and(would_block);
        self.left = self.left.saturating_sub(read.as_ref().map_or(0, |len| *len));
        self.is_drained = match &read {
            Ok(len) => (1..buffer.len()).contains(len),
            Err(error) => would_block(error),
        };
        read
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.io {
            Io::Tcp(stream) => stream.try_write(bytes),
            Io::Unix(stream) => stream.try_write(bytes),
            Io::WatchedTcp(stream) => stream.write(bytes),
            Io::WatchedUnix(stream) => stream.write(bytes),
            Io::Lost => Err(io::ErrorKind::NotConnected.into()),
        };
        let would_block = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        self.waits_to_write |= written.as_ref().is_err_and(would_block);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        match &self.io {
            Io::Tcp(stream) => stream.as_raw_fd(),
            Io::Unix(stream) => stream.as_raw_fd(),
            Io::WatchedTcp(stream) => stream.as_raw_fd(),
            Io::WatchedUnix(stream) => stream.as_raw_fd(),
            Io::Lost => -1,
        }
    }
}

impl Upgraded for Ws {
    async fn open(stream: Stream, seat: Seat, wanted: &Wanted) -> Result<Dialled<Self>, Refused> {
        let fault = |error| dial::refused(&seat, Error::Io(error));
        let wire = Wire::new(stream).map_err(fault)?;
        let request = dial::request(&seat.0, wanted)?;
        let mut outcome = client_with_config(request, wire, Some(wanted.config()));
        loop {
            match outcome {
                Ok((mut ws, response)) => {
                    ws.get_mut().give_to_shard().map_err(fault)?;
                    return Ok(Dialled::new(ws, &response, seat));
                }
                Err(HandshakeError::Failure(error)) => return Err(dial::refused(&seat, error)),
                Err(HandshakeError::Interrupted(rest)) => {
                    rest.get_ref().get_ref().wait().await.map_err(fault)?;
                    outcome = rest.handshake();
                }
            }
        }
    }
}

/// Says goodbye to an upstream, after all that was written before, and waits until it has ended the
/// connection.
pub(super) async fn close(mut ws: Ws, goodbye: Goodbye) {
    if ws.get_mut().give_to_task().is_err() {
        return;
    }
    let closing = async {
        match goodbye {
            Goodbye::None => return Err(Error::AlreadyClosed),
            Goodbye::Hear => {}
            Goodbye::Say(frame) => is_done(ws.close(frame)).map(drop)?,
        }
        while !is_done(ws.flush())? {
            ws.get_ref().wait().await?;
        }
        Ok(())
    };
    if !matches!(timeout(LAST_WAIT, closing).await, Ok(Ok(()))) {
        return;
    }
    let finishing = async {
        loop {
            if !is_done(ws.read().map(drop))? {
                ws.get_ref().wait().await?;
            }
        }
    };
    let _: Result<Result<(), Error>, _> = timeout(LAST_WAIT, finishing).await;
}

/// Returns true if something is done, and false if the stream has to be waited for.
pub(super) fn is_done(outcome: Result<(), Error>) -> Result<bool, Error> {
    match outcome {
        Ok(()) => Ok(true),
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
