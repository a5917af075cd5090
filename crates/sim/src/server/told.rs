//! Holds what the server tells of the topic of which it keeps everything against what hubs asked.

use std::collections::BTreeMap;

use tabmux_core::{
    session::LinkId,
    wire::{HubFrame, Position, ServerFrame, Subscribed, TopicId},
};

use super::Server;
use crate::invariant::{Checked, Invariant::NothingLost};

/// The topic of which the server keeps everything.
const KEPT: &str = "recover";

/// What hubs asked, and the topic's number.
#[derive(Debug, Default)]
pub(super) struct Told {
    topic: Option<TopicId>,
    /// Where the hub was, by link and request.
    asked: BTreeMap<(LinkId, u64), Position>,
    /// The last publication that each link was sent, or was told of.
    last: BTreeMap<LinkId, Position>,
}

impl Told {
    pub(super) fn joined(&mut self, name: &str, topic: TopicId) {
        if name == KEPT {
            self.topic = Some(topic);
        }
    }

    /// Called when a frame of a hub is about to reach the server.
    pub(super) fn hub_says(&mut self, link: LinkId, bytes: &[u8]) {
        if let Ok(HubFrame::Subscribe { request, position: Some(since), topic: KEPT }) =
            HubFrame::decode(bytes)
        {
            self.asked.insert((link, request), since);
        }
    }

    /// Checks a frame of the server: it keeps everything, so nothing of its epoch is missing.
    pub(super) fn server_says(&mut self, link: LinkId, bytes: &[u8]) -> Checked {
        match ServerFrame::decode(bytes) {
            Ok(ServerFrame::Subscribed(it)) if it.name == KEPT => {
                let Subscribed { request, position, recovered, .. } = it;
                let since = self.asked.get(&(link, request));
                let goes_on = since.filter(|since| recovered && since.offset > 0);
                let nothing = recovered && since.is_some_and(|since| since.offset == 0);
                let start = if nothing { Position { offset: 0, ..position } } else { position };
                self.last.insert(link, goes_on.copied().unwrap_or(start));
                if recovered {
                    return Ok(());
                }
                let is_here =
                    |since: &&Position| since.offset == 0 || since.epoch == position.epoch;
                NothingLost.unless(since.filter(is_here).is_none(), || {
                    format!("{link:?} left the topic at {since:?}, and lost all to {position:?}")
                })
            }
            Ok(ServerFrame::Publication { topic, position, previous, .. })
                if Some(topic) == self.topic =>
            {
                let Some(last) = self.last.get_mut(&link) else { return Ok(()) };
                // A hub ignores what it has.
                if position <= *last {
                    return Ok(());
                }
                let before = std::mem::replace(last, position);
                let follows = before == Position { offset: previous, ..position };
                NothingLost.unless(follows, || {
                    format!("{link:?} is at {before:?}, and gets {position:?} behind {previous}")
                })
            }
            Ok(ServerFrame::Gap { topic, position }) if Some(topic) == self.topic => NothingLost
                .broken(format!("{link:?} is told of a gap to {position:?} where all is kept")),
            _ => Ok(()),
        }
    }
}

impl Server {
    /// Called when a frame of a hub is about to reach the server.
    pub fn hub_says(&mut self, link: LinkId, bytes: &[u8]) {
        self.told.hub_says(link, bytes);
    }
}
