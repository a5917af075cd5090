//! Debian's packages: installs those that are missing.

use std::path::Path;

use anyhow::bail;
use xshell::cmd;

use crate::{
    process::{quiet, step},
    repo::Repo,
};

/// Installs packages, or fails with the command that would do it.
pub(crate) fn install(repo: &Repo, missing: &[&str]) -> anyhow::Result<()> {
    if let Some(why) = obstacle(repo, missing) {
        bail!("{why}");
    }
    step("apt-get update", || quiet(cmd!(repo.sh, "apt-get update")))?;
    step(&format!("install {}", missing.join(" ")), || {
        let install = cmd!(repo.sh, "apt-get install -y --no-install-recommends {missing...}");
        quiet(install.env("DEBIAN_FRONTEND", "noninteractive"))
    })
}

/// Returns the reason why missing packages cannot be installed from here, with the command that
/// would do it.
pub(crate) fn obstacle(repo: &Repo, missing: &[&str]) -> Option<String> {
    if missing.is_empty() {
        return None;
    }
    let command = format!(
        "apt-get update && apt-get install -y --no-install-recommends {}",
        missing.join(" ")
    );
    if !Path::new("/usr/bin/apt-get").exists() {
        return Some(format!("{} missing and no apt-get here", missing.join(", ")));
    }
    let user = cmd!(repo.sh, "id -u").quiet().read();
    if user.is_ok_and(|id| id == "0") {
        return None;
    }
    Some(format!("needs root; run: sudo sh -c '{command}'"))
}
