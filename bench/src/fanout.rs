//! What a delivery costs: one publication to many links.

use std::{collections::BTreeMap, time::Duration};

use tabmux_cli::bench::{Progress, Topics};

use crate::{
    Bench,
    memory::names,
    peer::Kind,
    room::{Room, Round, median},
    table::{Table, Target},
};

pub(crate) const SIZE: usize = 128;
const WARM_UP: usize = 3;
/// Compared with each other in every row.
const OURS: [Kind; 3] = [Kind::Tabmux, Kind::OneShard, Kind::Floor];
const MARGIN: f64 = 1.1;
/// How often servers take turns that cannot be there at once.
const PASSES: usize = 3;

pub(crate) fn run(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let [ones, twenties] = bench.scale.rounds;
    let topics = Topics { common: names(1), ..Topics::default() };
    let links = bench.scale.fanout;
    let mut found = Vec::new();
    // More at once would have too many files for this process.
    for kinds in [[Kind::Tabmux, Kind::Floor, Kind::Ws], [Kind::OneShard, Kind::Floor, Kind::Axum]]
    {
        let mut rooms = Vec::new();
        for kind in kinds.into_iter().filter(|kind| bench.peers.has(*kind)) {
            rooms.push(open(bench, kind, &topics, links)?);
        }
        found.push([compare(&mut rooms, 1, ones)?, compare(&mut rooms, 20, twenties)?]);
    }
    for (place, how) in ["one at a time", "20 in flight"].into_iter().enumerate() {
        let name = format!("a delivery, to {links} links, {how}");
        for values in &found {
            push(table, &name, values[place].clone());
        }
    }
    Ok(())
}

/// The same as topics and links grow.
pub(crate) fn growth(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let (links, rounds) = (bench.scale.fanout, bench.scale.rounds[0]);
    for count in bench.scale.topics {
        let dealt = names(count).split_off(1);
        // Every topic has a subscriber.
        let per_link = dealt.len().div_ceil(links);
        let topics = Topics { common: names(1), dealt, per_link };
        let mut rooms = Vec::new();
        for kind in OURS {
            rooms.push(open(bench, kind, &topics, links)?);
        }
        let values = compare(&mut rooms, 1, rounds)?;
        push(table, &format!("a delivery, to {links} links, one of {count} topics"), values);
    }
    let topics = Topics { common: names(1), ..Topics::default() };
    for links in bench.scale.growth {
        let (mut times, mut size): (BTreeMap<Kind, Vec<_>>, _) = (BTreeMap::new(), SIZE);
        // All at once would have too many files for this process.
        for kind in OURS.repeat(PASSES) {
            let rooms = &mut [open(bench, kind, &topics, links)?];
            for (kind, more) in measure(rooms, 1, rounds / PASSES, &mut size)? {
                times.entry(kind).or_default().extend(more);
            }
        }
        let values = times.into_iter().map(|(kind, times)| (kind, median(times) / links as f64));
        let name = format!("a delivery, to {links} links, one server at a time");
        push(table, &name, values.collect());
    }
    Ok(())
}

/// Adds a row for tabmux as it comes, and one for it as a single thread, which the floor is.
fn push(table: &mut Table, name: &str, values: BTreeMap<Kind, f64>) {
    let mut others = values;
    let (whole, single) = (others.remove(&Kind::Tabmux), others.remove(&Kind::OneShard));
    let rows = [(whole, name.to_owned()), (single, format!("{name}, one shard"))];
    for (own, name) in rows.into_iter().filter_map(|(own, name)| Some((own?, name))) {
        let values = others.clone().into_iter().chain([(Kind::Tabmux, own)]);
        table.push(name, "µs CPU", Target::OfFloor(MARGIN), values);
    }
}

fn open(bench: &Bench, kind: Kind, topics: &Topics, links: usize) -> anyhow::Result<Room> {
    let mut room = Room::new(bench, bench.peers.start(kind)?, 1, topics)?;
    room.grow(links)?;
    Ok(room)
}

/// CPU for each delivery, in microseconds: the middle round.
fn compare(
    rooms: &mut [Room],
    messages: usize,
    rounds: usize,
) -> anyhow::Result<BTreeMap<Kind, f64>> {
    let mut size = SIZE;
    let times = measure(rooms, messages, rounds, &mut size)?;
    let links = rooms.first().map_or(0, |room| room.fleet.tally().ready);
    let deliveries = links as f64 * messages as f64;
    Ok(times.into_iter().map(|(kind, times)| (kind, median(times) / deliveries)).collect())
}

/// CPU of rounds that the servers take in turn. `size` is what the floor writes: what tabmux wrote
/// last.
fn measure(
    rooms: &mut [Room],
    messages: usize,
    rounds: usize,
    size: &mut usize,
) -> anyhow::Result<BTreeMap<Kind, Vec<Duration>>> {
    let mut times: BTreeMap<Kind, Vec<_>> = BTreeMap::new();
    let mut progress = Progress::new(&format!("publishing by {messages}"), rounds as u64);
    for number in 0..rounds + WARM_UP {
        progress.at(number as u64, String::new);
        for room in &mut *rooms {
            let own = if room.server.kind == Kind::Floor { *size } else { SIZE };
            let cpu = room.round(Round { messages, size: own })?;
            if room.server.is_tabmux() {
                const HEADER: usize = 4;
                *size = room.frame_bytes() - HEADER;
            }
            if number >= WARM_UP {
                times.entry(room.server.kind).or_default().push(cpu);
            }
        }
    }
    Ok(times)
}
