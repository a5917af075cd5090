//! A virtual socket in the hands of a task: whole, or in two halves.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use futures_sink::Sink;
use tabmux_core::{
    OwnedPayload,
    session::SendError,
    wire::{SessionId, TabId, close, message_cost},
};
use tokio::sync::mpsc;

use crate::{Ctx, SocketSender};

/// What messages may cost that a task has sent and that wait for the link. One that costs more
/// waits alone.
const LIMIT: u64 = 1 << 20;
/// The close code of a socket whose task panicked (RFC 6455 section 7.4.1).
const INTERNAL_ERROR: u16 = 1011;

/// A virtual socket in the hands of a task. When it is dropped, the socket closes with 1000, or
/// with 1011 if the task panics.
///
/// It is a [`Stream`] of messages and a [`Sink`] for them, so that the combinators of `futures`
/// work on it. [`split`](Self::split) makes two halves of it, for two tasks or for a `select!`
/// that reads and writes:
///
/// ```no_run
/// use tabmux_server::{Server, task};
/// # async fn next_price() -> String { String::new() }
///
/// let prices = task(|socket| async move {
///     let (writer, mut reader) = socket.split();
///     loop {
///         tokio::select! {
///             message = reader.next() => match message {
///                 Some(wish) => println!("{wish:?}"),
///                 None => return,
///             },
///             price = next_price() => {
///                 if writer.send(price).await.is_err() {
///                     return;
///                 }
///             }
///         }
///     }
/// });
/// let server = Server::builder().socket("/prices", prices).build()?;
/// # Ok::<(), tabmux_server::Error>(())
/// ```
#[derive(Debug)]
pub struct TaskSocket {
    reader: TaskReader,
    writer: TaskWriter,
}

/// The half of a [`TaskSocket`] that gets messages: a [`Stream`]. The socket closes with 1000 when
/// this half and all writers are dropped, and with 1011 as soon as one is dropped by a panic.
#[derive(Debug)]
pub struct TaskReader {
    inbox: mpsc::UnboundedReceiver<OwnedPayload>,
    half: Half,
}

/// The half of a [`TaskSocket`] that sends messages: a [`Sink`]. A clone sends on the same socket.
/// The socket closes as [`TaskReader`] says.
#[derive(Clone, Debug)]
pub struct TaskWriter {
    half: Half,
}

/// How a socket of a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// The close code: 1005 when none was given, 1006 when the link broke or the tab is gone.
    pub code: u16,
    /// The close reason.
    pub reason: String,
    /// True if one end closed it on purpose.
    pub clean: bool,
}

/// A part of a socket. The last one that is dropped closes it.
#[derive(Clone)]
struct Half(Arc<Whole>);

struct Whole {
    sender: SocketSender,
    shared: Arc<Shared>,
    tab: TabId,
    target: Box<str>,
}

/// What the handler and its task share.
#[derive(Default)]
pub(crate) struct Shared {
    /// What messages cost that the task took and whose credit was not given back.
    taken: AtomicU64,
    /// How much of that is given back together.
    batch: u64,
    /// The bytes that a message may have.
    longest: usize,
    outgoing: Mutex<Outgoing>,
}

#[derive(Default)]
struct Outgoing {
    messages: VecDeque<OwnedPayload>,
    cost: u64,
    end: End,
    /// The shard was told of what waits, and has not looked yet.
    is_told: bool,
    /// The tab is in the back/forward cache.
    is_parked: bool,
    /// Who waits for room, for the last message to go out, or for the end.
    waiting: Vec<Waker>,
}

/// How far the end of a socket is.
#[derive(Default)]
enum End {
    #[default]
    Open,
    /// It closes, with code and reason, when all that waits is sent.
    Closing(u16, String),
    Closed(Ended),
}

impl TaskSocket {
    pub(super) fn new(
        sender: SocketSender,
        inbox: mpsc::UnboundedReceiver<OwnedPayload>,
        shared: Arc<Shared>,
        tab: TabId,
        target: Box<str>,
    ) -> Self {
        let half = Half(Arc::new(Whole { sender, shared, tab, target }));
        let writer = TaskWriter { half: half.clone() };
        Self { reader: TaskReader { inbox, half }, writer }
    }

