//! The parts of the binary `tabmux`. This crate is a program. The library for applications is
//! [`tabmux_server`].

#![forbid(unsafe_code)]
// These macros panic if stdout or stderr cannot be written.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod bench;
pub mod demo;
mod stderr;

pub use self::stderr::{Stderr, lost_lines};

/// The scripts of the page library that the binary was built with, by name. It is empty if `cargo
/// xtask dist` did not run before the build.
pub const SCRIPTS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/scripts.rs"));
