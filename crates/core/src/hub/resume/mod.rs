//! What a tab missed while it was away, and what it is told of that when it is back.

mod held;
mod history;

pub(super) use self::{
    held::Held,
    history::{History, Past},
};
