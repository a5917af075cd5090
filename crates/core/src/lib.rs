//! Every state machine of tabmux, of both ends: the [`hub`] that runs in the browser, the
//! [`session`] half of the server, and the [`feed`] of a broker in memory. The same code runs
//! compiled to wasm, in the server and in the simulator.
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
//! # Both ends in one function
//!
//! A real shell carries the bytes over a WebSocket. Here a loop hands them from one machine to the
//! other until a tab hears what the server says to its browser.
//!
//! ```
//! use tabmux_core::{OwnedPayload, Timestamp, hub::{HubMessage::Browser, *}};
//! use tabmux_core::{session::{self, Event, LinkId, Registry}, wire::{HubId, Payload, TabId}};
//!
//! let (mut now, link) = (Timestamp::from_millis(1), LinkId(1));
//! let mut hub = Hub::new(HubConfig::new(Mode::Mux, HubId(7), "ws://localhost"), 42);
//! let mut server = Registry::new(session::SessionConfig::default(), now);
//! let message = TabMessage::Attach { claim: "", last0: 0, last: 0 };
//! hub.handle_input(now, Input::TabMessage { tab: TabId(1), message });
//!
//! let mut dialled = AttemptId(0);
//! let heard = loop {
//!     if let Some(order) = hub.poll_output() {
//!         match order {
//!             Output::RequestLinkLock => hub.handle_input(now, Input::LinkLockGranted),
//!             Output::OpenLink { attempt } => {
//!                 let entropy = [9; 32]; // A real shell asks the operating system.
//!                 let accepted = session::Input::LinkOpened { link, entropy, visitor: None };
//!                 server.handle_input(now, accepted);
//!                 let opened = Input::LinkOpened { attempt, protocol: "", extensions: "" };
//!                 hub.handle_input(now, opened);
//!                 dialled = attempt;
//!             }
//!             Output::ShowCredentials(_, bytes)
//!             | Output::SendLink { payload: OwnedPayload::Binary(bytes), .. } => {
//!                 server.handle_input(now, session::Input::LinkMessage { link, bytes: &bytes });
//!             }
//!             Output::PostToTabs { message: Browser { payload, .. }, .. } => break payload,
//!             _ => {} // Other orders are for the locks and ports of a browser.
//!         }
//!     } else if let Some(order) = server.poll_output() {
//!         if let session::Output::Send { bytes, .. } = order {
//!             let payload = Payload::Binary(&bytes);
//!             hub.handle_input(now, Input::LinkMessage { attempt: dialled, payload });
//!         } else if let session::Output::Event(Event::TabAttached { session, .. }) = order {
//!             server.broadcast(now, session, Payload::Text("hello")).unwrap();
//!         }
//!     } else {
//!         now = hub.poll_timeout().unwrap().0; // A real shell waits until then.
//!         hub.handle_timeout(now);
//!     }
//! };
//! assert_eq!(heard, "hello".into());
//! ```
//!
//! # Rules
//!
//! No IO, no clock, no randomness, no async, no iteration over a `HashMap`, no `unsafe`.

#![forbid(unsafe_code)]
#![warn(missing_debug_implementations, missing_docs)]
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

pub mod feed;
pub mod hub;
mod payload;
pub mod session;
pub mod shell;
mod time;
pub mod trace;

pub use self::{payload::OwnedPayload, time::Timestamp};
pub use tabmux_wire as wire;
