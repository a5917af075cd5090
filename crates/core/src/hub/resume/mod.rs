//! What a tab missed while it was away, and what it is told of that when it is back.

mod cache;
mod claim;
mod hearing;
mod held;
mod history;
mod lanes;
mod missed;

use self::history::Past;
pub(super) use self::{
    cache::Cache,
    claim::Claim,
    hearing::Hearing,
    held::Held,
    history::History,
    lanes::{MuxTab, MuxTabs, Named},
};
