//! What a page notices of tabmux, beside the browser's own `WebSocket` and beside the SharedWorker
//! that tutorials teach: `cargo xtask bench browser`.

mod feeds;
mod line;
mod memory;
mod opens;
mod progress;
mod rig;
mod sheet;
mod trips;

use std::{path::PathBuf, time::Instant};

use progress::Progress;
use rig::Rig;
use sheet::Sheet;

use crate::{Result, engine::Engine};

/// The options of a run: what is measured, and in which browsers.
#[derive(Clone, Debug)]
pub struct Options {
    /// The browsers, one after another.
    pub engines: Vec<Engine>,
    /// How often everything is measured.
    pub runs: usize,
    /// Only the parts whose name contains this.
    pub only: Option<String>,
    /// Few messages: what comes is looked at, and no time.
    pub is_short: bool,
    /// The document whose tables are replaced.
    pub write: Option<PathBuf>,
}

/// How much each part does.
#[derive(Clone, Debug)]
struct Scale {
    runs: usize,
    /// Round trips of a small message, how many in a row make one time, and those of a large one.
    trips: [usize; 3],
    /// Messages of the two feeds of small ones, and of that of large ones.
    feed: [usize; 2],
    /// Tabs of a feed, few and many.
    tabs: [usize; 2],
    /// How long publications go on at one rate, in milliseconds.
    sustained_ms: usize,
    /// Rates, of which the highest without loss is looked for.
    rates: &'static [usize],
    /// Sockets of one page.
    sockets: [usize; 3],
}

impl Scale {
    const fn new(runs: usize) -> Self {
        Self {
            runs,
            trips: [150, 10, 300],
            feed: [3_000, 1_000],
            tabs: [5, 15],
            sustained_ms: 4_000,
            rates: &[2_500, 5_000, 10_000, 20_000, 40_000],
            sockets: [1, 10, 50],
        }
    }

    const fn short(runs: usize) -> Self {
        Self {
            trips: [5, 2, 5],
            feed: [100, 20],
            tabs: [2, 3],
            sustained_ms: 200,
            rates: &[500, 1_000],
            sockets: [1, 2, 3],
            ..Self::new(runs)
        }
    }
}

/// One part: its name, the steps of one run of it, and what it does.
type Part = (&'static str, fn(&Scale) -> usize, fn(&mut Rig) -> Result<()>);

const PARTS: [Part; 5] = [
    ("round trips", trips::steps, trips::measure),
    ("feeds", feeds::steps, feeds::measure),
    ("sustained topics", feeds::sustained_steps, feeds::sustain),
    ("first open", opens::steps, opens::measure),
    ("many sockets", memory::steps, memory::measure),
];

/// Measures and prints the tables.
pub fn run(options: &Options) -> Result<()> {
    let runs = options.runs;
    let scale = if options.is_short { Scale::short(runs) } else { Scale::new(runs) };
    let wanted = |(name, ..): &&Part| options.only.as_ref().is_none_or(|text| name.contains(text));
    let parts: Vec<&Part> = PARTS.iter().filter(wanted).collect();
    if parts.is_empty() {
        let names = PARTS.map(|(name, ..)| name).join(", ");
        return Err(format!("--only names none of the parts: {names}"));
    }
    let steps: usize = parts.iter().map(|(_, steps, _)| steps(&scale) * runs).sum();
    for engine in &options.engines {
        let start = Instant::now();
        let mut rig = Rig::start(*engine, scale.clone(), Progress::new(*engine, steps))?;
        for (name, _, measure) in &parts {
            measure(&mut rig).map_err(|error| format!("{engine}, {name}: {error}"))?;
            rig.session.browser.close_all()?;
        }
        rig.progress.end()?;
        tell(options, *engine, &rig.sheet, start)?;
    }
    Ok(())
}

/// Prints what one engine showed, and writes it down if it is for the book.
fn tell(options: &Options, engine: Engine, sheet: &Sheet, start: Instant) -> Result<()> {
    let (samples, figures) = sheet.count();
    if samples != figures * options.runs {
        let runs = options.runs;
        return Err(format!("{samples} samples of {figures} figures in {runs} runs"));
    }
    let seconds = start.elapsed().as_secs();
    if options.is_short {
        println!("ok   {engine}: {samples} samples of {figures} figures, every message came");
        return Ok(());
    }
    let (met, targets) = sheet.targets();
    let report = format!(
        "Medians of {} runs, which took {seconds} s; {met} of {targets} targets are met.\n\n{}",
        options.runs,
        sheet.table(),
    );
    println!("\n{engine}\n\n{report}");
    match &options.write {
        Some(document) => sheet::write(document, engine, &report),
        None => Ok(()),
    }
}
