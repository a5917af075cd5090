//! How far the run is: a bar at a terminal, and a line for each tenth elsewhere.

use std::{
    io::{IsTerminal as _, Write as _, stdout},
    time::Instant,
};

use crate::{Result, engine::Engine, wait};

/// Counts the steps of one engine.
pub(super) struct Progress {
    engine: Engine,
    steps: usize,
    done: usize,
    start: Instant,
}

const WIDTH: usize = 20;

impl Progress {
    pub(super) fn new(engine: Engine, steps: usize) -> Self {
        Self { engine, steps, done: 0, start: Instant::now() }
    }

    /// Prints that a step begins.
    pub(super) fn step(&mut self, what: &str) {
        let tenth = |done: usize| done * 10 / self.steps.max(1);
        let percent = self.done * 100 / self.steps.max(1);
        let seconds = self.start.elapsed().as_secs();
        if stdout().is_terminal() {
            let full = (self.done * WIDTH / self.steps.max(1)).min(WIDTH);
            let bar = "#".repeat(full) + &"-".repeat(WIDTH - full);
            let line = format!("{} [{bar}] {percent} % {seconds} s  {what}", self.engine);
            // One row of the narrowest terminal; more could not be wiped.
            print!("\r\x1b[K{}", line.chars().take(79).collect::<String>());
        } else if self.done == 0 || tenth(self.done) != tenth(self.done - 1) {
            println!("...  {} {percent} % {seconds} s  {what}", self.engine);
        }
        // Nobody to tell when the terminal is gone.
        let _ = stdout().flush();
        self.done += 1;
    }

    /// All is done, and was.
    pub(super) fn end(&self) -> Result<()> {
        if stdout().is_terminal() {
            print!("\r\x1b[K");
        }
        wait::equal("steps", self.done, self.steps)
    }
}
