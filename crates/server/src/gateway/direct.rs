//! A virtual socket whose shard reads and writes the upstream itself, in the turn in which a
//! message comes. No other thread has a part in it.

use std::{
    os::fd::AsRawFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tabmux_core::{
    OwnedPayload,
    session::SendError,
    wire::{Payload, close, message_cost},
};
use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, sleep},
};
use tokio_tungstenite::tungstenite::Message;

use super::{
    ends::{Closes, End, Goodbye, going_away, said},
    pipe::to_upstream,
    route::{self, Opened, Places, RouteState},
    wire::{self, Ws, is_done},
};
use crate::{
    CloseInfo, Ctx, Decision, Ended, OpenRequest, Opening, SocketHandler, logs::rarely,
    shard::streams::Watch, task::Shared,
};

/// Bytes of messages of one upstream in a turn of the shard. Then the others come first.
const TURN: usize = 64 << 10;
/// What a message counts in a turn beside its bytes.
const MESSAGE: usize = 64;

/// The handler of such a socket.
pub(super) struct Direct {
    state: State,
    /// The tab is in the back/forward cache.
    is_parked: bool,
}

enum State {
    New(Arc<RouteState>),
    /// A task dials the upstream.
    Dialling {
        slot: Arc<Slot>,
        shared: Arc<Shared>,
    },
    Open(Box<Pipe>),
    Ended,
}

/// Where the task leaves the upstream that it has opened.
#[derive(Default)]
struct Slot(Mutex<Left>);

#[derive(Default)]
enum Left {
    #[default]
    Nothing,
    Upstream(Box<Opened<Ws>>),
    /// The handler is gone.
    Gone,
}

/// An upstream that is open.
struct Pipe {
    /// Ends before the stream is closed.
    watch: Watch,
    ws: Ws,
    places: Places,
    /// The message that the tab is to take next.
    next: Option<Message>,
    /// Something was written and is not out.
    is_unflushed: bool,
    /// What messages of the tab cost that are not out. The tab may send as much again once they
    /// are.
    owed: u64,
    /// When the page will have been in the back/forward cache for too long, and what calls the
    /// handler then.
    patience: Option<(Instant, AbortHandle)>,
}

impl Direct {
    /// Returns the handler of a new socket.
    pub(super) fn new(route: &Arc<RouteState>) -> Self {
        Self { state: State::New(Arc::clone(route)), is_parked: false }
    }

    /// Begins to wait for the end of a page's time in the cache, or ends the wait.
    fn park(&mut self, ctx: &Ctx<'_>) {
        let State::Open(pipe) = &mut self.state else { return };
        let limit = pipe.places.patience().filter(|_| self.is_parked);
        if let Some((_, caller)) = pipe.patience.take() {
            caller.abort();
        }
        pipe.patience = limit.map(|limit| (Instant::now() + limit, call_after(ctx, limit)));
    }

    /// Goes on in both directions as far as possible.
    fn go_on(&mut self, ctx: &mut Ctx<'_>) {
        if let State::Open(pipe) = &mut self.state
            && let Some(end) = pipe.go_on(ctx)
        {
            self.end(Some(ctx), end.closes(|| None));
        }
    }

    /// Ends what is still open.
    fn end(&mut self, ctx: Option<&mut Ctx<'_>>, Closes { tab, upstream }: Closes) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Open(pipe) => pipe.leave(upstream),
            State::Dialling { slot, shared } => {
                slot.give_up();
                shared.ended(Ended { code: close::ABNORMAL, reason: String::new(), clean: false });
            }
            State::New(_) | State::Ended => {}
        }
        if let Some((ctx, (code, reason))) = ctx.zip(tab) {
            ctx.close(code, &reason);
        }
    }
}

