//! The shipped scripts, as `build.mjs --host` writes them. They are read when a run begins, so that
//! a change of them needs no build of the simulator.

use std::{env, fs, path::PathBuf};

use super::code::Code;
use crate::credit::ENOUGH;

/// The environment variable with the folder of the scripts. Without it the repository's build is
/// used.
const VARIABLE: &str = "TABMUX_HOST_SCRIPTS";
/// The import of the other tiers, by which a page loads them if there is no SharedWorker.
const IMPORT: &str = "import(\"./tiers.js";

/// The place in the library that says how much a page hears before it gives credit back.
const GIVES_BACK: &str = ">=65536&&";
/// Number of digits in the name of a build.
const BUILD_DIGITS: usize = 8;

/// The shipped scripts of one build.
#[derive(Clone, Debug)]
pub struct Scripts {
    /// The page library, `client.js`.
    pub client: Code,
    /// The chunk of the page library for the other tiers.
    pub tiers: Code,
    /// The script of the worker.
    pub worker: Code,
}

/// Returns the folder of the scripts.
pub fn folder() -> PathBuf {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packages/tabmux/host");
    env::var_os(VARIABLE).map_or_else(|| PathBuf::from(built), PathBuf::from)
}

impl Scripts {
    /// Reads the scripts from their folder.
    ///
    /// # Errors
    /// Returns an error if they are missing. The text says how to make them.
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
        // The engine loads modules at once. The world lets a module take its time, or fail.
        let client = client.replace(IMPORT, &IMPORT.replace("import", "tabmuxImport"));
        if client.matches(GIVES_BACK).count() != 1 {
            return Err(format!("client.js does not give credit back by one {GIVES_BACK}"));
        }
        // The limit is small, so that a run of short messages reaches it, as hubs have small
        // limits.
        let client = client.replace(GIVES_BACK, &format!(">={ENOUGH}&&"));
        let it = Self::new(client, read("tiers.js")?, read("worker.js")?);
        match it.build() {
            Some(_) => Ok(it),
            None => Err("the scripts do not say of which build they are".to_owned()),
        }
    }

    /// Returns the same scripts with the name of another build.
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

    /// Returns the build that all three scripts name.
    fn build(&self) -> Option<&str> {
        let is_build =
            |it: &&str| it.len() == BUILD_DIGITS && it.bytes().all(|byte| byte.is_ascii_hexdigit());
        let in_all =
            |it: &&str| self.tiers.source().contains(it) && self.worker.source().contains(it);
        self.client.source().split('"').filter(is_build).find(in_all)
    }
}
