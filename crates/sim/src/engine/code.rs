//! Scripts that many realms run. Each is compiled once, and then loaded as bytecode. Parsing them
//! in each realm took a quarter of a run's time. No other file of the crate has `unsafe`.

use std::sync::OnceLock;

use rquickjs::{
    Ctx, Module,
    module::{Declared, WriteOptions},
};

/// A script that is a module of this name.
#[derive(Clone, Debug)]
pub struct Code {
    name: &'static str,
    source: String,
    compiled: OnceLock<Vec<u8>>,
}

impl Code {
    /// Returns a script that is not compiled yet.
    pub const fn new(name: &'static str, source: String) -> Self {
        Self { name, source, compiled: OnceLock::new() }
    }

    /// Returns the text of the script.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Declares the module in this realm, without running it.
    ///
    /// # Errors
    /// Returns an error if the script is no module, or if there is no memory.
    pub fn declare<'js>(&self, ctx: &Ctx<'js>) -> rquickjs::Result<Module<'js, Declared>> {
        if let Some(bytes) = self.compiled.get() {
            return load(ctx, bytes);
        }
        let module = Module::declare(ctx.clone(), self.name, self.source.as_str())?;
        let bytes = module.write(WriteOptions::default())?;
        // If another thread was first, its bytes are the same.
        let _ = self.compiled.set(bytes);
        Ok(module)
    }
}

#[expect(
    unsafe_code,
    reason = "the engine trusts bytecode, which a safe function cannot vouch for"
)]
fn load<'js>(ctx: &Ctx<'js>, bytes: &[u8]) -> rquickjs::Result<Module<'js, Declared>> {
    // SAFETY: `declare` got these bytes from the engine of this process, and nobody changed them.
    // The engine copies what it needs of them.
    unsafe { Module::load(ctx.clone(), bytes) }
}
