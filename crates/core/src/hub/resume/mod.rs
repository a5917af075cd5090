//! What a tab missed while it was away, and what it is told of that when it is back.

mod held;
mod history;
mod lanes;
mod missed;

pub(super) use self::{
    held::Held,
    history::{History, Past},
    lanes::{MuxTab, MuxTabs, Named},
};
