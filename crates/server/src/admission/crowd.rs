//! The addresses of clients: their links, and who pays for what they make the server keep.

use std::{collections::HashMap, sync::Arc, time::Instant};

use tabmux_core::session::{Account, Admitted, Holder, Visitor};

use super::tickets::Peer;

/// Addresses that are looked through at least, before those that are over are sorted out.
const REMEMBERED: usize = 64;

/// What is known of each address that has links, or whose sessions wait for one.
#[derive(Default)]
pub(super) struct Crowd {
    places: HashMap<Peer, Place>,
    /// With so many addresses those that are over are sorted out.
    tidy_at: usize,
    /// The number of the next account.
    next: u64,
}

/// An address.
pub(super) struct Place {
    links: u32,
    /// Until when its links of a second are given away.
    pub(super) booked: Instant,
    /// What is known of each client from there of whom nothing else is known.
    blank: Arc<Visitor>,
}

impl Place {
    /// Returns true if nothing is left to be known.
    fn is_over(&self, now: Instant) -> bool {
        let is_idle = self.blank.account().is_none_or(|account| account.is_idle());
        self.links == 0 && is_idle && self.booked <= now
    }
}

impl Crowd {
    /// Returns how many links an address has.
    pub(super) fn links_of(&self, peer: Peer) -> u32 {
        self.places.get(&peer).map_or(0, |place| place.links)
    }

    /// Returns what is known of a client of an address of whom nothing else is known.
    pub(super) fn visitor_of(&self, peer: Peer) -> Option<Arc<Visitor>> {
        self.places.get(&peer).map(|place| Arc::clone(&place.blank))
    }

    /// Adds a link of an address.
    pub(super) fn come(&mut self, peer: Peer, now: Instant) -> &mut Place {
        if self.places.len() >= self.tidy_at.max(REMEMBERED) {
            self.places.retain(|_, place| !place.is_over(now));
            self.tidy_at = 2 * self.places.len();
        }
        let next = &mut self.next;
        let place = self.places.entry(peer).or_insert_with(|| {
            *next += 2;
            let account = Some(Arc::new(Account::new(*next, Holder::Address)));
            let admitted = Admitted { account, ..Admitted::default() };
            let blank = Arc::new(Visitor::Admitted(admitted));
            Place { links: 0, booked: now, blank }
        });
        place.links += 1;
        place
    }

    /// Removes a link of an address.
    pub(super) fn go(&mut self, peer: Option<Peer>) {
        let Some(peer) = peer else {
            return;
        };
        if let Some(place) = self.places.get_mut(&peer) {
            place.links = place.links.saturating_sub(1);
            if place.is_over(Instant::now()) {
                self.places.remove(&peer);
            }
        }
        // A crowd that went leaves no memory behind.
        if self.places.len() < self.places.capacity() / 8 {
            self.places.shrink_to_fit();
        }
    }
}

#[cfg(test)]
impl Crowd {
    /// Returns how many addresses have links.
    pub(super) fn len(&self) -> usize {
        self.places.values().filter(|place| place.links > 0).count()
    }

    pub(super) fn capacity(&self) -> usize {
        self.places.capacity()
    }
}
