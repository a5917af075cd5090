//! The paths of the built product and the pages.

use std::path::{Path, PathBuf};

use crate::Result;

/// Returns the `tabmux` binary: `TABMUX_BIN`, or the one in the folder of the harness.
pub fn server_binary() -> Result<PathBuf> {
    let harness = std::env::current_exe().map_err(|error| error.to_string())?;
    let profile = harness.ancestors().nth(2).unwrap_or(&harness);
    existing(
        std::env::var_os("TABMUX_BIN").map(PathBuf::from),
        profile.join("tabmux"),
        "run `cargo build -p tabmux-cli`",
    )
}

/// Returns the `tabmux` binary of protocol version 1: `TABMUX_VERSION_1_BIN`. Returns `None` if
/// that is not set, because the repository has its source only in its history.
pub fn version_1_binary() -> Option<PathBuf> {
    std::env::var_os("TABMUX_VERSION_1_BIN").map(PathBuf::from)
}

/// Returns the folder with the page library of protocol version 1.
pub fn version_1_assets() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("version-1")
}

/// Returns the server that numbers its messages: `TABMUX_CHAOS_SERVER`, or the one in the folder of
/// the harness.
pub fn numbers_binary() -> Result<PathBuf> {
    let harness = std::env::current_exe().map_err(|error| error.to_string())?;
    let profile = harness.ancestors().nth(2).unwrap_or(&harness);
    existing(
        std::env::var_os("TABMUX_CHAOS_SERVER").map(PathBuf::from),
        profile.join("examples/chaos"),
        "run `cargo build -p tabmux-server --example chaos`",
    )
}

/// Returns the server with the handlers of web-platform-tests: `TABMUX_WPT_SERVER`, or the one in
/// the folder of the harness.
pub fn wpt_binary() -> Result<PathBuf> {
    let harness = std::env::current_exe().map_err(|error| error.to_string())?;
    // The harness is `target/debug/deps/browsers-HASH`, or `target/debug/wpt`.
    let folders = harness.ancestors().skip(1).take(2);
    let built = folders.map(|folder| folder.join("examples/wpt")).find(|file| file.exists());
    existing(
        std::env::var_os("TABMUX_WPT_SERVER").map(PathBuf::from),
        built.unwrap_or_else(|| "examples/wpt".into()),
        "run `cargo build -p tabmux-server --example wpt`",
    )
}

/// Returns the folder with the server of web-platform-tests and a fixture in their format.
pub fn wpt() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("wpt")
}

/// Returns the example app `rooms`: `TABMUX_ROOMS`, or the one in the folder of the harness.
pub fn rooms_binary() -> Result<PathBuf> {
    let harness = std::env::current_exe().map_err(|error| error.to_string())?;
    let profile = harness.ancestors().nth(2).unwrap_or(&harness);
    existing(
        std::env::var_os("TABMUX_ROOMS").map(PathBuf::from),
        profile.join("rooms"),
        "run `cargo build -p tabmux-example-rooms`",
    )
}

/// Returns the program that replays traces: `TABMUX_TRACE`, or the one in the folder of the
/// harness.
pub fn trace_binary() -> Result<PathBuf> {
    let harness = std::env::current_exe().map_err(|error| error.to_string())?;
    let profile = harness.ancestors().nth(2).unwrap_or(&harness);
    existing(
        std::env::var_os("TABMUX_TRACE").map(PathBuf::from),
        profile.join("tabmux-trace"),
        "run `cargo build -p tabmux-trace`",
    )
}

/// Returns the folder with `client.js` and `worker.js`: `TABMUX_DIST`, or the package's `dist`.
pub fn assets() -> Result<PathBuf> {
    let folder = existing(
        std::env::var_os("TABMUX_DIST").map(PathBuf::from),
        package().join("dist"),
        "run `cargo xtask dist`",
    )?;
    existing(None, folder.join("client.js"), "run `cargo xtask dist`")?;
    Ok(folder)
}

/// Returns the id of the build of the scripts in this folder.
pub fn build(assets: &Path) -> Result<String> {
    let client = assets.join("client.js");
    let script = std::fs::read_to_string(&client).map_err(|error| error.to_string())?;
    let (_, rest) = script.split_once("build:\"").ok_or("client.js names no build")?;
    let (build, _) = rest.split_once('"').ok_or("client.js names no build")?;
    Ok(build.to_owned())
}

/// Returns the folder of the npm package, where Node finds `ws`.
pub fn package() -> PathBuf {
    root().join("packages/tabmux")
}

/// Returns the folder with the test page.
pub fn pages() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("pages")
}

/// Returns the script of the plain WebSocket server.
pub fn plain_server() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("plain-server.mjs")
}

/// Returns the script of the plain WebSocket server of `cargo xtask bench browser`.
pub fn figures_server() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("figures-server.mjs")
}

/// Returns the tabmux server of `cargo xtask bench browser`: `TABMUX_FIGURES_SERVER`, or the one in
/// the folder of the harness.
pub fn figures_binary() -> Result<PathBuf> {
    let harness = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = harness.parent().unwrap_or(&harness);
    existing(
        std::env::var_os("TABMUX_FIGURES_SERVER").map(PathBuf::from),
        folder.join("examples/figures"),
        "run `cargo build -p tabmux-server --example figures`",
    )
}

/// Returns the root folder of the repository.
pub fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

fn existing(chosen: Option<PathBuf>, default: PathBuf, advice: &str) -> Result<PathBuf> {
    let path = chosen.unwrap_or(default);
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is missing: {advice}", path.display()))
}
