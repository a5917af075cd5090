//! Builds and runs the simulator.

use std::path::PathBuf;

use anyhow::bail;
use xshell::cmd;

use crate::{dist, flags, mutants, repo::Repo};

/// Runs `cargo xtask sim` with these flags.
pub(crate) fn run(repo: &Repo, flags: flags::Sim) -> anyhow::Result<()> {
    if flags.mutations {
        return mutants::run(repo, flags.only.as_deref().unwrap_or_default());
    }
    let mut args = Vec::new();
    let numbers = [("--seeds", flags.seeds), ("--from", flags.from), ("--seed", flags.seed)];
    for (name, number) in numbers {
        args.extend(number.into_iter().flat_map(|it| [name.to_owned(), it.to_string()]));
    }
    args.extend(flags.transitions.into_iter().flat_map(|it| ["--transitions".to_owned(), it]));
    args.extend(flags.trace.then(|| "--trace".to_owned()));
    args.extend(flags.go_on.then(|| "--go-on".to_owned()));
    dist::host(repo)?;
    let started = std::time::Instant::now();
    cmd!(repo.sh, "cargo build -q --release -p tabmux-sim").quiet().run()?;
    let built = std::time::Instant::now();
    let sim = simulator(repo);
    let out = cmd!(repo.sh, "{sim} {args...}").quiet().ignore_status().output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    print!("{text}");
    eprint!("{}", String::from_utf8_lossy(&out.stderr));
    if !out.status.success() {
        bail!("the simulator found a broken invariant; after the fix the run goes into the corpus");
    }
    if let Some(steps) = steps(&text) {
        let seconds = built.elapsed().as_secs_f64();
        let speed = steps as f64 / seconds / 1000.0;
        let build = (built - started).as_secs();
        let seeds = number_before(&text, " seeds").unwrap_or(1) as f64 / seconds;
        println!(
            "{seeds:.1} seeds and {speed:.0} thousand steps a second ({seconds:.1} s, built in \
             {build} s)"
        );
    }
    Ok(())
}

/// Returns the path of the simulator in a release build.
pub(crate) fn simulator(repo: &Repo) -> PathBuf {
    repo.target().join("release").join(format!("tabmux-sim{}", std::env::consts::EXE_SUFFIX))
}

/// Returns the number of steps that the simulator printed.
fn steps(said: &str) -> Option<u64> {
    number_before(said, " steps")
}

/// Returns the number before a word.
pub(crate) fn number_before(said: &str, word: &str) -> Option<u64> {
    let before = said.split(word).next()?;
    before.rsplit([' ', '\n']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::steps;

    #[test]
    fn steps_are_read() {
        assert_eq!(steps("301 seeds passed: 812345 steps, 9 messages heard\n"), Some(812_345));
        assert_eq!(steps("nothing"), None);
    }
}
