//! A publication on its way to many links.

use std::sync::Arc;

use tabmux_wire::{Position, TopicId};

/// A publication, numbered, and encoded once for all links of all shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The topic.
    pub topic: TopicId,
    /// Its place in the topic.
    pub position: Position,
    /// What is written.
    pub frame: Arc<Encoded>,
}

/// The finished bytes of one message as the shell's streams carry it: for a WebSocket, the frame
/// with its header. A registry passes them on and counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    plain: Box<[u8]>,
    deflated: Option<Box<[u8]>>,
    origin: Option<(TopicId, Position)>,
}

impl Encoded {
    /// A message as it is for every link, and as it is for links that agreed to deflate, if
    /// there are any.
    pub const fn new(plain: Box<[u8]>, deflated: Option<Box<[u8]>>) -> Self {
        Self { plain, deflated, origin: None }
    }

    /// The same, of a publication: its topic, and the position of the publication before it.
    #[must_use]
    pub const fn of_topic(mut self, topic: TopicId, previous: Position) -> Self {
        self.origin = Some((topic, previous));
        self
    }

    /// The topic that it is of, and where that was before it.
    pub const fn origin(&self) -> Option<(TopicId, Position)> {
        self.origin
    }

    /// For a link that inflates, or for one that does not.
    pub fn bytes(&self, inflates: bool) -> &[u8] {
        match &self.deflated {
            Some(deflated) if inflates => deflated,
            _ => &self.plain,
        }
    }

    /// Whether it has a form of its own for links that agreed to deflate.
    pub const fn is_deflated(&self) -> bool {
        self.deflated.is_some()
    }

    /// The bytes it is counted with, the same for all links.
    pub const fn len(&self) -> usize {
        self.plain.len()
    }

    /// Whether there is nothing to write.
    pub const fn is_empty(&self) -> bool {
        self.plain.is_empty()
    }
}

/// What happens to publications of a topic while a hub does not read fast enough. It acts on
/// those that are not counted yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowPolicy {
    /// The subscription ends, and the hub subscribes again from its last position.
    #[default]
    Recover,
    /// Of those that wait, only the latest is kept; the hub sees the hole and says *gap*.
    KeepLatest,
    /// What does not fit is dropped, and the hub is told where: *gap*.
    DropWithGap,
}
