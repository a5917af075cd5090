//! `cargo xtask bench server`: builds the servers, then hands over to the program that drives them.

use anyhow::bail;
use xshell::cmd;

use crate::{
    flags,
    process::{become_process, quiet, step},
    repo::Repo,
};

/// Where the figures go.
const DOCS: &str = "docs/benchmarks.md";

pub(crate) fn server(repo: &Repo, flags: flags::Server) -> anyhow::Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("memory and CPU of the servers are read from /proc: this runs on Linux only");
    }
    repo.need_node()?;
    let peer = repo.path("bench/peers/ws");
    repo.need_npm_packages_of(&peer)?;
    // One after the other: together, features that the peers need would get into the server.
    step("tabmux --release", || {
        quiet(cmd!(repo.sh, "cargo build --release -p tabmux-server --bin tabmux"))
    })?;
    step("peers --release", || quiet(cmd!(repo.sh, "cargo build --release -p tabmux-bench")))?;
    let folder = repo.target().join("release");
    let (driver, tabmux) = (folder.join("tabmux-bench"), folder.join("tabmux"));
    let ws = peer.join("server.mjs");
    let mut run = cmd!(repo.sh, "{driver} --tabmux {tabmux} --ws {ws}");
    if flags.quick {
        run = run.arg("--quick");
    }
    match flags.only {
        Some(part) => run = run.args(["--only", &part]),
        // Figures of a trial, or of a part, are none for the book.
        None if flags.quick => {}
        None => run = run.arg("--write").arg(repo.path(DOCS)),
    }
    become_process(run.into())
}
