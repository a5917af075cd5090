//! What a shard says of its links and sessions in the log.

use tabmux_core::{
    session::{Event, LinkDown, LinkId},
    wire::RefusedReason,
};
use tracing::debug;

use crate::logs::rarely;

/// Tells why a link is down.
pub(super) fn log_link_down(shard: usize, LinkId(link): LinkId, cause: LinkDown) {
    match cause {
        LinkDown::Misbehaved(what) => {
            rarely!(warn, shard, link, "link closed, the hub broke the protocol: {what}");
        }
        LinkDown::Refused(RefusedReason::Denied) => {
            rarely!(warn, shard, link, "link refused: its token or its user is not its session's");
        }
        LinkDown::Refused(reason) => debug!(shard, link, "link refused: {reason:?}"),
        LinkDown::TurnedAway => debug!(shard, link, "link refused: the judge said so"),
        LinkDown::Closed
        | LinkDown::Ended
        | LinkDown::Evicted
        | LinkDown::Rechecked
        | LinkDown::Expired
        | LinkDown::HandshakeTimeout
        | LinkDown::HeartbeatTimeout
        | LinkDown::Suspended
        | LinkDown::NotReading
        | LinkDown::Replaced
        | LinkDown::Fenced
        | LinkDown::Shutdown => debug!(shard, link, "link down: {cause:?}"),
    }
}

/// Tells what happened.
pub(super) fn log(shard: usize, event: Event) {
    match event {
        Event::LinkUp { link, session: _, hub, resumed, term } => {
            debug!(shard, link = link.0, %hub, resumed, term = term.0, "hub welcomed");
        }
        Event::SessionEnded { session: _, end } => debug!(shard, "a session ended: {end:?}"),
        Event::TabAttached { tab, .. } => debug!(%tab, "tab attached"),
        Event::TabParked { tab, .. } => debug!(%tab, "tab parked"),
        Event::TabGone { tab, .. } => debug!(%tab, "tab gone"),
    }
}
