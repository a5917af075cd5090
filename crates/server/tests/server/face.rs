//! What every answer over HTTP has, and the API's manners.

use std::net::SocketAddr;

use tabmux_server::{ApiKeyFile, Config, Server};

use super::{
    raw::{Raw, head, lines},
    support::{Response, Running, folder, get, metric, post, request},
};

/// Asks for a path by a name of the server.
async fn get_as(address: SocketAddr, host: &str, path: &str) -> Response {
    request(address, "GET", path, &format!("Host: {host}\r\n"), "").await
}

/// The status of a handshake that calls the server by this name.
async fn link_as(address: SocketAddr, host: &str) -> u16 {
    let mut raw = Raw::dial(address).await;
    let mut lines = lines(address);
    lines[0] = format!("Host: {host}");
    raw.say(head(&lines).as_bytes()).await;
    raw.head().await.0
}

fn named(hosts: &[&str]) -> Config {
    Config::default().hosts(hosts.iter().map(|&host| host.to_owned()).collect())
}

#[tokio::test]
async fn on_this_machine_alone_a_server_answers_to_the_names_of_this_machine() {
    let server = Running::start(Server::builder()).await;
    let address = server.address;
    for host in ["localhost", "app.localhost:1", "127.0.0.1", "[::1]:3000"] {
        assert_eq!(get_as(address, host, "/tabmux/stats").await.status, 200, "{host}");
        assert_eq!(link_as(address, host).await, 101, "{host}");
    }
    for path in ["/tabmux/stats", "/metrics", "/tabmux/client.js", "/tabmux/who", "/missing"] {
        let refused = get_as(address, "evil.example", path).await;
        assert_eq!(refused.status, 421, "{path}");
        assert!(refused.body.contains("put it into hosts of the configuration"), "{path}");
    }
    assert_eq!(link_as(address, "evil.example").await, 421);
    assert_eq!(metric(address, "tabmux_refused_total{reason=\"host\"}").await, 6.0);
    for path in ["/healthz", "/livez", "/tabmux/healthz", "/tabmux/livez"] {
        assert_eq!(get_as(address, "10.0.0.1:3000", path).await.status, 200, "{path}");
    }
    // No browser leaves it out.
    assert_eq!(request(address, "GET", "/tabmux/stats", "", "").await.status, 200);
}

#[tokio::test]
async fn a_server_that_is_told_its_names_answers_to_no_other_until_a_reload() {
    let config = named(&["a.example", "*.b.example"]);
    let server = Running::start(Server::builder().config(config)).await;
    for (host, status) in [("A.example:1", 101), ("x.b.example", 101), ("localhost", 421)] {
        assert_eq!(link_as(server.address, host).await, status, "{host}");
    }
    server.handle.reload(&named(&["*"])).unwrap();
    assert_eq!(link_as(server.address, "evil.example").await, 101);
    let error = server.handle.reload(&named(&["https://a.example"])).unwrap_err().to_string();
    assert!(error.contains("hosts: \"https://a.example\" is no name of a host"), "{error}");
}

#[tokio::test]
async fn a_router_in_an_app_has_the_names_that_it_is_told() {
    for (config, status) in [(Config::default(), 200), (named(&["a.example"]), 421)] {
        let server = Server::builder().config(config).build().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, server.router()).into_future());
        assert_eq!(get_as(address, "any.example", "/tabmux/stats").await.status, status);
        assert_eq!(get_as(address, "a.example", "/tabmux/stats").await.status, 200);
    }
}

