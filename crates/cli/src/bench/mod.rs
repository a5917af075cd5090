//! `tabmux bench`: a load generator for anyone's tabmux server, and the client that the
//! repository's own benchmarks drive every server with.
//!
//! A [`Fleet`] is many links on one thread: epoll, one shared buffer, a few words of state a link,
//! so that what is measured is the server. A [`Publisher`] publishes over HTTP. What is published
//! carries a number and the time ([`stamp`]), so every delivery tells its latency and every loss
//! is seen.

mod fleet;
mod link;
mod options;
mod process;
mod progress;
mod publisher;
mod report;
mod run;
pub mod stamp;
mod tally;

pub use self::{
    fleet::{Fleet, Plan, Retry, Speech, Topics, need_files},
    options::Options,
    process::Process,
    progress::Progress,
    publisher::{Answer, Form, Publisher},
    report::Report,
    run::run,
    tally::{Reasons, Tally},
};
