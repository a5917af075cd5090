//! The figures, as a table.

use std::{fs, path::Path};

use crate::{
    Result,
    engine::Engine,
    handover::{Cell, round::Seen},
};

/// One row a cell, the ways to die together.
pub(super) fn markdown(cells: &[Cell]) -> String {
    let mut rows: Vec<&Cell> = cells.iter().collect();
    rows.sort_by_key(|cell| cell.death as u8);
    let mut table = String::from(
        "| what dies | hosted by | rounds | gap p50, ms | gap p99, ms | lost and said, a round | \
         lost and silent | duplicated |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for Cell { death, tier, rounds } in rows {
        let (death, tier) = (death.name(), tier.name());
        let row = match rounds {
            Ok(rounds) => {
                let Figures { p50, p99, said, silent, duplicated } = Figures::of(rounds);
                let count = rounds.len();
                format!("{count} | {p50:.0} | {p99:.0} | {said:.1} | {silent} | {duplicated}")
            }
            Err(why) => format!("– | – | – | – | – | – {}", why.replace('|', "/")),
        };
        table.push_str(&format!("| {death} | {tier} | {row} |\n"));
    }
    table
}

/// The same for one cell, as it is done.
pub(super) fn line(rounds: &[Seen]) -> String {
    let Figures { p50, p99, said, silent, duplicated } = Figures::of(rounds);
    format!(
        "gap p50 {p50:.0} ms, p99 {p99:.0} ms; lost and said {said:.1} a round, lost and silent \
         {silent}, duplicated {duplicated} in {} rounds",
        rounds.len()
    )
}

/// Puts the table between the marks of `engine`.
pub(super) fn write(document: &Path, engine: Engine, table: &str) -> Result<()> {
    let (start, end) =
        (format!("<!-- handover {engine} -->\n"), format!("<!-- /handover {engine} -->"));
    let text = fs::read_to_string(document)
        .map_err(|error| format!("cannot read {}: {error}", document.display()))?;
    let parts =
        text.split_once(&start).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) =
        parts.ok_or_else(|| format!("{} has no mark {start}", document.display()))?;
    fs::write(document, format!("{before}{start}{table}{end}{after}"))
        .map_err(|error| format!("cannot write {}: {error}", document.display()))
}

struct Figures {
    p50: f64,
    p99: f64,
    said: f64,
    silent: u64,
    duplicated: u64,
}

impl Figures {
    fn of(rounds: &[Seen]) -> Self {
        let mut gaps: Vec<f64> = rounds.iter().map(|seen| seen.gap).collect();
        gaps.sort_by(f64::total_cmp);
        let said: u64 = rounds.iter().map(|seen| seen.said).sum();
        Self {
            p50: percentile(&gaps, 50),
            p99: percentile(&gaps, 99),
            said: said as f64 / rounds.len().max(1) as f64,
            silent: rounds.iter().map(|seen| seen.silent).sum(),
            duplicated: rounds.iter().map(|seen| seen.duplicated).sum(),
        }
    }
}

/// The least value that is not below so many of a hundred; 0 of nothing.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(percentile(&values, 50), 10.0);
        assert_eq!(percentile(&values, 99), 20.0);
        assert_eq!(percentile(&values[..1], 50), 1.0);
        assert_eq!(percentile(&[], 50), 0.0);
    }
}
