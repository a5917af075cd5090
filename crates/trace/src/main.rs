//! Replays a trace and prints it, or makes a trace from a seed.

#![forbid(unsafe_code)]

use std::{error::Error, fs, io::Write as _, process::ExitCode};

use tabmux_trace::{
    record::record,
    replay::{Line, replay},
};

const USAGE: &str = "usage: tabmux-trace replay FILE [--quiet]
       tabmux-trace record SEED STEPS FILE";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["replay", file] => print(file, false),
        ["replay", file, "--quiet"] => print(file, true),
        ["record", seed, steps, file] => make(seed, steps, file),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn print(file: &str, quiet: bool) -> Result<(), Box<dyn Error>> {
    let bytes = fs::read(file).map_err(|error| format!("{file}: {error}"))?;
    let mut out = std::io::stdout().lock();
    // Each line is printed at once. If the hub panics, the last line is the input that made it
    // panic.
    let replayed = replay(&bytes, |line| {
        if quiet {
            return;
        }
        // Printing fails if the reader of the pipe has closed it, which is no error.
        let _ = match line {
            Line::Told(entry) => writeln!(out, "{entry:?}"),
            Line::Ordered(output) => writeln!(out, "    {output:?}"),
        };
    })
    .map_err(|error| format!("{file}: {error}"))?;
    println!(
        "{} inputs and {} orders, the same as in the recording at {} comparisons",
        replayed.told, replayed.ordered, replayed.compared
    );
    Ok(())
}

fn make(seed: &str, steps: &str, file: &str) -> Result<(), Box<dyn Error>> {
    fs::write(file, record(seed.parse()?, steps.parse()?))?;
    Ok(())
}
