//! Connections for HTTP, and peers that do not behave on them.

use tabmux_server::{ApiKey, Config, Limits, Server};
use tokio::io::AsyncReadExt;

use super::{
    raw::{Raw, crowd},
    support::{Hub, Running, folder, get, metric, post, soon},
};

/// A server with one place for HTTP, which waits a tenth of a second for a peer.
async fn impatient() -> Running {
    let limits = Limits::default().http_connections(1);
    let config = Config::default().limits(limits).http_timeout_ms(100);
    Running::start(Server::builder().config(config)).await
}

/// What a peer hears until the server closes the connection.
async fn rest(raw: &mut Raw) -> Vec<u8> {
    let mut bytes = Vec::new();
    soon("the end", raw.0.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

#[tokio::test]
async fn a_peer_that_stops_reading_loses_its_place_in_time() {
    let site = folder("large");
    std::fs::write(site.join("large.bin"), vec![0; 16 << 20]).unwrap();
    let limits = Limits::default().http_connections(4);
    let config = Config::default().limits(limits).http_timeout_ms(100);
    let server = Running::start(Server::builder().config(config).site(site)).await;
    let address = server.address;
    let _peers = crowd(address, "/large.bin", 4).await;
    let free = async { while get(address, "/tabmux/stats", "").await.status != 200 {} };
    soon("a free place", free).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn peers_that_never_read_keep_nobody_from_the_api_and_the_scripts() {
    let (site, assets) = (folder("never-read"), folder("never-read-assets"));
    std::fs::write(site.join("large.bin"), vec![0; 16 << 20]).unwrap();
    std::fs::write(assets.join("client.js"), "export {}").unwrap();
    let limits = Limits::default().http_connections(624);
    // Not by a timeout.
    let config = Config::default().limits(limits).http_timeout_ms(3_600_000);
    let config = config.api_key(Some(ApiKey("a key of sixteen".to_owned())));
    let server = Running::start(Server::builder().config(config).site(site).assets(assets)).await;
    let address = server.address;
    let _peers = crowd(address, "/large.bin", 700).await;
    let served = async {
        while get(address, "/tabmux/client.js", "").await.status != 200 {}
        let key = "Authorization: Bearer a key of sixteen\r\n";
        let body = "{\"topic\": \"t\", \"text\": \"\"}";
        while post(address, "/tabmux/api/publish", key, body).await.status != 200 {}
    };
    soon("the script and the API", served).await;
    assert!(metric(address, "tabmux_http_connections").await <= 625.0);
    Hub::welcomed(address).await.quiet().await;
}

#[tokio::test]
async fn a_peer_that_says_one_byte_loses_its_place_in_time() {
    let server = impatient().await;
    let mut raw = Raw::dial(server.address).await;
    // The preface of HTTP/2 begins with it.
    raw.say(b"P").await;
    rest(&mut raw).await;
    let free = async { while get(server.address, "/tabmux/stats", "").await.status != 200 {} };
    soon("a free place", free).await;
}

#[tokio::test]
async fn the_preface_of_http_2_is_not_answered_in_http_2() {
    let server = impatient().await;
    let mut raw = Raw::dial(server.address).await;
    // The preface, and an empty SETTINGS frame.
    raw.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let answer = rest(&mut raw).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
}
