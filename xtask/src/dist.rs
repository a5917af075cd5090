//! `cargo xtask dist`: from the crates and the TypeScript to what browsers load.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::Context;
use xshell::cmd;

use crate::{
    flags,
    process::{quiet, step},
    repo::Repo,
};

/// Where the module lands below the target folder; also what `ci` looks into.
const MODULE: &str = "wasm32-unknown-unknown/wasm-release/tabmux_wasm.wasm";

/// The scripts that the server serves, each perhaps with a source map and compressed copies.
const SERVED: [&str; 6] =
    ["client.js", "tiers.js", "worker.js", "tabmux.iife.js", "install.js", "debug.js"];

pub(crate) fn run(repo: &Repo, flags: flags::Dist) -> anyhow::Result<()> {
    let out = match flags.out {
        Some(dir) => repo.path(dir),
        None => default_out(repo),
    };
    build(repo, &out, flags.release)
}

/// The folder that the server and the tests use.
pub(crate) fn default_out(repo: &Repo) -> PathBuf {
    repo.package().join("dist")
}

pub(crate) fn build(repo: &Repo, out: &Path, release: bool) -> anyhow::Result<()> {
    repo.need_node()?;
    repo.need_wasm_target()?;
    step("wasm module", || module(repo))?;
    step("bindgen", || bindgen(repo))?;
    step("npm packages", || repo.need_npm_packages())?;
    let optimised = match release {
        true => Some(step("wasm-opt -Oz", || optimise(repo))?),
        false => None,
    };
    step("page library and worker", || bundle(repo, out, optimised.as_deref()))?;
    step("scripts for the simulator", || bundle_host(repo))?;
    embed(repo, out)?;
    println!("     {}", out.strip_prefix(&repo.root).unwrap_or(out).display());
    Ok(())
}

/// Copies the scripts that the server serves to where the binary's crate takes them from. What did
/// not change is left alone, so that nothing is compiled again for it.
pub(crate) fn embed(repo: &Repo, out: &Path) -> anyhow::Result<()> {
    let folder = repo.path("crates/cli/scripts");
    repo.sh.create_dir(&folder)?;
    let mut wanted = BTreeMap::new();
    for script in SERVED {
        for ending in ["", ".map", ".br", ".gz"] {
            let name = format!("{script}{ending}");
            if let Ok(bytes) = std::fs::read(out.join(&name)) {
                wanted.insert(name, bytes);
            }
        }
    }
    for file in repo.sh.read_dir(&folder)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match wanted.get(&name) {
            Some(bytes) if std::fs::read(&file)? == *bytes => drop(wanted.remove(&name)),
            Some(_) => {}
            None => repo.sh.remove_path(file)?,
        }
    }
    for (name, bytes) in wanted {
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

/// The scripts that the simulator runs: those of `dist`, bound to no wasm module.
pub(crate) fn host(repo: &Repo) -> anyhow::Result<()> {
    repo.need_node()?;
    repo.need_npm_packages()?;
    bundle_host(repo)
}

fn bundle_host(repo: &Repo) -> anyhow::Result<()> {
    let script = repo.package().join("build.mjs");
    quiet(cmd!(repo.sh, "node {script} --host"))
}

/// The glue and the module as bindgen leaves it; worker.ts imports both.
pub(crate) fn generated(repo: &Repo) -> PathBuf {
    repo.package().join("src/generated")
}

fn module(repo: &Repo) -> anyhow::Result<()> {
    let cargo = cmd!(
        repo.sh,
        "cargo build -p tabmux-wasm --target wasm32-unknown-unknown --profile wasm-release"
    );
    quiet(cargo.env("CARGO_ENCODED_RUSTFLAGS", remap_flags(repo)?))
}

/// Panic messages hold source paths: without this, two machines build different bytes, and the
/// module tells the home folder of whoever built it.
fn remap_flags(repo: &Repo) -> anyhow::Result<OsString> {
    let cargo_home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => std::env::home_dir().context("there is no home folder")?.join(".cargo"),
    };
    let mut flags = OsString::from("--remap-path-prefix=");
    flags.push(cargo_home);
    flags.push("=/cargo\x1f--remap-path-prefix=");
    flags.push(&repo.root);
    flags.push("=/tabmux");
    Ok(flags)
}

fn bindgen(repo: &Repo) -> anyhow::Result<()> {
    let module = repo.target().join(MODULE);
    let out = generated(repo);
    repo.sh.remove_path(&out)?;
    quiet(cmd!(repo.sh, "cargo build -p bindgen"))?;
    let bindgen = repo.binary("bindgen");
    quiet(cmd!(repo.sh, "{bindgen} {module} {out}"))
}

fn optimise(repo: &Repo) -> anyhow::Result<PathBuf> {
    let module = generated(repo).join("tabmux_wasm_bg.wasm");
    let optimised = repo.target().join("tabmux_wasm_optimised.wasm");
    let wasm_opt = repo.package().join("node_modules/binaryen/bin/wasm-opt");
    let flags = ["-Oz", "--strip-producers", "--strip-target-features"];
    quiet(cmd!(repo.sh, "node {wasm_opt} {flags...} {module} -o {optimised}"))?;
    Ok(optimised)
}

fn bundle(repo: &Repo, out: &Path, wasm: Option<&Path>) -> anyhow::Result<()> {
    let script = repo.package().join("build.mjs");
    let wasm = wasm.map(|file| [OsString::from("--wasm"), file.into()]);
    let wasm = wasm.iter().flatten();
    quiet(cmd!(repo.sh, "node {script} --out {out} {wasm...}"))
}
