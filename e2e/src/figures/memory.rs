//! What sockets to different URLs cost a page: how long until all are open, and memory.

use std::{thread, time::Duration};

use super::{
    Scale,
    rig::{Rig, quoted},
    sheet::{Row, Subject},
};
use crate::{Result, process};

const SUBJECTS: [Subject; 5] =
    [Subject::Native, Subject::Plain, Subject::Mirror, Subject::Exclusive, Subject::Mux];

/// How long a browser is left alone before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);

const fn row(name: &'static str, unit: &'static str) -> Row {
    Row { name, unit, target: None, cause: "" }
}

/// Until all are open, and memory of all processes of the browser, for each number of sockets.
static ROWS: [[Row; 2]; 3] = [
    [row("1 socket: until it is open", "ms"), row("1 socket: memory", "MiB")],
    [
        row("10 sockets to different URLs: until all are open", "ms"),
        row("10 sockets: memory", "MiB"),
    ],
    [
        row("50 sockets to different URLs: until all are open", "ms"),
        row("50 sockets: memory", "MiB"),
    ],
];

pub(super) fn steps(_: &Scale) -> usize {
    ROWS.len() * SUBJECTS.len()
}

pub(super) fn measure(rig: &mut Rig) -> Result<()> {
    let groups = rig.session.group_ids();
    for _ in 0..rig.scale.runs {
        for ([took, memory], count) in ROWS.iter().zip(rig.scale.sockets) {
            for subject in SUBJECTS {
                let kind = subject.name();
                rig.progress.step(&format!("{count} sockets, {kind}"));
                let tab = rig.tab()?;
                thread::sleep(SETTLE);
                let before = process::memory(&groups);
                let url = quoted(&rig.echo(subject));
                let time = rig.number(&tab, &format!("await B.many('{kind}', {url}, {count})"))?;
                thread::sleep(SETTLE);
                let after = process::memory(&groups);
                rig.add(took, subject, time);
                #[expect(clippy::cast_precision_loss, reason = "KiB of a browser")]
                rig.add(memory, subject, (after as f64 - before as f64) / 1024.0);
                rig.close(std::slice::from_ref(&tab))?;
                rig.clear()?;
            }
        }
    }
    Ok(())
}
