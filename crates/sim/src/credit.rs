//! Credit: what each end may send on a socket before the other has heard of it. Small, so that
//! messages do wait.

use std::collections::BTreeMap;

use tabmux_core::wire::MESSAGE_COST;

/// What a page gives with a socket: some four messages.
pub const CREDIT: u64 = 300;
/// How much it lets come together before it gives it back.
const ENOUGH: u64 = CREDIT / 2;

/// What a message costs.
pub const fn cost(text: &str) -> u64 {
    MESSAGE_COST + text.len() as u64
}

/// What was heard on each socket of a page and is not given back.
#[derive(Debug, Default)]
pub struct Heard(BTreeMap<u32, u64>);

impl Heard {
    /// A message was heard: what is to be given back now.
    pub fn hear(&mut self, socket: u32, text: &str) -> Option<u64> {
        let sum = self.0.entry(socket).or_default();
        *sum += cost(text);
        (*sum >= ENOUGH).then(|| std::mem::take(sum))
    }
}
