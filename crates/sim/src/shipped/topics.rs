//! What a page may hear of a topic that it subscribed to.

use tabmux_core::wire::Position;

use crate::topics::Feed;

/// A page's subscription.
#[derive(Debug)]
pub struct Subscription {
    /// The topic.
    pub name: &'static str,
    /// Whether the page was told where the topic is.
    pub ready: bool,
    /// Where the page is in the topic.
    pub last: Option<Position>,
    /// The page's hub is another one, or has another link, and nothing was published since: what
    /// was said twice may be heard again as a gap, and the first answer may have been lost.
    disturbed: bool,
    /// It was so once: a hub that was asked twice names a place that the page has passed.
    asked_twice: bool,
}

impl Subscription {
    /// Of a page that never heard of the topic.
    pub const fn new(name: &'static str) -> Self {
        Self { name, ready: false, last: None, disturbed: false, asked_twice: false }
    }

    /// The page's hub is another one, or has another link.
    pub const fn disturb(&mut self) {
        (self.disturbed, self.asked_twice) = (true, true);
    }

    /// The page was told where the topic is.
    pub fn subscribed(&mut self, position: Position) -> Result<(), String> {
        if self.ready {
            return Err("it was ready twice".to_owned());
        }
        self.ready = true;
        self.last = self.last.max(Some(position));
        Ok(())
    }

    /// The page was told that something is missing.
    pub fn missed(&mut self, feed: &Feed, position: Position) -> Result<(), String> {
        let right = match self.last {
            None => false,
            Some(last) if last.epoch == position.epoch && position <= last => self.asked_twice,
            Some(last) => last.epoch != position.epoch || feed.any_after(self.name, last, position),
        };
        if !right && !self.disturbed {
            let last = self.last;
            return Err(format!("a gap from {last:?} to {position:?}, where nothing is missing"));
        }
        let before = self.last.filter(|last| last.epoch == position.epoch);
        self.last = before.max(Some(position));
        Ok(())
    }

    /// The page heard a publication.
    pub fn heard(&mut self, feed: &Feed, position: Position, said: &str) -> Result<(), String> {
        if !self.ready && !self.disturbed {
            return Err(format!("a publication at {position:?} too early"));
        }
        let before = Position { offset: position.offset.saturating_sub(1), ..position };
        // Whose first answer was lost begins here.
        let last = self.last.unwrap_or(before);
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
