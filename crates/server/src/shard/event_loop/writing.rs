//! What goes out: orders become queues, and queues become writes.

use std::sync::Arc;

use tabmux_core::{
    Timestamp,
    session::{Encoded, LinkId},
};

use super::{
    super::{
        batch::Batch,
        link::Phase,
        outgoing::{CORK, Flushed},
        service::{Order, Service},
    },
    EventLoop,
};
use crate::ws::Decoder;

impl<S: Service> EventLoop<S> {
    /// Does what the service orders.
    pub(super) fn carry_out(&mut self, now: Timestamp) {
        while let Some(order) = self.service.order(now, &self.links) {
            match order {
                Order::Send { link: id, kind, bytes } => {
                    self.spill();
                    if let Some(link) = self.links.get_mut(id)
                        && link.phase == Phase::Open
                    {
                        let deflater = Some(&mut self.deflater).filter(|_| link.inflates);
                        let deflated = deflater.and_then(|it| it.deflate(&bytes));
                        link.out.put_message(kind, &bytes, deflated);
                        self.burst = self.burst.max(link.out.unseen());
                        self.mark(id);
                    }
                }
                Order::Publish { frames, links } => self.batch_up(Batch { links, frames }),
                Order::Seat { link, visitor, was_pending } => {
                    self.seat(link, visitor, was_pending);
                }
                Order::Close { link: id, code, reason } => {
                    self.spill();
                    if let Some(link) = self.links.get_mut(id)
                        && link.phase == Phase::Open
                    {
                        link.out.put_close(Some((code, &reason)));
                        // Nobody pays any more for the beginning of a message.
                        let is_within = link.decoder.held() > 0;
                        let phase = if is_within { Phase::Deaf } else { Phase::Closing };
                        link.decoder = Decoder::default();
                        let is_stuck = link.out.is_stuck();
                        self.enter(now, id, phase);
                        if is_stuck {
                            self.drop_link(id);
                        }
                    }
                }
            }
        }
    }

    fn batch_up(&mut self, more: Batch) {
        self.burst += more.counted();
        let rest = match &mut self.batch {
            Some(batch) => batch.add(more).err(),
            None => Some(more),
        };
        if let Some(other) = rest {
            self.spill();
            self.batch = Some(other);
        }
    }

    /// Puts the batch into the queues of its links, since something else comes behind it.
    fn spill(&mut self) {
        if let Some(Batch { links, frames }) = self.batch.take() {
            for id in links {
                self.enqueue(id, &frames, 0);
            }
        }
    }

    /// Queues publications for a link, of which the kernel took some bytes already; what the
    /// service counts of those.
    fn enqueue(&mut self, id: LinkId, frames: &[Arc<Encoded>], taken: usize) -> usize {
        let Some(link) = self.links.get_mut(id).filter(|link| link.phase == Phase::Open) else {
            return 0;
        };
        let counted = link.out.put_shared(frames, taken, link.inflates);
        self.mark(id);
        counted
    }

    /// Ends a turn: every link with something to write gets one write. What becomes possible
    /// by that is queued and waits for the next turn: a link that reads as fast as its handlers
    /// write would keep all others waiting.
    pub(super) fn settle(&mut self, now: Timestamp) {
        self.carry_out(now);
        // Before the writes, so that whoever gets an answer finds it counted.
        self.service.publish();
        self.burst = 0;
        if let Some(batch) = self.batch.take() {
            self.write_batch(now, batch);
        } else if self.dirty.is_empty() {
            return;
        }
        let mut flushing = std::mem::take(&mut self.flushing);
        std::mem::swap(&mut flushing, &mut self.dirty);
        for link in flushing.drain(..) {
            self.flush(now, link);
        }
        self.flushing = flushing;
        self.carry_out(now);
        self.service.publish();
    }

    /// Writes the same bytes to every link that has nothing else to write.
    fn write_batch(&mut self, now: Timestamp, batch: Batch) {
        let (mut cork, mut deflated) = (std::mem::take(&mut self.cork), Vec::new());
        let counted = batch.counted();
        let plain = batch.join(false, &mut cork);
        let deflated = if batch.is_deflated() { batch.join(true, &mut deflated) } else { plain };
        for &id in &batch.links {
            let Some(link) = self.links.get_mut(id).filter(|link| link.phase == Phase::Open) else {
                continue;
            };
            let bytes = if link.inflates { deflated } else { plain };
            // What is in its queue goes first.
            let taken = if link.out.is_empty() { link.stream.write(bytes) } else { Ok(0) };
            match taken {
                Ok(taken) if taken == bytes.len() => self.service.written(now, id, counted),
                Ok(taken) => {
                    let counted = self.enqueue(id, &batch.frames, taken);
                    self.service.written(now, id, counted);
                }
                // What is the matter is found out by the next write.
                Err(_) => {
                    self.enqueue(id, &batch.frames, 0);
                }
            }
        }
        // A large publication may have joined small ones.
        cork.clear();
        cork.shrink_to(CORK);
        self.cork = cork;
    }

    fn flush(&mut self, now: Timestamp, id: LinkId) {
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        link.dirty = false;
        let (written, all) = match link.out.flush(&mut link.stream, link.inflates, &mut self.cork) {
            Flushed::All(written) => (written, true),
            Flushed::Part(written) => (written, false),
            Flushed::Broken => return self.lose(now, id),
        };
        let all = all && !link.stream.is_pending();
        match link.phase {
            Phase::Open => {
                if written > 0 {
                    self.service.written(now, id, written);
                }
                self.tell_memory(now, id);
            }
            // An error means that the peer is gone, which the next read tells.
            // Nobody pays for what waits here, and the peer does not read it.
            Phase::Closing | Phase::Deaf | Phase::Leaving if link.out.is_stuck() => {
                self.drop_link(id);
            }
            Phase::Deaf if all => drop(link.stream.end()),
            Phase::Leaving if all => self.drop_link(id),
            Phase::Knocking | Phase::Closing | Phase::Deaf | Phase::Leaving => {}
        }
    }
}
