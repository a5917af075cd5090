//! `cargo xtask package`: packs the crates as they would be published, and builds from the
//! archives.

use std::path::Path;

use anyhow::ensure;
use xshell::cmd;

use crate::{
    dist,
    process::{quiet, step},
    repo::Repo,
    smoke,
};

/// The published crates, each after those that it needs.
const CRATES: [&str; 5] =
    ["tabmux-wire", "tabmux-core", "tabmux-server", "tabmux-client", "tabmux-cli"];

/// Packs the crates, builds the binary from the archives alone, and checks that it serves the
/// scripts.
pub(crate) fn run(repo: &Repo) -> anyhow::Result<()> {
    let scripts = dist::default_out(repo);
    if !scripts.join("worker.js.br").exists() {
        dist::build(repo, &scripts, true)?;
    }
    dist::embed(repo, &scripts)?;
    let packages = CRATES.iter().flat_map(|name| ["-p", name]);
    let packages = packages.collect::<Vec<_>>();
    let binary = repo.binary("tabmux");
    repo.sh.remove_path(&binary)?;
    forget(&repo.target().join("debug/.fingerprint"))?;
    for folder in ["registry/src", "registry/cache"] {
        for registry in std::fs::read_dir(dist::cargo_home()?.join(folder)).into_iter().flatten() {
            forget(&registry?.path())?;
        }
    }
    // Cargo builds each crate from its archive, and fails for a `tabmux-cli` without scripts.
    step("archives of the crates, and what they build", || {
        quiet(cmd!(repo.sh, "cargo package --locked --allow-dirty {packages...}"))
    })?;
    step("the archive has the scripts", || {
        let listed = cmd!(repo.sh, "cargo package --list --allow-dirty -p tabmux-cli").quiet();
        let listed = listed.ignore_stderr().read()?;
        for name in ["client.js", "tiers.js", "worker.js", "worker.js.br"] {
            let name = format!("scripts/{name}");
            ensure!(listed.lines().any(|line| line == name), "it has no {name}:\n{listed}");
        }
        Ok(())
    })?;
    step("the binary from the archive serves them", || smoke::serves(&binary))
}

/// Removes what cargo keeps of our crates below a folder. Cargo never reads a crate of a registry
/// again under one version, and each run packs others under that version.
fn forget(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if CRATES.iter().any(|ours| name.starts_with(&format!("{ours}-"))) {
            match path.is_dir() {
                true => std::fs::remove_dir_all(path)?,
                false => std::fs::remove_file(path)?,
            }
        }
    }
    Ok(())
}
