//! Bytes of one link that wait for the kernel.

use std::{collections::VecDeque, io::ErrorKind, sync::Arc};

use tabmux_core::session::Encoded;

use super::stream::Stream;
use crate::ws::{self, Kind, Opcode};

/// Pongs are not queued beyond this: a peer that pings and does not read gets fewer.
const MAX_CONTROL: usize = 64 << 10;
/// Frames of one link's own are put together up to this, and those of all up to one write.
const MERGE: usize = 4 << 10;
/// More than this is not kept for a link that closes and whose peer does not read.
const STUCK: usize = 256 << 10;
/// What one write gathers from several frames. A frame that alone is half of it is not copied.
pub(super) const CORK: usize = 64 << 10;

/// A queue that takes no memory while it is empty.
#[derive(Default)]
pub(super) struct Outgoing(Option<Box<Queue>>);

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    /// How much of the first item the kernel took.
    taken: usize,
    /// Bytes of the link's own messages that no write has tried to give to the kernel.
    unseen: usize,
    /// Bytes of control frames among the items, about.
    control: usize,
    /// Memory of the link's own frames among the items.
    own: usize,
    /// The kernel takes no more; it will say when.
    blocked: bool,
}

/// Frames that are written as one.
struct Item {
    bytes: Bytes,
    /// What the service counts them with.
    counted: usize,
}

enum Bytes {
    Own(Vec<u8>),
    Shared(Arc<Encoded>),
}

/// What a write came to; the number is what the service counts of what is written whole.
pub(super) enum Flushed {
    /// Everything is written.
    All(usize),
    /// The rest waits for the kernel.
    Part(usize),
    /// The stream is broken.
    Broken,
}

impl Outgoing {
    /// A message, and what it is deflated, if that is what is to be written. It counts the same.
    pub(super) fn put_message(&mut self, kind: Kind, payload: &[u8], deflated: Option<&[u8]>) {
        self.queue().put_own(payload.len(), |bytes| match deflated {
            Some(deflated) => ws::put_deflated(bytes, kind.opcode(), deflated),
            None => ws::put_frame(bytes, kind.opcode(), payload),
        });
    }

    /// Returns the memory that it takes, without the publications that it shares.
    pub(super) fn held(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| {
            size_of::<Queue>() + queue.items.capacity() * size_of::<Item>() + queue.own
        })
    }

    /// Returns true if much waits for a peer that does not read.
    pub(super) fn is_stuck(&self) -> bool {
        self.0.as_ref().is_some_and(|queue| queue.blocked) && self.held() > STUCK
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Bytes of the link's own messages that were put in since the last write.
    pub(super) fn unseen(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.unseen)
    }

    /// Queues frames, of the beginning of which the kernel took some bytes; what the service
    /// counts of those.
    pub(super) fn put_shared(
        &mut self,
        frames: &[Arc<Encoded>],
        taken: usize,
        inflates: bool,
    ) -> usize {
        let queue = self.queue();
        queue.items.extend(frames.iter().map(|frame| Item::shared(Arc::clone(frame))));
        if taken > 0 { queue.took(taken, inflates) } else { 0 }
    }

    pub(super) fn put_pong(&mut self, payload: &[u8]) {
        let queue = self.queue();
        if queue.control < MAX_CONTROL {
            queue.put_control(|bytes| ws::put_frame(bytes, Opcode::Pong, payload));
        }
    }

    /// A close with a code and a reason, or without.
    pub(super) fn put_close(&mut self, close: Option<(u16, &str)>) {
        self.queue().put_control(|bytes| match close {
            Some((code, reason)) => ws::put_close(bytes, code, reason),
            None => ws::put_frame(bytes, Opcode::Close, &[]),
        });
    }

    /// The kernel may take more; whether there is more.
    pub(super) fn unblock(&mut self) -> bool {
        let Some(queue) = &mut self.0 else {
            return false;
        };
        queue.blocked = false;
        true
    }

    /// Gives the kernel what it takes, all in one write if it does. `cork` is where small frames
    /// are gathered; what is in it before and after is of no matter.
    pub(super) fn flush(
        &mut self,
        stream: &mut Stream,
        inflates: bool,
        cork: &mut Vec<u8>,
    ) -> Flushed {
        let Some(queue) = &mut self.0 else {
            return Flushed::All(0);
        };
        let flushed = queue.flush(stream, inflates, cork);
        if matches!(flushed, Flushed::All(_)) {
            self.0 = None;
        }
        flushed
    }

    fn queue(&mut self) -> &mut Queue {
        self.0.get_or_insert_default()
    }
}

impl Queue {
    fn put_own(&mut self, counted: usize, put: impl FnOnce(&mut Vec<u8>)) {
        self.unseen += counted;
        if let Some(Item { bytes: Bytes::Own(bytes), counted: sum }) = self.items.back_mut()
            && bytes.len() < MERGE
        {
            let before = bytes.capacity();
            put(bytes);
            self.own += bytes.capacity() - before;
            *sum += counted;
            return;
        }
        let mut bytes = Vec::new();
        put(&mut bytes);
        self.own += bytes.capacity();
        self.items.push_back(Item { bytes: Bytes::Own(bytes), counted });
    }

    fn put_control(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let mut len = 0;
        self.put_own(0, |bytes| {
            let before = bytes.len();
            put(bytes);
            len = bytes.len() - before;
        });
        self.control += len;
    }

    fn flush(&mut self, stream: &mut Stream, inflates: bool, cork: &mut Vec<u8>) -> Flushed {
        let mut written = 0;
        self.unseen = 0;
        while let Some(first) = self.items.front() {
            if self.blocked {
                return Flushed::Part(written);
            }
            let rest = &first.bytes(inflates)[self.taken..];
            let bytes = if self.items.len() == 1 || rest.len() >= CORK / 2 {
                rest
            } else {
                self.gather(inflates, cork);
                &cork[..]
            };
            match stream.write(bytes) {
                Ok(0) => return Flushed::Broken,
                Ok(taken) => written += self.took(taken, inflates),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked = true,
                Err(_) => return Flushed::Broken,
            }
        }
        Flushed::All(written)
    }

    /// Puts the beginning of the queue together.
    fn gather(&self, inflates: bool, cork: &mut Vec<u8>) {
        cork.clear();
        let mut skip = self.taken;
        for item in &self.items {
            let bytes = &item.bytes(inflates)[skip..];
            if !cork.is_empty() && cork.len() + bytes.len() > CORK {
                return;
            }
            cork.extend_from_slice(bytes);
            skip = 0;
        }
    }

    /// Forgets what the kernel took; what the service counts of it.
    fn took(&mut self, mut taken: usize, inflates: bool) -> usize {
        let mut counted = 0;
        while let Some(first) = self.items.front() {
            let rest = first.bytes(inflates).len() - self.taken;
            if taken < rest {
                self.taken += taken;
                break;
            }
            taken -= rest;
            counted += first.counted;
            self.taken = 0;
            if let Bytes::Own(bytes) = &first.bytes {
                self.own -= bytes.capacity();
            }
            self.items.pop_front();
        }
        counted
    }
}

impl Item {
    fn shared(frame: Arc<Encoded>) -> Self {
        let counted = frame.len();
        Self { bytes: Bytes::Shared(frame), counted }
    }

    fn bytes(&self, inflates: bool) -> &[u8] {
        match &self.bytes {
            Bytes::Own(bytes) => bytes,
            Bytes::Shared(frame) => frame.bytes(inflates),
        }
    }
}
