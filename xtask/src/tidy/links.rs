//! Checks that relative links in Markdown lead to a file.

use crate::{
    repo::Repo,
    tidy::{Findings, files::Files},
};

pub(super) fn check(repo: &Repo, files: &Files) -> Findings {
    let mut findings = Findings::new();
    for file in files.with_extension(&["md"]) {
        let folder = repo.path(&file.path);
        let folder = folder.parent().unwrap_or(&repo.root);
        for (line, target) in targets(&file.text) {
            if !folder.join(target).exists() {
                findings.push(format!("{}:{line}: `{target}` is not there", file.path));
            }
        }
    }
    findings
}

/// Returns the relative links of a Markdown text, each with its line. Code is left out.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut targets = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Every second piece between backticks is code.
        for prose in line.split('`').step_by(2) {
            for rest in prose.split("](").skip(1) {
                let target = rest.split([')', ' ', '#']).next().unwrap_or_default();
                if !target.is_empty() && !target.contains(':') {
                    targets.push((number + 1, target));
                }
            }
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::targets;

    #[test]
    fn relative_links_are_found() {
        let text = "See [a](docs/a.md#part) and\n[b](../b.md \"title\"), ![c](c.png).";
        assert_eq!(targets(text), [(1, "docs/a.md"), (2, "../b.md"), (2, "c.png")]);
    }

    #[test]
    fn addresses_anchors_and_code_are_not() {
        let text = "[a](https://example.org/x) [b](#here) [c](mailto:x@y) `[d](e)`\n\
                    ```\n[f](g)\n```\n";
        assert!(targets(text).is_empty());
    }

    #[test]
    fn links_whose_text_is_code_are() {
        assert_eq!(targets("[`wire`](crates/wire)"), [(1, "crates/wire")]);
    }
}
