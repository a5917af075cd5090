//! A trace: all that one hub was told, so that it can be told again at a desk.
//!
//! A hub is a function of its configuration, its seed and its inputs. A trace holds these, and
//! after each step a digest of all that the hub ordered so far: whoever replays it, natively or in
//! wasm, sees at which step the orders differ. A trace holds what users sent and received. It holds
//! no credentials, no cookie, and no query of an address or of a socket's path.
//!
//! # Format
//!
//! [`MAGIC`], [`VERSION`] as a byte, then mode (a byte, 1: mux), whether tabs are asked where the
//! link goes (a byte), whether the server is asked whose the browser is (a byte), URL, hub, seed,
//! and the rest of the configuration: time spans in microseconds, and limits. Then entries to the
//! end: a byte for the kind, and
//!
//! - 0, drained: the digest of all orders so far, four bytes, least significant first. The orders
//!   of a step are its outputs in their order, then the moment that `poll_timeout` names;
//! - 1, time passed: the moment of `handle_timeout`;
//! - from 2 on, an input: the moment, five numbers and two texts or byte strings, as `input.rs`
//!   has them.
//!
//! Numbers are varints, texts and bytes have their length before them, as on the link. A trace may
//! end after any entry. Traces of another version are refused: they are for days, not for years.

mod head;
mod input;
mod output;

use std::borrow::Cow;

use tabmux_wire::{DecodeError, Put, Reader};

use crate::{
    Timestamp,
    hub::{HubConfig, Input, Output},
};

/// Returns the path of a socket with an `x` for each byte of its query, which may hold a secret.
/// The length counts, since paths have a limit and frames are measured.
fn without_query(path: &str) -> Cow<'_, str> {
    match path.split_once('?') {
        Some((path, query)) => Cow::Owned(format!("{path}?{}", "x".repeat(query.len()))),
        None => Cow::Borrowed(path),
    }
}

/// The first bytes of a trace.
pub const MAGIC: [u8; 12] = *b"tabmux-trace";

/// The version of the format.
pub const VERSION: u8 = 7;

const DRAINED: u8 = 0;
const TIMEOUT: u8 = 1;

/// Writes a trace, entry by entry. Each method returns the bytes to append.
#[derive(Debug)]
pub struct Recorder {
    digest: Digest,
    entry: Vec<u8>,
}

impl Recorder {
    /// A recorder, and the head of its trace.
    pub fn new(config: &HubConfig, seed: u64) -> (Self, Vec<u8>) {
        (Self { digest: Digest::default(), entry: Vec::new() }, head::write(config, seed))
    }

    /// The hub is about to be told this.
    pub fn input(&mut self, now: Timestamp, input: &Input<'_>) -> &[u8] {
        self.entry.clear();
        input::write(&mut self.entry, now, input);
        &self.entry
    }

    /// The hub is about to be told that time has passed.
    pub fn timeout(&mut self, now: Timestamp) -> &[u8] {
        self.entry.clear();
        self.entry.push(TIMEOUT);
        self.entry.put_u64(now.as_micros());
        &self.entry
    }

    /// The hub ordered this.
    pub fn output(&mut self, output: &Output) {
        self.entry.clear();
        output::write(&mut self.entry, output);
        self.digest.add(&self.entry);
    }

    /// It has no more orders, and wants to be woken then.
    pub fn drained(&mut self, wake: Option<Timestamp>) -> &[u8] {
        self.entry.clear();
        self.entry.put_u64(wake.map_or(0, Timestamp::as_micros));
        self.digest.add(&self.entry);
        self.entry.clear();
        self.entry.push(DRAINED);
        self.entry.extend_from_slice(&self.digest.get());
        &self.entry
    }
}

/// Reads a trace: the entries, in order.
#[derive(Clone, Debug)]
pub struct Trace<'a> {
    /// The configuration of the hub.
    pub config: HubConfig,
    /// Its seed.
    pub seed: u64,
    entries: Reader<'a>,
}

/// A line of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// `handle_input`.
    Input(Timestamp, Input<'a>),
    /// `handle_timeout`.
    Timeout(Timestamp),
    /// `poll_output` until there was none, then `poll_timeout`: the digest of all so far.
    Drained([u8; 4]),
}

impl<'a> Trace<'a> {
    /// Reads the head.
    ///
    /// # Errors
    /// The bytes are no trace of this version.
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut entries = Reader::new(bytes);
        let (config, seed) = head::read(&mut entries)?;
        Ok(Self { config, seed, entries })
    }

    fn entry(&mut self) -> Result<Entry<'a>, DecodeError> {
        let it = &mut self.entries;
        Ok(match it.u8()? {
            DRAINED => Entry::Drained([it.u8()?, it.u8()?, it.u8()?, it.u8()?]),
            TIMEOUT => Entry::Timeout(Timestamp::from_micros(it.u64()?)),
            kind => {
                let now = Timestamp::from_micros(it.u64()?);
                Entry::Input(now, input::read(it, kind)?)
            }
        })
    }
}

impl<'a> Iterator for Trace<'a> {
    type Item = Result<Entry<'a>, DecodeError>;

    /// After an error nothing comes.
    fn next(&mut self) -> Option<Self::Item> {
        if self.entries.end().is_ok() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.entries = Reader::new(&[]);
        }
        Some(entry)
    }
}

/// FNV-1a of 64 bits, of which a trace holds the upper half: it is to find accidents.
#[derive(Debug)]
struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    const fn get(&self) -> [u8; 4] {
        let [.., a, b, c, d] = self.0.to_le_bytes();
        [a, b, c, d]
    }
}
