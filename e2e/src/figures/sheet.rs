//! What was measured: samples by row and subject, and the table that they make.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use crate::{Result, engine::Engine};

/// What a page has in the place of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// The browser's own `WebSocket`.
    Native,
    /// The SharedWorker that tutorials teach.
    Plain,
    /// `SharedWebSocket` in mode `mirror`.
    Mirror,
    /// A `SharedWebSocket` in mode `exclusive`.
    Exclusive,
    /// In mode `mux`, or a topic of a client.
    Mux,
}

impl Subject {
    const ALL: [Self; 5] = [Self::Native, Self::Plain, Self::Mirror, Self::Exclusive, Self::Mux];

    /// As the page calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Plain => "plain",
            Self::Mirror => "mirror",
            Self::Exclusive => "exclusive",
            Self::Mux => "mux",
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) target: Option<Target>,
    /// Why the target is missed, where it is.
    pub(super) cause: &'static str,
}

/// What the median of some subjects shall be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) of: &'static [Subject],
    pub(super) is: Is,
}

/// How it shall be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Is {
    /// At most so much more than the median of another subject.
    Near(Subject, f64),
    /// At most so many times the median of another subject.
    AtMost(Subject, f64),
    /// The figure must be at most this.
    UpTo(f64),
    /// The figure must be at least this.
    AtLeast(f64),
}

impl fmt::Display for Is {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Near(to, more) => write!(f, "{} + {more}", to.name()),
            Self::AtMost(to, times) => write!(f, "{times} × {}", to.name()),
            Self::UpTo(most) => write!(f, "{most} or less"),
            Self::AtLeast(least) => write!(f, "{least} or more"),
        }
    }
}

/// All samples of one engine, the rows in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    rows: Vec<(&'static Row, BTreeMap<Subject, Vec<f64>>)>,
}

impl Sheet {
    /// Adds one sample to its row.
    pub(super) fn add(&mut self, row: &'static Row, subject: Subject, value: f64) {
        let known = self.rows.iter().position(|(other, _)| std::ptr::eq(*other, row));
        let at = known.unwrap_or_else(|| {
            self.rows.push((row, BTreeMap::new()));
            self.rows.len() - 1
        });
        self.rows[at].1.entry(subject).or_default().push(value);
    }

    /// How many samples there are, and of how many pairs of a row and a subject.
    pub(super) fn count(&self) -> (usize, usize) {
        let all = || self.rows.iter().flat_map(|(_, values)| values.values());
        (all().map(Vec::len).sum(), all().count())
    }

    /// How many targets are met, and how many there are.
    pub(super) fn targets(&self) -> (usize, usize) {
        let verdicts = || self.rows.iter().flat_map(|(row, values)| row.missed_by(values));
        (verdicts().filter(|(_, by)| *by <= 0.0).count(), verdicts().count())
    }

    /// Returns the sheet as a table in Markdown.
    pub(super) fn table(&self) -> String {
        let names = Subject::ALL.map(Subject::name).join(" | ");
        let mut table = format!("| what | unit | {names} | target | |\n| --- | --- |");
        table.push_str(" ---: |".repeat(Subject::ALL.len()).as_str());
        table.push_str(" --- | --- |\n");
        for (row, values) in &self.rows {
            table.push_str(&row.line(values));
        }
        table
    }
}

impl Row {
    fn line(&self, values: &BTreeMap<Subject, Vec<f64>>) -> String {
        let cells = Subject::ALL.map(|subject| {
            values.get(&subject).map_or("–".to_owned(), |values| digits(median(values)))
        });
        let target = self.target.map_or(String::new(), |target| target.is.to_string());
        let (name, unit, cells) = (self.name, self.unit, cells.join(" | "));
        format!("| {name} | {unit} | {cells} | {target} | {} |\n", self.verdict(values))
    }

