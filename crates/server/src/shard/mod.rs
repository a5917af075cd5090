//! The shards: threads that each serve a part of the links, with no task and no buffer for a
//! link that is idle.
//!
//! A shard is an [`EventLoop`] over streams and a [`Service`](service::Service) that knows no
//! streams: [`Sessions`], which is a registry with its handlers. Nothing is shared between
//! shards but their mailboxes and the [`Board`] with the numbers. A session's id names its
//! shard and its node ([`Node`]).
//!
//! A turn: take the mail, read what can be read, do what is due, then give every link that has
//! something to write one write.

pub(crate) mod alone;
mod batch;
pub(crate) mod board;
mod entropy;
mod errands;
mod event_loop;
pub(crate) mod fanout;
pub(crate) mod home;
mod judging;
mod knock;
mod lines;
mod link;
mod lookout;
pub(crate) mod mailbox;
pub(crate) mod node;
mod outgoing;
pub(crate) mod post;
mod recall;
mod rights;
pub(crate) mod service;
mod sessions;
mod slab;
mod stream;
#[cfg(unix)]
pub(crate) mod streams;
#[cfg(feature = "tls")]
mod tls;

use std::{
    io,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use mio::{Poll, Waker};
use tabmux_core::session::{MAX_SHARDS, SessionConfig};
use tokio::{runtime::Handle, sync::watch};
use tracing::error;

#[cfg(unix)]
use self::streams::Streams;
use self::{
    board::Board,
    event_loop::{EventLoop, WAKER},
    fanout::Fanout,
    home::Home,
    link::{Arrival, Origin},
    mailbox::{Mail, Mailbox, Room},
    node::Node,
    post::Word,
    sessions::Sessions,
};
pub(crate) use self::{
    knock::{Knock, Porter, Said},
    service::{Clients, Order, Service},
    stream::{Connection, Io},
};
use crate::{
    Config,
    admission::{Stub, Tickets},
    broker::Broker,
    control::{Control, Desk},
    logs::rarely,
    routes::Routes,
    topics::TopicDesk,
};

/// All shards of a server. When they are dropped, their threads end.
pub(crate) struct Shards {
    mailboxes: Arc<[Arc<Mailbox<Word>>]>,
    board: Arc<Board>,
    fanout: Arc<Fanout>,
    control: Arc<Control>,
    /// Loops whose threads have not begun: the first link begins them, inside a runtime.
    idle: Mutex<Vec<EventLoop<Sessions>>>,
}

impl Shards {
    /// Makes the shards, which begin with the first link. `desk` gets the number of shards and the
    /// places of their links.
    ///
    /// # Errors
    /// When the system gives no epoll.
    pub(crate) fn new(
        config: &Config,
        routes: Routes,
        (broker, topics): (Arc<dyn Broker>, Arc<TopicDesk>),
        desk: impl FnOnce(usize, &Arc<Tickets>) -> Desk,
    ) -> io::Result<Self> {
        let cores = || thread::available_parallelism().map_or(1, NonZero::get);
        let count = if config.shards == 0 { cores() } else { config.shards }.min(MAX_SHARDS);
        let room = Arc::<Room>::default();
        let (polls, mailboxes) = open_mailboxes(count, config.limits.inbox_bytes, &room)?;
        let tickets = Arc::new(Tickets::new(Instant::now()));
        let (routes, board) = (Arc::new(routes), Arc::new(Board::new(count, Arc::clone(&tickets))));
        let fanout = Fanout::new(config, Arc::clone(&mailboxes), room, broker, topics);
        let node = Node(config.node);
        let control = Arc::new(Control {
            board: Arc::clone(&board),
            fanout: Arc::clone(&fanout),
            mailboxes: Arc::clone(&mailboxes),
            node,
            desk: desk(count, &tickets),
        });
        let threshold = config.deflate.threshold_bytes;
        let users = control.desk.identity.is_some();
        let credentials = control.desk.room.is_some();
        let session = SessionConfig {
            users,
            credentials,
            ask_subscriptions: true,
            history: true,
            ..config.session(count)
        };
        let begin = |(index, poll): (usize, Poll)| {
            #[cfg(unix)]
            let streams = Arc::new(Streams::new(poll.registry().try_clone()?));
            let (mailbox, board) = (Arc::clone(&mailboxes[index]), Arc::clone(&board));
            let fanout = Arc::clone(&fanout);
            let control = Arc::clone(&control);
            let home = Home {
                index,
                node,
                mailbox,
                board: Arc::clone(&board),
                fanout,
                control,
                #[cfg(unix)]
                streams,
            };
            let sessions = Sessions::new(home, Arc::clone(&routes), session.clone());
            let mailboxes = Arc::clone(&mailboxes);
            Ok(EventLoop::new(index, poll, sessions, mailboxes, board, threshold))
        };
        let idle = polls.into_iter().enumerate().map(begin).collect::<io::Result<_>>()?;
        Ok(Self { mailboxes, board, fanout, control, idle: Mutex::new(idle) })
    }

    /// Takes a stream whose WebSocket handshake is done, with what was read behind it. The shard
    /// with the fewest links gets it. Must be called inside a tokio runtime: handlers may spawn.
    pub(crate) fn place(&self, connection: Connection, early: Vec<u8>) {
        self.start();
        let Some(mailbox) = self.emptiest() else {
            rarely!(error, "a link is refused: no shard is left; start the server again");
            return;
        };
        send_to(mailbox, &self.board, connection, early);
    }

    /// Takes a connection of which nobody knows what it is for. The shard with the fewest links
    /// gets it. Must be called inside a tokio runtime.
    pub(crate) fn knock(&self, knock: Knock) {
        self.start();
        let Some(mailbox) = self.emptiest() else {
            rarely!(error, "a connection is closed: no shard is left; start the server again");
            return;
        };
        mailbox.stream_came();
        if mailbox.push(Mail::Knock(knock), 0).is_err() {
            mailbox.stream_went();
        }
    }

    /// Ends the connection that has said nothing for the longest time, in one shard.
    pub(crate) fn evict(&self, shard: usize, porter: Arc<dyn Porter>) {
        // A shard that failed drops the mail, and with it its porter's word.
        let _ = self.mailboxes[shard].push(Mail::Evict(porter), 0);
    }

    /// Ends all connections that have said nothing.
    pub(crate) fn end_knocks(&self) {
        for mailbox in &*self.mailboxes {
            let _ = mailbox.push(Mail::EndKnocks, 0);
        }
    }

    /// Returns how many shards there are.
    pub(crate) fn count(&self) -> usize {
        self.mailboxes.len()
    }

    fn emptiest(&self) -> Option<&Arc<Mailbox<Word>>> {
        let open = self.mailboxes.iter().filter(|mailbox| !mailbox.is_closed());
        open.min_by_key(|mailbox| mailbox.streams())
    }

    /// Sends away the first of `slices` equal parts of the links, and refuses new ones.
    pub(crate) fn drain(&self, slices: u32, spread: Duration) {
        self.tell(|| Word::Drain { slices, spread });
    }

    pub(crate) fn close_links(&self) {
        self.tell(|| Word::CloseLinks);
    }

    /// Has handlers close the streams that shards watch for them.
    pub(crate) fn close_streams(&self) {
        #[cfg(unix)]
        self.tell(|| Word::CloseStreams);
    }

    /// Streams of links, those that are closing included.
    pub(crate) fn streams(&self) -> watch::Receiver<usize> {
        self.board.streams()
    }

    pub(crate) const fn fanout(&self) -> &Arc<Fanout> {
        &self.fanout
    }

    pub(crate) const fn control(&self) -> &Arc<Control> {
        &self.control
    }

    pub(crate) const fn board(&self) -> &Arc<Board> {
        &self.board
    }

    fn tell(&self, word: impl Fn() -> Word) {
        for mailbox in &*self.mailboxes {
            // A shard that failed has no links.
            let _ = mailbox.push(Mail::Word(word()), 0);
        }
    }

    fn start(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !idle.is_empty() {
            self.mailboxes.iter().for_each(|mailbox| mailbox.begin());
        }
        for (index, shard) in idle.drain(..).enumerate() {
            let (runtime, board) = (Handle::current(), Arc::clone(&self.board));
            let thread = thread::Builder::new().name(format!("tabmux-{index}"));
            let started = thread.spawn(move || {
                let _inside = runtime.enter();
                match catch_unwind(AssertUnwindSafe(|| shard.run())) {
                    Ok(Ok(())) => {}
                    Ok(Err(fault)) => fail(&board, index, &format!("epoll failed: {fault}")),
                    Err(_) => fail(&board, index, "its thread panicked, as stderr says above"),
                }
            });
            if let Err(fault) = started {
                fail(&self.board, index, &format!("its thread cannot be started: {fault}"));
            }
        }
    }
}

/// Tells the server that a shard failed: its links broke with it, and the others live.
fn fail(board: &Board, shard: usize, why: &str) {
    board.shard_failed(shard);
    // What panicked may be the log.
    let _ = catch_unwind(|| {
        error!("shard {shard} failed, and all its links broke: {why}; start the server again");
    });
}

impl Drop for Shards {
    fn drop(&mut self) {
        for mailbox in &*self.mailboxes {
            mailbox.stop();
        }
    }
}

/// One loop over any service, on a thread of its own.
pub(crate) struct Single<S: Service> {
    mailbox: Arc<Mailbox<S::Word>>,
    board: Arc<Board>,
}

impl<S: Service> Single<S> {
    /// `threshold`: the shortest message that is deflated.
    pub(crate) fn start(service: S, threshold: usize) -> io::Result<Self> {
        let (mut polls, mailboxes) = open_mailboxes(1, 0, &Arc::default())?;
        let tickets = Arc::new(Tickets::new(Instant::now()));
        let (mailbox, board) = (Arc::clone(&mailboxes[0]), Arc::new(Board::new(1, tickets)));
        let shared = Arc::clone(&board);
        mailbox.begin();
        if let Some(poll) = polls.pop() {
            let single = EventLoop::new(0, poll, service, mailboxes, shared, threshold);
            thread::spawn(move || {
                if let Err(fault) = single.run() {
                    error!("epoll failed, and all links broke: {fault}");
                }
            });
        }
        Ok(Self { mailbox, board })
    }

    pub(crate) fn place(&self, connection: Connection, early: Vec<u8>) {
        send_to(&self.mailbox, &self.board, connection, early);
    }
}

/// Sends a stream to a shard; one that failed has closed its mailbox.
fn send_to<M>(mailbox: &Mailbox<M>, board: &Board, connection: Connection, early: Vec<u8>) {
    mailbox.stream_came();
    board.stream_came();
    let arrival = Arrival { origin: Origin::Outside(connection), early };
    if mailbox.push(Mail::Arrival(arrival), 0).is_err() {
        mailbox.stream_went();
        // Its ticket went with it.
        board.stream_went(&Stub::NONE);
    }
}

/// One mailbox a shard, and what wakes it.
type Opened<M> = (Vec<Poll>, Arc<[Arc<Mailbox<M>>]>);

fn open_mailboxes<M>(count: usize, limit: usize, room: &Arc<Room>) -> io::Result<Opened<M>> {
    let open = |_| {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        Ok((poll, Arc::new(Mailbox::new(limit, waker, Arc::clone(room)))))
    };
    let (polls, mailboxes): (Vec<_>, Vec<_>) =
        (0..count).map(open).collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
    Ok((polls, mailboxes.into()))
}
