//! Real browsers: installing them, and the tests that drive them.

use std::path::Path;

use anyhow::Context;
use xshell::cmd;

use crate::{
    debian, dist, flags,
    process::{quiet, step},
    repo::Repo,
};

/// Debian's packages, and a file that each of the programs in use is known by.
const PACKAGES: &[(&str, &str)] = &[
    ("chromium", "/usr/bin/chromium"),
    ("chromium-driver", "/usr/bin/chromedriver"),
    ("firefox-esr", "/usr/bin/firefox-esr"),
    ("webkit2gtk-driver", "/usr/bin/WebKitWebDriver"),
    ("xvfb", "/usr/bin/Xvfb"),
    ("xauth", "/usr/bin/xauth"),
];

/// `cargo xtask browsers`.
pub(crate) fn install(repo: &Repo) -> anyhow::Result<()> {
    let missing = missing();
    if missing.is_empty() {
        println!("every browser is there");
        return Ok(());
    }
    debian::install(repo, &missing)
}

/// Why what is missing cannot be installed from here, and which command would do it.
pub(crate) fn obstacle(repo: &Repo) -> Option<String> {
    debian::obstacle(repo, &missing())
}

/// `cargo xtask e2e`: the built package and the server binary, in every engine there is.
pub(crate) fn e2e(repo: &Repo, flags: flags::E2e) -> anyhow::Result<()> {
    if !dist::default_out(repo).join("worker.js").exists() {
        dist::build(repo, &dist::default_out(repo), false)?;
    }
    step("server", || {
        quiet(cmd!(repo.sh, "cargo build -p tabmux-server --bin tabmux --example chaos"))
    })?;
    step("trace", || quiet(cmd!(repo.sh, "cargo build -p tabmux-trace")))?;
    let args = flags.args;
    let test = cmd!(repo.sh, "cargo test -q -p tabmux-e2e --test browsers -- {args...}");
    test.env("TABMUX_BIN", repo.binary("tabmux"))
        .env("TABMUX_TRACE", repo.binary("tabmux-trace"))
        .env("TABMUX_DIST", dist::default_out(repo))
        .quiet()
        .run()
        .context("the tests in browsers failed")
}

fn missing() -> Vec<&'static str> {
    let missing = PACKAGES.iter().filter(|(_, file)| !Path::new(file).exists());
    missing.map(|&(package, _)| package).collect()
}