    fn verdict(&self, values: &BTreeMap<Subject, Vec<f64>>) -> String {
        let all = self.missed_by(values);
        let said = |(subject, by): &(Subject, f64)| {
            let name = subject.name();
            match self.target.map(|target| target.is) {
                _ if *by <= 0.0 => format!("{name}: met"),
                Some(Is::Near(..) | Is::UpTo(_)) => {
                    format!("{name}: missed by {} {}", digits(*by), self.unit)
                }
                _ => format!("{name}: missed by {:.0} %", by * 100.0),
            }
        };
        let mut text = all.iter().map(said).collect::<Vec<_>>().join(", ");
        if all.iter().any(|(_, by)| *by > 0.0) && !self.cause.is_empty() {
            text.push_str(&format!(" ({})", self.cause));
        }
        text
    }

    /// By how much each subject misses its target, in the row's unit or as a part of the target;
    /// 0 or less if it does not.
    fn missed_by(&self, values: &BTreeMap<Subject, Vec<f64>>) -> Vec<(Subject, f64)> {
        let Some(Target { of, is }) = self.target else { return Vec::new() };
        let median_of = |subject: &Subject| values.get(subject).map(|values| median(values));
        let miss = |subject: &Subject| {
            let own = median_of(subject)?;
            let by = match is {
                Is::Near(to, more) => own - median_of(&to)? - more,
                Is::AtMost(to, times) => own / (median_of(&to)? * times) - 1.0,
                Is::AtLeast(least) => 1.0 - own / least,
                Is::UpTo(most) => own - most,
            };
            Some((*subject, by))
        };
        of.iter().filter_map(miss).collect()
    }
}

/// Puts a report between the marks of `engine`.
pub(super) fn write(document: &Path, engine: Engine, report: &str) -> Result<()> {
    let (start, end) =
        (format!("<!-- browser {engine} -->\n"), format!("<!-- /browser {engine} -->"));
    let text = fs::read_to_string(document)
        .map_err(|error| format!("cannot read {}: {error}", document.display()))?;
    let parts =
        text.split_once(&start).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) =
        parts.ok_or_else(|| format!("{} has no mark {start}", document.display()))?;
    fs::write(document, format!("{before}{start}{report}{end}{after}"))
        .map_err(|error| format!("cannot write {}: {error}", document.display()))
}

/// The middle one, or the mean of the two in the middle.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// The least value that is not below so many of a hundred; 0 of nothing.
pub(super) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: &[Subject] = &[Subject::Mirror, Subject::Mux];

    fn verdict(is: Is, native: f64, mirror: f64) -> String {
        let row = Row { name: "", unit: "ms", target: Some(Target { of: OF, is }), cause: "why" };
        let values =
            BTreeMap::from([(Subject::Native, vec![native]), (Subject::Mirror, vec![mirror])]);
        row.verdict(&values)
    }

    #[test]
    fn a_target_says_by_how_much_it_is_missed_and_why() {
        assert_eq!(verdict(Is::Near(Subject::Native, 0.1), 0.5, 0.6), "mirror: met");
        assert_eq!(
            verdict(Is::Near(Subject::Native, 0.1), 0.5, 0.85),
            "mirror: missed by 0.250 ms (why)"
        );
        assert_eq!(verdict(Is::AtMost(Subject::Native, 1.5), 2.0, 3.0), "mirror: met");
        assert_eq!(
            verdict(Is::AtMost(Subject::Native, 1.5), 2.0, 6.0),
            "mirror: missed by 100 % (why)"
        );
        assert_eq!(verdict(Is::AtLeast(80.0), 0.0, 80.0), "mirror: met");
        assert_eq!(verdict(Is::AtLeast(80.0), 0.0, 40.0), "mirror: missed by 50 % (why)");
        assert_eq!(verdict(Is::UpTo(1.0), 0.0, 1.0), "mirror: met");
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(median(&[4.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&values, 50), 100.0);
        assert_eq!(percentile(&values, 99), 198.0);
        assert_eq!(percentile(&[], 50), 0.0);
    }
}
