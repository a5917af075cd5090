//! Handlers that are async functions: for those who want a task a socket, at its price.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tabmux_core::{
    OwnedPayload,
    session::SendError,
    wire::{Payload, SessionId, TabId, close, message_cost},
};
use tokio::sync::{Notify, mpsc};

use crate::{CloseInfo, Ctx, Decision, OpenAnswer, OpenRequest, SocketHandler, SocketSender};

/// What messages may cost that a task has sent and that wait for the link.
const LIMIT: u64 = 1 << 20;
/// The close code of a socket whose task panicked (RFC 6455 section 7.4.1).
const INTERNAL_ERROR: u16 = 1011;

/// Makes handlers that each run a task: `run` gets the socket once it is open, and when it
/// returns, the socket closes with 1000 (1011 if it panicked).
///
/// ```no_run
/// use tabmux_server::{Server, task};
///
/// let echo = task(|mut socket| async move {
///     while let Some(message) = socket.next().await {
///         if socket.send(message).await.is_err() {
///             break;
///         }
///     }
/// });
/// let server = Server::builder().socket("/echo", echo).build()?;
/// # Ok::<(), tabmux_server::Error>(())
/// ```
///
/// The price of each socket is a task with its future, two queues and a switch of threads for
/// every message: in memory about 2 KiB more than a [`SocketHandler`] without fields (2,589 bytes
/// a link against 497, measured by `cargo run --release -p tabmux-server --example idle -- 4000
/// tasks`, and the same with `sockets`).
pub fn task<F, Fut>(run: F) -> impl Fn() -> TaskHandler + Send + Sync + 'static
where
    F: Fn(TaskSocket) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    task_opening(move |opening| run(opening.accept()))
}

/// Makes handlers that each run a task as soon as a tab wants a socket: `run` decides whether it
/// gets one, and with which sub-protocol. The tab waits meanwhile, for 30 s at most.
///
/// ```no_run
/// use tabmux_server::{Server, task_opening};
/// # async fn may_enter(_: &str) -> bool { true }
///
/// let room = task_opening(|opening| async move {
///     if !may_enter(opening.target()).await {
///         return opening.reject("this room is not yours");
///     }
///     let mut socket = opening.accept();
///     while let Some(message) = socket.next().await {
///         println!("{message:?}");
///     }
///     println!("{:?}", socket.ended());
/// });
/// let server = Server::builder().socket("/room/{id}", room).build()?;
/// # Ok::<(), tabmux_server::Error>(())
/// ```
///
/// A task that drops its [`Opening`] refuses the socket. If the tab goes before, the socket is
/// closed when the task accepts it.
pub fn task_opening<F, Fut>(run: F) -> impl Fn() -> TaskHandler + Send + Sync + 'static
where
    F: Fn(Opening) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let run: Arc<Run> = Arc::new(move |opening| {
        tokio::spawn(run(opening));
    });
    move || TaskHandler(State::New(Arc::clone(&run)))
}

/// The handler of a socket that a task serves; [`task`] makes them.
pub struct TaskHandler(State);

/// Begins a task.
type Run = dyn Fn(Opening) + Send + Sync;

enum State {
    New(Arc<Run>),
    Running { inbox: mpsc::UnboundedSender<OwnedPayload>, shared: Arc<Shared> },
    Ended,
}

/// A tab that wants to open a virtual socket, in the hands of a task.
pub struct Opening {
    answer: OpenAnswer,
    socket: TaskSocket,
    protocols: Vec<String>,
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

/// A virtual socket in the hands of a task. When it is dropped, the socket closes.
pub struct TaskSocket {
    sender: SocketSender,
    inbox: mpsc::UnboundedReceiver<OwnedPayload>,
    shared: Arc<Shared>,
    tab: TabId,
    target: Box<str>,
}

/// What the handler and its task share.
#[derive(Default)]
struct Shared {
    /// What messages cost that the task took and whose credit was not given back.
    taken: AtomicU64,
    /// How much of that is given back together.
    batch: u64,
    outgoing: Mutex<Outgoing>,
    /// There is room in `outgoing`, or it is closed.
    room: Notify,
}

#[derive(Default)]
struct Outgoing {
    messages: VecDeque<OwnedPayload>,
    cost: u64,
    end: End,
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

impl Opening {
    /// Returns path and query.
    pub fn target(&self) -> &str {
        self.socket.target()
    }

    /// Returns the sub-protocols offered, best first.
    pub fn protocols(&self) -> &[String] {
        &self.protocols
    }

    /// Returns the tab.
    pub const fn tab(&self) -> TabId {
        self.socket.tab()
    }

    /// Returns the session of its browser.
    pub const fn session(&self) -> SessionId {
        self.socket.session()
    }

    /// Opens the socket without a sub-protocol.
    pub fn accept(self) -> TaskSocket {
        self.answer.accept();
        self.socket
    }

    /// Opens the socket with a sub-protocol, which must be one of those offered.
    pub fn accept_protocol(self, protocol: impl Into<String>) -> TaskSocket {
        self.answer.accept_protocol(protocol);
        self.socket
    }

