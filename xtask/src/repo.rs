//! The repository's folders, and the few programs that every task needs.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use xshell::{Shell, cmd};

/// The repository: its root folder and a shell that runs programs there.
pub(crate) struct Repo {
    pub(crate) root: PathBuf,
    pub(crate) sh: Shell,
}

impl Repo {
    pub(crate) fn open() -> anyhow::Result<Self> {
        // `cargo run` sets the variable. The folder of the manifest is `xtask`.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().context("xtask has no parent folder")?.to_owned();
        let sh = Shell::new()?;
        sh.change_dir(&root);
        Ok(Self { root, sh })
    }

    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Returns the folder of the npm package.
    pub(crate) fn package(&self) -> PathBuf {
        self.path("packages/tabmux")
    }

    /// Returns the target folder of Cargo.
    pub(crate) fn target(&self) -> PathBuf {
        match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => self.path(dir),
            None => self.path("target"),
        }
    }

    /// Returns the path of an executable of this workspace in a debug build.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        self.target().join("debug").join(name)
    }

    /// Fails unless Node 20 or newer is installed.
    pub(crate) fn need_node(&self) -> anyhow::Result<()> {
        let advice = "install Node 20 or newer (https://nodejs.org)";
        let Ok(version) = cmd!(self.sh, "node --version").quiet().ignore_stderr().read() else {
            bail!("`node` is not on the path: {advice}");
        };
        match node_major(&version) {
            Some(major) if major >= 20 => Ok(()),
            _ => bail!("`node` is {}: {advice}", version.trim()),
        }
    }

    /// Adds the WebAssembly target of Rust if it is missing.
    pub(crate) fn need_wasm_target(&self) -> anyhow::Result<()> {
        self.need_target("wasm32-unknown-unknown")
    }

    /// Adds a target of Rust if it is missing.
    pub(crate) fn need_target(&self, target: &str) -> anyhow::Result<()> {
        let libdir = cmd!(self.sh, "rustc --print target-libdir --target {target}");
        let libdir = libdir.quiet().read().context("`rustc` does not run")?;
        if Path::new(&libdir).is_dir() {
            return Ok(());
        }
        if cmd!(self.sh, "rustup target add {target}").quiet().run().is_err() {
            bail!(
                "the Rust target {target} is missing and `rustup target add {target}` did not \
                 work: install it with rustup, or with the packages your Rust came from"
            );
        }
        Ok(())
    }

    /// Runs `npm ci`, unless package-lock.json is the one that was installed last. Returns true
    /// if it ran.
    pub(crate) fn need_npm_packages(&self) -> anyhow::Result<bool> {
        self.need_npm_packages_of(&self.package())
    }

    /// Does the same for another package.
    pub(crate) fn need_npm_packages_of(&self, package: &Path) -> anyhow::Result<bool> {
        let lock = self.sh.read_file(package.join("package-lock.json"))?;
        let stamp = package.join("node_modules/.installed-lock");
        if self.sh.read_file(&stamp).is_ok_and(|installed| installed == lock) {
            return Ok(false);
        }
        let _dir = self.sh.push_dir(package);
        let npm = cmd!(self.sh, "npm ci --no-audit --no-fund");
        crate::process::quiet(npm).context("the npm packages could not be installed")?;
        self.sh.write_file(&stamp, lock)?;
        Ok(true)
    }
}

fn node_major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::node_major;

    #[test]
    fn node_version_is_read() {
        assert_eq!(node_major("v20.11.1\n"), Some(20));
        assert_eq!(node_major("v8.0.0"), Some(8));
        assert_eq!(node_major("command not found"), None);
    }
}
