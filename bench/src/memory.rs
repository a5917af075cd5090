//! What an idle link costs, and what accepting it cost.

use std::collections::BTreeMap;

use tabmux_cli::bench::Topics;

use crate::{
    Bench,
    peer::Kind,
    room::{Room, Round},
    table::{Table, Target},
};

/// The message that buffers may grow by.
const LARGE: Round = Round { messages: 1, size: 16 << 10 };

/// What one server showed.
struct Shown {
    /// KiB for each further link.
    idle: f64,
    /// The same after a large message to each.
    after_large: Option<f64>,
    /// CPU for each further link, in microseconds.
    accept: f64,
}

pub(crate) fn run(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let three = Topics { common: names(3), ..Topics::default() };
    let bare = show(bench, Kind::Tabmux, 1, &Topics::default())?;
    let topics = show(bench, Kind::Tabmux, 1, &three)?;
    let tabs = show(bench, Kind::Tabmux, bench.scale.tabs, &three)?;
    let mut others = BTreeMap::new();
    for kind in [Kind::Floor, Kind::Ws, Kind::Axum] {
        if bench.peers.has(kind) {
            others.insert(kind, show(bench, kind, 0, &Topics::default())?);
        }
    }
    let of = |own: f64, other: fn(&Shown) -> Option<f64>| {
        let others = others.iter().filter_map(move |(kind, shown)| Some((*kind, other(shown)?)));
        others.chain([(Kind::Tabmux, own)]).collect::<Vec<_>>()
    };
    let idle = |own| of(own, |shown| Some(shown.idle));
    table.push("idle link", "KiB", Target::AtMost(0.5), idle(bare.idle));
    table.push("idle link, 3 topics", "KiB", Target::AtMost(0.75), idle(topics.idle));
    let name = format!("idle link, 3 topics, {} tabs", bench.scale.tabs);
    table.push(name, "KiB", Target::AtMost(1.0), idle(tabs.idle));
    let after = of(topics.after_large.unwrap_or(0.0), |shown| shown.after_large);
    table.push("the same with 3 topics after 16 KiB to each", "KiB", Target::None, after);
    let accept = of(bare.accept, |shown| Some(shown.accept));
    table.push("accepting a link", "µs CPU", Target::None, accept);
    Ok(())
}

pub(crate) fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("bench/{number}")).collect()
}

fn show(bench: &Bench, kind: Kind, tabs: u32, topics: &Topics) -> anyhow::Result<Shown> {
    let [few, many] = bench.scale.slope;
    let mut room = Room::new(bench, bench.peers.start(kind)?, tabs, topics)?;
    let process = room.process();
    room.grow(few)?;
    room.rest(bench.scale.settle)?;
    let (resident_few, cpu_few) = (process.resident()?, process.cpu()?);
    room.grow(many)?;
    let cpu = process.cpu()? - cpu_few;
    room.rest(bench.scale.settle)?;
    let resident = process.resident()?;
    let more = (many - few) as f64;
    let idle = (resident as f64 - resident_few as f64) / 1024.0 / more;
    let published = !room.server.is_tabmux() || !topics.is_empty();
    let after_large = if published {
        room.round(LARGE)?;
        room.rest(bench.scale.settle)?;
        let grown = process.resident()? as f64 - resident as f64;
        Some(idle + grown / 1024.0 / many as f64)
    } else {
        None
    };
    Ok(Shown { idle, after_large, accept: cpu.as_secs_f64() * 1e6 / more })
}
