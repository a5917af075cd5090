//! `cargo ci`: every check there is. All of them run, whatever fails; the last line counts.

mod steps;
mod tally;

use std::{
    path::Path,
    process::ExitStatus,
    time::{Duration, Instant},
};

use anyhow::bail;
use xshell::Cmd;

use crate::{
    ci::tally::{Count, Tally},
    flags,
    process::{self, Clock},
    repo::Repo,
};

/// Lines of a failed step's output that are shown, those of passed tests not counted.
const TAIL: usize = 60;

pub(crate) fn run(repo: &Repo, flags: &flags::Ci) -> anyhow::Result<()> {
    // Cargo may replace this executable while it runs, when it builds the tests.
    let xtask = std::env::current_exe()?;
    let only = flags.only.as_deref().unwrap_or("");
    let before = steps::tree(repo);
    let steps = steps::all(xtask, before);
    let log = repo.target().join("ci");
    let mut total = Tally::default();
    let (mut simulated, start) = (Duration::ZERO, Instant::now());
    for step in steps.iter().filter(|step| step.name.contains(only)) {
        let begin = Instant::now();
        total += step.perform(repo, &log);
        if step.name.starts_with(steps::SIMULATOR) {
            simulated += begin.elapsed();
        }
    }
    if simulated > Duration::ZERO {
        println!("{}", share(simulated, start.elapsed()));
    }
    println!("{total}");
    if total.failed > 0 {
        // The count above is the message; nothing may follow it.
        std::process::exit(1);
    }
    if total.passed == 0 {
        bail!("no step ran: is `{only}` part of a step's name?");
    }
    Ok(())
}

/// Says which share of all time the simulator took.
fn share(simulated: Duration, all: Duration) -> String {
    let (took, all) = (simulated.as_secs_f64(), all.as_secs_f64());
    format!("     the simulator took {took:.0} s of {all:.0} s, {:.0} %", took / all * 100.0)
}

/// One step of the checks.
struct Step {
    name: &'static str,
    count: Count,
    work: Work,
}

type Work = Box<dyn Fn(&Repo) -> anyhow::Result<Outcome>>;

/// How a step ended, when it did not end in an error of its own.
enum Outcome {
    Ran { status: ExitStatus, output: String },
    Skipped { why: String },
}

impl Outcome {
    /// Runs a program; its exit status decides.
    fn of(command: Cmd<'_>) -> anyhow::Result<Self> {
        let process::Ran { status, output } = process::capture(command)?;
        Ok(Self::Ran { status, output })
    }
}

impl Step {
    fn perform(&self, repo: &Repo, log: &Path) -> Tally {
        let start = Instant::now();
        let clock = Clock::start(self.name);
        let outcome = (self.work)(repo);
        clock.stop();
        self.report(outcome, start.elapsed(), log)
    }

    fn report(&self, outcome: anyhow::Result<Outcome>, took: Duration, log: &Path) -> Tally {
        let name = self.name;
        let seconds = took.as_secs_f64();
        match outcome {
            Ok(Outcome::Skipped { why }) => {
                println!("skipped: {name} ({why})");
                Tally { skipped: 1, ..Tally::default() }
            }
            Ok(Outcome::Ran { status, output }) => {
                let tally = self.count.of(&output, status.success());
                let verdict = if tally.failed == 0 { "ok  " } else { "FAIL" };
                println!("{verdict} {name} ({}{seconds:.1} s)", tally.detail(self.count));
                for line in tally::remarks(self.count, &output) {
                    println!("     {line}");
                }
                if tally.failed > 0 {
                    print_tail(name, &output, log);
                }
                tally
            }
            Err(error) => {
                println!("FAIL {name} ({seconds:.1} s)");
                print_tail(name, &format!("{error:#}"), log);
                Tally { failed: 1, ..Tally::default() }
            }
        }
    }
}

/// Shows the end of a failed step's output, and which tests failed before that.
fn print_tail(name: &str, output: &str, log: &Path) {
    let failed = |line: &&str| line.contains("... FAILED");
    let lines = output.trim_end().lines();
    let lines: Vec<&str> = lines.filter(|line| !is_passed_test(line)).collect();
    let (before, tail) = lines.split_at(lines.len().saturating_sub(TAIL));
    for line in before.iter().copied().filter(failed).chain(tail.iter().copied()) {
        println!("     | {line}");
    }
    let file = log.join(format!("{}.log", name.replace(' ', "-")));
    if std::fs::create_dir_all(log).and_then(|()| std::fs::write(&file, output)).is_ok() {
        println!("     all of it: {}", file.display());
    }
}

/// A line of cargo test, of the tests in browsers, or of `node --test`.
fn is_passed_test(line: &str) -> bool {
    line.contains(" ... ok") || line.trim_start().starts_with('✔')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_the_simulator_is_a_percentage_of_all_time() {
        let said = share(Duration::from_secs(30), Duration::from_mins(2));
        assert_eq!(said.trim(), "the simulator took 30 s of 120 s, 25 %");
    }
}
