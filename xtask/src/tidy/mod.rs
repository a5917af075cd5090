//! `cargo xtask tidy`: rules of the repository that no compiler checks.

mod docs;
mod edges;
mod files;
mod functions;
mod languages;
mod lifecycle;
mod links;
mod protocol;
mod subjects;

use anyhow::bail;

use crate::{repo::Repo, size};

/// Descriptions of faults: what is wrong, where, and what to do about it.
type Findings = Vec<String>;

pub(crate) fn run(repo: &Repo) -> anyhow::Result<()> {
    let files = files::Files::list(repo)?;
    let checks = [
        ("who imports whom", edges::check(repo)),
        ("PROTOCOL.md and crates/wire", protocol::check(repo)),
        ("kinds and limits of both languages", languages::check(&files)),
        ("sizes in README.md", size::compare(repo)),
        ("files", Ok(files::check(&files))),
        ("functions", Ok(functions::check(&files))),
        ("doc comments", Ok(docs::check(&files))),
        ("tests of docs/lifecycle.md", Ok(lifecycle::check(&files))),
        ("links", Ok(links::check(repo, &files))),
        ("subjects of commits", subjects::check(repo)),
    ];
    let mut wrong = 0;
    for (name, findings) in checks {
        let findings = findings.unwrap_or_else(|error| vec![format!("{error:#}")]);
        println!("{} {name}", if findings.is_empty() { "ok  " } else { "FAIL" });
        for finding in &findings {
            println!("     {finding}");
        }
        wrong += findings.len();
    }
    if wrong > 0 {
        bail!("{wrong} to mend");
    }
    Ok(())
}
