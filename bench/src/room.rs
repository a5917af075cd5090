//! One server with links, and rounds of publications whose cost is read one by one.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tabmux_cli::bench::{Answer, Fleet, Process, Progress, Topics, stamp::Clock};

use crate::{Bench, peer::Server};

/// How long one round, or the opening of links, may be without progress.
const PATIENCE: Duration = Duration::from_secs(30);
const TURN: Duration = Duration::from_millis(20);
/// After a round, for a server to become idle, when its CPU time is exact.
const TAIL: Duration = Duration::from_millis(2);

/// A server and its links.
pub(crate) struct Room {
    pub(crate) server: Server,
    pub(crate) fleet: Fleet,
    clock: Clock,
    orders: mpsc::Sender<Vec<(usize, String)>>,
    answers: mpsc::Receiver<io::Result<Answer>>,
    number: u64,
    stop: Arc<AtomicBool>,
}

/// What one round is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    /// Publications in flight at once.
    pub(crate) messages: usize,
    /// Size of each message, in bytes.
    pub(crate) size: usize,
}

impl Room {
    pub(crate) fn new(
        bench: &Bench,
        server: Server,
        tabs: u32,
        topics: &Topics,
    ) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let fleet = Fleet::new(server.plan(tabs, topics.clone()), clock)?;
        let mut publisher = server.publisher(topics);
        let (orders, taken) = mpsc::channel::<Vec<(usize, String)>>();
        let (answer, answers) = mpsc::channel();
        // So that links are read while the server publishes. It ends with the room.
        std::thread::spawn(move || {
            for messages in taken {
                if answer.send(publisher.publish(&messages)).is_err() {
                    return;
                }
            }
        });
        let stop = Arc::clone(&bench.stop);
        Ok(Self { server, fleet, clock, orders, answers, number: 0, stop })
    }

    pub(crate) fn process(&self) -> Process {
        self.server.process()
    }

    /// Opens links until there are so many; every one must open.
    pub(crate) fn grow(&mut self, links: usize) -> anyhow::Result<()> {
        let name = format!("{}: opening links", self.server.kind);
        let mut progress = Progress::new(&name, links as u64);
        let stop = Arc::clone(&self.stop);
        self.fleet.grow(links, &mut |tally| {
            progress.at(tally.ready, String::new);
            !stop.load(Ordering::Relaxed)
        })?;
        drop(progress);
        self.go_on()?;
        let tally = self.fleet.tally();
        if tally.ready != links as u64 || !tally.unsubscribed.is_empty() {
            let reasons = [&tally.refused, &tally.lost, &tally.unsubscribed];
            bail!("{}: {} of {links} links are open; {reasons:?}", self.server.kind, tally.ready);
        }
        Ok(())
    }

    /// Leaves the server alone for a while.
    pub(crate) fn rest(&mut self, time: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        while start.elapsed() < time {
            self.fleet.turn(TURN)?;
            self.go_on()?;
        }
        Ok(())
    }

    /// Publishes to the first topic, which every link has, and waits until all of it has come;
    /// the server's CPU for it.
    pub(crate) fn round(&mut self, round: Round) -> anyhow::Result<Duration> {
        let before = self.fleet.tally().clone();
        let wanted = before.delivered + before.ready * round.messages as u64;
        let messages = (0..round.messages).map(|_| {
            self.number += 1;
            (0, self.clock.stamp(self.number, round.size))
        });
        let messages = messages.collect();
        let used = self.process().cpu()?;
        self.orders.send(messages).context("the publisher ended")?;
        let (mut last, mut news) = (before.delivered, Instant::now());
        while self.fleet.tally().delivered < wanted {
            self.fleet.turn(TURN)?;
            let delivered = self.fleet.tally().delivered;
            if delivered != last {
                (last, news) = (delivered, Instant::now());
            } else if news.elapsed() > PATIENCE {
                let tally = self.fleet.tally();
                bail!("{}: {} deliveries are missing: {tally:?}", self.server.kind, wanted - last);
            }
            self.go_on()?;
        }
        match self.answers.recv_timeout(PATIENCE)? {
            Ok(Answer { status: 200, .. }) => {}
            Ok(answer) => bail!("{}: publishing failed: {answer:?}", self.server.kind),
            Err(error) => bail!("{}: publishing failed: {error}", self.server.kind),
        }
        let tail = Instant::now();
        while tail.elapsed() < TAIL {
            self.fleet.turn(TAIL)?;
        }
        let tally = self.fleet.tally();
        if tally.skipped + tally.repeated + tally.gaps > 0 || tally.ready != before.ready {
            bail!("{}: out of order, or links were lost: {tally:?}", self.server.kind);
        }
        Ok(self.process().cpu()? - used)
    }

    /// Bytes of one delivery's frame, as the last rounds had it.
    pub(crate) fn frame_bytes(&self) -> usize {
        let tally = self.fleet.tally();
        usize::try_from(tally.bytes / tally.delivered.max(1)).unwrap_or(0)
    }

    fn go_on(&self) -> anyhow::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }
}

/// The middle of some times, in microseconds.
pub(crate) fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    middle.as_secs_f64() * 1e6
}
