//! The two ends of DEFLATE. A shard has one of each for all its links: nothing is kept from one
//! message to the next but memory.

use std::str::from_utf8;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Fault, Kind};

/// What ends a compressor's output when it is flushed, and is not sent.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// The same for an inflater, and then an empty last block: only a message that ended where it
/// should has its end there too.
const END: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];
/// How often a message may say that it is at its end, which no client does more than once.
const MAX_ENDS: u32 = 8;
/// The room that is kept for the next message.
const KEEP: usize = 64 << 10;

/// Deflates messages. Takes no memory before the first one.
pub(crate) struct Deflater {
    /// Shorter messages are not worth it.
    threshold: usize,
    state: Option<Compress>,
    out: Vec<u8>,
}

/// Inflates messages. Takes no memory before the first one.
#[derive(Default)]
pub(crate) struct Inflater {
    state: Option<Decompress>,
    out: Vec<u8>,
}

impl Deflater {
    pub(crate) const fn new(threshold: usize) -> Self {
        Self { threshold, state: None, out: Vec::new() }
    }

    /// The payload of a deflated message; `None` if it is better sent as it is. With a threshold
    /// of 0 it never is.
    pub(crate) fn deflate(&mut self, payload: &[u8]) -> Option<&[u8]> {
        if payload.len() < self.threshold {
            return None;
        }
        let level = Compression::default();
        let state = self.state.get_or_insert_with(|| Compress::new(level, false));
        state.reset();
        empty(&mut self.out);
        // With this room it ends, even if it does not get shorter.
        self.out.reserve_exact(payload.len() + payload.len() / 256 + 64);
        let room = self.out.capacity();
        // What is not done shows in what comes out.
        let _ = state.compress_vec(payload, &mut self.out, FlushCompress::Sync);
        let whole = state.total_in() == payload.len() as u64 && self.out.len() < room;
        let deflated = self.out.strip_suffix(&TAIL)?;
        (whole && (deflated.len() < payload.len() || self.threshold == 0)).then_some(deflated)
    }
}

impl Inflater {
    /// The payload of a message that came deflated. It is never larger than the limit, not even
    /// before that is found out.
    pub(crate) fn inflate(
        &mut self,
        kind: Kind,
        deflated: &[u8],
        limit: usize,
    ) -> Result<&[u8], Fault> {
        empty(&mut self.out);
        // Not what the RFC says, but what some compressors make of nothing.
        if !deflated.is_empty() {
            self.run(deflated, limit)?;
        }
        if kind == Kind::Text && from_utf8(&self.out).is_err() {
            return Err(Fault::Utf8);
        }
        Ok(&self.out)
    }

    /// Bytes on the heap beside the inflater itself.
    #[cfg(test)]
    pub(super) const fn held(&self) -> usize {
        self.out.capacity()
    }

    fn run(&mut self, deflated: &[u8], limit: usize) -> Result<(), Fault> {
        let state = self.state.get_or_insert_with(|| Decompress::new(false));
        state.reset(false);
        let (mut rest, mut ends) = (deflated, 0);
        // A message may say that it is at its end, and then go on or be over.
        while step(state, &mut rest, &mut self.out, limit)? == Step::End {
            ends += 1;
            if rest.is_empty() {
                return Ok(());
            }
            if ends == MAX_ENDS {
                return Err(Fault::Deflate);
            }
            state.reset(false);
        }
        let mut end = END.as_slice();
        match step(state, &mut end, &mut self.out, limit)? {
            Step::End if end.is_empty() => Ok(()),
            Step::End | Step::More => Err(Fault::Deflate),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Step {
    /// The input is used up.
    More,
    /// The last block is over.
    End,
}

/// Inflates up to the end of the input or of the stream.
fn step(
    state: &mut Decompress,
    input: &mut &[u8],
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<Step, Fault> {
    loop {
        if out.len() == out.capacity() {
            // One byte more than the limit tells that there is more.
            out.reserve_exact(out.len().max(1 << 10).min(limit + 1 - out.len()));
        }
        let (taken, made) = (state.total_in(), out.len());
        let status = state.decompress_vec(input, out, FlushDecompress::None);
        let taken = (state.total_in() - taken) as usize;
        *input = &input[taken..];
        if out.len() > limit {
            return Err(Fault::TooBig);
        }
        match status {
            Ok(Status::StreamEnd) => return Ok(Step::End),
            Ok(_) if input.is_empty() && out.len() < out.capacity() => return Ok(Step::More),
            Ok(_) if taken > 0 || out.len() > made => {}
            _ => return Err(Fault::Deflate),
        }
    }
}

/// Makes room, and gives back what was made for an unusual message.
fn empty(out: &mut Vec<u8>) {
    out.clear();
    out.shrink_to(KEEP);
}
