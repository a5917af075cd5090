//! Topics: what was published, and what a page may hear of it.

use std::collections::BTreeMap;

use tabmux_core::{hub::HubMessage, wire::Position};

use crate::{
    invariant::{
        Checked,
        Invariant::{NothingLost, OnlyWhatWasAsked},
    },
    page::{Page, PageMessage, text},
};

/// The topics there are; the server has another policy for each.
pub const NAMES: [&str; 3] = ["recover", "latest", "gap"];

/// All that was published so far, by all servers: epoch and offset of each, and its number.
#[derive(Debug, Default)]
pub struct Feed(BTreeMap<&'static str, BTreeMap<(u64, u64), u64>>);

/// A page's subscription.
#[derive(Debug)]
pub struct Subscription {
    /// The topic.
    pub name: &'static str,
    /// Whether the page was told where the topic is.
    pub ready: bool,
    /// How often it asked. What answers an earlier wish, and was posted to a port that it has left,
    /// makes its hub go on with the topic before that has read the wish of now.
    pub asked: u32,
    /// Where the page is in the topic.
    pub last: Option<Position>,
    /// What it was told of where it goes on.
    owed: Owed,
}

/// What follows when a page was told where a topic is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Owed {
    /// Nothing but what was published.
    #[default]
    Nothing,
    /// It did not go on where it was, though nothing is missing: a gap may follow.
    GapOrNothing,
    /// It did not go on where it was: a gap must follow.
    Gap,
    /// What it has heard already, gaps among it.
    Again,
}

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

impl Subscription {
    /// Of a page that never heard of the topic.
    pub const fn new(name: &'static str, asked: u32) -> Self {
        Self { name, ready: false, asked, last: None, owed: Owed::Nothing }
    }

    fn subscribed(
        &mut self,
        feed: &Feed,
        position: Position,
        recovered: bool,
    ) -> Result<(), String> {
        // Asked twice, and answered twice: it does not go back.
        let ahead = self.last.is_some_and(|it| it.epoch == position.epoch && position < it);
        if recovered && ahead {
            self.ready = true;
            if self.owed != Owed::Gap {
                self.owed = Owed::Again;
            }
            return Ok(());
        }
        // The first answer was lost with the port that the page had left.
        let first_lost = self.last.is_none() && self.asked > 1;
        if recovered && self.last != Some(position) && !first_lost {
            return Err(format!("recovered at {position:?}, but was at {:?}", self.last));
        }
        // Asked twice before it had heard anything, and answered twice: it is told what it knows.
        let same = |last: Position| {
            last.epoch == position.epoch
                && last <= position
                && !feed.any_after(self.name, last, position)
        };
        self.owed = match self.last {
            Some(last) if !recovered && !same(last) => Owed::Gap,
            Some(_) if !recovered => Owed::GapOrNothing,
            None if first_lost => Owed::GapOrNothing,
            _ => Owed::Nothing,
        };
        (self.ready, self.last) = (true, Some(position));
        Ok(())
    }

    /// Whether it may hear of the topic.
    const fn may_begin(&self) -> bool {
        self.ready || self.asked > 1
    }

    fn missed(&mut self, feed: &Feed, position: Position) -> Result<(), String> {
        let Some(last) = self.last else {
            self.last = Some(position);
            return self.may_begin().then_some(()).ok_or_else(|| "a gap too early".to_owned());
        };
        if self.owed == Owed::Again && last.epoch == position.epoch && position <= last {
            return Ok(());
        }
        let owed = std::mem::take(&mut self.owed);
        let right = last.epoch != position.epoch || feed.any_after(self.name, last, position);
        self.last = Some(position);
        (matches!(owed, Owed::Gap | Owed::GapOrNothing) || right)
            .then_some(())
            .ok_or_else(|| format!("a gap from {last:?} to {position:?}, where nothing is missing"))
    }

    fn heard(&mut self, feed: &Feed, position: Position, said: &str) -> Result<(), String> {
        // It was heard before, from another hub, or is missing by a gap that was told.
        if self.last.is_some_and(|it| it.epoch == position.epoch && position <= it) {
            return Ok(());
        }
        if !self.may_begin() || self.owed == Owed::Gap {
            return Err(format!("a publication at {position:?} too early"));
        }
        let Some(number) = feed.number(self.name, position) else {
            return Err(format!("nothing was published at {position:?}"));
        };
        let before = Position { offset: position.offset.saturating_sub(1), ..position };
        // Whose first answer was lost begins here.
        let last = self.last.unwrap_or(before);
        if last.epoch != position.epoch {
            return Err(format!("a publication at {position:?} behind {last:?}"));
        }
        if feed.any_after(self.name, last, before) {
            return Err(format!("from {last:?} to {position:?} without a gap"));
        }
        if !said.starts_with(&format!("{} {number} ", self.name)) {
            return Err(format!("{said:?} is not number {number}"));
        }
        (self.last, self.owed) = (Some(position), Owed::Nothing);
        Ok(())
    }
}

impl Page {
    /// What it wants of a hub that does not know it.
    pub(crate) fn topics_wanted(&mut self) -> Vec<PageMessage> {
        let wish = |(number, it): (&u32, &mut Subscription)| {
            (it.ready, it.asked, it.owed) = (false, it.asked + 1, Owed::Nothing);
            PageMessage::Subscribe(*number, it.name, it.last)
        };
        self.subscriptions.iter_mut().map(wish).collect()
    }
}

/// A page hears something of a topic.
pub(crate) fn receive(page: &mut Page, feed: &Feed, message: &HubMessage) -> Checked {
    let id = page.id;
    let (HubMessage::Subscribed { subscription, .. }
    | HubMessage::Publication { subscription, .. }
    | HubMessage::Gap { subscription, .. }
    | HubMessage::Unsubscribed { subscription, .. }) = message
    else {
        return OnlyWhatWasAsked.broken(format!("{message:?} is not of a topic"));
    };
    let made = subscription.0 <= page.subscriptions_made;
    OnlyWhatWasAsked.unless(made, || format!("{id} never asked for {message:?}"))?;
    // One that the page has ended meanwhile.
    let Some(it) = page.subscriptions.get_mut(&subscription.0) else {
        return Ok(());
    };
    let heard = match message {
        HubMessage::Subscribed { position, recovered, .. } => {
            it.subscribed(feed, *position, *recovered)
        }
        HubMessage::Gap { position, .. } => it.missed(feed, *position),
        HubMessage::Publication { position, payload, .. } => {
            it.heard(feed, *position, text(payload))
        }
        _ => Err("it was refused".to_owned()),
    };
    let name = it.name;
    heard.or_else(|why| {
        NothingLost.broken(format!("{id} subscription {} of {name}: {why}", subscription.0))
    })
}
