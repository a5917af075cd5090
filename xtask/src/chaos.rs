//! `cargo xtask chaos`: builds what the run breaks, then starts the program that breaks it.

use std::time::{SystemTime, UNIX_EPOCH};

use xshell::{Cmd, cmd};

use crate::{
    dist, flags,
    process::{become_process, quiet, step},
    repo::Repo,
};

pub(crate) fn run(repo: &Repo, flags: flags::Chaos) -> anyhow::Result<()> {
    build(repo, "chaos")?;
    let seconds = flags.seconds.unwrap_or(60 * flags.minutes.unwrap_or(1)).to_string();
    let seed = flags.seed.unwrap_or_else(any_seed).to_string();
    let mut run = program(repo, "chaos").args(["--seed", &seed, "--seconds", &seconds]);
    for engine in flags.engine {
        run = run.args(["--engine", &engine]);
    }
    if let Some(tier) = flags.tier {
        run = run.args(["--tier", &tier]);
    }
    if flags.gateway {
        run = run.args(["--gateway", "true"]);
    }
    for action in flags.only {
        run = run.args(["--only", &action]);
    }
    become_process(run.into())
}

/// Builds the package, the server that numbers its messages, and a program of the test harness.
pub(crate) fn build(repo: &Repo, name: &str) -> anyhow::Result<()> {
    if !dist::default_out(repo).join("worker.js").exists() {
        dist::build(repo, &dist::default_out(repo), false)?;
    }
    // The package is the one that the last `dist` left, because a seed says nothing about other
    // bytes.
    step("server", || quiet(cmd!(repo.sh, "cargo build -p tabmux-server --example chaos")))?;
    step("harness", || quiet(cmd!(repo.sh, "cargo build -p tabmux-e2e --bin {name}")))
}

/// Returns the command of a program of the test harness, with the variables that it needs.
pub(crate) fn program<'a>(repo: &'a Repo, name: &str) -> Cmd<'a> {
    let program = repo.binary(name);
    cmd!(repo.sh, "{program}")
        .env("TABMUX_CHAOS_SERVER", repo.binary("examples/chaos"))
        .env("TABMUX_DIST", dist::default_out(repo))
}

/// Returns a random seed. The run prints it, so that it can be run again.
fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs()
}
