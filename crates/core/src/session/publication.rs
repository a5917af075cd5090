//! A publication on its way to many links.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tabmux_wire::{Position, TopicId};

use super::ledger::ARC;

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
#[derive(Debug, PartialEq, Eq)]
pub struct Encoded {
    plain: Box<[u8]>,
    deflated: Option<Box<[u8]>>,
    origin: Option<(TopicId, Position)>,
    share: Option<Share>,
}

/// Counts the memory that the publications of a topic take, whoever keeps them: each publication
/// once, until the last one who keeps it lets go.
#[derive(Debug, Default)]
pub struct Meter {
    bytes: AtomicUsize,
    /// The meter of all topics.
    all: Option<Arc<Self>>,
}

/// Memory that is charged to a topic as long as this lives.
#[derive(Debug)]
pub(super) struct Share {
    meter: Arc<Meter>,
    bytes: usize,
}

impl Encoded {
    /// A message as it is for every link, and as it is for links that agreed to deflate, if
    /// there are any.
    pub const fn new(plain: Box<[u8]>, deflated: Option<Box<[u8]>>) -> Self {
        Self { plain, deflated, origin: None, share: None }
    }

    /// The same, of a publication: its topic, and the position of the publication before it.
    #[must_use]
    pub const fn of_topic(mut self, topic: TopicId, previous: Position) -> Self {
        self.origin = Some((topic, previous));
        self
    }

    /// Charges the memory of the frame to a meter, as long as somebody keeps the frame.
    #[must_use]
    pub fn charged_to(mut self, meter: &Arc<Meter>) -> Self {
        let deflated = self.deflated.as_ref().map_or(0, |bytes| bytes.len());
        let bytes = ARC + size_of::<Self>() + self.plain.len() + deflated;
        self.share = Some(Share::new(meter, bytes));
        self
    }

    /// Charges its topic for more. Returns nothing if it is charged to none.
    pub(super) fn share_of_topic(&self, bytes: usize) -> Option<Share> {
        self.share.as_ref().map(|share| Share::new(&share.meter, bytes))
    }

    /// Returns the meter of all topics.
    pub(super) fn meter_of_all(&self) -> Option<&Arc<Meter>> {
        self.share.as_ref()?.meter.all.as_ref()
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

impl Meter {
    /// Makes the meter of a topic, which counts in the meter of all topics too.
    pub fn within(all: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), all: Some(Arc::clone(all)) })
    }

    /// Returns the bytes that are charged.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn change(&self, change: impl Fn(&AtomicUsize)) {
        change(&self.bytes);
        if let Some(all) = &self.all {
            all.change(change);
        }
    }
}

impl Share {
    pub(super) fn new(meter: &Arc<Meter>, bytes: usize) -> Self {
        meter.change(|total| _ = total.fetch_add(bytes, Ordering::Relaxed));
        Self { meter: Arc::clone(meter), bytes }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.meter.change(|total| _ = total.fetch_sub(self.bytes, Ordering::Relaxed));
    }
}

/// Two frames are the same whoever pays for them.
impl PartialEq for Share {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Share {}

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
