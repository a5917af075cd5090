//! TLS in the process.

use std::{io::Write as _, net::SocketAddr, path::PathBuf, sync::Arc};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tabmux_core::wire::{Alias, HubFrame, Payload, ServerFrame, SocketId, TabId, Upstream};
use tabmux_server::{Builder, Config, Error, Limits, Listen, Listeners, Server, TlsConfig};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    raw::{head, hello, lines, masked},
    support::{Running, folder, frame, get, metric, soon},
};

/// A certificate for a name, in files, and itself.
pub(crate) fn certificate(
    folder: &std::path::Path,
    name: &str,
) -> (TlsConfig, CertificateDer<'static>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([name.to_owned()]).unwrap();
    let files: [PathBuf; 2] = ["pem", "key"].map(|ending| folder.join(format!("{name}.{ending}")));
    std::fs::write(&files[0], cert.pem()).unwrap();
    std::fs::write(&files[1], signing_key.serialize_pem()).unwrap();
    let [pem, key] = files;
    (TlsConfig::new(pem, key), cert.der().clone())
}

fn start(config: Config) -> (Running, Vec<String>) {
    start_with(config, super::support::demo::install)
}

/// The same with other handlers.
pub(crate) fn start_with(
    config: Config,
    install: impl FnOnce(Builder) -> Builder,
) -> (Running, Vec<String>) {
    let config = config.listen(vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()]);
    let listeners = Listeners::open(&config).unwrap();
    let addresses = listeners.addresses();
    let text = addresses[0].strip_prefix("https://").unwrap().trim_end_matches('/');
    let address = text.parse().unwrap();
    let builder = install(Server::builder().config(config));
    (Running::start_on(builder, listeners, address), addresses)
}

