//! A server comes back, and everybody at once.

use std::{
    collections::BTreeMap,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use anyhow::bail;
use tabmux_cli::bench::{Fleet, Plan, Progress, Retry, Topics, stamp::Clock};

use crate::{
    Bench,
    memory::names,
    peer::Kind,
    room::Room,
    table::{Table, Target},
};

/// A connection that found a full queue knocks again after 1, 3, 7, 15, 31 and 63 s.
const PATIENCE: Duration = Duration::from_secs(70);

pub(crate) fn run(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let links = bench.scale.storm;
    let mut found: [BTreeMap<Kind, f64>; 3] = Default::default();
    for kind in [Kind::Tabmux, Kind::Floor, Kind::Ws, Kind::Axum] {
        if bench.peers.has(kind) {
            for (values, figure) in found.iter_mut().zip(storm(bench, kind, links)?) {
                values.insert(kind, figure);
            }
        }
    }
    let name = format!("{links} links come back after a restart");
    let rows =
        [("until all are open", "s"), ("the server's CPU", "s"), ("refused for a while", "times")];
    for ((what, unit), values) in rows.into_iter().zip(found) {
        table.push(format!("{name}: {what}"), unit, Target::None, values);
    }
    Ok(())
}

/// Seconds until all are open again, the new server's CPU, refusals.
fn storm(bench: &Bench, kind: Kind, links: usize) -> anyhow::Result<[f64; 3]> {
    let topics = Topics { common: names(1), ..Topics::default() };
    let mut room = Room::new(bench, bench.peers.start(kind)?, 1, &topics)?;
    room.grow(links)?;
    let port = room.server.address.port();
    let Room { server, fleet, .. } = room;
    server.kill()?;
    drop(fleet);
    let start = Instant::now();
    let restarted = if kind == Kind::Tabmux { Kind::Guarded } else { kind };
    let server = bench.peers.start_on(restarted, port)?;
    // All of them knock at once and obey what the server tells them.
    let plan = Plan {
        in_flight: links,
        patience: PATIENCE,
        retry: Retry::Always,
        ..server.plan(1, topics)
    };
    let mut fleet = Fleet::new(plan, Clock::start())?;
    let mut progress = Progress::new(&format!("{kind}: all at once"), links as u64);
    fleet.grow(links, &mut |tally| {
        progress.at(tally.ready, String::new);
        !bench.stop.load(Ordering::Relaxed)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let tally = fleet.tally();
    if tally.ready != links as u64 {
        bail!("{kind}: {} of {links} came back: {:?}", tally.ready, tally.refused);
    }
    let refused = tally.refused.values().sum::<u64>();
    if refused > 0 {
        eprintln!("     {kind}: refused for a while: {:?}", tally.refused);
    }
    Ok([seconds, server.process().cpu()?.as_secs_f64(), refused as f64])
}
