//! The handlers that tests of `WebSocket` in web-platform-tests talk to, for pages in mode `mux`:
//! `cargo xtask wpt`. They do what `e2e/wpt/server.mjs` does for pages in other modes. The first
//! line of output is the port.

use std::{error::Error, net::SocketAddr, time::Duration};

use tabmux_server::{Opening, OwnedMessage, Server, TaskSocket, listen, task, task_opening};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let quiet = || task(|mut socket| async move { while socket.next().await.is_some() {} });
    let server = Server::builder()
        .allow_origin("*")
        .socket("/echo", task_opening(echo))
        .socket("/echo_close_data", task(until_goodbye))
        .socket("/handshake_sleep_2", task_opening(late))
        .socket("/sleep_10_v13", task_opening(never))
        .socket("/echo_exit", task(first_message_ends_it))
        .socket("/empty-message", task(empty))
        .socket("/echo-query", task(query))
        .socket("/echo-query_v13", task(query))
        .socket("/protocol", task_opening(first_protocol))
        .socket("/protocol_array", task_opening(first_protocol))
        .socket("/handshake_protocol", task_opening(foobar))
        .socket("/handshake_no_protocol", quiet())
        .socket("/handshake_no_extensions", quiet())
        .socket("/remote-close", task(close_as_asked))
        .build()?;
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    println!("{}", listener.local_addr()?.port());
    Ok(server.run(listener, std::future::pending()).await?)
}

async fn echo(opening: Opening) {
    let mut socket = match opening.protocols().iter().any(|offered| offered == "echo") {
        true => opening.accept_protocol("echo"),
        false => opening.accept(),
    };
    while let Some(message) = socket.next().await {
        // As `echo_wsh.py` has it.
        let is_last = message == OwnedMessage::Text("Goodbye".to_owned());
        if socket.send(message).await.is_err() || is_last {
            return;
        }
    }
}

async fn until_goodbye(mut socket: TaskSocket) {
    let goodbye = OwnedMessage::Text("Goodbye".to_owned());
    while socket.next().await.is_some_and(|message| message != goodbye) {}
}

async fn late(opening: Opening) {
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(opening.accept());
}

async fn never(opening: Opening) {
    tokio::time::sleep(Duration::from_secs(10)).await;
    drop(opening);
}

async fn first_message_ends_it(mut socket: TaskSocket) {
    socket.next().await;
}

async fn empty(mut socket: TaskSocket) {
    while let Some(message) = socket.next().await {
        let answer = if message.is_empty() { "pass" } else { "fail" };
        if socket.send(answer).await.is_err() {
            return;
        }
    }
}

async fn query(mut socket: TaskSocket) {
    let query = socket.target().split_once('?').map_or("", |(_, query)| query).to_owned();
    if socket.send(query).await.is_ok() {
        while socket.next().await.is_some() {}
    }
}

async fn first_protocol(opening: Opening) {
    let protocol = opening.protocols().first().cloned().unwrap_or_default();
    let mut socket = match &*protocol {
        "" => opening.accept(),
        _ => opening.accept_protocol(&*protocol),
    };
    if socket.send(protocol).await.is_ok() {
        while socket.next().await.is_some() {}
    }
}

async fn foobar(opening: Opening) {
    if opening.protocols().iter().any(|offered| offered == "foobar") {
        let mut socket = opening.accept_protocol("foobar");
        while socket.next().await.is_some() {}
    }
}

async fn close_as_asked(socket: TaskSocket) {
    let query = socket.target().split_once('?').map_or("", |(_, query)| query);
    let value = |name: &str| {
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    if value("abrupt").is_some() {
        socket.close(1006, "");
    } else {
        let code = value("code").and_then(|code| code.parse().ok()).unwrap_or(1005);
        socket.close(code, &value("reason").unwrap_or_default());
    }
}
