//! Drives Chromium, Firefox and WebKitGTK through one small blocking client.
//!
//! The tests are in `tests/browsers`. Everything they use is real: the built page library, the
//! `tabmux` binary and the browsers of the distribution. Pages come from [`pages::PageServer`] on
//! one port and links go to [`server::LinkServer`] on another, so that [`sockets::established`]
//! counts WebSockets and nothing else.
//!
//! Chromium and WebKitGTK are driven by W3C WebDriver over HTTP ([`webdriver`]), Firefox by
//! Marionette ([`marionette`]): the same commands in other clothes, hence one [`browser::Browser`].

#![forbid(unsafe_code)]

pub mod browser;
pub mod chaos;
pub mod context;
pub mod engine;
pub mod figures;
pub mod handover;
pub mod http;
pub mod links;
pub mod marionette;
pub mod minibrowser;
pub mod pages;
pub mod paths;
pub mod plain;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod rooms;
pub mod runner;
pub mod server;
pub mod sockets;
mod tap;
pub mod wait;
pub mod webdriver;
pub mod wpt;

/// The result of every step of the harness that may fail. The text is for the reader of a failure.
pub type Result<T> = std::result::Result<T, String>;

/// Why a test ended without passing.
#[derive(Debug)]
pub enum Stop {
    /// The test failed, with this text.
    Failed(String),
    /// This engine's driver cannot do what the test needs.
    Skipped(String),
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl From<&str> for Stop {
    fn from(reason: &str) -> Self {
        Self::Failed(reason.into())
    }
}
