//! The topics of a run, and what was published to them.

use std::collections::BTreeMap;

use tabmux_core::wire::Position;

/// The names of all topics. The server has another policy for each.
pub const NAMES: [&str; 3] = ["recover", "latest", "gap"];

/// All publications so far, by all servers: the epoch and offset of each, with its number.
#[derive(Debug, Default)]
pub struct Feed(BTreeMap<&'static str, BTreeMap<(u64, u64), u64>>);

impl Feed {
    /// Returns the text of the next publication of a topic.
    pub fn next(&self, name: &str) -> String {
        let count = self.0.get(name).map_or(0, BTreeMap::len) + 1;
        // The texts have many lengths, so that queues fill at different moments.
        format!("{name} {count} {}", "x".repeat(count * 7 % 60))
    }

    /// Records that the next publication got this position.
    pub fn published(&mut self, name: &'static str, Position { epoch, offset }: Position) {
        let topic = self.0.entry(name).or_default();
        let number = topic.len() as u64 + 1;
        topic.insert((epoch, offset), number);
    }

    /// Returns true if there is a publication after `from` and up to `to`.
    pub(crate) fn any_after(&self, name: &str, from: Position, to: Position) -> bool {
        from < to
            && self.0.get(name).is_some_and(|topic| {
                let behind = (from.epoch, from.offset + 1)..=(to.epoch, to.offset);
                topic.range(behind).next().is_some()
            })
    }

    /// Returns the number of the publication at this position, if there is one.
    pub(crate) fn number(&self, name: &str, at: Position) -> Option<u64> {
        self.0.get(name)?.get(&(at.epoch, at.offset)).copied()
    }

    /// Returns the position of one of the last publications of a topic, or for most dice none.
    pub(crate) fn earlier(&self, name: &str, dice: u64) -> Option<Position> {
        let back = usize::try_from(dice / 3 % 8).unwrap_or(0);
        let topic = self.0.get(name).filter(|_| dice.is_multiple_of(3))?;
        let (&(epoch, offset), _) = topic.iter().nth_back(back)?;
        Some(Position { epoch, offset })
    }

    /// Returns the position of the last publication of a topic.
    pub fn last(&self, name: &str) -> Option<Position> {
        let (&(epoch, offset), _) = self.0.get(name)?.last_key_value()?;
        Some(Position { epoch, offset })
    }
}
