//! `cargo xtask size`: measures what browsers download, against the budgets and README's table.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use xshell::cmd;

use crate::{dist, flags, process::capture, repo::Repo};

const BEGIN: &str = "<!-- sizes -->";
const END: &str = "<!-- /sizes -->";

const ADVICE: &str = "run `cargo xtask size --write`";

/// Allowed difference, because compilers differ a little between machines.
const TOLERANCE: f64 = 0.03;

/// The budgets in bytes, which are the sizes of today. Decision 18 in docs/decisions says which of
/// them must shrink.
const BUDGETS: &[(&str, Encoding, usize)] = &[
    ("page library", Encoding::Gzip, 8_400),
    ("`SharedWebSocket` alone", Encoding::Gzip, 7_650),
    ("hooks for React, besides", Encoding::Gzip, 700),
    ("hooks for Vue, besides", Encoding::Gzip, 700),
    ("hooks for Svelte, besides", Encoding::Gzip, 700),
    ("`tabmux/install`, besides", Encoding::Gzip, 500),
    ("other tiers, where needed", Encoding::Gzip, 5_800),
    ("worker (mode exclusive)", Encoding::Brotli, 8_520),
    ("worker with its module, mode mirror", Encoding::Brotli, 28_150),
    ("worker with its module, mode mux", Encoding::Brotli, 50_700),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Gzip,
    Brotli,
}

/// A row of the table, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Size {
    name: String,
    minified: usize,
    gzip: usize,
    brotli: usize,
}

