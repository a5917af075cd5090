//! Shows the progress of a phase: a bar on a terminal, one plain line elsewhere, and nothing for a
//! short phase.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Phases shorter than this show nothing.
const LONG: Duration = Duration::from_secs(2);

/// The progress of one phase.
#[derive(Debug)]
pub struct Progress {
    name: String,
    start: Instant,
    shown: bool,
    bar: ProgressBar,
}

impl Progress {
    /// Begins a phase of `total` steps.
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

    /// Tells that `step` steps are done.
    pub fn at(&mut self, step: u64, message: impl FnOnce() -> String) {
        self.bar.set_position(step);
        if !self.shown && self.start.elapsed() > LONG {
            self.shown = true;
            if std::io::stderr().is_terminal() {
                self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
            } else {
                // The load goes on even if stderr cannot be written.
                let _ = writeln!(std::io::stderr(), "... {}", self.name);
            }
        }
        if self.shown {
            self.bar.set_message(message());
        }
    }
}

/// Removes the bar at the end of the phase.
impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
