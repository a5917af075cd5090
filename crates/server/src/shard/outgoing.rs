//! Bytes of one link that wait for the kernel.

use std::io::ErrorKind;

use super::stream::Stream;
use crate::ws::{self, Kind, Opcode};

/// Pongs are not queued beyond this: a peer that pings and does not read gets fewer.
const MAX_OVERHEAD: usize = 64 << 10;

/// A queue that takes no memory while it is empty.
#[derive(Default)]
pub(super) struct Outgoing(Option<Box<Queue>>);

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// How many of them the kernel took.
    taken: usize,
    /// How many of those left are headers and control frames, which the service does not count.
    overhead: usize,
    /// The kernel takes no more; it will say when.
    blocked: bool,
}

/// What a write came to; the number is of bytes of messages.
pub(super) enum Flushed {
    /// Everything is written.
    All(usize),
    /// The rest waits for the kernel.
    Part(usize),
    /// The stream is broken.
    Broken,
}

impl Outgoing {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    pub(super) fn put_message(&mut self, kind: Kind, payload: &[u8]) {
        let queue = self.0.get_or_insert_default();
        let before = queue.bytes.len();
        ws::put_frame(&mut queue.bytes, kind.opcode(), payload);
        queue.overhead += queue.bytes.len() - before - payload.len();
    }

    pub(super) fn put_pong(&mut self, payload: &[u8]) {
        if self.0.as_ref().is_none_or(|queue| queue.overhead < MAX_OVERHEAD) {
            self.put_control(|bytes| ws::put_frame(bytes, Opcode::Pong, payload));
        }
    }

    /// A close with a code and a reason, or without.
    pub(super) fn put_close(&mut self, close: Option<(u16, &str)>) {
        self.put_control(|bytes| match close {
            Some((code, reason)) => ws::put_close(bytes, code, reason),
            None => ws::put_frame(bytes, Opcode::Close, &[]),
        });
    }

    fn put_control(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let queue = self.0.get_or_insert_default();
        let before = queue.bytes.len();
        put(&mut queue.bytes);
        queue.overhead += queue.bytes.len() - before;
    }

    /// The kernel may take more; whether there is more.
    pub(super) fn unblock(&mut self) -> bool {
        let Some(queue) = &mut self.0 else {
            return false;
        };
        queue.blocked = false;
        true
    }

    /// Gives the kernel what it takes, all in one write if it does.
    pub(super) fn flush(&mut self, stream: &mut Stream) -> Flushed {
        let mut written = 0;
        let Some(queue) = &mut self.0 else {
            return Flushed::All(0);
        };
        while queue.taken < queue.bytes.len() {
            if queue.blocked {
                queue.compact();
                return Flushed::Part(written);
            }
            match stream.write(&queue.bytes[queue.taken..]) {
                Ok(0) => return Flushed::Broken,
                Ok(taken) => written += queue.took(taken),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => queue.blocked = true,
                Err(_) => return Flushed::Broken,
            }
        }
        self.0 = None;
        Flushed::All(written)
    }
}

impl Queue {
    /// Counts what the kernel took; how much of it is of messages. Overhead counts first, so
    /// that what is told is never more than was written, and right when all is.
    fn took(&mut self, bytes: usize) -> usize {
        self.taken += bytes;
        let overhead = bytes.min(self.overhead);
        self.overhead -= overhead;
        bytes - overhead
    }

    /// Frees what the kernel took, once that is worth moving the rest.
    fn compact(&mut self) {
        if self.taken > self.bytes.len() / 2 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
            self.bytes.shrink_to(self.bytes.len() * 2);
        }
    }
}
