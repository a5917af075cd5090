//! A line of so many bytes a second, each way, which all connections share.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{Result, ports};

/// What passes at once: so connections take turns.
const PIECE: usize = 500;

/// The line: each port of it leads to a server. It ends, and with it every connection, on drop.
pub(super) struct Line {
    ports: Vec<u16>,
    shared: Arc<Shared>,
}

struct Shared {
    over: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
    up: Way,
    down: Way,
}

/// One way through the line.
struct Way {
    per_second: f64,
    /// When all that was let in so far is through.
    free: Mutex<Instant>,
}

impl Way {
    /// Returns when so many bytes are through.
    fn pass(&self, bytes: usize) {
        let took = Duration::from_secs_f64(bytes as f64 / self.per_second);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let through = (*free).max(Instant::now()) + took;
        *free = through;
        drop(free);
        thread::sleep(through.saturating_duration_since(Instant::now()));
    }
}

impl Line {
    /// A line to the servers on these ports of this machine.
    pub(super) fn start(per_second: u32, targets: &[u16]) -> Result<Self> {
        let way = || Way { per_second: f64::from(per_second), free: Mutex::new(Instant::now()) };
        let (over, streams) = (AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { over, streams, up: way(), down: way() });
        let mut line = Self { ports: Vec::new(), shared };
        for &target in targets {
            let port = ports::free()?;
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .map_err(|error| format!("cannot listen as a line: {error}"))?;
            let shared = Arc::clone(&line.shared);
            thread::spawn(move || accept(&listener, target, &shared));
            line.ports.push(port);
        }
        Ok(line)
    }

    /// The ports for browsers, in the order of the servers.
    pub(super) fn ports(&self) -> &[u16] {
        &self.ports
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for stream in self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // It may have ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        for port in &self.ports {
            // Wakes the thread that waits for a connection.
            drop(TcpStream::connect((Ipv4Addr::LOCALHOST, *port)));
        }
    }
}

fn accept(listener: &TcpListener, target: u16, shared: &Arc<Shared>) {
    for browser in listener.incoming().flatten() {
        if shared.over.load(Ordering::Relaxed) {
            return;
        }
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
        for stream in [&browser, &server] {
            // The line alone makes small messages wait.
            let _ = stream.set_nodelay(true);
        }
        let copies = [browser.try_clone(), server.try_clone(), browser.try_clone()];
        let [Ok(reads), Ok(writes), Ok(kept)] = copies else { continue };
        shared.streams.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        let up = Arc::clone(shared);
        thread::spawn(move || pump(reads, writes, &up.up));
        let down = Arc::clone(shared);
        thread::spawn(move || pump(server, browser, &down.down));
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, way: &Way) {
    let mut bytes = [0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        way.pass(length);
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    // The other way may still have something to say.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_the_line() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let line = Line::start(50_000, &[listener.local_addr().unwrap().port()]).unwrap();
        let start = Instant::now();
        let mut browsers = Vec::new();
        for _ in 0..2 {
            let browser = TcpStream::connect((Ipv4Addr::LOCALHOST, line.ports()[0])).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            server.write_all(&[0; 5_000]).unwrap();
            browsers.push(browser);
        }
        for mut browser in browsers {
            let mut bytes = Vec::new();
            browser.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len(), 5_000);
        }
        // 10,000 bytes take a fifth of a second, however many connections have them.
        assert!(start.elapsed() >= Duration::from_millis(199), "{:?}", start.elapsed());
    }
}