impl SocketHandler for Direct {
    fn open(&mut self, ctx: &mut Ctx<'_>, request: &OpenRequest<'_>) -> Decision {
        let State::New(route) = std::mem::replace(&mut self.state, State::Ended) else {
            return Decision::reject("the handler serves another socket");
        };
        // No message comes before the socket is open, and then this takes them.
        let (opening, _, shared) = Opening::begin(ctx, request);
        let slot = Arc::<Slot>::default();
        tokio::spawn(dial(route, opening, Arc::clone(&slot)));
        self.state = State::Dialling { slot, shared };
        Decision::Later
    }

    fn opened(&mut self, ctx: &mut Ctx<'_>) {
        let State::Dialling { slot, .. } = &self.state else { return };
        let Some(Opened { stream, places }) = slot.take() else { return };
        match ctx.watch(stream.get_ref().as_raw_fd()) {
            Ok(watch) => {
                let (next, is_unflushed, owed, patience) = (None, false, 0, None);
                let pipe = Pipe { watch, ws: stream, places, next, is_unflushed, owed, patience };
                ctx.ready.is_stopped = pipe.places.is_stopped();
                self.state = State::Open(Box::new(pipe));
                self.park(ctx);
                self.go_on(ctx);
            }
            Err(error) => {
                rarely!(error, "the connection to an upstream cannot be watched: {error}");
                self.state = State::Ended;
                ctx.close(close::ABNORMAL, "the server cannot watch the connection");
                spawn_close(stream, places, going_away());
            }
        }
    }

    fn message(&mut self, ctx: &mut Ctx<'_>, message: Payload<'_>) {
        if let State::Open(pipe) = &mut self.state
            && !pipe.say(ctx, OwnedPayload::from(message))
        {
            ctx.keep_credit();
            pipe.owed += message_cost(message.len());
        }
    }

    fn writable(&mut self, ctx: &mut Ctx<'_>) {
        self.go_on(ctx);
    }

    fn parked(&mut self, ctx: &mut Ctx<'_>, parked: bool) {
        self.is_parked = parked;
        self.park(ctx);
        self.go_on(ctx);
    }

    fn close(&mut self, _: &mut Ctx<'_>, close: &CloseInfo<'_>) {
        self.end(None, Closes { tab: None, upstream: said(close.code, close.reason) });
    }
}

/// A tab that went before its socket was open is told of by nothing else.
impl Drop for Direct {
    fn drop(&mut self) {
        self.end(None, Closes { tab: None, upstream: going_away() });
    }
}

/// Opens the upstream of a socket, and leaves it to the handler.
async fn dial(route: Arc<RouteState>, opening: Opening, slot: Arc<Slot>) {
    if let Some((opened, accepted)) = route::open(&route, opening).await {
        slot.leave(opened);
        // What is dropped closes nothing: it has no part in a socket of this handler.
        drop(accepted.accept());
    }
}

impl Slot {
    /// Leaves an upstream for the handler. If that is gone, says goodbye.
    fn leave(&self, opened: Opened<Ws>) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Left::Gone = *left {
            spawn_close(opened.stream, opened.places, going_away());
        } else {
            *left = Left::Upstream(Box::new(opened));
        }
    }

    /// Takes the upstream, if there is one.
    fn take(&self) -> Option<Opened<Ws>> {
        match std::mem::replace(
            &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner),
            Left::Gone,
        ) {
            Left::Upstream(opened) => Some(*opened),
            Left::Nothing | Left::Gone => None,
        }
    }

    /// Says goodbye to the upstream that was left here, or will be.
    fn give_up(&self) {
        if let Some(Opened { stream, places }) = self.take() {
            spawn_close(stream, places, going_away());
        }
    }
}

impl Pipe {
    /// Writes a message of the tab. Returns true if it is out, so that the tab may send as much
    /// again.
    fn say(&mut self, ctx: &mut Ctx<'_>, message: OwnedPayload) -> bool {
        let written = self.ws.write(to_upstream(message));
        match is_done(written) {
            Ok(_) => self.flush(ctx),
            // Reading tells more about the end. Until then the tab may send no more.
            Err(_) => false,
        }
    }

