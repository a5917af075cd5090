//! Where a server listens, and who it believes there.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use tabmux_core::wire::{Alias, HubFrame, SocketId, TabId, Upstream};
use tabmux_server::{
    Config, Ctx, Decision, Limits, Listen, ListenAddress, Listeners, Message, OpenRequest, Server,
    SocketHandler,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::{
    raw::{Raw, head, hello, lines, masked},
    support::{Hub, Running, folder, get, metric, soon},
};

/// A port that is free, on all addresses.
fn free_port() -> u16 {
    std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
}

fn start(config: Config, address: SocketAddr) -> Running {
    let listeners = Listeners::open(&config).unwrap();
    let builder = super::support::demo::install(Server::builder().config(config));
    Running::start_on(builder, listeners, address)
}

/// Says bytes over a Unix socket, and reads to the end.
async fn over_unix(path: &Path, bytes: &[u8]) -> String {
    let exchange = async {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    soon("an answer", exchange).await
}

#[tokio::test]
async fn one_server_has_several_listeners_of_one_limit() {
    let socket = folder("several").join("tabmux.sock");
    let first = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let second = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut listen = [first, second].map(Listen::from).to_vec();
    listen.push(ListenAddress::Unix(socket.clone()).into());
    let limits = Limits::default().links(2);
    let mut server = start(Config::default().listen(listen).limits(limits).drain_ms(0), first);
    let mut hubs =
        [Hub::with_socket(first, "/echo").await, Hub::with_socket(second, "/echo").await];
    for hub in &mut hubs {
        hub.quiet().await;
    }
    assert_eq!(Hub::refused(first, &[]).await.0, 503);
    let request = b"GET /tabmux/stats HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n";
    let answer = over_unix(&socket, request).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"links\":2"), "{answer}");
    drop(hubs);
    server.stop();
    server.ended().await.unwrap();
    assert!(!socket.exists(), "the file goes with the server");
}

#[tokio::test]
async fn all_of_ipv6_is_all_of_ipv4_too_unless_another_listener_has_that() {
    let port = free_port();
    let v6 = SocketAddr::from(([0; 16], port));
    let both = ["127.0.0.1", "[::1]"].map(|host| format!("{host}:{port}").parse().unwrap());
    let v4 = SocketAddr::from(([0; 4], port));
    for listen in [vec![v6.into()], vec![v4.into(), v6.into()], vec![v6.into(), v4.into()]] {
        let mut server = start(Config::default().listen(listen), both[0]);
        for address in both {
            assert_eq!(get(address, "/healthz", "").await.status, 200, "{address}");
            Hub::with_socket(address, "/echo").await.quiet().await;
        }
        server.stop();
        server.ended().await.unwrap();
    }
}

