//! What the listener lets in, at each limit: the refusal, the metric, and the server's health.

use std::net::SocketAddr;

use tabmux_core::wire::{Alias, Payload};
use tabmux_server::{ApiKey, Config, Limits, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use tokio_tungstenite::tungstenite::Error as WsError;

use super::support::{Hub, Running, get, metric, soon};

async fn limited(limits: Limits) -> Running {
    with(Config::default().limits(limits)).await
}

async fn with(config: Config) -> Running {
    Running::start(Server::builder().config(config)).await
}

/// What opens a WebSocket.
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// How many were refused for a limit. It is asked for over HTTP: the server is well.
async fn refusals(address: SocketAddr, reason: &str) -> f64 {
    metric(address, &format!("tabmux_refused_total{{reason=\"{reason}\"}}")).await
}

#[tokio::test]
async fn the_limit_of_links_refuses_with_a_hint() {
    let server = limited(Limits::default().links(2)).await;
    let mut first = Hub::welcomed(server.address).await;
    let second = Hub::welcomed(server.address).await;
    let (status, retry) = Hub::refused(server.address, &[]).await;
    assert_eq!(status, 503);
    assert!(retry.is_some_and(|seconds| (2..=10).contains(&seconds)), "{retry:?}");
    assert_eq!(refusals(server.address, "links").await, 1.0);
    assert_eq!(metric(server.address, "tabmux_admitted_total").await, 2.0);
    first.quiet().await;
    drop(second);
    Hub::dial_until_open(server.address).await;
}

#[tokio::test]
async fn links_of_one_address_behind_a_proxy_are_limited() {
    let limits = Limits::default().links_per_ip(2);
    let trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    let server = with(Config::default().limits(limits).trusted_proxies(trusted_proxies)).await;
    let address = server.address;
    let dial = async |client| Hub::dial_with(address, &[("x-forwarded-for", client)]).await;
    let first = dial("192.0.2.1").await.unwrap();
    // What the client says of itself stands before what the proxy says of it.
    let _second = dial("198.51.100.7, 192.0.2.1").await.unwrap();
    for spoofed in ["192.0.2.1", "198.51.100.8, 192.0.2.1", "garbage, 192.0.2.1"] {
        let (status, retry) = Hub::refused(address, &[("x-forwarded-for", spoofed)]).await;
        assert_eq!(status, 429);
        assert!(retry.is_some_and(|seconds| seconds >= 30), "{retry:?}");
    }
    assert_eq!(refusals(address, "links_per_ip").await, 3.0);
    let _other = dial("192.0.2.2").await.unwrap();
    // Garbage is the proxy's own, and this machine is not counted.
    for _ in 0..4 {
        dial("!, unknown").await.unwrap();
    }
    drop(first);
    let again = async { while dial("192.0.2.1").await.is_err() {} };
    soon("a free place", again).await;
}

#[tokio::test]
async fn a_peer_that_is_not_trusted_cannot_name_another_client() {
    let limits = Limits::default().links_per_ip(1);
    let server = limited(limits).await;
    for _ in 0..3 {
        Hub::dial_with(server.address, &[("x-forwarded-for", "192.0.2.1")]).await.unwrap();
    }
}

#[tokio::test]
async fn the_limit_holds_for_links_that_come_through_axum() {
    let limits = Limits::default().links_per_ip(1);
    let trusted_proxies = vec!["127.0.0.1".to_owned()];
    let config = Config::default().limits(limits).trusted_proxies(trusted_proxies);
    let server = Server::builder().config(config).build().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = server.router().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, app).into_future());
    let client = [("x-forwarded-for", "192.0.2.1")];
    let hub = Hub::dial_with(address, &client).await.unwrap();
    let (status, retry) = Hub::refused(address, &client).await;
    assert_eq!((status, retry.is_some()), (429, true));
    drop(hub);
    let again = async { while Hub::dial_with(address, &client).await.is_err() {} };
    soon("a free place", again).await;
}