    /// Writes what is not out. Returns true if nothing is left.
    fn flush(&mut self, ctx: &mut Ctx<'_>) -> bool {
        // Reading tells more about the end. What could not be written is kept until then.
        let is_out = is_done(self.ws.flush()).unwrap_or(false);
        self.is_unflushed = !is_out;
        if is_out && self.owed > 0 {
            ctx.return_credit(std::mem::take(&mut self.owed));
        }
        is_out
    }

    /// Goes on in both directions as far as possible. Returns what ended one of them.
    fn go_on(&mut self, ctx: &mut Ctx<'_>) -> Option<End> {
        let ready = std::mem::take(&mut ctx.ready);
        if ready.is_stopped {
            return Some(End::Stopped);
        }
        self.ws.get_mut().begin_turn();
        if ready.to_read {
            self.ws.get_mut().has_news(ready.is_ending);
        }
        if self.is_unflushed {
            self.flush(ctx);
        }
        let end = self.hear(ctx);
        let is_over = |(until, _): &(Instant, AbortHandle)| *until <= Instant::now();
        end.or_else(|| self.patience.as_ref().is_some_and(is_over).then_some(End::Parked))
    }

    /// Takes messages of the upstream as long as the tab takes them. Returns what ended it.
    fn hear(&mut self, ctx: &mut Ctx<'_>) -> Option<End> {
        let mut heard = 0;
        while heard < TURN {
            if let Some(message) = self.next.take() {
                let Some(payload) = payload(&message) else { continue };
                match ctx.send(payload) {
                    Ok(()) => {}
                    // `writable` comes again when there is room.
                    Err(SendError::Full) => {
                        self.next = Some(message);
                        return None;
                    }
                    // Nothing longer is read, and `close` tells of the end.
                    Err(_) => return None,
                }
            }
            let message = match self.ws.read() {
                Ok(Message::Close(frame)) => return Some(End::Upstream(frame)),
                Ok(message) => message,
                Err(error) => {
                    let end = is_done(Err(error)).err().map(End::Broken);
                    if end.is_none() && self.ws.get_ref().is_starved() {
                        self.call_again(ctx);
                    }
                    return end;
                }
            };
            heard += MESSAGE + message.len();
            self.next = Some(message);
        }
        self.call_again(ctx);
        None
    }

    /// Has the handler called in the next turn, although nothing happens to the stream.
    fn call_again(&self, ctx: &Ctx<'_>) {
        // An error means that the shard is gone.
        let _ = ctx.sender().poke();
    }

    /// Leaves the upstream to a task that says goodbye.
    fn leave(self, goodbye: Goodbye) {
        let Self { watch, ws, places, patience, .. } = self;
        if let Some((_, caller)) = patience {
            caller.abort();
        }
        drop(watch);
        spawn_close(ws, places, goodbye);
    }
}

/// Returns what of a message is for the tab. Pings of an upstream were answered already.
fn payload(message: &Message) -> Option<Payload<'_>> {
    match message {
        Message::Text(text) => Some(Payload::Text(text.as_str())),
        Message::Binary(bytes) => Some(Payload::Binary(bytes)),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => None,
    }
}

/// Says goodbye to an upstream in a task, which has its places until then.
fn spawn_close(ws: Ws, places: Places, goodbye: Goodbye) {
    // Without a runtime the server is at its end, and its connections with it.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            wire::close(ws, goodbye).await;
            drop(places);
        });
    }
}

/// Has the handler called after a span of time.
fn call_after(ctx: &Ctx<'_>, span: Duration) -> AbortHandle {
    let sender = ctx.sender();
    let calling = tokio::spawn(async move {
        sleep(span).await;
        // An error means that the server is gone.
        let _ = sender.poke();
    });
    calling.abort_handle()
}