    /// Returns the next message; `None` when the socket is closed.
    pub async fn next(&mut self) -> Option<OwnedPayload> {
        self.reader.next().await
    }

    /// Sends a message, and waits while too much waits to be written.
    ///
    /// # Errors
    /// [`SendError::Closed`] when the socket is closed, [`SendError::TooLarge`] when the message
    /// could never be sent.
    pub async fn send(&self, message: impl Into<OwnedPayload>) -> Result<(), SendError> {
        self.writer.send(message).await
    }

    /// Closes the socket, after what was sent before. The codes are those of
    /// [`Ctx::close`](crate::Ctx::close).
    pub fn close(&self, code: u16, reason: &str) {
        self.writer.close(code, reason);
    }

    /// Returns how the socket ended, once [`next`](Self::next) has returned `None`. Returns `None`
    /// while the socket is open, and when it was never opened.
    pub fn ended(&self) -> Option<Ended> {
        self.reader.ended()
    }

    /// Returns the next message, as [`next`](Self::next) does.
    pub(crate) fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<OwnedPayload>> {
        self.reader.poll(context)
    }

    /// Ready when the socket is closed.
    pub(crate) fn poll_ended(&self, context: &Context<'_>) -> Poll<()> {
        let mut outgoing = self.reader.half.0.shared.outgoing();
        match outgoing.end {
            End::Open | End::Closing(..) => outgoing.wait(context),
            End::Closed(_) => Poll::Ready(()),
        }
    }

    /// Ready when there is room for a message.
    pub(crate) fn poll_room(&self, context: &Context<'_>) -> Poll<Result<(), SendError>> {
        self.writer.half.poll_ready(context)
    }

    /// Queues a message. [`tell`](Self::tell) has it sent.
    pub(crate) fn queue(&self, message: OwnedPayload) -> Result<(), SendError> {
        self.writer.half.start_send(message)
    }

    /// Has what is queued sent.
    pub(crate) fn tell(&self) {
        let whole = &self.writer.half.0;
        if !whole.shared.outgoing().messages.is_empty() {
            // An error means that the server is gone, and the socket with it.
            let _ = whole.tell();
        }
    }

    /// Ready when the tab is in the back/forward cache, or is not, as `parked` says.
    pub(crate) fn poll_parked(&self, context: &Context<'_>, parked: bool) -> Poll<()> {
        let mut outgoing = self.reader.half.0.shared.outgoing();
        if outgoing.is_parked == parked { Poll::Ready(()) } else { outgoing.wait(context) }
    }

    /// Has the hub show a ticket at the path of the socket, which is about to open.
    pub(crate) fn send_ticket(&self, ticket: &str) -> Result<(), SendError> {
        self.reader.half.0.sender.send_ticket(ticket)
    }

    /// Charges the browser so many bytes that are kept for the socket, which is about to open.
    pub(crate) fn keep_for_opening(&self, bytes: usize) -> Result<(), SendError> {
        self.reader.half.0.sender.keep_for_opening(bytes)
    }

    /// Returns how many bytes a message may have.
    pub(crate) fn longest(&self) -> usize {
        self.reader.half.0.shared.longest
    }

    /// Makes two halves of the socket.
    pub fn split(self) -> (TaskWriter, TaskReader) {
        (self.writer, self.reader)
    }

    /// Returns the tab.
    pub fn tab(&self) -> TabId {
        self.reader.tab()
    }

    /// Returns the session of its browser.
    pub fn session(&self) -> SessionId {
        self.reader.session()
    }

    /// Returns path and query that the socket was opened with.
    pub fn target(&self) -> &str {
        self.reader.target()
    }
}

impl TaskReader {
    /// Returns the next message; `None` when the socket is closed.
    pub async fn next(&mut self) -> Option<OwnedPayload> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Returns how the socket ended, once [`next`](Self::next) has returned `None`. Returns `None`
    /// while the socket is open, and when it was never opened.
    pub fn ended(&self) -> Option<Ended> {
        match &self.half.0.shared.outgoing().end {
            End::Closed(ended) => Some(ended.clone()),
            End::Open | End::Closing(..) => None,
        }
    }

    /// Returns the tab.
    pub fn tab(&self) -> TabId {
        self.half.0.tab
    }

