//! How long a message takes to an echo and back.

use super::{
    Scale,
    rig::{Rig, quoted},
    sheet::{Is, Row, Subject, Target, percentile},
};
use crate::Result;

const SUBJECTS: [Subject; 5] =
    [Subject::Native, Subject::Plain, Subject::Mirror, Subject::Exclusive, Subject::Mux];

const OURS: &[Subject] = &[Subject::Mirror, Subject::Exclusive, Subject::Mux];

const SMALL: Row = Row {
    name: "round trip of 100 B, p50",
    unit: "ms",
    target: Some(Target { of: OURS, is: Is::Near(Subject::Native, 0.1) }),
    cause: "two more changes of thread, from page to worker and back, as the plain worker has",
};

const LARGE: Row = Row {
    name: "round trip of 64 KiB, p99",
    unit: "ms",
    target: Some(Target { of: OURS, is: Is::AtMost(Subject::Native, 1.5) }),
    cause: "the text is copied from process to process once more each way, as by the plain worker",
};

/// The rows, each with its size.
static ROWS: [(Row, usize); 2] = [(SMALL, 100), (LARGE, 64 << 10)];

pub(super) fn steps(_: &Scale) -> usize {
    ROWS.len() * SUBJECTS.len()
}

pub(super) fn measure(rig: &mut Rig) -> Result<()> {
    let tab = rig.tab()?;
    let [small, group, large] = rig.scale.trips;
    for _ in 0..rig.scale.runs {
        for (row, size) in &ROWS {
            let is_small = *size == ROWS[0].1;
            let (count, group, percent) =
                if is_small { (small, group, 50) } else { (large, 1, 99) };
            for subject in SUBJECTS {
                let name = subject.name();
                rig.progress.step(&format!("{}, {name}", row.name));
                let url = quoted(&rig.echo(subject));
                let trips = format!("await B.trips('{name}', {url}, {size}, {count}, {group})");
                let times = rig.run(&tab, &trips)?;
                let times: Vec<f64> = times
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|time| time.as_f64())
                    .collect();
                crate::wait::equal("round trips", times.len(), count)?;
                rig.add(row, subject, percentile(&times, percent));
                rig.close(std::slice::from_ref(&tab))?;
            }
        }
    }
    Ok(())
}
