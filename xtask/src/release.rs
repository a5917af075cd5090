//! `cargo xtask release`: builds what is published, with checksums.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use xshell::cmd;

use crate::{
    dist, flags,
    process::{quiet, step},
    repo::Repo,
    smoke,
};

/// A binary that is linked against musl needs nothing of the system on which it runs.
const TARGET: &str = "x86_64-unknown-linux-musl";
/// The variable that names the C compiler for that target.
const MUSL_CC: &str = "CC_x86_64_unknown_linux_musl";

/// The texts in the archive, besides the binary, which contains the scripts.
const TEXTS: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"];

pub(crate) fn run(repo: &Repo, flags: flags::Release) -> anyhow::Result<()> {
    let target = flags.target.as_deref().unwrap_or(TARGET);
    let out = flags.out.map_or_else(|| repo.target().join("dist"), |dir| repo.path(dir));
    let version = version(repo)?;
    repo.need_target(target)?;
    dist::build(repo, &dist::default_out(repo), true)?;
    step(&format!("server for {target}"), || {
        let package = ["-p", "tabmux-cli", "--bin", "tabmux"];
        // The C code of the library that checks certificates needs nothing of a C library, so the
        // compiler of this machine will do. The variable names another one.
        let _compiler =
            std::env::var_os(MUSL_CC).is_none().then(|| repo.sh.push_env(MUSL_CC, "cc"));
        quiet(cmd!(repo.sh, "cargo build --release --locked {package...} --target {target}"))
    })?;
    let binary = repo.target().join(target).join("release/tabmux");
    step("the binary is static, and serves the scripts", || check(repo, &binary, &version))?;
    repo.sh.remove_path(&out)?;
    repo.sh.create_dir(&out)?;
    step("npm package", || npm(repo, &out))?;
    step("archive", || archive(repo, &out, &binary, &format!("tabmux-{version}-{target}")))?;
    if let Some(why) = deb_obstacle(repo) {
        println!("skipped: Debian package ({why})");
    } else {
        step("Debian package", || deb(repo, &out, target, &version))?;
    }
    step("checksums", || checksums(repo, &out))?;
    println!("     {}", out.strip_prefix(&repo.root).unwrap_or(&out).display());
    Ok(())
}

/// Returns the reason why no static binary can be built here, if there is one.
pub(crate) fn obstacle(repo: &Repo) -> Option<String> {
    repo.need_target(TARGET).err().map(|error| error.to_string())
}

/// Returns the version of the workspace. Tidy checks that the npm package has the same.
fn version(repo: &Repo) -> anyhow::Result<String> {
    let manifest = repo.sh.read_file(repo.path("packages/tabmux/package.json"))?;
    let manifest: serde_json::Value = serde_json::from_str(&manifest)?;
    manifest["version"].as_str().map(str::to_owned).context("package.json has no version")
}

fn check(repo: &Repo, binary: &Path, version: &str) -> anyhow::Result<()> {
    // `ldd` fails for a binary that needs no interpreter, or says that the binary is static.
    let linked = cmd!(repo.sh, "ldd {binary}").quiet().ignore_status().ignore_stderr().read()?;
    ensure!(!linked.contains("=>"), "{} is not static:\n{linked}", binary.display());
    let said = cmd!(repo.sh, "{binary} --version").quiet().read()?;
    ensure!(said == format!("tabmux {version}"), "it says `{said}`, and is {version}");
    smoke::serves(binary)
}

fn npm(repo: &Repo, out: &Path) -> anyhow::Result<()> {
    let _dir = repo.sh.push_dir(repo.package());
    quiet(cmd!(repo.sh, "npm pack --pack-destination {out}"))
}

/// Packs one folder of that name with the binary and the texts.
fn archive(repo: &Repo, out: &Path, binary: &Path, name: &str) -> anyhow::Result<()> {
    let folder = out.join(name);
    repo.sh.create_dir(&folder)?;
    repo.sh.copy_file(binary, &folder)?;
    for text in TEXTS {
        repo.sh.copy_file(repo.path(text), &folder)?;
    }
    let file = out.join(format!("{name}.tar.gz"));
    // The same content gives the same bytes.
    let same = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"];
    quiet(cmd!(repo.sh, "tar -C {out} {same...} -czf {file} {name}"))?;
    repo.sh.remove_path(&folder)?;
    Ok(())
}

fn deb_obstacle(repo: &Repo) -> Option<String> {
    let deb = cmd!(repo.sh, "cargo deb --version").quiet().ignore_stderr().read();
    deb.is_err().then(|| "needs cargo-deb: cargo install cargo-deb".to_owned())
}

/// Builds the Debian package, and checks that the program in it runs.
fn deb(repo: &Repo, out: &Path, target: &str, version: &str) -> anyhow::Result<()> {
    let options = ["-p", "tabmux-cli", "--no-build", "--target", target, "--output"];
    quiet(cmd!(repo.sh, "cargo deb {options...} {out}"))?;
    let files = repo.sh.read_dir(out)?;
    let is_deb = |file: &&PathBuf| file.extension().is_some_and(|ending| ending == "deb");
    let file = files.iter().find(is_deb).context("cargo deb made no package")?;
    let folder = out.join("deb");
    quiet(cmd!(repo.sh, "dpkg-deb --extract {file} {folder}"))?;
    let binary = folder.join("usr/bin/tabmux");
    let said = cmd!(repo.sh, "{binary} --version").quiet().read()?;
    ensure!(said == format!("tabmux {version}"), "it says `{said}`, and is {version}");
    smoke::serves(&binary)?;
    let units = "usr/lib/systemd/system";
    let (service, socket) = (format!("{units}/tabmux.service"), format!("{units}/tabmux.socket"));
    for file in ["etc/tabmux/tabmux.toml", &service, &socket] {
        ensure!(folder.join(file).exists(), "the package has no /{file}");
    }
    repo.sh.remove_path(folder)?;
    Ok(())
}

fn checksums(repo: &Repo, out: &Path) -> anyhow::Result<()> {
    let _dir = repo.sh.push_dir(out);
    let files = repo.sh.read_dir(out)?;
    let mut names: Vec<_> = files.iter().filter_map(|file| file.file_name()).collect();
    names.sort_unstable();
    let sums = cmd!(repo.sh, "sha256sum {names...}").quiet().read()?;
    repo.sh.write_file(out.join("SHA256SUMS"), sums + "\n")?;
    quiet(cmd!(repo.sh, "sha256sum --check SHA256SUMS"))
}
