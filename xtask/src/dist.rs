//! `cargo xtask dist`: builds what browsers load from the crates and the TypeScript.

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

/// The path of a built module below its target folder.
const MODULE: &str = "wasm32-unknown-unknown/wasm-release/tabmux_wasm.wasm";

/// The scripts that the server serves. Each may have a source map and compressed copies.
const SERVED: [&str; 6] =
    ["client.js", "tiers.js", "worker.js", "tabmux.iife.js", "install.js", "debug.js"];

/// The modules by the modes that load them, and the module that records traces, with the arguments
/// for cargo. Each has a target folder of its own, because two sets of features would overwrite
/// each other's file in one folder.
const MODULES: [(&str, &[&str]); 3] =
    [("mux", &[]), ("mirror", &["--no-default-features"]), ("trace", &["--features", "trace"])];

pub(crate) fn run(repo: &Repo, flags: flags::Dist) -> anyhow::Result<()> {
    let out = match flags.out {
        Some(dir) => repo.path(dir),
        None => default_out(repo),
    };
    build(repo, &out, flags.release)
}

/// Returns the folder of the package's scripts, which the server and the tests use.
pub(crate) fn default_out(repo: &Repo) -> PathBuf {
    repo.package().join("dist")
}

pub(crate) fn build(repo: &Repo, out: &Path, release: bool) -> anyhow::Result<()> {
    repo.need_node()?;
    repo.need_wasm_target()?;
    step("npm packages", || repo.need_npm_packages())?;
    step("wasm modules", || modules(repo))?;
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

/// Copies the scripts that the server serves into the crate of the binary. Files that did not
/// change are not written, so that nothing is compiled again because of them.
pub(crate) fn embed(repo: &Repo, out: &Path) -> anyhow::Result<()> {
    let folder = repo.path("crates/cli/scripts");
    repo.sh.create_dir(&folder)?;
    let mut wanted = BTreeMap::new();
    let versioned =
        std::fs::read_dir(out)?.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let versioned = versioned.filter(|name| is_versioned(name)).collect::<Vec<_>>();
    for script in SERVED.into_iter().chain(versioned.iter().map(String::as_str)) {
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

/// Returns true for the worker and the modules whose names contain a hash of the build.
fn is_versioned(name: &str) -> bool {
    let mut parts = name.split('.');
    let what = parts.next().unwrap_or_default();
    let build = parts.next().unwrap_or_default();
    let ending = parts.next().unwrap_or_default();
    build.len() == 8
        && parts.next().is_none()
        && matches!((what, ending), ("worker", "js") | ("mux" | "mirror" | "trace", "wasm"))
}

/// Builds the scripts that the simulator runs: those of `dist`, without a WebAssembly module.
pub(crate) fn host(repo: &Repo) -> anyhow::Result<()> {
    repo.need_node()?;
    repo.need_npm_packages()?;
    bundle_host(repo)
}

fn bundle_host(repo: &Repo) -> anyhow::Result<()> {
    let script = repo.package().join("build.mjs");
    quiet(cmd!(repo.sh, "node {script} --host"))
}

/// Returns the folder of the modules that are not optimised.
pub(crate) fn generated(repo: &Repo) -> PathBuf {
    repo.package().join("src/generated")
}

fn modules(repo: &Repo) -> anyhow::Result<()> {
    for (mode, arguments) in MODULES {
        let target = target_of(repo, mode);
        let cargo = cmd!(repo.sh, "cargo build -p tabmux-wasm --target wasm32-unknown-unknown")
            .args(["--profile", "wasm-release"])
            .args(arguments)
            .arg("--target-dir")
            .arg(target);
        quiet(cargo.env("CARGO_ENCODED_RUSTFLAGS", remap_flags(repo)?))?;
    }
    let (strip, out) = (repo.package().join("strip.mjs"), generated(repo));
    repo.sh.remove_path(&out)?;
    repo.sh.create_dir(&out)?;
    for (mode, _) in MODULES {
        let (module, to) = (target_of(repo, mode).join(MODULE), out.join(format!("{mode}.wasm")));
        quiet(cmd!(repo.sh, "node {strip} {module} {to}"))?;
    }
    Ok(())
}

fn target_of(repo: &Repo, mode: &str) -> PathBuf {
    if mode == "mux" { repo.target() } else { repo.target().join(mode) }
}

/// Returns the folder where cargo keeps its downloads.
pub(crate) fn cargo_home() -> anyhow::Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => Ok(PathBuf::from(home)),
        None => Ok(std::env::home_dir().context("there is no home folder")?.join(".cargo")),
    }
}

/// Returns flags that hide source paths in panic messages. Without them, two machines build
/// different bytes, and the module contains the home folder of its builder.
fn remap_flags(repo: &Repo) -> anyhow::Result<OsString> {
    let cargo_home = cargo_home()?;
    let mut flags = OsString::from("--remap-path-prefix=");
    flags.push(cargo_home);
    flags.push("=/cargo\x1f--remap-path-prefix=");
    flags.push(&repo.root);
    flags.push("=/tabmux");
    Ok(flags)
}

fn optimise(repo: &Repo) -> anyhow::Result<PathBuf> {
    let out = repo.target().join("tabmux_wasm_optimised");
    repo.sh.create_dir(&out)?;
    let wasm_opt = repo.package().join("node_modules/binaryen/bin/wasm-opt");
    // The lowest kilobyte is the end of the stack, so no data has an address there.
    let flags = [
        "-Oz",
        "--converge",
        "--low-memory-unused",
        "--strip-producers",
        "--strip-target-features",
    ];
    for (mode, _) in MODULES {
        let name = format!("{mode}.wasm");
        let (module, optimised) = (generated(repo).join(&name), out.join(&name));
        quiet(cmd!(repo.sh, "node {wasm_opt} {flags...} {module} -o {optimised}"))?;
    }
    Ok(out)
}

fn bundle(repo: &Repo, out: &Path, wasm: Option<&Path>) -> anyhow::Result<()> {
    let script = repo.package().join("build.mjs");
    let wasm = wasm.map(|folder| [OsString::from("--wasm"), folder.into()]);
    let wasm = wasm.iter().flatten();
    quiet(cmd!(repo.sh, "node {script} --out {out} {wasm...}"))
}
