//! A registry, its handlers and its links' outgoing queues, behind one lock.
//!
//! Every change goes the same way: take the lock, tell the registry, carry out all its orders,
//! publish the numbers. Handlers run inside, so a shard is single-threaded in effect.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use tabmux_core::{
    OwnedPayload, Timestamp,
    session::{
        Event, Input, LinkDown, LinkId, Output, Registry, SendError, SessionConfig, SocketRef,
        Stats,
    },
    wire::{ErrorCode, TabId, close},
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};

use crate::{
    CloseInfo, Ctx, Decision, OpenRequest, SocketHandler,
    handler::Factory,
    inbox::{Command, Inbox, Post},
};

/// The close code of a socket whose handler failed (RFC 6455 section 7.4.1).
const INTERNAL_ERROR: u16 = 1011;

pub(crate) struct Shard {
    inner: Mutex<Inner>,
    inbox: Inbox,
    routes: BTreeMap<String, Factory>,
    stats: watch::Sender<Stats>,
    /// Tasks that serve a link, the closing ones included.
    tasks: watch::Sender<usize>,
    /// Wakes the driver: an earlier deadline, a post, or the end of the shard.
    wake: Arc<Notify>,
    started: Instant,
}

struct Inner {
    registry: Registry,
    links: BTreeMap<LinkId, Outgoing>,
    sockets: BTreeMap<SocketRef, Mounted>,
    /// Orders of the change in progress. They go out after the numbers, so that whoever gets an
    /// answer finds it counted.
    orders: Vec<(LinkId, Order)>,
    last_link: u64,
    driven: bool,
    /// When the driver will look at the registry by itself.
    next_turn: Option<Timestamp>,
}

/// The near end of a link's task. Dropping it starts the task's deadline.
struct Outgoing {
    orders: mpsc::UnboundedSender<Order>,
    _alive: oneshot::Sender<()>,
}

/// A virtual socket and who serves it.
struct Mounted {
    handler: Box<dyn SocketHandler>,
    tab: TabId,
    target: Box<str>,
}

/// What a link's task is to do, in order. The queue has no limit of its own: the registry counts
/// its bytes and closes the link.
pub(crate) enum Order {
    Send(Vec<u8>),
    Close(u16, String),
}

/// The far end, for the link's task.
pub(crate) struct Incoming {
    pub(crate) link: LinkId,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    /// Ends when the shard has done with the link.
    pub(crate) closing: oneshot::Receiver<()>,
    pub(crate) shard: Arc<Shard>,
}

