//! Finds the files that contain tests, and their kinds.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::Result;

/// Folders of files that tests use, and that contain no tests.
const HELPERS: [&str; 4] = ["handlers", "resources", "support", "tools"];

/// The folder of the tests of `WebSocketStream`, which tabmux does not replace.
const STREAM: &str = "/websockets/stream/";

/// A page with tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The path of the page, with its query.
    pub page: String,
    /// True if the page says that it takes long.
    pub is_long: bool,
}

/// The tests of a folder.
#[derive(Debug, Default)]
pub struct Cases {
    /// The cases that can be run, sorted by their pages.
    pub all: Vec<Case>,
    /// Pages that need TLS, HTTP/2 or something else that is not served, and pages of another
    /// interface.
    pub left_out: Vec<String>,
}

impl Cases {
    /// Finds the tests below a folder, which is served under its own name.
    pub fn find(folder: &Path) -> Result<Self> {
        let name = folder.file_name().ok_or("the folder has no name")?.to_string_lossy();
        let mut cases = Self::default();
        cases.walk(folder, &format!("/{name}"))?;
        cases.all.sort_by(|one, other| one.page.cmp(&other.page));
        cases.left_out.sort_unstable();
        Ok(cases)
    }

    fn walk(&mut self, folder: &Path, path: &str) -> Result<()> {
        for (name, file) in files(folder)? {
            let path = format!("{path}/{name}");
            if file.is_dir() {
                if !HELPERS.contains(&&*name) {
                    self.walk(&file, &path)?;
                }
            } else if let Some(kind) = Kind::of(&name) {
                // Some pages are not in UTF-8. The parts that are read here are ASCII in all of
                // them.
                let text = fs::read(&file);
                let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
                self.file(kind, &path, &String::from_utf8_lossy(&text));
            }
        }
        Ok(())
    }

    fn file(&mut self, kind: Kind, path: &str, text: &str) {
        let stem = path.trim_end_matches(".js");
        let pages = match kind {
            Kind::Page if text.contains("testharness.js") => vec![path.to_owned()],
            Kind::Page => return,
            Kind::Window => vec![format!("{stem}.html")],
            Kind::Any => {
                let globals = values(kind, text, "global").next();
                let globals = globals.unwrap_or("window,dedicatedworker").split(',');
                // `worker` stands for each kind of worker.
                let endings = globals.filter_map(|global| match global.trim() {
                    "window" => Some("html"),
                    "worker" | "dedicatedworker" => Some("worker.html"),
                    _ => None,
                });
                endings.map(|ending| format!("{stem}.{ending}")).collect()
            }
        };
        let is_long = values(kind, text, "timeout").any(|value| value == "long");
        let mut variants = values(kind, text, "variant").collect::<Vec<_>>();
        if variants.is_empty() {
            variants.push("");
        }
        for page in pages {
            let needs_tls = page.contains(".https.") || page.contains(".h2.");
            for variant in &variants {
                let page = format!("{page}{variant}");
                let is_other = needs_tls || page.starts_with(STREAM);
                if is_other || variant.contains("wss") || variant.contains("wpt_flags") {
                    self.left_out.push(page);
                } else {
                    self.all.push(Case { page, is_long });
                }
            }
        }
    }
}

/// The kind of a file of tests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The case is an HTML page.
    Page,
    /// A script for which a page is made.
    Window,
    /// A script for which a page and a dedicated worker are made.
    Any,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        let ends = |end: &str| name.ends_with(end);
        if ends(".any.js") {
            Some(Self::Any)
        } else if ends(".window.js") {
            Some(Self::Window)
        } else if (ends(".html") || ends(".htm")) && !name.contains("-manual.") {
            Some(Self::Page)
        } else {
            None
        }
    }
}

/// Returns the values that a file gives for a name.
fn values<'a>(kind: Kind, text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let begins = match kind {
        Kind::Page => {
            vec![format!("<meta name=\"{name}\" content=\""), format!("<meta name={name} content=")]
        }
        Kind::Window | Kind::Any => vec![format!("// META: {name}=")],
    };
    let ends: &[char] = match kind {
        Kind::Page => &['"', '>'],
        Kind::Window | Kind::Any => &[],
    };
    text.lines().map(str::trim).filter_map(move |line| {
        let rest = begins.iter().find_map(|begin| line.strip_prefix(begin.as_str()))?;
        Some(rest.split_once(ends).map_or(rest, |(value, _)| value).trim())
    })
}

fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let fault = |error| format!("{}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(fault)? {
        let entry = entry.map_err(fault)?;
        files.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    Ok(files)
}
