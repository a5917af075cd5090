//! The list of checks.

use std::path::PathBuf;

use anyhow::{Context, bail};
use xshell::cmd;

use crate::{
    autobahn, browsers,
    ci::{Outcome, Step, tally::Count},
    dist, fuzz, process, proxies, release,
    repo::Repo,
};

/// The browser in which the tests of the package with bundlers open their pages.
const CHROMIUM: &str = "/usr/bin/chromium";

/// What the names of the simulator's steps begin with.
pub(super) const SIMULATOR: &str = "simulator";

/// All checks, in their order: what fails fast first, what needs `dist` after it.
pub(super) fn all(xtask: PathBuf, before: Option<String>) -> Vec<Step> {
    let task = |args: &'static [&'static str]| {
        let xtask = xtask.clone();
        move |repo: &Repo| Outcome::of(cmd!(repo.sh, "{xtask} {args...}"))
    };
    vec![
        step("fmt", Count::One, |repo| Outcome::of(cmd!(repo.sh, "cargo fmt --all --check"))),
        step("clippy", Count::One, clippy),
        step("clippy wasm32", Count::One, clippy_wasm),
        step("minimum Rust", Count::One, minimum_rust),
        step("cargo test", Count::CargoTest, cargo_test),
        step("cargo doc", Count::One, cargo_doc),
        step("dist --release", Count::One, task(&["dist", "--release"])),
        step("wasm imports", Count::One, wasm_imports),
        step(SIMULATOR, Count::CargoTest, sim_tests),
        step("simulator, 300 seeds", Count::One, task(&["sim", "--seeds", "300"])),
        step("types", Count::One, |repo| npm(repo, "check")),
        step("npm test", Count::NodeTest, |repo| npm(repo, "test")),
        step("npm package", Count::One, |repo| npm(repo, "lint")),
        step("size", Count::One, task(&["size", "--dist", "packages/tabmux/dist"])),
        step("tidy", Count::One, task(&["tidy"])),
        step("fuzz", Count::One, run_fuzz(xtask.clone())),
        step("autobahn", Count::Summary, run_autobahn(xtask.clone())),
        step("cargo deny", Count::One, cargo_deny),
        step("abuse", Count::One, task(&["abuse", "--short"])),
        step("demo", Count::Summary, task(&["smoke"])),
        step("proxies", Count::Summary, run_proxies(xtask.clone())),
        step("browsers", Count::One, install_browsers(xtask.clone())),
        step("bundlers", Count::NodeTest, bundlers),
        step("runners", Count::NodeTest, |repo| tests_of(repo, "test/runners", "test")),
        step("gateway", Count::NodeTest, gateway),
        // By a PATH that has Node and no Rust.
        step("README", Count::NodeTest, |repo| tests_of(repo, "test/runners", "readme")),
        step("e2e", Count::Summary, e2e(xtask.clone())),
        step("browser bench", Count::One, browser_bench(xtask.clone())),
        step("chaos", Count::Summary, chaos(xtask.clone())),
        step("package", Count::One, task(&["package"])),
        step("release", Count::One, build_release(xtask)),
        step("tree unchanged", Count::One, move |repo| tree_unchanged(repo, before.as_deref())),
    ]
}

/// What git says of the working tree; nothing outside a git repository.
pub(super) fn tree(repo: &Repo) -> Option<String> {
    let status = cmd!(repo.sh, "git status --porcelain -uall").quiet().ignore_stderr();
    let diff = cmd!(repo.sh, "git diff HEAD").quiet().ignore_stderr();
    Some(format!("{}\n{}", status.read().ok()?, diff.read().ok()?))
}

fn step(
    name: &'static str,
    count: Count,
    work: impl Fn(&Repo) -> anyhow::Result<Outcome> + 'static,
) -> Step {
    Step { name, count, work: Box::new(work) }
}

fn clippy(repo: &Repo) -> anyhow::Result<Outcome> {
    Outcome::of(cmd!(
        repo.sh,
        "cargo clippy --workspace --all-targets --all-features -- -D warnings"
    ))
}

/// What goes into the module, as the module sees it.
fn clippy_wasm(repo: &Repo) -> anyhow::Result<Outcome> {
    repo.need_wasm_target()?;
    let packages = ["-p", "tabmux-wire", "-p", "tabmux-core", "-p", "tabmux-wasm"];
    Outcome::of(cmd!(
        repo.sh,
        "cargo clippy {packages...} --target wasm32-unknown-unknown -- -D warnings"
    ))
}

