//! What an operator does with the process: reload, check, drain.

use std::path::Path;

use tabmux_core::wire::{Alias, Payload};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use super::{
    binary::{fails, listening, logged, on_a_free_port, signal, start},
    support::{Hub, folder, get, metric, post, soon},
};

/// Runs the binary to its end. Returns true if it succeeded, and what it wrote to stdout.
async fn run(arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tabmux"));
    let output = soon("the end", command.args(arguments).output()).await.unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn sighup_reads_the_configuration_again_all_of_it_or_nothing() {
    let file = folder("sighup").join("tabmux.toml");
    std::fs::write(&file, "shards = 1\napi_key = \"the first key, long\"\n").unwrap();
    let (mut child, address) =
        start(&["--demo", env!("CARGO_TARGET_TMPDIR"), "--config", text(&file)]).await;
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut hub = Hub::with_socket(address, "/echo").await;
    let publish = async |key: &str| {
        let header = format!("Authorization: Bearer {key}\r\n");
        let body = "{\"topic\": \"t\", \"text\": \"\"}";
        post(address, "/tabmux/api/publish", &header, body).await.status
    };
    let origin = Some("https://friend.example");
    assert_eq!(publish("the first key, long").await, 200);
    assert!(Hub::dial_from(address, origin).await.is_err());

    let good = "shards = 7\napi_key = \"the second key, long\"\nlog = \"debug\"\n\
                allow_origins = [\"https://friend.example\"]\n[limits]\nlinks = 1\n";
    // The error comes last in the file, so that the values before it must not take effect.
    std::fs::write(&file, format!("{good}[[topics]]\npattern = \"a\"\nslow = \"x\"\n")).unwrap();
    signal(&child, "HUP");
    let line = logged(&mut log, "SIGHUP").await;
    assert!(line.contains("ERROR") && line.contains("everything stays as it was"), "{line}");
    assert_eq!(
        (publish("the first key, long").await, metric(address, "tabmux_links").await),
        (200, 1.0)
    );
    assert!(Hub::dial_from(address, origin).await.is_err());

    std::fs::write(&file, good).unwrap();
    signal(&child, "HUP");
    let line = logged(&mut log, "take effect when").await;
    assert!(line.contains("WARN") && line.contains("values of shards take effect"), "{line}");
    assert!(logged(&mut log, "SIGHUP").await.contains("in force"));
    assert_eq!(publish("the first key, long").await, 401);
    assert_eq!(publish("the second key, long").await, 200);
    // The origin is allowed now, but no link is left.
    assert_eq!(Hub::refused(address, &[("origin", "https://friend.example")]).await.0, 503);
    // A lower limit ends no link that is open.
    hub.send(Alias(1), 1, Payload::Text("still there")).await;
    assert_eq!(hub.text(Alias(1), 1).await, "still there");
    // This refusal is logged at the level debug only, because the same refusal was logged a moment
    // ago.
    assert!(Hub::dial_from(address, Some("https://other.example")).await.is_err());
    assert!(logged(&mut log, "DEBUG").await.contains("https://other.example"));
}

#[tokio::test]
async fn sighup_ends_nothing_when_the_file_is_gone() {
    let file = folder("sighup-gone").join("tabmux.toml");
    std::fs::write(&file, "").unwrap();
    let (mut child, address) = start(&["--config", text(&file)]).await;
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    std::fs::remove_file(&file).unwrap();
    for _ in 0..2 {
        signal(&child, "HUP");
        assert!(logged(&mut log, "SIGHUP").await.contains("everything stays as it was"));
        assert_eq!(get(address, "/healthz", "").await.status, 200);
    }
}

#[tokio::test]
async fn a_drain_is_announced_before_it_begins_and_a_second_signal_ends_it() {
    let file = folder("drain-min").join("tabmux.toml");
    std::fs::write(&file, "drain_min_ms = 3600000\nshards = 1\n").unwrap();
    let demo = env!("CARGO_TARGET_TMPDIR");
    let (mut child, address) = start(&["--demo", demo, "--config", text(&file)]).await;
    let mut hub = Hub::with_socket(address, "/echo").await;
    signal(&child, "TERM");
    let leaving = async { while get(address, "/healthz", "").await.status != 503 {} };
    soon("the health of a server that leaves", leaving).await;
    assert_eq!(get(address, "/livez", "").await.status, 200);
    // Everything still works, also for new links.
    Hub::with_socket(address, "/echo").await.quiet().await;
    hub.send(Alias(1), 1, Payload::Text("still there")).await;
    assert_eq!(hub.text(Alias(1), 1).await, "still there");
    signal(&child, "TERM");
    assert!(soon("the end", child.wait()).await.unwrap().success());
}

#[tokio::test]
async fn a_metrics_port_that_is_in_use_is_reported_and_nothing_is_served() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let file = folder("metrics-in-use").join("tabmux.toml");
    std::fs::write(&file, format!("metrics_listen = \"{address}\"")).unwrap();
    let mut command = on_a_free_port(&["--config", text(&file)]);
    let output = soon("the end", command.output()).await.unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("{address} of metrics_listen is already in use")), "{said}");
}

