//! What somebody who means harm does to a server, and what a neighbour notices of it.
//!
//! Each case has a server of its own, for each way in: the server's own listener, and an app of
//! axum. Attackers and the neighbour come through a trusted proxy, which names their addresses.
//! The neighbour asks for an echo every 20 ms.
//!
//! A row tells how much memory the ledger counted of what the allocator gave, at the moment when
//! that was the most; the memory that the process had of the system then, and a while after all
//! attackers were gone; who was refused; which answers the neighbour lost, and how long 99 of 100
//! took.
//!
//! The program fails if the neighbour loses an answer, if the ledger is wrong by more than a factor
//! of 1.25, or if a case in which somebody has to be refused refuses nobody.
//!
//! `--short` does the same with fewer clients and smaller limits. `--only TEXT` runs the cases
//! whose name contains the text. Behind them come those of a slow judge (`judge`).

#![expect(clippy::wildcard_enum_match_arm, reason = "an example looks at few of many kinds")]

mod cases;
mod client;
mod judge;
mod serve;

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use peak_alloc::PeakAlloc;
use tabmux_server::raise_descriptor_limit;
use tokio::time::{sleep, timeout};

use self::{
    cases::Case,
    client::{Heard, Neighbour, listen},
    serve::{Gauge, Reading, Running, Way},
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The neighbour's address.
const NEIGHBOUR: &str = "198.51.100.7";
/// How long a case may take.
const DEADLINE: Duration = Duration::from_secs(300);
/// How often the memory is read.
const READ_EVERY: Duration = Duration::from_millis(50);
/// Memory from which on the ledger is held against the allocator.
const JUDGED: usize = 8 << 20;

#[tokio::main]
async fn main() -> Outcome<()> {
    raise_descriptor_limit();
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", way, config] => return serve::serve(&ALLOCATOR, way, config).await,
        ["judge", judge, handshake] => {
            return judge::serve(judge.parse()?, handshake.parse()?).await;
        }
        _ => {}
    }
    let is_short = arguments.iter().any(|it| it == "--short");
    let only = arguments.iter().position(|it| it == "--only");
    let only = only.and_then(|at| arguments.get(at + 1)).map_or("", String::as_str);
    println!("| case | way | ledger | memory | who was refused | the neighbour lost | p99 |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut faults = Vec::new();
    for case in Case::ALL.into_iter().filter(|case| case.name().contains(only)) {
        for way in Way::ALL {
            let row = timeout(DEADLINE, run(case, way, is_short)).await??;
            println!("{}", row.line(case, way));
            let at = |fault| format!("{}, {}: {fault}", case.name(), way.name());
            faults.extend(row.faults(case).into_iter().map(at));
        }
    }
    if "a slow judge".contains(only) {
        judge::all(is_short).await?;
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ").into()) }
}

/// What a case came to.
struct Row {
    /// At the moment when the most was allocated, beyond what was before the attack.
    peak: Reading,
    resident: usize,
    left: usize,
    refused: Vec<(String, u64)>,
    /// Links of attackers that the server has not closed.
    attackers: usize,
    heard: Heard,
}

async fn run(case: Case, way: Way, is_short: bool) -> Outcome<Row> {
    let (server, mut gauge) = Running::start(way, &case.config(is_short)).await?;
    // The first link begins the shards, whose buffers are no link's.
    let mut neighbour = Neighbour::dial(server.address, NEIGHBOUR).await?;
    neighbour.echo().await?;
    let away = Neighbour::dial(server.address, NEIGHBOUR).await?.lose();
    let before = gauge.read().await?;
    let stop = Arc::new(AtomicBool::new(false));
    let listening = tokio::spawn(listen(neighbour, Arc::clone(&stop)));
    let sampling = tokio::spawn(sample(gauge, before, Arc::clone(&stop)));
    let attackers = case.attack(server.address, is_short).await?;
    // What was said last is taken in, and what has to be refused is.
    sleep(Duration::from_millis(500)).await;
    let resident = server.resident();
    stop.store(true, Ordering::Relaxed);
    let (mut neighbour, mut heard) = listening.await?;
    let (_gauge, peak) = sampling.await??;
    if heard.lost.is_empty() {
        match neighbour.subscribe("what nobody had before").await {
            Ok(true) => {}
            Ok(false) => heard.lost.push("a topic".to_owned()),
            Err(error) => heard.lost.push(format!("a topic: {error}")),
        }
    }
    if !Neighbour::is_back(server.address, NEIGHBOUR, away).await? {
        heard.lost.push("a session that waited for its link".to_owned());
    }
    let refused = server.refused().await?;
    let count = attackers.len();
    drop(attackers);
    sleep(Duration::from_secs(1)).await;
    Ok(Row { peak, resident, left: server.resident(), refused, attackers: count, heard })
}

/// Reads the memory until it is told to stop. Returns the reading when the most was allocated.
async fn sample(
    mut gauge: Gauge,
    before: Reading,
    stop: Arc<AtomicBool>,
) -> Outcome<(Gauge, Reading)> {
    let mut peak = Reading::default();
    while !stop.load(Ordering::Relaxed) {
        let Reading { allocated, charged } = gauge.read().await?;
        let allocated = allocated.saturating_sub(before.allocated);
        if allocated > peak.allocated {
            peak = Reading { allocated, charged: charged.saturating_sub(before.charged) };
        }
        sleep(READ_EVERY).await;
    }
    Ok((gauge, peak))
}

impl Row {
    fn line(&self, case: Case, way: Way) -> String {
        let mib = |bytes: usize| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        let ledger = format!("{} of {} MiB", mib(self.peak.charged), mib(self.peak.allocated));
        let memory = format!("{} MiB, then {}", mib(self.resident), mib(self.left));
        let refused = self.refused.iter().map(|(name, count)| format!("{count} `{name}`"));
        let refused = refused.collect::<Vec<_>>().join(", ");
        let refused = format!("{refused}; {} attackers are left", self.attackers);
        let lost = format!("{} of {}", self.heard.lost.len(), self.heard.asked());
        let (case, way, p99) = (case.name(), way.name(), self.heard.p99());
        format!("| {case} | {way} | {ledger} | {memory} | {refused} | {lost} | {p99:.1?} |")
    }

    fn faults(&self, case: Case) -> Vec<String> {
        let mut faults = Vec::new();
        let lost = self.heard.lost.iter();
        faults.extend(lost.map(|lost| format!("the neighbour lost an answer: {lost}")));
        let Reading { allocated, charged } = self.peak;
        let ratio = charged as f64 / allocated.max(1) as f64;
        if allocated >= JUDGED && !(0.8..=1.25).contains(&ratio) {
            faults.push(format!("the ledger counted {charged} of {allocated}"));
        }
        if case.refuses() && self.refused.is_empty() {
            faults.push("nobody was refused".to_owned());
        }
        faults
    }
}