#[tokio::test]
async fn no_answer_lets_a_browser_guess_its_type_or_another_site_read_it() {
    let site = folder("dressed");
    std::fs::write(site.join("page.html"), "a page").unwrap();
    std::fs::write(site.join("client.js"), "export {}").unwrap();
    let server = Running::start(Server::builder().site(&site).assets(&site)).await;
    for (path, policy) in [
        ("/page.html", "same-origin"),
        ("/missing", "same-origin"),
        ("/healthz", "same-origin"),
        ("/metrics", "same-origin"),
        ("/tabmux/stats", "same-origin"),
        ("/tabmux/api/publish", "same-origin"),
        ("/tabmux/worker.js", "same-origin"),
        ("/tabmux/client.js", "cross-origin"),
        // By the listener itself.
        ("/tabmux/ws", "same-origin"),
    ] {
        let answer = get(server.address, path, "").await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), Some(policy), "{path}");
    }
    let scripts = get(server.address, "/tabmux/client.js", "Origin: https://a.example\r\n").await;
    assert_eq!(scripts.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_done_are_told_in_words() {
    let plain = Running::start(Server::builder()).await;
    let site = Running::start(Server::builder().site(folder("words"))).await;
    for address in [plain.address, site.address] {
        for path in ["/", "/missing", "/tabmux/missing", "/tabmux/no/such", "/../x"] {
            let answer = get(address, path, "").await;
            assert_eq!(answer.status, 404, "{path}");
            assert!(!answer.body.is_empty(), "{path}");
            let typ = answer.header("content-type");
            assert_eq!(typ, Some("text/plain; charset=utf-8"), "{path}");
        }
        for (method, path, allowed) in [
            ("GET", "/tabmux/api/publish", "POST"),
            ("POST", "/tabmux/stats", "GET,HEAD"),
            ("DELETE", "/healthz", "GET,HEAD"),
        ] {
            let host = "Host: localhost\r\n";
            let answer = request(address, method, path, host, "").await;
            assert_eq!((answer.status, answer.header("allow")), (405, Some(allowed)), "{path}");
            assert!(answer.body.contains("Allow"), "{path}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn the_numbers_in_json_can_be_turned_off() {
    let server = Running::start(Server::builder().config(Config::default().stats(false))).await;
    assert_eq!(get(server.address, "/tabmux/stats", "").await.status, 404);
    assert_eq!(get(server.address, "/metrics", "").await.status, 200);
}

#[tokio::test]
async fn the_numbers_in_json_are_where_the_metrics_are() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = Config::default().metrics_listen(Some(free)).hosts(vec!["a.example".to_owned()]);
    let server = Running::start(Server::builder().config(config)).await;
    assert_eq!(get_as(server.address, "a.example", "/tabmux/stats").await.status, 404);
    // The names of the site are not those of a listener for numbers.
    assert_eq!(get(free, "/tabmux/stats", "").await.status, 200);
    assert_eq!(get_as(free, "evil.example", "/tabmux/stats").await.status, 421);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_in_the_site_folder_leads_to_files_of_the_folder_alone() {
    use std::os::unix::fs::symlink;

    let (site, secret) = (folder("linked-site"), folder("linked-secret"));
    std::fs::write(secret.join("secret.txt"), "secret").unwrap();
    std::fs::create_dir(site.join("inner")).unwrap();
    std::fs::write(site.join("inner/page.txt"), "a page").unwrap();
    symlink(secret.join("secret.txt"), site.join("file.txt")).unwrap();
    symlink(&secret, site.join("folder")).unwrap();
    symlink("inner/page.txt", site.join("page.txt")).unwrap();
    // The folder itself may be a link.
    let entry = folder("linked-entry").join("site");
    symlink(&site, &entry).unwrap();
    let server = Running::start(Server::builder().site(entry)).await;
    for path in ["/page.txt", "/inner/page.txt"] {
        assert_eq!(get(server.address, path, "").await.body, "a page", "{path}");
    }
    for path in ["/file.txt", "/folder/secret.txt"] {
        let answer = get(server.address, path, "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.body.contains("secret"), "{path}");
    }
}

/// A request of the API, with these headers.
async fn publish(address: SocketAddr, headers: &str, body: &str) -> (u16, serde_json::Value) {
    let answer = post(address, "/tabmux/api/publish", headers, body).await;
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

#[tokio::test]
async fn several_keys_are_good_at_once_until_a_reload_and_wrong_ones_are_counted() {
    let folder = folder("api-keys");
    let config = |names: &[&str]| {
        let keys = names.iter().map(|name| {
            let file = folder.join(name);
            std::fs::write(&file, format!("the key of {name}, long\n")).unwrap();
            ApiKeyFile::new(*name, file)
        });
        Config::default().api_keys(keys.collect())
    };
    let server = Running::start(Server::builder().config(config(&["old", "new"]))).await;
    let address = server.address;
    let status = async |header: &str, name: &str| {
        let header = format!("Authorization: {header} the key of {name}, long\r\n");
        publish(address, &header, "{\"topic\":\"t\",\"text\":\"\"}").await.0
    };
    for scheme in ["Bearer", "bearer", "BEARER", "Bearer "] {
        assert_eq!(status(scheme, "old").await, 200, "{scheme}");
    }
    assert_eq!((status("Bearer", "new").await, status("Basic", "new").await), (200, 401));
    server.handle.reload(&config(&["new"])).unwrap();
    assert_eq!((status("Bearer", "new").await, status("Bearer", "old").await), (200, 401));
    let count = async |result: &str| {
        metric(address, &format!("tabmux_api_requests_total{{result=\"{result}\"}}")).await
    };
    assert_eq!((count("ok").await, count("wrong_key").await), (6.0, 2.0));
    assert_eq!(metric(address, "tabmux_api_publications_total").await, 6.0);

    std::fs::write(folder.join("new"), "short").unwrap();
    let wrong = Config::default().api_keys(vec![ApiKeyFile::new("new", folder.join("new"))]);
    let error = server.handle.reload(&wrong).unwrap_err().to_string();
    assert!(error.contains("the key \"new\" of api_keys must have at least 16"), "{error}");
    let missing = Config::default().api_keys(vec![ApiKeyFile::new("x", folder.join("missing"))]);
    let error = server.handle.reload(&missing).unwrap_err().to_string();
    assert!(error.contains("cannot be read from") && error.contains("missing"), "{error}");
}

#[tokio::test]
async fn an_error_of_the_api_names_the_publication_and_the_field() {
    let folder = folder("api-errors");
    std::fs::write(folder.join("key"), "a key of sixteen").unwrap();
    let keys = vec![ApiKeyFile::new("a", folder.join("key"))];
    let server = Running::start(Server::builder().config(Config::default().api_keys(keys))).await;
    let key = "Authorization: Bearer a key of sixteen\r\n";
    let good = "{\"topic\":\"t\",\"text\":\"\"}";
    for (item, field) in [
        ("{\"topic\":\"t\",\"txt\":\"\"}", Some("txt")),
        ("{\"text\":\"\"}", Some("topic")),
        ("{\"topic\":7,\"text\":\"\"}", Some("topic")),
        ("{\"topic\":\"t\",\"text\":{}}", Some("text")),
        ("{\"topic\":\"t\",\"base64\":1}", Some("base64")),
        ("{\"topic\":\"t\",\"base64\":\"*\"}", Some("base64")),
        ("{\"topic\":\"\",\"text\":\"\"}", Some("topic")),
        ("{\"topic\":\"t\"}", Some("text")),
        ("7", None),
    ] {
        let (status, fault) = publish(server.address, key, item).await;
        assert_eq!((status, fault["field"].as_str()), (400, field), "{item}: {fault}");
        assert!(fault["error"].is_string() && fault["index"].is_null(), "{item}: {fault}");
        let batch = format!("[{good},{item}]");
        let (status, fault) = publish(server.address, key, &batch).await;
        assert_eq!((status, fault["field"].as_str()), (400, field), "{batch}: {fault}");
        assert_eq!(fault["index"], 1, "{batch}: {fault}");
    }
    let (_, fault) = publish(server.address, key, "{").await;
    assert!(fault["error"].as_str().unwrap().contains("no JSON"), "{fault}");
}
