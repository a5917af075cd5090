//! `cargo xtask autobahn`: runs the Autobahn cases against the codec and the loop that carry links.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use xshell::cmd;

use crate::{
    debian, flags,
    process::{capture, quiet, step},
    repo::Repo,
};

/// Cases that take minutes: large messages, and of the cases of compression those of 16 bytes and
/// above 8 KiB. A pattern matches the beginning of a case's number.
const LONG: &[&str] = &["9.*", "1[23].*.1", "1[23].*.[7-9]"];
/// Number of cases that run at a time. The suite waits for most of its time.
const PARALLEL: &str = "8";
/// Cases that may end otherwise than OK, by the beginning of their number: how they end, and why.
const EXCUSED: &[(&str, &str, &str)] =
    &[("13.3.", "UNIMPLEMENTED", SMALL_WINDOW), ("13.5.", "UNIMPLEMENTED", SMALL_WINDOW)];
const SMALL_WINDOW: &str = "an offer of a smaller window only is declined";

/// Runs `cargo xtask autobahn`. The reports stay in target/autobahn/reports.
pub(crate) fn run(repo: &Repo, flags: &flags::Autobahn) -> anyhow::Result<()> {
    let missing = missing(repo);
    if !missing.is_empty() {
        debian::install(repo, &missing)?;
    }
    let folder = repo.target().join("autobahn");
    step("kosoku", || need_kosoku(repo, &folder))?;
    step("echo server", || {
        quiet(cmd!(repo.sh, "cargo build -p tabmux-server --example autobahn"))
    })?;
    let reports = folder.join("reports");
    repo.sh.remove_path(&reports)?;
    let server = Server::start(repo)?;
    let (kosoku, address) = (program(&folder, "kosoku"), &server.address);
    let excluded = if flags.long { &[] } else { LONG };
    let excluded = excluded.iter().flat_map(|group| ["-x", group]);
    // The exit status says no more than the reports, which are written at the end.
    let ran = step("cases", || {
        let args = ["-p", PARALLEL, "-o"];
        capture(cmd!(repo.sh, "{kosoku} {args...} {reports} {excluded...} {address}"))
    })?;
    drop(server);
    let Ok(index) = repo.sh.read_file(reports.join("index.json")) else {
        bail!("the cases broke off:\n{}", ran.output.trim_end());
    };
    judge(&index).with_context(|| format!("see {}", reports.display()))
}

/// Returns the reason why the cases cannot run here, if there is one.
pub(crate) fn obstacle(repo: &Repo) -> Option<String> {
    debian::obstacle(repo, &missing(repo))
}

/// Returns Debian's packages that are missing. Debian keeps the module for environments apart from
/// Python.
fn missing(repo: &Repo) -> Vec<&'static str> {
    let script = "import ensurepip, venv";
    let python = cmd!(repo.sh, "python3 -c {script}").quiet().ignore_stderr();
    if python.run().is_ok() { Vec::new() } else { vec!["python3", "python3-venv"] }
}

