//! How far a phase is: a bar on a terminal, one plain line elsewhere, nothing for what is short.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shorter phases show nothing.
const LONG: Duration = Duration::from_secs(2);

/// How far one phase is.
pub struct Progress {
    name: String,
    start: Instant,
    shown: bool,
    bar: ProgressBar,
}

impl Progress {
    /// A phase of `total` steps that begins now.
    #[must_use]
    pub fn new(name: &str, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {msg} ({eta})");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        Self { name: name.to_owned(), start: Instant::now(), shown: false, bar }
    }

    /// So many steps are done.
    pub fn at(&mut self, step: u64, message: impl FnOnce() -> String) {
        self.bar.set_position(step);
        if !self.shown && self.start.elapsed() > LONG {
            self.shown = true;
            if std::io::stderr().is_terminal() {
                self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
            } else {
                // The load goes on where stderr cannot be written.
                let _ = writeln!(std::io::stderr(), "... {}", self.name);
            }
        }
        if self.shown {
            self.bar.set_message(message());
        }
    }
}

/// The bar goes with the phase.
impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
