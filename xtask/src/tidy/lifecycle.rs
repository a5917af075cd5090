//! Checks that the tests which docs/lifecycle.md names exist.

use crate::tidy::{Findings, files::Files};

const DOCUMENT: &str = "docs/lifecycle.md";

/// The beginning of a name, and the folder in whose files the rest of it must be found.
const KINDS: &[(&str, &str)] = &[("e2e: ", "e2e/tests/browsers/"), ("sim: ", "crates/sim/src/")];

pub(super) fn check(files: &Files) -> Findings {
    let Some(document) = files.text_of(DOCUMENT) else {
        return vec![format!("{DOCUMENT}: is not there: correct tidy/lifecycle.rs")];
    };
    let mut findings = Findings::new();
    for (number, line) in document.lines().enumerate() {
        for row in line.strip_prefix("| ").into_iter().filter(|row| !is_head(row)) {
            let mut names = names(row).peekable();
            if names.peek().is_none() {
                findings.push(format!("{DOCUMENT}:{}: this row names no test", number + 1));
            }
            for (folder, name) in names.filter(|(folder, name)| !exists(files, folder, name)) {
                findings.push(format!(
                    "{DOCUMENT}:{}: there is no `{name}` in {folder}: correct the name, or write \
                     the test",
                    number + 1
                ));
            }
        }
    }
    findings
}

fn is_head(row: &str) -> bool {
    row.starts_with("---") || row.starts_with("what happens")
}

/// Returns the names in a row, each with the folder that must contain it.
fn names(row: &str) -> impl Iterator<Item = (&'static str, &str)> {
    // Every second piece between backticks is code.
    row.split('`').skip(1).step_by(2).filter_map(|code| {
        KINDS.iter().find_map(|(kind, folder)| Some((*folder, code.strip_prefix(kind)?)))
    })
}

/// Returns true if the folder contains a browser test of this name, or a transition with this
/// variant.
fn exists(files: &Files, folder: &str, name: &str) -> bool {
    let (quoted, variant) = (format!("\"{name}\""), format!("    {name},"));
    files
        .with_extension(&["rs"])
        .filter(|file| file.path.starts_with(folder))
        .any(|file| file.text.contains(&quoted) || file.text.lines().any(|line| line == variant))
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn names_of_tests_are_found_and_other_code_is_not() {
        let row = "it dies | `gap` | `e2e: a tab: it dies`, `sim: CrashTab` |";
        let wanted = [("e2e/tests/browsers/", "a tab: it dies"), ("crates/sim/src/", "CrashTab")];
        assert_eq!(names(row).collect::<Vec<_>>(), wanted);
        assert_eq!(names("it dies | `gap` | nothing |").count(), 0);
    }
}
