//! A TCP proxy that stands between the browser and the server and fails as networks do.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::io::ioctl_fionread;

use crate::{Result, links::History, ports};

/// What happens to bytes and to new connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weather {
    /// Everything passes in both directions.
    #[default]
    Fair,
    /// Bytes wait in both directions, and go on when the weather is fair again.
    Stalled,
    /// This many bytes pass per second, in each direction of each connection.
    Slow(usize),
    /// Bytes vanish in both directions. Neither end is told of a lost byte or of an end. A
    /// connection that lost a byte stays so for ever, because what follows the hole is garbage.
    HalfOpen,
    /// New connections end at once, as if nobody listened. Open connections go on.
    Refusing,
}

/// The proxy. It ends on drop, with every connection.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    state: Mutex<State>,
    changed: Condvar,
    /// The history of the links, if every connection is a link.
    watch: Option<Mutex<Watch>>,
}

/// The history of links and the connections. One lock guards both, so that it is known which bytes
/// are unread.
#[derive(Debug, Default)]
struct Watch {
    history: History,
    /// The connection of each link, while anything of it is read.
    pairs: Vec<Weak<Pair>>,
}

#[derive(Debug, Default)]
struct State {
    weather: Weather,
    pairs: Vec<Arc<Pair>>,
    /// Number of connections so far.
    accepted: usize,
    /// The user that requests name, if they name one.
    user: Option<String>,
    over: bool,
}

/// One connection: the stream of the browser and the stream of the server.
#[derive(Debug)]
struct Pair {
    browser: TcpStream,
    server: TcpStream,
    /// True if bytes were lost: see [`Weather::HalfOpen`].
    broken: AtomicBool,
    /// The number of the link in the history.
    link: usize,
}

impl Proxy {
    /// Listens on a free port and passes everything on to `target`.
    pub fn start(target: u16) -> Result<Self> {
        Self::start_by(target, None)
    }

    /// Does the same for a proxy whose connections are all links to a tabmux server. Their history
    /// is recorded.
    pub fn watching(target: u16) -> Result<Self> {
        Self::start_by(target, Some(Mutex::default()))
    }

    /// Does the same as [`start`](Self::start), but adds the header `X-User` to the first request
    /// of each connection, as a proxy does that knows the user.
    pub fn naming(target: u16, user: &str) -> Result<Self> {
        let proxy = Self::start(target)?;
        proxy.log_in(user);
        Ok(proxy)
    }

    /// Logs another user in, from now on.
    pub fn log_in(&self, user: &str) {
        self.shared.state().user = Some(user.to_owned());
    }

    fn start_by(target: u16, watch: Option<Mutex<Watch>>) -> Result<Self> {
        let port = ports::free()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .map_err(|error| format!("cannot listen as a proxy: {error}"))?;
        let shared =
            Arc::new(Shared { target, state: Mutex::default(), changed: Condvar::new(), watch });
        let acceptor = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &acceptor));
        Ok(Self { port, shared })
    }

    /// Returns the port for browsers.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns how many connections there were so far.
    pub fn accepted(&self) -> usize {
        self.shared.state().accepted
    }

    /// Returns true if a connection lost a byte: see [`Weather::HalfOpen`].
    pub fn lost(&self) -> bool {
        self.shared.state().pairs.iter().any(|pair| pair.broken.load(Ordering::Relaxed))
    }

    /// Changes the weather for all connections, old and new.
    pub fn set(&self, weather: Weather) {
        self.shared.state().weather = weather;
        self.shared.changed.notify_all();
    }

    /// Calls `look` with the history of the links, which is empty unless they are recorded.
    pub fn history<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        match self.shared.watch() {
            Some(watch) => look(&watch.history),
            None => look(&History::default()),
        }
    }

    /// Ends every open connection, so that both sides notice it. Returns how many there were.
    pub fn cut(&self) -> usize {
        let pairs = std::mem::take(&mut self.shared.state().pairs);
        pairs.iter().for_each(|pair| pair.end());
        pairs.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().over = true;
        self.set(Weather::Fair);
        self.cut();
        // The connection wakes the thread that waits in `accept`.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) -> Option<MutexGuard<'_, Watch>> {
        let watch = self.watch.as_ref()?;
        Some(watch.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the bytes that have arrived, and adds them to the history.
    fn read(&self, pair: &Pair, upward: bool, bytes: &mut [u8]) -> usize {
        let mut from = if upward { &pair.browser } else { &pair.server };
        // Waits here, because no thread may wait while the history is locked.
        while from.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::Interrupted) {}
        let mut watch = self.watch();
        let length = from.read(bytes).unwrap_or(0);
        let Some(Watch { history, pairs }) = watch.as_deref_mut() else { return length };
        let unread = |link: usize| {
            let pair = pairs.get(link).and_then(Weak::upgrade);
            pair.and_then(|pair| ioctl_fionread(&pair.server).ok()).unwrap_or(0)
        };
        match (upward, &bytes[..length]) {
            (true, bytes) => history.up(pair.link, bytes),
            (false, []) => history.end(pair.link),
            (false, bytes) => history.down(pair.link, bytes, &unread),
        }
        length
    }

    /// Returns the weather, once it is not [`Weather::Stalled`].
    fn wait(&self) -> Weather {
        let stalled = |state: &mut State| state.weather == Weather::Stalled;
        let state = self.changed.wait_while(self.state(), stalled);
        state.unwrap_or_else(PoisonError::into_inner).weather
    }
}

