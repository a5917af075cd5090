//! Every state machine of tabmux, of both ends: the [`hub`] that runs in the browser and the
//! [`session`] half of the server. The same code runs compiled to wasm, in the server and in the
//! simulator.
//!
//! # The run loop
//!
//! A machine here never waits, never reads a clock and never draws a random number. Its shell
//! does the following, for ever:
//!
//! 1. Tell it what happened: `handle_input(now, input)`, or `handle_timeout(now)` when the time
//!    that `poll_timeout` named has come.
//! 2. Carry out its orders: `poll_output()` until it returns `None`. Any number of inputs may
//!    come before this.
//! 3. Ask `poll_timeout()` when to wake it next, and wait for that or for the next input.
//!
//! The methods of a facade are of four kinds: getters on `&self`; `handle_*`, which take facts
//! from outside, never fail and never panic on foreign bytes; commands of the application; and
//! `poll_*`. Spurious calls of `handle_timeout` are no-ops. Time is a [`Timestamp`] that never
//! runs backwards; a jump of hours, as after sleep, is a normal input.
//!
//! No IO, no clock, no randomness, no async, no iteration over a `HashMap`, no `unsafe`.

#![forbid(unsafe_code)]
#![warn(missing_debug_implementations, missing_docs)]
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

pub mod hub;
mod payload;
pub mod session;
pub mod shell;
mod time;
pub mod trace;

pub use self::{payload::OwnedPayload, time::Timestamp};
pub use tabmux_wire as wire;
