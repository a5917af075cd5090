//! Items that have arrived and that the application has not read yet.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// A queue from the client's task to one reader.
#[derive(Debug)]
pub(crate) struct Inbox<T>(Arc<Mutex<Queue<T>>>);

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<T>,
    /// One item that stands for all items that were left out because the reader is behind. The
    /// reader gets it after the queued items. Nothing is queued while it is set.
    missed: Option<T>,
    is_over: bool,
    reader: Option<Waker>,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Self {
        let items = VecDeque::new();
        Self(Arc::new(Mutex::new(Queue { items, missed: None, is_over: false, reader: None })))
    }

    /// Adds an item, however many wait.
    pub(crate) fn push(&self, item: T) {
        let mut queue = self.queue();
        queue.items.push_back(item);
        queue.wake();
    }

    /// Adds an item, unless `limit` items wait. In that case `gap(item)` stands for all items that
    /// are left out.
    pub(crate) fn push_or(&self, limit: usize, item: T, gap: impl FnOnce(T) -> T) {
        let mut queue = self.queue();
        if queue.missed.is_some() || queue.items.len() >= limit {
            queue.missed = Some(gap(item));
        } else {
            queue.items.push_back(item);
        }
        queue.wake();
    }

    /// Ends the queue. The reader still gets the items that wait.
    pub(crate) fn end(&self) {
        let mut queue = self.queue();
        queue.is_over = true;
        queue.wake();
    }

    /// Returns the next item, or `None` at the end of the queue.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Option<T>> {
        let mut queue = self.queue();
        if let Some(item) = queue.items.pop_front() {
            return Poll::Ready(Some(item));
        }
        if let Some(missed) = queue.missed.take() {
            return Poll::Ready(Some(missed));
        }
        if queue.is_over {
            return Poll::Ready(None);
        }
        queue.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Returns true if the reader is gone.
    pub(crate) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Queue<T> {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(inbox: &Inbox<i32>) -> Poll<Option<i32>> {
        inbox.poll(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_is_left_out_is_told_between_what_came_before_and_after() {
        let inbox = Inbox::new();
        for number in 1..=5 {
            inbox.push_or(2, number, |number| -number);
        }
        let taken = [(); 3].map(|()| take(&inbox));
        assert_eq!(taken, [1, 2, -5].map(|number| Poll::Ready(Some(number))));
        inbox.push_or(2, 6, |number| -number);
        inbox.end();
        assert_eq!([take(&inbox), take(&inbox)], [Poll::Ready(Some(6)), Poll::Ready(None)]);
    }
}
