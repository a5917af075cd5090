//! Tickets on their way: the short WebSockets by which hubs show them, and what happens to those.

use std::{num::NonZeroU64, time::Duration};

use tabmux_core::wire::close;

use super::{
    backend::tag,
    browser::Identity,
    world::{Delivery, World},
};
use crate::{
    invariant::{
        Checked,
        Invariant::{BoundedConnecting, OnlyWhatWasAsked},
    },
    rng::Rng,
    seen::Sight,
    server::{Shown, Unshown},
};

/// The beginning of the paths whose sockets need a ticket.
pub(crate) const GATED: &str = "/g/";
/// The first sub-protocol of a WebSocket that shows a ticket, with the comma behind it.
pub(crate) const TICKET: &str = "tabmux.ticket,";
/// The address of the server, without a path.
const HOST: &str = "wss://sim";
/// The part of a moment that says what happens to a ticket.
const PART: u64 = 0x7469_636b_6574;
/// Longest time by which a ticket is late, in milliseconds. It counts for ten seconds.
const LATE_MS: u64 = 15_000;
/// The number of those drawn that stands for another user. Those below it are faults as well.
const STRANGE: u64 = 3;
/// The number of a user who is logged in nowhere.
const STRANGER: u64 = 600;

/// A ticket that a hub was told of.
#[derive(Debug)]
pub struct Told {
    /// The path at which the ticket counts.
    pub path: String,
    /// The browser of the hub.
    pub browser: usize,
    /// True if something happened to the ticket on its way.
    pub suffered: bool,
}

impl World {
    /// Returns the path of a socket. In some runs every other socket needs a ticket.
    pub(super) fn path_of(&self, tag: u32, number: u32) -> String {
        let is_gated = self.plan.tickets && number.is_multiple_of(2);
        format!("{}{tag}/{number}", if is_gated { GATED } else { "/s/" })
    }

    /// Returns true if a hub of this browser may show these sub-protocols there: one that was told
    /// of such a ticket, at the path that it was told.
    pub(super) fn may_show(&self, browser: usize, url: &str, protocols: &str) -> bool {
        let ticket = protocols.strip_prefix(TICKET).unwrap_or_default();
        let told = self.network.tickets.get(ticket);
        told.is_some_and(|it| Some(&*it.path) == url.strip_prefix(HOST) && it.browser == browser)
    }

    /// Draws what happens to a ticket that is shown on this link. Returns by how much it is late.
    pub(super) fn ticket_suffers(&mut self, id: u64, protocols: &str) -> Duration {
        let Some(link) = self.network.links.get_mut(&id) else { return Duration::ZERO };
        protocols.clone_into(&mut link.offered);
        if self.healed {
            return Duration::ZERO;
        }
        let mut rng = Rng::of_part(self.now.as_micros() ^ id, PART);
        let what = rng.below(10);
        let ticket = protocols.strip_prefix(TICKET).unwrap_or_default();
        if let Some(told) = self.network.tickets.get_mut(ticket) {
            told.suffered |= what <= STRANGE;
        }
        match what {
            0 => link.broken = true,
            1 | 2 => return rng.millis(0, LATE_MS),
            STRANGE => {
                link.identity = NonZeroU64::new(link.at.0 as u64 * 1000 + STRANGER).map(Identity);
            }
            _ => {}
        }
        Duration::ZERO
    }

    /// Called when a ticket reaches the server, which takes it, and may be shown it once more.
    pub(super) fn ticket_arrives(&mut self, id: u64) -> Checked {
        let Some(link) = self.network.links.get_mut(&id) else { return Ok(()) };
        let latency = self.browsers[link.at.0].link_latency();
        let (when, at) = (link.down(self.now, latency), link.at);
        let ticket = link.offered.strip_prefix(TICKET).unwrap_or_default();
        let path = link.url.strip_prefix(HOST).unwrap_or_default();
        let user = link.identity.map(|it| it.0.get());
        let Some(server) = &mut self.server else { return Ok(()) };
        let shown = server.show(self.now, &mut self.reference, (ticket, path), user)?;
        let again = server.show(self.now, &mut self.reference, (ticket, path), user)?;
        OnlyWhatWasAsked.unless(again == Shown::Unknown, || {
            format!("the ticket {ticket} counts again after {shown:?}")
        })?;
        self.seen.add(match shown {
            Shown::Taken => Sight::Ticket,
            Shown::OtherUser => Sight::StrangeTicket,
            Shown::Unknown => Sight::SpentTicket,
        });
        self.put(when, Delivery::Opened { at, link: id });
        let code = if shown == Shown::Unknown { close::POLICY } else { close::NORMAL };
        self.put(when, Delivery::WorkerHears { link: id, at, code, clean: true });
        self.drain_server()
    }

    /// Checks that a ticket was not shown in time only if something was in the way.
    pub(super) fn may_be_unshown(&mut self, it: &Unshown) -> Checked {
        self.seen.add(Sight::UnshownTicket);
        let suffered = self.network.tickets.get(&it.name).is_some_and(|told| told.suffered);
        let of_page = |at: &usize| self.browsers[*at].page_of(tag(it.tab)).is_some();
        let page = (0..self.browsers.len()).find(of_page);
        let Some(at) = page.filter(|_| self.healed && !suffered) else { return Ok(()) };
        let was_well = self.well_since(at).is_some_and(|since| since <= it.made);
        BoundedConnecting.unless(!was_well, || {
            format!("nobody showed a ticket of {}, and nothing was in the way", it.tab)
        })
    }
}
