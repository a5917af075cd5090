//! The application's word on who may have a topic.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tabmux_core::session::Visitor;
use tokio::sync::Semaphore;

use crate::{Refusal, logs::rarely};

/// When a hub may ask again after the application failed.
const RETRY: Duration = Duration::from_secs(5);

/// A browser that wants a topic.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TopicRequest {
    /// The name of the topic.
    pub topic: String,
    /// True if the browser has the topic, and is looked at again.
    pub renews: bool,
    visitor: Option<Arc<Visitor>>,
}

type Call =
    dyn Fn(TopicRequest) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>> + Send + Sync;

/// Asks the application who may subscribe.
#[derive(Clone)]
pub(crate) struct Hook {
    call: Arc<Call>,
    /// Calls that may run at a time.
    permits: Arc<Semaphore>,
}

impl TopicRequest {
    pub(crate) const fn new(topic: String, renews: bool, visitor: Option<Arc<Visitor>>) -> Self {
        Self { topic, renews, visitor }
    }

    /// Returns the name of the browser's user, if it has one.
    pub fn user(&self) -> Option<&str> {
        self.visitor.as_ref()?.user().map(|user| user.name())
    }

    /// Returns a header of the request that opened the link, if the judge had it kept
    /// ([`Admitted::keep`](crate::Admitted::keep)) and it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let Visitor::Admitted(admitted) = self.visitor.as_deref()? else {
            return None;
        };
        let mut headers = admitted.headers.iter();
        let (_, value) = headers.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }
}

impl Hook {
    pub(crate) fn new(
        call: impl Fn(TopicRequest) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { call: Arc::new(call), permits: Arc::new(Semaphore::new(1)) }
    }

    /// Sets how many calls may run at a time.
    pub(crate) fn at_a_time(mut self, calls: usize) -> Self {
        self.permits = Arc::new(Semaphore::new(calls.clamp(1, Semaphore::MAX_PERMITS)));
        self
    }

    /// Asks the application. One that panics refuses for now.
    ///
    /// # Errors
    /// Why the browser may not have the topic.
    pub(crate) async fn ask(&self, request: TopicRequest) -> Result<(), Refusal> {
        let failed = || {
            rarely!(error, "the hook for subscriptions panicked");
            Err(Refusal::retry_after(RETRY, "the server cannot tell now who may have this topic"))
        };
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let Ok(mut future) = catch_unwind(AssertUnwindSafe(|| (self.call)(request))) else {
            return failed();
        };
        let polled = poll_fn(|context| {
            match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(verdict)) => Poll::Ready(Some(verdict)),
                Err(_) => Poll::Ready(None),
            }
        });
        match polled.await {
            Some(verdict) => verdict,
            None => failed(),
        }
    }
}
