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
}

impl TlsStream {
    pub(super) const fn new(stream: TcpStream, session: Box<ServerConnection>) -> Self {
        Self { stream, session }
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
                        Ok(_) => self.take_in()?,
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

    fn take_in(&mut self) -> io::Result<()> {
        let taken = self.session.process_new_packets();
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
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tells the peer that nothing more comes.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        self.push()?;
        self.stream.shutdown(Shutdown::Write)
    }
}
