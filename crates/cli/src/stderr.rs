//! Writes the log to stderr without blocking the threads that log. Otherwise a pipe that nobody
//! reads, or a stopped terminal, would block each thread at its next line.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// Largest number of bytes of lines that may wait. Lines above it are lost.
const ROOM: usize = 1 << 20;

/// Number of lines that were lost since the start of the process.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Writes lines to stderr from a thread of its own. Lines that stderr does not accept are lost, and
/// counted in `tabmux_log_lines_lost_total`.
#[derive(Clone, Debug)]
pub struct Stderr(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// True while a line is being written.
    busy: bool,
    /// Number of lines that were lost and are not reported yet.
    lost: u64,
}

impl Stderr {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// Returns an error if the system gives no thread, or no second descriptor of stderr.
    pub fn start() -> io::Result<Self> {
        Self::over(stderr()?)
    }

    fn over(mut sink: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new() });
        let (writer, name) = (Arc::clone(&shared), "tabmux-log".to_owned());
        thread::Builder::new().name(name).spawn(move || {
            loop {
                writer.write_one(&mut sink);
            }
        })?;
        Ok(Self(shared))
    }

    /// Waits until all lines are written, but at most this long.
    pub fn finish(&self, patience: Duration) {
        let waits = |queue: &mut Queue| queue.busy || !queue.lines.is_empty();
        drop(self.0.changed.wait_timeout_while(self.0.queue(), patience, waits));
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8]) {
        let mut queue = self.queue();
        if queue.bytes + line.len() > ROOM {
            queue.lose();
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_owned());
        self.changed.notify_all();
    }

    /// Waits for a line and writes it.
    fn write_one(&self, sink: &mut impl Write) {
        let queue = self.changed.wait_while(self.queue(), |queue| queue.lines.is_empty());
        let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
        let line = queue.lines.pop_front().unwrap_or_default();
        queue.busy = true;
        drop(queue);
        let written = sink.write_all(&line);
        let mut queue = self.queue();
        queue.bytes -= line.len();
        let lost = match written {
            Ok(()) => std::mem::take(&mut queue.lost),
            // The loss is reported when stderr accepts lines again.
            Err(_) => {
                queue.lose();
                0
            }
        };
        drop(queue);
        if lost > 0 {
            warn!("{lost} lines of the log are lost because stderr did not accept them");
        }
        self.queue().busy = false;
        self.changed.notify_all();
    }
}

impl Queue {
    fn lose(&mut self) {
        self.lost += 1;
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

/// Each call gets one whole line. `tracing-subscriber` calls it so.
impl Write for &Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Returns the number of log lines that were lost since the start of the process.
pub fn lost_lines() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Returns a descriptor of its own. Writing to the one of `std` holds a lock, and a panic would
/// wait for it.
#[cfg(unix)]
fn stderr() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stderr().as_fd().try_clone_to_owned()?))
}

#[cfg(windows)]
fn stderr() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(File::from(io::stderr().as_handle().try_clone_to_owned()?))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A writer for tests. Each line waits until the test gives its result.
    struct Gate {
        outcomes: Receiver<io::Result<()>>,
        taken: Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.outcomes.recv().unwrap()?;
            self.taken.send(String::from_utf8(line.to_owned()).unwrap()).unwrap();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (Stderr, Sender<io::Result<()>>, Receiver<String>) {
        let (outcome, outcomes) = channel();
        let (taken, lines) = channel();
        (Stderr::over(Gate { outcomes, taken }).unwrap(), outcome, lines)
    }

    #[test]
    fn lines_beyond_the_room_are_lost_and_the_others_come_in_order() {
        let (stderr, outcome, lines) = gated();
        let line = |number: usize| format!("{number:0>1024}");
        let waiting = || {
            let queue = stderr.0.queue();
            (queue.bytes, queue.lost)
        };
        for number in 0..ROOM / 1_024 + 3 {
            (&stderr).write_all(line(number).as_bytes()).unwrap();
        }
        assert_eq!(waiting(), (ROOM, 3));
        for number in 0..ROOM / 1_024 {
            outcome.send(Ok(())).unwrap();
            assert_eq!(lines.recv_timeout(LONG).unwrap(), line(number));
        }
        stderr.finish(LONG);
        assert_eq!(waiting(), (0, 0));
        assert!(lost_lines() >= 3);
    }

    #[test]
    fn a_line_that_is_not_taken_is_lost_and_the_next_one_comes() {
        let (stderr, outcome, lines) = gated();
        for line in ["one", "two"] {
            (&stderr).write_all(line.as_bytes()).unwrap();
        }
        outcome.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        outcome.send(Ok(())).unwrap();
        assert_eq!(lines.recv_timeout(LONG).unwrap(), "two");
    }

    #[test]
    fn finish_waits_for_a_limited_time() {
        let (stderr, _outcome, lines) = gated();
        (&stderr).write_all(b"line").unwrap();
        stderr.finish(Duration::from_millis(10));
        assert!(lines.try_recv().is_err());
    }
}
