//! `cargo xtask bench server`: what tabmux costs a server, beside other servers and beside a floor.
//! Every server is a process of its own, and all are driven by the load generator of
//! `tabmux bench`. docs/benchmarks.md says what is measured.

#![forbid(unsafe_code)]

mod fanout;
mod flags;
mod machine;
mod memory;
mod peer;
mod room;
mod storm;
mod table;
mod users;

use std::{
    path::Path,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::Context;
use tabmux_cli::bench::need_files;

use crate::{flags::TabmuxBench, peer::Peers, table::Table};

/// How much is measured.
pub(crate) struct Scale {
    /// Links that memory is measured over: from the first number to the second.
    slope: [usize; 2],
    /// Links of a fan-out.
    fanout: usize,
    /// Links of fan-outs that grow.
    growth: [usize; 2],
    topics: [usize; 3],
    /// Rounds of one message, and of twenty.
    rounds: [usize; 2],
    users: usize,
    tabs: u32,
    storm: usize,
    /// How long a server is left alone before its memory is read.
    settle: Duration,
}

impl Scale {
    const FULL: Self = Self {
        slope: [2_500, 10_000],
        fanout: 5_000,
        growth: [1_000, 15_000],
        topics: [1, 100, 10_000],
        rounds: [300, 60],
        users: 1_000,
        tabs: 15,
        storm: 15_000,
        settle: Duration::from_secs(3),
    };
    const QUICK: Self = Self {
        slope: [250, 1_000],
        fanout: 500,
        growth: [100, 1_500],
        topics: [1, 10, 1_000],
        rounds: [30, 10],
        users: 100,
        storm: 1_500,
        settle: Duration::from_millis(500),
        ..Self::FULL
    };
}

/// What every part needs.
pub(crate) struct Bench {
    peers: Peers,
    scale: Scale,
    stop: Arc<AtomicBool>,
}

fn main() -> ExitCode {
    match run(&TabmuxBench::from_env_or_exit()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &TabmuxBench) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second one ends this program at once.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let scale = if flags.quick { Scale::QUICK } else { Scale::FULL };
    // Servers inherit the limit.
    need_files(scale.storm.max(scale.fanout * 3) + 200).map_err(anyhow::Error::msg)?;
    let peers = Peers::new(flags.tabmux.clone(), flags.ws.clone())?;
    let bench = Bench { peers, scale, stop };
    let start = Instant::now();
    let mut table = Table::default();
    type Part = fn(&Bench, &mut Table) -> anyhow::Result<()>;
    let parts: [(&str, Part); 5] = [
        ("memory", memory::run),
        ("fan-out", fanout::run),
        ("growth", fanout::growth),
        ("users", users::run),
        ("storm", storm::run),
    ];
    for (name, part) in parts {
        if flags.only.as_ref().is_none_or(|text| name.contains(text.as_str())) {
            let began = Instant::now();
            part(&bench, &mut table).with_context(|| format!("measuring {name}"))?;
            eprintln!("ok   {name} ({:.0} s)", began.elapsed().as_secs_f64());
        }
    }
    let report = format!(
        "{}\nThe run took {:.0} s.\n\n{table}",
        machine::describe(&bench.peers),
        start.elapsed().as_secs_f64()
    );
    println!("{report}");
    match &flags.write {
        Some(path) => write(path, &report),
        None => Ok(()),
    }
}

/// Puts the report between the markers of a file.
fn write(path: &Path, report: &str) -> anyhow::Result<()> {
    const BEGIN: &str = "<!-- figures -->\n";
    const END: &str = "<!-- /figures -->";
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let markers = text.split_once(BEGIN).and_then(|(head, rest)| {
        let (_, tail) = rest.split_once(END)?;
        Some((head, tail))
    });
    let (head, tail) =
        markers.with_context(|| format!("{} has no lines {BEGIN}and {END}", path.display()))?;
    std::fs::write(path, format!("{head}{BEGIN}{report}{END}{tail}"))?;
    Ok(())
}
