//! Runs the simulator: `--seeds N` from seed 0, or `--seed S` alone, with `--trace` its log.

#![forbid(unsafe_code)]

use std::process::ExitCode;

const USAGE: &str = "usage: tabmux-sim [--seeds N] | --seed S [--trace]";
const DEFAULT_SEEDS: u64 = 1000;

fn main() -> ExitCode {
    let (seeds, trace) = match parse(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let (mut steps, mut echoes) = (0, 0);
    let count = seeds.len();
    for seed in seeds {
        match tabmux_sim::run(seed, trace) {
            Ok(run) => {
                steps += run.steps;
                echoes += run.echoes;
            }
            Err(failure) => {
                eprintln!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{count} seeds passed: {steps} steps, {echoes} messages echoed");
    ExitCode::SUCCESS
}

/// The seeds to run, and whether to print their log.
fn parse(mut args: impl Iterator<Item = String>) -> Result<(Vec<u64>, bool), String> {
    let mut seeds = None;
    let mut trace = false;
    while let Some(arg) = args.next() {
        let mut number = || {
            let text = args.next().ok_or_else(|| format!("{arg} needs a number"))?;
            text.parse::<u64>().map_err(|_| format!("{arg}: {text} is no number"))
        };
        match arg.as_str() {
            "--seeds" => seeds = Some(tabmux_sim::corpus().chain(0..number()?).collect()),
            "--seed" => seeds = Some(vec![number()?]),
            "--trace" => trace = true,
            _ => return Err(format!("{arg} is unknown")),
        }
    }
    let seeds = seeds.unwrap_or_else(|| tabmux_sim::corpus().chain(0..DEFAULT_SEEDS).collect());
    Ok((seeds, trace))
}
