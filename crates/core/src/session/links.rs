//! The links of a registry, and when each must be looked at.

use super::{
    LinkId, SessionConfig, WakeReason,
    link::{Greeting, Link, Pending, Phase},
    places::Places,
    state::SessionPlace,
    wheel::Wheel,
};
use crate::Timestamp;

/// All links, by the shell's numbers and by their deadlines.
pub(super) struct Links {
    places: Places<Link>,
    timers: Wheel,
}

impl Links {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { places: Places::new(), timers: Wheel::new(now) }
    }

    pub(super) const fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn get(&self, id: LinkId) -> Option<&Link> {
        self.places.get(id.0)
    }

    pub(super) fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.places.get_mut(id.0)
    }

    /// Returns all links, in the order of their places.
    pub(super) fn ids(&self) -> impl Iterator<Item = LinkId> {
        self.places.numbers().map(LinkId)
    }

    /// Adds a link that has until `deadline` to say HELLO.
    ///
    /// # Panics
    /// When its number is in use, which is the shell's fault.
    pub(super) fn insert(
        &mut self,
        id: LinkId,
        greeting: Greeting,
        now: Timestamp,
        deadline: Timestamp,
    ) {
        let tick = self.timers.insert(id.place(), deadline);
        let phase = Phase::Hello(Box::new(greeting));
        let link = Link { phase, heard: now, held: 0, tick, suspended: false };
        let free = self.places.insert(id.0, link);
        assert!(free, "the shell opened a link twice: {id:?}");
    }

    pub(super) fn remove(&mut self, id: LinkId) -> Option<Link> {
        let link = self.places.remove(id.0)?;
        self.timers.remove(id.place(), link.tick);
        Some(link)
    }

    /// Has a link wait for an answer.
    pub(super) fn suspend(&mut self, id: LinkId, pending: Pending, now: Timestamp) {
        if let Some(link) = self.get_mut(id) {
            (link.phase, link.heard) = (Phase::Pending(Box::new(pending)), now);
        }
    }

    /// Makes a link that of a session.
    pub(super) fn enter(&mut self, id: LinkId, place: SessionPlace, now: Timestamp) {
        if let Some(link) = self.get_mut(id) {
            (link.phase, link.heard) = (Phase::Session(place), now);
        }
    }

    /// Returns the next link whose deadline has passed, and what is due. The link stays, and is not
    /// in the wheel any more.
    pub(super) fn pop_due(
        &mut self,
        config: &SessionConfig,
        now: Timestamp,
    ) -> Option<(LinkId, WakeReason)> {
        while let Some(place) = self.timers.pop(now) {
            let Some(id) = self.places.at(place).map(LinkId) else {
                continue;
            };
            let Some((deadline, reason)) = self.deadline(config, id) else {
                continue;
            };
            if deadline <= now {
                return Some((id, reason));
            }
            self.enter_wheel(id, deadline);
        }
        None
    }

    /// Returns when to look at links next, and why.
    pub(super) fn peek(&self, config: &SessionConfig) -> Option<(Timestamp, WakeReason)> {
        let (at, place) = self.timers.peek()?;
        let id = LinkId(self.places.at(place)?);
        Some((at, self.deadline(config, id)?.1))
    }

    /// Moves a link's timer to its deadline, which came nearer.
    pub(super) fn set_timer(&mut self, config: &SessionConfig, id: LinkId) {
        let deadline = self.deadline(config, id);
        let (Some(link), Some((deadline, _))) = (self.places.get(id.0), deadline) else {
            return;
        };
        self.timers.remove(id.place(), link.tick);
        self.enter_wheel(id, deadline);
    }

    fn enter_wheel(&mut self, id: LinkId, deadline: Timestamp) {
        let tick = self.timers.insert(id.place(), deadline);
        if let Some(link) = self.get_mut(id) {
            link.tick = tick;
        }
    }

    fn deadline(&self, config: &SessionConfig, id: LinkId) -> Option<(Timestamp, WakeReason)> {
        Some(self.get(id)?.deadline(config))
    }
}
