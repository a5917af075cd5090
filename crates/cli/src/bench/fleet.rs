//! Many links on one thread.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    io::{self, ErrorKind, Read},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};
use socket2::{Domain, Socket, Type};

use super::{
    link::{End, Link, News, Scene, State},
    stamp::Clock,
    tally::{Tally, count},
};

/// Links from one source address of the loopback. Its ports run out near 28,000.
const LINKS_A_SOURCE: usize = 25_000;
/// How long a refused link waits before it tries again, if the server gave no hint.
const RETRY: Duration = Duration::from_millis(100);
/// Errors of `connect` that are final. Any other error is seen later, at the stream.
const FINAL: [ErrorKind; 5] = [
    ErrorKind::AddrInUse,
    ErrorKind::AddrNotAvailable,
    ErrorKind::ConnectionRefused,
    ErrorKind::NetworkUnreachable,
    ErrorKind::PermissionDenied,
];
/// Descriptors that the process needs besides those of its links.
const OTHER_FILES: usize = 64;

/// The links that a fleet opens, and what they do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The address of the server.
    pub address: SocketAddr,
    /// The path and the query of the WebSocket.
    pub path: String,
    /// The protocol that the links speak.
    pub speech: Speech,
    /// Largest number of links that may be opening at once.
    pub in_flight: usize,
    /// Largest number of links to begin per second. `None` means as many as the server accepts.
    pub ramp: Option<f64>,
    /// What to do when an attempt fails.
    pub retry: Retry,
    /// How long to wait, and to try again, while no link opens.
    pub patience: Duration,
}

/// What to do when an attempt to open a link fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The fleet does not try again. The link counts as refused.
    Never,
    /// The fleet tries again if the server told when to come back.
    WhenTold,
    /// The fleet tries again, whatever the reason was, as a hub does.
    Always,
}

/// The protocol that a link speaks.
#[derive(Clone, Debug)]
pub enum Speech {
    /// A plain WebSocket, on which the server sends all publications.
    Plain,
    /// The protocol of tabmux, with tabs and topics.
    Tabmux {
        /// Number of tabs that each link attaches.
        tabs: u32,
        /// The topics that each link subscribes to.
        topics: Topics,
    },
}

/// The topics of a fleet, and which link subscribes to which.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    /// Topics that every link subscribes to.
    pub common: Vec<String>,
    /// Topics that are dealt out to the links in turn.
    pub dealt: Vec<String>,
    /// How many of the dealt topics each link gets.
    pub per_link: usize,
}

impl Topics {
    /// Returns the number of topics.
    #[must_use]
    pub fn len(&self) -> usize {
        self.common.len() + self.dealt.len()
    }

    /// Returns true if there is no topic.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the name of the topic with this index.
    ///
    /// # Panics
    /// Panics if there is no such topic.
    #[must_use]
    pub fn name(&self, place: usize) -> &str {
        match self.common.get(place) {
            Some(name) => name,
            None => &self.dealt[place - self.common.len()],
        }
    }

    /// Returns the indices of the topics that a link subscribes to.
    pub(super) fn of(&self, link: usize) -> impl Iterator<Item = usize> {
        let (common, all) = (self.common.len(), self.dealt.len());
        let dealt =
            (0..self.per_link.min(all)).map(move |i| common + (link * self.per_link + i) % all);
        (0..common).chain(dealt)
    }
}

impl Speech {
    const fn topics(&self) -> Option<&Topics> {
        match self {
            Self::Plain => None,
            Self::Tabmux { topics, .. } => Some(topics),
        }
    }
}

/// Many links on one thread. They do something only while one of its methods runs.
#[derive(Debug)]
pub struct Fleet {
    plan: Plan,
    clock: Clock,
    poll: Poll,
    events: Events,
    /// The links. The index of a link is also its token at the poll.
    links: Vec<Option<Link>>,
    buffer: Vec<u8>,
    /// Number of links that are opening.
    opening: usize,
    heartbeat: Option<Duration>,
    /// The times of the next PINGs. All links have the same interval, so the first entry is always
    /// due first.
    pings: VecDeque<(Instant, usize)>,
    retries: BinaryHeap<Reverse<(Instant, usize)>>,
    tally: Tally,
}

impl Fleet {
    /// Returns a fleet without links.
    ///
    /// # Errors
    /// Returns an error if the kernel gives no epoll.
    pub fn new(plan: Plan, clock: Clock) -> io::Result<Self> {
        let topics = plan.speech.topics().map_or(0, Topics::len);
        Ok(Self {
            plan,
            clock,
            poll: Poll::new()?,
            events: Events::with_capacity(1_024),
            links: Vec::new(),
            buffer: vec![0; 256 << 10],
            opening: 0,
            heartbeat: None,
            pings: VecDeque::new(),
            retries: BinaryHeap::new(),
            tally: Tally::new(topics),
        })
    }