/// Installs the program that runs the cases, unless its version was installed before.
fn need_kosoku(repo: &Repo, folder: &Path) -> anyhow::Result<()> {
    let requirements = repo.path("xtask/autobahn/requirements.txt");
    let wanted = repo.sh.read_file(&requirements)?;
    let stamp = folder.join("installed.txt");
    if repo.sh.read_file(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let environment = folder.join("venv");
    quiet(cmd!(repo.sh, "python3 -m venv --clear {environment}"))?;
    let pip = program(folder, "pip");
    let flags = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps"];
    quiet(cmd!(repo.sh, "{pip} install {flags...} -r {requirements}"))
        .context("the runner of the cases could not be installed (it needs Python 3.10)")?;
    Ok(repo.sh.write_file(&stamp, wanted)?)
}

/// Returns the path of a program in the environment.
fn program(folder: &Path, name: &str) -> PathBuf {
    folder.join("venv/bin").join(name)
}

/// The echo server, which is ended on drop. It also ends when this process ends in any way, because
/// its input is a pipe from here.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(repo: &Repo) -> anyhow::Result<Self> {
        let mut command = Command::new(repo.binary("examples/autobahn"));
        command.args(["127.0.0.1:0", "--until-input-ends"]).current_dir(&repo.root);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take();
        let mut server = Self { child, address: String::new() };
        let mut line = String::new();
        BufReader::new(stdout.context("the server has no output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("echo on ws://");
        let address = address.with_context(|| format!("the server said `{}`", line.trim()))?;
        server.address = address.trim_end_matches('/').to_owned();
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both calls fail only if the server has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Names every case that is not OK, counts them, and fails if a case is wrong.
fn judge(index: &str) -> anyhow::Result<()> {
    let verdicts = verdicts(index)?;
    let (mut passed, mut failed, mut counts) = (0, 0, BTreeMap::new());
    for Verdict { case, message, close } in &verdicts {
        let worst = if right(close) { message } else { close };
        *counts.entry(worst.as_str()).or_insert(0) += 1;
        let excuse =
            EXCUSED.iter().find(|(begin, word, _)| case.starts_with(begin) && word == worst);
        match (worst.as_str(), excuse) {
            ("OK", _) => passed += 1,
            ("INFORMATIONAL", _) => {
                passed += 1;
                println!("     {case} INFORMATIONAL: the protocol leaves it open");
            }
            (word, Some((_, _, why))) => {
                passed += 1;
                println!("     {case} {word}: {why}");
            }
            (word, None) => {
                failed += 1;
                println!("     {case} {word} (message: {message}, close: {close})");
            }
        }
    }
    let counts = counts.iter().rev().map(|(word, count)| format!("{count} {word}"));
    println!("{} cases: {}", verdicts.len(), counts.collect::<Vec<_>>().join(", "));
    println!("{passed} passed, {failed} failed");
    ensure!(failed == 0, "the server breaks RFC 6455");
    Ok(())
}

/// How one case ended.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    case: String,
    /// The result of the messages and the result of the close.
    message: String,
    close: String,
}

fn right(word: &str) -> bool {
    matches!(word, "OK" | "INFORMATIONAL")
}

/// Reads the index of the reports: agents, each with its cases.
fn verdicts(index: &str) -> anyhow::Result<Vec<Verdict>> {
    let index: Value = serde_json::from_str(index)?;
    let agents = index.as_object().context("the index of the reports is no object")?;
    let mut verdicts = Vec::new();
    for (case, report) in agents.values().filter_map(Value::as_object).flatten() {
        let word = |key: &str| -> anyhow::Result<String> {
            let word = report.get(key).and_then(Value::as_str);
            Ok(word.with_context(|| format!("case {case} has no `{key}`"))?.to_owned())
        };
        let (message, close) = (word("behavior")?, word("behaviorClose")?);
        verdicts.push(Verdict { case: case.clone(), message, close });
    }
    if verdicts.is_empty() {
        bail!("no case ran");
    }
    Ok(verdicts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(message: &str, close: &str) -> String {
        format!(
            r#"{{"127.0.0.1:1":{{
                "1.1.1":{{"behavior":"OK","behaviorClose":"OK","duration":0}},
                "6.4.1":{{"behavior":"{message}","behaviorClose":"{close}"}}}}}}"#
        )
    }

    #[test]
    fn a_case_that_is_not_ok_fails() {
        for (message, close, good) in [
            ("OK", "OK", true),
            ("INFORMATIONAL", "INFORMATIONAL", true),
            ("FAILED", "OK", false),
            ("OK", "FAILED", false),
            ("OK", "WRONG CODE", false),
            ("NON-STRICT", "OK", false),
            ("UNIMPLEMENTED", "OK", false),
        ] {
            assert_eq!(judge(&index(message, close)).is_ok(), good, "{message}, {close}");
        }
        let excused = index("UNIMPLEMENTED", "OK").replace("6.4.1", "13.3.1");
        assert!(judge(&excused).is_ok());
        assert!(judge(&excused.replace("UNIMPLEMENTED", "FAILED")).is_err());
    }

    #[test]
    fn a_report_of_nothing_fails() {
        assert!(judge("{}").is_err());
        assert!(judge(r#"{"a":{}}"#).is_err());
        assert!(judge(r#"{"a":{"1.1.1":{"behavior":"OK"}}}"#).is_err());
    }
}
