//! `cargo xtask bench …`: builds what is measured, then starts the program that measures.

use anyhow::bail;
use xshell::cmd;

use crate::{
    dist, flags,
    process::{become_process, quiet, step},
    repo::Repo,
};

/// The document into which the figures go.
const DOCS: &str = "docs/benchmarks.md";

pub(crate) fn server(repo: &Repo, flags: flags::Server) -> anyhow::Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("memory and CPU of the servers are read from /proc: this runs on Linux only");
    }
    repo.need_node()?;
    let peer = repo.path("bench/peers/ws");
    repo.need_npm_packages_of(&peer)?;
    // They are built one after the other. Built together, the server would get features that the
    // peers need.
    step("tabmux --release", || {
        quiet(cmd!(repo.sh, "cargo build --release -p tabmux-cli --bin tabmux"))
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
        // Figures of a trial, or of a part of the benchmark, are not written.
        None if flags.quick => {}
        None => run = run.arg("--write").arg(repo.path(DOCS)),
    }
    become_process(run.into())
}

pub(crate) fn gateway(repo: &Repo, flags: &flags::Gateway) -> anyhow::Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("memory and CPU of the servers are read from /proc: this runs on Linux only");
    }
    step("tabmux --release", || {
        quiet(cmd!(repo.sh, "cargo build --release -p tabmux-cli --bin tabmux"))
    })?;
    let build = cmd!(repo.sh, "cargo build --release -p tabmux-bench --bin gateway");
    step("gateway --release", || quiet(build))?;
    let folder = repo.target().join("release");
    let (driver, tabmux) = (folder.join("gateway"), folder.join("tabmux"));
    let mut run = cmd!(repo.sh, "{driver} {tabmux}");
    if !flags.dry {
        run = run.arg(repo.path(DOCS));
    }
    become_process(run.into())
}

pub(crate) fn abuse(repo: &Repo, flags: flags::Abuse) -> anyhow::Result<()> {
    let (profile, size) = if flags.short { ("dev", Some("--short")) } else { ("release", None) };
    let run = cmd!(repo.sh, "cargo run -q --profile {profile} -p tabmux-server --example abuse --");
    let run = run.args(size);
    let run = match flags.only {
        Some(text) => run.args(["--only", &text]),
        None => run,
    };
    become_process(run.into())
}

/// Number of runs whose medians are written into the document.
const RUNS: usize = 7;

pub(crate) fn browser(repo: &Repo, flags: &flags::Browser) -> anyhow::Result<()> {
    let runs = flags.runs.unwrap_or(if flags.short { 1 } else { RUNS });
    if flags.write && (runs < RUNS || flags.short || flags.only.is_some()) {
        bail!("--write needs all parts and {RUNS} runs");
    }
    repo.need_node()?;
    let assets = dist::default_out(repo);
    if !flags.short || !assets.join("worker.js").exists() {
        dist::build(repo, &assets, !flags.short)?;
    }
    let (profile, folder) = if flags.short { ("dev", "debug") } else { ("release", "release") };
    step("server", || {
        let build = cmd!(repo.sh, "cargo build -p tabmux-server --example figures");
        quiet(build.args(["--profile", profile]))
    })?;
    step("harness", || quiet(cmd!(repo.sh, "cargo build -p tabmux-e2e --bin figures")))?;
    let (program, runs) = (repo.binary("figures"), runs.to_string());
    let mut run = cmd!(repo.sh, "{program} --runs {runs}")
        .env("TABMUX_FIGURES_SERVER", repo.target().join(folder).join("examples/figures"))
        .env("TABMUX_DIST", assets);
    for engine in &flags.engine {
        run = run.args(["--engine", engine]);
    }
    if let Some(only) = &flags.only {
        run = run.args(["--only", only]);
    }
    if flags.short {
        run = run.arg("--short");
    }
    if flags.write {
        run = run.arg("--write").arg(repo.path(DOCS));
    }
    become_process(run.into())
}

/// Number of rounds of a cell whose figures are written into the document.
const ROUNDS: u32 = 20;

pub(crate) fn handover(repo: &Repo, flags: flags::Handover) -> anyhow::Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("which process runs a worker is read from /proc: this runs on Linux only");
    }
    let assets = dist::default_out(repo);
    dist::build(repo, &assets, true)?;
    step("server --release", || {
        quiet(cmd!(repo.sh, "cargo build --release -p tabmux-server --example chaos"))
    })?;
    step("harness", || quiet(cmd!(repo.sh, "cargo build -p tabmux-e2e --bin handover")))?;
    let program = repo.binary("handover");
    let rounds = flags.rounds.unwrap_or(ROUNDS);
    let number = rounds.to_string();
    let mut run = cmd!(repo.sh, "{program} --rounds {number}")
        .env("TABMUX_CHAOS_SERVER", repo.target().join("release/examples/chaos"))
        .env("TABMUX_DIST", assets);
    // Figures of a trial, or of a part of an engine's table, are not written.
    if flags.hidden {
        run = run.arg("--hidden");
    }
    if rounds >= ROUNDS && !flags.hidden && flags.tier.is_empty() && flags.only.is_empty() {
        run = run.arg("--write").arg(repo.path(DOCS));
    }
    for engine in &flags.engine {
        run = run.args(["--engine", engine]);
    }
    for tier in &flags.tier {
        run = run.args(["--tier", tier]);
    }
    for death in &flags.only {
        run = run.args(["--only", death]);
    }
    become_process(run.into())
}