pub(crate) fn run(repo: &Repo, flags: flags::Size) -> anyhow::Result<()> {
    let dist = match flags.dist {
        Some(dir) => repo.path(dir),
        None => {
            let out = repo.target().join("size");
            dist::build(repo, &out, true)?;
            out
        }
    };
    let sizes = measure(repo, &dist)?;
    let table = table(&sizes);
    print!("{table}");
    repo.sh.write_file(last_measured(repo), &table)?;
    let readme = repo.path("README.md");
    if flags.write {
        let text = repo.sh.read_file(&readme)?;
        repo.sh.write_file(&readme, replace(&text, &table)?)?;
    }
    let mut wrong = over_budget(&sizes);
    wrong.extend(compare(repo)?);
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// Compares README's table with the last run of this task. Returns the differences. If there was no
/// run, the table must still exist.
pub(crate) fn compare(repo: &Repo) -> anyhow::Result<Vec<String>> {
    let readme = repo.sh.read_file(repo.path("README.md")).context("README.md is missing")?;
    let Some(quoted) = between(&readme) else {
        return Ok(vec![format!(
            "README.md: no table of sizes between `{BEGIN}` and `{END}`: add the two lines and \
             {ADVICE}"
        )]);
    };
    let quoted = numbers(quoted);
    if quoted.is_empty() {
        return Ok(vec![format!("README.md: the table of sizes is empty: {ADVICE}")]);
    }
    let Ok(measured) = repo.sh.read_file(last_measured(repo)) else {
        return Ok(Vec::new());
    };
    Ok(differences(&quoted, &numbers(&measured)))
}

fn last_measured(repo: &Repo) -> PathBuf {
    repo.target().join("sizes.md")
}

fn measure(repo: &Repo, dist: &Path) -> anyhow::Result<Vec<Size>> {
    let script = repo.package().join("size.mjs");
    let ran = capture(cmd!(repo.sh, "node {script} {dist}"))?;
    if !ran.status.success() {
        bail!("cannot measure {}:\n{}", dist.display(), ran.output);
    }
    ran.output.lines().map(|line| parse(line).context(line.to_owned())).collect()
}

fn parse(line: &str) -> Option<Size> {
    let mut fields = line.split('\t');
    let mut number = || fields.next()?.parse().ok();
    let (minified, gzip, brotli) = (number()?, number()?, number()?);
    Some(Size { name: fields.next()?.to_owned(), minified, gzip, brotli })
}

fn budget(name: &str) -> Option<(Encoding, usize)> {
    let row = BUDGETS.iter().find(|row| row.0 == name)?;
    Some((row.1, row.2))
}

fn over_budget(sizes: &[Size]) -> Vec<String> {
    let over = sizes.iter().filter_map(|size| {
        let (encoding, limit) = budget(&size.name)?;
        let bytes = match encoding {
            Encoding::Gzip => size.gzip,
            Encoding::Brotli => size.brotli,
        };
        let name = &size.name;
        (bytes > limit)
            .then(|| format!("{name}: {bytes} bytes as {encoding:?}, over the budget of {limit}"))
    });
    over.collect()
}

fn table(sizes: &[Size]) -> String {
    let mut table = String::from(
        "| what | minified | gzip | brotli | budget |\n| --- | ---: | ---: | ---: | --- |\n",
    );
    for Size { name, minified, gzip, brotli } in sizes {
        let budget = match budget(name) {
            Some((Encoding::Gzip, limit)) => format!("{} gzip", kilo(limit)),
            Some((Encoding::Brotli, limit)) => format!("{} brotli", kilo(limit)),
            None => String::new(),
        };
        let [minified, gzip, brotli] = [minified, gzip, brotli].map(|&bytes| kilo(bytes));
        table += &format!("| {name} | {minified} | {gzip} | {brotli} | {budget} |\n");
    }
    table
}

fn kilo(bytes: usize) -> String {
    let kilo = bytes as f64 / 1000.0;
    if bytes < 10_000 { format!("{kilo:.2} kB") } else { format!("{kilo:.1} kB") }
}

fn between(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(BEGIN)?;
    Some(rest.split_once(END)?.0)
}

fn replace(text: &str, table: &str) -> anyhow::Result<String> {
    let old = between(text).with_context(|| format!("README.md has no `{BEGIN}` … `{END}`"))?;
    let old = format!("{BEGIN}{old}{END}");
    Ok(text.replace(&old, &format!("{BEGIN}\n{table}{END}")))
}

/// Returns the numbers of a table, each with the names of its row and its column.
fn numbers(table: &str) -> Vec<(String, f64)> {
    const COLUMNS: [&str; 3] = ["minified", "gzip", "brotli"];
    let mut numbers = Vec::new();
    for line in table.lines() {
        let mut cells = line.trim().trim_start_matches('|').split('|').map(str::trim);
        let name = cells.next().unwrap_or_default();
        for (column, cell) in COLUMNS.iter().zip(cells) {
            let number = cell.strip_suffix(" kB").and_then(|number| number.parse().ok());
            numbers.extend(number.map(|number| (format!("{name}, {column}"), number)));
        }
    }
    numbers
}

fn differences(quoted: &[(String, f64)], measured: &[(String, f64)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (what, is) in measured {
        match quoted.iter().find(|(quoted, _)| quoted == what) {
            None => wrong.push(format!("README.md: {what} is not in the table: {ADVICE}")),
            Some((_, says)) if (says - is).abs() > is * TOLERANCE => wrong
                .push(format!("README.md: {what} is {is} kB, the table says {says} kB: {ADVICE}")),
            Some(_) => {}
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(name: &str, gzip: usize, brotli: usize) -> Size {
        Size { name: name.to_owned(), minified: 90_000, gzip, brotli }
    }

    #[test]
    fn a_written_table_equals_what_was_measured() {
        let table = table(&[size("page library", 2_871, 2_512), size("other", 1, 45_678)]);
        let readme = format!("# Title\n{BEGIN}\nold\n{END}\nrest\n");
        let written = replace(&readme, &table).unwrap();
        assert!(written.starts_with("# Title\n") && written.ends_with("\nrest\n"));
        let quoted = numbers(between(&written).unwrap());
        assert_eq!(quoted.len(), 6);
        assert_eq!(differences(&quoted, &numbers(&table)), Vec::<String>::new());
    }

    #[test]
    fn a_stale_number_and_a_missing_row_are_named() {
        let quoted = numbers(&table(&[size("a", 2_000, 2_000)]));
        let measured = numbers(&table(&[size("a", 2_100, 2_020), size("b", 1_000, 1_000)]));
        let wrong = differences(&quoted, &measured);
        assert_eq!(wrong.len(), 4);
        assert!(wrong[0].contains("a, gzip is 2.1 kB, the table says 2 kB"), "{}", wrong[0]);
        assert!(wrong[1].contains("b, minified is not in the table"), "{}", wrong[1]);
    }

    #[test]
    fn only_sizes_over_their_budget_are_reported() {
        for &(name, encoding, limit) in BUDGETS {
            let of = |bytes| match encoding {
                Encoding::Gzip => size(name, bytes, 1_000_000),
                Encoding::Brotli => size(name, 1_000_000, bytes),
            };
            assert!(over_budget(&[of(limit)]).is_empty());
            assert_eq!(over_budget(&[of(limit + 1)]).len(), 1);
        }
        assert!(over_budget(&[size("without a budget", 1_000_000, 1_000_000)]).is_empty());
    }
}
