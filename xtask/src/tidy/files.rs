//! Checks the sizes of files, lines that must not be there, and lines that must.

use anyhow::Context;
use xshell::cmd;

use crate::{repo::Repo, tidy::Findings};

const MAX_LINES: usize = 600;
const MAX_COLUMNS: usize = 100;
const MAX_BYTES: usize = 256 * 1024;

/// Files that may be longer than [`MAX_LINES`] or wider than [`MAX_COLUMNS`], and why.
const LONG: &[(&str, &str)] = &[];

/// Crate roots that must forbid unsafe code.
const SAFE: &[&str] = &[
    "bench/src/main.rs",
    "crates/wire/src/lib.rs",
    "crates/core/src/lib.rs",
    "crates/server/src/lib.rs",
    "crates/client/src/lib.rs",
    "examples/rooms/src/lib.rs",
    "examples/rooms/src/main.rs",
    "crates/cli/src/lib.rs",
    "crates/cli/src/main.rs",
    "crates/sim/src/main.rs",
    "crates/trace/src/lib.rs",
    "crates/trace/src/main.rs",
];

/// Marks of work that was put off. They are in two halves, so that this file does not contain them.
const MARKS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
];

/// The files that may load the WebAssembly module. A page never does.
const LOADERS: [&str; 2] = ["packages/tabmux/src/hosting.ts", "packages/tabmux/src/worker.ts"];

/// The files of the repository, including those that are not committed yet.
pub(super) struct Files(Vec<File>);

pub(super) struct File {
    /// The path relative to the root, with forward slashes.
    pub(super) path: String,
    /// The text of the file. It is empty if the file is no text.
    pub(super) text: String,
    bytes: usize,
}

#[cfg(test)]
impl File {
    /// Returns a file that is not on disk.
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), bytes: text.len() }
    }
}

impl Files {
    pub(super) fn list(repo: &Repo) -> anyhow::Result<Self> {
        let list = cmd!(repo.sh, "git ls-files --cached --others --exclude-standard");
        let list = list.quiet().read().context("tidy needs a git repository")?;
        let files = list.lines().filter_map(|path| {
            // The file is deleted, and that is not committed yet.
            let bytes = std::fs::read(repo.path(path)).ok()?;
            let length = bytes.len();
            let text = String::from_utf8(bytes).unwrap_or_default();
            Some(File { path: path.to_owned(), text, bytes: length })
        });
        Ok(Self(files.collect()))
    }

    pub(super) fn with_extension(&self, wanted: &[&str]) -> impl Iterator<Item = &File> {
        self.0.iter().filter(|file| {
            file.path.rsplit_once('.').is_some_and(|(_, extension)| wanted.contains(&extension))
        })
    }

    pub(super) fn text_of(&self, path: &str) -> Option<&str> {
        self.0.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }
}

pub(super) fn check(files: &Files) -> Findings {
    let mut findings = Findings::new();
    for file in &files.0 {
        if file.bytes > MAX_BYTES {
            findings.push(format!(
                "{}: {} KiB, more than {}: make it at build time",
                file.path,
                file.bytes / 1024,
                MAX_BYTES / 1024
            ));
        }
    }
    for file in files.with_extension(&["rs", "ts"]) {
        findings.extend(too_long(file));
    }
    for file in files.with_extension(&["rs", "ts", "js", "mjs", "html", "css"]) {
        findings.extend(put_off(file));
    }
    for file in files.with_extension(&["ts"]) {
        findings.extend(loads_wasm(file));
    }
    findings.extend(SAFE.iter().filter_map(|path| is_unsafe(files, path)));
    findings.extend(versions(files));
    findings
}

fn too_long(file: &File) -> Findings {
    let mut findings = Findings::new();
    if LONG.iter().any(|(path, _)| *path == file.path) {
        return findings;
    }
    let lines = file.text.lines().count();
    if lines > MAX_LINES {
        findings.push(format!(
            "{}: {lines} lines, more than {MAX_LINES}: split it by what its parts know",
            file.path
        ));
    }
    for (number, line) in file.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > MAX_COLUMNS {
            findings.push(format!(
                "{}:{}: {columns} columns, more than {MAX_COLUMNS}: break the line",
                file.path,
                number + 1
            ));
        }
    }
    findings
}

