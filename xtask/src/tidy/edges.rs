//! Checks which crate imports which, as `cargo metadata` says.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde_json::Value;
use xshell::cmd;

use crate::{repo::Repo, tidy::Findings};

/// The members of the workspace, and the other members that each may import. `cargo` itself refuses
/// circles. This table refuses short cuts.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tabmux-wire", &[]),
    ("tabmux-core", &["tabmux-wire"]),
    ("tabmux-wasm", &["tabmux-core", "tabmux-wire"]),
    ("tabmux-server", &["tabmux-core", "tabmux-wire"]),
    ("tabmux-sim", &["tabmux-core", "tabmux-wire"]),
    ("tabmux-trace", &["tabmux-core", "tabmux-wire"]),
    // The client imports the server for its tests only.
    ("tabmux-client", &["tabmux-core", "tabmux-server"]),
    ("tabmux-cli", &["tabmux-client", "tabmux-core", "tabmux-server"]),
    ("tabmux-example-rooms", &["tabmux-client", "tabmux-server"]),
    ("tabmux-bench", &["tabmux-cli", "tabmux-core"]),
    // The crate uses the built package and the server binary, and no sources. It decodes the frames
    // that pass a proxy.
    ("tabmux-e2e", &["tabmux-wire"]),
    // These crates only run programs.
    ("xtask", &[]),
    // This crate is no member, because cargo-fuzz builds it on its own.
    ("tabmux-fuzz", &["tabmux-core", "tabmux-server", "tabmux-sim", "tabmux-wire"]),
];

/// Members without IO, clock, randomness and async. Nothing that they depend on may have these
/// either.
const PURE: &[&str] = &["tabmux-wire", "tabmux-core", "tabmux-sim", "tabmux-trace"];

/// Crates that bring what [`PURE`] members must not have.
const IMPURE: &[&str] = &[
    "async-std",
    "axum",
    "chrono",
    "fastrand",
    "futures",
    "getrandom",
    "hyper",
    "js-sys",
    "libc",
    "mio",
    "rand",
    "smol",
    "socket2",
    "time",
    "tokio",
    "wasm-bindgen",
    "web-sys",
    "web-time",
];

/// The libraries that applications compile.
const LIBRARIES: &[&str] = &["tabmux-server", "tabmux-client"];

/// Crates of the binary `tabmux`, for its command line, its log and its load generator.
/// [`LIBRARIES`] must not bring them to an application.
const OF_THE_BINARY: &[&str] =
    &["clap", "console", "ctrlc", "hdrhistogram", "indicatif", "tabmux-cli", "tracing-subscriber"];

/// Members that depend on nothing at all, except in tests.
const BARE: &[&str] = &["tabmux-wire"];

pub(super) fn check(repo: &Repo) -> anyhow::Result<Findings> {
    let metadata = cmd!(repo.sh, "cargo metadata --format-version 1").quiet().ignore_stderr();
    let metadata = metadata.read().context("`cargo metadata` failed")?;
    let graph = Graph::parse(&serde_json::from_str(&metadata)?)?;
    let mut findings = graph.findings();
    let fuzz = repo.path("fuzz/Cargo.toml");
    if fuzz.exists() {
        let fuzz =
            cmd!(repo.sh, "cargo metadata --format-version 1 --no-deps --manifest-path {fuzz}");
        let fuzz = serde_json::from_str(&fuzz.quiet().ignore_stderr().read()?)?;
        findings.extend(Graph::parse(&fuzz)?.edges());
    }
    Ok(findings)
}

/// The part of `cargo metadata` that is needed here.
#[derive(Debug, Default)]
struct Graph {
    members: Vec<Member>,
    /// For each package id: its name, and the packages that it needs to be built and run, except in
    /// tests.
    needs: BTreeMap<String, (String, Vec<String>)>,
}

#[derive(Debug)]
struct Member {
    name: String,
    id: String,
    /// Folders of this repository that its manifest names for any purpose.
    paths: Vec<String>,
    /// Number of its dependencies, except those of tests.
    normal: usize,
}

impl Graph {
    fn parse(metadata: &Value) -> anyhow::Result<Self> {
        let mut graph = Self::default();
        let members = array(metadata, "workspace_members");
        let mut names = BTreeMap::new();
        for package in array(metadata, "packages") {
            let (name, id) = (text(package, "name")?, text(package, "id")?);
            names.insert(id.clone(), name.clone());
            if !members.contains(&package["id"]) {
                continue;
            }
            let dependencies = array(package, "dependencies");
            let local = dependencies.iter().filter(|dependency| dependency["path"].is_string());
            let paths = local.map(|dependency| text(dependency, "name"));
            let normal = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
            let (paths, normal) = (paths.collect::<Result<_, _>>()?, normal.count());
            graph.members.push(Member { name, id, paths, normal });
        }
        for node in array(&metadata["resolve"], "nodes") {
            let needed = array(node, "deps")
                .iter()
                .filter(|dep| array(dep, "dep_kinds").iter().any(|kind| kind["kind"] != "dev"));
            let needed = needed.map(|dep| text(dep, "pkg")).collect::<Result<_, _>>()?;
            let id = text(node, "id")?;
            let name = names.get(&id).cloned().unwrap_or_default();
            graph.needs.insert(id, (name, needed));
        }
        Ok(graph)
    }

    fn findings(&self) -> Findings {
        let mut findings = self.edges();
        for member in &self.members {
            let name = &member.name;
            if BARE.contains(&name.as_str()) && member.normal > 0 {
                findings.push(format!("{name}: it has a dependency; it must have none"));
            }
            if PURE.contains(&name.as_str()) {
                findings.extend(self.found_below(member, IMPURE));
            }
            if LIBRARIES.contains(&name.as_str()) {
                findings.extend(self.found_below(member, OF_THE_BINARY));
            }
        }
        findings
    }

