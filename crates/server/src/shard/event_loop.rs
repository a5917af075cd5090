//! The loop of one shard: one thread, one epoll, one read buffer, and all its links.

mod knocking;
mod pending;
mod writing;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

use mio::{Events, Poll, Token, event::Event};
use tabmux_core::{
    Timestamp,
    session::{LinkId, Pace},
};
use tracing::debug;

use super::{
    batch::Batch,
    board::Board,
    knock::{Porter, Waiting},
    link::{Arrival, Link, Origin, Phase},
    mailbox::{Mail, Mailbox},
    outgoing::CORK,
    service::Service,
    slab::{Slab, place},
    stream::Stream,
};
#[cfg(unix)]
use super::{
    service::{Moment, Ready},
    streams::is_stream,
};
use crate::{
    Handshake,
    admission::Stub,
    logs::rarely,
    ws::{self, Accept, Deflater, Inflater, Kind},
};

/// The token of the waker; links have those of their places.
pub(super) const WAKER: Token = Token(usize::MAX);
/// What is read at once, of whichever link.
const READ_BUFFER: usize = 64 << 10;
/// Reads of one link a turn: then the others come first.
const READS: usize = 4;
const EVENTS: usize = 1_024;
/// Bytes for one link after which a turn is settled before it ends: else a burst would look as if
/// the link had not read.
const BURST: usize = 32 << 10;
/// How long a closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A shard's loop.
pub(super) struct EventLoop<S: Service> {
    index: usize,
    poll: Poll,
    service: S,
    /// Of all shards; the one at `index` is its own.
    mailboxes: Arc<[Arc<Mailbox<S::Word>>]>,
    board: Arc<Board>,
    links: Slab<Link>,
    buffer: Box<[u8]>,
    /// Where small frames are gathered for one write.
    cork: Vec<u8>,
    /// For all links that agreed to it.
    deflater: Deflater,
    inflater: Inflater,
    /// The publications of this turn, as long as they all go to the same links and nothing else
    /// is sent.
    batch: Option<Batch>,
    /// Links that have something to write.
    dirty: Vec<LinkId>,
    /// The list of the last time, empty: a burst does not grow a new one each turn.
    flushing: Vec<LinkId>,
    /// Bytes that any one link got at most since the last settling, its publications and its own
    /// messages looked at apart.
    burst: usize,
    pace: Pace,
    /// Links that are read no further for now, and when they are again.
    paused: BTreeSet<(Timestamp, LinkId)>,
    /// Connections that have not said what they are for, and the order in which they came. Some of
    /// the latter may be gone.
    knocks: BTreeMap<LinkId, Waiting>,
    knocked: VecDeque<(Timestamp, LinkId)>,
    /// The oldest of them that the porter was told.
    told_oldest: Option<(LinkId, Arc<dyn Porter>)>,
    /// What was read behind the first message of links that are pending.
    held: BTreeMap<LinkId, Vec<u8>>,
    /// Messages of the read in progress, and what of them came of inflating.
    messages: usize,
    inflated: usize,
    /// Links that were not read to the end, and whether that end is near.
    unread: Vec<(LinkId, bool)>,
    /// When links that are closing are given up. The oldest first: they all get the same time.
    closing: VecDeque<(Timestamp, LinkId)>,
    stopped: bool,
}

impl<S: Service> EventLoop<S> {
    pub(super) fn new(
        index: usize,
        poll: Poll,
        service: S,
        mailboxes: Arc<[Arc<Mailbox<S::Word>>]>,
        board: Arc<Board>,
        threshold: usize,
    ) -> Self {
        let pace = service.pace();
        Self {
            index,
            poll,
            service,
            mailboxes,
            board,
            links: Slab::new(),
            buffer: vec![0; READ_BUFFER].into(),
            cork: Vec::with_capacity(CORK),
            deflater: Deflater::new(threshold),
            inflater: Inflater::default(),
            batch: None,
            dirty: Vec::new(),
            flushing: Vec::new(),
            burst: 0,
            pace,
            paused: BTreeSet::new(),
            knocks: BTreeMap::new(),
            knocked: VecDeque::new(),
            told_oldest: None,
            held: BTreeMap::new(),
            messages: 0,
            inflated: 0,
            unread: Vec::new(),
            closing: VecDeque::new(),
            stopped: false,
        }
    }

