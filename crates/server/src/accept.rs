//! The listener: requests for a link are answered here and go to a shard; every other connection
//! goes to axum, which does not see that its first bytes were read before.

mod greet;
mod trouble;

use std::{
    collections::VecDeque,
    future::poll_fn,
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
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until, timeout},
};

use self::{
    greet::{Before, Begun, Caller, First, Greeted, at_once, greet, linger, refuse},
    trouble::Trouble,
};
use crate::{
    admission::Cause,
    app::App,
    hosts::Door,
    incoming::{Fresh, Incoming},
    judge::Room,
    listeners::Listener,
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
/// What is read at once of a connection that has just come.
const FIRST_READ: usize = 4 << 10;
/// When there are too many handshakes, nobody is given up before so long: who means well has said
/// by then what it wants, and those that knock wait in the kernel.
const CHANCE: Duration = Duration::from_millis(500);
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
    buffer: Box<[u8]>,
    greetings: JoinSet<Greeted>,
    /// Greetings, the oldest first. Some may be over.
    order: VecDeque<Greeting>,
    /// Those that were refused.
    refused: JoinSet<()>,
    http: Places,
}

/// Accepts connections until `stop` is done; then gives HTTP `grace` to end.
pub(crate) async fn run(
    ears: Vec<Ear>,
    app: Arc<App>,
    stop: impl Future<Output = ()>,
    grace: Duration,
) {
    let mut front = Front {
        app,
        ears,
        next: 0,
        buffer: vec![0; FIRST_READ].into(),
        greetings: JoinSet::new(),
        order: VecDeque::new(),
        refused: JoinSet::new(),
        http: Places::default(),
    };
    let mut trouble = Trouble::default();
    tokio::pin!(stop);
    loop {
        let not_before = front.not_before().max(trouble.until);
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
            (ear, accepted) = accept(&front.ears, front.next, not_before) => match accepted {
                Ok((stream, peer)) => {
                    trouble.is_over();
                    front.next = ear + 1;
                    front.greet(stream, peer, ear);
                    front.greet_more(ear, &mut trouble);
                }
                Err(error) => trouble.bear(&error),
            }
        }
        front.count();
    }
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

/// Accepts, but not before a moment. Returns which listener it was, of which the one at `first` is
/// looked at first.
async fn accept(
    ears: &[Ear],
    first: usize,
    not_before: Option<Instant>,
) -> (usize, io::Result<(Fresh, SocketAddr)>) {
    if let Some(moment) = not_before {
        sleep_until(moment).await;
    }
    poll_fn(|context| {
        for step in 0..ears.len() {
            let ear = (first + step) % ears.len();
            if let Poll::Ready(accepted) = ears[ear].listener.poll_accept(context) {
                return Poll::Ready((ear, accepted));
            }
        }
        Poll::Pending
    })
    .await
}

impl Front {
    /// When the next connection may be accepted, if not now.
    fn not_before(&mut self) -> Option<Instant> {
        if self.silent() < self.app.admission.quota().handshakes {
            return None;
        }
        while self.order.pop_front_if(|greeting| greeting.is_past()).is_some() {}
        self.order.front().map(|greeting| greeting.began + CHANCE)
    }

    /// Returns how many have not yet said what they want.
    fn silent(&self) -> usize {
        let judged = self.app.room().map_or(0, Room::open);
        self.greetings.len().saturating_sub(judged)
    }

    /// Accepts those that came together with one.
    fn greet_more(&mut self, ear: usize, trouble: &mut Trouble) {
        for _ in 1..TOGETHER {
            if self.not_before().is_some() {
                return;
            }
            match self.ears[ear].listener.try_accept() {
                Ok((stream, peer)) => self.greet(stream, peer, ear),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return trouble.bear(&error),
            }
        }
    }

    /// Learns what a new connection is for. A request for a link that is there already is answered
    /// here, without a task. If too many keep to themselves what they want, the oldest goes.
    fn greet(&mut self, stream: Fresh, peer: SocketAddr, ear: usize) {
        let Ear { door, has_header, speaks_tls, .. } = self.ears[ear];
        let caller = Caller { ear, peer, door, is_hidden: false, began: Instant::now() };
        let begun = if has_header || speaks_tls {
            Begun { stream, bytes: Vec::new(), first: First::Unknown }
        } else {
            match at_once(stream, caller, &self.app, &mut self.buffer) {
                Some(begun) => begun,
                None => return,
            }
        };
        if self.not_before().is_some()
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.task.abort();
            self.app.admission.count(Cause::Handshakes, None);
        }
        if self.order.len() >= REMEMBERED.max(2 * self.greetings.len()) {
            self.order.retain(|greeting| !greeting.is_past());
        }
        let (app, is_judged) = (Arc::clone(&self.app), Arc::new(AtomicBool::new(false)));
        let before = Before { has_header, speaks_tls };
        let greeting = greet(begun, caller, before, app, Arc::clone(&is_judged));
        let task = self.greetings.spawn(greeting);
        self.order.push_back(Greeting { began: Instant::now(), task, is_judged });
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
                let serves = self.ears[caller.ear].web.serve(stream, peer, Arc::clone(&pulse));
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
