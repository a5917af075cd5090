//! The limit of memory, and who pays when it is reached.
//!
//! The account that holds the most pays, and so do those that hold at least half as much: near the
//! limit its publications follow the policies of their topics, then its messages are refused, and
//! at the limit its largest sessions end. What each session may have in any case
//! ([`SessionConfig::minimum_bytes`](super::SessionConfig::minimum_bytes)) counts for nobody.
//!
//! No account is indexed, so that a session that holds little costs nothing. All sessions are
//! looked at instead, each time that a 64th of the limit was taken.

use std::sync::Arc;

use tabmux_wire::{RefusedReason, close};

use super::{
    Account, Event, Farewell, Holder, LinkDown, Meter, Registry, SessionEnd,
    account::AccountLimits,
    effects::Effects,
    ledger::Ledger,
    state::{Session, SessionPlace, Stage},
};

/// The eighths of a limit from which on publications follow the policies of their topics.
const PUBLICATIONS: usize = 6;
/// The eighths from which on messages are refused.
const MESSAGES: usize = 7;
/// The eighths from which on sessions end.
const SESSIONS: usize = 8;
/// The eighths from which on sessions end that hold little compared with those of other registries.
/// No sum of all registries is more.
const ALL: usize = 10;
/// The part of the limit that is made free when it is reached, and after whose change all sessions
/// are looked at again.
const STEP: usize = 64;

/// What a registry knows of the memory of the whole server.
pub(super) struct Pressure {
    shares: Shares,
    /// What this registry had charged when it was told of the others.
    own: usize,
    /// The meter of all publications, once there was one.
    meter: Option<Arc<Meter>>,
    /// What an account holds at least that pays. `None` while nobody pays.
    mark: Option<usize>,
    /// What was held in all when the mark was made.
    looked_at: usize,
    /// What was held in all when no session was found that could end.
    barren: Option<usize>,
    /// Accounts that hold more than any may.
    greedy: Vec<u64>,
}

/// What the other registries of a server hold. The shell adds that up and tells each registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// The bytes that the others have charged.
    pub others: usize,
    /// How many registries the server has, this one included.
    pub registries: usize,
    /// The bytes of the account that holds the most anywhere.
    pub heaviest: usize,
}

impl Shares {
    /// There is no other registry.
    const ALONE: Self = Self { others: 0, registries: 1, heaviest: 0 };
}

impl Pressure {
    pub(super) fn new() -> Self {
        let (shares, own, meter) = (Shares::ALONE, 0, None);
        let (mark, looked_at, barren, greedy) = (None, 0, None, Vec::new());
        Self { shares, own, meter, mark, looked_at, barren, greedy }
    }

    fn shared(&self) -> usize {
        self.meter.as_ref().map_or(0, |meter| meter.bytes())
    }
}

impl Effects {
    /// Returns the bytes that the server keeps for browsers, as far as is known here.
    fn level(&self) -> usize {
        let own = self.stats.charged.bytes();
        self.pressure.shares.others.saturating_add(own).saturating_add(self.pressure.shared())
    }

    /// Returns what that would be if all registries had grown as this one since it was told.
    fn worst(&self) -> usize {
        let growth = self.stats.charged.bytes().saturating_sub(self.pressure.own);
        let others = self.pressure.shares.registries.saturating_sub(1);
        self.level().saturating_add(growth.saturating_mul(others))
    }

    fn is_past(&self, eighths: usize) -> bool {
        self.level() >= self.config.memory_bytes / 8 * eighths
    }

    /// Returns true if publications to some sessions are to follow the policies of their topics.
    pub(super) fn is_pressed(&self) -> bool {
        self.is_past(PUBLICATIONS)
    }

    /// Returns true if publications to a session are to follow the policies of their topics,
    /// whether or not the hub reads.
    pub(super) fn drops_publications_of(&self, session: &Session) -> bool {
        self.pays(session, PUBLICATIONS) || self.is_greedy(&session.ledger, MESSAGES)
    }

    /// Returns true if messages to a session are refused.
    pub(super) fn refuses(&self, session: &Session) -> bool {
        self.pays(session, MESSAGES) || self.is_greedy(&session.ledger, SESSIONS)
    }

    fn pays(&self, session: &Session, eighths: usize) -> bool {
        let Some(mark) = self.pressure.mark else { return false };
        let (own, all) = self.measure().weigh(self, session);
        self.is_past(eighths) && own > 0 && all >= mark
    }

    fn measure(&self) -> Measure {
        let is_shared = self.pressure.shared() > self.stats.charged.bytes();
        if is_shared { Measure::Behind } else { Measure::Held }
    }

    /// Returns true if the account of a session holds so many eighths of what it may.
    fn is_greedy(&self, ledger: &Ledger, eighths: usize) -> bool {
        ledger.account().is_some_and(|account| {
            let limit = self.limits_of(account).bytes;
            limit > 0 && ledger.excess(self) > 0 && account.bytes() >= limit / 8 * eighths
        })
    }

    /// Returns what an account may have.
    pub(super) const fn limits_of(&self, account: &Account) -> AccountLimits {
        match account.holder() {
            Holder::User => self.config.per_user,
            Holder::Address => self.config.per_address,
        }
    }

    /// Notes what an account holds after a change.
    pub(super) fn account_holds(&mut self, account: &Account, before: usize, after: usize) {
        let limit = self.limits_of(account).bytes;
        let most = limit + limit / 8;
        if limit > 0 && before <= most && after > most {
            self.pressure.greedy.push(account.number());
        }
    }

