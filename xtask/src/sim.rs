//! Simulation, and the proof that it finds what is broken on purpose.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use xshell::cmd;

use crate::{dist, flags, repo::Repo};

/// Where the patches are that break the core, each in one way.
const MUTATIONS: &str = "crates/sim/mutations";
/// What a mutant is built of.
const CRATES: &[&str] = &["crates/wire", "crates/core", "crates/sim"];
/// Seeds within which a mutant must be found.
const SEEDS: u64 = 600;

/// `cargo xtask sim`.
pub(crate) fn run(repo: &Repo, flags: flags::Sim) -> anyhow::Result<()> {
    if flags.mutations {
        return mutations(repo, flags.only.as_deref().unwrap_or_default());
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
    let sim = repo.path("target/release/tabmux-sim");
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

/// Breaks a copy of the core in every way there is a patch for; each mutant must be found.
///
/// Patches and a copy, not features of the core: what is shipped has no line that is there to be
/// broken, and a patch that no longer applies says so.
fn mutations(repo: &Repo, only: &str) -> anyhow::Result<()> {
    let place = repo.path("target/mutations");
    dist::host(repo)?;
    cmd!(repo.sh, "cargo build -q --release -p tabmux-sim").quiet().run()?;
    let mut survivors = Vec::new();
    let mut count = 0;
    for (below, kind) in [("", Kind::Core), ("scripts", Kind::Scripts)] {
        let mut patches = repo.sh.read_dir(repo.path(MUTATIONS).join(below))?;
        patches.retain(|path| path.extension().is_some_and(|it| it == "patch"));
        patches.sort();
        for patch in &patches {
            let stem = patch.file_stem().unwrap_or_default().to_string_lossy();
            let name = format!("{below}/{stem}");
            if !name.contains(only) {
                continue;
            }
            count += 1;
            let found = match kind {
                Kind::Scripts => scripts_mutant(repo, &place, patch),
                Kind::Core => core_mutant(repo, &place, patch),
            };
            match found {
                Ok(Some(how)) => println!("{name}: found, {how}"),
                Ok(None) => {
                    println!("{name}: NOT found");
                    survivors.push(name);
                }
                Err(why) => {
                    println!("{name}: does not run: {why:#}");
                    survivors.push(name);
                }
            }
        }
    }
    if !survivors.is_empty() {
        bail!("these mutants were not found, or do not run: {}", survivors.join(", "));
    }
    if count == 0 {
        bail!("no mutant is called {only}");
    }
    println!("all {count} mutants were found");
    Ok(())
}

/// What is broken.
#[derive(Clone, Copy)]
enum Kind {
    /// The core.
    Core,
    /// The scripts of page and worker.
    Scripts,
}

/// Breaks a copy of the TypeScript and runs it.
fn scripts_mutant(repo: &Repo, place: &Path, patch: &PathBuf) -> anyhow::Result<Option<String>> {
    let (package, out) = (place.join("packages/tabmux"), place.join("host"));
    repo.sh.remove_path(&package)?;
    repo.sh.create_dir(&package)?;
    let (src, build) = (repo.package().join("src"), repo.package().join("build.mjs"));
    cmd!(repo.sh, "cp -r {src} {package}").quiet().run()?;
    {
        let _dir = repo.sh.push_dir(place);
        let ceiling = place.parent().unwrap_or(place);
        cmd!(repo.sh, "git apply {patch}").env("GIT_CEILING_DIRECTORIES", ceiling).quiet().run()?;
    }
    let src = package.join("src");
    cmd!(repo.sh, "node {build} --host --src {src} --out {out}").quiet().run()?;
    find(repo, &repo.path("target/release/tabmux-sim"), &out)
}

/// Runs a mutant in seed after seed: how it was found, if it was. A seed that fails without the
/// mutant as well finds nothing.
fn find(repo: &Repo, sim: &Path, scripts: &Path) -> anyhow::Result<Option<String>> {
    let unbroken = repo.path("target/release/tabmux-sim");
    let mut from = 0;
    while from < SEEDS {
        let (first, count) = (from.to_string(), (SEEDS - from).to_string());
        let run = cmd!(repo.sh, "{sim} --from {first} --seeds {count} --as-is");
        let run = run.env("TABMUX_HOST_SCRIPTS", scripts).quiet().ignore_status().output()?;
        if run.status.success() {
            return Ok(None);
        }
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        let Some(how) = said.lines().find(|line| line.starts_with("seed ")) else {
            bail!("it did not run: {said}");
        };
        let seed = number_before(&how["seed ".len()..], ",").context("which seed?")?;
        let seed_arg = seed.to_string();
        let without = cmd!(repo.sh, "{unbroken} --seed {seed_arg} --as-is");
        if without.quiet().ignore_status().output()?.status.success() {
            return Ok(Some(how.chars().take(160).collect()));
        }
        from = seed + 1;
    }
    Ok(None)
}

/// Breaks a copy of the core and runs it.
fn core_mutant(repo: &Repo, place: &Path, patch: &PathBuf) -> anyhow::Result<Option<String>> {
    copy(repo, place)?;
    let _dir = repo.sh.push_dir(place);
    // The copy is no part of the repository around it.
    let ceiling = place.parent().unwrap_or(place);
    cmd!(repo.sh, "git apply {patch}").env("GIT_CEILING_DIRECTORIES", ceiling).quiet().run()?;
    let (target, warn) = (place.join("target"), "-Awarnings");
    cmd!(repo.sh, "cargo build -q --release --offline -p tabmux-sim --target-dir {target}")
        .env("RUSTFLAGS", warn)
        .quiet()
        .run()?;
    let sim = target.join("release/tabmux-sim");
    let scripts = repo.package().join("host");
    find(repo, &sim, &scripts)
}

/// The simulator and what it is made of, as a workspace of its own.
fn copy(repo: &Repo, place: &Path) -> anyhow::Result<()> {
    for path in CRATES {
        let (from, to) = (repo.path(path), place.join(path));
        let above = to.parent().unwrap_or(place).to_path_buf();
        repo.sh.create_dir(&above)?;
        repo.sh.remove_path(&to)?;
        cmd!(repo.sh, "cp -r {from} {above}").quiet().run()?;
    }
    for file in ["Cargo.lock", "rust-toolchain.toml"] {
        repo.sh.copy_file(repo.path(file), place.join(file))?;
    }
    let manifest = repo.sh.read_file(repo.path("Cargo.toml"))?;
    let crates = format!("{CRATES:?}");
    let lines = manifest.lines().map(|line| match line.split(" = ").next() {
        Some(key @ ("members" | "default-members")) => format!("{key} = {crates}"),
        _ => line.to_owned(),
    });
    let manifest = lines.collect::<Vec<_>>().join("\n");
    Ok(repo.sh.write_file(place.join("Cargo.toml"), manifest)?)
}

/// The steps that the simulator says it took.
fn steps(said: &str) -> Option<u64> {
    number_before(said, " steps")
}

fn number_before(said: &str, word: &str) -> Option<u64> {
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
