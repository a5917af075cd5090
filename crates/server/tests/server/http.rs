//! The HTTP face.

use std::{collections::BTreeMap, path::PathBuf};

use tabmux_server::{Config, Server};
use tokio_tungstenite::tungstenite::Error as WsError;

use super::{
    raw::crowd,
    support::{Hub, Response, Running, folder, get},
};

/// The numbers of `/tabmux/stats`. Their names are for ever: programs read them.
const NUMBERS: [&str; 66] = [
    "absent_full",
    "account_full",
    "asks",
    "asks_overdue",
    "asks_refused",
    "awaited",
    "awaiting_credit",
    "bad_opens",
    "charged_asks",
    "charged_credit",
    "charged_lanes",
    "charged_links",
    "charged_sessions",
    "charged_sockets",
    "charged_topics",
    "charged_visitors",
    "charged_waiting",
    "credentials_expired",
    "credentials_refused",
    "credentials_renewed",
    "deliveries",
    "detached",
    "dropped_gap",
    "dropped_recover",
    "dropped_replaced",
    "evicted",
    "expired",
    "foreign",
    "forged",
    "handshake_timeouts",
    "heartbeat_timeouts",
    "kept_bytes",
    "links",
    "messages_in",
    "messages_out",
    "no_credit",
    "no_memory",
    "not_reading",
    "over_credit",
    "parked",
    "protocol_errors",
    "publications",
    "publications_recovered",
    "queue_full",
    "queued_bytes",
    "recoveries",
    "recovery_gaps",
    "refused",
    "resumed",
    "sessions",
    "set_aside",
    "shared_bytes",
    "slow_subscriptions",
    "sockets",
    "sockets_refused",
    "stale",
    "stalled",
    "subscriptions",
    "subscriptions_refused",
    "subscriptions_revoked",
    "tabs",
    "tabs_refused",
    "takeovers",
    "too_large",
    "topics",
    "uptime_s",
];

async fn refusal(server: &Running, origin: &str) -> (u16, String) {
    match Hub::dial_from(server.address, Some(origin)).await {
        Err(WsError::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            (response.status().as_u16(), String::from_utf8(body).unwrap())
        }
        other => panic!("not refused: {:?}", other.err()),
    }
}

#[tokio::test]
async fn a_foreign_origin_is_refused_and_told_the_option() {
    let server = Running::demo().await;
    let (status, text) = refusal(&server, "https://evil.example").await;
    assert_eq!(status, 403);
    assert!(text.contains("--allow-origin https://evil.example"), "{text}");
}

#[tokio::test]
async fn the_own_host_and_a_listed_origin_are_allowed() {
    let builder = Server::builder().allow_origin("https://friend.example");
    let server = Running::start(builder).await;
    let own = format!("http://{}", server.address);
    for origin in [own.as_str(), "https://friend.example"] {
        let mut hub = Hub::dial_from(server.address, Some(origin)).await.unwrap();
        hub.say(&super::support::hello()).await;
        hub.next().await;
    }
    assert_eq!(refusal(&server, "https://evil.example").await.0, 403);
}

#[tokio::test]
async fn a_star_allows_every_origin() {
    let server = Running::start(Server::builder().allow_origin("*")).await;
    assert!(Hub::dial_from(server.address, Some("https://any.example")).await.is_ok());
}

#[tokio::test]
async fn the_link_needs_an_upgrade() {
    let server = Running::demo().await;
    let response = get(server.address, "/tabmux/ws", "").await;
    assert_eq!(response.status, 426);
    assert_eq!(response.header("upgrade"), Some("websocket"));
    assert!(response.body.contains("tabmux"), "{}", response.body);
}

#[tokio::test]
async fn health_says_ok() {
    let server = Running::demo().await;
    for path in ["/healthz", "/tabmux/healthz"] {
        let response = get(server.address, path, "").await;
        assert_eq!((response.status, response.body.as_str()), (200, "ok\n"));
    }
}

#[tokio::test]
async fn stats_are_json() {
    let server = Running::demo().await;
    let _hub = Hub::with_socket(server.address, "/echo").await;
    let response = get(server.address, "/tabmux/stats", "").await;
    assert_eq!(response.header("content-type"), Some("application/json"));
    let stats: serde_json::Value = serde_json::from_str(&response.body).unwrap();
    for (key, expected) in [("links", 1), ("tabs", 1), ("parked", 0), ("sockets", 1)] {
        assert_eq!(stats[key], expected, "{key}");
    }
}