    /// Returns the imports between members that the table does not name.
    fn edges(&self) -> Findings {
        let mut findings = Findings::new();
        for Member { name, paths, .. } in &self.members {
            let Some((_, allowed)) = ALLOWED.iter().find(|(member, _)| member == name) else {
                findings.push(format!(
                    "{name}: a new member: say whom it may import in xtask/src/tidy/edges.rs"
                ));
                continue;
            };
            for path in paths.iter().filter(|path| !allowed.contains(&path.as_str())) {
                findings.push(format!(
                    "{name}: imports {path}, which ARCHITECTURE.md does not allow: move the code \
                     to where both may import it"
                ));
            }
        }
        findings
    }

    /// Returns unwanted packages that a member needs to be built or run, except in tests.
    fn found_below(&self, member: &Member, unwanted: &[&str]) -> Findings {
        let mut findings = Findings::new();
        let mut seen = BTreeSet::new();
        let mut open = vec![(&member.id, member.name.clone())];
        while let Some((id, path)) = open.pop() {
            let Some((name, needs)) = self.needs.get(id) else {
                continue;
            };
            if unwanted.contains(&name.as_str()) {
                findings.push(format!("{path}: {name} must not come below {}", member.name));
                continue;
            }
            for need in needs.iter().filter(|need| seen.insert(*need)) {
                let name = self.needs.get(need).map_or("?", |(name, _)| name);
                open.push((need, format!("{path} > {name}")));
            }
        }
        findings
    }
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value, key: &str) -> anyhow::Result<String> {
    let text = value[key].as_str().with_context(|| format!("`cargo metadata` without {key}"))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns a workspace in which each name imports the names after it: `(member, kind,
    /// imports)`.
    fn graph(edges: &[(&str, Option<&str>, &str)]) -> Graph {
        let mut names: BTreeSet<&str> = edges.iter().map(|edge| edge.0).collect();
        let members: Vec<&str> = names.iter().copied().filter(|name| is_ours(name)).collect();
        names.extend(edges.iter().map(|edge| edge.2).filter(|name| !name.is_empty()));
        let packages = names.iter().map(|name| {
            let own = edges.iter().filter(|edge| edge.0 == *name && !edge.2.is_empty());
            let dependencies: Vec<Value> = own
                .map(|(_, kind, to)| {
                    let path = is_ours(to).then_some("/somewhere");
                    json!({ "name": to, "kind": kind, "path": path })
                })
                .collect();
            json!({ "name": name, "id": name, "dependencies": dependencies })
        });
        let nodes = names.iter().map(|name| {
            let own = edges.iter().filter(|edge| edge.0 == *name && !edge.2.is_empty());
            let deps: Vec<Value> = own
                .map(|(_, kind, to)| json!({ "pkg": to, "dep_kinds": [{ "kind": kind }] }))
                .collect();
            json!({ "id": name, "deps": deps })
        });
        let metadata = json!({
            "workspace_members": members,
            "packages": packages.collect::<Vec<_>>(),
            "resolve": { "nodes": nodes.collect::<Vec<_>>() },
        });
        Graph::parse(&metadata).unwrap()
    }

    fn is_ours(name: &str) -> bool {
        name.starts_with("tabmux") || name == "xtask"
    }

    #[test]
    fn the_allowed_shape_passes() {
        let graph = graph(&[
            ("tabmux-wire", Some("dev"), "proptest"),
            ("proptest", None, "rand"),
            ("tabmux-core", None, "tabmux-wire"),
            ("tabmux-server", None, "tabmux-core"),
            ("tabmux-server", None, "tokio"),
            ("xtask", None, "anyhow"),
        ]);
        assert_eq!(graph.findings(), Findings::new());
    }

    #[test]
    fn a_short_cut_is_found_even_in_tests() {
        let graph =
            graph(&[("tabmux-e2e", Some("dev"), "tabmux-server"), ("tabmux-server", None, "")]);
        let findings = graph.findings();
        assert_eq!(findings.len(), 1);
        assert!(findings[0].contains("tabmux-e2e: imports tabmux-server"), "{findings:?}");
    }

    #[test]
    fn what_is_impure_is_found_below_others() {
        let graph = graph(&[
            ("tabmux-core", None, "hashing"),
            ("hashing", None, "seeding"),
            ("seeding", None, "getrandom"),
        ]);
        let path = "tabmux-core > hashing > seeding > getrandom: ";
        assert!(graph.findings()[0].starts_with(path), "{:?}", graph.findings());
    }

    #[test]
    fn what_is_of_the_binary_is_found_below_a_library_and_not_below_its_tests() {
        let shared = [
            ("tabmux-server", None, "logging"),
            ("logging", None, "tracing-subscriber"),
            ("tabmux-cli", None, "tabmux-server"),
            ("tabmux-cli", None, "clap"),
        ];
        let path = "tabmux-server > logging > tracing-subscriber: ";
        let findings = graph(&shared).findings();
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].starts_with(path), "{findings:?}");
        let tests = [("tabmux-client", Some("dev"), "clap"), ("tabmux-client", None, "tokio")];
        assert_eq!(graph(&tests).findings(), Findings::new());
    }

    #[test]
    fn wire_has_no_dependency() {
        let graph = graph(&[("tabmux-wire", None, "bytes")]);
        assert!(graph.findings()[0].contains("must have none"));
    }

    #[test]
    fn a_new_member_must_be_in_the_table() {
        let graph = graph(&[("tabmux-new", None, "anyhow")]);
        assert!(graph.findings()[0].contains("a new member"));
    }
}
