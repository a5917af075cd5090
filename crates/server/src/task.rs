//! Handlers that are async functions: for those who want a task a socket, at its price.

mod socket;

use std::{fmt, future::poll_fn, net::IpAddr, sync::Arc};

use tabmux_core::{
    OwnedPayload,
    session::{SendError, Visitor},
    wire::{Payload, SessionId, TabId, close},
};
use tokio::sync::mpsc;

pub(crate) use self::socket::Shared;
pub use self::socket::{Ended, TaskReader, TaskSocket, TaskWriter};
use crate::{
    CloseInfo, Ctx, Decision, OpenAnswer, OpenRequest, ServerHandle, SocketHandler,
    handler::kept_headers,
};

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
/// every message: in memory about 2 KiB more than a [`SocketHandler`] without fields (3,071 bytes
/// a link against 866, measured by `cargo run --release -p tabmux-server --example idle -- 4000
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
    Running { inbox: Inbox, shared: Arc<Shared> },
    Ended,
}

/// A tab that wants to open a virtual socket, in the hands of a task.
pub struct Opening {
    answer: OpenAnswer,
    socket: TaskSocket,
    protocols: Vec<String>,
    visitor: Option<Arc<Visitor>>,
    address: Option<IpAddr>,
    params: Vec<(String, String)>,
    server: ServerHandle,
}

// Headers hold secrets.
impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Opening");
        debug.field("socket", &self.socket).field("protocols", &self.protocols);
        debug.field("user", &self.user()).finish_non_exhaustive()
    }
}

impl fmt::Debug for TaskHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::New(_) => "TaskHandler(New)",
            State::Running { .. } => "TaskHandler(Running)",
            State::Ended => "TaskHandler(Ended)",
        })
    }
}

/// Where the handler of a task puts messages.
type Inbox = mpsc::UnboundedSender<OwnedPayload>;

impl Opening {
    /// Begins to open a socket. Returns in addition where its handler puts messages, and what both
    /// share.
    pub(crate) fn begin(ctx: &Ctx<'_>, request: &OpenRequest<'_>) -> (Self, Inbox, Arc<Shared>) {
        let (inbox, messages) = mpsc::unbounded_channel();
        // Half of the credit: so much is always taken before the tab has to wait.
        let shared = Arc::new(Shared::new(ctx.first_credit().div_ceil(2), ctx.longest_message()));
        let (sender, tab, target) = (ctx.sender(), request.tab, request.target.into());
        let socket = TaskSocket::new(sender, messages, Arc::clone(&shared), tab, target);
        let params = request.params();
        let params = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let opening = Self {
            answer: request.answer_later(),
            socket,
            protocols: request.protocols.to_vec(),
            visitor: ctx.shared_visitor(),
            address: request.address(),
            params: params.collect(),
            server: ctx.server(),
        };
        (opening, inbox, shared)
    }

    /// Returns path and query.
    pub fn target(&self) -> &str {
        self.socket.target()
    }

    /// Returns the sub-protocols offered, best first.
    pub fn protocols(&self) -> &[String] {
        &self.protocols
    }

    /// Returns a parameter of the path, as [`Builder::socket`](crate::Builder::socket) named it:
    /// `id` of `/room/{id}`.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// Returns the user of the browser. See [`Ctx::user`].
    pub fn user(&self) -> Option<&str> {
        Some(self.visitor.as_ref()?.user()?.name())
    }

    /// Returns the first value of a header that the judge had the server keep. See [`Ctx::header`].
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let kept = self.visitor.as_ref().map_or(&[][..], |visitor| kept_headers(visitor));
        let found = kept.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }

    /// Returns the address of the browser's link, behind `trusted_proxies`. See [`Ctx::address`].
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Returns the server.
    pub fn server(&self) -> ServerHandle {
        self.server.clone()
    }

    /// Returns the tab.
    pub fn tab(&self) -> TabId {
        self.socket.tab()
    }

    /// Returns the session of its browser.
    pub fn session(&self) -> SessionId {
        self.socket.session()
    }

    /// Returns the headers that the server keeps of the link, with their names in lower case.
    pub(crate) fn kept_headers(&self) -> &[(Box<str>, Box<[u8]>)] {
        self.visitor.as_ref().map_or(&[][..], |visitor| kept_headers(visitor))
    }

    /// Has the hub show a ticket at the path of the socket.
    pub(crate) fn send_ticket(&self, ticket: &str) -> Result<(), SendError> {
        self.socket.send_ticket(ticket)
    }

    /// Charges the browser so many bytes that are kept for the socket until it opens, in place of
    /// what was charged before.
    pub(crate) fn keep(&self, bytes: usize) -> Result<(), SendError> {
        self.socket.keep_for_opening(bytes)
    }

    /// Returns what is kept of who opened the link.
    pub(crate) fn shared_visitor(&self) -> Option<Arc<Visitor>> {
        self.visitor.clone()
    }

    /// Returns how many bytes a message on the socket may have.
    pub(crate) fn longest_message(&self) -> usize {
        self.socket.longest()
    }

    /// Waits until the tab does not wait for the socket any more.
    pub(crate) async fn gone(&self) {
        poll_fn(|context| self.socket.poll_ended(context)).await;
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

    /// Refuses the socket with a code from 3000 to 4999, which the tab's program can act on.
    pub fn reject_with(self, code: u16, message: impl Into<String>) {
        self.answer.reject_with(code, message);
    }
}

impl SocketHandler for TaskHandler {
    fn open(&mut self, ctx: &mut Ctx<'_>, request: &OpenRequest<'_>) -> Decision {
        let State::New(run) = std::mem::replace(&mut self.0, State::Ended) else {
            return Decision::reject("the handler serves another socket");
        };
        let (opening, inbox, shared) = Opening::begin(ctx, request);
        self.0 = State::Running { inbox, shared };
        run(opening);
        Decision::Later
    }

    fn message(&mut self, ctx: &mut Ctx<'_>, message: Payload<'_>) {
        // What is sent fails once the task has ended; what that sent and its close are under way.
        if let State::Running { inbox, .. } = &self.0
            && inbox.send(OwnedPayload::from(message)).is_ok()
        {
            // What waits for the task is as much as the tab has credit for.
            ctx.keep_credit();
        }
    }

    fn writable(&mut self, ctx: &mut Ctx<'_>) {
        if let State::Running { shared, .. } = &self.0 {
            shared.write(ctx);
            ctx.return_credit(shared.take_credit());
        }
    }

    fn parked(&mut self, _: &mut Ctx<'_>, parked: bool) {
        if let State::Running { shared, .. } = &self.0 {
            shared.parked(parked);
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
            shared.ended(ended);
        }
    }
}

/// The handler of a tab that went before its socket was open is told nothing but this.
impl Drop for TaskHandler {
    fn drop(&mut self) {
        self.end(Ended { code: close::ABNORMAL, reason: String::new(), clean: false });
    }
}