    /// Runs until the server is gone; an error when it cannot wait for its links any more.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.stopped {
            match self.poll.poll(&mut events, self.nap()) {
                Ok(()) => self.turn(&events),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How long there is nothing to do unless something happens.
    fn nap(&self) -> Option<Duration> {
        if !self.unread.is_empty() || !self.dirty.is_empty() || self.batch.is_some() {
            return Some(Duration::ZERO);
        }
        let closing = self.closing.front().map(|(at, _)| *at);
        let paused = self.paused.first().map(|(at, _)| *at);
        let next = [closing, paused, self.patience(), self.service.deadline()]
            .into_iter()
            .flatten()
            .min()?;
        Some(next.saturating_since(self.board.now()))
    }

    fn turn(&mut self, events: &Events) {
        let now = self.board.now();
        let (mails, since) = self.mailbox().take();
        let mut mails = mails.into_iter().peekable();
        while let Some(mail) = mails.next() {
            let waits = self.open_mail(now, mail);
            if waits && matches!(mails.peek(), Some(Mail::Word(_))) {
                continue;
            }
            self.carry_out(now);
            if self.burst > BURST {
                self.settle(now);
            }
        }
        for (link, ending) in std::mem::take(&mut self.unread) {
            self.read(now, link, ending);
        }
        for event in events {
            self.on_event(now, event);
            // What handlers answered at length is written before others make them answer.
            if self.burst > BURST {
                self.settle(now);
            }
        }
        while let Some(&(at, link)) = self.paused.first().filter(|(at, _)| *at <= now) {
            self.paused.remove(&(at, link));
            // No event told of an end that came meanwhile.
            self.read(now, link, true);
        }
        self.service.wake(now);
        while let Some((_, link)) = self.closing.pop_front_if(|(at, _)| *at <= now) {
            self.drop_link(link);
        }
        self.end_silent(now);
        self.settle(now);
        if let Some(since) = since {
            self.board.mail_took(since.elapsed());
        }
    }

    fn mailbox(&self) -> &Mailbox<S::Word> {
        &self.mailboxes[self.index]
    }

    /// Whether what it orders may wait for the next word.
    fn open_mail(&mut self, now: Timestamp, mail: Mail<S::Word>) -> bool {
        match mail {
            Mail::Arrival(arrival) => self.open_link(now, arrival),
            Mail::Knock(knock) => self.on_knock(now, knock),
            Mail::Evict(porter) => self.evict(&*porter),
            Mail::EndKnocks => self.end_knocks(),
            Mail::Word(word) => return self.service.word(now, word, &self.links),
            Mail::Stop => {
                self.service.stop(now);
                self.stopped = true;
            }
        }
        false
    }

    fn on_event(&mut self, now: Timestamp, event: &Event) {
        #[cfg(unix)]
        if is_stream(event.token()) {
            let at = Moment { now, clients: &self.links };
            self.service.stream_ready(at, event.token(), Ready::of(event));
            return self.carry_out(now);
        }
        let Some(link) = self.links.at(event.token().0) else {
            return;
        };
        if self.is_knocking(link) {
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.hear_knock(now, link);
            }
            return;
        }
        if event.is_writable()
            && let Some(state) = self.links.get_mut(link)
            && (state.stream.push() | state.out.unblock())
        {
            self.mark(link);
        }
        if self.is_held(link) {
            // One that leaves takes its question with it. Nothing else is looked at.
            if event.is_read_closed() || event.is_error() {
                self.lose(now, link);
            }
            return;
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(now, link, event.is_read_closed() || event.is_error());
        }
    }

    fn open_link(&mut self, now: Timestamp, arrival: Arrival) {
        let (link, first, handshake) = match arrival.origin {
            Origin::Outside(mut connection) => {
                let (inflates, handshake) = (connection.inflates, connection.take_handshake());
                (Link::new(Stream::from(connection), inflates), None, handshake)
            }
            Origin::Shard { link, first, handshake } => (link, Some(first), handshake),
        };
        let stub = link.stream.stub().clone();
        let Some(id) = self.watch(link) else {
            self.stream_went(&stub);
            return;
        };
        self.begin(now, id, first, handshake, arrival.early);
    }

    /// Watches the stream of a link. Returns nothing if that fails.
    fn watch(&mut self, link: Link) -> Option<LinkId> {
        let (registry, mut link) = (self.poll.registry(), Some(link));
        self.links.insert_with(|id| {
            let mut link = link.take()?;
            match link.stream.register(registry, Token(place(id) as usize)) {
                Ok(()) => Some(link),
                Err(error) => {
                    rarely!(error, "a link cannot be watched: {error}");
                    None
                }
            }
        })
    }

