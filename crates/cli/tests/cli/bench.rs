//! `tabmux bench` against the real server.

use std::{net::SocketAddr, process::Stdio};

use serde_json::Value;
use tokio::process::{Child, Command};

use super::{binary, support::soon};

const KEY: &str = "a key of sixteen";

/// Starts a server, with an API key or without one.
async fn server(key: Option<&str>) -> (Child, SocketAddr) {
    let mut command = binary::serve(&["--listen", "127.0.0.1:0"]);
    command.env_remove("TABMUX_API_KEY");
    if let Some(key) = key {
        command.env("TABMUX_API_KEY", key);
    }
    binary::listening(command).await
}

fn bench(address: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tabmux"));
    let url = format!("ws://{address}/tabmux/ws");
    command.args(["bench", "--json", "-", "--url", &url]).args(arguments).kill_on_drop(true);
    command.env_remove("TABMUX_API_KEY");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the command, which must succeed. Returns the JSON that it printed.
async fn measured(mut command: Command) -> Value {
    let output = soon("the end", command.output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs the command, which must fail. Returns what it wrote to stderr.
async fn fails(mut command: Command) -> String {
    let output = soon("the end", command.output()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn every_publication_reaches_every_subscriber_in_order() {
    let (_server, address) = server(Some(KEY)).await;
    let mut command = bench(address, &["--links", "30", "--tabs", "3", "--api-key", KEY]);
    command.args(["--topics", "5", "--topics-per-link", "2", "--burst", "4"]);
    command.args(["--rate", "200", "--size", "200", "--duration", "0.3"]);
    let report = measured(command).await;
    assert_eq!(report["links"]["opened"], 30, "{report:#}");
    assert_eq!(report["subscriptions"]["confirmed"], 60, "{report:#}");
    let accepted = report["publications"]["accepted"].as_u64().unwrap();
    // Bursts are published whole, and each topic gets as many publications as any other, but for
    // one.
    assert!(accepted >= 4 && accepted.is_multiple_of(4), "{report:#}");
    let deliveries = &report["deliveries"];
    assert_eq!(deliveries["received"], accepted * 12, "{report:#}");
    for fault in ["lost", "repeated", "skipped", "gaps"] {
        assert_eq!(deliveries[fault], 0, "{report:#}");
    }
    let latency = &report["latency_us"];
    assert!(latency["p50"].as_u64().unwrap() <= latency["max"].as_u64().unwrap(), "{report:#}");
}

/// Systems other than Linux have no `/proc`.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_process_of_the_server_is_found() {
    let (server, address) = server(None).await;
    let command = bench(address, &["--links", "10", "--topics", "0", "--duration", "0.1"]);
    let report = measured(command).await;
    assert_eq!(report["server"]["pid"], server.id().unwrap(), "{report:#}");
    assert!(report["server"]["resident_after"].as_u64().unwrap() > 0, "{report:#}");
    assert_eq!(report["publications"]["accepted"], 0, "{report:#}");
    assert!(report["latency_us"].is_null(), "{report:#}");
}

#[tokio::test]
async fn links_beyond_the_servers_limit_are_counted_with_the_reason() {
    let file = super::support::folder("bench-limit").join("tabmux.toml");
    std::fs::write(&file, "[limits]\nlinks = 4\n").unwrap();
    let path = file.to_str().unwrap();
    let command = binary::serve(&["--listen", "127.0.0.1:0", "--config", path]);
    let (_server, address) = binary::listening(command).await;
    let mut command = bench(address, &["--links", "10", "--topics", "0", "--duration", "0.1"]);
    command.args(["--patience", "0"]);
    let report = measured(command).await;
    assert_eq!(report["links"]["opened"], 4, "{report:#}");
    let refused = report["links"]["refused"].as_object().unwrap();
    assert_eq!(refused.values().filter_map(Value::as_u64).sum::<u64>(), 6, "{report:#}");
}

#[tokio::test]
async fn ctrl_c_reports_what_was_measured_so_far() {
    let (_server, address) = server(Some(KEY)).await;
    let mut command = bench(address, &["--links", "5", "--api-key", KEY, "--duration", "600"]);
    let child = command.spawn().unwrap();
    // The benchmark publishes only after its links are open.
    let published = async {
        loop {
            let stats = super::support::get(address, "/tabmux/stats", "").await.body;
            let stats = serde_json::from_str::<Value>(&stats).unwrap();
            if stats["deliveries"].as_u64().unwrap() >= 5 {
                return;
            }
        }
    };
    soon("deliveries", published).await;
    let pid = child.id().unwrap().to_string();
    let kill = std::process::Command::new("sh").args(["-c", &format!("kill -INT {pid}")]).status();
    assert!(kill.unwrap().success());
    let output = soon("the end", child.wait_with_output()).await.unwrap();
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["interrupted"], true, "{report:#}");
    assert_eq!(report["links"]["opened"], 5, "{report:#}");
}

#[tokio::test]
async fn a_wrong_key_and_a_missing_key_have_different_errors() {
    let (_server, address) = server(Some(KEY)).await;
    let said = fails(bench(address, &["--api-key", "another of sixteen"])).await;
    assert!(said.contains("does not accept this API key"), "{said}");
    let (_server, address) = server(None).await;
    let said = fails(bench(address, &["--api-key", KEY])).await;
    assert!(said.contains("start it with TABMUX_API_KEY"), "{said}");
}

#[tokio::test]
async fn a_missing_server_is_reported_with_what_to_do() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let said = fails(bench(address, &[])).await;
    assert!(said.contains(&format!("no server at {address}")), "{said}");
    assert!(said.contains("tabmux serve"), "{said}");
}

#[cfg(unix)]
#[tokio::test]
async fn the_number_of_missing_open_files_is_reported() {
    let (_server, address) = server(None).await;
    let mut command = Command::new("sh");
    let binary = env!("CARGO_BIN_EXE_tabmux");
    let script =
        format!("ulimit -n 100; exec {binary} bench --url ws://{address} --topics 0 --links 1000");
    command.args(["-c", &script]).kill_on_drop(true).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let said = fails(command).await;
    assert!(said.contains("964 are missing") && said.contains("--links 36"), "{said}");
}
