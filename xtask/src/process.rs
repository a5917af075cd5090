//! Runs programs quietly, and keeps their output in case they fail.

use std::{
    io::{BufRead, BufReader, IsTerminal, Write},
    process::{Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use xshell::Cmd;

/// The result of a program.
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    /// The output on stdout and stderr, in the order in which it was written.
    pub(crate) output: String,
}

/// Runs a program to its end and keeps its output. The program has no stdin.
pub(crate) fn capture(command: Cmd<'_>) -> anyhow::Result<Ran> {
    let name = command.to_string();
    let mut command: Command = command.into();
    let (reader, writer) = std::io::pipe()?;
    let mut reader = BufReader::new(reader);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot run `{name}`"))?;
    // The command holds the other end of the pipe. Reading would never end without this.
    drop(command);
    let mut output = String::new();
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        *latest() = text.trim().to_owned();
        output.push_str(&text);
        line.clear();
    }
    latest().clear();
    Ok(Ran { status: child.wait()?, output })
}

/// Runs a program to its end, and prints its output only if it failed.
pub(crate) fn quiet(command: Cmd<'_>) -> anyhow::Result<()> {
    let name = command.to_string();
    let Ran { status, output } = capture(command)?;
    if !status.success() {
        bail!("`{name}` failed ({status}):\n{}", output.trim_end());
    }
    Ok(())
}

/// Replaces this process by the program, so that ctrl-c and the exit status are the program's.
#[cfg(unix)]
pub(crate) fn become_process(mut command: Command) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt;
    Err(command.exec()).context("the program does not start")
}

#[cfg(not(unix))]
pub(crate) fn become_process(mut command: Command) -> anyhow::Result<()> {
    let status = command.status().context("the program does not start")?;
    std::process::exit(status.code().unwrap_or(1))
}

/// Runs one step of a task and prints its name and time.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    let clock = Clock::start(name);
    let result = work();
    clock.stop();
    let verdict = if result.is_ok() { "ok  " } else { "FAIL" };
    println!("{verdict} {name} ({:.1} s)", start.elapsed().as_secs_f64());
    result
}

/// Shows what runs. A terminal gets a line with the time and the last line of the program's output.
/// Anything else gets one plain line.
pub(crate) struct Clock {
    stop: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Clock {
    pub(crate) fn start(name: &str) -> Self {
        let (stop, stopped) = mpsc::channel();
        let name = name.to_owned();
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            let terminal = std::io::stdout().is_terminal();
            // Short steps need no line of their own.
            let mut wait = Duration::from_millis(if terminal { 300 } else { 2000 });
            while stopped.recv_timeout(wait) == Err(mpsc::RecvTimeoutError::Timeout) {
                let seconds = start.elapsed().as_secs();
                if terminal {
                    let line = format!("...  {name} ({seconds} s)  {}", latest());
                    // The line has one row of the narrowest terminal. A longer line could not be
                    // wiped.
                    print!("\r\x1b[K{}", line.chars().take(79).collect::<String>());
                    wait = Duration::from_secs(1);
                } else {
                    println!("...  {name}");
                    wait = Duration::MAX;
                }
                // The terminal may be gone, which is no error.
                let _ = std::io::stdout().flush();
            }
            if terminal {
                print!("\r\x1b[K");
            }
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) {
        drop(self.stop);
        // The thread cannot panic, because it only waits and prints.
        let _ = self.thread.join();
    }
}

/// The last line of the running program's output. A task runs one program at a time.
fn latest() -> MutexGuard<'static, String> {
    static LATEST: Mutex<String> = Mutex::new(String::new());
    LATEST.lock().unwrap_or_else(PoisonError::into_inner)
}