#[tokio::test]
async fn the_names_of_the_numbers_are_these() {
    let server = Running::demo().await;
    let response = get(server.address, "/tabmux/stats", "").await;
    let stats = serde_json::from_str::<BTreeMap<String, u64>>(&response.body).unwrap();
    assert_eq!(stats.keys().collect::<Vec<_>>(), NUMBERS);
}

/// A server with a client in its folder.
async fn with_assets(name: &str) -> Running {
    let assets = folder(name);
    std::fs::write(assets.join("client.js"), "export {}").unwrap();
    std::fs::write(assets.join("tiers.js"), "export const tiers = 1").unwrap();
    std::fs::write(assets.join("worker.js"), "onconnect = 1").unwrap();
    std::fs::write(assets.join("debug.js"), "export const debug = 1").unwrap();
    for name in ["worker.0123abcd.js", "mux.0123abcd.wasm", "mirror.0123abcd.wasm"] {
        std::fs::write(assets.join(name), "of a build").unwrap();
    }
    for name in ["secret.txt", "secret.0123abcd.js", "client.js.br", "client.js.gz"] {
        std::fs::write(assets.join(name), "secret").unwrap();
    }
    Running::start(Server::builder().assets(assets)).await
}

/// The name of a response's content.
fn hash(response: &Response) -> String {
    response.header("etag").unwrap().trim_matches('"').to_owned()
}

