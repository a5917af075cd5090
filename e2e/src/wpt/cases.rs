//! Which files are tests, and of what.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::Result;

/// Folders of files that tests use.
const HELPERS: [&str; 4] = ["handlers", "resources", "support", "tools"];

/// A page to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Path and query.
    pub page: String,
    /// True if it says that it takes long.
    pub is_long: bool,
}

/// The tests of a folder.
#[derive(Debug, Default)]
pub struct Cases {
    /// Those that can be run, sorted by their pages.
    pub all: Vec<Case>,
    /// Pages that need what is not served: TLS, HTTP/2, or a worker, in which the package does not
    /// work.
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
                let text = fs::read_to_string(&file);
                let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
                self.file(kind, &path, &text);
            }
        }
        Ok(())
    }

    fn file(&mut self, kind: Kind, path: &str, text: &str) {
        let page = match kind {
            Kind::Page if text.contains("testharness.js") => path.to_owned(),
            Kind::Page => return,
            Kind::Script => format!("{}.html", path.trim_end_matches(".js")),
        };
        let is_for_workers =
            values(kind, text, "global").any(|global| !global.split(',').any(|it| it == "window"));
        if path.contains(".https.") || path.contains(".h2.") || is_for_workers {
            self.left_out.push(page);
            return;
        }
        let is_long = values(kind, text, "timeout").any(|value| value == "long");
        let mut variants = values(kind, text, "variant").collect::<Vec<_>>();
        if variants.is_empty() {
            variants.push("");
        }
        for variant in variants {
            let page = format!("{page}{variant}");
            if variant.contains("wss") || variant.contains("wpt_flags") {
                self.left_out.push(page);
            } else {
                self.all.push(Case { page, is_long });
            }
        }
    }
}

/// What a file of tests is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A page.
    Page,
    /// A script for which a page is made.
    Script,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        let ends = |end: &str| name.ends_with(end);
        if ends(".any.js") || ends(".window.js") {
            Some(Self::Script)
        } else if (ends(".html") || ends(".htm")) && !name.contains("-manual.") {
            Some(Self::Page)
        } else {
            None
        }
    }
}

/// What a file says of itself under a name.
fn values<'a>(kind: Kind, text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let begin = match kind {
        Kind::Page => format!("<meta name=\"{name}\" content=\""),
        Kind::Script => format!("// META: {name}="),
    };
    let lines = text.lines().map(str::trim);
    lines.filter_map(move |line| {
        let rest = line.strip_prefix(begin.as_str())?;
        Some(rest.split_once('"').map_or(rest, |(value, _)| value).trim())
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
