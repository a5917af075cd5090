//! Real browsers: installing them, and the tests that drive them.

use std::path::Path;

use anyhow::{Context, bail};
use xshell::cmd;

use crate::{
    dist, flags,
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
    if let Some(why) = obstacle(repo) {
        bail!("{why}");
    }
    step("apt-get update", || quiet(cmd!(repo.sh, "apt-get update")))?;
    step(&format!("install {}", missing.join(" ")), || {
        let install = cmd!(repo.sh, "apt-get install -y --no-install-recommends {missing...}");
        quiet(install.env("DEBIAN_FRONTEND", "noninteractive"))
    })
}

/// Why what is missing cannot be installed from here, and which command would do it.
pub(crate) fn obstacle(repo: &Repo) -> Option<String> {
    let missing = missing();
    if missing.is_empty() {
        return None;
    }
    let command = format!(
        "apt-get update && apt-get install -y --no-install-recommends {}",
        missing.join(" ")
    );
    if !Path::new("/usr/bin/apt-get").exists() {
        return Some(format!("{} missing and no apt-get here", missing.join(", ")));
    }
    let user = cmd!(repo.sh, "id -u").quiet().read();
    if user.is_ok_and(|id| id == "0") {
        return None;
    }
    Some(format!("needs root; run: sudo sh -c '{command}'"))
}

/// `cargo xtask e2e`: the built package and the server binary, in every engine there is.
pub(crate) fn e2e(repo: &Repo, flags: flags::E2e) -> anyhow::Result<()> {
    if !dist::default_out(repo).join("worker.js").exists() {
        dist::build(repo, &dist::default_out(repo), false)?;
    }
    step("server", || quiet(cmd!(repo.sh, "cargo build -p tabmux-server --bin tabmux")))?;
    let args = flags.args;
    let test = cmd!(repo.sh, "cargo test -q -p tabmux-e2e --test browsers -- {args...}");
    test.env("TABMUX_BIN", repo.binary("tabmux"))
        .env("TABMUX_DIST", dist::default_out(repo))
        .quiet()
        .run()
        .context("the tests in browsers failed")
}

fn missing() -> Vec<&'static str> {
    let missing = PACKAGES.iter().filter(|(_, file)| !Path::new(file).exists());
    missing.map(|&(package, _)| package).collect()
}
