//! Real browsers: installs them, and runs the tests that drive them.

use std::path::{Path, PathBuf};

use anyhow::Context;
use xshell::cmd;

use crate::{
    debian, dist, flags,
    process::{become_process, quiet, step},
    repo::Repo,
};

/// Debian's packages, each with a file of the program in it that is used.
const PACKAGES: &[(&str, &str)] = &[
    ("chromium", "/usr/bin/chromium"),
    ("chromium-driver", "/usr/bin/chromedriver"),
    ("firefox-esr", "/usr/bin/firefox-esr"),
    ("webkit2gtk-driver", "/usr/bin/WebKitWebDriver"),
    ("xvfb", "/usr/bin/Xvfb"),
    ("xauth", "/usr/bin/xauth"),
];

/// Runs `cargo xtask browsers`, which installs the browsers that are missing.
pub(crate) fn install(repo: &Repo) -> anyhow::Result<()> {
    let missing = missing();
    if missing.is_empty() {
        println!("every browser is there");
        return Ok(());
    }
    debian::install(repo, &missing)
}

/// Returns the reason why missing browsers cannot be installed from here, with the command that
/// would do it.
pub(crate) fn obstacle(repo: &Repo) -> Option<String> {
    debian::obstacle(repo, &missing())
}

/// Runs `cargo xtask e2e`: the built package and the server binary, in every engine that is
/// installed.
pub(crate) fn e2e(repo: &Repo, flags: flags::E2e) -> anyhow::Result<()> {
    if !dist::default_out(repo).join("worker.js").exists() {
        dist::build(repo, &dist::default_out(repo), false)?;
    }
    step("server", || {
        quiet(cmd!(
            repo.sh,
            "cargo build -p tabmux-cli -p tabmux-server --bin tabmux --example chaos --example wpt"
        ))
    })?;
    step("example app", || quiet(cmd!(repo.sh, "cargo build -p tabmux-example-rooms")))?;
    step("trace", || quiet(cmd!(repo.sh, "cargo build -p tabmux-trace")))?;
    let args = flags.args;
    let mut test = cmd!(repo.sh, "cargo test -q -p tabmux-e2e --test browsers -- {args...}");
    if let Some(binary) = version_1(repo)? {
        test = test.env("TABMUX_VERSION_1_BIN", binary);
    }
    test.env("TABMUX_BIN", repo.binary("tabmux"))
        .env("TABMUX_ROOMS", repo.binary("rooms"))
        .env("TABMUX_TRACE", repo.binary("tabmux-trace"))
        .env("TABMUX_DIST", dist::default_out(repo))
        .quiet()
        .run()
        .context("the tests in browsers failed")
}

/// Runs `cargo xtask wpt`: tests of web-platform-tests, in a folder that the caller has.
pub(crate) fn wpt(repo: &Repo, flags: flags::Wpt) -> anyhow::Result<()> {
    if !dist::default_out(repo).join("worker.js").exists() {
        dist::build(repo, &dist::default_out(repo), false)?;
    }
    step("server", || quiet(cmd!(repo.sh, "cargo build -p tabmux-server --example wpt")))?;
    step("harness", || quiet(cmd!(repo.sh, "cargo build -p tabmux-e2e --bin wpt")))?;
    let (program, tests) = (repo.binary("wpt"), flags.tests);
    let mut run = cmd!(repo.sh, "{program} --tests {tests}")
        .env("TABMUX_WPT_SERVER", repo.target().join("debug/examples/wpt"))
        .env("TABMUX_DIST", dist::default_out(repo));
    for (name, value) in [("--engine", flags.engine), ("--filter", flags.filter)] {
        run = run.args(value.iter().flat_map(|value| [name, value.as_str()]));
    }
    for mode in &flags.mode {
        run = run.args(["--mode", mode]);
    }
    become_process(run.into())
}

/// The last commit whose server speaks only version 1 of the protocol.
const VERSION_1: &str = "23699ad3812a";

/// Builds the server of protocol version 1 from the history of the repository, once. Returns `None`
/// if the history does not reach that far, as in a shallow clone.
fn version_1(repo: &Repo) -> anyhow::Result<Option<PathBuf>> {
    let folder = repo.target().join("version-1");
    let binary = folder.join("target/debug/tabmux");
    if binary.exists() {
        return Ok(Some(binary));
    }
    let known = cmd!(repo.sh, "git cat-file -e {VERSION_1}").quiet().ignore_stderr();
    if known.run().is_err() {
        return Ok(None);
    }
    step("server of protocol version 1", || {
        let source = folder.join("source");
        repo.sh.create_dir(&source)?;
        let archive = folder.join("source.tar");
        quiet(cmd!(repo.sh, "git archive --output {archive} {VERSION_1}"))?;
        quiet(cmd!(repo.sh, "tar -x -f {archive} -C {source}"))?;
        let (manifest, target) = (source.join("Cargo.toml"), folder.join("target"));
        let build = cmd!(repo.sh, "cargo build --locked -p tabmux-server --bin tabmux");
        quiet(build.args(["--manifest-path".into(), manifest, "--target-dir".into(), target]))
    })?;
    Ok(Some(binary))
}

fn missing() -> Vec<&'static str> {
    let missing = PACKAGES.iter().filter(|(_, file)| !Path::new(file).exists());
    missing.map(|&(package, _)| package).collect()
}
