//! Replays what a worker recorded. The same hub with the same inputs must give the same orders.

use std::fmt;

use tabmux_core::{
    hub::{Hub, Output},
    trace::{Entry, Recorder, Trace},
    wire::DecodeError,
};

/// One step of a replay.
#[derive(Debug)]
pub enum Line<'a> {
    /// The hub is about to get this input. It may panic, as it may have in the browser.
    Told(Entry<'a>),
    /// The hub gave this order.
    Ordered(Output),
}

/// The result of a replay whose orders are those of the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Number of inputs and timeouts that the hub got.
    pub told: u64,
    /// Number of orders that the hub gave.
    pub ordered: u64,
    /// Number of times that the hub's orders were compared with the recording.
    pub compared: u64,
}

/// The reason why a replay ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// The bytes from this entry on are no trace.
    Bad(u64, DecodeError),
    /// Before this entry, the hub gave other orders than in the recording.
    Differs(u64),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(entry, error) => write!(f, "entry {entry} of the trace: {error}"),
            Self::Differs(entry) => write!(
                f,
                "before entry {entry} the hub gave other orders than in the recording; another \
                 build may have recorded the trace"
            ),
        }
    }
}

impl std::error::Error for ReplayError {}

/// Replays a trace and calls `see` with each step.
///
/// # Errors
/// Returns an error if the bytes are no trace, or if the hub gives other orders than in the
/// recording.
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
