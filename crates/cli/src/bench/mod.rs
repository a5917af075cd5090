//! `tabmux bench`: a load generator for any tabmux server. The benchmarks of this repository drive
//! every server with it.
//!
//! A [`Fleet`] is many links on one thread. It has one epoll, one shared buffer and little state
//! for each link, so that the server is what is measured. A [`Publisher`] publishes over HTTP. Each
//! publication carries a number and the time ([`stamp`]), so that each delivery tells its latency
//! and each loss is seen.

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
    options::{Options, Url},
    process::Process,
    progress::Progress,
    publisher::{Answer, Form, Publisher},
    report::{
        ClientCost, Deliveries, Latency, Links, Publications, Report, ServerCost, Subscriptions,
    },
    run::run,
    tally::{Reasons, Tally},
};
