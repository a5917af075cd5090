//! Compares PROTOCOL.md with `crates/wire`. It compares the table of frame types. The tests of
//! `crates/wire` check the examples.

use std::fmt;

use anyhow::Context;

use crate::{repo::Repo, tidy::Findings};

const SOURCE: &str = "crates/wire/src/frame_type.rs";

/// The bit of the type byte that marks reliable frames.
const RELIABLE: u8 = 0x80;

pub(super) fn check(repo: &Repo) -> anyhow::Result<Findings> {
    let document = repo.sh.read_file(repo.path("PROTOCOL.md"));
    let document = document.context("PROTOCOL.md is missing")?;
    let source = repo.sh.read_file(repo.path(SOURCE))?;
    Ok(compare_types(&types_in_source(&source), &types_in_document(&document)))
}

/// A row of the table of frame types.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FrameType {
    code: u8,
    name: String,
    sender: String,
    reliable: bool,
}

impl fmt::Display for FrameType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, name, sender, reliable } = self;
        let reliable = if *reliable { "reliable" } else { "not reliable" };
        write!(f, "{name} = {code:#04x} ({sender}, {reliable})")
    }
}

/// Returns the rows of `frame_types! { … }`, such as `Hub HELLO = 0x01,`.
fn types_in_source(source: &str) -> Vec<FrameType> {
    let rows = source.lines().filter_map(|line| {
        let (left, code) = line.trim().strip_suffix(',')?.split_once(" = 0x")?;
        let (sender, name) = left.split_once(' ')?;
        let code = u8::from_str_radix(code, 16).ok()?;
        Some(FrameType {
            code,
            name: name.to_owned(),
            sender: sender.to_lowercase(),
            reliable: code & RELIABLE != 0,
        })
    });
    rows.collect()
}

/// Returns the table rows that begin like `| 0x01 | HELLO | hub | no |`.
fn types_in_document(document: &str) -> Vec<(usize, FrameType)> {
    let rows = document.lines().enumerate().filter_map(|(number, line)| {
        let mut cells = line
            .trim()
            .strip_prefix('|')?
            .split('|')
            .map(|cell| cell.trim().trim_matches('`').trim());
        let code = u8::from_str_radix(cells.next()?.strip_prefix("0x")?, 16).ok()?;
        let name = cells.next()?.to_owned();
        let sender = cells.next()?.to_lowercase();
        let reliable = match cells.next()? {
            "yes" => true,
            "no" => false,
            _ => return None,
        };
        Some((number + 1, FrameType { code, name, sender, reliable }))
    });
    rows.collect()
}

fn compare_types(source: &[FrameType], document: &[(usize, FrameType)]) -> Findings {
    let mut findings = Findings::new();
    if source.is_empty() {
        findings.push(format!("{SOURCE}: no row of `frame_types!` understood"));
    }
    for frame in source {
        if !document.iter().any(|(_, row)| row == frame) {
            findings.push(format!(
                "PROTOCOL.md: no table row for {frame}: add `| {:#04x} | {} | {} | {} | … |`",
                frame.code,
                frame.name,
                frame.sender,
                if frame.reliable { "yes" } else { "no" },
            ));
        }
    }
    for (line, row) in document {
        if !source.contains(row) {
            findings.push(format!("PROTOCOL.md:{line}: {row} is not in {SOURCE}"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "
        macro_rules! frame_types { ($($sender:ident $name:ident = $code:literal,)*) => {}; }
        frame_types! {
            Hub HELLO = 0x01,
            Server GAP = 0xe4,
        }
    ";

    #[test]
    fn the_same_table_passes() {
        let document = "| code | name | from | reliable |\n\
                        | --- | --- | --- | --- |\n\
                        | `0x01` | HELLO | hub | no |\n\
                        | 0xe4 | `GAP` | server | yes | more |\n";
        let findings = compare_types(&types_in_source(SOURCE), &types_in_document(document));
        assert_eq!(findings, Findings::new());
    }

    #[test]
    fn a_wrong_row_is_found_from_both_sides() {
        let document = "| 0x01 | HELLO | hub | yes |\n| 0xe4 | GAP | server | yes |\n";
        let findings = compare_types(&types_in_source(SOURCE), &types_in_document(document));
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].contains("no table row for HELLO = 0x01 (hub, not reliable)"));
        assert!(findings[1].starts_with("PROTOCOL.md:1: HELLO = 0x01 (hub, reliable)"));
    }
}