    /// Begins a link with its first message, if that was read elsewhere, and what was read behind.
    fn begin(
        &mut self,
        now: Timestamp,
        id: LinkId,
        first: Option<(Kind, Vec<u8>)>,
        handshake: Option<Box<Handshake>>,
        mut early: Vec<u8>,
    ) {
        let visitor = self.links.get(id).and_then(|link| link.stream.stub().visitor().cloned());
        if !self.service.opened(now, id, visitor.as_ref(), handshake) {
            self.drop_link(id);
            return;
        }
        if let Some(link) = self.links.get_mut(id) {
            debug!(shard = self.index, link = id.0, address = link.stream.peer(), "link open");
        }
        if let Some((kind, bytes)) = first {
            self.mark(id);
            self.service.message(now, id, kind, &bytes);
        }
        if !self.hold_pending(id, &early) {
            self.take_in(now, id, &mut early);
        }
        if self.links.get_mut(id).is_some_and(|link| link.stream.may_hold()) {
            self.unread.push((id, false));
        }
        self.tell_memory(now, id);
    }

    /// Tells the service what memory is held for a link, if that may have changed.
    fn tell_memory(&mut self, now: Timestamp, id: LinkId) {
        if let Some(link) = self.links.get_mut(id)
            && let Some(bytes) = link.news_of_memory(self.held.get(&id).map_or(0, Vec::len))
        {
            self.service.holds(now, id, bytes);
        }
    }

    /// Reads what a link has; what is more than its share of the turn waits for the next one.
    fn read(&mut self, now: Timestamp, id: LinkId, ending: bool) {
        let used = self.links.get_mut(id).map_or(Timestamp::default(), |link| link.used);
        if self.pace.pause(used, now).is_some() || self.is_held(id) {
            return;
        }
        self.take_held(now, id);
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut more = true;
        for _ in 0..READS {
            more = more && self.read_once(now, id, &mut buffer, ending);
        }
        self.buffer = buffer;
        if more {
            self.unread.push((id, ending));
        }
    }

    /// Whether there may be more to read. A buffer that was not filled was all there is, unless
    /// the end of the stream is behind it, of which no other event will tell.
    fn read_once(&mut self, now: Timestamp, id: LinkId, buffer: &mut [u8], ending: bool) -> bool {
        let Some(link) = self.links.get_mut(id) else {
            return false;
        };
        match link.read(buffer) {
            Ok(Some(len @ 1..)) => {
                (self.messages, self.inflated) = (0, 0);
                self.take_in(now, id, &mut buffer[..len]);
                if self.messages == 0 {
                    self.service.heard(now, id);
                }
                self.carry_out(now);
                self.tell_memory(now, id);
                !self.charge(now, id, len + self.inflated) && (len == buffer.len() || ending)
            }
            Ok(None) => {
                // A part of a TLS record may have come.
                self.tell_memory(now, id);
                false
            }
            Ok(Some(_)) | Err(_) => {
                self.lose(now, id);
                false
            }
        }
    }

    /// Counts what was read; whether the link is to be read no further for now.
    fn charge(&mut self, now: Timestamp, id: LinkId, bytes: usize) -> bool {
        let Some(link) = self.links.get_mut(id) else {
            return false;
        };
        link.used = self.pace.charge(link.used, now, self.messages, bytes);
        let Some(until) = self.pace.pause(link.used, now) else {
            return false;
        };
        self.paused.insert((until, id));
        self.board.link_paused();
        true
    }

    /// Takes what was read.
    fn take_in(&mut self, now: Timestamp, id: LinkId, mut bytes: &mut [u8]) {
        let limits = [self.service.message_limit(), self.service.first_message_limit()];
        while let Some(link) = self.links.get_mut(id) {
            let limit = limits[usize::from(link.fresh)];
            if !matches!(link.phase, Phase::Open | Phase::Closing) {
                return;
            }
            let open = link.phase == Phase::Open;
            let accept = Accept { limit, deflate: link.inflates };
            let event = match link.decoder.next(&mut bytes, accept) {
                Ok(Some(ws::Event::Deflated(kind, message))) if open => {
                    self.inflater.inflate(kind, message, limit).map(|message| {
                        self.inflated += message.len();
                        Some(ws::Event::Message(kind, message))
                    })
                }
                event => event,
            };
            match event {
                Ok(None) => return,
                Ok(Some(ws::Event::Message(kind, message))) if open => {
                    self.messages += 1;
                    let fresh = std::mem::take(&mut link.fresh);
                    let home = if fresh { self.service.home(message) } else { None };
                    // A session of a shard that failed is lost: the link begins another one here.
                    let lives = |home: &usize| {
                        self.mailboxes.get(*home).is_some_and(|mailbox| !mailbox.is_closed())
                    };
                    if let Some(home) = home.filter(|home| *home != self.index).filter(lives) {
                        let message = message.to_vec();
                        return self.move_link(now, id, home, (kind, message), bytes);
                    }
                    self.service.message(now, id, kind, message);
                    if fresh && self.hold_pending(id, bytes) {
                        return;
                    }
                }
                Ok(Some(ws::Event::Ping(payload))) if open => {
                    link.out.put_pong(payload);
                    self.mark(id);
                }
                Ok(Some(ws::Event::Close(close))) => {
                    let code = close.map(|(code, _)| code);
                    self.finish(now, id, code, "", Phase::Leaving);
                }
                Ok(Some(_)) => {}
                Err(fault) => {
                    if open {
                        let (shard, link) = (self.index, id.0);
                        rarely!(warn, shard, link, "link closed: {fault}");
                    }
                    let code = Some(fault.code());
                    self.finish(now, id, code, &fault.to_string(), Phase::Deaf);
                }
            }
        }
    }

