//! The numbers of all shards, together.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tabmux_core::{
    Timestamp,
    session::{Shares, Stats},
};
use tokio::sync::watch;

use crate::{
    admission::{Stub, Tickets},
    histogram::Histogram,
};

/// How often shards learn what the others hold.
pub(super) const EVERY: Duration = Duration::from_millis(250);

/// What shards tell the outside.
pub(crate) struct Board {
    shards: Mutex<Vec<Column>>,
    /// When all shards were last told to look at the others, in microseconds.
    told: AtomicU64,
    total: watch::Sender<Stats>,
    /// Streams of links, those that are closing included.
    streams: watch::Sender<usize>,
    /// The shard that failed first.
    failed: watch::Sender<Option<usize>>,
    /// How often a link was read later than it sent.
    pauses: AtomicU64,
    /// From the first mail of a turn to the writes of the turn.
    mail: Histogram,
    /// The places of streams in the limits.
    tickets: Arc<Tickets>,
    started: Instant,
}

/// What one shard tells.
#[derive(Clone, Copy, Default)]
struct Column {
    stats: Stats,
    /// The bytes of the account that holds the most in that shard.
    heaviest: usize,
}

impl Board {
    pub(crate) fn new(shards: usize, tickets: Arc<Tickets>) -> Self {
        let started = Instant::now();
        Self {
            shards: Mutex::new(vec![Column::default(); shards]),
            told: AtomicU64::new(0),
            total: watch::Sender::new(Stats::default()),
            streams: watch::Sender::new(0),
            failed: watch::Sender::new(None),
            pauses: AtomicU64::new(0),
            mail: Histogram::default(),
            tickets,
            started,
        }
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the time of all shards.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(u64::try_from(self.uptime().as_micros()).unwrap_or(u64::MAX))
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Stats> {
        self.total.subscribe()
    }

    pub(crate) fn stats(&self) -> Stats {
        *self.total.borrow()
    }

    /// The numbers as they are when a shard's are these.
    pub(crate) fn stats_with(&self, shard: usize, stats: Stats) -> Stats {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let others = shards.iter().enumerate().filter(|(index, _)| *index != shard);
        others.fold(stats, |sum, (_, column)| sum.plus(column.stats))
    }

    /// Returns what the shards other than one hold.
    pub(super) fn shares(&self, shard: usize) -> Shares {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let others = shards.iter().enumerate().filter(|(index, _)| *index != shard);
        Shares {
            others: others.map(|(_, column)| column.stats.charged.bytes()).sum(),
            registries: shards.len(),
            heaviest: shards.iter().map(|column| column.heaviest).max().unwrap_or(0),
        }
    }

    /// Notes what the account holds that holds the most in a shard.
    pub(super) fn heaviest_is(&self, shard: usize, bytes: usize) {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)[shard].heaviest = bytes;
    }

    /// Returns true if it is time to tell all shards to look at the others, and notes that they
    /// are told now.
    pub(super) fn tells_all(&self, now: Timestamp) -> bool {
        let now = now.as_micros();
        let told = self.told.load(Ordering::Relaxed);
        let is_due = u128::from(now.saturating_sub(told)) >= EVERY.as_micros();
        let (from, to) = (Ordering::Relaxed, Ordering::Relaxed);
        is_due && self.told.compare_exchange(told, now, from, to).is_ok()
    }

    /// Tells a shard's numbers; whoever watches is woken when the population changed.
    pub(super) fn publish(&self, shard: usize, stats: Stats) {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards[shard].stats = stats;
        let stats = shards.iter().map(|column| column.stats);
        let total = stats.fold(Stats::default(), Stats::plus);
        // Inside the lock, so that an older sum does not overtake a newer one.
        self.total.send_if_modified(|published| {
            let moved = population(published) != population(&total);
            *published = total;
            moved
        });
    }

    pub(crate) fn streams(&self) -> watch::Receiver<usize> {
        self.streams.subscribe()
    }

    pub(super) fn stream_came(&self) {
        self.streams.send_modify(|streams| *streams += 1);
    }

    /// A stream is gone, and its place is free.
    pub(super) fn stream_went(&self, stub: &Stub) {
        self.tickets.give_back(stub);
        self.streams.send_modify(|streams| *streams -= 1);
    }

    pub(super) fn shard_failed(&self, shard: usize) {
        self.failed.send_modify(|failed| *failed = failed.or(Some(shard)));
    }

    /// The shard that failed first.
    pub(crate) fn failed(&self) -> Option<usize> {
        *self.failed.borrow()
    }

    /// Waits until a shard has failed.
    pub(crate) async fn failure(&self) {
        // The sender lives as long as this does.
        let _ = self.failed.subscribe().wait_for(Option::is_some).await;
    }

    pub(super) fn mail_took(&self, took: Duration) {
        self.mail.observe(took);
    }

    /// How long it takes from a publication, or another mail, to its writes.
    pub(crate) const fn mail(&self) -> &Histogram {
        &self.mail
    }

    pub(super) fn link_paused(&self) {
        self.pauses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn pauses(&self) -> u64 {
        self.pauses.load(Ordering::Relaxed)
    }

    pub(crate) const fn tickets(&self) -> &Arc<Tickets> {
        &self.tickets
    }
}

/// The numbers whose change is worth telling; the others change with every message.
const fn population(stats: &Stats) -> [usize; 4] {
    [stats.links.open, stats.tabs.attached, stats.tabs.parked, stats.sockets.open]
}