    /// Returns the session of its browser.
    pub fn session(&self) -> SessionId {
        self.half.0.sender.socket().session
    }

    /// Returns path and query that the socket was opened with.
    pub fn target(&self) -> &str {
        &self.half.0.target
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<OwnedPayload>> {
        let message = std::task::ready!(self.inbox.poll_recv(context));
        if let Some(message) = &message {
            self.take(message);
        }
        Poll::Ready(message)
    }

    /// Counts the credit of a message that the task has dealt with.
    fn take(&self, message: &OwnedPayload) {
        let Whole { sender, shared, .. } = &*self.half.0;
        // Once for each batch: what is taken meanwhile goes with the next.
        let cost = cost(message);
        let before = shared.taken.fetch_add(cost, Ordering::Relaxed);
        if before < shared.batch && before + cost >= shared.batch {
            // An error means that the server is gone.
            let _ = sender.poke();
        }
    }
}

impl TaskWriter {
    /// Sends a message, and waits while too much waits to be written.
    ///
    /// # Errors
    /// [`SendError::Closed`] when the socket is closed, [`SendError::TooLarge`] when the message
    /// could never be sent.
    pub async fn send(&self, message: impl Into<OwnedPayload>) -> Result<(), SendError> {
        let (message, whole) = (message.into(), &*self.half.0);
        whole.check(&message)?;
        let cost = cost(&message);
        let mut message = Some(message);
        poll_fn(|context| {
            let mut outgoing = whole.shared.outgoing();
            if !outgoing.is_open() {
                return Poll::Ready(Err(SendError::Closed));
            }
            if !outgoing.messages.is_empty() && outgoing.cost + cost > LIMIT {
                return outgoing.wait(context);
            }
            outgoing.queue(message.take());
            drop(outgoing);
            Poll::Ready(whole.tell())
        })
        .await
    }

