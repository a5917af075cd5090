//! What keeps a trace of a hub, and what stands in its place where no trace can be wanted.

use crate::{
    Timestamp,
    hub::{HubConfig, Input, Output},
    trace::Recorder,
};

/// Keeps a trace. See [`Recorder`] for the methods.
pub trait Tape: Sized {
    /// Begins a trace, and returns its head. Nothing where this tape keeps none.
    fn begin(config: &HubConfig, seed: u64) -> Option<(Self, Vec<u8>)>;
    /// The hub is about to be told this.
    fn input(&mut self, now: Timestamp, input: &Input<'_>) -> &[u8];
    /// Time is about to pass.
    fn timeout(&mut self, now: Timestamp) -> &[u8];
    /// The hub ordered this.
    fn output(&mut self, output: &Output);
    /// The hub has given all its orders.
    fn drained(&mut self, wake: Option<Timestamp>) -> &[u8];
}

impl Tape for Recorder {
    fn begin(config: &HubConfig, seed: u64) -> Option<(Self, Vec<u8>)> {
        Some(Self::new(config, seed))
    }

    fn input(&mut self, now: Timestamp, input: &Input<'_>) -> &[u8] {
        self.input(now, input)
    }

    fn timeout(&mut self, now: Timestamp) -> &[u8] {
        self.timeout(now)
    }

    fn output(&mut self, output: &Output) {
        self.output(output);
    }

    fn drained(&mut self, wake: Option<Timestamp>) -> &[u8] {
        self.drained(wake)
    }
}

/// No tape, and no code for one. The modules that browsers load without a wish for traces have it.
#[derive(Clone, Copy, Debug)]
pub enum Untraced {}

impl Tape for Untraced {
    fn begin(_: &HubConfig, _: u64) -> Option<(Self, Vec<u8>)> {
        None
    }

    fn input(&mut self, _: Timestamp, _: &Input<'_>) -> &[u8] {
        match *self {}
    }

    fn timeout(&mut self, _: Timestamp) -> &[u8] {
        match *self {}
    }

    fn output(&mut self, _: &Output) {
        match *self {}
    }

    fn drained(&mut self, _: Option<Timestamp>) -> &[u8] {
        match *self {}
    }
}
