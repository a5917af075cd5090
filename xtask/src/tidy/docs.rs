//! Finds doc comments that are too short to say more than the name of their item.

use std::collections::BTreeSet;

use crate::tidy::{
    Findings,
    files::{File, Files},
};

const MIN_WORDS: usize = 4;

/// Files whose doc comments are not checked yet. The list must only become shorter.
const LEFT: &[&str] = &[
    "crates/core/src/hub/config.rs",
    "crates/core/src/hub/io.rs",
    "crates/core/src/hub/link/connection.rs",
    "crates/core/src/hub/mirror/names.rs",
    "crates/core/src/hub/mirror/outage.rs",
    "crates/core/src/hub/port.rs",
    "crates/core/src/hub/resume/hearing.rs",
    "crates/core/src/hub/resume/history.rs",
    "crates/core/src/hub/resume/lanes.rs",
    "crates/core/src/hub/tabs.rs",
    "crates/core/src/hub/topics.rs",
    "crates/core/src/payload.rs",
    "crates/core/src/session/account.rs",
    "crates/core/src/session/asks.rs",
    "crates/core/src/session/effects.rs",
    "crates/core/src/session/io.rs",
    "crates/core/src/session/lane.rs",
    "crates/core/src/session/lanes.rs",
    "crates/core/src/session/ledger.rs",
    "crates/core/src/session/link.rs",
    "crates/core/src/session/mod.rs",
    "crates/core/src/session/people.rs",
    "crates/core/src/session/pressure.rs",
    "crates/core/src/session/publication.rs",
    "crates/core/src/session/resume.rs",
    "crates/core/src/session/sockets.rs",
    "crates/core/src/session/stats.rs",
    "crates/core/src/session/subscriptions.rs",
    "crates/core/src/session/tab.rs",
    "crates/core/src/session/topic_table.rs",
    "crates/core/src/session/topics.rs",
    "crates/core/src/session/visitor.rs",
    "crates/core/src/session/waiting.rs",
    "crates/core/src/shell/list.rs",
    "crates/core/src/shell/mod.rs",
    "crates/core/src/trace/mod.rs",
    "crates/core/tests/session/foreign.rs",
    "crates/core/tests/session/support.rs",
    "crates/server/examples/abuse/cases.rs",
    "crates/server/examples/abuse/judge.rs",
    "crates/server/examples/abuse/main.rs",
    "crates/server/examples/abuse/serve.rs",
    "crates/server/src/accept/trouble.rs",
    "crates/server/src/admission.rs",
    "crates/server/src/admission/crowd.rs",
    "crates/server/src/admission/people.rs",
    "crates/server/src/admission/tickets.rs",
    "crates/server/src/api.rs",
    "crates/server/src/app.rs",
    "crates/server/src/broker/guarded.rs",
    "crates/server/src/broker/mod.rs",
    "crates/server/src/config.rs",
    "crates/server/src/config/listen.rs",
    "crates/server/src/config/route.rs",
    "crates/server/src/config/tls.rs",
    "crates/server/src/conformance/hear.rs",
    "crates/server/src/context.rs",
    "crates/server/src/decision.rs",
    "crates/server/src/error.rs",
    "crates/server/src/files.rs",
    "crates/server/src/gateway/target.rs",
    "crates/server/src/gateway/tls.rs",
    "crates/server/src/handler.rs",
    "crates/server/src/handshake.rs",
    "crates/server/src/identity.rs",
    "crates/server/src/judge.rs",
    "crates/server/src/judge/breaker.rs",
    "crates/server/src/judge/cache.rs",
    "crates/server/src/judge/room.rs",
    "crates/server/src/jwt.rs",
    "crates/server/src/jwt/keys.rs",
    "crates/server/src/listeners.rs",
    "crates/server/src/places.rs",
    "crates/server/src/pulse.rs",
    "crates/server/src/server.rs",
    "crates/server/src/shard/event_loop.rs",
    "crates/server/src/shard/fanout.rs",
    "crates/server/src/shard/lines.rs",
    "crates/server/src/shard/link.rs",
    "crates/server/src/shard/mailbox.rs",
    "crates/server/src/shard/outgoing.rs",
    "crates/server/src/shard/service.rs",
    "crates/server/src/shard/stream.rs",
    "crates/server/src/task.rs",
    "crates/server/src/task/socket.rs",
    "crates/server/src/testing.rs",
    "crates/server/src/ws/decoder.rs",
    "crates/server/src/ws/extension.rs",
    "crates/server/src/ws/tests/differential.rs",
    "crates/server/src/ws/upgrade.rs",
    "crates/server/tests/server/broker.rs",
    "crates/server/tests/server/double.rs",
    "crates/server/tests/server/gateway/world.rs",
    "crates/server/tests/server/http.rs",
    "crates/server/tests/server/metrics.rs",
    "crates/server/tests/server/support.rs",
    "packages/tabmux/src/client.ts",
    "packages/tabmux/src/election/lease.ts",
    "packages/tabmux/src/election/watchdog.ts",
    "packages/tabmux/src/host.ts",
    "packages/tabmux/src/hosting.ts",
    "packages/tabmux/src/life.ts",
    "packages/tabmux/src/port.ts",
    "packages/tabmux/src/protocol.ts",
    "packages/tabmux/src/relay.ts",
    "packages/tabmux/src/session.ts",
    "packages/tabmux/src/socket.ts",
    "packages/tabmux/src/sources.ts",
];