#[tokio::test]
async fn the_client_is_script_that_is_asked_for_each_time() {
    let server = with_assets("client").await;
    let response = get(server.address, "/tabmux/client.js", "").await;
    assert_eq!((response.status, response.body.as_str()), (200, "export {}"));
    assert_eq!(response.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(response.header("cache-control"), Some("no-cache"));
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn the_worker_has_a_policy_of_its_own() {
    let server = with_assets("worker").await;
    let response = get(server.address, "/tabmux/worker.js", "").await;
    assert_eq!(response.header("content-type"), Some("text/javascript; charset=utf-8"));
    let policy = response.header("content-security-policy").unwrap();
    assert_eq!(
        policy,
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; \
         connect-src 'self' ws: wss: http: https:"
    );
}

#[tokio::test]
async fn an_address_that_names_the_content_is_kept_for_ever() {
    let server = with_assets("versioned").await;
    let hash = hash(&get(server.address, "/tabmux/worker.js", "").await);
    assert_eq!(hash.len(), 16);
    let response = get(server.address, &format!("/tabmux/worker.js?v={hash}"), "").await;
    let forever = "public, max-age=31536000, immutable";
    assert_eq!(response.header("cache-control"), Some(forever));
    let response = get(server.address, "/tabmux/worker.js?v=0123456789abcdef", "").await;
    assert_eq!(response.status, 404);
    assert_ne!(response.header("cache-control"), Some(forever));
}

/// A page whose worker was replaced asks for that of its own build, and a worker for its module.
#[tokio::test]
async fn a_name_that_holds_the_build_is_kept_for_ever_and_that_of_another_build_is_not_found() {
    let server = with_assets("builds").await;
    for (name, kind) in [
        ("worker.0123abcd.js", "text/javascript; charset=utf-8"),
        ("mux.0123abcd.wasm", "application/wasm"),
        ("mirror.0123abcd.wasm", "application/wasm"),
    ] {
        let response = get(server.address, &format!("/tabmux/{name}"), "").await;
        assert_eq!((response.status, response.header("content-type")), (200, Some(kind)), "{name}");
        let forever = "public, max-age=31536000, immutable";
        assert_eq!(response.header("cache-control"), Some(forever), "{name}");
        assert_eq!(response.header("cross-origin-embedder-policy"), Some("require-corp"));
        assert_eq!(response.header("cross-origin-resource-policy"), Some("cross-origin"));
        assert_eq!(response.header("access-control-allow-origin"), Some("*"));
        let has_policy = response.header("content-security-policy").is_some();
        assert_eq!(has_policy, name.starts_with("worker"), "{name}");
        let other = get(server.address, &format!("/tabmux/{}", name.replace("01", "02")), "").await;
        assert_eq!((other.status, other.header("cache-control")), (404, None), "{name}");
    }
    for name in ["secret.txt", "secret.0123abcd.js", "mux.0123abcd.wasm.br", "worker.0123.js"] {
        let response = get(server.address, &format!("/tabmux/{name}"), "").await;
        assert_eq!(response.status, 404, "{name}");
    }
}

/// Their address is the same in each build, and client.js runs with those of its own build only.
#[tokio::test]
async fn the_tiers_are_script_that_is_asked_for_each_time() {
    let server = with_assets("tiers").await;
    let response = get(server.address, "/tabmux/tiers.js", "").await;
    assert_eq!((response.status, response.body.as_str()), (200, "export const tiers = 1"));
    assert_eq!(response.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(response.header("cache-control"), Some("no-cache"));
    let known = format!("If-None-Match: \"{}\"\r\n", hash(&response));
    assert_eq!(get(server.address, "/tabmux/tiers.js", &known).await.status, 304);
}

#[tokio::test]
async fn what_developers_ask_a_browser_with_is_served_and_the_worker_by_any_query() {
    let server = with_assets("debug").await;
    let response = get(server.address, "/tabmux/debug.js", "").await;
    assert_eq!((response.status, response.body.as_str()), (200, "export const debug = 1"));
    assert_eq!(response.header("content-type"), Some("text/javascript; charset=utf-8"));
    let response = get(server.address, "/tabmux/worker.js?trace=64", "").await;
    assert_eq!((response.status, response.body.as_str()), (200, "onconnect = 1"));
}

#[tokio::test]
async fn a_page_that_is_isolated_from_other_origins_may_load_every_script() {
    let server = with_assets("isolated").await;
    for name in ["client.js", "tiers.js", "worker.js", "debug.js"] {
        let path = format!("/tabmux/{name}");
        let response = get(server.address, &path, "").await;
        let known = format!("If-None-Match: \"{}\"\r\n", hash(&response));
        let unchanged = get(server.address, &path, &known).await;
        assert_eq!((response.status, unchanged.status), (200, 304));
        for response in [response, unchanged] {
            let embedder = response.header("cross-origin-embedder-policy");
            assert_eq!(embedder, Some("require-corp"), "{name}");
            let resource = response.header("cross-origin-resource-policy");
            assert_eq!(resource, Some("cross-origin"), "{name}");
        }
    }
}

#[tokio::test]
async fn what_did_not_change_is_not_sent_again() {
    let server = with_assets("unchanged").await;
    let hash = hash(&get(server.address, "/tabmux/client.js", "").await);
    let known = format!("If-None-Match: \"{hash}\"\r\n");
    let response = get(server.address, "/tabmux/client.js", &known).await;
    assert_eq!((response.status, response.body.as_str()), (304, ""));
    let other = "If-None-Match: \"0\"\r\n";
    assert_eq!(get(server.address, "/tabmux/client.js", other).await.status, 200);
}

/// The client, and copies of it that are compressed. The server passes them on as they are.
async fn with_copies(name: &str) -> (PathBuf, Running) {
    let assets = folder(name);
    for (file, text) in [("", "export {}"), (".br", "in brotli"), (".gz", "in gzip")] {
        std::fs::write(assets.join(format!("client.js{file}")), text).unwrap();
    }
    let server = Running::start(Server::builder().assets(&assets)).await;
    (assets, server)
}

/// Who accepts these encodings.
fn accepting(encodings: &str) -> String {
    format!("Accept-Encoding: {encodings}\r\n")
}

#[tokio::test]
async fn a_script_is_sent_in_the_best_encoding_that_is_accepted() {
    let (_, server) = with_copies("copies").await;
    let cases = [
        ("gzip, deflate, br, zstd", Some("br")),
        ("GZIP", Some("gzip")),
        ("x-gzip", Some("gzip")),
        ("br;q=0.5, gzip;q=0.8", Some("gzip")),
        ("br;q=0.001", Some("br")),
        ("br;q=0, gzip", Some("gzip")),
        ("br ; q=0 , gzip ; q=0.000", None),
        ("*", Some("br")),
        ("*;q=0.1, gzip;q=0.2", Some("gzip")),
        ("br;q=0, *", Some("gzip")),
        ("*;q=0", None),
        ("gzip, *;q=0", Some("gzip")),
        ("identity, br;q=0.5", None),
        ("identity;q=0.5, br;q=0.5", Some("br")),
        ("identity;q=0, gzip", Some("gzip")),
        ("identity;q=0", None),
        ("zstd, deflate", None),
        ("br;q=2, gzip;q=nan, brotli", None),
        ("", None),
        (",;, ;q=1", None),
    ];
    for (accepted, expected) in cases {
        let response = get(server.address, "/tabmux/client.js", &accepting(accepted)).await;
        assert_eq!(response.header("content-encoding"), expected, "{accepted}");
        let body = match expected {
            Some("br") => "in brotli",
            Some(_) => "in gzip",
            None => "export {}",
        };
        assert_eq!((response.status, response.body.as_str()), (200, body), "{accepted}");
        assert_eq!(response.header("vary"), Some("Accept-Encoding"), "{accepted}");
        let script = Some("text/javascript; charset=utf-8");
        assert_eq!(response.header("content-type"), script, "{accepted}");
    }
}

#[tokio::test]
async fn encodings_may_be_accepted_in_several_lines_or_not_at_all() {
    let (_, server) = with_copies("lines-of-encodings").await;
    let lines = [accepting("br;q=0"), accepting("gzip")].concat();
    let response = get(server.address, "/tabmux/client.js", &lines).await;
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    let response = get(server.address, "/tabmux/client.js", "").await;
    assert_eq!((response.header("content-encoding"), &*response.body), (None, "export {}"));
    assert_eq!(response.header("vary"), Some("Accept-Encoding"));
}

#[tokio::test]
async fn each_encoding_has_an_etag_of_its_own_and_is_kept_for_ever_by_the_version() {
    let (_, server) = with_copies("etags").await;
    let version = hash(&get(server.address, "/tabmux/client.js", "").await);
    let path = format!("/tabmux/client.js?v={version}");
    let brotli = get(server.address, &path, &accepting("br")).await;
    assert_eq!(brotli.header("content-encoding"), Some("br"));
    let forever = "public, max-age=31536000, immutable";
    assert_eq!(brotli.header("cache-control"), Some(forever));
    let tag = brotli.header("etag").unwrap();
    assert_ne!(tag, format!("\"{version}\""));
    // A proxy that packs an answer anew makes its tag a weak one.
    for tag in [tag.to_owned(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let known = format!("If-None-Match: {tag}\r\n");
        let headers = [accepting("br"), known.clone()].concat();
        let unchanged = get(server.address, &path, &headers).await;
        assert_eq!((unchanged.status, &*unchanged.body), (304, ""), "{tag}");
        assert_eq!(unchanged.header("vary"), Some("Accept-Encoding"));
    }
    let known = format!("If-None-Match: {tag}\r\n");
    assert_eq!(get(server.address, &path, &known).await.body, "export {}");
}

#[tokio::test]
async fn a_copy_that_is_older_than_its_script_is_not_sent() {
    let (assets, server) = with_copies("old-copies").await;
    let file = std::fs::File::options().write(true).open(assets.join("client.js.br")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let response = get(server.address, "/tabmux/client.js", &accepting("br, gzip;q=0.5")).await;
    assert_eq!((response.header("content-encoding"), &*response.body), (Some("gzip"), "in gzip"));
}

#[tokio::test]
async fn nothing_else_of_the_folder_is_served() {
    let server = with_assets("else").await;
    for name in ["secret.txt", "client.js.br", "client.js.gz"] {
        let path = format!("/tabmux/{name}");
        assert_eq!(get(server.address, &path, "").await.status, 404, "{name}");
    }
}

#[tokio::test]
async fn a_client_that_was_not_built_says_how() {
    let server = Running::start(Server::builder().assets(folder("empty"))).await;
    let response = get(server.address, "/tabmux/client.js", "").await;
    assert_eq!(response.status, 404);
    assert!(response.body.contains("cargo xtask dist"), "{}", response.body);
}

#[tokio::test]
async fn scripts_may_be_a_part_of_the_program() {
    const SCRIPTS: &[(&str, &[u8])] = &[("client.js", b"plain"), ("client.js.br", b"in brotli")];
    let server = Running::start(Server::builder().scripts(SCRIPTS)).await;
    let script = get(server.address, "/tabmux/client.js", "").await;
    assert_eq!((script.status, &*script.body), (200, "plain"));
    assert_eq!(script.header("cache-control"), Some("no-cache"));
    let copy = get(server.address, "/tabmux/client.js", &accepting("br")).await;
    assert_eq!((copy.header("content-encoding"), &*copy.body), (Some("br"), "in brotli"));
    let known = format!("If-None-Match: {}\r\n", script.header("etag").unwrap());
    assert_eq!(get(server.address, "/tabmux/client.js", &known).await.status, 304);
    let missing = get(server.address, "/tabmux/worker.js", "").await;
    assert_eq!(missing.status, 404);
    assert!(missing.body.contains("Builder::assets"), "{}", missing.body);
}

#[tokio::test]
async fn a_folder_comes_before_scripts_of_the_program() {
    let assets = folder("before");
    std::fs::write(assets.join("client.js"), "of the folder").unwrap();
    let builder = Server::builder().scripts(&[("client.js", b"of the program")]).assets(assets);
    let server = Running::start(builder).await;
    assert_eq!(get(server.address, "/tabmux/client.js", "").await.body, "of the folder");
}

#[tokio::test]
async fn a_site_is_served_with_types_and_a_policy() {
    let site = folder("site");
    std::fs::write(site.join("index.html"), "<!doctype html>").unwrap();
    std::fs::write(site.join("style.css"), "a {}").unwrap();
    let server = Running::start(Server::builder().site(site)).await;
    let page = get(server.address, "/", "").await;
    assert_eq!((page.status, page.body.as_str()), (200, "<!doctype html>"));
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'self'; connect-src 'self' ws: wss:"), "{policy}");
    let style = get(server.address, "/style.css", "").await;
    assert_eq!(style.header("content-type"), Some("text/css; charset=utf-8"));
    for path in ["/missing", "/../Cargo.toml", "/%2e%2e/Cargo.toml", "//etc/hostname", "/x/"] {
        assert_eq!(get(server.address, path, "").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_file_that_changed_is_sent_as_it_is_now_also_while_the_old_one_is_being_sent() {
    let site = folder("changing");
    let file = site.join("file.bin");
    std::fs::write(&file, vec![b'a'; 16 << 20]).unwrap();
    let server = Running::start(Server::builder().site(&site)).await;
    let _old = crowd(server.address, "/file.bin", 1).await;
    // Of the same length, and of the same time as what was there.
    let time = std::fs::metadata(&file).unwrap().modified().unwrap();
    std::fs::write(&file, vec![b'b'; 16 << 20]).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    let new = get(server.address, "/file.bin", "").await.body;
    assert!(new.len() == 16 << 20 && new.bytes().all(|byte| byte == b'b'));
}

#[tokio::test]
async fn the_router_mounts_in_another_app() {
    let server = crate::support::demo::install(Server::builder()).build().unwrap();
    let app = axum::Router::new()
        .route("/mine", axum::routing::get(|| async { "mine" }))
        .merge(server.router());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app).await });
    assert_eq!(get(address, "/mine", "").await.body, "mine");
    let mut hub = Hub::with_socket(address, "/echo").await;
    let leaving = tokio::spawn(async move { server.leave().await });
    assert_eq!(hub.closed().await.0, 1001);
    super::support::soon("the server to leave", leaving).await.unwrap();
}

#[test]
fn the_router_merges_with_every_app_that_has_no_routes_below_tabmux() {
    let site = folder("merged");
    let builders = [
        Server::builder(),
        Server::builder().site(&site).config(Config::default().metrics(false)),
        crate::support::demo::install(Server::builder()),
    ];
    for server in builders.map(|builder| builder.build().unwrap()) {
        let mine = || axum::routing::get(|| async { "mine" });
        for path in ["/", "/healthz", "/metrics", "/tabmux", "/{name}", "/{*rest}"] {
            let app = axum::Router::new().route(path, mine());
            let app = app.fallback(|| async { "nothing here" });
            drop(app.clone().merge(server.router()).merge(axum::Router::new()));
            drop(server.router().merge(app.clone()));
            drop(app.nest("/nested", server.router()));
        }
        drop(server.router().fallback_service(server.site()).merge(server.metrics()));
    }
}

#[tokio::test]
async fn the_router_mounts_in_an_app_that_has_a_health_of_its_own() {
    let server = Server::builder().build().unwrap();
    let app = axum::Router::new()
        .route("/healthz", axum::routing::get(|| async { "mine" }))
        .merge(server.router());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app).await });
    assert_eq!(get(address, "/healthz", "").await.body, "mine");
    assert_eq!(get(address, "/tabmux/healthz", "").await.body, "ok\n");
}

#[tokio::test]
async fn the_router_of_a_server_with_a_site_mounts_in_an_app_with_a_fallback() {
    let site = std::env::temp_dir().join(format!("tabmux-merged-site-{}", std::process::id()));
    std::fs::create_dir_all(&site).unwrap();
    std::fs::write(site.join("page.html"), "a page").unwrap();
    let server = Server::builder().site(&site).build().unwrap();
    let mine = axum::Router::new()
        .route("/", axum::routing::get(|| async { "mine" }))
        .fallback(|| async { "nothing here" })
        .merge(server.router())
        .nest_service("/site", server.site());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, mine).await });
    assert_eq!(get(address, "/", "").await.body, "mine");
    assert_eq!(get(address, "/elsewhere", "").await.body, "nothing here");
    assert_eq!(get(address, "/site/page.html", "").await.body, "a page");
    assert_eq!(get(address, "/tabmux/healthz", "").await.body, "ok\n");
    std::fs::remove_dir_all(site).unwrap();
}
