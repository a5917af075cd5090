//! Subjects of commits: one imperative sentence of at most 72 characters.

use anyhow::Context;
use xshell::cmd;

use crate::{repo::Repo, tidy::Findings};

/// The rule counts for commits from this day on. Earlier subjects stay as they are.
const SINCE: &str = "2026-12-01T04:30:00Z";

const MAX_CHARACTERS: usize = 72;

/// Verbs that end as another form of a verb would.
const VERBS: &[&str] = &[
    "Address", "Bring", "Bypass", "Compress", "Cross", "Discuss", "Dismiss", "Embed", "Exceed",
    "Express", "Feed", "Guess", "Lead", "Miss", "Need", "Pass", "Press", "Proceed", "Process",
    "Read", "Seed", "Shed", "Speed", "Spread", "Succeed", "Suppress",
];

pub(super) fn check(repo: &Repo) -> anyhow::Result<Findings> {
    let sh = &repo.sh;
    let log = cmd!(sh, "git log --no-merges --since={SINCE} --format=%h%x09%s")
        .read()
        .context("cannot read the history")?;
    let commits = log.lines().filter_map(|line| line.split_once('\t'));
    Ok(commits
        .flat_map(|(id, subject)| {
            faults(subject).into_iter().map(move |fault| format!("{id} \"{subject}\": {fault}"))
        })
        .collect())
}

/// Returns what is wrong with a subject.
fn faults(subject: &str) -> Vec<&'static str> {
    let first = subject.split(' ').next().unwrap_or_default();
    let is_other_form = ["ed", "ing", "s"].iter().any(|end| first.ends_with(end));
    let rules = [
        (subject.chars().count() > MAX_CHARACTERS, "it has more than 72 characters"),
        (!first.starts_with(char::is_uppercase), "it does not begin with a capital letter"),
        (subject.ends_with('.'), "it ends with a full stop"),
        (first.ends_with(':'), "it begins with an area: begin with a verb"),
        (
            is_other_form && !VERBS.contains(&first),
            "it is not imperative: write \"Add\", not \"Added\", \"Adding\" or \"Adds\"",
        ),
    ];
    rules.into_iter().filter(|(is_broken, _)| *is_broken).map(|(_, fault)| fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_imperative_sentence_has_no_fault() {
        assert!(faults("Respond to a ping while the link drains").is_empty());
        assert!(faults("Process what came before the close").is_empty());
    }

    #[test]
    fn each_fault_is_named() {
        let long = format!("Say {}", "a".repeat(70));
        for (subject, fault) in [
            (long.as_str(), "72 characters"),
            ("add a limit", "capital letter"),
            ("Add a limit.", "full stop"),
            ("Server: add a limit", "an area"),
            ("Added a limit", "not imperative"),
            ("Adding a limit", "not imperative"),
            ("Adds a limit", "not imperative"),
        ] {
            assert!(faults(subject).iter().any(|found| found.contains(fault)), "{subject}");
        }
    }
}
