//! Runs the tests of `WebSocket` in a checkout of web-platform-tests, once with the browser's own
//! class as the control, and once for each mode with `SharedWebSocket` in its place.

mod cases;
mod servers;

use std::{collections::BTreeMap, fmt, path::Path, time::Duration};

use serde_json::Value;

pub use self::cases::{Case, Cases};
use self::servers::Servers;
use crate::{
    Result,
    browser::{Browser, Kind},
    wait,
};

/// The mode in which a page has the browser's own class.
const NATIVE: &str = "native";

/// Longest time that a page may take, and a page that says that it takes long.
const LIMITS: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(70)];

/// The results of the tests.
#[derive(Debug, Default)]
pub struct Report {
    /// For each mode: the number of tests that passed, and of all tests.
    pub passed: BTreeMap<String, (usize, usize)>,
    /// Each test that passes in a mode and fails natively, or the other way round.
    pub differences: Vec<Difference>,
    /// Each test that fails natively. Its results in the modes show nothing.
    pub without_control: Vec<Difference>,
}

/// A test whose outcome is not that of the control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The mode in which it was run.
    pub mode: String,
    /// The path of its page, with the query.
    pub page: String,
    /// The name of the test.
    pub test: String,
    /// The reason why it fails in the mode. `None` if it passes there and fails natively.
    pub failure: Option<String>,
}

/// The tests of one page by name. A failure has its message.
type Outcomes = BTreeMap<String, std::result::Result<(), String>>;

/// Runs the cases, in their order, in the control and in each of these modes.
pub fn run(
    browser: &mut Browser,
    root: &Path,
    cases: &[Case],
    modes: &[String],
    mut tell: impl FnMut(&Case),
) -> Result<Report> {
    let servers = Servers::start(root)?;
    let mut report = Report::default();
    for case in cases {
        tell(case);
        let native = outcomes(browser, &servers, case, NATIVE)?;
        report.count(NATIVE, &native);
        report.note_failures(case, &native);
        for mode in modes {
            let found = outcomes(browser, &servers, case, mode)?;
            report.count(mode, &found);
            report.compare(mode, case, &native, &found);
        }
    }
    Ok(report)
}

/// Opens a page and waits until its harness has reported.
fn outcomes(browser: &mut Browser, servers: &Servers, case: &Case, mode: &str) -> Result<Outcomes> {
    let tab = browser.open(Kind::Tab, &servers.url(mode, &case.page)?)?;
    let limit = LIMITS[usize::from(case.is_long)];
    let report = wait::until("the report of the harness", limit, || {
        let report = browser.run(&tab, "window.tabmuxReport ?? null")?;
        if report.is_null() { Err("there is none".to_owned()) } else { Ok(report) }
    });
    browser.close(&tab)?;
    let mut found = Outcomes::new();
    match report {
        Ok(report) => {
            let tests = report["tests"].as_array().into_iter().flatten();
            let tests = tests.filter_map(outcome);
            // Some names contain the address of the page, whose port differs between modes.
            found.extend(tests.map(|(name, outcome)| (servers.without_port(mode, &name), outcome)));
            if report["status"] != 0 {
                let message = report["message"].as_str().unwrap_or_default().to_owned();
                found.insert("(the harness)".to_owned(), Err(message));
            }
        }
        Err(error) => {
            found.insert("(the harness)".to_owned(), Err(error));
        }
    }
    Ok(found)
}

/// Parses `[name, status, message]`, a test's result.
fn outcome(test: &Value) -> Option<(String, std::result::Result<(), String>)> {
    let [name, status, message] = test.as_array()?.as_slice() else { return None };
    let outcome = match status.as_u64() {
        Some(0) => Ok(()),
        _ => Err(message.as_str().unwrap_or_default().to_owned()),
    };
    Some((name.as_str()?.to_owned(), outcome))
}

impl Report {
    fn count(&mut self, mode: &str, found: &Outcomes) {
        let (passed, all) = self.passed.entry(mode.to_owned()).or_default();
        *passed += found.values().filter(|outcome| outcome.is_ok()).count();
        *all += found.len();
    }

    fn note_failures(&mut self, case: &Case, native: &Outcomes) {
        let failures =
            native.iter().filter_map(|(name, outcome)| Some((name, outcome.clone().err()?)));
        self.without_control.extend(failures.map(|(name, failure)| Difference {
            mode: NATIVE.to_owned(),
            page: case.page.clone(),
            test: name.clone(),
            failure: Some(failure),
        }));
    }

    fn compare(&mut self, mode: &str, case: &Case, native: &Outcomes, found: &Outcomes) {
        let missing = Err("it was not run".to_owned());
        let mut names = native.keys().chain(found.keys()).collect::<Vec<_>>();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let [native, found] = [native, found].map(|all| all.get(name).unwrap_or(&missing));
            if native.is_ok() == found.is_ok() {
                continue;
            }
            self.differences.push(Difference {
                mode: mode.to_owned(),
                page: case.page.clone(),
                test: name.clone(),
                failure: found.clone().err(),
            });
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Difference { page, test, failure, .. } in &self.without_control {
            let failure = failure.as_deref().unwrap_or_default();
            writeln!(f, "without a control: {page}: {test}: {failure}")?;
        }
        for difference in &self.differences {
            writeln!(f, "{difference}")?;
        }
        for (mode, (passed, all)) in &self.passed {
            let differ = self.differences.iter().filter(|it| it.mode == *mode).count();
            write!(f, "{mode}: {passed} of {all} passed")?;
            if mode == NATIVE { writeln!(f)? } else { writeln!(f, ", {differ} differ")? }
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, page, test, failure } = self;
        match failure {
            Some(failure) => write!(f, "{mode}: {page}: {test}: fails here alone: {failure}"),
            None => write!(f, "{mode}: {page}: {test}: passes here, and fails natively"),
        }
    }
}
