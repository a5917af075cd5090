//! Compares what Rust and TypeScript both define: the kinds of what a hub posts to a tab, the
//! states of a link, and costs and limits that both sides keep.

use anyhow::{Context, bail};

use crate::tidy::{Findings, files::Files};

/// The file with the TypeScript side of everything.
const PROTOCOL: &str = "packages/tabmux/src/protocol.ts";

/// Enums of both languages: the name, the Rust file, and the value from which TypeScript may have
/// members of its own.
const ENUMS: &[(&str, &str, u64)] = &[
    ("HubKind", "crates/core/src/hub/port.rs", 94),
    ("LinkState", "crates/core/src/hub/io.rs", 6),
];

/// Members of `Limit` in TypeScript: each with the Rust file, the beginning of its line there, and
/// the factor between Rust's value and it.
const LIMITS: &[(&str, &str, &str, u64)] = &[
    ("Message", "crates/wire/src/limit.rs", "pub const MESSAGE_COST: u64 = ", 1),
    ("Reason", "crates/wire/src/limit.rs", "pub const MAX_REASON: usize = ", 1),
    ("Outbox", "crates/core/src/hub/config.rs", "outbox_bytes: ", 1),
    ("Credentials", "crates/wire/src/limit.rs", "pub const MAX_CREDENTIALS: usize = ", 1),
    // A page gives credit back when it has heard messages for half of the first credit.
    ("Credit", "crates/core/src/hub/config.rs", "credit_bytes: ", 2),
];

pub(super) fn check(files: &Files) -> anyhow::Result<Findings> {
    let typescript = text_of(files, PROTOCOL)?;
    let mut findings = Findings::new();
    for (name, path, own) in ENUMS {
        let rust = members(text_of(files, path)?, &format!("pub enum {name} {{"));
        let rust = rust.with_context(|| format!("{path}: enum {name}"))?;
        let page = members(typescript, &format!("export const enum {name} {{"));
        let page = page.with_context(|| format!("{PROTOCOL}: enum {name}"))?;
        findings.extend(compare(name, path, &rust, &page, *own));
    }
    let limits = members(typescript, "export const enum Limit {").context("enum Limit")?;
    for (name, path, start, times) in LIMITS {
        let rust =
            constant(text_of(files, path)?, start).with_context(|| format!("{path}: {start}"));
        let page = limits.iter().find(|(member, _)| member == name);
        match (rust?, page) {
            (rust, Some((_, page))) if rust == page * times => {}
            (rust, page) => findings.push(format!(
                "{PROTOCOL}: Limit.{name} is {}, and {path} has `{start}{rust}`",
                page.map_or("missing".to_owned(), |(_, page)| page.to_string()),
            )),
        }
    }
    Ok(findings)
}

fn text_of<'a>(files: &'a Files, path: &str) -> anyhow::Result<&'a str> {
    files.text_of(path).with_context(|| format!("{path} is not there: correct tidy/languages.rs"))
}

/// Returns the members of an enum with their values, as both languages count them. `begin` is its
/// first line.
fn members(text: &str, begin: &str) -> anyhow::Result<Vec<(String, u64)>> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != begin).skip(1);
    let mut found = Vec::new();
    let mut next = 0;
    loop {
        let line = lines.next().context("it is not there, or has no end")?;
        if line == "}" {
            return Ok(found);
        }
        // Comments of one line or several are skipped.
        if line.is_empty() || line.starts_with('/') || line.starts_with('*') {
            continue;
        }
        let Some(member) = line.strip_suffix(',') else { bail!("`{line}` is no member") };
        let (name, value) = match member.split_once(" = ") {
            Some((name, value)) => (name, evaluate(value)?),
            None => (member, next),
        };
        next = value + 1;
        found.push((name.to_owned(), value));
    }
}

/// Returns the value behind `start`, on the last line that begins so. The line of a field's type
/// comes before the line of its default.
fn constant(text: &str, start: &str) -> anyhow::Result<u64> {
    let mut lines = text.lines().filter_map(|line| line.trim().strip_prefix(start));
    let last = lines.next_back().context("no such line")?;
    evaluate(last.trim_end_matches([',', ';']))
}

/// Evaluates a number, or a number that is shifted.
fn evaluate(text: &str) -> anyhow::Result<u64> {
    let number = |text: &str| {
        let digits = text.trim().replace('_', "");
        digits.parse::<u64>().with_context(|| format!("`{text}` is no number"))
    };
    match text.split_once("<<") {
        Some((number_, bits)) => Ok(number(number_)? << number(bits)?),
        None => number(text),
    }
}

fn compare(
    name: &str,
    path: &str,
    rust: &[(String, u64)],
    page: &[(String, u64)],
    own: u64,
) -> Findings {
    let shared: Vec<_> = page.iter().filter(|(_, value)| *value < own).collect();
    let mut findings = Findings::new();
    for (member, value) in rust {
        if !shared.contains(&&(member.clone(), *value)) {
            findings.push(format!("{PROTOCOL}: {name}.{member} is not {value}, as in {path}"));
        }
    }
    for (member, value) in shared {
        if !rust.iter().any(|other| (&other.0, &other.1) == (member, value)) {
            findings.push(format!("{path}: {name}::{member} is not {value}, as in {PROTOCOL}"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUST: &str = "pub enum Kind {\n    /// First.\n    A,\n    B,\n    C,\n}\n";

    fn both(page: &str) -> Findings {
        let rust = members(RUST, "pub enum Kind {").unwrap();
        let page = members(page, "export const enum Kind {").unwrap();
        compare("Kind", "port.rs", &rust, &page, 98)
    }

    #[test]
    fn members_of_the_same_values_pass_and_the_page_may_have_its_own() {
        let page = "export const enum Kind {\n  /**\n   * First.\n   */\n  A,\n\n  B,\n  C,\n  \
                    D = 98,\n  E,\n}\n";
        assert_eq!(both(page), Findings::new());
    }

    #[test]
    fn swapped_kinds_are_found() {
        let findings = both("export const enum Kind {\n  A,\n  C,\n  B,\n}\n");
        assert_eq!(findings.len(), 4, "{findings:?}");
        assert!(findings[0].contains("Kind.B is not 1"), "{findings:?}");
    }

    #[test]
    fn a_kind_of_one_side_alone_is_found() {
        let findings = both("export const enum Kind {\n  A,\n  B,\n  C,\n  D,\n}\n");
        assert_eq!(findings, ["port.rs: Kind::D is not 3, as in packages/tabmux/src/protocol.ts"]);
        let findings = both("export const enum Kind {\n  A,\n  B,\n}\n");
        assert_eq!(findings, ["packages/tabmux/src/protocol.ts: Kind.C is not 2, as in port.rs"]);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_no_pass() {
        assert!(members("pub enum Other {\n}\n", "pub enum Kind {").is_err());
        assert!(members("pub enum Kind {\n    A(u8),\n    B {\n", "pub enum Kind {").is_err());
    }

    #[test]
    fn constants_are_read() {
        let text = "    credit_bytes: u64,\n            credit_bytes: 128 << 10,\n";
        assert_eq!(constant(text, "credit_bytes: ").unwrap(), 128 << 10);
        assert_eq!(constant("pub const X: u64 = 1_000;", "pub const X: u64 = ").unwrap(), 1000);
        assert!(constant(text, "missing: ").is_err());
    }
}
