//! Runs the simulator: `--seeds N` from `--from`, or `--seed S` alone, `--transitions 3,7-9` of it,
//! with `--trace` its log.

#![forbid(unsafe_code)]

use std::{ops::Range, process::ExitCode};

use tabmux_sim::{Failure, Summary, invariant::Invariant, plan::Kept, run, shrink::shrink};

const USAGE: &str = "usage: tabmux-sim [--from S] [--seeds N] [--corpus-only]
       tabmux-sim --seed S [--transitions all|none|3,7-9] [--trace] [--as-is]";
const DEFAULT_SEEDS: u64 = 1000;

/// What was asked for.
enum Wanted {
    /// Every seed that ever failed, and these.
    Many(Range<u64>),
    /// One seed, or a part of it.
    One { seed: u64, kept: Kept, trace: bool, shrinks: bool },
}

fn main() -> ExitCode {
    let done = match parse(std::env::args().skip(1)) {
        Ok(Wanted::One { seed, kept, trace, shrinks }) => one(seed, &kept, trace, shrinks),
        Ok(Wanted::Many(seeds)) => many(seeds),
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
        let Summary { steps: more, heard: also, hash } = run(seed, &kept, false).map_err(shrink)?;
        (steps, heard, count) = (steps + more, heard + also, count + 1);
        // I10, now and then: it costs as much as the run.
        if count % 50 == 1 && run(seed, &kept, false).map(|again| again.hash) != Ok(hash) {
            let Err(broken) = Invariant::Determinism.broken::<()>("another log") else { continue };
            return Err(Failure { seed, kept, step: more, broken });
        }
    }
    println!("{count} seeds passed: {steps} steps, {heard} messages heard");
    Ok(())
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let (mut from, mut seeds, mut seed) = (0, DEFAULT_SEEDS, None);
    let (mut kept, mut trace, mut shrinks) = (Kept::default(), false, true);
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
            _ => return Err(format!("{arg} is unknown")),
        }
    }
    Ok(match seed {
        Some(seed) => Wanted::One { seed, kept, trace, shrinks },
        None => Wanted::Many(from..from.saturating_add(seeds)),
    })
}