    /// Ends the reading of a link. What came before is answered first.
    fn finish(
        &mut self,
        now: Timestamp,
        id: LinkId,
        code: Option<u16>,
        reason: &str,
        phase: Phase,
    ) {
        self.carry_out(now);
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        if link.phase == Phase::Open {
            link.out.put_close(code.map(|code| (code, reason)));
            self.service.closed(now, id);
        }
        self.enter(now, id, phase);
    }

    /// Gives a link to the shard that its first message names.
    fn move_link(
        &mut self,
        now: Timestamp,
        id: LinkId,
        home: usize,
        first: (Kind, Vec<u8>),
        early: &[u8],
    ) {
        let handshake = self.service.leaves(id);
        self.service.closed(now, id);
        let Some(mut link) = self.links.remove(id) else {
            return;
        };
        self.mailbox().stream_went();
        let stub = link.stream.stub().clone();
        let left = link.stream.deregister(self.poll.registry());
        link.dirty = false;
        let origin = Origin::Shard { link, first, handshake };
        let mail = Mail::Arrival(Arrival { origin, early: early.to_vec() });
        let home = &self.mailboxes[home];
        home.stream_came();
        if left.is_err() || home.push(mail, 0).is_err() {
            home.stream_went();
            self.board.stream_went(&stub);
        }
    }

    /// Puts a link on the list of those that have something to write.
    fn mark(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(id)
            && !std::mem::replace(&mut link.dirty, true)
        {
            self.dirty.push(id);
        }
    }

    /// Brings a link nearer to its end, which it gets a limited time for.
    fn enter(&mut self, now: Timestamp, id: LinkId, phase: Phase) {
        if let Some(link) = self.links.get_mut(id) {
            if std::mem::replace(&mut link.phase, phase) == Phase::Open {
                self.closing.push_back((now + CLOSE_TIMEOUT, id));
                self.release(id);
            }
            self.mark(id);
        }
    }

    /// A stream ended or broke.
    fn lose(&mut self, now: Timestamp, id: LinkId) {
        if self.links.get_mut(id).is_some_and(|link| link.phase == Phase::Open) {
            self.service.closed(now, id);
        }
        self.drop_link(id);
    }

    fn drop_link(&mut self, id: LinkId) {
        self.held.remove(&id);
        if let Some(link) = self.links.remove(id) {
            if link.phase == Phase::Knocking {
                self.knocks.remove(&id);
                self.mailbox().stream_went();
                return;
            }
            let stub = link.stream.stub().clone();
            // Before its place is free, its file descriptor is.
            drop(link);
            self.stream_went(&stub);
        }
    }

    fn stream_went(&self, stub: &Stub) {
        self.mailbox().stream_went();
        self.board.stream_went(stub);
    }
}

/// The end of the server, or of a shard that failed: its links break, the others live.
impl<S: Service> Drop for EventLoop<S> {
    fn drop(&mut self) {
        for mail in self.mailbox().close() {
            match mail {
                Mail::Arrival(Arrival { origin: Origin::Shard { link, .. }, .. }) => {
                    self.stream_went(link.stream.stub());
                }
                // Its ticket goes with it.
                Mail::Arrival(_) => self.stream_went(&Stub::NONE),
                Mail::Knock(_) => self.mailbox().stream_went(),
                Mail::Evict(porter) => porter.evicted(),
                Mail::EndKnocks | Mail::Word(_) | Mail::Stop => {}
            }
        }
        for place in 0..self.links.places() {
            if let Some(id) = self.links.at(place) {
                self.drop_link(id);
            }
        }
    }
}
