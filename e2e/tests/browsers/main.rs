//! Tests of the built product in real browsers: one file for each subject.
//!
//! `cargo test -p tabmux-e2e --test browsers -- --list` prints the names.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at few of many kinds")]

use std::process::ExitCode;

use tabmux_e2e::runner;

mod bad_input;
mod causes;
mod crash;
mod credentials;
mod deadlines;
mod demo;
mod elections;
mod examples;
mod gateway;
mod isolated;
mod judged;
mod last_resort;
mod lifecycle;
mod line;
mod mirror;
mod parity;
mod preload;
mod recovery;
mod registry;
mod rooms;
mod rules;
mod sending;
mod sharing;
mod steps;
mod tiers;
mod tiers_lossless;
mod topics;
mod traces;
mod users;
mod versions;
mod workers;
mod wpt;

fn main() -> ExitCode {
    let tests = [
        sharing::TESTS,
        registry::TESTS,
        preload::TESTS,
        recovery::TESTS,
        sending::TESTS,
        mirror::TESTS,
        rules::TESTS,
        examples::TESTS,
        gateway::TESTS,
        rooms::TESTS,
        parity::TESTS,
        topics::TESTS,
        tiers::TESTS,
        tiers_lossless::TESTS,
        isolated::TESTS,
        judged::TESTS,
        users::TESTS,
        credentials::TESTS,
        last_resort::TESTS,
        deadlines::TESTS,
        causes::TESTS,
        workers::TESTS,
        bad_input::TESTS,
        demo::TESTS,
        elections::TESTS,
        traces::TESTS,
        versions::TESTS,
        wpt::TESTS,
        crash::TESTS,
        demo::CRASHES,
        lifecycle::TESTS,
        line::TESTS,
        tiers_lossless::CRASHES,
    ];
    runner::main(&tests.concat())
}
