//! The tasks of this repository. `cargo xtask --help` lists them.

fn main() {}
