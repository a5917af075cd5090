//! Tests of the built product in real browsers.

use std::process::ExitCode;

use tabmux_e2e::runner;

fn main() -> ExitCode {
    runner::main(&[])
}
