//! Running programs: quietly, with what they said kept for the case of failure.

use std::{
    io::{BufRead, BufReader, IsTerminal, Write},
    process::{Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use xshell::Cmd;

/// What a program did.
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    /// stdout and stderr, in the order they were written.
    pub(crate) output: String,
}

/// Runs to the end and keeps the output. The program has no stdin.
pub(crate) fn capture(command: Cmd<'_>) -> anyhow::Result<Ran> {
    let name = command.to_string();
    let mut command: Command = command.into();
    let (reader, writer) = std::io::pipe()?;
    let mut reader = BufReader::new(reader);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot run `{name}`"))?;
    // The command holds the pipe's other end: without this, reading would never end.
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

/// Runs to the end; what it said is shown only if it failed.
pub(crate) fn quiet(command: Cmd<'_>) -> anyhow::Result<()> {
    let name = command.to_string();
    let Ran { status, output } = capture(command)?;
    if !status.success() {
        bail!("`{name}` failed ({status}):\n{}", output.trim_end());
    }
    Ok(())
}

/// A program takes this process's place, so that ctrl-c and its exit status are its own.
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

/// Shows what runs: at a terminal a counting line with what the program said last, elsewhere one
/// plain line.
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
                    // One row of the narrowest terminal; more could not be wiped.
                    print!("\r\x1b[K{}", line.chars().take(79).collect::<String>());
                    wait = Duration::from_secs(1);
                } else {
                    println!("...  {name}");
                    wait = Duration::MAX;
                }
                // Nobody to tell when the terminal is gone.
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
        // It cannot panic: it only waits and prints.
        let _ = self.thread.join();
    }
}

/// What the running program said last. A task runs one program at a time.
fn latest() -> MutexGuard<'static, String> {
    static LATEST: Mutex<String> = Mutex::new(String::new());
    LATEST.lock().unwrap_or_else(PoisonError::into_inner)
}
