//! What other threads want from a shard, until it takes it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use mio::Waker;
use tabmux_core::session::SendError;
use tokio::sync::{Notify, futures::OwnedNotified};

use super::{
    knock::{Knock, Porter},
    link::Arrival,
};

/// One thing for a shard to do.
pub(crate) enum Mail<M> {
    /// A stream comes to live here.
    Arrival(Arrival),
    /// A connection of which nobody knows what it is for.
    Knock(Knock),
    /// There are too many connections that say nothing: the oldest one goes.
    Evict(Arc<dyn Porter>),
    /// Nothing is accepted any more: connections that say nothing go.
    EndKnocks,
    /// For the service.
    Word(M),
    /// The server is gone.
    Stop,
}

/// A queue bounded by bytes, which wakes its shard.
pub(crate) struct Mailbox<M> {
    limit: usize,
    queue: Mutex<Queue<M>>,
    waker: Waker,
    room: Arc<Room>,
    /// Streams that were sent here and are not closed yet.
    streams: AtomicUsize,
}

struct Queue<M> {
    mails: Vec<Mail<M>>,
    /// When the first of them came.
    since: Option<Instant>,
    bytes: usize,
    /// Somebody was told that there is no room.
    is_awaited: bool,
    /// Its shard runs, or is about to. Before that nobody is there, so words go nowhere.
    begun: bool,
    closed: bool,
}

/// Tells those who wait for room in any of the mailboxes of a server.
#[derive(Default)]
pub(crate) struct Room(Arc<Notify>);

impl Room {
    /// Returns a future that is done when there may be room again. Room that comes from now on
    /// counts, also before the future is polled.
    pub(crate) fn came(&self) -> OwnedNotified {
        Arc::clone(&self.0).notified_owned()
    }

    /// Tells all who wait.
    pub(crate) fn tell(&self) {
        self.0.notify_waiters();
    }
}

impl<M> Mailbox<M> {
    pub(super) fn new(limit: usize, waker: Waker, room: Arc<Room>) -> Self {
        let (mails, bytes, is_awaited) = (Vec::new(), 0, false);
        let (since, begun, closed) = (None, false, false);
        let queue = Queue { mails, since, bytes, is_awaited, begun, closed };
        let queue = Mutex::new(queue);
        Self { limit, queue, waker, room, streams: AtomicUsize::new(0) }
    }

    /// Called before the shard gets its first link. Words of before are for nobody.
    pub(super) fn begin(&self) {
        self.lock().begun = true;
    }

    /// Puts in a mail that holds on to `cost` bytes.
    pub(crate) fn push(&self, mail: Mail<M>, cost: usize) -> Result<(), SendError> {
        let queue = self.lock();
        if queue.closed {
            return Err(SendError::Closed);
        }
        if cost > 0 && queue.bytes + cost > self.limit {
            return Err(SendError::Full);
        }
        self.put(queue, mail, cost);
        Ok(())
    }

    /// Returns true if it would take a mail of `cost` bytes. If not, [`Room`] tells when to try
    /// again. One that is closed takes everything, and drops it.
    pub(crate) fn has_room(&self, cost: usize) -> bool {
        let mut queue = self.lock();
        // What is larger than all that fits in is taken alone.
        let has_room = queue.closed || queue.bytes == 0 || queue.bytes + cost <= self.limit;
        queue.is_awaited |= !has_room;
        has_room
    }

    /// Puts in a mail that there was room for. A mailbox that is closed drops it.
    pub(crate) fn force(&self, mail: Mail<M>, cost: usize) {
        let queue = self.lock();
        if !queue.closed {
            self.put(queue, mail, cost);
        }
    }

    /// Puts in the last mail.
    pub(super) fn stop(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.mails.push(Mail::Stop);
        drop(queue);
        self.wake();
    }

    fn put(&self, mut queue: MutexGuard<'_, Queue<M>>, mail: Mail<M>, cost: usize) {
        if !queue.begun {
            return;
        }
        queue.bytes += cost;
        let sleeping = queue.mails.is_empty();
        if sleeping {
            queue.since = Some(Instant::now());
        }
        queue.mails.push(mail);
        drop(queue);
        // A shard takes all that is there: one call of the system wakes it for many mails.
        if sleeping {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            crate::logs::rarely!(error, "a shard cannot be woken: {error}");
        }
    }

    /// Takes what is there, and tells when the first of it came.
    pub(super) fn take(&self) -> (Vec<Mail<M>>, Option<Instant>) {
        let mut queue = self.lock();
        queue.bytes = 0;
        let (mails, since) = (std::mem::take(&mut queue.mails), queue.since.take());
        let is_awaited = std::mem::take(&mut queue.is_awaited);
        drop(queue);
        if is_awaited {
            self.room.tell();
        }
        (mails, since)
    }

    /// Takes what is left, and no more from now on.
    pub(super) fn close(&self) -> Vec<Mail<M>> {
        self.lock().closed = true;
        self.take().0
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    pub(super) fn stream_came(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stream_went(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Queue<M>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use mio::{Poll, Token};

    use super::*;

    #[test]
    fn a_full_mailbox_refuses_until_it_is_taken() {
        let poll = Poll::new().unwrap();
        let mailbox =
            Mailbox::new(1_000, Waker::new(poll.registry(), Token(0)).unwrap(), Arc::default());
        assert_eq!(mailbox.push(Mail::Word(0), 600), Ok(()));
        assert_eq!(mailbox.take().0.len(), 0, "nobody is there yet");
        mailbox.begin();
        assert_eq!(mailbox.push(Mail::Word(1), 600), Ok(()));
        assert_eq!(mailbox.push(Mail::Word(2), 600), Err(SendError::Full));
        assert_eq!(mailbox.push(Mail::Word(3), 0), Ok(()));
        assert_eq!(mailbox.take().0.len(), 2);
        assert_eq!(mailbox.push(Mail::Word(3), 600), Ok(()));
        mailbox.stop();
        assert_eq!(mailbox.push(Mail::Word(4), 1), Err(SendError::Closed));
        assert_eq!(mailbox.close().len(), 2);
    }
}
