//! The listener. A shard reads what a new connection is for, and answers a request for a link.
//! What needs TLS, a header of the PROXY protocol or a judge is greeted by a task here. Every other
//! connection goes to axum, which does not see that its first bytes were read before.

mod greet;
mod hall;
mod trouble;

use std::{
    collections::VecDeque,
    future::{pending, poll_fn},
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};

pub(crate) use self::greet::{Caller, First};
use self::{
    greet::{Before, Begun, Greeted, greet, linger, refuse},
    hall::{Hall, Left},
    trouble::Trouble,
};
use crate::{
    admission::Cause,
    app::App,
    hosts::Door,
    incoming::{Fresh, Incoming},
    judge::Room,
    listeners::Listener,
    logs::rarely,
    places::Places,
    pulse::Pulse,
    replay::Replay,
    web::Web,
};

/// Who asks for these is let in even when there are too many connections for HTTP.
const VITAL: [&[u8]; 5] = [
    b"GET /healthz ",
    b"GET /livez ",
    b"GET /tabmux/healthz ",
    b"GET /tabmux/livez ",
    b"GET /metrics ",
];
/// How many of them, beyond the limit.
const VITAL_RESERVE: usize = 8;
/// Connections of one listener that are accepted together, before anything else has its turn.
const TOGETHER: usize = 32;
/// When there are too many handshakes, nobody is given up before so long: who means well has said
/// by then what it wants, and those that knock wait in the kernel.
const CHANCE: Duration = Duration::from_millis(500);
/// How long the listener waits for what only a moment ago was sent to a shard.
const BREATH: Duration = Duration::from_millis(1);
/// Handshakes that are remembered at least, before those that are over are sorted out.
const REMEMBERED: usize = 64;

/// A connection that has not yet said what it wants, or whose request is being judged.
struct Greeting {
    began: Instant,
    task: AbortHandle,
    /// Set while its request is being judged: then it has said what it wants, and is never given up
    /// for being the oldest.
    is_judged: Arc<AtomicBool>,
}

/// A listener, and what answers its requests.
pub(crate) struct Ear {
    pub(crate) listener: Listener,
    pub(crate) web: Web,
    pub(crate) door: Door,
    /// Connections begin with a header of the PROXY protocol.
    pub(crate) has_header: bool,
    /// It speaks TLS and nothing else.
    pub(crate) speaks_tls: bool,
}

/// The connections of all listeners that are not yet, or will not be, a shard's.
struct Front {
    app: Arc<App>,
    ears: Vec<Ear>,
    /// The listener that is looked at first the next time.
    next: usize,
    /// Connections that wait in shards, and what the shards give back.
    hall: Arc<Hall>,
    left: mpsc::UnboundedReceiver<Left>,
    /// A shard was told to end a connection, and has not yet done it.
    is_evicting: bool,
    greetings: JoinSet<Greeted>,
    /// Greetings, the oldest first. Some may be over.
    order: VecDeque<Greeting>,
    /// Those that were refused.
    refused: JoinSet<()>,
    http: Places,
}

/// When the next connection may be accepted.
#[derive(Clone, Copy)]
enum When {
    Now,
    /// Not before this, and then the oldest that has said nothing goes.
    From(Instant),
    /// That is known a moment later.
    Unknown,
    /// When a shard has ended one.
    Evicted,
}

