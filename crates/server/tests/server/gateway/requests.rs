//! What an upstream is asked for, and when a tab's socket opens.

use tabmux_server::{Admitted, Config, Server};

use super::world::{Backend, TAB, opened, rejected, route, tab, tab_with};
use crate::support::{Running, metric};

#[tokio::test]
async fn a_socket_opens_when_its_upstream_has_opened_and_has_its_sub_protocol() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let mut hub = tab(&server).await;
    hub.ask(TAB, 1, "/chat/room?x=1&y", &["v2.chat", "v1.chat"]).await;
    let stream = backend.stream().await;
    // Its upstream has a connection, and has opened nothing.
    hub.quiet().await;
    let mut conn = super::world::Conn::accept(stream).await;
    assert_eq!(opened(&mut hub).await, "v2.chat");
    assert_eq!(conn.request.uri().to_string(), "/chat/room?x=1&y");
    assert_eq!(conn.header("sec-websocket-protocol"), Some("v2.chat, v1.chat"));
    conn.send("hello").await;
    assert_eq!(hub.text(TAB, 1).await, "hello");
    hub.send(TAB, 1, tabmux_core::wire::Payload::Text("hi")).await;
    assert_eq!(conn.text().await, "hi");
    assert!(
        (metric(server.address, "tabmux_route_sockets{route=\"/chat/\"}").await - 1.0).abs() < 0.1
    );
}

#[tokio::test]
async fn messages_that_come_with_the_upgrade_are_not_lost() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let mut hub = tab(&server).await;
    hub.ask(TAB, 1, "/chat/", &[]).await;
    let mut conn = backend.conn().await;
    for text in ["one", "two", "three"] {
        conn.send(text).await;
    }
    opened(&mut hub).await;
    for text in ["one", "two", "three"] {
        assert_eq!(hub.text(TAB, 1).await, text);
    }
}

#[tokio::test]
async fn a_base_takes_the_place_of_the_prefix_and_the_longest_prefix_counts() {
    let (outer, inner) = (Backend::start().await, Backend::start().await);
    let builder = Server::builder()
        .route(route("/", outer.url()))
        .route(route("/chat", format!("{}/v1/", inner.url())));
    let server = Running::start(builder).await;
    let mut hub = tab(&server).await;
    let mut conns = Vec::new();
    for (socket, path, backend, wanted) in [
        (1, "/chat", &inner, "/v1/"),
        (2, "/chat/room?q", &inner, "/v1/room?q"),
        (3, "/chatter", &outer, "/chatter"),
        (4, "/chat/../admin", &outer, "/admin"),
        (5, "/x/%2e%2e/chat/y", &inner, "/v1/y"),
    ] {
        hub.ask(TAB, socket, path, &[]).await;
        let conn = backend.conn().await;
        assert_eq!(conn.request.uri().to_string(), wanted, "{path}");
        conns.push(conn);
        opened(&mut hub).await;
    }
}