/// Checks the workspace with the `rust-version` that Cargo.toml promises. If that is the compiler
/// in use, the other steps are the check, and this step prints it.
fn minimum_rust(repo: &Repo) -> anyhow::Result<Outcome> {
    let manifest = repo.sh.read_file(repo.path("Cargo.toml"))?;
    let minimum = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let minimum = minimum.context("Cargo.toml has no rust-version")?.trim_matches('"');
    let version = cmd!(repo.sh, "rustc --version").read()?;
    if version.starts_with(&format!("rustc {minimum}.")) {
        return Outcome::of(cmd!(repo.sh, "rustc --version"));
    }
    if cmd!(repo.sh, "rustup --version").quiet().ignore_stderr().read().is_err() {
        return Ok(Outcome::Skipped { why: format!("needs rustup, or Rust {minimum}") });
    }
    cmd!(repo.sh, "rustup toolchain install {minimum} --profile minimal").quiet().run()?;
    // A folder of its own: the artefacts of another compiler would be built again and again.
    let check = cmd!(repo.sh, "cargo +{minimum} check --workspace --locked");
    Outcome::of(check.env("CARGO_TARGET_DIR", repo.target().join("minimum")))
}

/// Unit, integration and documentation tests. The module's crate is all imports from JavaScript:
/// natively there is nothing to run in it.
fn cargo_test(repo: &Repo) -> anyhow::Result<Outcome> {
    let features = "tabmux-client/rustls";
    Outcome::of(cmd!(
        repo.sh,
        "cargo test --workspace --exclude tabmux-wasm --features {features} --no-fail-fast"
    ))
}

/// The tests of the simulator that need scripts, which are there by now.
fn sim_tests(repo: &Repo) -> anyhow::Result<Outcome> {
    let test = cmd!(repo.sh, "cargo test -p tabmux-sim --test shipped");
    Outcome::of(test.env("TABMUX_HOST_SCRIPTS_NEEDED", "1"))
}

