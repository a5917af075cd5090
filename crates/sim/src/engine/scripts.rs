//! The shipped scripts, as `build.mjs --host` writes them. They are read when a run begins, so that
//! a change of them needs no build of the simulator.

use std::{env, fs, path::PathBuf};

use super::code::Code;
use crate::credit::ENOUGH;

/// Where they are, unless the build of the repository is meant.
const VARIABLE: &str = "TABMUX_HOST_SCRIPTS";
/// What a page loads where there is no SharedWorker.
const IMPORT: &str = "import(\"./tiers.js";

/// How much a page hears on a socket before it lets the server send as much again.
const GIVES_BACK: &str = ">=65536&&";
/// Digits of the name of a build.
const BUILD_DIGITS: usize = 8;

/// The shipped scripts.
#[derive(Clone, Debug)]
pub struct Scripts {
    /// The page library.
    pub client: Code,
    /// What it loads for the other tiers.
    pub tiers: Code,
    /// The worker.
    pub worker: Code,
}

/// The folder they are in.
pub fn folder() -> PathBuf {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packages/tabmux/host");
    env::var_os(VARIABLE).map_or_else(|| PathBuf::from(built), PathBuf::from)
}

impl Scripts {
    /// Reads them.
    ///
    /// # Errors
    /// Where they are not, and how to make them.
    pub fn read() -> Result<Self, String> {
        let folder = folder();
        let read = |name: &str| {
            fs::read_to_string(folder.join(name)).map_err(|error| {
                let folder = folder.display();
                format!("{folder}/{name}: {error}; `cargo xtask host` makes the scripts")
            })
        };
        let client = read("client.js")?;
        if client.matches(IMPORT).count() != 1 {
            return Err(format!("client.js does not load tiers.js by one {IMPORT}"));
        }
        // The engine loads modules at once; the world lets it take its time, or fail.
        let client = client.replace(IMPORT, &IMPORT.replace("import", "tabmuxImport"));
        if client.matches(GIVES_BACK).count() != 1 {
            return Err(format!("client.js does not give credit back by one {GIVES_BACK}"));
        }
        // So that a run of short messages reaches it, as hubs have small limits.
        let client = client.replace(GIVES_BACK, &format!(">={ENOUGH}&&"));
        let it = Self::new(client, read("tiers.js")?, read("worker.js")?);
        match it.build() {
            Some(_) => Ok(it),
            None => Err("the scripts do not say of which build they are".to_owned()),
        }
    }

    /// The same scripts as another build has them.
    #[must_use]
    pub fn next_build(&self) -> Self {
        let Some(build) = self.build() else { return self.clone() };
        let number = u32::from_str_radix(build, 16).unwrap_or_default();
        let next = format!("{:08x}", number.wrapping_add(1));
        let change = |code: &Code| code.source().replace(build, &next);
        Self::new(change(&self.client), change(&self.tiers), change(&self.worker))
    }

    const fn new(client: String, tiers: String, worker: String) -> Self {
        Self {
            client: Code::new("client.js", client),
            tiers: Code::new("tiers.js", tiers),
            worker: Code::new("worker.js", worker),
        }
    }

    /// The build that all three name.
    fn build(&self) -> Option<&str> {
        let is_build =
            |it: &&str| it.len() == BUILD_DIGITS && it.bytes().all(|byte| byte.is_ascii_hexdigit());
        let in_all =
            |it: &&str| self.tiers.source().contains(it) && self.worker.source().contains(it);
        self.client.source().split('"').filter(is_build).find(in_all)
    }
}