/// Accepts connections until `stop` is done; then gives HTTP `grace` to end.
pub(crate) async fn run(
    ears: Vec<Ear>,
    app: Arc<App>,
    stop: impl Future<Output = ()>,
    grace: Duration,
) {
    let (hall, left) = Hall::new(Arc::clone(&app));
    let mut front = Front {
        app,
        ears,
        next: 0,
        hall,
        left,
        is_evicting: false,
        greetings: JoinSet::new(),
        order: VecDeque::new(),
        refused: JoinSet::new(),
        http: Places::default(),
    };
    let mut trouble = Trouble::default();
    tokio::pin!(stop);
    loop {
        let (when, rest) = (front.when(), trouble.until);
        let hall = Arc::clone(&front.hall);
        tokio::select! {
            () = &mut stop => break,
            Some(greeted) = front.greetings.join_next() => {
                match greeted {
                    Ok(Greeted::Http(stream, caller, bytes)) => front.serve(stream, caller, bytes),
                    Ok(Greeted::Refused(stream)) => front.linger(stream),
                    Ok(Greeted::Done) | Err(_) => {}
                }
            }
            Some(_) = front.refused.join_next() => {}
            true = front.http.one_ended() => {}
            Some(left) = front.left.recv() => front.take_back(left),
            () = hall.evicted() => front.is_evicting = false,
            accepted = accept(&front.ears, front.next, when, rest) => match accepted {
                Some((ear, Ok((stream, peer)))) => {
                    trouble.is_over();
                    front.next = ear + 1;
                    front.greet(stream, peer, ear);
                    front.greet_more(ear, &mut trouble);
                }
                Some((_, Err(error))) => trouble.bear(&error),
                None => {}
            }
        }
        front.count();
    }
    front.app.shards.end_knocks();
    let (listeners, webs): (Vec<_>, Vec<_>) =
        front.ears.drain(..).map(|ear| (ear.listener, ear.web)).unzip();
    drop(listeners);
    front.greetings.shutdown().await;
    let end = async {
        for web in webs {
            web.end().await;
        }
    };
    // What is left after that is a request that never ends.
    let _ = timeout(grace, end).await;
    front.http.shutdown().await;
}

/// Accepts when that may be, and the listener has rested. Returns which listener it was, of which
/// the one at `first` is looked at first; nothing if it is to be looked again when that may be.
async fn accept(
    ears: &[Ear],
    first: usize,
    when: When,
    rest: Option<Instant>,
) -> Option<(usize, io::Result<(Fresh, SocketAddr)>)> {
    let from = match when {
        When::Now => rest,
        When::From(from) => rest.max(Some(from)),
        When::Unknown => {
            sleep(BREATH).await;
            return None;
        }
        When::Evicted => return pending().await,
    };
    if let Some(moment) = from {
        sleep_until(moment).await;
    }
    poll_fn(|context| {
        for step in 0..ears.len() {
            let ear = (first + step) % ears.len();
            if let Poll::Ready(accepted) = ears[ear].listener.poll_accept(context) {
                return Poll::Ready(Some((ear, accepted)));
            }
        }
        Poll::Pending
    })
    .await
}

impl Front {
    /// Returns when the next connection may be accepted.
    fn when(&mut self) -> When {
        if self.is_evicting {
            return When::Evicted;
        }
        if self.silent() < self.app.admission.quota().handshakes {
            return When::Now;
        }
        while self.order.pop_front_if(|greeting| greeting.is_past()).is_some() {}
        let greeting = self.order.front().map(|greeting| greeting.began);
        let waiting = self.hall.oldest().map(|(began, _)| began);
        match [greeting, waiting].into_iter().flatten().min() {
            Some(began) => When::From(began + CHANCE),
            None if self.hall.waiting() > 0 => When::Unknown,
            None => When::Now,
        }
    }

    /// Returns how many have not yet said what they want.
    fn silent(&self) -> usize {
        let judged = self.app.room().map_or(0, Room::open);
        self.greetings.len().saturating_sub(judged) + self.hall.waiting()
    }

    /// Accepts those that came together with one.
    fn greet_more(&mut self, ear: usize, trouble: &mut Trouble) {
        for _ in 1..TOGETHER {
            if !matches!(self.when(), When::Now) {
                return;
            }
            match self.ears[ear].listener.try_accept() {
                Ok((stream, peer)) => self.greet(stream, peer, ear),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return trouble.bear(&error),
            }
        }
    }