#[tokio::test]
async fn a_unix_socket_that_was_left_is_replaced_and_one_in_use_is_not() {
    use std::os::unix::fs::PermissionsExt;

    let path = folder("left").join("tabmux.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut listen = Listen::from(ListenAddress::Unix(path.clone()));
    listen.mode = Some(0o640);
    let config = Config::default().listen(vec![listen]);
    let listeners = Listeners::open(&config).unwrap();
    assert_eq!(listeners.addresses(), [format!("unix:{}", path.display())]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    let error = Listeners::open(&config).unwrap_err().to_string();
    assert!(error.contains("tabmux.sock is already in use"), "{error}");
    let file = folder("left-file").join("tabmux.sock");
    std::fs::write(&file, "mine").unwrap();
    let listen = vec![ListenAddress::Unix(file.clone()).into()];
    assert!(Listeners::open(&Config::default().listen(listen)).is_err());
    assert_eq!(std::fs::read(file).unwrap(), b"mine");
}

#[tokio::test]
async fn a_proxy_on_a_unix_socket_names_the_client_if_it_is_trusted() {
    for (trusted, status) in [(vec!["unix".to_owned()], "429"), (vec![], "101")] {
        let path = folder("trusted").join("tabmux.sock");
        let listen = vec![ListenAddress::Unix(path.clone()).into()];
        let limits = Limits::default().links_per_ip(1);
        let config = Config::default().listen(listen).limits(limits).trusted_proxies(trusted);
        let _server = start(config, SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut request = lines(SocketAddr::from(([127, 0, 0, 1], 1)));
        request.push("X-Forwarded-For: 192.0.2.1".to_owned());
        let bytes = [head(&request).as_bytes(), &hello(None)].concat();
        let mut streams = Vec::new();
        for expected in ["101", status] {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            let mut answer = [0; 12];
            soon("an answer", stream.read_exact(&mut answer)).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {expected}"));
            streams.push(stream);
        }
    }
}

/// A header of the PROXY protocol that names this client.
fn proxied(client: [u8; 4]) -> Vec<u8> {
    let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    [&head[..], &client, &[10, 0, 0, 1, 0x12, 0x34, 0, 80]].concat()
}

/// A server to which a proxy of this machine speaks, and one listener of which it speaks to so.
fn behind_a_proxy(trusted: &str) -> (Running, SocketAddr, UnboundedReceiver<Option<IpAddr>>) {
    let plain = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let listen = vec![plain.into(), Listen::from(address).proxy_protocol(true)];
    let limits = Limits::default().links_per_ip(1).http_per_ip(2);
    let config = Config::default().listen(listen).limits(limits).http_timeout_ms(3_600_000);
    let config = config.trusted_proxies(vec![trusted.to_owned()]);
    let listeners = Listeners::open(&config).unwrap();
    let (told, callers) = unbounded_channel();
    let builder = Server::builder().config(config).socket("/who", move || Who(told.clone()));
    (Running::start_on(builder, listeners, plain), address, callers)
}

/// Tells who opens a socket.
struct Who(UnboundedSender<Option<IpAddr>>);

impl SocketHandler for Who {
    fn open(&mut self, _: &mut Ctx<'_>, request: &OpenRequest<'_>) -> Decision {
        self.0.send(request.address()).unwrap();
        Decision::accept()
    }

    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {}
}

/// Opens a socket of the first tab.
async fn ask_who(raw: &mut Raw) {
    raw.say(&hello(None)).await;
    raw.say(&masked(&HubFrame::Attach { tab: TabId(1), last: 0 }.to_bytes())).await;
    let (up, socket) = (Upstream { tab: Alias(1), n: 1 }, SocketId(1));
    let (protocols, path) = (Vec::new(), "/who");
    let open = HubFrame::Open { up, socket, credit: 9, path, protocols, ticket: "" };
    raw.say(&masked(&open.to_bytes())).await;
}

#[tokio::test]
async fn a_proxy_that_passes_bytes_on_names_the_client_before_them() {
    let (server, address, mut callers) = behind_a_proxy("127.0.0.1");
    let mut links = Vec::new();
    for (client, status) in [([192, 0, 2, 1], 101), ([192, 0, 2, 1], 429), ([192, 0, 2, 2], 101)] {
        let mut raw = Raw::dial(address).await;
        raw.say(&proxied(client)).await;
        raw.say(head(&lines(address)).as_bytes()).await;
        assert_eq!(raw.head().await.0, status, "{client:?}");
        if status == 101 {
            ask_who(&mut raw).await;
            let caller = soon("a caller", callers.recv()).await.unwrap();
            assert_eq!(caller, Some(IpAddr::from(client)));
        }
        links.push(raw);
    }
    // Who is a proxy there is none elsewhere, and the other way round.
    assert_eq!(get(server.address, "/healthz", "").await.status, 200);
    let mut plain = Raw::dial(address).await;
    plain.say(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(soon("the end", plain.0.read(&mut [0; 9])).await.unwrap_or(0), 0);
    assert_eq!(metric(server.address, "tabmux_refused_total{reason=\"malformed\"}").await, 1.0);
}

#[tokio::test]
async fn nobody_but_a_trusted_proxy_names_a_client() {
    let (server, address, _callers) = behind_a_proxy("192.0.2.99");
    let mut raw = Raw::dial(address).await;
    raw.say(&proxied([192, 0, 2, 1])).await;
    assert_eq!(soon("the end", raw.0.read(&mut [0; 9])).await.unwrap_or(0), 0);
    assert_eq!(metric(server.address, "tabmux_refused_total{reason=\"malformed\"}").await, 1.0);
}

#[tokio::test]
async fn an_address_has_so_many_connections_for_http_and_others_have_theirs() {
    let (server, address, _callers) = behind_a_proxy("127.0.0.1");
    let ask = async |client| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /tabmux/stats HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(&[&proxied(client)[..], request].concat()).await.unwrap();
        let mut answer = [0; 12];
        soon("an answer", stream.read_exact(&mut answer)).await.unwrap();
        (String::from_utf8_lossy(&answer).into_owned(), stream)
    };
    let first = [ask([192, 0, 2, 1]).await, ask([192, 0, 2, 1]).await];
    assert!(first.iter().all(|(answer, _)| answer == "HTTP/1.1 200"));
    // One that stands still for half a second would make room: these two did not.
    let (third, _kept) = ask([192, 0, 2, 1]).await;
    let refused = metric(server.address, "tabmux_refused_total{reason=\"http_per_ip\"}").await;
    assert_eq!(
        (third == "HTTP/1.1 429", refused),
        (refused == 1.0, f64::from(third.ends_with("429")))
    );
    assert_eq!(ask([192, 0, 2, 2]).await.0, "HTTP/1.1 200");
    let open = metric(server.address, "tabmux_http_connections").await;
    assert!(open <= 4.0, "{open}");
}
