//! Credit: what each end may send on a socket before the other end gives more. The credit here is
//! small, so that messages have to wait.

use tabmux_core::wire::message_cost;

/// Credit that each end gives with a socket: about four messages.
pub const CREDIT: u32 = 300;
/// Credit that an end collects before it gives it back.
pub const ENOUGH: u64 = CREDIT as u64 / 2;

/// Returns the credit that a message costs.
pub const fn cost(text: &str) -> u64 {
    message_cost(text.len())
}