    /// Notes who counts the publications.
    pub(super) fn meter_is(&mut self, meter: Option<&Arc<Meter>>) {
        if self.pressure.meter.is_none() {
            self.pressure.meter = meter.cloned();
        }
    }
}

/// What counts when memory is short.
#[derive(Clone, Copy)]
enum Measure {
    /// The memory of a session, and of all sessions of its account.
    Held,
    /// The bytes that a hub is behind, since most memory is that of publications, which many share.
    Behind,
}

impl Measure {
    /// Returns what a session holds beyond what each may have, and what counts against it.
    fn weigh(self, fx: &Effects, session: &Session) -> (usize, usize) {
        match self {
            Self::Held => (session.ledger.excess(fx), session.ledger.held(fx)),
            Self::Behind => {
                let behind = session.behind().saturating_sub(fx.config.minimum_bytes);
                (behind, behind)
            }
        }
    }
}

impl Registry {
    /// Returns the bytes of the account that holds the most here, as it was when the shell last
    /// told of the other registries. Returns 0 while memory is not short.
    pub const fn heaviest(&self) -> usize {
        self.heaviest
    }

    /// Takes what other registries hold.
    pub(super) fn on_shares(&mut self, shares: Shares) {
        self.fx.pressure.shares = shares;
        self.fx.pressure.own = self.fx.stats.charged.bytes();
        // Others look at it once they are near the limit, so it is known before.
        let is_near = self.fx.is_past(PUBLICATIONS / 2);
        self.heaviest = if is_near { self.look(Measure::Held) } else { 0 };
        (self.fx.pressure.mark, self.fx.pressure.barren) = (None, None);
    }

    /// Has those who hold the most pay, if memory is short.
    pub(super) fn relieve(&mut self) {
        for account in std::mem::take(&mut self.fx.pressure.greedy) {
            self.shrink(account);
        }
        if !self.fx.is_pressed() && self.fx.worst() < self.fx.config.memory_bytes {
            self.fx.pressure.mark = None;
            return;
        }
        let limit = self.fx.config.memory_bytes;
        let has_changed = |since| self.fx.level().abs_diff(since) >= limit / STEP;
        let is_news = has_changed(self.fx.pressure.looked_at);
        let is_barren = self.fx.pressure.barren.is_some_and(|level| !has_changed(level));
        if is_news || self.fx.pressure.mark.is_none() {
            self.mark();
        }
        if !is_barren && (self.fx.is_past(SESSIONS) || self.fx.worst() >= limit / 8 * ALL) {
            self.end_heaviest();
        }
    }

    /// Returns the bytes of the account, or of the session, that holds the most here.
    fn look(&self, measure: Measure) -> usize {
        let held = self.sessions.iter().map(|session| measure.weigh(&self.fx, session).1);
        held.max().unwrap_or(0)
    }

    /// Says who pays.
    fn mark(&mut self) {
        let measure = self.fx.measure();
        let elsewhere = match measure {
            Measure::Held => self.fx.pressure.shares.heaviest,
            Measure::Behind => 0,
        };
        let heaviest = self.look(measure).max(elsewhere);
        self.fx.pressure.mark = Some((heaviest / 2).max(1));
        self.fx.pressure.looked_at = self.fx.level();
    }

    /// Ends the largest sessions of the accounts that hold the most, until there is some room.
    fn end_heaviest(&mut self) {
        let limit = self.fx.config.memory_bytes;
        let (step, most) = (limit / STEP, limit / 8 * ALL);
        // Those that hold little here are spared as long as all registries can wait for the one
        // that has those that hold much.
        let is_last_resort = self.fx.worst() >= most;
        let mark = self.fx.pressure.mark.filter(|_| !is_last_resort).unwrap_or(1);
        let measure = self.fx.measure();
        let weighed = self.sessions.iter().map(|session| {
            let (own, all) = measure.weigh(&self.fx, session);
            (all, own, session.place())
        });
        let mut candidates: Vec<_> =
            weighed.filter(|(all, own, _)| *own > 0 && *all >= mark).collect();
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        for (_, _, place) in candidates {
            let is_near = self.fx.level() >= limit - step || self.fx.worst() >= most - step;
            if !is_near {
                return;
            }
            self.give_up(place);
        }
        self.fx.pressure.barren = Some(self.fx.level());
    }

    /// Ends the largest sessions that an account has here, until it holds less than it may.
    fn shrink(&mut self, number: u64) {
        let is_its = |session: &&Session| {
            session.ledger.account().is_some_and(|account| account.number() == number)
        };
        let its = self.sessions.iter().filter(is_its);
        let mut its: Vec<_> =
            its.map(|session| (session.ledger.excess(&self.fx), session.place())).collect();
        its.sort_unstable_by(|a, b| b.cmp(a));
        for (_, place) in its {
            let ledger = self.sessions.get(place).map(|session| &session.ledger);
            if !ledger.is_some_and(|ledger| self.fx.is_greedy(ledger, MESSAGES)) {
                return;
            }
            self.give_up(place);
        }
    }

    /// Ends a session for what it, or its account, holds.
    fn give_up(&mut self, place: SessionPlace) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        self.fx.stats.sessions.evicted += 1;
        match session.stage {
            Stage::Attached(_) => {
                let farewell = Farewell {
                    code: RefusedReason::Limit,
                    retry: Some(self.fx.config.retry_after),
                    message: "this browser, or its user, holds too much memory of the server"
                        .into(),
                };
                self.end_at(place, &farewell, close::TRY_AGAIN_LATER, LinkDown::Evicted);
            }
            Stage::Detached { .. } => {
                let session = session.id;
                self.forget_session(place);
                self.fx.event(Event::SessionEnded { session, end: SessionEnd::Evicted });
            }
        }
    }
}
