//! Lists the scripts of the page library, which become a part of the binary.
//!
//! They are in the folder `scripts` of this crate. In a clone, `cargo xtask dist` writes it. A
//! published crate contains it.

use std::{env, error::Error, fmt::Write as _, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let root = env::var("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&root);
    let folder = root.join("scripts");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names = Vec::new();
    if folder.is_dir() {
        for file in fs::read_dir(&folder)? {
            names.push(file?.file_name().into_string().map_err(|_| "a script has a strange name")?);
        }
    }
    names.sort_unstable();
    if !names.iter().any(|name| name == "worker.js") {
        if !root.join("../../packages/tabmux").is_dir() {
            let folder = folder.display();
            return Err(format!("this package was made without its scripts: no {folder}").into());
        }
        println!(
            "cargo::warning=the binary gets no scripts, so `tabmux serve` needs --assets; \
             `cargo xtask dist --release` builds them"
        );
    }
    let mut table = String::from("&[\n");
    for name in &names {
        println!("cargo::rerun-if-changed={}", folder.join(name).display());
        writeln!(table, "    ({name:?}, include_bytes!({:?})),", folder.join(name))?;
    }
    table.push_str("]\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("scripts.rs"), table)?;
    Ok(())
}
