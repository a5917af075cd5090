//! I11: nobody waits for ever, and nobody without something that is due.

use std::time::Duration;

use tabmux_core::hub::WakeReason;

use super::{
    page::{Page, SocketState},
    views::View,
    world::{Delivery, World},
};
use crate::invariant::{CONNECTING, Checked, Invariant::BoundedConnecting};

/// So many ticks of a page's timers it takes to find a hub.
const TICKS: u32 = 3;

/// What a page asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A virtual socket.
    Socket(u32),
    /// A socket in mirror or exclusive mode.
    View(u32),
    /// A subscription to a topic.
    Subscription(u32),
}

impl World {
    /// A page asks for something.
    pub(crate) fn must_connect(&mut self, at: (usize, u32), what: Wanted) {
        self.put(self.now + CONNECTING, Delivery::Bounded { at, what });
    }

    /// What a page asked for is there, or was refused, or something is due for it.
    pub(crate) fn bounded(&mut self, at: (usize, u32), what: Wanted) -> Checked {
        let suffers = self.browsers[at.0].suffers.max(self.browsers[at.0].woke);
        let now = self.now;
        let Some(page) = self.browsers[at.0].page(at.1) else {
            return Ok(());
        };
        let is_excused = page.excused || page.outdated || page.lacks_room();
        if !waits(page, what) || is_excused {
            return Ok(());
        }
        let ticks = Duration::from_millis(page.throttle_ms) * TICKS;
        let until = suffers.max(page.away_at) + CONNECTING + ticks;
        let (hub, status) = (page.status.hub.clone(), page.status.clone());
        let is_view = matches!(what, Wanted::View(_));
        if now < until {
            self.put(until, Delivery::Bounded { at, what });
            return Ok(());
        }
        if !is_view && self.is_due(at.0, &hub) {
            self.put(now + CONNECTING, Delivery::Bounded { at, what });
            return Ok(());
        }
        BoundedConnecting.broken(format!(
            "{what:?} of page {at:?} waits, nothing is due for it, and its client is {status:?}"
        ))
    }

    /// True if this hub is about to do something for its link.
    fn is_due(&self, browser: usize, hub: &str) -> bool {
        let actors = self.browsers[browser].actors.values();
        actors
            .flat_map(|actor| {
                actor
                    .realm
                    .host
                    .hubs
                    .borrow()
                    .values()
                    .map(|it| {
                        let due = it.hub().poll_timeout().map(|(_, why)| why);
                        it.id().to_string() == hub
                            && matches!(
                                due,
                                Some(
                                    WakeReason::Dial | WakeReason::Backoff | WakeReason::Subscribe
                                )
                            )
                    })
                    .collect::<Vec<_>>()
            })
            .any(|is_due| is_due)
    }
}

fn waits(page: &Page, what: Wanted) -> bool {
    match what {
        Wanted::Socket(number) => page.sockets.get(&number) == Some(&SocketState::Connecting),
        Wanted::View(number) => page.views.get(&number).is_some_and(View::is_connecting),
        Wanted::Subscription(number) => page.subscriptions.get(&number).is_some_and(|it| !it.ready),
    }
}
