//! What the binary `tabmux` is made of. It is a program, not a library to build on: that is
//! [`tabmux_server`].

#![forbid(unsafe_code)]
// These macros panic where stdout or stderr cannot be written.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod bench;
pub mod demo;
mod stderr;

pub use self::stderr::{Stderr, lost_lines};

/// The scripts of the page library that the binary was built with, by name. Empty if
/// `cargo xtask dist` had not run.
pub const SCRIPTS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/scripts.rs"));
