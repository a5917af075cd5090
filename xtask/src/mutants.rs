//! The proof that faults are found: mutants, which are copies of the code that a patch breaks on
//! purpose. A patch that no longer applies says so, and what is shipped has no line that is there
//! to be broken.
//!
//! Patches in `mutations` break the core and the crates below it, those in `mutations/scripts` the
//! scripts of page and worker. The simulator must find both. A patch in `mutations/tests` takes a
//! fix back that no seed shows. The test of the core that the patch names must fail then.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use xshell::cmd;

use crate::{
    dist,
    repo::Repo,
    sim::{number_before, simulator},
};

/// Where the patches are, each of which breaks one thing.
const MUTATIONS: &str = "crates/sim/mutations";
/// What a mutant is built of.
const CRATES: &[&str] = &["crates/wire", "crates/core", "crates/sim"];
/// Seeds within which a mutant must be found.
const SEEDS: u64 = 600;
/// What the line of a patch begins with that names a test: the file of `crates/core/tests`, and the
/// test in it.
const TEST: &str = "Test: ";

/// What a patch breaks, and how that must be found.
#[derive(Clone, Copy)]
enum Kind {
    /// The core, found by the simulator.
    Core,
    /// The scripts of page and worker, found by the simulator.
    Scripts,
    /// The core, found by the test that the patch names.
    Test,
}

/// The folders of the patches below `MUTATIONS`.
const FOLDERS: &[(&str, Kind)] =
    &[("", Kind::Core), ("scripts", Kind::Scripts), ("tests", Kind::Test)];

/// Breaks a copy of the code in every way there is a patch for whose name contains `only`.
///
/// # Errors
/// If a mutant was not found, or does not run.
pub(crate) fn run(repo: &Repo, only: &str) -> anyhow::Result<()> {
    let place = repo.target().join("mutations");
    let patches = patches(repo, only)?;
    if patches.is_empty() {
        bail!("no mutant is called {only}");
    }
    prepare(repo, &place, &patches)?;
    let mut survivors = Vec::new();
    for (name, kind, patch) in &patches {
        let found = match kind {
            Kind::Core => core_mutant(repo, &place, patch),
            Kind::Scripts => scripts_mutant(repo, &place, patch),
            Kind::Test => tested_mutant(repo, &place, patch),
        };
        match found {
            Ok(Some(how)) => println!("{name}: found, {how}"),
            Ok(None) => {
                println!("{name}: NOT found");
                survivors.push(name.as_str());
            }
            Err(why) => {
                println!("{name}: does not run: {why:#}");
                survivors.push(name);
            }
        }
    }
    if !survivors.is_empty() {
        bail!("these mutants were not found, or do not run: {}", survivors.join(", "));
    }
    println!("all {} mutants were found", patches.len());
    Ok(())
}

/// All patches whose name contains `only`.
fn patches(repo: &Repo, only: &str) -> anyhow::Result<Vec<(String, Kind, PathBuf)>> {
    let mut all = Vec::new();
    for (below, kind) in FOLDERS {
        let mut patches = repo.sh.read_dir(repo.path(MUTATIONS).join(below))?;
        patches.retain(|path| path.extension().is_some_and(|it| it == "patch"));
        patches.sort();
        for patch in patches {
            let stem = patch.file_stem().unwrap_or_default().to_string_lossy();
            let name = format!("{below}/{stem}");
            if name.contains(only) {
                all.push((name, *kind, patch));
            }
        }
    }
    Ok(all)
}

/// Builds what is not broken, as far as it is needed. The tests that patches name must pass there.
fn prepare(repo: &Repo, place: &Path, patches: &[(String, Kind, PathBuf)]) -> anyhow::Result<()> {
    if patches.iter().any(|(_, kind, _)| !matches!(kind, Kind::Test)) {
        dist::host(repo)?;
        cmd!(repo.sh, "cargo build -q --release -p tabmux-sim").quiet().run()?;
    }
    let tested = patches.iter().filter(|(_, kind, _)| matches!(kind, Kind::Test));
    let tested = tested.map(|(.., patch)| test_of(repo, patch)).collect::<Result<Vec<_>, _>>()?;
    if !tested.is_empty() {
        copy(repo, place)?;
    }
    for (file, test) in &tested {
        let out = run_test(repo, place, file, test)?;
        ensure!(out.contains("test result: ok. 1 passed"), "{test} does not pass: {out}");
    }
    Ok(())
}

