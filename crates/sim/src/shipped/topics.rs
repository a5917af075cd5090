//! What a page may hear of a topic to which it is subscribed.

use tabmux_core::wire::Position;

use crate::topics::Feed;

/// A page's subscription to a topic.
#[derive(Debug)]
pub struct Subscription {
    /// The name of the topic.
    pub name: &'static str,
    /// True if the page was told the topic's position.
    pub ready: bool,
    /// The position of the last publication that the page has.
    pub last: Option<Position>,
    /// True if the page's hub or its link has changed and nothing was published since. What was
    /// said twice may then be heard again as a gap, and the first answer may have been lost.
    disturbed: bool,
    /// True if that happened before. A hub that was asked twice may name a position that the page
    /// has passed.
    asked_twice: bool,
}

impl Subscription {
    /// Returns the subscription of a page that has heard the topic up to `since`.
    pub const fn new(name: &'static str, since: Option<Position>) -> Self {
        // A page tells a gap at its own position when the link becomes that of another user, which
        // may be before the topic is subscribed.
        let asked_twice = since.is_some();
        Self { name, ready: false, last: since, disturbed: false, asked_twice }
    }

    /// Called when the page's hub or its link has changed.
    pub const fn disturb(&mut self) {
        (self.disturbed, self.asked_twice) = (true, true);
    }

    /// Called when the page was told the topic's position.
    pub fn subscribed(&mut self, position: Position) -> Result<(), String> {
        if self.ready {
            return Err("it was ready twice".to_owned());
        }
        self.ready = true;
        self.last.get_or_insert(position);
        Ok(())
    }

    /// Called when the page was told that publications are missing.
    pub fn missed(&mut self, feed: &Feed, position: Position) -> Result<(), String> {
        let right = match self.last {
            None => false,
            Some(last) if last.epoch == position.epoch && position <= last => self.asked_twice,
            // Nothing yet is the same place in every epoch: something must be missing.
            Some(last) => {
                let elsewhere = last.epoch != position.epoch && last.offset > 0;
                elsewhere || feed.any_after(self.name, last, position)
            }
        };
        if !right && !self.disturbed {
            let last = self.last;
            return Err(format!("a gap from {last:?} to {position:?}, where nothing is missing"));
        }
        let before = self.last.filter(|last| last.epoch == position.epoch);
        self.last = before.max(Some(position));
        Ok(())
    }

    /// Called when the page heard a publication.
    pub fn heard(&mut self, feed: &Feed, position: Position, said: &str) -> Result<(), String> {
        if !self.ready && !self.disturbed {
            return Err(format!("a publication at {position:?} too early"));
        }
        let before = Position { offset: position.offset.saturating_sub(1), ..position };
        // A subscription whose first answer was lost begins here.
        let last = self.last.unwrap_or(before);
        // Nothing yet is the same place in every epoch.
        let last = if last.offset == 0 { Position { offset: 0, ..position } } else { last };
        if last.epoch != position.epoch {
            return Err(format!("a publication at {position:?} behind {last:?}"));
        }
        if position <= last && self.last.is_some() {
            return Err(format!("a publication at {position:?} was heard before: {last:?}"));
        }
        let Some(number) = feed.number(self.name, position) else {
            return Err(format!("nothing was published at {position:?}"));
        };
        if feed.any_after(self.name, last, before) {
            return Err(format!("from {last:?} to {position:?} without a gap"));
        }
        if !said.starts_with(&format!("{} {number} ", self.name)) {
            return Err(format!("{said:?} is not number {number}"));
        }
        (self.last, self.disturbed) = (Some(position), false);
        Ok(())
    }
}
