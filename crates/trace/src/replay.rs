//! Replays what a worker recorded: the same hub, told the same, must order the same.

use std::fmt;

use tabmux_core::{
    hub::{Hub, Output},
    trace::{Entry, Recorder, Trace},
    wire::DecodeError,
};

/// A step of a replay.
#[derive(Debug)]
pub enum Line<'a> {
    /// The hub is told this; it may panic, as it may have in the browser.
    Told(Entry<'a>),
    /// It orders this.
    Ordered(Output),
}

/// A replay that ordered what was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// What the hub was told.
    pub told: u64,
    /// What it ordered.
    pub ordered: u64,
    /// How often its orders were compared with those of the recording.
    pub compared: u64,
}

/// Why a replay ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// The bytes are no trace, from this entry on.
    Bad(u64, DecodeError),
    /// The hub ordered something else than in the recording, before this entry.
    Differs(u64),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(entry, error) => write!(f, "entry {entry} of the trace: {error}"),
            Self::Differs(entry) => write!(
                f,
                "before entry {entry} the hub ordered something else than in the recording: was \
                 it recorded by another build?"
            ),
        }
    }
}

impl std::error::Error for ReplayError {}

/// Replays a trace and shows each step.
///
/// # Errors
/// The bytes are no trace, or the hub orders something else.
pub fn replay(bytes: &[u8], mut see: impl FnMut(&Line<'_>)) -> Result<Replayed, ReplayError> {
    let trace = Trace::new(bytes).map_err(|error| ReplayError::Bad(0, error))?;
    let (mut recorder, _) = Recorder::new(&trace.config, trace.seed);
    let mut hub = Hub::new(trace.config.clone(), trace.seed);
    let mut done = Replayed { told: 0, ordered: 0, compared: 0 };
    for (entry, number) in trace.zip(1..) {
        match entry.map_err(|error| ReplayError::Bad(number, error))? {
            Entry::Drained(recorded) => {
                while let Some(output) = hub.poll_output() {
                    recorder.output(&output);
                    see(&Line::Ordered(output));
                    done.ordered += 1;
                }
                let drained = recorder.drained(hub.poll_timeout().map(|(at, _)| at));
                if drained.get(1..) != Some(&recorded) {
                    return Err(ReplayError::Differs(number));
                }
                done.compared += 1;
            }
            told => {
                see(&Line::Told(told.clone()));
                done.told += 1;
                match told {
                    Entry::Input(now, input) => hub.handle_input(now, input),
                    Entry::Timeout(now) => hub.handle_timeout(now),
                    Entry::Drained(_) => {}
                }
            }
        }
    }
    Ok(done)
}