#[tokio::test]
async fn links_of_one_user_are_limited_as_the_proxy_or_the_application_names_users() {
    let limits = Limits::default().links_per_user(2);
    let trusted_proxies = vec!["127.0.0.1".to_owned()];
    let user_header = Some("X-User".to_owned());
    let config =
        Config::default().limits(limits).trusted_proxies(trusted_proxies).user_header(user_header);
    let by_cookie = Server::builder().config(config.clone()).user(|request| {
        let cookie = request.header("cookie")?;
        cookie.strip_prefix("user=").map(str::to_owned)
    });
    for (server, header, users) in [
        (with(config).await, "x-user", ["ann", "bob"]),
        (Running::start(by_cookie).await, "cookie", ["user=ann", "user=bob"]),
    ] {
        let address = server.address;
        let dial = async |user| Hub::dial_with(address, &[(header, user)]).await;
        let first = dial(users[0]).await.unwrap();
        let _second = dial(users[0]).await.unwrap();
        assert_eq!(Hub::refused(address, &[(header, users[0])]).await.0, 429);
        assert_eq!(refusals(address, "links_per_user").await, 1.0);
        let _other = dial(users[1]).await.unwrap();
        for _ in 0..3 {
            Hub::dial(address).await;
        }
        drop(first);
        soon("a free place", async { while dial(users[0]).await.is_err() {} }).await;
    }
}

/// A server that believes this proxy, run on a listener of its own and mounted in an app.
async fn behind(proxy: &str) -> (Running, [SocketAddr; 2]) {
    let builder = || {
        let trusted_proxies = vec![proxy.to_owned()];
        let user_header = Some("X-User".to_owned());
        let config = Config::default().trusted_proxies(trusted_proxies).user_header(user_header);
        Server::builder().config(config)
    };
    let server = builder().build().unwrap();
    let app = axum::Router::new().merge(server.router()).merge(server.metrics());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async { axum::serve(listener, app).await });
    let running = Running::start(builder()).await;
    let both = [running.address, address];
    (running, both)
}

#[tokio::test]
async fn a_request_that_names_its_user_twice_is_refused() {
    let (_running, both) = behind("127.0.0.1").await;
    for address in both {
        for (first, second) in [("ann", "bob"), ("ann", "ann"), ("", "bob"), ("ann", "\u{e4}")] {
            let headers = format!("{UPGRADE}X-User: {first}\r\nx-user: {second}\r\n");
            let answer = get(address, "/tabmux/ws", &headers).await;
            assert_eq!(answer.status, 400, "{first:?}, {second:?}");
            assert!(answer.body.contains("the header X-User came twice"), "{}", answer.body);
        }
        assert_eq!(refusals(address, "user_header").await, 4.0);
        assert_eq!(metric(address, "tabmux_admitted_total").await, 0.0);
        assert!(Hub::dial_with(address, &[("x-user", "ann, bob")]).await.is_ok());
    }
}

#[tokio::test]
async fn a_user_header_that_does_not_count_may_come_twice() {
    let (_running, both) = behind("192.0.2.1").await;
    for address in both {
        assert!(Hub::dial_with(address, &[("x-user", "ann"), ("x-user", "bob")]).await.is_ok());
    }
}

#[tokio::test]
async fn a_user_header_is_not_believed_without_a_proxy() {
    let user_header = Some("X-User".to_owned());
    let config = Config::default().user_header(user_header);
    let error = Server::builder().config(config).build().err().unwrap().to_string();
    assert!(error.contains("user_header needs trusted_proxies"), "{error}");
}

#[tokio::test]
async fn a_storm_is_let_in_bit_by_bit() {
    let server = limited(Limits::default().handshakes_per_s(1)).await;
    let mut hub = Hub::welcomed(server.address).await;
    let storm = async {
        while refusals(server.address, "handshakes_per_s").await == 0.0 {
            let _ = Hub::dial_from(server.address, None).await;
        }
    };
    soon("a refusal", storm).await;
    hub.quiet().await;
    Hub::dial_until_open(server.address).await;
}

#[tokio::test]
async fn of_too_many_who_say_nothing_the_oldest_goes() {
    let server = limited(Limits::default().handshakes(2)).await;
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    for gone in &mut silent[..3] {
        assert_eq!(soon("the end", gone.read(&mut [0; 1])).await.unwrap_or(0), 0);
    }
    let mut hub = Hub::welcomed(server.address).await;
    hub.quiet().await;
    assert!(refusals(server.address, "handshakes").await >= 3.0);
}

#[tokio::test]
async fn a_crowd_that_says_what_it_wants_is_answered_to_the_last() {
    let limits = Limits::default().handshakes(16).links(10);
    let server = limited(limits).await;
    let address = server.address;
    let crowd = (0..50).map(|_| tokio::spawn(Hub::dial_with(address, &[])));
    let (mut open, mut refused) = (Vec::new(), 0);
    for one in crowd.collect::<Vec<_>>() {
        match soon("an answer", one).await.unwrap() {
            Ok(hub) => open.push(hub),
            Err(WsError::Http(response)) if response.status() == 503 => refused += 1,
            Err(other) => panic!("no answer: {other}"),
        }
    }
    assert_eq!((open.len(), refused), (10, 40));
}

