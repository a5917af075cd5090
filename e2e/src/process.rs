//! Child processes that never outlive the harness.
//!
//! A driver starts a browser, and a browser starts dozens of processes; killing the driver alone
//! leaves them running. So each child leads a process group and the whole group is killed: on
//! drop (which a panic runs too) and on SIGINT or SIGTERM.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Child, Command, ExitStatus},
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{Result, wait};

/// A child process and everything it started.
#[derive(Debug)]
pub struct Group {
    child: Child,
    leader: Pid,
}

impl Group {
    /// Starts `command` as the leader of a new process group.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;

        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start {program}: {error}"))?;
        let leader = Pid::from_child(&child);
        live(|groups| groups.insert(leader.as_raw_nonzero().get()));
        Ok(Self { child, leader })
    }

    /// Returns the process that leads the group, for its standard streams.
    pub fn leader(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Returns the number of the group, for [`kill`].
    pub fn id(&self) -> i32 {
        self.leader.as_raw_nonzero().get()
    }

    /// Asks the leader alone to end, and waits until it has.
    pub fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        rustix::process::kill_process(self.leader, Signal::TERM)
            .map_err(|error| format!("cannot send SIGTERM: {error}"))?;
        wait::until("the process to end after SIGTERM", within, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it still runs".into()),
            Err(error) => Err(error.to_string()),
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        kill(self.id());
        // This only reaps the process, because no process can refuse SIGKILL.
        drop(self.child.wait());
        live(|groups| groups.remove(&self.leader.as_raw_nonzero().get()));
    }
}

/// Kills the process group `id` at once.
pub fn kill(id: i32) {
    if let Some(leader) = Pid::from_raw(id) {
        // The group may have ended already.
        let _ = kill_process_group(leader, Signal::KILL);
    }
}

/// Kills the one process `id`, which must be there.
pub fn kill_one(id: i64) -> Result<()> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| format!("{id} is no process number"))?;
    rustix::process::kill_process(pid, Signal::KILL)
        .map_err(|error| format!("cannot kill process {id}: {error}"))
}

/// Returns the processes of browsers that run a worker of a page. `groups` are the browsers.
pub fn worker_hosts(groups: &[i32]) -> Vec<i64> {
    let wanted = |thread: &String| WORKER_THREADS.iter().any(|name| thread.starts_with(name));
    let processes = numbers_in("/proc").into_iter().filter(|process| {
        let group = group_of(*process);
        // Firefox has workers of its own in its first process.
        group.is_some_and(|id| groups.contains(&id) && i64::from(id) != *process)
    });
    processes.filter(|process| threads_of(*process).iter().any(wanted)).collect()
}

/// The names that the engines give the threads of workers.
const WORKER_THREADS: &[&str] =
    &["DedicatedWorker", "SharedWorker", "DOM Worker", "WebCore: Worker", "e: SharedWorker"];

/// Returns the processor time of each process `name` in the group `id`, in ticks of the kernel. The
/// kernel keeps 15 characters of a name.
pub fn times(id: i32, name: &str) -> BTreeMap<i64, u64> {
    let named = |process: &i64| {
        let comm = fs::read_to_string(format!("/proc/{process}/comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    };
    let processes = numbers_in("/proc").into_iter();
    let of_group = processes.filter(|process| group_of(*process) == Some(id) && named(process));
    of_group.map(|process| (process, time_of(process).unwrap_or_default())).collect()
}

/// Returns the memory of all processes of these groups in KiB. Memory that several of them share
/// counts once.
pub fn memory(groups: &[i32]) -> u64 {
    let processes = numbers_in("/proc").into_iter();
    let of_groups =
        processes.filter(|process| group_of(*process).is_some_and(|id| groups.contains(&id)));
    of_groups.filter_map(memory_of).sum()
}

fn memory_of(process: i64) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Returns the names of a process's threads. The kernel keeps 15 characters of a name.
fn threads_of(process: i64) -> Vec<String> {
    let folder = format!("/proc/{process}/task");
    let threads = numbers_in(&folder).into_iter();
    threads
        .filter_map(|thread| fs::read_to_string(format!("{folder}/{thread}/comm")).ok())
        .collect()
}

fn numbers_in(folder: &str) -> Vec<i64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn group_of(process: i64) -> Option<i32> {
    field(process, 2)
}

fn time_of(process: i64) -> Option<u64> {
    Some(field::<u64>(process, 11)? + field::<u64>(process, 12)?)
}

/// Returns a field of the kernel's table, counted from behind the program's name.
fn field<T: FromStr>(process: i64, index: usize) -> Option<T> {
    // The name of the program is in brackets and may contain any characters.
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(index)?.parse().ok()
}

/// Kills every group that still runs.
pub fn kill_all() {
    for id in live(std::mem::take) {
        kill(id);
    }
}

/// Makes ctrl-c, SIGTERM and a closed terminal end the children before the harness. `clean_up` runs
/// in between.
pub fn end_children_on_signals(clean_up: impl FnOnce() + Send + 'static) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| format!("cannot watch for signals: {error}"))?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            kill_all();
            clean_up();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// The groups that run now, by leader.
static LIVE: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn live<T>(change: impl FnOnce(&mut BTreeSet<i32>) -> T) -> T {
    change(&mut LIVE.lock().unwrap_or_else(PoisonError::into_inner))
}
