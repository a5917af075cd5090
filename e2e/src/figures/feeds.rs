//! How long a burst takes until all tabs have it, and what arrives of publications that go on.

use super::{
    Scale,
    rig::{Rig, quoted},
    sheet::{Is, Row, Subject, Target},
};
use crate::{Result, browser::Tab};

const SUBJECTS: [Subject; 4] = [Subject::Native, Subject::Plain, Subject::Mirror, Subject::Mux];

/// Nothing has come for so long: nothing more will.
const QUIET_MS: u64 = 1_500;

/// A burst: how long it takes, and what arrives of it.
struct Feed {
    took: Row,
    arrived: Row,
    is_large: bool,
    is_to_many: bool,
}

const fn took(name: &'static str, most: f64, cause: &'static str) -> Row {
    let target = Target { of: &[Subject::Mirror], is: Is::AtMost(Subject::Plain, most) };
    Row { name, unit: "ms", target: Some(target), cause }
}

const fn arrived(name: &'static str) -> Row {
    let target = Target { of: &[Subject::Mux], is: Is::AtLeast(100.0) };
    Row {
        name,
        unit: "%",
        target: Some(target),
        cause: "the server took the hub for a slow reader",
    }
}

static FEEDS: [Feed; 3] = [
    Feed {
        took: took("3,000 × 200 B to 5 tabs", 1.05, ""),
        arrived: arrived("3,000 × 200 B to 5 tabs: arrived"),
        is_large: false,
        is_to_many: false,
    },
    Feed {
        took: took("3,000 × 200 B to 15 tabs", 1.0, ""),
        arrived: arrived("3,000 × 200 B to 15 tabs: arrived"),
        is_large: false,
        is_to_many: true,
    },
    Feed {
        took: took("1,000 × 16 KiB to 5 tabs", 1.05, ""),
        arrived: arrived("1,000 × 16 KiB to 5 tabs: arrived"),
        is_large: true,
        is_to_many: false,
    },
];

const SMALL: usize = 200;
const LARGE: usize = 16 << 10;

/// What the pages of a feed saw.
struct Seen {
    /// When the last tab had its last message.
    last: f64,
    /// Messages that came, in percent of what was to come to all tabs.
    percent: f64,
    /// The most gaps that one tab heard of.
    gaps: f64,
}

pub(super) fn steps(_: &Scale) -> usize {
    FEEDS.len() * SUBJECTS.len()
}

pub(super) fn measure(rig: &mut Rig) -> Result<()> {
    let [few, many] = rig.scale.tabs;
    let tabs = (0..many).map(|_| rig.tab()).collect::<Result<Vec<_>>>()?;
    for _ in 0..rig.scale.runs {
        for feed in &FEEDS {
            let tabs = if feed.is_to_many { &tabs[..] } else { &tabs[..few] };
            let [smalls, larges] = rig.scale.feed;
            let (count, size) = if feed.is_large { (larges, LARGE) } else { (smalls, SMALL) };
            for subject in SUBJECTS {
                rig.progress.step(&format!("{}, {}", feed.took.name, subject.name()));
                let (began, seen) =
                    run_feed(rig, tabs, subject, &format!("burst {count} {size}"), count)?;
                rig.add(&feed.took, subject, seen.last - began);
                if subject == Subject::Mux {
                    rig.add(&feed.arrived, subject, seen.percent);
                }
            }
        }
    }
    Ok(())
}

/// Lets one feed run its course.
fn run_feed(
    rig: &mut Rig,
    tabs: &[Tab],
    subject: Subject,
    command: &str,
    count: usize,
) -> Result<(f64, Seen)> {
    let (kind, url) = match subject {
        Subject::Mux => ("topic", rig.server.url("/")),
        Subject::Native | Subject::Plain | Subject::Mirror | Subject::Exclusive => {
            (subject.name(), rig.plain.url("/feed"))
        }
    };
    for tab in tabs {
        rig.run(tab, &format!("await B.listen('{kind}', {}, {count})", quoted(&url)))?;
    }
    let began = rig.command(subject, command)?;
    let seen = look(rig, tabs, subject, count)?;
    rig.close(tabs)?;
    Ok((began, seen))
}

