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

/// Links from one source address of the loopback; its ports end near 28,000.
const LINKS_A_SOURCE: usize = 25_000;
/// How long a refused link waits to try again when the server gave no hint.
const RETRY: Duration = Duration::from_millis(100);
/// Errors of `connect` after which nothing more comes. Any other the stream tells when asked.
const FINAL: [ErrorKind; 5] = [
    ErrorKind::AddrInUse,
    ErrorKind::AddrNotAvailable,
    ErrorKind::ConnectionRefused,
    ErrorKind::NetworkUnreachable,
    ErrorKind::PermissionDenied,
];
/// Descriptors that a process needs besides its links.
const OTHER_FILES: usize = 64;

/// What links a fleet opens.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// Path and query of the WebSocket.
    pub path: String,
    /// What is spoken on it.
    pub speech: Speech,
    /// Links that may be opening at once.
    pub in_flight: usize,
    /// Links to begin a second, at most.
    pub ramp: Option<f64>,
    /// What follows when an attempt fails.
    pub retry: Retry,
    /// How long to wait, and to try again, while no link opens.
    pub patience: Duration,
}

/// What follows when an attempt to open a link fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing: the link is refused.
    Never,
    /// Another one, when the server told when to come back.
    WhenTold,
    /// Another one, as a hub does, whatever the reason was.
    Always,
}

/// What is spoken on a link.
#[derive(Clone, Debug)]
pub enum Speech {
    /// A WebSocket on which the server sends what is published.
    Plain,
    /// The tabmux protocol.
    Tabmux {
        /// Tabs that each link attaches.
        tabs: u32,
        /// What each link subscribes to.
        topics: Topics,
    },
}

/// Which link subscribes to what.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    /// Topics of every link.
    pub common: Vec<String>,
    /// Topics that are dealt out to the links in turn.
    pub dealt: Vec<String>,
    /// How many of them each link gets.
    pub per_link: usize,
}

impl Topics {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.common.len() + self.dealt.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of the topic at a place.
    ///
    /// # Panics
    /// When there is no such place.
    #[must_use]
    pub fn name(&self, place: usize) -> &str {
        match self.common.get(place) {
            Some(name) => name,
            None => &self.dealt[place - self.common.len()],
        }
    }

    /// The places of what a link subscribes to.
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

/// Many links on one thread. Nothing happens outside its methods.
pub struct Fleet {
    plan: Plan,
    clock: Clock,
    poll: Poll,
    events: Events,
    /// By number, which is also the token.
    links: Vec<Option<Link>>,
    buffer: Vec<u8>,
    /// Links that are opening.
    opening: usize,
    heartbeat: Option<Duration>,
    /// All have the same interval: the first is always the next one.
    pings: VecDeque<(Instant, usize)>,
    retries: BinaryHeap<Reverse<(Instant, usize)>>,
    tally: Tally,
}

impl Fleet {
    /// A fleet without links.
    ///
    /// # Errors
    /// When the kernel gives no epoll.
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

    /// What was seen so far.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Forgets the latencies seen so far.
    pub fn forget_latency(&mut self) {
        self.tally.latency.reset();
    }

    /// Opens links until `links` were begun and each is ready or refused. `watch` is asked now
    /// and then whether to go on.
    ///
    /// # Errors
    /// When epoll fails, or a socket cannot be made.
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
            // Who only comes back later is no progress.
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

    /// How many links may have been begun by now.
    fn due(&self, before: usize, elapsed: Duration) -> usize {
        match self.plan.ramp {
            None => usize::MAX,
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "links")]
            Some(rate) => before + 1 + (rate * elapsed.as_secs_f64()) as usize,
        }
    }

    /// Waits for what the server sends, but not longer than `at_most`, and takes it.
    ///
    /// # Errors
    /// When epoll fails, or a socket cannot be made.
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

    /// Reads all there is.
    fn read(&mut self, number: usize, closed: bool) -> Result<(), End> {
        while let Some(link) = self.links[number].as_mut() {
            match link.stream.read(&mut self.buffer) {
                Ok(0) => return Err(End::new("the connection ended")),
                Ok(len) => {
                    let (plan, clock, tally) = (&self.plan, &self.clock, &mut self.tally);
                    let mut scene = Scene { plan, clock, tally, number };
                    let news = link.take(&self.buffer[..len], &mut scene)?;
                    self.hear(number, &news);
                    // A buffer that was not filled was all there is, unless the end is behind it.
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

    /// No link has opened for too long: those that are opening will not.
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

/// A connection that is being made; from several loopback addresses, if one has too few ports.
fn connect(plan: &Plan, number: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(plan.address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source(plan.address.ip(), number) {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(&plan.address.into()) {
        // What is in progress is told by a kind that has no name yet, or as on Windows.
        Err(error) if FINAL.contains(&error.kind()) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// The address that a link comes from, where the kernel's choice would run out of ports.
fn source(server: IpAddr, number: usize) -> Option<Ipv4Addr> {
    let group = u8::try_from(number / LINKS_A_SOURCE).ok().filter(|&group| group > 0)?;
    let near = matches!(server, IpAddr::V4(address) if address.is_loopback());
    near.then(|| Ipv4Addr::new(127, 0, 0, group.saturating_add(1)))
}

/// Lets this process have enough open files for so many links.
///
/// # Errors
/// When the hard limit does not allow it; the text says how many are missing.
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
        // Another machine's ports are not ours to choose addresses for.
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
