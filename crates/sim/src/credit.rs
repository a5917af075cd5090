//! Credit: what each end may send on a socket before the other has heard of it. Small, so that
//! messages do wait.

use tabmux_core::wire::message_cost;

/// What each end gives with a socket: some four messages.
pub const CREDIT: u32 = 300;
/// How much it lets come together before it gives it back.
pub const ENOUGH: u64 = CREDIT as u64 / 2;

/// What a message costs.
pub const fn cost(text: &str) -> u64 {
    message_cost(text.len())
}
