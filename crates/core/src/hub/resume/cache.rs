//! The last publications of a topic, for tabs that say where they left it.

use std::collections::VecDeque;

use tabmux_wire::Position;

use super::Past;
use crate::OwnedPayload;

/// The bytes that a publication takes besides its payload.
const OVERHEAD: usize = 32;

/// The last publications of one topic that this hub heard.
#[derive(Debug, Default)]
pub(in crate::hub) struct Cache {
    /// Everything after this position is here, up to where the hub is. `None` while the hub does
    /// not know where that is.
    start: Option<Position>,
    entries: VecDeque<(Position, OwnedPayload)>,
    bytes: usize,
}

impl Cache {
    pub(in crate::hub) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Called when the hub is at a position, and what came before does not reach it.
    pub(in crate::hub) fn begin(&mut self, at: Position) {
        *self = Self { start: Some(at), ..Self::default() };
    }

    /// Called when the hub knows where it is, and the cache may not, or not in this epoch.
    pub(in crate::hub) fn begin_if_new(&mut self, at: Position) {
        if self.start.is_none_or(|start| start.epoch != at.epoch) {
            self.begin(at);
        }
    }

    /// Keeps a publication, which follows the last one.
    pub(in crate::hub) fn push(&mut self, position: Position, payload: OwnedPayload) {
        self.bytes += payload.len() + OVERHEAD;
        self.entries.push_back((position, payload));
    }

    /// Drops the oldest publication.
    pub(in crate::hub) fn drop_first(&mut self) {
        if let Some((position, payload)) = self.entries.pop_front() {
            self.bytes -= payload.len() + OVERHEAD;
            self.start = Some(position);
        }
    }

    /// Returns what came after a position, if all of it is here.
    pub(in crate::hub) fn after(&self, since: Position) -> Option<Vec<Past>> {
        let start = self.start?;
        if since.epoch != start.epoch || since.offset < start.offset {
            return None;
        }
        let after = self.entries.iter().filter(|(position, _)| position.offset > since.offset);
        Some(after.map(|(at, payload)| Past::Publication(*at, payload.clone())).collect())
    }
}
