//! Publications of a turn that all go to the same links: written from one place, without a queue.

use std::sync::Arc;

use tabmux_core::session::{Encoded, LinkId};

/// Publications for the same links, in order. Most turns in which anything is published have one
/// batch and nothing else.
pub(super) struct Batch {
    pub(super) links: Vec<LinkId>,
    pub(super) frames: Vec<Arc<Encoded>>,
}

impl Batch {
    /// Takes more publications, if they go to the same links; else gives them back.
    pub(super) fn add(&mut self, more: Self) -> Result<(), Self> {
        if self.links == more.links {
            self.frames.extend(more.frames);
            Ok(())
        } else {
            Err(more)
        }
    }

    /// What the service counts for each link.
    pub(super) fn counted(&self) -> usize {
        self.frames.iter().map(|frame| frame.len()).sum()
    }

    /// Whether any of it is another for links that inflate.
    pub(super) fn is_deflated(&self) -> bool {
        self.frames.iter().any(|frame| frame.is_deflated())
    }

    /// The bytes to write, of those that inflate or of those that do not; put together in
    /// `buffer` if there are several frames.
    pub(super) fn join<'a>(&'a self, inflates: bool, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        if let [frame] = &self.frames[..] {
            return frame.bytes(inflates);
        }
        buffer.clear();
        for frame in &self.frames {
            buffer.extend_from_slice(frame.bytes(inflates));
        }
        buffer
    }
}
