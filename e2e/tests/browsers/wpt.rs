//! The program of `cargo xtask wpt`, on a small folder in the format of web-platform-tests.

use std::collections::BTreeMap;

use tabmux_e2e::{
    context::Context,
    paths,
    runner::Test,
    wait::equal,
    wpt::{self, Cases},
};

use super::steps::Outcome;

pub(crate) const TESTS: &[Test] =
    &[Test::new("wpt: each mode passes what is native, but for what the docs list", fixture)];

fn fixture(context: &mut Context<'_>) -> Outcome {
    let root = paths::wpt().join("fixture");
    let cases = Cases::find(&root.join("websockets"))?;
    let pages = cases.all.iter().map(|case| &*case.page).collect::<Vec<_>>();
    let wanted = [
        "/websockets/closing/abrupt.html",
        "/websockets/closing/code.window.html",
        "/websockets/echo.any.html?default",
        "/websockets/echo.any.worker.html?default",
        "/websockets/in-a-worker.any.worker.html",
    ];
    equal("pages", pages, wanted.to_vec())?;
    equal("pages that are left out", cases.left_out.len(), 7)?;
    let modes = ["exclusive", "mux"].map(str::to_owned);
    let report = wpt::run(context.browser, &root, &cases.all, &modes, |_| ())?;
    let passed = [("exclusive", (9, 11)), ("mux", (9, 11)), ("native", (11, 11))];
    let passed = passed.map(|(mode, counts)| (mode.to_owned(), counts));
    equal("tests that passed", report.passed, BTreeMap::from(passed))?;
    for difference in &report.differences {
        let failure = difference.failure.clone().unwrap_or_default();
        let is_known = failure.starts_with("the name of the class: expected WebSocket but got");
        equal(&format!("the difference is known: {failure}"), is_known, true)?;
    }
    equal("differences", report.differences.len(), 4)?;
    Ok(())
}
