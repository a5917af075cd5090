//! What a follower's page notices when a leader dies: `cargo xtask bench handover`.

mod round;
mod table;

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    time::Instant,
};

use round::{Bench, Seen};

use crate::{Result, engine::Engine};

/// The options of a run: what is measured, and in which browsers.
#[derive(Clone, Debug)]
pub struct Options {
    /// The browsers, one after another.
    pub engines: Vec<Engine>,
    /// The tiers that are measured.
    pub tiers: Vec<Tier>,
    /// The ways to die.
    pub deaths: Vec<Death>,
    /// Rounds of each cell.
    pub rounds: u32,
    /// Whether the page that looks on is hidden.
    pub hides: bool,
    /// The document whose tables are replaced.
    pub write: Option<PathBuf>,
}

/// How the hub is hosted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The hub runs in a `SharedWorker`.
    SharedWorker,
    /// In a worker of the leading tab.
    Leader,
    /// The same without Web Locks.
    Storage,
    /// No sharing and no tabmux: a `WebSocket` a tab.
    None,
}

/// A death of the tab or the link, whose effect is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The first tab, which hosts the hub, is closed.
    TabClosed,
    /// Its process is killed.
    TabCrashed,
    /// The hub's process is killed, and no tab with it.
    WorkerCrashed,
    /// There is one tab, and it is loaded again.
    Reloaded,
    /// The server is killed and started again at once.
    ServerRestarted,
    /// The link to the server breaks.
    LinkCut,
}

impl Tier {
    /// All tiers, in the order of the table.
    pub const ALL: [Self; 4] = [Self::SharedWorker, Self::Leader, Self::Storage, Self::None];

    /// As the page library calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SharedWorker => "shared-worker",
            Self::Leader => "leader",
            Self::Storage => "storage",
            Self::None => "none",
        }
    }
}

impl Death {
    /// All deaths, in the order of the table.
    pub const ALL: [Self; 6] = [
        Self::TabClosed,
        Self::TabCrashed,
        Self::WorkerCrashed,
        Self::Reloaded,
        Self::ServerRestarted,
        Self::LinkCut,
    ];

    /// Returns the text for the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TabClosed => "leader tab closed",
            Self::TabCrashed => "leader tab crashed",
            Self::WorkerCrashed => "worker crashed",
            Self::Reloaded => "only tab reloaded",
            Self::ServerRestarted => "server restarted",
            Self::LinkCut => "link cut",
        }
    }
}

/// One cell: what each round saw, or why there is none.
struct Cell {
    death: Death,
    tier: Tier,
    rounds: std::result::Result<Vec<Seen>, String>,
}

/// Measures and prints the tables.
pub fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    for engine in &options.engines {
        let mut cells = Vec::new();
        for tier in &options.tiers {
            let mut bench = Bench::start(*engine, *tier, options.hides)?;
            let refused = bench.obstacle()?;
            for death in &options.deaths {
                let rounds = match refused.clone().or_else(|| death.obstacle(*tier)) {
                    Some(why) => Err(why),
                    None => measure(&mut bench, options, *death, *engine, *tier)?,
                };
                cells.push(Cell { death: *death, tier: *tier, rounds });
            }
        }
        let table = table::markdown(&cells);
        println!("\n{engine}\n\n{table}");
        if let Some(document) = &options.write {
            table::write(document, *engine, &table)?;
        }
    }
    println!("{:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

impl Death {
    fn obstacle(self, tier: Tier) -> Option<String> {
        match (self, tier) {
            (Self::WorkerCrashed, Tier::Leader | Tier::Storage) => {
                Some("its worker lives in the leader's process: leader tab crashed".into())
            }
            (Self::WorkerCrashed, Tier::None) => Some("no worker".into()),
            _ => None,
        }
    }
}

/// The outer error ends the run; the inner one is a cell that cannot be.
fn measure(
    bench: &mut Bench,
    options: &Options,
    death: Death,
    engine: Engine,
    tier: Tier,
) -> Result<std::result::Result<Vec<Seen>, String>> {
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let seen = bench.round(death);
        let cell = format!("{engine} {} {}", tier.name(), death.name());
        match seen {
            Ok(seen) => {
                progress(&format!("{cell}, round {number}: gap {:.0} ms", seen.gap));
                rounds.push(seen);
            }
            Err(error) => {
                println!("{cell}, round {number}: {error}");
                // What a broken round leaves behind must not be measured.
                *bench = Bench::start(engine, tier, options.hides)?;
                if rounds.is_empty() && number >= 3 {
                    return Ok(Err(error));
                }
            }
        }
    }
    println!("{engine:<9} {:<13} {}: {}", tier.name(), death.name(), table::line(&rounds));
    if options.hides {
        let hidden = rounds.iter().filter(|seen| seen.was_hidden).count();
        println!("{engine:<9} the page was hidden in {hidden} of them, as it says");
    }
    if rounds.is_empty() { Ok(Err("no round came to its end".into())) } else { Ok(Ok(rounds)) }
}

fn progress(line: &str) {
    if std::io::stdout().is_terminal() {
        print!("\r\x1b[K{line}\r");
        // Nothing is lost where that fails.
        drop(std::io::stdout().flush());
    }
}