/// Breaks a copy of the TypeScript and runs it.
fn scripts_mutant(repo: &Repo, place: &Path, patch: &PathBuf) -> anyhow::Result<Option<String>> {
    let (package, out) = (place.join("packages/tabmux"), place.join("host"));
    repo.sh.remove_path(&package)?;
    repo.sh.create_dir(&package)?;
    let (src, build) = (repo.package().join("src"), repo.package().join("build.mjs"));
    cmd!(repo.sh, "cp -r {src} {package}").quiet().run()?;
    apply(repo, place, patch)?;
    let src = package.join("src");
    cmd!(repo.sh, "node {build} --host --src {src} --out {out}").quiet().run()?;
    find(repo, &simulator(repo), &out)
}

/// Runs a mutant in seed after seed: how it was found, if it was. A seed that fails without the
/// mutant as well finds nothing.
fn find(repo: &Repo, sim: &Path, scripts: &Path) -> anyhow::Result<Option<String>> {
    let unbroken = simulator(repo);
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
    apply(repo, place, patch)?;
    let _dir = repo.sh.push_dir(place);
    let (target, warn) = (place.join("target"), "-Awarnings");
    // Each mutant is built once and runs for seconds: what counts is how soon it is built.
    let quick = CRATES.iter().filter_map(|path| path.rsplit('/').next()).flat_map(|name| {
        ["--config".to_owned(), format!("profile.release.package.tabmux-{name}.opt-level=1")]
    });
    let build = ["build", "-q", "--release", "--offline", "-p", "tabmux-sim"];
    cmd!(repo.sh, "cargo {build...} {quick...} --target-dir {target}")
        .env("RUSTFLAGS", warn)
        .env("CARGO_INCREMENTAL", "1")
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

/// Breaks a copy of the core and runs the test that the patch names: how it failed, if it did.
fn tested_mutant(repo: &Repo, place: &Path, patch: &PathBuf) -> anyhow::Result<Option<String>> {
    copy(repo, place)?;
    apply(repo, place, patch)?;
    let (file, test) = test_of(repo, patch)?;
    let out = run_test(repo, place, &file, &test)?;
    if out.contains("test result: ok. 1 passed") {
        return Ok(None);
    }
    // Else it was not even built.
    ensure!(out.contains("test result: FAILED. 0 passed; 1 failed"), "{test} did not run: {out}");
    Ok(Some(format!("{test} fails")))
}

/// Reads which test a patch names.
fn test_of(repo: &Repo, patch: &PathBuf) -> anyhow::Result<(String, String)> {
    let text = repo.sh.read_file(patch)?;
    let (file, test) =
        named_test(&text).with_context(|| format!("{} names no test", patch.display()))?;
    Ok((file.to_owned(), test.to_owned()))
}

/// The file and the name of the test that a patch names.
fn named_test(patch: &str) -> Option<(&str, &str)> {
    patch.lines().find_map(|line| line.strip_prefix(TEST)?.split_once(' '))
}

/// What one test of the copied core says.
fn run_test(repo: &Repo, place: &Path, file: &str, test: &str) -> anyhow::Result<String> {
    let _dir = repo.sh.push_dir(place);
    let target = place.join("target");
    let run = cmd!(
        repo.sh,
        "cargo test --offline -p tabmux-core --test {file} --target-dir {target} -- --exact {test}"
    );
    let out = run.env("RUSTFLAGS", "-Awarnings").quiet().ignore_status().output()?;
    let said = if out.status.success() { out.stdout } else { [out.stdout, out.stderr].concat() };
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Breaks what is at a place.
fn apply(repo: &Repo, place: &Path, patch: &PathBuf) -> anyhow::Result<()> {
    let _dir = repo.sh.push_dir(place);
    // The copy is no part of the repository around it.
    let ceiling = place.parent().unwrap_or(place);
    Ok(cmd!(repo.sh, "git apply {patch}").env("GIT_CEILING_DIRECTORIES", ceiling).quiet().run()?)
}

#[cfg(test)]
mod tests {
    use super::named_test;

    #[test]
    fn a_patch_names_a_test_and_its_file() {
        let patch = "A tab is asked twice.\nTest: hub resume::a_tab_is_asked_once\n\ndiff --git";
        assert_eq!(named_test(patch), Some(("hub", "resume::a_tab_is_asked_once")));
        assert_eq!(named_test("A tab is asked twice.\n\ndiff --git"), None);
    }
}
