//! I14: each view is compared with a plain socket that was asked for at the same moment.

use std::time::Duration;

use super::TICKS;
use crate::{
    invariant::{Checked, Invariant::NeverWorse, LATER_THAN_NATIVE, LATER_THAN_NATIVE_IF_HUNG},
    shipped::{
        page::SocketState,
        plan::Traits,
        world::{Delivery, World},
    },
};

/// If messages between a page and its worker take longer than this, native sockets are faster.
const QUICK_PORT: Duration = Duration::from_millis(60);
/// Number of such messages until a view is open.
const HOPS: u32 = 6;

impl World {
    /// I14: called when a plain socket beside this view has been open for as long as the view may
    /// take.
    pub(crate) fn beside(&mut self, at: (usize, u32), number: u32) -> Checked {
        let Traits { tiers, port_ms, .. } = self.browsers[at.0].traits;
        let (now, is_calm) = (self.now, self.is_calm(at.0));
        let Some(page) = self.browsers[at.0].page(at.1) else {
            return Ok(());
        };
        let Some(view) = page.views.get(&number) else {
            return Ok(());
        };
        let (Some(native), SocketState::Connecting) = (view.native, view.state) else {
            return Ok(());
        };
        let ticks = Duration::from_millis(view.throttle_ms) * TICKS;
        let limit = match view.suffered {
            Some(since) => since.max(native) + LATER_THAN_NATIVE_IF_HUNG,
            None => native + LATER_THAN_NATIVE,
        };
        let is_calm = is_calm && view.suffered.is_none();
        let limit = limit + if is_calm { Duration::ZERO } else { ticks };
        let port = Duration::from_millis(port_ms);
        let limit = limit + if port > QUICK_PORT { port * HOPS } else { Duration::ZERO };
        if now < limit {
            self.put(limit, Delivery::Beside { at, view: number });
            return Ok(());
        }
        let after = now.saturating_since(native);
        NeverWorse.broken(format!(
            "view {number} of page {at:?} is not open {after:?} after a plain socket; its worker \
             suffered at {:?}; tiers: {tiers:?}",
            view.suffered,
        ))
    }
}