impl Shard {
    pub(crate) fn new(
        config: SessionConfig,
        inbox_bytes: usize,
        routes: BTreeMap<String, Factory>,
    ) -> Arc<Self> {
        let inner = Inner {
            registry: Registry::new(config, Timestamp::from_micros(0)),
            links: BTreeMap::new(),
            sockets: BTreeMap::new(),
            orders: Vec::new(),
            last_link: 0,
            driven: false,
            next_turn: None,
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            inbox: Inbox::new(inbox_bytes),
            routes,
            stats: watch::Sender::new(Stats::default()),
            tasks: watch::Sender::new(0),
            wake: Arc::new(Notify::new()),
            started: Instant::now(),
        })
    }

    /// Takes a link whose WebSocket handshake is done. Must be called inside a tokio runtime.
    pub(crate) fn open_link(self: &Arc<Self>, entropy: [u8; 32]) -> Incoming {
        let (orders, far_orders) = mpsc::unbounded_channel();
        let (alive, closing) = oneshot::channel();
        let mut inner = self.lock();
        inner.last_link += 1;
        let link = LinkId(inner.last_link);
        inner.links.insert(link, Outgoing { orders, _alive: alive });
        if !std::mem::replace(&mut inner.driven, true) {
            tokio::spawn(drive(Arc::downgrade(self), Arc::clone(&self.wake)));
        }
        self.tasks.send_modify(|tasks| *tasks += 1);
        self.change(inner, |registry, now| {
            registry.handle_input(now, Input::LinkOpened { link, entropy });
        });
        Incoming { link, orders: far_orders, closing, shard: Arc::clone(self) }
    }

    pub(crate) fn input(self: &Arc<Self>, input: Input<'_>) {
        self.change(self.lock(), |registry, now| registry.handle_input(now, input));
    }

    pub(crate) fn drain(self: &Arc<Self>, after: Duration, spread: Duration) {
        self.change(self.lock(), |registry, now| registry.drain(now, after, spread));
    }

    pub(crate) fn close_links(self: &Arc<Self>) {
        self.change(self.lock(), Registry::shutdown);
    }

    pub(crate) fn post(&self, post: Post) -> Result<(), SendError> {
        self.inbox.push(post)?;
        self.wake.notify_one();
        Ok(())
    }

    pub(crate) fn stats(&self) -> watch::Receiver<Stats> {
        self.stats.subscribe()
    }

    pub(crate) fn tasks(&self) -> watch::Receiver<usize> {
        self.tasks.subscribe()
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic outside a handler leaves the registry as it was between two orders.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(u64::try_from(self.uptime().as_micros()).unwrap_or(u64::MAX))
    }

    /// The one way anything changes.
    fn change(
        self: &Arc<Self>,
        mut inner: MutexGuard<'_, Inner>,
        act: impl FnOnce(&mut Registry, Timestamp),
    ) {
        let now = self.now();
        act(&mut inner.registry, now);
        while let Some(output) = inner.registry.poll_output() {
            inner.carry_out(self, now, output);
        }
        let stats = inner.registry.stats();
        self.stats.send_if_modified(|published| {
            let moved = population(published) != population(&stats);
            *published = stats;
            moved
        });
        inner.hand_over();
        let next = inner.registry.poll_timeout().map(|(at, _)| at);
        if next.is_some_and(|at| inner.next_turn.is_none_or(|planned| at < planned)) {
            inner.next_turn = next;
            self.wake.notify_one();
        }
    }

    /// Does what is due and what other tasks posted; tells how long the driver may sleep.
    fn turn(self: &Arc<Self>) -> Option<Duration> {
        let posts = self.inbox.take();
        self.change(self.lock(), |registry, now| {
            for Post { socket, command } in posts {
                carry_out_post(registry, now, socket, command);
            }
            registry.handle_timeout(now);
        });
        let mut inner = self.lock();
        inner.next_turn = inner.registry.poll_timeout().map(|(at, _)| at);
        inner.next_turn.map(|at| at.saturating_since(self.now()))
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.shard.input(Input::LinkClosed { link: self.link });
        self.shard.lock().links.remove(&self.link);
        self.shard.tasks.send_modify(|tasks| *tasks -= 1);
    }
}

