//! Runs the simulator. `--seeds N` runs N seeds, from `--from`. `--seed S` runs one seed,
//! `--transitions 3,7-9` a part of it, and `--trace` prints its log.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    process::ExitCode,
    rc::Rc,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tabmux_sim::{
    Failure, Summary, corpus, engine::scripts::Scripts, invariant::Invariant, plan::Kept, run,
    seen::Seen, shipped, shrink,
};

const USAGE: &str = "usage: tabmux-sim [--from S] [--seeds N] [--corpus-only] [--go-on] [--as-is]
       tabmux-sim --seed S [--transitions all|none|3,7-9] [--trace] [--as-is]";
const DEFAULT_SEEDS: u64 = 1000;
/// One run of so many is run a second time, which costs as much as the run.
const TWICE: u64 = 50;
/// Number of seeds that together see all faults.
const ALL_SEEN: u64 = 300;

/// The runs that the command line asks for.
enum Wanted {
    /// Every seed that ever failed, and these seeds.
    Many { seeds: Range<u64>, goes_on: bool, shrinks: bool },
    /// One seed, or a part of it.
    One { seed: u64, kept: Kept, trace: bool, shrinks: bool },
}

fn main() -> ExitCode {
    let wanted = match parse(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let scripts = match Scripts::read() {
        Ok(scripts) => scripts,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    match wanted {
        Wanted::One { seed, kept, trace, shrinks } => {
            one(seed, &kept, trace, shrinks, &scripts.into())
        }
        Wanted::Many { seeds, goes_on, shrinks } => many(&seeds, &scripts, goes_on, shrinks),
    }
}

fn one(seed: u64, kept: &Kept, trace: bool, shrinks: bool, scripts: &Rc<Scripts>) -> ExitCode {
    match run(seed, kept, trace, scripts) {
        Ok(Summary { steps, heard, hash, .. }) => {
            println!("seed {seed} passed: {steps} steps, {heard} messages, log {hash:016x}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let failure = if shrinks { shrink(failure, scripts) } else { failure };
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a seed. If `twice`, runs it again to check I10.
fn run_twice(
    seed: u64,
    kept: &Kept,
    scripts: &Rc<Scripts>,
    twice: bool,
) -> Result<Summary, Failure> {
    let first = run(seed, kept, false, scripts)?;
    if twice && run(seed, kept, false, scripts).map(|again| again.hash) != Ok(first.hash) {
        let (kept, step) = (kept.clone(), first.steps);
        let Err(broken) = Invariant::Determinism.broken::<()>("another log") else {
            return Ok(first);
        };
        return Err(Failure { seed, kept, step, broken });
    }
    Ok(first)
}

/// The results of many seeds.
#[derive(Default)]
struct Sum {
    passed: u64,
    steps: u64,
    heard: u64,
    seen: Seen,
    /// How often each known fault was seen.
    known: BTreeMap<&'static str, u64>,
    failures: Vec<Failure>,
}

/// Runs many seeds at once, one on each processor.
fn many(seeds: &Range<u64>, scripts: &Scripts, goes_on: bool, shrinks: bool) -> ExitCode {
    // Every run that ever failed is run first.
    let corpus = corpus().collect::<Vec<_>>();
    let next = AtomicU64::new(0);
    let sum = Mutex::new(Sum::default());
    let lock = || sum.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        let scripts = scripts.clone().into();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (seed, kept) = match usize::try_from(at).ok().and_then(|at| corpus.get(at)) {
                Some(run) => run.clone(),
                None => (seeds.start + at - corpus.len() as u64, Kept::default()),
            };
            if at >= corpus.len() as u64 && seed >= seeds.end
                || !goes_on && !lock().failures.is_empty()
            {
                return;
            }
            let ran = run_twice(seed, &kept, &scripts, at % TWICE == 1);
            lock().add(ran, goes_on);
        }
    };
    thread::scope(|scope| {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let workers = (0..count).map(|_| scope.spawn(work)).collect::<Vec<_>>();
        for worker in workers {
            // A panic in a run is a failure of that run, so the thread itself does not panic.
            let _ = worker.join();
        }
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    match sum.judge(seeds.end - seeds.start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(first) => {
            if let Some(first) = first.filter(|_| !goes_on) {
                let scripts = scripts.clone().into();
                eprintln!("{}", if shrinks { shrink(first, &scripts) } else { first });
            }
            ExitCode::FAILURE
        }
    }
}

impl Sum {
    /// Adds the result of one run.
    fn add(&mut self, ran: Result<Summary, Failure>, prints: bool) {
        match ran {
            Ok(run) => {
                self.passed += 1;
                self.steps += run.steps;
                self.heard += run.heard;
                self.seen = self.seen.with(run.seen);
            }
            Err(failure) => {
                let known = shipped::known(&failure);
                if prints {
                    println!("{}: {failure}", known.map_or("new", |it| it.name));
                }
                match known {
                    Some(known) => *self.known.entry(known.name).or_default() += 1,
                    None => self.failures.push(failure),
                }
            }
        }
    }

    /// Prints the results of so many seeds. Returns the first failure that is not known as an
    /// error, if there is one.
    fn judge(self, seeds: u64) -> Result<(), Option<Failure>> {
        let Self { passed, steps, heard, seen, known, failures } = self;
        println!("{passed} seeds passed: {steps} steps, {heard} messages heard");
        let count = known.values().sum::<u64>();
        if let Some(time) = processor_time().filter(|_| seeds > 0) {
            let millis = time.as_millis() / u128::from(seeds);
            println!("{millis} ms of processor time for each of {seeds} seeds, all included");
        }
        if count > 0 {
            println!("{count} failed as is known: {known:?}");
        }
        if !seen.is_all() {
            println!("{seen}");
        }
        if let Some(first) = failures.into_iter().min_by_key(|failure| failure.seed) {
            return Err(Some(first));
        }
        if count * shipped::KNOWN_SHARE > passed + count {
            eprintln!("more than one seed in {} failed as is known", shipped::KNOWN_SHARE);
            return Err(None);
        }
        if seeds >= ALL_SEEN && !seen.is_all() {
            eprintln!("in so many seeds each fault must happen");
            return Err(None);
        }
        Ok(())
    }
}

/// Returns the processor time of this process so far, if the system tells it (Linux).
fn processor_time() -> Option<Duration> {
    /// Linux shows times to programs in hundredths of a second, whatever its own clock is.
    const TICK_MS: u64 = 10;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name is in brackets and may contain spaces. User and system time are the 12th and 13th
    // field behind it.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Some(Duration::from_millis(ticks.sum::<Result<u64, _>>().ok()? * TICK_MS))
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let (mut from, mut seeds, mut seed) = (0, DEFAULT_SEEDS, None);
    let (mut kept, mut trace, mut shrinks) = (Kept::default(), false, true);
    let mut goes_on = false;
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text} is no number"));
        match arg.as_str() {
            "--from" => from = number(value()?)?,
            "--seeds" => seeds = number(value()?)?,
            "--seed" => seed = Some(number(value()?)?),
            "--transitions" => kept = value()?.parse()?,
            "--corpus-only" => seeds = 0,
            "--trace" => (trace, shrinks) = (true, false),
            "--as-is" => shrinks = false,
            "--go-on" => goes_on = true,
            _ => return Err(format!("{arg} is unknown")),
        }
    }
    Ok(match seed {
        Some(seed) => Wanted::One { seed, kept, trace, shrinks },
        None => Wanted::Many { seeds: from..from.saturating_add(seeds), goes_on, shrinks },
    })
}