    /// Learns what a new connection is for. A shard does that, unless something else comes before
    /// the request. If too many keep to themselves what they want, the oldest goes.
    fn greet(&mut self, stream: Fresh, peer: SocketAddr, ear: usize) {
        let Ear { door, has_header, speaks_tls, .. } = self.ears[ear];
        let (began, is_encrypted) = (Instant::now(), speaks_tls);
        let caller = Caller { ear, peer, door, is_hidden: false, is_encrypted, began };
        if !matches!(self.when(), When::Now) {
            self.make_room();
        }
        if has_header || speaks_tls {
            let begun = Begun { stream, bytes: Vec::new(), first: First::Unknown };
            self.spawn(begun, caller, Before { has_header, speaks_tls });
        } else {
            self.hall.enter(stream, caller);
        }
    }

    /// Ends the oldest connection that has said nothing.
    fn make_room(&mut self) {
        let waiting = self.hall.oldest();
        let greeting = self.order.front().map(|greeting| greeting.began);
        match (waiting, greeting) {
            (Some((began, shard)), greeting) if greeting.is_none_or(|other| began <= other) => {
                self.hall.evict(shard);
                self.is_evicting = true;
            }
            (_, Some(_)) => {
                if let Some(oldest) = self.order.pop_front() {
                    oldest.task.abort();
                }
            }
            (_, None) => return,
        }
        self.app.admission.count(Cause::Handshakes, None);
    }

    /// Goes on with a connection that a shard gave back.
    fn take_back(&mut self, left: Left) {
        self.hall.taken();
        let Left { stream, caller, bytes, first } = left;
        if matches!(first, First::Other) {
            match stream.watched() {
                Ok(stream) => self.serve(stream, caller, bytes),
                Err(error) => rarely!(error, "a connection cannot be watched: {error}"),
            }
            return;
        }
        let before = Before { has_header: false, speaks_tls: false };
        self.spawn(Begun { stream, bytes, first }, caller, before);
    }

    /// Greets a connection by a task.
    fn spawn(&mut self, begun: Begun, caller: Caller, before: Before) {
        if self.order.len() >= REMEMBERED.max(2 * self.greetings.len()) {
            self.order.retain(|greeting| !greeting.is_past());
        }
        let (app, is_judged) = (Arc::clone(&self.app), Arc::new(AtomicBool::new(false)));
        let greeting = greet(begun, caller, before, app, Arc::clone(&is_judged));
        let task = self.greetings.spawn(greeting);
        self.order.push_back(Greeting { began: caller.began, task, is_judged });
    }

    fn serve(&mut self, stream: Incoming, caller: Caller, bytes: Vec<u8>) {
        let peer = caller.peer;
        let admission = &self.app.admission;
        let vital = VITAL.iter().any(|vital| bytes.starts_with(vital));
        let reserve = if vital { VITAL_RESERVE } else { 0 };
        let client = self.app.http_client(peer.ip());
        let cause = match self.http.make_room(client, &admission.quota(), reserve) {
            Ok(gone) => {
                (0..gone).for_each(|_| admission.count(Cause::Http, None));
                let pulse = Arc::new(Pulse::new());
                let stream = Replay::new(bytes, stream);
                let serves = self.ears[caller.ear].web.serve(
                    stream,
                    caller.peer,
                    caller.is_encrypted,
                    Arc::clone(&pulse),
                );
                self.http.put(client, pulse, serves);
                return;
            }
            Err(cause) => cause,
        };
        let refusal = admission.refuse(cause, Some(peer.ip()));
        if self.refused.len() >= admission.quota().handshakes {
            return;
        }
        self.refused.spawn(async move {
            if let Greeted::Refused(stream) = refuse(stream, peer, &refusal).await {
                linger(stream).await;
            }
        });
    }

    /// Gives a refusal time to be read. In a crowd nobody gets it: the answer is on its way.
    fn linger(&mut self, stream: Incoming) {
        if self.refused.len() < self.app.admission.quota().handshakes {
            self.refused.spawn(linger(stream));
        }
    }

    /// Tells how many there are.
    fn count(&self) {
        let admission = &self.app.admission;
        admission.handshakes.store(self.silent(), Ordering::Relaxed);
        admission.http.store(self.http.len(), Ordering::Relaxed);
    }
}

impl Greeting {
    /// Returns true if it cannot be given up any more.
    fn is_past(&self) -> bool {
        self.task.is_finished() || self.is_judged.load(Ordering::Relaxed)
    }
}
