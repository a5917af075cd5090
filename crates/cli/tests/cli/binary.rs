//! The binary `tabmux`, run as a process.

#[cfg(target_os = "linux")]
use std::io::{Read, Write};
use std::process::Stdio;

use tabmux_core::wire::{Alias, Payload, ServerFrame, Token, Welcome};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, Command},
};
use tokio_tungstenite::tungstenite::Message;

use super::{
    raw::{Raw, crowd, head, hello, lines},
    support::{Hub, claim, folder, frame, get, metric, say_hello_on, soon},
};

pub(crate) fn serve(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tabmux"));
    command.arg("serve").args(arguments).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts a server on a free port. Returns it and its address.
pub(crate) async fn start(arguments: &[&str]) -> (Child, std::net::SocketAddr) {
    listening(on_a_free_port(arguments)).await
}

pub(crate) fn on_a_free_port(arguments: &[&str]) -> Command {
    let mut command = serve(&[&["--listen", "127.0.0.1:0"], arguments].concat());
    if !arguments.contains(&"--assets") {
        let assets = env!("CARGO_TARGET_TMPDIR");
        for file in ["client.js", "tiers.js", "worker.js"] {
            std::fs::write(format!("{assets}/{file}"), "").unwrap();
        }
        command.args(["--assets", assets]);
    }
    command
}

/// Starts a server and waits until it prints its address.
pub(crate) async fn listening(mut command: Command) -> (Child, std::net::SocketAddr) {
    let mut child = command.spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.as_mut().unwrap());
    let mut line = String::new();
    soon("the first line", stdout.read_line(&mut line)).await.unwrap();
    let address = line.strip_prefix("tabmux: serving http://").and_then(|s| s.strip_suffix("/\n"));
    (child, address.unwrap_or_else(|| panic!("{line:?}")).parse().unwrap())
}

