//! What passed and what failed, read from what test programs print.

use std::{
    fmt,
    ops::{Add, AddAssign},
};

/// How to read the number of tests out of a step's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// The step is one check.
    One,
    /// The `test result:` lines of `cargo test`.
    CargoTest,
    /// The summary of `node --test`.
    NodeTest,
    /// Lines `N passed, N failed`, perhaps `, N skipped`, one of each program that ran.
    Summary,
}

/// A number of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: u32,
    pub(super) failed: u32,
    pub(super) skipped: u32,
}

impl Count {
    /// Counts. A program that failed with no failed test, or ran none at all, is one failure: it
    /// did not compile, or broke down on its way.
    pub(super) fn of(self, output: &str, success: bool) -> Tally {
        let read = match self {
            Self::One => Tally { passed: 1, ..Tally::default() },
            Self::CargoTest => output.lines().filter_map(cargo_line).sum(),
            Self::NodeTest => node_summary(output),
            Self::Summary => output.lines().filter_map(summary_line).sum(),
        };
        match (self, success) {
            (Self::One, false) => Tally { failed: 1, ..Tally::default() },
            (_, false) if read.failed == 0 => Tally { failed: 1, ..read },
            (_, true) if read == Tally::default() => Tally { failed: 1, ..read },
            _ => read,
        }
    }
}

impl Tally {
    /// For a step's line: how many tests it held.
    pub(super) fn detail(&self, count: Count) -> String {
        match count {
            Count::One => String::new(),
            Count::CargoTest | Count::NodeTest | Count::Summary if self.failed == 0 => {
                format!("{}, ", self.passed)
            }
            Count::CargoTest | Count::NodeTest | Count::Summary => {
                format!("{} of {}, ", self.failed, self.failed + self.passed)
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), Add::add)
    }
}

/// The lines that name what a step skipped, or passed at the second try only, so that nothing of
/// that is silent.
pub(super) fn remarks(count: Count, output: &str) -> impl Iterator<Item = &str> {
    let lines = output.lines().map(str::trim);
    lines.filter(move |line| match count {
        Count::One => false,
        Count::CargoTest => line.starts_with("test ") && line.contains("... ignored"),
        Count::NodeTest => line.contains("# SKIP"),
        Count::Summary => line.contains("... skipped") || line.starts_with("unsteady: "),
    })
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0s`
fn cargo_line(line: &str) -> Option<Tally> {
    let (_, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
    let number = |what: &str| {
        counts.split(';').find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok())
    };
    Some(Tally {
        passed: number(" passed")?,
        failed: number(" failed")?,
        skipped: number(" ignored").unwrap_or(0),
    })
}

/// `# pass 3` (TAP) or `ℹ pass 3` (spec), and so on.
fn node_summary(output: &str) -> Tally {
    let number = |what: &str| {
        output.lines().rev().find_map(|line| {
            let line = line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ "))?;
            line.strip_prefix(what)?.trim().parse().ok()
        })
    };
    let number = |what: &str| number(what).unwrap_or(0);
    Tally {
        passed: number("pass "),
        failed: number("fail ") + number("cancelled "),
        skipped: number("skipped ") + number("todo "),
    }
}

/// `3 passed, 0 failed` or `3 passed, 0 failed, 1 skipped`
fn summary_line(line: &str) -> Option<Tally> {
    let mut parts = line.trim().split(", ");
    let mut number = |what: &str| parts.next()?.strip_suffix(what)?.parse().ok();
    Some(Tally {
        passed: number(" passed")?,
        failed: number(" failed")?,
        skipped: number(" skipped").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u32, failed: u32, skipped: u32) -> Tally {
        Tally { passed, failed, skipped }
    }

    #[test]
    fn cargo_test_lines_add_up() {
        let output = "
running 3 tests
test a ... ok
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9s
";
        assert_eq!(Count::CargoTest.of(output, false), tally(4, 2, 1));
    }

    #[test]
    fn a_program_that_does_not_compile_is_a_failure() {
        let output = "test result: ok. 3 passed; 0 failed; 0 ignored\nerror: could not compile";
        assert_eq!(Count::CargoTest.of(output, false), tally(3, 1, 0));
        assert_eq!(Count::NodeTest.of("SyntaxError", false), tally(0, 1, 0));
    }

    #[test]
    fn a_run_of_no_tests_is_a_failure() {
        assert_eq!(Count::Summary.of("nothing to do", true), tally(0, 1, 0));
        assert_eq!(Count::CargoTest.of("", true), tally(0, 1, 0));
    }

    #[test]
    fn node_summaries_are_read_in_both_styles() {
        let tap = "# tests 5\n# pass 3\n# fail 1\n# cancelled 1\n# skipped 2\n# todo 0\n";
        assert_eq!(Count::NodeTest.of(tap, false), tally(3, 2, 2));
        let spec = "ℹ tests 2\nℹ pass 2\nℹ fail 0\n";
        assert_eq!(Count::NodeTest.of(spec, true), tally(2, 0, 0));
    }

    #[test]
    fn the_summary_lines_of_all_programs_count() {
        let output = "1 passed, 0 failed\nx\n30 passed, 1 failed, 4 skipped\ndone\n";
        assert_eq!(Count::Summary.of(output, false), tally(31, 1, 4));
        assert_eq!(Count::Summary.of("2 passed, 0 failed", true), tally(2, 0, 0));
    }

    #[test]
    fn the_closing_line_names_skips_only_if_there_are_any() {
        assert_eq!(tally(7, 0, 0).to_string(), "7 passed, 0 failed");
        assert_eq!(tally(7, 1, 2).to_string(), "7 passed, 1 failed, 2 skipped");
    }
}