#[tokio::test]
async fn an_upstream_sees_the_headers_of_the_link_and_none_that_only_a_proxy_may_set() {
    let backend = Backend::start().await;
    let server = backend.behind_route(|route| route.headers(vec!["X-Tenant".to_owned()])).await;
    let host = server.address.to_string();
    let origin = format!("http://{host}");
    let headers = [
        ("cookie", "a=1; b=2"),
        ("origin", &*origin),
        ("user-agent", "Browser/1"),
        ("accept-language", "de"),
        ("authorization", "Bearer x"),
        ("x-tenant", "t1"),
        ("x-secret", "s"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
    ];
    let mut hub = tab_with(&server, &headers).await;
    hub.ask(TAB, 1, "/chat/", &[]).await;
    let conn = backend.conn().await;
    for (name, value) in &headers[..6] {
        assert_eq!(conn.header(name), Some(*value), "{name}");
    }
    for (name, value) in [
        ("x-secret", None),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some(&*host)),
        ("host", Some(&*backend.address.to_string())),
    ] {
        assert_eq!(conn.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_says_where_the_browser_is_and_what_it_speaks() {
    let backend = Backend::start().await;
    let config = Config::default().trusted_proxies(vec!["127.0.0.1".to_owned()]);
    let server = backend.behind_server(|builder| builder.config(config), |route| route).await;
    let headers = [
        ("x-forwarded-for", "203.0.113.9, 198.51.100.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "app.example"),
    ];
    let mut hub = tab_with(&server, &headers).await;
    hub.ask(TAB, 1, "/chat/", &[]).await;
    let conn = backend.conn().await;
    assert_eq!(conn.header("x-forwarded-for"), Some("198.51.100.7"));
    assert_eq!(conn.header("x-forwarded-proto"), Some("https"));
    assert_eq!(conn.header("x-forwarded-host"), Some("app.example"));
}

#[tokio::test]
async fn a_header_that_the_judge_keeps_too_comes_once() {
    let backend = Backend::start().await;
    let judge = |builder: tabmux_server::Builder| {
        builder.judge(async |_| Ok(Admitted::user("ann").keep("cookie")))
    };
    let server = backend.behind_server(judge, |route| route).await;
    let mut hub = tab_with(&server, &[("cookie", "a=1")]).await;
    hub.ask(TAB, 1, "/chat/", &[]).await;
    let conn = backend.conn().await;
    assert_eq!(conn.request.headers().get_all("cookie").iter().count(), 1);
}

#[tokio::test]
async fn what_would_be_read_in_two_ways_is_refused_before_anybody_is_dialled() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let mut hub = tab(&server).await;
    let targets = [
        "/chat/a b",
        "/chat/a\r\nx: y",
        "/chat/?a b",
        "/chat/a#b",
        "/chat/a\\b",
        "/chat/..%2f..%2fadmin",
        "/chat/..;/admin",
    ];
    for (socket, target) in (1..).zip(targets) {
        hub.ask(TAB, socket, target, &[]).await;
        let text = rejected(&mut hub).await;
        assert!(text.contains("the socket"), "{target:?}: {text}");
    }
    hub.ask(TAB, 100, "/chat/../admin", &[]).await;
    let text = rejected(&mut hub).await;
    assert!(!text.contains("behind"), "it leads to no route: {text}");
    hub.ask(TAB, 101, "/chat/", &["not a token"]).await;
    assert!(rejected(&mut hub).await.contains("token"));
    // The next connection is that of the next socket.
    hub.ask(TAB, 102, "/chat/good", &[]).await;
    assert_eq!(backend.conn().await.request.uri().to_string(), "/chat/good");
}

#[tokio::test]
async fn a_route_may_be_for_some_origins_alone() {
    let backend = Backend::start().await;
    let allow = |builder: tabmux_server::Builder| builder.allow_origin("*");
    let origins = vec!["https://a.example".to_owned()];
    let server = backend.behind_server(allow, |route| route.allow_origins(origins)).await;
    let own = format!("http://{}", server.address);
    for origin in ["https://a.example", &own] {
        let mut hub = tab_with(&server, &[("origin", origin)]).await;
        hub.ask(TAB, 1, "/chat/", &[]).await;
        assert_eq!(backend.conn().await.header("origin"), Some(origin));
        opened(&mut hub).await;
    }
    let mut hub = tab_with(&server, &[("origin", "https://b.example")]).await;
    hub.ask(TAB, 1, "/chat/", &[]).await;
    assert!(rejected(&mut hub).await.contains("origin"));
}

#[tokio::test]
async fn a_handler_of_the_server_itself_comes_first() {
    let backend = Backend::start().await;
    let server = Running::start(crate::support::demo::install(
        Server::builder().route(route("/", backend.url())),
    ))
    .await;
    let mut hub = tab(&server).await;
    assert_eq!(hub.open(TAB, 1, "/echo", &[]).await, "");
    hub.ask(TAB, 2, "/other", &[]).await;
    backend.conn().await;
    opened(&mut hub).await;
}

#[tokio::test]
async fn a_route_that_has_no_meaning_is_an_error_that_names_it() {
    for (prefix, upstream) in [
        ("chat", "ws://a"),
        ("/a/../b", "ws://a"),
        ("/a?b", "ws://a"),
        ("/a", "http://a"),
        ("/a", "unix:x"),
    ] {
        let error = Server::builder().gateway(prefix, upstream).build().unwrap_err().to_string();
        assert!(error.contains(&format!("route {prefix:?}")), "{error}");
    }
    let twice = Server::builder().gateway("/a", "ws://a").gateway("/a/", "ws://b").build();
    assert!(twice.unwrap_err().to_string().contains("same prefix"));
}
