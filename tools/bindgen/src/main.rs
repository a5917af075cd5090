//! `bindgen IN.wasm OUT_DIR`: writes the JavaScript glue of the wasm module.
//!
//! A member of the workspace, so that Cargo.lock holds one version for this tool and for the
//! `wasm-bindgen` the module links: they cannot differ.

use std::path::PathBuf;

use anyhow::{Context, bail};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> anyhow::Result<()> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [input, out] = args.as_slice() else {
        bail!("usage: bindgen IN.wasm OUT_DIR");
    };
    let stem = input
        .file_stem()
        .and_then(|stem| stem.to_str())
        .with_context(|| format!("{} has no file name", input.display()))?
        .to_owned();
    // The module is instantiated from bytes inlined in the worker script, so the loader must not
    // carry a path of its own.
    Bindgen::new()
        .input_path(input)
        .web(true)?
        .omit_default_module_path(true)
        .reset_state_function(true)
        .remove_name_section(true)
        .typescript(true)
        .generate(out)
        .with_context(|| format!("no glue for {}", input.display()))?;
    // Types of the raw exports: nobody imports them, and they would shadow the declaration that
    // says what importing the .wasm yields (its bytes).
    let raw = out.join(format!("{stem}_bg.wasm.d.ts"));
    std::fs::remove_file(&raw).with_context(|| format!("cannot remove {}", raw.display()))
}
