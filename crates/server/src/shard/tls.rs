//! A stream that speaks TLS, as a shard's loop reads and writes it.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
};

use mio::{Interest, Registry, Token, event::Source, net::TcpStream};
use rustls::ServerConnection;

/// What is encrypted at once: what one record holds.
const RECORD: usize = 16 << 10;

/// A stream whose handshake is done.
pub(super) struct TlsStream {
    stream: TcpStream,
    session: Box<ServerConnection>,
    /// Bytes that came since the last whole record. Less than 4 KiB of the next record may have
    /// come with that one and are not among them: each session has a buffer of that size.
    partial: usize,
    /// Encrypted bytes that the kernel has not taken.
    unsent: usize,
}

impl TlsStream {
    pub(super) const fn new(stream: TcpStream, session: Box<ServerConnection>) -> Self {
        Self { stream, session, partial: 0, unsent: 0 }
    }

    /// Returns the bytes that are kept of a record that has not come whole, and of one that the
    /// kernel has not taken.
    pub(super) const fn held(&self) -> usize {
        self.partial + self.unsent
    }

    pub(super) const fn get(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.stream.register(registry, token, interest)
    }

    pub(super) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.stream.deregister(registry)
    }

    /// Reads until the buffer is full or the kernel has nothing more, since a buffer that is not
    /// full says so.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            match self.session.reader().read(&mut buffer[filled..]) {
                Ok(0) => return Ok(filled),
                Ok(len) => filled += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    match self.session.read_tls(&mut self.stream) {
                        Ok(0) => return Ok(filled),
                        Ok(len) => self.take_in(len)?,
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock && filled > 0 => {
                            return Ok(filled);
                        }
                        Err(error) => return Err(error),
                    }
                }
                // The peer went without a word. The WebSocket tells what that means.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(filled),
                Err(error) => return Err(error),
            }
        }
    }

    fn take_in(&mut self, len: usize) -> io::Result<()> {
        let taken = self.session.process_new_packets();
        let is_whole = taken.as_ref().is_ok_and(|state| state.plaintext_bytes_to_read() > 0);
        self.partial = if is_whole { 0 } else { self.partial + len };
        // An answer to a peer that changes its keys, or an alert.
        let pushed = if self.session.wants_write() { self.push() } else { Ok(()) };
        taken.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        match pushed {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Encrypts one record, if the one before it is with the kernel.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push()?;
        let len = self.session.writer().write(&bytes[..bytes.len().min(RECORD)])?;
        self.unsent = len;
        match self.push() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            // What the kernel did not take waits for the next event.
            Ok(()) | Err(_) => Ok(len),
        }
    }

    /// Returns true if the kernel has not taken all that is encrypted.
    pub(super) fn is_pending(&self) -> bool {
        self.session.wants_write()
    }

    /// Gives the kernel what is encrypted.
    pub(super) fn push(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.stream) {
                Ok(len) => self.unsent = self.unsent.saturating_sub(len),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.unsent = 0;
        Ok(())
    }

    /// Tells the peer that nothing more comes.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        self.push()?;
        self.stream.shutdown(Shutdown::Write)
    }
}
