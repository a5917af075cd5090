//! The same by user: many tabs behind one link, against a socket for each tab.

use std::collections::BTreeMap;

use tabmux_cli::bench::Topics;

use crate::{
    Bench,
    fanout::SIZE,
    memory::names,
    peer::Kind,
    room::{Room, Round, median},
    table::{Table, Target},
};

const ROUNDS: usize = 30;

pub(crate) fn run(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let (users, tabs) = (bench.scale.users, bench.scale.tabs);
    let topics = Topics { common: names(1), ..Topics::default() };
    let mut found: [BTreeMap<Kind, f64>; 3] = Default::default();
    for kind in [Kind::Tabmux, Kind::Ws].into_iter().filter(|kind| bench.peers.has(*kind)) {
        let mut room = Room::new(bench, bench.peers.start(kind)?, tabs, &topics)?;
        let links = if kind == Kind::Tabmux { users } else { users * tabs as usize };
        let process = room.process();
        room.rest(bench.scale.settle)?;
        let (resident, sockets) = (process.resident()?, process.sockets()?);
        room.grow(links)?;
        room.rest(bench.scale.settle)?;
        let grown = process.resident()? as f64 - resident as f64;
        let more = (process.sockets()? - sockets) as f64;
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            times.push(room.round(Round { messages: 1, size: SIZE })?);
        }
        let figures = [grown / 1024.0 / users as f64, more / users as f64, median(times)];
        for (values, figure) in found.iter_mut().zip(figures) {
            values.insert(kind, figure);
        }
    }
    let name = format!("{users} users of {tabs} tabs");
    let rows = [
        ("memory for each user", "KiB"),
        ("sockets of each user", "in the kernel"),
        ("a publication to every tab", "µs CPU"),
    ];
    for ((what, unit), values) in rows.into_iter().zip(found) {
        table.push(format!("{name}: {what}"), unit, Target::None, values);
    }
    Ok(())
}