impl Pair {
    fn end(&self) {
        // Shutting down fails only if the end is gone already.
        let _ = self.browser.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for browser in listener.incoming().flatten() {
        if shared.state().over {
            return;
        }
        if shared.wait() == Weather::Refusing {
            continue;
        }
        // The lock is held until the pair is listed. A caller who cuts after the server has
        // accepted cuts this pair too.
        let mut state = shared.state();
        // If the server is down, the browser's connection ends as well.
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.target)) else {
            continue;
        };
        // Small frames must not wait for each other.
        let _ = browser.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let mut watch = shared.watch();
        let link = watch.as_mut().map_or(0, |watch| watch.history.begin());
        let pair = Arc::new(Pair { browser, server, broken: AtomicBool::new(false), link });
        watch.iter_mut().for_each(|watch| watch.pairs.push(Arc::downgrade(&pair)));
        drop(watch);
        state.pairs.push(Arc::clone(&pair));
        state.accepted += 1;
        drop(state);
        for upward in [true, false] {
            let (shared, pair) = (Arc::clone(shared), Arc::clone(&pair));
            thread::spawn(move || pump(&shared, &pair, upward));
        }
    }
}

fn pump(shared: &Shared, pair: &Arc<Pair>, upward: bool) {
    let mut to = if upward { &pair.server } else { &pair.browser };
    if upward {
        name_user(shared, pair);
    }
    let mut bytes = [0; 16 * 1024];
    loop {
        let room = match shared.state().weather {
            // This many bytes pass in a twentieth of a second.
            Weather::Slow(per_second) => (per_second / 20).clamp(1, bytes.len()),
            Weather::Fair | Weather::Stalled | Weather::HalfOpen | Weather::Refusing => bytes.len(),
        };
        let length = shared.read(pair, upward, &mut bytes[..room]);
        let weather = shared.wait();
        if matches!(weather, Weather::Slow(_)) {
            thread::sleep(Duration::from_millis(50));
        }
        if weather == Weather::HalfOpen {
            pair.broken.store(true, Ordering::Relaxed);
        }
        if pair.broken.load(Ordering::Relaxed) {
            if length == 0 {
                // Neither end is told before the connection is cut.
                return;
            }
            continue;
        }
        if length == 0 || to.write_all(&bytes[..length]).is_err() {
            pair.end();
            shared.state().pairs.retain(|other| !Arc::ptr_eq(other, pair));
            while length > 0 && shared.read(pair, upward, &mut bytes) > 0 {}
            return;
        }
    }
}