    /// Returns what was counted so far.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Forgets the latencies that were measured so far.
    pub fn forget_latency(&mut self) {
        self.tally.latency.reset();
    }

    /// Opens links until `links` were begun and each is ready or refused. Calls `watch` now and
    /// then, and stops if it returns false.
    ///
    /// # Errors
    /// Returns an error if epoll fails, or if no socket can be made.
    pub fn grow(
        &mut self,
        links: usize,
        watch: &mut dyn FnMut(&Tally) -> bool,
    ) -> io::Result<Duration> {
        let (start, before) = (Instant::now(), self.links.len());
        let mut seen = (Instant::now(), 0);
        while self.links.len() < links || self.opening > 0 || !self.retries.is_empty() {
            let due = self.due(before, start.elapsed());
            while self.links.len() < links.min(due) && self.opening < self.plan.in_flight {
                self.links.push(None);
                self.tally.begun += 1;
                self.dial(self.links.len() - 1)?;
            }
            self.turn(Duration::from_millis(5))?;
            // Only links that become ready count as progress. A link that comes back later does
            // not.
            let ready = self.tally.ready;
            if seen.1 != ready {
                seen = (Instant::now(), ready);
            } else if seen.0.elapsed() > self.plan.patience {
                self.give_up();
            }
            if !watch(&self.tally) {
                break;
            }
        }
        Ok(start.elapsed())
    }