fn look(rig: &mut Rig, tabs: &[Tab], subject: Subject, count: usize) -> Result<Seen> {
    let may_miss = subject == Subject::Mux;
    let (mut last, mut got, mut gaps) = (0.0_f64, 0, 0.0_f64);
    for tab in tabs {
        let rest =
            if may_miss { format!("await B.rest({QUIET_MS})") } else { "await B.done".into() };
        rig.run(tab, &rest)?;
    }
    for tab in tabs {
        let seen = rig.run(tab, "B.seen()")?;
        let number = |name: &str| seen[name].as_u64().unwrap_or_default();
        if number("wrong") > number("gaps") || (!may_miss && number("got") != count as u64) {
            return Err(format!("{}: {seen} of {count} messages", subject.name()));
        }
        got += number("got");
        #[expect(clippy::cast_precision_loss, reason = "gaps are few")]
        let heard = number("gaps") as f64;
        gaps = gaps.max(heard);
        last = last.max(seen["last"].as_f64().unwrap_or_default());
    }
    #[expect(clippy::cast_precision_loss, reason = "messages are thousands")]
    let percent = got as f64 * 100.0 / (count * tabs.len()) as f64;
    Ok(Seen { last, percent, gaps })
}

const fn kept(name: &'static str, unit: &'static str, is: Is, cause: &'static str) -> Row {
    Row { name, unit, target: Some(Target { of: &[Subject::Mux], is }), cause }
}

const ALL: Is = Is::AtLeast(100.0);

/// Rates that must be kept: messages a second and bytes of each.
static KEPT: [(Row, usize, usize); 3] = [
    (kept("5,000 × 200 B a second to 5 tabs: arrived", "%", ALL, ""), 5_000, SMALL),
    (kept("400 × 16 KiB a second to 5 tabs: arrived", "%", ALL, ""), 400, LARGE),
    (
        Row {
            name: "10,000 × 200 B a second to 5 tabs: arrived",
            unit: "%",
            target: None,
            cause: "",
        },
        10_000,
        SMALL,
    ),
];

static HIGHEST: Row = Row {
    name: "highest rate of 200 B to 5 tabs of which all arrives",
    unit: "a second",
    target: None,
    cause: "",
};
static OVERLOAD: Row = kept(
    "twice that: what arrives, in parts of it",
    "%",
    Is::AtLeast(80.0),
    "the worker shares two cores with the five pages that it tells",
);
static GAPS: Row = kept("twice that: gaps of a tab, a second", "", Is::UpTo(1.0), "");
static AFTER: Row = kept("half of that, afterwards: gaps", "", Is::UpTo(0.0), "");

/// Who is measured at rates: a plain server may lose nothing, however late it is.
const AT_RATES: [Subject; 2] = [Subject::Native, Subject::Mux];

pub(super) fn sustained_steps(scale: &Scale) -> usize {
    KEPT.len() * AT_RATES.len() + scale.rates.len() + 2
}

pub(super) fn sustain(rig: &mut Rig) -> Result<()> {
    let few = rig.scale.tabs[0];
    let tabs = (0..few).map(|_| rig.tab()).collect::<Result<Vec<_>>>()?;
    for _ in 0..rig.scale.runs {
        for (row, rate, size) in &KEPT {
            for subject in AT_RATES {
                let seen = at_rate(rig, &tabs, subject, *rate, *size)?;
                rig.add(row, subject, seen.percent);
            }
        }
        let mut highest = 0;
        for &rate in rig.scale.rates {
            let seen = at_rate(rig, &tabs, Subject::Mux, rate, SMALL)?;
            if seen.percent >= 100.0 {
                highest = rate;
            }
        }
        let highest = highest.max(rig.scale.rates[0]);
        #[expect(clippy::cast_precision_loss, reason = "rates are thousands")]
        rig.add(&HIGHEST, Subject::Mux, highest as f64);
        overload(rig, &tabs, highest)?;
    }
    Ok(())
}

/// Twice the highest rate, and then half of it.
fn overload(rig: &mut Rig, tabs: &[Tab], highest: usize) -> Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "seconds are few")]
    let seconds = rig.scale.sustained_ms as f64 / 1000.0;
    let over = at_rate(rig, tabs, Subject::Mux, 2 * highest, SMALL)?;
    rig.add(&OVERLOAD, Subject::Mux, 2.0 * over.percent);
    rig.add(&GAPS, Subject::Mux, over.gaps / seconds);
    let after = at_rate(rig, tabs, Subject::Mux, highest / 2, SMALL)?;
    rig.add(&AFTER, Subject::Mux, after.gaps);
    Ok(())
}

fn at_rate(
    rig: &mut Rig,
    tabs: &[Tab],
    subject: Subject,
    rate: usize,
    size: usize,
) -> Result<Seen> {
    rig.progress.step(&format!("{rate} × {size} B a second, {}", subject.name()));
    let count = rate * rig.scale.sustained_ms / 1000;
    let (_, seen) = run_feed(rig, tabs, subject, &format!("rate {rate} {count} {size}"), count)?;
    Ok(seen)
}