#[tokio::test]
async fn the_metrics_have_an_address_of_their_own() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = folder("metrics-apart").join("tabmux.toml");
    std::fs::write(&file, format!("metrics_listen = \"{free}\"")).unwrap();
    let (_child, address) = listening(on_a_free_port(&["--config", text(&file)])).await;
    assert_eq!(get(address, "/metrics", "").await.status, 404);
    assert!(get(free, "/metrics", "").await.body.contains("tabmux_links 0"));
}

#[tokio::test]
async fn check_reports_errors_of_a_configuration_and_starts_nothing() {
    let folder = folder("check");
    let file = folder.join("tabmux.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:1\"\nassets = \".\"\n").unwrap();
    let (is_good, said) = run(&["check", "--config", text(&file)]).await;
    assert!(is_good && said.contains("tabmux.toml: good"), "{said}");
    let missing = folder.join("secret");
    for (text, expected) in [
        ("listne = 1", "unknown field `listne`"),
        ("user_header = \"X User:\"\ntrusted_proxies = [\"::1\"]", "user_header: \"X User:\""),
        ("metrics = false\nmetrics_listen = \"[::1]:1\"", "metrics_listen has no effect"),
        (
            "user_header = \"X-User\"\ntrusted_proxies = [\"::1\"]\n\
             identity_secret_files = [\"F\"]",
            "identity_secret_files: cannot read",
        ),
        ("[jwt]\nsecret_file = \"F\"", "secret"),
    ] {
        std::fs::write(&file, text.replace('F', missing.to_str().unwrap())).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tabmux"));
        let output = command.args(["check", "--config"]).arg(&file).output();
        let output = soon("the end", output).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(said.contains(expected), "{text}: {said}");
    }
    // `serve` reports the same error.
    assert!(fails(&["--config", text(&file)]).await.contains("secret"));
}

#[tokio::test]
async fn secrets_of_the_environment_are_checked_as_those_of_files_are() {
    const FIRST: &str = "TABMUX_IDENTITY_SECRET";
    const OLD: &str = "TABMUX_IDENTITY_SECRET_OLD";
    let file = folder("secrets").join("tabmux.toml");
    let long = "sixteen bytes or more";
    for (text, set, expected) in [
        ("", vec![(FIRST, long), (OLD, long)], ""),
        ("", vec![(FIRST, "")], "TABMUX_IDENTITY_SECRET must have at least 16 bytes"),
        ("", vec![(FIRST, "ends in white\n\n\n\n")], "TABMUX_IDENTITY_SECRET must have"),
        ("", vec![(FIRST, long), (OLD, "short")], "TABMUX_IDENTITY_SECRET_OLD must have"),
        ("", vec![(OLD, long)], "needs TABMUX_IDENTITY_SECRET beside it"),
        ("identity_secret_files = [\"a\"]", vec![(FIRST, long)], "remove one"),
    ] {
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tabmux"));
        let output = command.args(["check", "--config"]).arg(&file).envs(set).output();
        let output = soon("the end", output).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), expected.is_empty(), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (is_good, script) = run(&["completions", shell]).await;
        assert!(is_good && script.contains("serve") && script.contains("check"), "{shell}");
    }
    #[cfg(unix)]
    {
        let script = run(&["completions", "bash"]).await.1;
        let ask = "COMP_WORDS=(tabmux ch); COMP_CWORD=1; _tabmux tabmux ch tabmux; \
                   printf %s \"${COMPREPLY[*]}\"";
        let shell = Command::new("bash").args(["-c", &format!("{script}\n{ask}")]).output();
        let shell = soon("bash", shell).await.unwrap();
        assert_eq!(String::from_utf8(shell.stdout).unwrap(), "check");
    }
}
