//! What a broker in memory remembers: where each topic is, and its last publications.
//!
//! Nothing here knows shards, sessions or links. Time is an argument.

mod history;
mod log;
mod place;

#[cfg(test)]
pub(crate) use self::log::MAX_LEFT;
pub(crate) use self::log::Mark;
pub use self::{
    history::{Keep, Keeping, Kept, Recalled},
    log::{Placed, TooManyTopics, TopicLog},
    place::is_same_place,
};
