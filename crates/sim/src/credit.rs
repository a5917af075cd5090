//! Credit: what each end may send on a socket before the other has heard of it. Small, so that
//! messages do wait.

use std::collections::{BTreeMap, VecDeque};

use tabmux_core::wire::message_cost;

use crate::{
    invariant::Checked,
    page::{Act, Page, Said},
    reference::Reference,
};

/// What each end gives with a socket: some four messages.
pub const CREDIT: u32 = 300;
/// How much it lets come together before it gives it back.
pub const ENOUGH: u64 = CREDIT as u64 / 2;

/// What a message costs.
pub const fn cost(text: &str) -> u64 {
    message_cost(text.len())
}

impl Page {
    /// It heard a message, and lets more come if that is enough.
    pub(crate) fn give(&mut self, socket: u32, text: &str) -> Vec<Act> {
        let bytes = self.session.heard.hear(socket, text);
        bytes.map_or_else(Vec::new, |bytes| self.say(Said::Credit(socket, bytes)))
    }

    /// It may send so much more, and does.
    pub(crate) fn given(
        &mut self,
        socket: u32,
        bytes: u64,
        reference: &mut Reference,
    ) -> Checked<Vec<Act>> {
        let now = self.session.allowed.give(socket, bytes);
        self.say_now(now, reference)
    }

    /// Says it behind what waits for credit.
    pub(crate) fn say_in_turn(
        &mut self,
        socket: u32,
        said: Said,
        reference: &mut Reference,
    ) -> Checked<Vec<Act>> {
        let now = self.session.allowed.take(socket, &said).then_some(said);
        self.say_now(now, reference)
    }

    fn say_now(
        &mut self,
        now: impl IntoIterator<Item = Said>,
        reference: &mut Reference,
    ) -> Checked<Vec<Act>> {
        let mut acts = Vec::new();
        for said in now {
            if let Said::Send(socket, text) = &said {
                reference.page_sends(self.id, *socket, text)?;
            }
            acts.extend(self.say(said));
        }
        Ok(acts)
    }
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

/// What a page may send on its sockets, and what it says once it may send more.
#[derive(Debug, Default)]
pub struct Allowed(BTreeMap<u32, (i64, VecDeque<Said>)>);

impl Allowed {
    /// A socket is open, or its server gave it more: what is said now.
    pub fn give(&mut self, socket: u32, bytes: u64) -> Vec<Said> {
        let (left, waiting) = self.0.entry(socket).or_default();
        *left += bytes.cast_signed();
        let mut now = Vec::new();
        while let Some(said) = waiting.pop_front_if(|said| may(*left, said)) {
            *left -= price(&said);
            now.push(said);
        }
        now
    }

    /// Something is to be said on a socket, behind what waits: whether that is now.
    pub fn take(&mut self, socket: u32, said: &Said) -> bool {
        let Some((left, waiting)) = self.0.get_mut(&socket) else { return true };
        let now = waiting.is_empty() && may(*left, said);
        if now {
            *left -= price(said);
        } else {
            waiting.push_back(said.clone());
        }
        now
    }
}

fn may(left: i64, said: &Said) -> bool {
    left > 0 || price(said) == 0
}

fn price(said: &Said) -> i64 {
    match said {
        Said::Send(_, text) => cost(text).cast_signed(),
        _ => 0,
    }
}