/// A client that trusts these.
pub(crate) fn trusting(roots: &[CertificateDer<'static>], protocols: &[&[u8]]) -> ClientConfig {
    let mut store = RootCertStore::empty();
    roots.iter().for_each(|root| store.add(root.clone()).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

pub(crate) async fn dial(
    address: SocketAddr,
    name: &str,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    soon("TLS", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// Reads up to the end of a head.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(soon("a head", stream.read_u8()).await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

/// The payload of the next frame.
pub(crate) async fn message(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    assert_eq!(soon("a frame", stream.read_u8()).await.unwrap(), 0x82);
    let len = match stream.read_u8().await.unwrap() {
        126 => stream.read_u16().await.unwrap().into(),
        127 => stream.read_u64().await.unwrap().try_into().unwrap(),
        len => usize::from(len),
    };
    let mut payload = vec![0; len];
    soon("a payload", stream.read_exact(&mut payload)).await.unwrap();
    payload
}

/// Opens a link with one tab that has a socket for echoes, all said at once.
async fn link(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let lines = lines(SocketAddr::from(([127, 0, 0, 1], 1)));
    let attach = HubFrame::Attach { tab: TabId(1), last: 0 }.to_bytes();
    let (up, socket) = (Upstream { tab: Alias(1), n: 1 }, SocketId(1));
    let (protocols, path, credit) = (Vec::new(), "/echo", u64::MAX);
    let open = HubFrame::Open { up, socket, credit, path, protocols, ticket: "" }.to_bytes();
    let head = head(&lines);
    let bytes = [head.as_bytes(), &hello(None), &masked(&attach), &masked(&open)].concat();
    stream.write_all(&bytes).await.unwrap();
    assert!(read_head(stream).await.starts_with("HTTP/1.1 101"));
    for _ in 0..3 {
        message(stream).await;
    }
}

async fn echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), n: u64, text: &str) {
    let (up, socket, payload) = (Upstream { tab: Alias(1), n }, SocketId(1), Payload::Text(text));
    let data = HubFrame::Data { up, socket, payload }.to_bytes();
    stream.write_all(&masked_long(&data)).await.unwrap();
    loop {
        let bytes = message(stream).await;
        match frame(&bytes) {
            ServerFrame::Data { payload: Payload::Text(heard), .. } => {
                assert!(heard == text, "{} bytes of {}", heard.len(), text.len());
                return;
            }
            ServerFrame::Ack { .. } | ServerFrame::Credit { .. } | ServerFrame::Coming { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A binary message of a client, of any length.
fn masked_long(payload: &[u8]) -> Vec<u8> {
    if payload.len() < 60_000 {
        return masked(payload);
    }
    let mut bytes = vec![0x82, 0x80 | 127];
    bytes.extend((payload.len() as u64).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

#[tokio::test]
async fn links_and_pages_come_over_tls_and_nothing_comes_without() {
    let folder = folder("tls");
    let (tls, cert) = certificate(&folder, "localhost");
    let limits = Limits::default().lane_bytes(1 << 20);
    let (server, _) = start(Config::default().tls(vec![tls]).shards(2).limits(limits));
    let trusts = || trusting(std::slice::from_ref(&cert), &[b"http/1.1"]);
    let mut stream = dial(server.address, "localhost", trusts()).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    link(&mut stream).await;
    for (n, len) in [(2, 1), (3, 16 << 10), (4, 100_000), (5, 9)] {
        echo(&mut stream, n, &"x".repeat(len)).await;
    }
    let mut page = dial(server.address, "localhost", trusts()).await.unwrap();
    page.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(read_head(&mut page).await.starts_with("HTTP/1.1 200"));
    // A link on a connection that was used for HTTP.
    let mut second = dial(server.address, "localhost", trusts()).await.unwrap();
    second.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    read_head(&mut second).await;
    second.read_exact(&mut [0; 3]).await.unwrap();
    link(&mut second).await;
    echo(&mut second, 2, "hello").await;
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = soon("the end", plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // Those that go are noticed.
    drop((stream, second));
    server.stats(|stats| stats.links.open == 0).await;
}

#[tokio::test]
async fn what_speaks_http_2_alone_gets_no_connection() {
    let (tls, cert) = certificate(&folder("tls-alpn"), "localhost");
    let (server, _) = start(Config::default().tls(vec![tls]));
    let config = trusting(&[cert], &[b"h2"]);
    assert!(dial(server.address, "localhost", config).await.is_err());
}

#[tokio::test]
async fn each_name_has_its_certificate_and_a_reload_replaces_them() {
    let folder = folder("tls-names");
    let names = ["a.example", "b.example", "c.example"];
    let [(a, cert_a), (b, cert_b), (c, cert_c)] = names.map(|name| certificate(&folder, name));
    let config = |tls: &[&TlsConfig]| {
        Config::default().tls(tls.iter().map(|&tls| tls.clone()).collect()).hosts(vec!["*".into()])
    };
    let (server, _) = start(config(&[&a, &b]));
    let reaches = async |name: &str, cert: &CertificateDer<'static>| {
        let trusts = trusting(std::slice::from_ref(cert), &[]);
        dial(server.address, name, trusts).await.is_ok()
    };
    assert!(reaches("a.example", &cert_a).await && reaches("b.example", &cert_b).await);
    assert!(!reaches("b.example", &cert_a).await && !reaches("c.example", &cert_c).await);
    let mut open = dial(server.address, "a.example", trusting(std::slice::from_ref(&cert_a), &[]))
        .await
        .unwrap();
    link(&mut open).await;
    server.handle.reload(&config(&[&c])).unwrap();
    assert!(reaches("c.example", &cert_c).await && !reaches("a.example", &cert_a).await);
    // Open links keep what they have.
    echo(&mut open, 2, "still there").await;
    let wrong = TlsConfig::new(&a.cert, &b.key);
    let error = server.handle.reload(&config(&[&wrong])).unwrap_err().to_string();
    assert!(error.contains("b.example.key: it is no key of"), "{error}");
    let missing = TlsConfig::new(folder.join("missing.pem"), &b.key);
    let error = server.handle.reload(&config(&[&missing])).unwrap_err().to_string();
    assert!(error.contains("missing.pem"), "{error}");
    assert!(reaches("c.example", &cert_c).await);
}

#[tokio::test]
async fn a_listener_may_be_without_tls_and_that_of_the_metrics_is() {
    let (tls, _) = certificate(&folder("tls-plain"), "localhost");
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (plain, metrics) = (free(), free());
    let listen = vec![free().into(), Listen::from(plain).tls(false)];
    let config = Config::default().listen(listen).tls(vec![tls]).metrics_listen(Some(metrics));
    let listeners = Listeners::open(&config).unwrap();
    let _server = Running::start_on(Server::builder().config(config), listeners, plain);
    assert_eq!(get(plain, "/healthz", "").await.status, 200);
    assert_eq!(metric(metrics, "tabmux_links").await, 0.0);
}

#[tokio::test]
async fn who_does_not_finish_a_handshake_is_let_go_and_counted() {
    let (tls, _) = certificate(&folder("tls-slow"), "localhost");
    let metrics = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = Config::default().tls(vec![tls]).handshake_timeout_ms(100);
    let (server, _) = start(config.metrics_listen(Some(metrics)));
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    silent.write_all(&[0x16, 3, 1, 2]).await.unwrap();
    assert_eq!(soon("the end", silent.read(&mut [0; 9])).await.unwrap_or(0), 0);
    let mut garbage = TcpStream::connect(server.address).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = soon("the end", garbage.read_to_end(&mut rest)).await;
    for reason in ["handshake_timeout", "tls"] {
        let name = format!("tabmux_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(metric(metrics, &name).await, 1.0, "{reason}");
    }
}

#[tokio::test]
async fn a_record_that_does_not_come_whole_is_charged_to_its_link() {
    let (tls, root) = certificate(&folder("tls-partial"), "localhost");
    let (server, _) = start(Config::default().tls(vec![tls]));
    let config = trusting(&[root], &[b"http/1.1"]);
    let mut stream = dial(server.address, "localhost", config).await.unwrap();
    link(&mut stream).await;
    let (mut tcp, mut session) = stream.into_inner();
    let (up, socket) = (Upstream { tab: Alias(1), n: 2 }, SocketId(1));
    let payload = Payload::Text(&"x".repeat(12_000));
    let data = HubFrame::Data { up, socket, payload }.to_bytes();
    session.writer().write_all(&masked(&data)).unwrap();
    let mut record = Vec::new();
    session.write_tls(&mut record).unwrap();
    tcp.write_all(&record[..10_000]).await.unwrap();
    server.stats(|stats| (10_000..13_000).contains(&stats.charged.links)).await;
    tcp.write_all(&record[10_000..]).await.unwrap();
    server.stats(|stats| stats.charged.links == 0).await;
}

#[test]
fn a_missing_file_is_named_at_the_start() {
    let config =
        Config::default().tls(vec![TlsConfig::new("/nowhere/cert.pem", "/nowhere/key.pem")]);
    let error = Server::builder().config(config).build().unwrap_err();
    assert!(matches!(&error, Error::Config(text) if text.contains("/nowhere/cert.pem")), "{error}");
}