    /// Returns how many links may have been begun by now.
    fn due(&self, before: usize, elapsed: Duration) -> usize {
        match self.plan.ramp {
            None => usize::MAX,
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "links")]
            Some(rate) => before + 1 + (rate * elapsed.as_secs_f64()) as usize,
        }
    }

    /// Waits at most `at_most` for messages of the server, and handles them.
    ///
    /// # Errors
    /// Returns an error if epoll fails, or if no socket can be made.
    pub fn turn(&mut self, at_most: Duration) -> io::Result<()> {
        let now = Instant::now();
        let next = [self.pings.front().map(|ping| ping.0), self.retries.peek().map(|r| r.0.0)];
        let wait = next.into_iter().flatten().map(|due| due.saturating_duration_since(now)).min();
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(wait.map_or(at_most, |wait| wait.min(at_most)))) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            let closed = event.is_read_closed() || event.is_error();
            self.serve(event.token().0, event.is_writable(), event.is_readable() || closed, closed);
        }
        self.events = events;
        self.do_what_is_due()
    }

    fn do_what_is_due(&mut self) -> io::Result<()> {
        let now = Instant::now();
        while let Some(&(_, number)) = self.pings.front().filter(|ping| ping.0 <= now) {
            self.pings.pop_front();
            let ready = self.links[number].as_mut().filter(|link| link.state == State::Ready);
            match ready.map(Link::ping) {
                None => {}
                Some(Ok(())) => self.schedule_ping(now, number),
                Some(Err(end)) => self.end(number, end),
            }
        }
        while let Some(&Reverse((_, number))) = self.retries.peek().filter(|r| r.0.0 <= now) {
            self.retries.pop();
            self.dial(number)?;
        }
        Ok(())
    }

    fn schedule_ping(&mut self, now: Instant, number: usize) {
        if let Some(heartbeat) = self.heartbeat {
            self.pings.push_back((now + heartbeat, number));
        }
    }

    fn dial(&mut self, number: usize) -> io::Result<()> {
        let mut stream = match connect(&self.plan, number) {
            Ok(stream) => stream,
            Err(error) => {
                self.refused(number, End::of(&error));
                return Ok(());
            }
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(number), interest)?;
        self.links[number] = Some(Link::new(stream, &self.plan));
        self.opening += 1;
        Ok(())
    }

    fn serve(&mut self, number: usize, writable: bool, readable: bool, closed: bool) {
        if let Err(end) = self.try_serve(number, writable, readable, closed) {
            self.end(number, end);
        }
    }

    fn try_serve(
        &mut self,
        number: usize,
        writable: bool,
        readable: bool,
        closed: bool,
    ) -> Result<(), End> {
        let Some(link) = self.links[number].as_mut() else {
            return Ok(());
        };
        if writable {
            link.connected(&self.plan)?;
            link.writable()?;
        }
        if readable { self.read(number, closed) } else { Ok(()) }
    }

    /// Reads all bytes that have arrived.
    fn read(&mut self, number: usize, closed: bool) -> Result<(), End> {
        while let Some(link) = self.links[number].as_mut() {
            match link.stream.read(&mut self.buffer) {
                Ok(0) => return Err(End::new("the connection ended")),
                Ok(len) => {
                    let (plan, clock, tally) = (&self.plan, &self.clock, &mut self.tally);
                    let mut scene = Scene { plan, clock, tally, number };
                    let news = link.take(&self.buffer[..len], &mut scene)?;
                    self.hear(number, &news);
                    // A buffer that was not filled holds all bytes that there are, unless the
                    // connection was closed.
                    if len < self.buffer.len() && !closed {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(End::of(&error)),
            }
        }
        Ok(())
    }

    fn hear(&mut self, number: usize, news: &News) {
        if let Some(millis) = news.heartbeat_ms {
            self.heartbeat = Some(Duration::from_millis(millis.max(1)));
        }
        if news.ready {
            self.opening -= 1;
            self.tally.ready += 1;
            self.schedule_ping(Instant::now(), number);
        }
    }

    fn end(&mut self, number: usize, end: End) {
        let Some(link) = self.links[number].take() else {
            return;
        };
        if link.state == State::Ready {
            self.tally.ready -= 1;
            count(&mut self.tally.lost, end.why);
            return;
        }
        self.opening -= 1;
        self.refused(number, end);
    }

    fn refused(&mut self, number: usize, end: End) {
        count(&mut self.tally.refused, end.why);
        let told = end.retry_ms.map(Duration::from_millis);
        let wait = match self.plan.retry {
            Retry::Never => None,
            Retry::WhenTold => told,
            Retry::Always => Some(told.unwrap_or(RETRY)),
        };
        if let Some(wait) = wait {
            self.retries.push(Reverse((Instant::now() + wait, number)));
        }
    }

    /// Called when no link has opened for too long. Ends the links that are still opening.
    fn give_up(&mut self) {
        self.retries.clear();
        self.plan.retry = Retry::Never;
        for number in 0..self.links.len() {
            if self.links[number].as_ref().is_some_and(|link| link.state != State::Ready) {
                self.end(
                    number,
                    End::new(format!("no answer for {} s", self.plan.patience.as_secs())),
                );
            }
        }
    }
}

/// Returns a connection that is being made. It comes from another loopback address if one has too
/// few ports.
fn connect(plan: &Plan, number: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(plan.address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source(plan.address.ip(), number) {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(&plan.address.into()) {
        // A connection in progress is reported by an error kind that is not stable yet, or by
        // another kind on Windows.
        Err(error) if FINAL.contains(&error.kind()) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Returns the source address of a link if the kernel's choice would run out of ports.
fn source(server: IpAddr, number: usize) -> Option<Ipv4Addr> {
    let group = u8::try_from(number / LINKS_A_SOURCE).ok().filter(|&group| group > 0)?;
    let near = matches!(server, IpAddr::V4(address) if address.is_loopback());
    near.then(|| Ipv4Addr::new(127, 0, 0, group.saturating_add(1)))
}

/// Raises this process's limit of open files, so that it can open this many links.
///
/// # Errors
/// Returns an error if the hard limit is too low. The text says how many files are missing.
pub fn need_files(links: usize) -> Result<(), String> {
    let wanted = (links + OTHER_FILES) as u64;
    let allowed = rlimit::increase_nofile_limit(wanted).map_err(|error| error.to_string())?;
    if allowed >= wanted {
        return Ok(());
    }
    Err(format!(
        "{links} links need {wanted} open files, this process may have {allowed}: {} are missing. \
         Raise the hard limit (as root: ulimit -Hn {wanted}), or use --links {}",
        wanted - allowed,
        allowed.saturating_sub(OTHER_FILES as u64)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_beyond_what_one_address_has_ports_for_come_from_the_next() {
        let server = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(source(server, 24_999), None);
        assert_eq!(source(server, 25_000), Some(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(source(server, 99_999), Some(Ipv4Addr::new(127, 0, 0, 4)));
        // Source addresses are chosen only on this machine's loopback.
        assert_eq!(source(IpAddr::from([192, 0, 2, 1]), 25_000), None);
    }

    #[test]
    fn topics_are_dealt_out_so_that_each_has_a_subscriber() {
        let dealt = (0..5).map(|number| number.to_string()).collect();
        let topics = Topics { common: vec!["all".to_owned()], dealt, per_link: 2 };
        assert_eq!(topics.of(0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(topics.of(2).collect::<Vec<_>>(), [0, 5, 1]);
        assert_eq!((topics.len(), topics.name(0), topics.name(5)), (6, "all", "4"));
    }
}