/// Looks after a shard's deadlines and inbox for as long as it lives.
async fn drive(shard: Weak<Shard>, wake: Arc<Notify>) {
    loop {
        let Some(sleep) = shard.upgrade().map(|shard| shard.turn()) else {
            return;
        };
        let nap = async {
            match sleep {
                Some(span) => tokio::time::sleep(span).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wake.notified() => {}
            () = nap => {}
        }
    }
}

/// The numbers whose change is worth telling; the others change with every message.
const fn population(stats: &Stats) -> [usize; 4] {
    [stats.links, stats.tabs, stats.parked, stats.sockets]
}

fn carry_out_post(registry: &mut Registry, now: Timestamp, socket: SocketRef, command: Command) {
    // A socket that closed meanwhile has nobody to tell.
    let _ = match command {
        Command::Close { code, reason } => registry.close(now, socket, code, &reason),
        Command::Send(payload) => match registry.send(now, socket, payload.as_payload()) {
            Err(SendError::Full) => {
                let reason = "too much waits to be written to this browser";
                registry.close(now, socket, close::TRY_AGAIN_LATER, reason)
            }
            Err(SendError::TooLarge) => {
                let reason = "the server sent a message larger than its limit";
                registry.close(now, socket, close::TOO_BIG, reason)
            }
            sent => sent,
        },
    };
}

impl Inner {
    fn carry_out(&mut self, shard: &Arc<Shard>, now: Timestamp, output: Output) {
        match output {
            Output::Send { link, bytes } => self.orders.push((link, Order::Send(bytes))),
            Output::CloseLink { link, code, reason } => {
                self.orders.push((link, Order::Close(code, reason.into_owned())));
            }
            Output::SocketOpen { socket, tab, path, protocols } => {
                let (target, protocols, session) = (&*path, &*protocols, socket.session);
                let request = OpenRequest { target, protocols, tab, session };
                self.open_socket(shard, now, socket, &request);
            }
            Output::SocketMessage { socket, payload } => {
                self.message(shard, now, socket, &payload);
            }
            Output::SocketWritable { socket } => {
                self.call(shard, now, socket, |handler, ctx| handler.writable(ctx));
            }
            Output::SocketClosed { socket, code, reason, clean } => {
                let close = CloseInfo { code, reason: &reason, clean };
                self.call(shard, now, socket, |handler, ctx| handler.close(ctx, &close));
                self.sockets.remove(&socket);
            }
            Output::Event(event) => log(event),
        }
    }

    fn message(
        &mut self,
        shard: &Arc<Shard>,
        now: Timestamp,
        socket: SocketRef,
        payload: &OwnedPayload,
    ) {
        self.call(shard, now, socket, |handler, ctx| handler.message(ctx, payload.as_payload()));
    }

    /// Gives the orders to the tasks of their links.
    fn hand_over(&mut self) {
        for (link, order) in self.orders.drain(..) {
            let last = matches!(order, Order::Close(..));
            if let Some(outgoing) = self.links.get(&link) {
                // A task that ended says so with LinkClosed.
                let _ = outgoing.orders.send(order);
            }
            if last {
                self.links.remove(&link);
            }
        }
    }

    /// Mounts a handler for a socket and gives its answer to the registry.
    fn open_socket(
        &mut self,
        shard: &Arc<Shard>,
        now: Timestamp,
        socket: SocketRef,
        request: &OpenRequest<'_>,
    ) {
        match self.decide(shard, now, socket, request) {
            Ok(protocol) => {
                self.registry.accept(now, socket, &protocol);
                self.call(shard, now, socket, |handler, ctx| handler.opened(ctx));
            }
            Err((code, message)) => {
                self.sockets.remove(&socket);
                self.registry.reject(now, socket, code, &message);
            }
        }
    }

    /// The sub-protocol that a new handler takes, or why there is to be no socket.
    fn decide(
        &mut self,
        shard: &Arc<Shard>,
        now: Timestamp,
        socket: SocketRef,
        request: &OpenRequest<'_>,
    ) -> Result<String, (ErrorCode, String)> {
        let path = request.path();
        let rejected = |message: &str| Err((ErrorCode::Rejected, message.to_owned()));
        let Some(factory) = shard.routes.get(path) else {
            return Err((ErrorCode::NoRoute, format!("this server has no handler for {path}")));
        };
        let Ok(handler) = catch_unwind(AssertUnwindSafe(factory)) else {
            error!("the factory of {path} panicked");
            return rejected("the handler failed");
        };
        let (tab, target) = (request.tab, request.target.into());
        self.sockets.insert(socket, Mounted { handler, tab, target });
        match self.call(shard, now, socket, |handler, ctx| handler.open(ctx, request)) {
            None => rejected("the handler failed"),
            Some(Decision::Reject { message }) => rejected(&message),
            Some(Decision::Accept { protocol })
                if protocol.is_empty() || request.protocols.contains(&protocol) =>
            {
                Ok(protocol)
            }
            Some(Decision::Accept { protocol }) => {
                error!("the handler of {path} chose {protocol:?}, which was not offered");
                rejected("the server chose a sub-protocol that was not offered")
            }
        }
    }

    /// Calls a socket's handler; `None` if there is none, or if it panicked and lost its socket.
    fn call<T>(
        &mut self,
        shard: &Arc<Shard>,
        now: Timestamp,
        socket: SocketRef,
        call: impl FnOnce(&mut dyn SocketHandler, &mut Ctx<'_>) -> T,
    ) -> Option<T> {
        let mounted = self.sockets.get_mut(&socket)?;
        let registry = &mut self.registry;
        let Mounted { handler, tab, target } = mounted;
        let mut ctx = Ctx { registry, shard, now, socket, tab: *tab, target };
        // The handler is dropped after a panic, and the registry is not left in the middle of a
        // call: every `Ctx` method returns before the handler goes on.
        let outcome = catch_unwind(AssertUnwindSafe(|| call(&mut **handler, &mut ctx)));
        if outcome.is_err() {
            error!("the handler of {target} panicked; its socket is closed");
            self.sockets.remove(&socket);
            let _ = self.registry.close(now, socket, INTERNAL_ERROR, "the handler failed");
        }
        outcome.ok()
    }
}

fn log(event: Event) {
    match event {
        Event::LinkDown { link, cause: LinkDown::Misbehaved(what) } => {
            warn!(link = link.0, "link closed, the hub broke the protocol: {what}");
        }
        Event::LinkDown { link, cause: LinkDown::Refused(reason) } => {
            info!(link = link.0, "link refused: {reason:?}");
        }
        Event::LinkDown { link, cause } => debug!(link = link.0, "link down: {cause:?}"),
        Event::LinkUp { link, session: _, hub } => debug!(link = link.0, %hub, "hub welcomed"),
        Event::TabAttached { tab, .. } => debug!(%tab, "tab attached"),
        Event::TabParked { tab, .. } => debug!(%tab, "tab parked"),
        Event::TabGone { tab, .. } => debug!(%tab, "tab gone"),
    }
}
