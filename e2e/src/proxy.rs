//! A TCP proxy that stands between the browser and the server and fails as networks do.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::{Result, ports};

/// What happens to bytes and to new connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weather {
    /// Everything passes.
    #[default]
    Fair,
    /// Bytes wait, both ways, and go on when the weather is fair again.
    Stalled,
    /// Bytes vanish, both ways, and nobody is told: neither of a byte nor of an end. A connection
    /// that lost one stays so for ever, since what follows a hole is garbage.
    HalfOpen,
    /// As if nobody listened: new connections end at once. Those that are open go on.
    Refusing,
}

/// The proxy; it ends, and with it every connection, on drop.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: u16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    weather: Weather,
    pairs: Vec<Arc<Pair>>,
    over: bool,
}

/// One connection: the browser's stream and the server's.
struct Pair {
    browser: TcpStream,
    server: TcpStream,
    /// Bytes were lost: see [`Weather::HalfOpen`].
    broken: AtomicBool,
}

impl Proxy {
    /// Listens on a port of its own and passes everything on to `target`.
    pub fn start(target: u16) -> Result<Self> {
        let port = ports::free()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .map_err(|error| format!("cannot listen as a proxy: {error}"))?;
        let shared = Arc::new(Shared { target, state: Mutex::default(), changed: Condvar::new() });
        let acceptor = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &acceptor));
        Ok(Self { port, shared })
    }

    /// The port for browsers.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the weather for all connections, old and new.
    pub fn set(&self, weather: Weather) {
        self.shared.state().weather = weather;
        self.shared.changed.notify_all();
    }

    /// Ends every connection that is open, so that both sides see it; how many it were.
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
        // Wakes the thread that waits for a connection.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The weather, once it is not [`Weather::Stalled`].
    fn wait(&self) -> Weather {
        let stalled = |state: &mut State| state.weather == Weather::Stalled;
        let state = self.changed.wait_while(self.state(), stalled);
        state.unwrap_or_else(PoisonError::into_inner).weather
    }
}

impl Pair {
    fn end(&self) {
        // An end that is gone already needs none.
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
        // Locked until the pair is listed: who cuts after the server has accepted cuts this too.
        let mut state = shared.state();
        // Where the server is down, the browser's connection ends as well.
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.target)) else {
            continue;
        };
        // Small frames must not wait for one another.
        let _ = browser.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let pair = Arc::new(Pair { browser, server, broken: AtomicBool::new(false) });
        state.pairs.push(Arc::clone(&pair));
        drop(state);
        for upward in [true, false] {
            let (shared, pair) = (Arc::clone(shared), Arc::clone(&pair));
            thread::spawn(move || pump(&shared, &pair, upward));
        }
    }
}

fn pump(shared: &Shared, pair: &Arc<Pair>, upward: bool) {
    let (mut from, mut to) = match upward {
        true => (&pair.browser, &pair.server),
        false => (&pair.server, &pair.browser),
    };
    let mut bytes = [0; 16 * 1024];
    loop {
        let length = from.read(&mut bytes).unwrap_or(0);
        let weather = shared.wait();
        if weather == Weather::HalfOpen {
            pair.broken.store(true, Ordering::Relaxed);
        }
        if pair.broken.load(Ordering::Relaxed) {
            if length == 0 {
                // Nobody is told before the connection is cut.
                return;
            }
            continue;
        }
        if length == 0 || to.write_all(&bytes[..length]).is_err() {
            pair.end();
            shared.state().pairs.retain(|other| !Arc::ptr_eq(other, pair));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A browser's connection through a proxy, and the server's end of it.
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
    fn a_cut_ends_both_sides() {
        let (proxy, listener) = start();
        let (browser, server) = through(&proxy, &listener);
        assert_eq!(proxy.cut(), 1);
        assert_eq!(read(&browser).unwrap(), b"");
        assert_eq!(read(&server).unwrap(), b"");
        assert_eq!(proxy.cut(), 0);
    }

    #[test]
    fn what_was_stalled_comes_late() {
        let (proxy, listener) = start();
        let (mut browser, server) = through(&proxy, &listener);
        proxy.set(Weather::Stalled);
        browser.write_all(b"late").unwrap();
        assert_eq!(read(&server), None);
        proxy.set(Weather::Fair);
        assert_eq!(read(&server).unwrap(), b"late");
    }

    #[test]
    fn what_a_half_open_connection_loses_never_comes_and_neither_does_its_end() {
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
