//! The long runs: fuzzing and simulation.

use xshell::cmd;

use crate::{flags, process::step, repo::Repo};

/// `cargo xtask fuzz`.
pub(crate) fn run(repo: &Repo, flags: flags::Fuzz) -> anyhow::Result<()> {
    if let Some(why) = missing(repo) {
        anyhow::bail!("fuzzing {why}");
    }
    let seconds = flags.seconds.unwrap_or(60).to_string();
    let _dir = repo.sh.push_dir(repo.path("fuzz"));
    let limit = format!("-max_total_time={seconds}");
    let fuzz = cmd!(
        repo.sh,
        "cargo +nightly fuzz run decode -- {limit} -max_len=4096"
    );
    step("fuzz decode", || Ok(fuzz.quiet().run()?))
}

/// What fuzzing needs and this machine has not.
pub(crate) fn missing(repo: &Repo) -> Option<String> {
    let has = |command: xshell::Cmd<'_>| command.quiet().ignore_stderr().read().is_ok();
    let nightly = has(cmd!(repo.sh, "cargo +nightly --version"));
    let cargo_fuzz = has(cmd!(repo.sh, "cargo fuzz --version"));
    (!nightly || !cargo_fuzz).then(|| "needs a nightly toolchain and cargo-fuzz".to_owned())
}

/// `cargo xtask sim`.
pub(crate) fn sim(repo: &Repo, flags: flags::Sim) -> anyhow::Result<()> {
    let seeds = flags
        .seeds
        .map(|seeds| ["--seeds".to_owned(), seeds.to_string()]);
    let seeds = seeds.iter().flatten();
    Ok(cmd!(
        repo.sh,
        "cargo run -q --release -p tabmux-sim -- {seeds...}"
    )
    .quiet()
    .run()?)
}
