//! Topics: what was published.

use std::collections::BTreeMap;

use tabmux_core::wire::Position;

/// The topics there are; the server has another policy for each.
pub const NAMES: [&str; 3] = ["recover", "latest", "gap"];

/// All that was published so far, by all servers: epoch and offset of each, and its number.
#[derive(Debug, Default)]
pub struct Feed(BTreeMap<&'static str, BTreeMap<(u64, u64), u64>>);

impl Feed {
    /// The text of the next publication of a topic.
    pub fn next(&self, name: &str) -> String {
        let count = self.0.get(name).map_or(0, BTreeMap::len) + 1;
        // Of many lengths, so that queues fill at different moments.
        format!("{name} {count} {}", "x".repeat(count * 7 % 60))
    }

    /// It was published there.
    pub fn published(&mut self, name: &'static str, Position { epoch, offset }: Position) {
        let topic = self.0.entry(name).or_default();
        let number = topic.len() as u64 + 1;
        topic.insert((epoch, offset), number);
    }

    /// Whether there is a publication behind `from`, up to `to`.
    pub(crate) fn any_after(&self, name: &str, from: Position, to: Position) -> bool {
        from < to
            && self.0.get(name).is_some_and(|topic| {
                let behind = (from.epoch, from.offset + 1)..=(to.epoch, to.offset);
                topic.range(behind).next().is_some()
            })
    }

    /// The number of the publication that is there.
    pub(crate) fn number(&self, name: &str, at: Position) -> Option<u64> {
        self.0.get(name)?.get(&(at.epoch, at.offset)).copied()
    }

    /// Where the last publication of a topic is.
    pub fn last(&self, name: &str) -> Option<Position> {
        let (&(epoch, offset), _) = self.0.get(name)?.last_key_value()?;
        Some(Position { epoch, offset })
    }
}