    /// Refuses the socket. The tab's programmer reads the message.
    pub fn reject(self, message: impl Into<String>) {
        self.answer.reject(message);
    }
}

impl TaskSocket {
    /// The next message; `None` when the socket is closed.
    pub async fn next(&mut self) -> Option<OwnedPayload> {
        let message = self.inbox.recv().await?;
        let (cost, batch) = (cost(&message), self.shared.batch);
        // Once for each batch: what is taken meanwhile goes with the next.
        let before = self.shared.taken.fetch_add(cost, Ordering::Relaxed);
        if before < batch && before + cost >= batch {
            // An error means that the server is gone.
            let _ = self.sender.poke();
        }
        Some(message)
    }

    /// Sends a message, and waits while too much waits to be written.
    ///
    /// # Errors
    /// [`SendError::Closed`] when the socket is closed, [`SendError::TooLarge`] when the message
    /// could never be sent.
    pub async fn send(&self, message: impl Into<OwnedPayload>) -> Result<(), SendError> {
        let message = message.into();
        let cost = cost(&message);
        if cost > LIMIT {
            return Err(SendError::TooLarge);
        }
        loop {
            let room = self.shared.room.notified();
            {
                let mut outgoing = self.shared.outgoing();
                if !matches!(outgoing.end, End::Open) {
                    return Err(SendError::Closed);
                }
                if outgoing.cost + cost <= LIMIT {
                    outgoing.cost += cost;
                    outgoing.messages.push_back(message);
                    break;
                }
            }
            room.await;
        }
        self.sender.poke()
    }

    /// Closes the socket with a code from 1000 to 4999, after what was sent before.
    pub fn close(&self, code: u16, reason: &str) {
        let mut outgoing = self.shared.outgoing();
        if matches!(outgoing.end, End::Open) {
            outgoing.end = End::Closing(code, reason.to_owned());
            drop(outgoing);
            // An error means that the server is gone, and the socket with it.
            let _ = self.sender.poke();
        }
    }

    /// Returns how the socket ended, once [`next`](Self::next) has returned `None`. Returns `None`
    /// while the socket is open, and when it was never opened.
    pub fn ended(&self) -> Option<Ended> {
        match &self.shared.outgoing().end {
            End::Closed(ended) => Some(ended.clone()),
            End::Open | End::Closing(..) => None,
        }
    }

    /// The tab.
    pub const fn tab(&self) -> TabId {
        self.tab
    }

    /// The session of its browser.
    pub const fn session(&self) -> SessionId {
        self.sender.socket().session
    }

    /// Path and query that the socket was opened with.
    pub const fn target(&self) -> &str {
        &self.target
    }
}

impl Drop for TaskSocket {
    fn drop(&mut self) {
        let (code, reason) = if std::thread::panicking() {
            (INTERNAL_ERROR, "the handler failed")
        } else {
            (1000, "")
        };
        self.close(code, reason);
    }
}

impl SocketHandler for TaskHandler {
    fn open(&mut self, ctx: &mut Ctx<'_>, request: &OpenRequest<'_>) -> Decision {
        let State::New(run) = std::mem::replace(&mut self.0, State::Ended) else {
            return Decision::reject("the handler serves another socket");
        };
        let (inbox, messages) = mpsc::unbounded_channel();
        // Half of the credit: so much is always taken before the tab has to wait.
        let batch = ctx.first_credit().div_ceil(2);
        let shared = Arc::new(Shared { batch, ..Shared::default() });
        self.0 = State::Running { inbox, shared: Arc::clone(&shared) };
        let (sender, tab, target) = (ctx.sender(), request.tab, request.target.into());
        let socket = TaskSocket { sender, inbox: messages, shared, tab, target };
        let (answer, protocols) = (request.answer_later(), request.protocols.to_vec());
        run(Opening { answer, socket, protocols });
        Decision::Later
    }

    fn message(&mut self, ctx: &mut Ctx<'_>, message: Payload<'_>) {
        // What is sent fails once the task has ended; what that sent and its close are under way.
        if let State::Running { inbox, .. } = &self.0
            && inbox.send(OwnedPayload::from(message)).is_ok()
        {
            // What waits for the task is as much as the tab has credit for.
            ctx.hold_credit();
        }
    }

    fn writable(&mut self, ctx: &mut Ctx<'_>) {
        if let State::Running { shared, .. } = &self.0 {
            shared.write(ctx);
            ctx.return_credit(shared.taken.swap(0, Ordering::Relaxed));
        }
    }

    fn close(&mut self, _: &mut Ctx<'_>, close: &CloseInfo<'_>) {
        let CloseInfo { code, reason, clean } = *close;
        self.end(Ended { code, reason: reason.to_owned(), clean });
    }
}

impl TaskHandler {
    fn end(&mut self, ended: Ended) {
        if let State::Running { shared, .. } = std::mem::replace(&mut self.0, State::Ended) {
            shared.outgoing().end = End::Closed(ended);
            shared.room.notify_waiters();
        }
    }
}

/// The handler of a tab that went before its socket was open is told nothing but this.
impl Drop for TaskHandler {
    fn drop(&mut self) {
        self.end(Ended { code: close::ABNORMAL, reason: String::new(), clean: false });
    }
}

impl Shared {
    /// Sends what waits, as far as the link takes it.
    fn write(&self, ctx: &mut Ctx<'_>) {
        let mut outgoing = self.outgoing();
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
                Err(SendError::Full | SendError::Closed) => break,
            }
        }
        if let (true, End::Closing(code, reason)) = (outgoing.messages.is_empty(), &outgoing.end) {
            ctx.close(*code, reason);
        }
        drop(outgoing);
        self.room.notify_waiters();
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn cost(message: &OwnedPayload) -> u64 {
    message_cost(message.len())
}