/// Passes on the first line of a request, and then the header with the user's name, if a user is
/// logged in.
fn name_user(shared: &Shared, pair: &Pair) {
    if shared.state().user.is_none() {
        return;
    }
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n") && shared.read(pair, true, &mut byte) == 1 {
        head.push(byte[0]);
    }
    // The user is the one who is logged in now, not when the connection opened. Browsers open some
    // connections in advance.
    for user in shared.state().user.iter() {
        head.extend(format!("X-User: {user}\r\n").into_bytes());
    }
    // The thread that reads on notices an end.
    let _ = (&pair.server).write_all(&head);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a browser's connection through a proxy, and the server's end of it.
    fn through(proxy: &Proxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
        let browser = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        let (server, _) = listener.accept().unwrap();
        for stream in [&browser, &server] {
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        }
        (browser, server)
    }

    fn start() -> (Proxy, TcpListener) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        (Proxy::start(listener.local_addr().unwrap().port()).unwrap(), listener)
    }

    fn read(mut stream: &TcpStream) -> Option<Vec<u8>> {
        let mut bytes = [0; 16];
        stream.read(&mut bytes).ok().map(|length| bytes[..length].to_vec())
    }

    #[test]
    fn in_fair_weather_everything_passes_both_ways() {
        let (proxy, listener) = start();
        let (mut browser, mut server) = through(&proxy, &listener);
        browser.write_all(b"up").unwrap();
        assert_eq!(read(&server).unwrap(), b"up");
        server.write_all(b"down").unwrap();
        assert_eq!(read(&browser).unwrap(), b"down");
        drop(server);
        assert_eq!(read(&browser).unwrap(), b"", "an end passes as well");
    }

    #[test]
    fn a_naming_proxy_adds_the_name_of_the_user() {
        let (_, listener) = start();
        let proxy = Proxy::naming(listener.local_addr().unwrap().port(), "anna").unwrap();
        for user in ["anna", "bert"] {
            proxy.log_in(user);
            let (mut browser, mut server) = through(&proxy, &listener);
            browser.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let wanted = format!("GET / HTTP/1.1\r\nX-User: {user}\r\nHost: a\r\n\r\n");
            let mut got = vec![0; wanted.len()];
            server.read_exact(&mut got).unwrap();
            assert_eq!(String::from_utf8(got).unwrap(), wanted);
        }
    }

    #[test]
    fn a_cut_ends_both_sides() {
        let (proxy, listener) = start();
        let (browser, server) = through(&proxy, &listener);
        assert_eq!(proxy.cut(), 1);
        assert_eq!(read(&browser).unwrap(), b"");
        assert_eq!(read(&server).unwrap(), b"");
        assert_eq!(proxy.cut(), 0);
    }

    #[test]
    fn stalled_bytes_arrive_late() {
        let (proxy, listener) = start();
        let (mut browser, server) = through(&proxy, &listener);
        proxy.set(Weather::Stalled);
        browser.write_all(b"late").unwrap();
        assert_eq!(read(&server), None);
        proxy.set(Weather::Fair);
        assert_eq!(read(&server).unwrap(), b"late");
    }

    #[test]
    fn lost_bytes_of_a_half_open_connection_never_arrive_and_its_end_neither() {
        let (proxy, listener) = start();
        let (mut browser, mut server) = through(&proxy, &listener);
        proxy.set(Weather::HalfOpen);
        browser.write_all(b"lost").unwrap();
        assert_eq!(read(&server), None);
        proxy.set(Weather::Fair);
        server.write_all(b"after a hole").unwrap();
        assert_eq!(read(&browser), None);
        drop(server);
        assert_eq!(read(&browser), None);
        proxy.cut();
        assert_eq!(read(&browser).unwrap(), b"");
    }

    #[test]
    fn a_refusing_proxy_keeps_what_is_open() {
        let (proxy, listener) = start();
        let (mut browser, server) = through(&proxy, &listener);
        proxy.set(Weather::Refusing);
        let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        assert_eq!(read(&refused).unwrap_or_default(), b"");
        browser.write_all(b"on").unwrap();
        assert_eq!(read(&server).unwrap(), b"on");
    }
}