/// Runs the binary, which must fail. Returns what it wrote to stderr.
pub(crate) async fn fails(arguments: &[&str]) -> String {
    let output = soon("the end", serve(arguments).output()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

/// Ends a server by a signal, as an operator does. Returns what it logged.
pub(crate) async fn terminate(mut child: Child, name: &str) -> String {
    signal(&child, name);
    assert!(soon("the end", child.wait()).await.unwrap().success());
    let mut log = String::new();
    child.stderr.unwrap().read_to_string(&mut log).await.unwrap();
    log
}

/// Returns the next line of the log that contains the text.
pub(crate) async fn logged<R: AsyncBufRead + Unpin>(log: &mut Lines<R>, text: &str) -> String {
    while let Some(line) = soon("a line in the log", log.next_line()).await.unwrap() {
        if line.contains(text) {
            return line;
        }
    }
    panic!("the log ended without {text:?}");
}

/// Returns the warnings and errors in a log.
fn troubles(log: &str) -> Vec<&str> {
    log.lines().filter(|line| !line.contains(" INFO ")).collect()
}

pub(crate) fn signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id().unwrap());
    assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

#[tokio::test]
async fn the_server_serves_until_sigterm() {
    let (child, address) = start(&["--demo", env!("CARGO_TARGET_TMPDIR")]).await;
    assert_eq!(get(address, "/healthz", "").await.status, 200);
    let mut hub = Hub::with_socket(address, "/echo").await;
    let ended = tokio::spawn(terminate(child, "TERM"));
    assert_eq!(hub.closed().await.0, 1001);
    drop(hub);
    assert_eq!(troubles(&ended.await.unwrap()), [""; 0]);
}

#[tokio::test]
async fn no_secret_of_a_peer_or_of_the_operator_is_in_the_log_or_the_metrics() {
    let demo = env!("CARGO_TARGET_TMPDIR");
    let mut command = on_a_free_port(&["--demo", demo, "--log", "trace"]);
    command.env("TABMUX_API_KEY", "the-key-SECRET-of-the-api");
    command.env("TABMUX_IDENTITY_SECRET", "the-SECRET-of-the-tags");
    let (child, address) = listening(command).await;
    let headers = [
        ("cookie", "session=SECRET"),
        ("authorization", "Bearer SECRET"),
        ("x-forwarded-user", "SECRET"),
    ];
    let mut hub = Hub::dial_at(address, "?token=SECRET", &headers).await.unwrap();
    hub.say(&super::support::hello()).await;
    assert!(matches!(super::support::frame(&hub.next().await), ServerFrame::Welcome(_)));
    let tab = hub.attach(1).await;
    hub.open(tab, 1, "/echo?token=SECRET", &[]).await;
    hub.ask(tab, 2, "/nothing?token=SECRET", &[]).await;
    hub.next().await;
    // A frame that breaks the protocol is logged with a reason.
    hub.raw(Message::text("SECRET")).await;
    hub.closed().await;
    let wrong = "authorization: Bearer SECRET\r\ncookie: session=SECRET\r\n";
    for path in ["/tabmux/who?identity=SECRET", "/tabmux/stats?token=SECRET", "/x?token=SECRET"] {
        get(address, path, wrong).await;
    }
    let metrics = get(address, "/metrics", wrong).await.body;
    assert!(!metrics.contains("SECRET"), "{metrics}");
    let log = terminate(child, "TERM").await;
    let told = log.lines().filter(|line| line.contains("SECRET")).collect::<Vec<_>>();
    assert_eq!(told, [""; 0]);
    assert!(log.contains("DEBUG"), "the log has what it can have: {log}");
}

#[tokio::test]
async fn the_server_ends_with_ctrl_c() {
    let (child, _) = start(&[]).await;
    terminate(child, "INT").await;
}

#[tokio::test]
async fn a_second_signal_ends_the_server_at_once() {
    let file = folder("second-signal").join("tabmux.toml");
    std::fs::write(&file, "drain_ms = 3600000\nshards = 1").unwrap();
    let (child, address) = start(&["--config", file.to_str().unwrap()]).await;
    let mut first = Hub::welcomed(address).await;
    let mut second = Hub::welcomed(address).await;
    signal(&child, "TERM");
    assert_eq!(first.closed().await.0, 1001);
    second.quiet().await;
    let log = terminate(child, "TERM").await;
    assert!(log.contains("ended at once by a second signal"), "{log}");
}

#[tokio::test]
async fn a_signal_without_a_meaning_is_logged_and_ends_nothing() {
    let (mut child, address) = start(&["--demo", env!("CARGO_TARGET_TMPDIR")]).await;
    let mut hub = Hub::with_socket(address, "/echo").await;
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    for name in ["USR1", "USR2"] {
        signal(&child, name);
        let line = logged(&mut log, &format!("SIG{name}")).await;
        assert!(line.contains("WARN") && line.contains("ignored"), "{line}");
        hub.send(Alias(1), 1, Payload::Text(name)).await;
        assert_eq!(hub.text(Alias(1), 1).await, name);
    }
    signal(&child, "TERM");
    assert_eq!(hub.closed().await.0, 1001);
    drop(hub);
    assert_eq!(soon("the end", child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn the_log_may_be_json() {
    let (child, address) = start(&["--log-format", "json", "--log", "debug"]).await;
    drop(Hub::welcomed(address).await);
    let log = terminate(child, "TERM").await;
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let lines = lines.collect::<Vec<_>>();
    assert!(lines.iter().all(|line| line["level"].is_string() && line["timestamp"].is_string()));
    let of_link = |line: &&serde_json::Value| line["message"] == "link open";
    assert!(lines.iter().find(of_link).is_some_and(|line| line["link"].is_u64()), "{log}");
}

#[tokio::test]
async fn without_demo_there_are_no_handlers() {
    let (_child, address) = start(&[]).await;
    let mut hub = Hub::welcomed(address).await;
    let tab = hub.attach(1).await;
    hub.ask(tab, 1, "/echo", &[]).await;
    let bytes = hub.next().await;
    let error = super::support::frame(&bytes);
    assert!(matches!(error, ServerFrame::Rejected(_)), "{error:?}");
    assert_eq!(get(address, "/", "").await.status, 404);
}

#[tokio::test]
async fn garbage_is_one_line_in_the_log() {
    let (child, address) = start(&[]).await;
    let mut hub = Hub::welcomed(address).await;
    hub.raw(Message::binary(vec![0xff; 8])).await;
    hub.closed().await;
    drop(hub);
    let log = terminate(child, "TERM").await;
    let lines = troubles(&log);
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("WARN"), "{log}");
    assert!(lines[0].contains("no frame of this direction has type 0xff"), "{log}");
}

#[tokio::test]
async fn forged_tokens_are_one_line_in_the_log_which_tells_no_secret() {
    let (child, address) = start(&[]).await;
    let (mut hub, welcome) = say_hello_on(Hub::dial(address).await, &super::support::hello()).await;
    for byte in [0xa5, 0xa6, 0xa7] {
        let forged = Welcome { token: Token([byte; 16]), ..welcome.clone() };
        let mut other = Hub::dial(address).await;
        other.say(&claim(&forged, 9)).await;
        let bytes = other.next().await;
        let refused = super::support::frame(&bytes);
        assert!(matches!(refused, ServerFrame::Denied(_)), "{refused:?}");
        other.closed().await;
    }
    hub.raw(Message::Close(None)).await;
    drop(hub);
    let log = terminate(child, "TERM").await;
    let lines = troubles(&log);
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("WARN") && lines[0].contains("its token or its user"), "{log}");
    let secrets = [welcome.token.0, welcome.session.0, [0xa5; 16]];
    let hex = |bytes: [u8; 16]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(!secrets.into_iter().any(|secret| log.contains(&hex(secret))), "{log}");
}

/// Returns a file that refuses every byte, as a full disk does.
#[cfg(target_os = "linux")]
fn full_disk() -> std::fs::File {
    std::fs::File::options().write(true).open("/dev/full").unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_log_that_cannot_be_written_hurts_no_link_and_no_drain() {
    let file = folder("full-log").join("tabmux.toml");
    std::fs::write(&file, "shards = 1").unwrap();
    let arguments = ["--demo", env!("CARGO_TARGET_TMPDIR"), "--config", file.to_str().unwrap()];
    let mut command = on_a_free_port(&arguments);
    command.stderr(full_disk());
    let (mut child, address) = listening(command).await;
    let mut other = Hub::with_socket(address, "/echo").await;
    let mut bad = Hub::welcomed(address).await;
    bad.raw(Message::binary(vec![0xff; 8])).await;
    assert_eq!(bad.closed().await.0, 1002);
    drop(bad);
    other.send(Alias(1), 1, Payload::Text("still there")).await;
    assert_eq!(other.text(Alias(1), 1).await, "still there");
    signal(&child, "TERM");
    assert_eq!(other.closed().await.0, 1001);
    drop(other);
    assert_eq!(soon("the end", child.wait()).await.unwrap().code(), Some(0));
}

/// Returns the writing end of a full pipe, and its other end, which nobody reads.
#[cfg(target_os = "linux")]
fn full_pipe() -> (std::io::PipeWriter, std::io::PipeReader) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // The kernel keeps this many bytes for a pipe.
    writer.write_all(&[b'\n'; 64 << 10]).unwrap();
    (writer, reader)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_no_link_and_no_drain() {
    let (stderr, _unread) = full_pipe();
    let mut command = on_a_free_port(&["--demo", env!("CARGO_TARGET_TMPDIR")]);
    command.stderr(stderr);
    let (mut child, address) = listening(command).await;
    let mut hub = Hub::with_socket(address, "/echo").await;
    hub.send(Alias(1), 1, Payload::Text("still there")).await;
    assert_eq!(hub.text(Alias(1), 1).await, "still there");
    signal(&child, "TERM");
    assert_eq!(hub.closed().await.0, 1001);
    drop(hub);
    assert_eq!(soon("the end", child.wait()).await.unwrap().code(), Some(0));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn log_lines_that_waited_for_a_reader_come_in_order() {
    let (stderr, mut reader) = full_pipe();
    let mut command = on_a_free_port(&[]);
    command.stderr(stderr);
    let (mut child, _) = listening(command).await;
    signal(&child, "TERM");
    let reading = tokio::task::spawn_blocking(move || {
        let mut log = String::new();
        reader.read_to_string(&mut log).map(|_| log)
    });
    assert_eq!(soon("the end", child.wait()).await.unwrap().code(), Some(0));
    let log = soon("the end of the log", reading).await.unwrap().unwrap();
    let place = |text| log.find(text).unwrap_or_else(|| panic!("no {text:?} in {}", log.trim()));
    assert!(place("INFO at most") < place("draining"), "{}", log.trim());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_error_that_nobody_reads_still_sets_the_exit_status() {
    let (stderr, _unread) = full_pipe();
    let mut command = serve(&["--config", "/nowhere/tabmux.toml"]);
    command.stderr(stderr);
    assert_eq!(soon("the end", command.status()).await.unwrap().code(), Some(1));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_error_that_cannot_be_written_still_sets_the_exit_status() {
    let mut command = serve(&["--config", "/nowhere/tabmux.toml"]);
    command.stderr(full_disk());
    assert_eq!(soon("the end", command.status()).await.unwrap().code(), Some(1));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_address_that_cannot_be_printed_is_logged_and_served() {
    let mut command = on_a_free_port(&[]);
    command.stdout(full_disk());
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.as_mut().unwrap()).lines();
    let line = logged(&mut log, "WARN").await;
    assert!(line.contains("standard output"), "{line}");
    let address = line.split_once("http://").and_then(|(_, rest)| rest.split_once('/')).unwrap().0;
    assert_eq!(get(address.parse().unwrap(), "/healthz", "").await.status, 200);
    signal(&child, "TERM");
    assert_eq!(soon("the end", child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_port_in_use_is_reported_with_what_to_do() {
    let (_child, address) = start(&[]).await;
    let said = fails(&["--listen", &address.to_string()]).await;
    let expected = format!(
        "tabmux: {address} is already in use; stop the other program or choose another port with \
         --listen\n"
    );
    assert!(said.ends_with(&expected), "{said}");
}

#[tokio::test]
async fn an_unknown_key_is_named() {
    let file = folder("unknown-key").join("tabmux.toml");
    let path = file.to_str().unwrap();
    for (text, expected) in [
        ("listne = \"x\"", "unknown field `listne`"),
        ("listen = \"3456\"", "write it as 127.0.0.1:3000"),
        ("[limits]\ntab = 3", "unknown field `tab`"),
        ("heartbeat_ms = \"soon\"", "heartbeat_ms"),
        ("drain_ms = 3600001", "drain_ms must be at most 3600000"),
        ("trusted_proxies = [\"proxy\"]", "\"proxy\" is no address; write it as 127.0.0.1"),
        ("allow_origins = [\"example.org\"]", "\"example.org\" is no origin"),
        ("[limits]\nqueue_bytes = 1", "limits.queue_bytes must be at least limits.message_bytes"),
    ] {
        std::fs::write(&file, text).unwrap();
        let said = fails(&["--config", path]).await;
        assert!(said.starts_with("tabmux: ") && said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn missing_assets_are_logged_at_the_start() {
    let (child, _) = start(&["--assets", "/nowhere"]).await;
    let log = terminate(child, "TERM").await;
    assert!(log.contains("/nowhere has no client.js: run `cargo xtask dist`"), "{log}");
    let half = folder("half");
    std::fs::write(half.join("client.js"), "").unwrap();
    std::fs::write(half.join("tiers.js"), "").unwrap();
    let (child, _) = start(&["--assets", half.to_str().unwrap()]).await;
    let log = terminate(child, "TERM").await;
    assert!(log.contains("half has no worker.js: run `cargo xtask dist`"), "{log}");
}

/// A clone in which the scripts were not built has none in its binary.
#[tokio::test]
async fn a_server_without_assets_serves_the_scripts_of_its_binary() {
    let (child, address) = listening(serve(&["--listen", "127.0.0.1:0"])).await;
    let script = tabmux_cli::SCRIPTS.iter().find(|(name, _)| *name == "worker.js");
    let response = get(address, "/tabmux/worker.js", "").await;
    let log = terminate(child, "TERM").await;
    match script {
        Some((_, bytes)) => {
            assert_eq!((response.status, response.body.as_bytes()), (200, *bytes));
            assert_eq!(troubles(&log), [""; 0]);
        }
        None => {
            assert_eq!(response.status, 404);
            assert!(log.contains("this binary has no client.js: run `cargo xtask dist`"), "{log}");
        }
    }
}

#[tokio::test]
async fn the_error_of_a_wrong_address_shows_a_right_one() {
    let output = soon("the end", serve(&["--listen", "3456"]).output()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("write it as 127.0.0.1:3000"), "{said}");
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let said = fails(&["--config", "/nowhere/tabmux.toml"]).await;
    assert!(said.contains("/nowhere/tabmux.toml"), "{said}");
}

#[tokio::test]
async fn a_missing_site_is_named() {
    let said = fails(&["--demo", "/nowhere/demo"]).await;
    assert_eq!(said, "tabmux: there is no folder /nowhere/demo to serve at /\n");
}

#[tokio::test]
async fn flags_override_the_file() {
    let folder = folder("override");
    let file = folder.join("tabmux.toml");
    let text = "listen = \"127.0.0.1:1\"\nassets = \"/nowhere\"\n[limits]\ntabs = 1\n";
    std::fs::write(&file, text).unwrap();
    std::fs::write(folder.join("client.js"), "mine").unwrap();
    let (file, assets) = (file.to_str().unwrap(), folder.to_str().unwrap());
    let (_child, address) = start(&["--config", file, "--assets", assets]).await;
    assert_eq!(get(address, "/tabmux/client.js", "").await.body, "mine");
}

/// Linux counts descriptors as the test expects.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_limit_of_open_files_is_a_limit_of_links() {
    let file = folder("open-files").join("tabmux.toml");
    std::fs::write(&file, "[limits]\nlinks = 1000").unwrap();
    let mut command = Command::new("sh");
    let (binary, file) = (env!("CARGO_BIN_EXE_tabmux"), file.display());
    let script = format!("ulimit -n 64; exec {binary} serve --listen 127.0.0.1:0 --config {file}");
    command.args(["-c", &script]).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (child, address) = listening(command).await;
    let limit = metric(address, "tabmux_links_limit").await as usize;
    assert!((1..64).contains(&limit), "{limit}");
    let mut hubs = Vec::new();
    for _ in 0..limit {
        hubs.push(Hub::welcomed(address).await);
    }
    // Silent connections take the descriptors that are kept for handshakes, and no more.
    let _silent = [(); 6].map(|()| std::net::TcpStream::connect(address).unwrap());
    for _ in 0..20 {
        assert_eq!(Hub::refused(address, &[]).await.0, 503);
        assert_eq!(get(address, "/healthz", "").await.status, 200);
    }
    let used = metric(address, "process_open_fds").await as usize;
    assert!((limit..64).contains(&used), "{used}");
    for hub in &mut hubs {
        hub.quiet().await;
    }
    hubs.pop();
    hubs.push(Hub::dial_until_open(address).await);
    drop(hubs);
    let log = terminate(child, "TERM").await;
    assert!(log.contains("the limit of open files is 64; raise it (ulimit -n"), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}

/// Another program may still use up the descriptors.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_without_free_descriptors_serves_its_open_links() {
    let (mut child, address) = start(&[]).await;
    let mut hub = Hub::welcomed(address).await;
    let pid = child.id().unwrap().try_into().unwrap();
    let files = rlimit::Resource::NOFILE;
    let (mut soft, mut hard) = (0, 0);
    rlimit::prlimit(pid, files, None, Some((&mut soft, &mut hard))).unwrap();
    assert_eq!(soft, hard, "the binary raises its limit");
    let limit = |soft| rlimit::prlimit(pid, files, Some((soft, hard)), None);
    limit(3).unwrap();
    let waiting = tokio::spawn(async move { Hub::welcomed(address).await });
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = logged(&mut log, "ERROR").await;
    assert!(line.contains("no connection can be accepted") && line.contains("ulimit -n"));
    hub.quiet().await;
    limit(soft).unwrap();
    soon("the one that waits", waiting).await.unwrap().quiet().await;
    hub.quiet().await;
    drop(hub);
    signal(&child, "TERM");
    while let Some(line) = soon("the end of the log", log.next_line()).await.unwrap() {
        assert!(!line.contains("ERROR"), "told twice: {line}");
    }
}

/// A connection that was bridged would cost two descriptors more.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_link_on_a_connection_that_was_used_for_http_is_one_descriptor() {
    let (_child, address) = start(&[]).await;
    let before = metric(address, "process_open_fds").await;
    let mut raw = Raw::dial(address).await;
    raw.say(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await;
    assert_eq!(raw.head().await.0, 200);
    raw.0.read_exact(&mut [0; 3]).await.unwrap();
    raw.say(&[head(&lines(address)).as_bytes(), &hello(None)].concat()).await;
    assert_eq!(raw.head().await.0, 101);
    raw.message().await;
    let one_more = async { while metric(address, "process_open_fds").await != before + 1.0 {} };
    soon("a link with one descriptor", one_more).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_many_ask_for_at_once_is_in_memory_once() {
    const LEN: usize = 8 << 20;
    let site = folder("large-and-popular");
    std::fs::write(site.join("large.bin"), vec![0; LEN]).unwrap();
    let (_child, address) = start(&["--demo", site.to_str().unwrap()]).await;
    let before = metric(address, "process_resident_memory_bytes").await;
    let _peers = crowd(address, "/large.bin", 24).await;
    let grown = metric(address, "process_resident_memory_bytes").await - before;
    assert!(grown < 4.0 * LEN as f64, "{} MiB for a file of 8 MiB", grown / 1_048_576.0);
}

#[cfg(unix)]
#[tokio::test]
async fn a_fifo_in_the_site_folder_is_no_page_and_does_not_keep_the_process() {
    let site = folder("fifo");
    let fifo = site.join("pipe.txt");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let (child, address) = start(&["--demo", site.to_str().unwrap()]).await;
    assert_eq!(get(address, "/pipe.txt", "").await.status, 404);
    terminate(child, "TERM").await;
}

#[tokio::test]
async fn a_gateway_serves_the_sockets_of_its_routes_and_logs_no_query() {
    let backend = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let route = format!("/chat/=ws://{}", backend.local_addr().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tabmux"));
    command.args(["gateway", "--listen", "127.0.0.1:0", "--log", "trace", "--route", &route]);
    command.args(["--cookies", "link"]);
    command.kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (child, address) = listening(command).await;
    let mut hub = Hub::welcomed(address).await;
    let tab = hub.attach(1).await;
    let serve = async {
        let (stream, _) = backend.accept().await.unwrap();
        tokio_tungstenite::accept_async(stream).await.unwrap()
    };
    let target = "/chat/room?token=secret";
    let (upstream, protocol) = tokio::join!(serve, hub.open(tab, 1, target, &[]));
    assert_eq!(protocol, "");
    drop(upstream);
    assert!(matches!(frame(&hub.next().await), ServerFrame::Close { code: 1006, .. }));
    hub.ask(tab, 2, "/chat/a b?token=secret", &[]).await;
    assert!(matches!(frame(&hub.next().await), ServerFrame::Rejected(_)));
    hub.leave(&[1]).await;
    let log = terminate(child, "TERM").await;
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test]
async fn a_gateway_without_a_route_says_what_it_needs() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tabmux"));
    let output = command.arg("gateway").output().await.unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("--route PREFIX=URL"));
}