pub(super) fn check(files: &Files) -> Findings {
    let mut findings = Findings::new();
    let mut clean: BTreeSet<_> = LEFT.iter().copied().collect();
    for file in files.with_extension(&["rs", "ts"]) {
        let short = short_docs(file);
        if LEFT.contains(&file.path.as_str()) {
            if !short.is_empty() {
                clean.remove(file.path.as_str());
            }
            continue;
        }
        findings.extend(short.into_iter().map(|(line, text)| {
            format!(
                "{}:{line}: the doc comment {text:?} has fewer than {MIN_WORDS} words: say what \
                 the name of the item does not say",
                file.path
            )
        }));
    }
    findings.extend(clean.into_iter().map(|path| {
        format!("xtask/src/tidy/docs.rs: {path} has no short doc comment: take it out of `LEFT`")
    }));
    findings
}

/// Returns the line and the text of each doc comment that has too few words. An empty doc comment
/// does not count, because in a macro it stands before a text of the macro's caller.
fn short_docs(file: &File) -> Vec<(usize, String)> {
    let docs = if file.path.ends_with(".rs") { rust(&file.text) } else { typescript(&file.text) };
    let is_short = |text: &String| (1..MIN_WORDS).contains(&text.split_whitespace().count());
    docs.into_iter().filter(|(_, text)| is_short(text)).collect()
}

/// Returns the first line and the text of each run of `///` or `//!` lines.
fn rust(text: &str) -> Vec<(usize, String)> {
    let mut docs: Vec<(usize, String)> = Vec::new();
    let mut last = None;
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim_start();
        let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        match (doc, docs.last_mut()) {
            (Some(doc), Some((_, whole))) if last == Some(number - 1) => {
                whole.push(' ');
                whole.push_str(doc.trim());
            }
            (Some(doc), _) => docs.push((number, doc.trim().to_owned())),
            (None, _) => continue,
        }
        last = Some(number);
    }
    docs
}

/// Returns the first line and the text of each `/** … */` block.
fn typescript(text: &str) -> Vec<(usize, String)> {
    let mut docs = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        let (begin, rest) = match (open.take(), line.strip_prefix("/**")) {
            (Some(begin), _) => (begin, line),
            (None, Some(rest)) => ((number, String::new()), rest),
            (None, None) => continue,
        };
        let (first, mut whole) = begin;
        let (doc, is_end) = match rest.split_once("*/") {
            Some((doc, _)) => (doc, true),
            None => (rest, false),
        };
        whole.push(' ');
        whole.push_str(doc.trim_matches([' ', '*']));
        if is_end {
            docs.push((first, whole.trim().to_owned()));
        } else {
            open = Some((first, whole));
        }
    }
    docs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(usize, String)> {
        short_docs(&File::new(path, text))
    }

    fn wanted(docs: &[(usize, &str)]) -> Vec<(usize, String)> {
        docs.iter().map(|(line, text)| (*line, (*text).to_owned())).collect()
    }

    #[test]
    fn short_doc_comments_of_rust_are_found_with_their_lines() {
        let text = "//! A module.\n\n/// Returns the name of the tab.\nfn a() {}\n\
                    struct B {\n    /// The tab.\n    tab: u32,\n    /// Why.\n    why: u32,\n}\n";
        assert_eq!(found("a.rs", text), wanted(&[(1, "A module."), (6, "The tab."), (8, "Why.")]));
    }

    #[test]
    fn a_doc_comment_of_several_lines_is_counted_as_a_whole() {
        let text = "/// Returns true\n/// # Errors\n/// Never.\nfn a() {}\n";
        assert_eq!(found("a.rs", text), []);
        let text = "/**\n * Returns the\n * whole name.\n */\nconst a = 1;\n/**\n * It.\n */\n";
        assert_eq!(found("a.ts", text), wanted(&[(6, "It.")]));
    }

    #[test]
    fn short_doc_comments_of_typescript_are_found_with_their_lines() {
        let text =
            "interface A {\n  /** The server. */\n  a: number;\n  // No doc.\n  b: number;\n}\n";
        assert_eq!(found("a.ts", text), wanted(&[(2, "The server.")]));
    }

    #[test]
    fn other_comments_and_empty_doc_comments_are_not_counted() {
        assert_eq!(found("a.rs", "// Short.\nfn a() {}\n    ///\n    $(#[$note])*\n"), []);
        assert_eq!(found("a.ts", "/* Short. */\nconst a = 1;\n"), []);
    }
}