fn put_off(file: &File) -> Findings {
    let mut findings = Findings::new();
    for (number, line) in file.text.lines().enumerate() {
        for mark in MARKS.iter().filter(|mark| line.contains(**mark)) {
            findings.push(format!(
                "{}:{}: `{mark}`: do it now, or open an issue and say here what is",
                file.path,
                number + 1
            ));
        }
    }
    findings
}

fn loads_wasm(file: &File) -> Findings {
    let mut findings = Findings::new();
    if LOADERS.contains(&&*file.path) {
        return findings;
    }
    for (number, line) in file.text.lines().enumerate() {
        if line.contains("/bindings.js'") && line.contains("from") {
            findings.push(format!(
                "{}:{}: imports what calls the wasm module; only the worker may",
                file.path,
                number + 1
            ));
        }
    }
    findings
}

fn is_unsafe(files: &Files, path: &str) -> Option<String> {
    match files.text_of(path) {
        None => Some(format!("{path}: is not there: correct the list in tidy/files.rs")),
        Some(text) if text.contains("#![forbid(unsafe_code)]") => None,
        Some(_) => Some(format!("{path}: add `#![forbid(unsafe_code)]`")),
    }
}

/// The page library and the server are published together, so their versions must be equal.
fn versions(files: &Files) -> Option<String> {
    let of = |path: &str, start: &str| {
        let mut lines = files.text_of(path)?.lines().map(str::trim);
        let line = lines.find(|line| line.starts_with(start))?;
        Some(line.strip_prefix(start)?.trim_matches([' ', '=', ':', ',', '"']).to_owned())
    };
    let crates = of("Cargo.toml", "version");
    let package = of("packages/tabmux/package.json", "\"version\"");
    (crates != package).then(|| {
        let [crates, package] = [crates, package].map(Option::unwrap_or_default);
        format!("packages/tabmux/package.json: version {package}, Cargo.toml says {crates}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File::new(path, text)
    }

    #[test]
    fn long_files_and_wide_lines_are_found() {
        assert!(too_long(&file("a.rs", &"x\n".repeat(600))).is_empty());
        assert_eq!(too_long(&file("a.rs", &"x\n".repeat(601))).len(), 1);
        // The limit counts columns, not bytes.
        assert!(too_long(&file("a.rs", &"é".repeat(100))).is_empty());
        let wide = too_long(&file("a.rs", &format!("x\n{}", "é".repeat(101))));
        assert!(wide[0].starts_with("a.rs:2: 101 columns"), "{wide:?}");
    }

    #[test]
    fn put_off_work_is_found() {
        let mark = MARKS[0];
        let findings = put_off(&file("a.ts", &format!("fine\n// {mark}: later\n")));
        assert!(findings[0].starts_with("a.ts:2: "), "{findings:?}");
    }

    #[test]
    fn only_the_worker_loads_the_module() {
        let import = "import { makeHub } from './bindings.js';";
        assert!(loads_wasm(&file(LOADERS[0], import)).is_empty());
        assert_eq!(loads_wasm(&file("packages/tabmux/src/index.ts", import)).len(), 1);
        assert!(loads_wasm(&file("a.ts", "// see bindings.js for the calls")).is_empty());
    }

    #[test]
    fn missing_forbid_and_missing_file_are_found() {
        let files = Files(vec![
            file("good.rs", "//! Doc.\n#![forbid(unsafe_code)]\n"),
            file("bad.rs", "fn main() {}\n"),
        ]);
        assert_eq!(is_unsafe(&files, "good.rs"), None);
        assert!(is_unsafe(&files, "bad.rs").is_some());
        assert!(is_unsafe(&files, "gone.rs").is_some());
    }

    #[test]
    fn differing_versions_are_found() {
        let with = |package: &str| {
            Files(vec![
                file("Cargo.toml", "[workspace.package]\nversion = \"1.2.3\"\n"),
                file("packages/tabmux/package.json", package),
            ])
        };
        assert_eq!(versions(&with("{\n  \"version\": \"1.2.3\",\n}")), None);
        assert!(versions(&with("{\n  \"version\": \"1.2.4\",\n}")).is_some());
    }
}