fn cargo_doc(repo: &Repo) -> anyhow::Result<Outcome> {
    let doc = cmd!(repo.sh, "cargo doc --workspace --no-deps");
    Outcome::of(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Another import than of the shell means that something leaked in that no browser offers.
fn wasm_imports(repo: &Repo) -> anyhow::Result<Outcome> {
    const SCRIPT: &str = "
        const module = new WebAssembly.Module(require('fs').readFileSync(process.argv[1]));
        const from = new Set(WebAssembly.Module.imports(module).map((i) => i.module));
        console.log('imports from:', ...from);
        process.exitCode = [...from].every((name) => name === 'shell') ? 0 : 1;
    ";
    let module = dist::generated(repo).join("mux.wasm");
    Outcome::of(cmd!(repo.sh, "node -e {SCRIPT} {module}"))
}

fn npm(repo: &Repo, script: &str) -> anyhow::Result<Outcome> {
    repo.need_node()?;
    repo.need_npm_packages()?;
    let _dir = repo.sh.push_dir(repo.package());
    Outcome::of(cmd!(repo.sh, "npm run --silent {script}"))
}

/// The package in bundlers, whose packages nobody else needs, and in Chromium.
fn bundlers(repo: &Repo) -> anyhow::Result<Outcome> {
    if !std::path::Path::new(CHROMIUM).exists() {
        return Ok(Outcome::Skipped { why: format!("needs {CHROMIUM}") });
    }
    tests_of(repo, "test/bundlers", "test")
}

/// Tests of the packed package, with npm packages of their own. The scripts are built if they are
/// not there, as in a fresh clone with `--only`.
fn tests_of(repo: &Repo, folder: &str, script: &str) -> anyhow::Result<Outcome> {
    repo.need_node()?;
    let out = dist::default_out(repo);
    if !out.join("worker.js").exists() {
        dist::build(repo, &out, true)?;
    }
    let package = repo.package().join(folder);
    repo.need_npm_packages_of(&package)?;
    let _dir = repo.sh.push_dir(package);
    Outcome::of(cmd!(repo.sh, "npm run --silent {script}"))
}

/// Thirteen libraries through the gateway.
fn gateway(repo: &Repo) -> anyhow::Result<Outcome> {
    cmd!(repo.sh, "cargo build --quiet -p tabmux-cli").run()?;
    tests_of(repo, "test/gateway", "test")
}

fn run_fuzz(xtask: PathBuf) -> impl Fn(&Repo) -> anyhow::Result<Outcome> {
    move |repo| match fuzz::missing(repo) {
        Some(why) => Ok(Outcome::Skipped { why }),
        None => Outcome::of(cmd!(repo.sh, "{xtask} fuzz --seconds 30")),
    }
}

/// The Autobahn cases that take seconds.
fn run_autobahn(xtask: PathBuf) -> impl Fn(&Repo) -> anyhow::Result<Outcome> {
    move |repo| match autobahn::obstacle(repo) {
        Some(why) => Ok(Outcome::Skipped { why }),
        None => Outcome::of(cmd!(repo.sh, "{xtask} autobahn")),
    }
}

/// Debian's nginx and haproxy in front of the server.
fn run_proxies(xtask: PathBuf) -> impl Fn(&Repo) -> anyhow::Result<Outcome> {
    move |repo| match proxies::obstacle(repo) {
        Some(why) => Ok(Outcome::Skipped { why }),
        None => Outcome::of(cmd!(repo.sh, "{xtask} proxies")),
    }
}

fn cargo_deny(repo: &Repo) -> anyhow::Result<Outcome> {
    if cmd!(repo.sh, "cargo deny --version").quiet().ignore_stderr().read().is_err() {
        return Ok(Outcome::Skipped { why: "needs cargo-deny".to_owned() });
    }
    Outcome::of(cmd!(repo.sh, "cargo deny check bans licenses sources"))
}

fn install_browsers(xtask: PathBuf) -> impl Fn(&Repo) -> anyhow::Result<Outcome> {
    move |repo| match browsers::obstacle(repo) {
        Some(why) => Ok(Outcome::Skipped { why }),
        None => Outcome::of(cmd!(repo.sh, "{xtask} browsers")),
    }
}

/// All engines at once, since their tests mostly wait. One that could not be installed is skipped
/// by name.
fn e2e(xtask: PathBuf) -> impl Fn(&Repo) -> anyhow::Result<Outcome> {
    move |repo| {
        // Browsers on a busy machine: a failure counts if it comes again, and is named if not.
        let e2e = cmd!(repo.sh, "{xtask} e2e -- --at-once --tries 3");
        Outcome::of(e2e.env("TABMUX_E2E_SKIP_MISSING", "1"))
    }
}

/// Whether the bench of browsers runs through and all its messages come, whatever time they take.
fn browser_bench(xtask: PathBuf) -> impl Fn(&Repo) -> anyhow::Result<Outcome> {
    move |repo| {
        let bench = cmd!(repo.sh, "{xtask} bench browser --short");
        Outcome::of(bench.env("TABMUX_E2E_SKIP_MISSING", "1"))
    }
}

/// A short run in each engine, always the same: longer ones are `cargo xtask chaos --minutes M`.
/// As with the browser tests a failure counts if it comes again, and is named if not.
fn chaos(xtask: PathBuf) -> impl Fn(&Repo) -> anyhow::Result<Outcome> {
    move |repo| {
        let run = || {
            let chaos = cmd!(repo.sh, "{xtask} chaos --seed 7 --seconds 20");
            process::capture(chaos.env("TABMUX_E2E_SKIP_MISSING", "1"))
        };
        let first = run()?;
        if first.status.success() {
            return Ok(Outcome::Ran { status: first.status, output: first.output });
        }
        let again = run()?;
        let why = first.output.lines().filter(|line| line.starts_with("FAILED: "));
        let why: String = why.map(|line| format!("unsteady: chaos {line}\n")).collect();
        Ok(Outcome::Ran { status: again.status, output: why + &again.output })
    }
}

/// The static binary, which needs a target that `rustup` can add.
fn build_release(xtask: PathBuf) -> impl Fn(&Repo) -> anyhow::Result<Outcome> {
    move |repo| match release::obstacle(repo) {
        Some(why) => Ok(Outcome::Skipped { why }),
        None => Outcome::of(cmd!(repo.sh, "{xtask} release")),
    }
}

/// Generated files are ignored or equal to what is committed; tests leave nothing behind.
fn tree_unchanged(repo: &Repo, before: Option<&str>) -> anyhow::Result<Outcome> {
    let Some(before) = before else {
        return Ok(Outcome::Skipped { why: "not a git repository".to_owned() });
    };
    if tree(repo).as_deref() != Some(before) {
        let status = cmd!(repo.sh, "git status --porcelain -uall").quiet().read()?;
        bail!("the checks changed the working tree; git status says now:\n{status}");
    }
    Outcome::of(cmd!(repo.sh, "git --version"))
}
