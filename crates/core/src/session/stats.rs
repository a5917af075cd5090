//! Numbers for operators.

use super::state::Presence;

/// What a registry holds now, and what it has counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Links, those that have not said HELLO included.
    pub links: usize,
    /// Sessions.
    pub sessions: usize,
    /// Sessions that have lost their link and wait for another one.
    pub detached: usize,
    /// Tabs that are there; parked and awaited ones are counted apart.
    pub tabs: usize,
    /// Tabs that were there when their session lost its link, and have not attached since.
    pub awaited: usize,
    /// Tabs in the back/forward cache.
    pub parked: usize,
    /// Virtual sockets, those not yet accepted included.
    pub sockets: usize,
    /// Virtual sockets on which the application has more to send than their tab gave credit for,
    /// and that were not told yet that there is more.
    pub awaiting_credit: usize,
    /// Topics that a browser is subscribed to; each shard counts its own.
    pub topics: usize,
    /// Subscriptions of browsers to topics.
    pub subscriptions: usize,
    /// Bytes that wait for hubs to read.
    pub queued_bytes: usize,
    /// Bytes that are kept for hubs until they acknowledge them.
    pub kept_bytes: usize,
    /// Messages of virtual sockets that came.
    pub messages_in: u64,
    /// Messages of virtual sockets that were sent; a message to all tabs counts once per link.
    pub messages_out: u64,
    /// Publications that came to a shard where a browser wants them.
    pub publications: u64,
    /// Publications sent, one for each link.
    pub deliveries: u64,
    /// Subscriptions refused by their limit, or because their topic could not be had.
    pub subscriptions_refused: u64,
    /// Subscriptions ended because their hub did not read fast enough.
    pub slow_subscriptions: u64,
    /// Publications dropped for a hub that did not read fast enough, because a later one
    /// replaced them.
    pub dropped_replaced: u64,
    /// Publications dropped for a hub that did not read fast enough, with the subscription that
    /// ended for it.
    pub dropped_recover: u64,
    /// Publications dropped for a hub that did not read fast enough, which was told of the gap.
    pub dropped_gap: u64,
    /// Links closed because their hub broke the protocol.
    pub protocol_errors: u64,
    /// Links refused: the limit of links, another version, draining.
    pub refused: u64,
    /// Tabs refused by their limit.
    pub tabs_refused: u64,
    /// Virtual sockets refused by their limit.
    pub sockets_refused: u64,
    /// OPEN of numbers that are in use, which are ignored.
    pub bad_opens: u64,
    /// Messages refused because a link's queue was full.
    pub queue_full: u64,
    /// Messages refused because too much was kept for tabs that are parked or not attached.
    pub absent_full: u64,
    /// Messages refused because their socket's tab had given no more credit.
    pub no_credit: u64,
    /// Messages refused because they were too large.
    pub too_large: u64,
    /// Virtual sockets closed because their page sent more than it had credit for.
    pub over_credit: u64,
    /// Links closed because they did not say HELLO in time.
    pub handshake_timeouts: u64,
    /// Links closed because they were silent.
    pub heartbeat_timeouts: u64,
    /// Links closed because they did not read.
    pub not_reading: u64,
    /// Sessions that went on with another link.
    pub resumed: u64,
    /// Sessions that another hub took over; counted among those that went on as well.
    pub takeovers: u64,
    /// Sessions without a link that no hub came for in time.
    pub expired: u64,
    /// Sessions without a link that were given up for their number, or for what they kept.
    pub evicted: u64,
    /// Links refused because another hub has their session.
    pub stale: u64,
    /// Links refused because their token was not that of the session.
    pub forged: u64,
    /// Links refused because somebody else began the session that they came for.
    pub foreign: u64,
    /// Tabs without which lane 0 was acknowledged.
    pub set_aside: u64,
    /// Tabs forgotten because they left a full lane as it was for too long.
    pub stalled: u64,
}

impl Stats {
    /// Returns the number that counts tabs of a presence.
    pub(super) const fn tabs_of(&mut self, presence: Presence) -> &mut usize {
        match presence {
            Presence::Attached => &mut self.tabs,
            Presence::Awaited => &mut self.awaited,
            Presence::Parked => &mut self.parked,
        }
    }

    /// What counts against the limit of all queues. Most of what waits to be written is also kept
    /// until it is acknowledged.
    pub(super) fn held_bytes(&self) -> usize {
        self.queued_bytes.max(self.kept_bytes)
    }

    /// What was counted, of a registry that is no more: none of what there was is left.
    #[must_use]
    pub const fn without_population(self) -> Self {
        Self {
            links: 0,
            sessions: 0,
            detached: 0,
            tabs: 0,
            awaited: 0,
            parked: 0,
            sockets: 0,
            awaiting_credit: 0,
            topics: 0,
            subscriptions: 0,
            queued_bytes: 0,
            kept_bytes: 0,
            ..self
        }
    }

    /// The numbers of two registries together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            links: self.links + other.links,
            sessions: self.sessions + other.sessions,
            tabs: self.tabs + other.tabs,
            awaited: self.awaited + other.awaited,
            parked: self.parked + other.parked,
            sockets: self.sockets + other.sockets,
            awaiting_credit: self.awaiting_credit + other.awaiting_credit,
            topics: self.topics + other.topics,
            subscriptions: self.subscriptions + other.subscriptions,
            queued_bytes: self.queued_bytes + other.queued_bytes,
            messages_in: self.messages_in + other.messages_in,
            messages_out: self.messages_out + other.messages_out,
            publications: self.publications + other.publications,
            deliveries: self.deliveries + other.deliveries,
            subscriptions_refused: self.subscriptions_refused + other.subscriptions_refused,
            slow_subscriptions: self.slow_subscriptions + other.slow_subscriptions,
            dropped_replaced: self.dropped_replaced + other.dropped_replaced,
            dropped_recover: self.dropped_recover + other.dropped_recover,
            dropped_gap: self.dropped_gap + other.dropped_gap,
            protocol_errors: self.protocol_errors + other.protocol_errors,
            refused: self.refused + other.refused,
            tabs_refused: self.tabs_refused + other.tabs_refused,
            sockets_refused: self.sockets_refused + other.sockets_refused,
            bad_opens: self.bad_opens + other.bad_opens,
            queue_full: self.queue_full + other.queue_full,
            absent_full: self.absent_full + other.absent_full,
            no_credit: self.no_credit + other.no_credit,
            too_large: self.too_large + other.too_large,
            over_credit: self.over_credit + other.over_credit,
            handshake_timeouts: self.handshake_timeouts + other.handshake_timeouts,
            heartbeat_timeouts: self.heartbeat_timeouts + other.heartbeat_timeouts,
            not_reading: self.not_reading + other.not_reading,
            kept_bytes: self.kept_bytes + other.kept_bytes,
            detached: self.detached + other.detached,
            resumed: self.resumed + other.resumed,
            takeovers: self.takeovers + other.takeovers,
            expired: self.expired + other.expired,
            evicted: self.evicted + other.evicted,
            stale: self.stale + other.stale,
            forged: self.forged + other.forged,
            foreign: self.foreign + other.foreign,
            set_aside: self.set_aside + other.set_aside,
            stalled: self.stalled + other.stalled,
        }
    }
}
