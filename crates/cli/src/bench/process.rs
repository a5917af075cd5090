//! Memory and CPU of a process, read from Linux's `/proc`.

use std::{fs, io, net::SocketAddr, path::Path, time::Duration};

/// The unit of the CPU times that the kernel shows to all users.
const TICK: Duration = Duration::from_millis(10);

/// The number of a process on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(pub u32);

impl Process {
    /// Returns the process that calls this.
    #[must_use]
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// Returns the process that listens on an address of this machine.
    ///
    /// # Errors
    /// Returns an error if it cannot be found. The text says what to do.
    pub fn listening(address: SocketAddr) -> Result<Self, String> {
        const ADVICE: &str = "name the server's process by --pid to see its memory and CPU";
        if !address.ip().is_loopback() {
            return Err("the server is on another machine".to_owned());
        }
        let sockets = listeners(address.port());
        if sockets.is_empty() {
            return Err(format!("/proc/net/tcp names no listener on {address}: {ADVICE}"));
        }
        let processes = fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
        for process in processes.flatten() {
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid
                && has_socket(&process.path().join("fd"), &sockets)
            {
                return Ok(Self(pid));
            }
        }
        Err(format!("the process that listens on {address} is another user's: {ADVICE}"))
    }

    /// Returns the resident memory in bytes.
    ///
    /// # Errors
    /// Returns an error if there is no such process, or if its memory may not be read.
    pub fn resident(self) -> io::Result<u64> {
        // `status` may be off by a few pages for each core. `smaps_rollup` is exact.
        let (exact, quick) = (self.read("smaps_rollup"), self.read("status"));
        let text = exact.or(quick)?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Rss:").or_else(|| line.strip_prefix("VmRSS:")));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("no resident memory in /proc"))
    }

    /// Returns the CPU time that the process has used, in user space and in the kernel.
    ///
    /// # Errors
    /// Returns an error if there is no such process, or if it may not be read.
    pub fn cpu(self) -> io::Result<Duration> {
        self.precise_cpu().or_else(|_| self.cpu_in_ticks())
    }

    /// Returns the scheduler's own account in nanoseconds, if the kernel keeps one.
    fn precise_cpu(self) -> io::Result<Duration> {
        let mut sum = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.0))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            let nanos = text.split(' ').next().and_then(|field| field.parse::<u64>().ok());
            sum += nanos.ok_or_else(|| io::Error::other("no number in schedstat"))?;
        }
        Ok(Duration::from_nanos(sum))
    }

    fn cpu_in_ticks(self) -> io::Result<Duration> {
        let text = self.read("stat")?;
        // The name is in brackets, and may contain any characters.
        let fields = text.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
        let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok());
        Ok(TICK * ticks.sum::<u32>())
    }

    /// Returns the number of open sockets.
    ///
    /// # Errors
    /// Returns an error if there is no such process, or if it may not be read.
    pub fn sockets(self) -> io::Result<usize> {
        let files = fs::read_dir(format!("/proc/{}/fd", self.0))?;
        let targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        Ok(targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count())
    }

    fn read(self, file: &str) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.0))
    }
}

/// Returns the sockets that listen on a port, as `/proc/*/fd` names them.
fn listeners(port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let mut found = Vec::new();
    for line in tables.iter().flatten().flat_map(|table| table.lines()) {
        let fields = line.split_whitespace().collect::<Vec<_>>();
        let ends = |field: &&str| field.ends_with(&format!(":{port:04X}"));
        if fields.get(1).is_some_and(ends) && fields.get(3) == Some(&LISTEN) {
            found.extend(fields.get(9).map(|inode| format!("socket:[{inode}]")));
        }
    }
    found
}

fn has_socket(files: &Path, sockets: &[String]) -> bool {
    let files = fs::read_dir(files).into_iter().flatten().flatten();
    let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
    targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_process_that_listens_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(Process::listening(address), Ok(Process::own()));
        drop(listener);
        let error = Process::listening(address).unwrap_err();
        assert!(error.contains("--pid"), "{error}");
    }

    #[test]
    fn the_memory_and_cpu_of_a_process_are_above_zero() {
        let own = Process::own();
        assert!(own.resident().unwrap() > 100_000);
        assert!(own.cpu().unwrap() > Duration::ZERO);
        let _socket = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(own.sockets().unwrap() >= 1);
        assert!(own.cpu_in_ticks().is_ok());
    }
}