#[tokio::test]
async fn who_says_nothing_goes_in_time() {
    let server = with(Config::default().handshake_timeout_ms(50)).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(soon("the end", silent.read(&mut [0; 1])).await.unwrap(), 0);
    assert_eq!(refusals(server.address, "handshake_timeout").await, 1.0);
}

/// A connection on which one request was answered.
async fn kept_alive(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok\n") {
        let byte = soon("the answer", stream.read_u8()).await.unwrap();
        answer.push(byte);
    }
    stream
}

#[tokio::test]
async fn beyond_the_limit_of_http_connections_only_health_and_metrics_answer() {
    let key = Some(ApiKey("a key of sixteen".to_owned()));
    let config = Config::default().limits(Limits::default().http_connections(1));
    let server = with(config.api_key(key).http_timeout_ms(3_600_000)).await;
    let address = server.address;
    // A request that the server is at work on: its body has yet to come.
    let mut kept = TcpStream::connect(address).await.unwrap();
    let head = "POST /tabmux/api/publish HTTP/1.1\r\nHost: localhost\r\n\
                Authorization: Bearer a key of sixteen\r\nContent-Length: 9\r\n\
                Expect: 100-continue\r\n\r\n";
    kept.write_all(head.as_bytes()).await.unwrap();
    // Shards read connections at the same time: without this, another one could take the place.
    let mut line = [0; 12];
    soon("the server to want the body", kept.read_exact(&mut line)).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 100");
    assert_eq!(metric(address, "tabmux_http_connections").await, 2.0);
    let refused = get(address, "/tabmux/stats", "").await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    for path in ["/healthz", "/tabmux/healthz", "/livez", "/tabmux/livez"] {
        assert_eq!(get(address, path, "").await.status, 200, "{path}");
    }
    assert_eq!(refusals(address, "http_connections").await, 1.0);
    Hub::welcomed(address).await.quiet().await;
    drop(kept);
    let free = async { while get(address, "/tabmux/stats", "").await.status != 200 {} };
    soon("a free place", free).await;
}

#[tokio::test]
async fn an_http_connection_that_stops_in_a_head_or_idles_is_closed() {
    let server = with(Config::default().http_timeout_ms(100)).await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost").await.unwrap();
    let mut rest = Vec::new();
    soon("the end", slow.read_to_end(&mut rest)).await.unwrap();
    let mut idle = kept_alive(server.address).await;
    assert_eq!(soon("the end", idle.read(&mut [0; 1])).await.unwrap(), 0);
    assert_eq!(get(server.address, "/healthz", "").await.status, 200);
}

/// What comes when a body is announced and only its beginning is sent.
async fn half_a_body(address: SocketAddr, key: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /tabmux/api/publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\
         Content-Length: 1000000\r\n\r\n[{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n") {
        answer.push(soon("an answer", stream.read_u8()).await.unwrap());
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_body_is_read_from_who_has_a_key_and_for_a_time() {
    let key = "a key of sixteen";
    let api_key = Some(ApiKey(key.to_owned()));
    let server = with(Config::default().api_key(api_key).http_timeout_ms(100)).await;
    let refused = half_a_body(server.address, "another").await;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let late = half_a_body(server.address, key).await;
    assert!(late.starts_with("HTTP/1.1 408"), "{late}");
    assert_eq!(get(server.address, "/healthz", "").await.status, 200);
}

#[tokio::test]
async fn who_sends_too_fast_is_read_later_and_loses_nothing() {
    let limits = Limits::default().messages_per_s(20);
    let config = Config::default().limits(limits).shards(1);
    let server =
        Running::start(crate::support::demo::install(Server::builder()).config(config)).await;
    let mut fast = Hub::with_socket(server.address, "/echo").await;
    let mut other = Hub::with_socket(server.address, "/echo").await;
    for number in 0..60 {
        fast.send(Alias(1), 1, Payload::Text(&number.to_string())).await;
    }
    for number in 0..60 {
        assert_eq!(fast.text(Alias(1), 1).await, number.to_string());
    }
    fast.quiet().await;
    other.quiet().await;
    assert!(metric(server.address, "tabmux_link_pauses_total").await >= 1.0);
    // One that goes while it waits to be read is noticed.
    for _ in 0..60 {
        fast.send(Alias(1), 1, Payload::Text("more")).await;
    }
    drop(fast);
    server.stats(|stats| stats.links.open == 1).await;
    other.quiet().await;
}
