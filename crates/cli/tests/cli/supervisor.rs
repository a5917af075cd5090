//! What a supervisor gives the process, and what it is told.

use std::{
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener},
    },
    process::Stdio,
};

use tokio::process::{Child, Command};

use super::{
    binary::{listening, on_a_free_port, signal, start},
    support::{Hub, folder, get, soon},
};

/// Returns a server that gets a listener as descriptor 3, as systemd passes it.
fn activated(listener: OwnedFd, more: &str) -> Command {
    let mut command = Command::new("sh");
    let binary = env!("CARGO_BIN_EXE_tabmux");
    let serve = format!("exec {binary} serve --assets {} {more}", env!("CARGO_TARGET_TMPDIR"));
    let script = format!("exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ {serve}");
    command.args(["-c", &script]).stdin(Stdio::from(listener)).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn end(mut child: Child) {
    signal(&child, "TERM");
    assert!(soon("the end", child.wait()).await.unwrap().success());
}

#[tokio::test]
async fn a_listener_that_a_supervisor_keeps_stays_open_over_a_restart() {
    let kept = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = kept.local_addr().unwrap();
    let passed = || OwnedFd::from(kept.try_clone().unwrap());
    let (child, told) = listening(activated(passed(), "")).await;
    assert_eq!(told, address);
    Hub::welcomed(address).await.quiet().await;
    end(child).await;
    // Nobody serves now, so a client that dials waits.
    let waiting = tokio::spawn(async move { Hub::welcomed(address).await });
    let asking = tokio::spawn(async move { get(address, "/healthz", "").await.status });
    let (_child, _) = listening(activated(passed(), "")).await;
    soon("the one that waits", waiting).await.unwrap().quiet().await;
    assert_eq!(soon("an answer", asking).await.unwrap(), 200);
}

#[tokio::test]
async fn a_unix_socket_may_be_passed_too() {
    let path = folder("passed-unix").join("tabmux.sock");
    let kept = UnixListener::bind(&path).unwrap();
    let mut child = activated(OwnedFd::from(kept), "").spawn().unwrap();
    let answer = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(soon("an answer", answer).await.starts_with("HTTP/1.1 200"));
    signal(&child, "TERM");
    assert!(soon("the end", child.wait()).await.unwrap().success());
    assert!(path.exists(), "the file is the supervisor's");
}

#[tokio::test]
async fn a_supervisor_hears_when_the_server_is_ready_reloads_and_stops() {
    let path = folder("notify").join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let socket = std::sync::Arc::new(socket);
    let heard = || {
        let socket = std::sync::Arc::clone(&socket);
        tokio::task::spawn_blocking(move || {
            let mut bytes = [0; 64];
            let len = socket.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..len]).into_owned()
        })
    };
    let mut command = on_a_free_port(&[]);
    command.env("NOTIFY_SOCKET", &path);
    let (child, address) = listening(command).await;
    assert_eq!(heard().await.unwrap(), "READY=1");
    assert_eq!(get(address, "/healthz", "").await.status, 200);
    signal(&child, "HUP");
    assert_eq!(heard().await.unwrap(), "RELOADING=1");
    assert_eq!(heard().await.unwrap(), "READY=1");
    signal(&child, "TERM");
    assert_eq!(heard().await.unwrap(), "STOPPING=1");
    end_quietly(child).await;
}

async fn end_quietly(mut child: Child) {
    assert!(soon("the end", child.wait()).await.unwrap().success());
}

#[tokio::test]
async fn a_server_may_be_told_several_addresses() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let second: SocketAddr = free;
    let (child, first) = start(&["--listen", &second.to_string()]).await;
    for address in [first, second] {
        assert_eq!(get(address, "/healthz", "").await.status, 200);
    }
    end(child).await;
}
