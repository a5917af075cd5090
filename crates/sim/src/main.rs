//! Runs the simulator: `--seeds N` from `--from`, or `--seed S` alone, `--transitions 3,7-9` of it,
//! with `--trace` its log.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    ops::Range,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tabmux_sim::{
    Failure, Summary, engine::scripts::Scripts, invariant::Invariant, plan::Kept, run, seen::Seen,
    shipped, shrink::shrink,
};

const USAGE: &str = "usage: tabmux-sim [--shipped] [--from S] [--seeds N] [--corpus-only] [--go-on]
       tabmux-sim [--shipped] --seed S [--transitions all|none|3,7-9] [--trace] [--as-is]";
const DEFAULT_SEEDS: u64 = 1000;
/// So many seeds see all faults there are.
const ALL_SEEN: u64 = 300;

/// What was asked for.
enum Wanted {
    /// Every seed that ever failed, and these.
    Many { seeds: Range<u64>, shipped: bool, goes_on: bool, shrinks: bool },
    /// One seed, or a part of it.
    One { seed: u64, kept: Kept, trace: bool, shrinks: bool, shipped: bool },
}

fn main() -> ExitCode {
    let done = match parse(std::env::args().skip(1)) {
        Ok(Wanted::One { seed, kept, trace, shrinks, shipped: false }) => {
            one(seed, &kept, trace, shrinks)
        }
        Ok(Wanted::Many { seeds, shipped: false, .. }) => many(seeds),
        Ok(wanted) => return with_scripts(wanted),
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// The same with the shipped scripts.
fn with_scripts(wanted: Wanted) -> ExitCode {
    let scripts = match Scripts::read() {
        Ok(scripts) => scripts,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    match wanted {
        Wanted::One { seed, kept, trace, shrinks, .. } => {
            let scripts = scripts.into();
            match shipped::run(seed, &kept, trace, &scripts) {
                Ok(run) => {
                    let Summary { steps, heard, hash, .. } = run;
                    println!(
                        "seed {seed} passed: {steps} steps, {heard} messages, log {hash:016x}"
                    );
                    ExitCode::SUCCESS
                }
                Err(failure) => {
                    let failure =
                        if shrinks { shipped::shrink(failure, &scripts) } else { failure };
                    eprintln!("{failure}");
                    ExitCode::FAILURE
                }
            }
        }
        Wanted::Many { seeds, goes_on, shrinks, .. } => {
            many_shipped(&seeds, &scripts, goes_on, shrinks)
        }
    }
}

/// What came of many seeds.
#[derive(Default)]
struct Sum {
    passed: u64,
    steps: u64,
    heard: u64,
    seen: Seen,
    /// How often what is known to be broken was seen.
    known: BTreeMap<&'static str, u64>,
    failures: Vec<Failure>,
}

/// Many seeds at once, one on each processor.
fn many_shipped(seeds: &Range<u64>, scripts: &Scripts, goes_on: bool, shrinks: bool) -> ExitCode {
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Sum::default());
    let lock = || sum.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        let scripts = scripts.clone().into();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || !goes_on && !lock().failures.is_empty() {
                return;
            }
            let ran = shipped::run(seed, &Kept::default(), false, &scripts);
            let mut sum = lock();
            match ran {
                Ok(run) => {
                    sum.passed += 1;
                    sum.steps += run.steps;
                    sum.heard += run.heard;
                    sum.seen = sum.seen.with(run.seen);
                }
                Err(failure) => {
                    let known = shipped::known(&failure);
                    if goes_on {
                        println!("{}: {failure}", known.map_or("new", |it| it.name));
                    }
                    match known {
                        Some(known) => *sum.known.entry(known.name).or_default() += 1,
                        None => sum.failures.push(failure),
                    }
                }
            }
        }
    };
    thread::scope(|scope| {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let workers = (0..count).map(|_| scope.spawn(work)).collect::<Vec<_>>();
        for worker in workers {
            // A panic of a run is a failure of it; there is none here.
            let _ = worker.join();
        }
    });
    let Sum { passed, steps, heard, seen, known, failures } =
        sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{passed} seeds passed: {steps} steps, {heard} messages heard");
    let count = known.values().sum::<u64>();
    if count > 0 {
        println!("{count} failed as is known: {known:?}");
    }
    if !seen.is_all() {
        println!("{seen}");
    }
    if let Some(first) = failures.into_iter().min_by_key(|failure| failure.seed) {
        if !goes_on {
            let scripts = scripts.clone().into();
            let first = if shrinks { shipped::shrink(first, &scripts) } else { first };
            eprintln!("{first}");
        }
        return ExitCode::FAILURE;
    }
    if count * shipped::KNOWN_SHARE > seeds.end - seeds.start {
        eprintln!("more than one seed in {} failed as is known", shipped::KNOWN_SHARE);
        return ExitCode::FAILURE;
    }
    if seeds.end - seeds.start >= ALL_SEEN && !seen.is_all() {
        eprintln!("in so many seeds each fault must happen");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn one(seed: u64, kept: &Kept, trace: bool, shrinks: bool) -> Result<(), Failure> {
    let ran = run(seed, kept, trace);
    let run = if shrinks { ran.map_err(shrink)? } else { ran? };
    println!(
        "seed {seed} passed: {} steps, {} messages, log {:016x}",
        run.steps, run.heard, run.hash
    );
    Ok(())
}

fn many(seeds: Range<u64>) -> Result<(), Failure> {
    let (mut steps, mut heard) = (0, 0);
    let known = tabmux_sim::open().collect::<Vec<_>>();
    let seeds = seeds.filter(|seed| !known.contains(seed));
    let runs = tabmux_sim::corpus().chain(seeds.map(|seed| (seed, Kept::default())));
    let mut count = 0_u64;
    for (seed, kept) in runs {
        let Summary { steps: more, heard: also, hash, .. } =
            run(seed, &kept, false).map_err(shrink)?;
        (steps, heard, count) = (steps + more, heard + also, count + 1);
        // I10, now and then: it costs as much as the run.
        if count % 50 == 1 && run(seed, &kept, false).map(|again| again.hash) != Ok(hash) {
            let Err(broken) = Invariant::Determinism.broken::<()>("another log") else { continue };
            return Err(Failure { seed, kept, step: more, broken, shipped: false });
        }
    }
    println!("{count} seeds passed: {steps} steps, {heard} messages heard");
    Ok(())
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let (mut from, mut seeds, mut seed) = (0, DEFAULT_SEEDS, None);
    let (mut kept, mut trace, mut shrinks) = (Kept::default(), false, true);
    let (mut shipped, mut goes_on) = (false, false);
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
            "--shipped" => shipped = true,
            "--go-on" => goes_on = true,
            _ => return Err(format!("{arg} is unknown")),
        }
    }
    Ok(match seed {
        Some(seed) => Wanted::One { seed, kept, trace, shrinks, shipped },
        None => Wanted::Many { seeds: from..from.saturating_add(seeds), shipped, goes_on, shrinks },
    })
}