    /// Closes the socket, after what was sent before. The codes are those of
    /// [`Ctx::close`](crate::Ctx::close).
    pub fn close(&self, code: u16, reason: &str) {
        self.half.0.close(code, reason);
    }
}

impl Half {
    fn poll_ready(&self, context: &Context<'_>) -> Poll<Result<(), SendError>> {
        let mut outgoing = self.0.shared.outgoing();
        if !outgoing.is_open() {
            return Poll::Ready(Err(SendError::Closed));
        }
        if outgoing.cost < LIMIT {
            return Poll::Ready(Ok(()));
        }
        let wait = outgoing.wait(context);
        drop(outgoing);
        // What was queued without a flush would wait for ever.
        match self.0.tell() {
            Ok(()) => wait,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn start_send(&self, message: OwnedPayload) -> Result<(), SendError> {
        self.0.check(&message)?;
        let mut outgoing = self.0.shared.outgoing();
        if !outgoing.is_open() {
            return Err(SendError::Closed);
        }
        outgoing.queue(Some(message));
        Ok(())
    }

    /// Ready when the link has taken all that was sent.
    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let mut outgoing = self.0.shared.outgoing();
        if outgoing.messages.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if matches!(outgoing.end, End::Closed(_)) {
            return Poll::Ready(Err(SendError::Closed));
        }
        let wait = outgoing.wait(context);
        drop(outgoing);
        match self.0.tell() {
            Ok(()) => wait,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Ready when the socket is closed, after all that was sent.
    fn poll_close(&self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.0.close(close::NORMAL, "");
        let mut outgoing = self.0.shared.outgoing();
        match (&outgoing.end, outgoing.messages.is_empty()) {
            (End::Closed(_), true) => Poll::Ready(Ok(())),
            (End::Closed(_), false) => Poll::Ready(Err(SendError::Closed)),
            (End::Open | End::Closing(..), _) => outgoing.wait(context),
        }
    }
}

impl Whole {
    /// Refuses a message that could never be sent.
    fn check(&self, message: &OwnedPayload) -> Result<(), SendError> {
        if message.len() > self.shared.longest { Err(SendError::TooLarge) } else { Ok(()) }
    }

    /// Has the shard look at what waits.
    fn tell(&self) -> Result<(), SendError> {
        if std::mem::replace(&mut self.shared.outgoing().is_told, true) {
            return Ok(());
        }
        self.sender.poke().inspect_err(|_| self.shared.outgoing().is_told = false)
    }

    fn close(&self, code: u16, reason: &str) {
        let mut outgoing = self.shared.outgoing();
        if outgoing.is_open() {
            outgoing.end = End::Closing(code, reason.to_owned());
            drop(outgoing);
            // An error means that the server is gone, and the socket with it.
            let _ = self.tell();
        }
    }
}

impl Drop for TaskReader {
    // What nobody will read must not keep the page's credit.
    fn drop(&mut self) {
        self.inbox.close();
        while let Ok(message) = self.inbox.try_recv() {
            self.take(&message);
        }
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close(INTERNAL_ERROR, "the handler failed");
        }
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.close(close::NORMAL, "");
    }
}

impl Shared {
    /// `batch` is how much credit is given back together, and `longest` how many bytes a message
    /// may have.
    pub(super) fn new(batch: u64, longest: usize) -> Self {
        Self { batch, longest, ..Self::default() }
    }

    /// Sends what waits, as far as the link takes it.
    pub(super) fn write(&self, ctx: &mut Ctx<'_>) {
        let mut outgoing = self.outgoing();
        outgoing.is_told = false;
        while let Some(message) = outgoing.messages.front() {
            match ctx.send(message.as_payload()) {
                Ok(()) => {
                    outgoing.cost -= cost(message);
                    outgoing.messages.pop_front();
                }
                Err(SendError::TooLarge) => {
                    ctx.close(close::TOO_BIG, "the server sent a message larger than its limit");
                    return;
                }
                // `writable` comes again, or nothing matters any more.
                Err(_) => break,
            }
        }
        if let (true, End::Closing(code, reason)) = (outgoing.messages.is_empty(), &outgoing.end) {
            ctx.close(*code, reason);
        }
        outgoing.wake_up();
    }

    /// Returns what messages cost that the task took since the last call.
    pub(super) fn take_credit(&self) -> u64 {
        self.taken.swap(0, Ordering::Relaxed)
    }

    /// Notes whether the tab is in the back/forward cache.
    pub(super) fn parked(&self, parked: bool) {
        let mut outgoing = self.outgoing();
        outgoing.is_parked = parked;
        outgoing.wake_up();
    }

    /// Notes how the socket ended.
    pub(crate) fn ended(&self, ended: Ended) {
        let mut outgoing = self.outgoing();
        outgoing.end = End::Closed(ended);
        outgoing.wake_up();
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outgoing {
    const fn is_open(&self) -> bool {
        matches!(self.end, End::Open)
    }

    fn queue(&mut self, message: Option<OwnedPayload>) {
        if let Some(message) = message {
            self.cost += cost(&message);
            self.messages.push_back(message);
        }
    }

    fn wait<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        if !self.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            self.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    fn wake_up(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

impl Stream for TaskReader {
    type Item = OwnedPayload;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<OwnedPayload>> {
        self.poll(context)
    }
}

impl Stream for TaskSocket {
    type Item = OwnedPayload;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<OwnedPayload>> {
        self.reader.poll(context)
    }
}

macro_rules! sink {
    ($Sink:ty, $($half:ident).+) => {
        /// A flush waits until the link has taken all that was sent. A close is one with 1000, and
        /// waits until the socket is closed.
        impl Sink<OwnedPayload> for $Sink {
            type Error = SendError;

            fn poll_ready(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<Result<(), SendError>> {
                self.$($half).+.poll_ready(context)
            }

            fn start_send(
                self: Pin<&mut Self>,
                message: OwnedPayload,
            ) -> Result<(), SendError> {
                self.$($half).+.start_send(message)
            }

            fn poll_flush(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<Result<(), SendError>> {
                self.$($half).+.poll_flush(context)
            }

            fn poll_close(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<Result<(), SendError>> {
                self.$($half).+.poll_close(context)
            }
        }
    };
}

sink!(TaskWriter, half);
sink!(TaskSocket, writer.half);

impl fmt::Debug for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Whole { tab, target, .. } = &*self.0;
        write!(f, "{target} of tab {tab}")
    }
}

const fn cost(message: &OwnedPayload) -> u64 {
    message_cost(message.len())
}
