//! Links to `wss:` addresses. Run by `cargo test -p tabmux-client --features rustls --test tls`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use tabmux_client::{
    Client, ConnectError, OwnedMessage, Status,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};
use tabmux_server::{Server, TaskSocket, task};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    process::Command,
};
use tokio_rustls::TlsAcceptor;

/// A certificate authority that only clients who are told to trust it trust.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Returns a configuration that trusts this authority alone.
    fn trust(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    }

    /// Returns a certificate for `localhost`, and its key.
    fn localhost(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }
}

async fn echo(mut socket: TaskSocket) {
    while let Some(message) = socket.next().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Serves an echo behind a proxy that speaks TLS. Returns the address of its links.
async fn serve(authority: &Authority) -> String {
    let server = Server::builder().socket("/echo", task(echo)).build().unwrap();
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let inner = plain.local_addr().unwrap();
    tokio::spawn(server.run(plain, std::future::pending()));
    let (certificate, key) = authority.localhost();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(carry(acceptor.clone(), stream, inner));
        }
    });
    format!("wss://localhost:{port}")
}

async fn carry(acceptor: TlsAcceptor, stream: TcpStream, inner: SocketAddr) {
    // A client that does not trust the certificate ends here.
    let Ok(mut outer) = acceptor.accept(stream).await else { return };
    let mut inner = TcpStream::connect(inner).await.unwrap();
    let _ = copy_bidirectional(&mut outer, &mut inner).await;
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(30), future).await;
    waited.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// Sends a message and waits for its echo.
async fn echoed(client: &Client) {
    let mut socket = soon("a socket", client.open("/echo", &[])).await.unwrap();
    socket.send("sealed").await.unwrap();
    assert_eq!(soon("the echo", socket.next()).await, Some(OwnedMessage::Text("sealed".into())));
}

#[tokio::test]
async fn a_link_over_tls_trusts_what_it_is_told_to_trust() {
    let authority = Authority::new();
    let url = serve(&authority).await;
    let client = Client::builder(url).tls(authority.trust()).connect().unwrap();
    echoed(&client).await;
}

#[tokio::test]
async fn a_link_over_tls_that_trusts_another_authority_fails_with_the_reason() {
    let url = serve(&Authority::new()).await;
    let client = Client::builder(url).tls(Authority::new().trust()).connect().unwrap();
    let mut status = client.status();
    let failed = soon("a failure", status.wait_for(|it| *it != Status::Connecting)).await.unwrap();
    let Status::Backoff { reason } = &*failed else { panic!("{failed:?}") };
    assert!(reason.contains("invalid peer certificate"), "{reason}");
}

/// The environment variable with the address that [`trusts_the_system`] dials.
const URL: &str = "TABMUX_TEST_URL";
const TRUSTED: &str = "SSL_CERT_FILE";

/// Runs the client in a process of its own, because a variable of its environment says what the
/// system trusts.
#[tokio::test]
async fn a_link_over_tls_trusts_what_the_system_trusts() {
    let authority = Authority::new();
    let url = serve(&authority).await;
    let name = format!("authority-{}.pem", std::process::id());
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, authority.certificate.pem()).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "trusts_the_system", "--ignored", "--nocapture"])
        .env(URL, url)
        .env(TRUSTED, &file)
        .output();
    let child = soon("the end", child).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{output}{}", String::from_utf8_lossy(&child.stderr));
    assert!(output.contains("1 passed"), "{output}");
}

#[tokio::test]
#[ignore = "a_link_over_tls_trusts_what_the_system_trusts runs it"]
async fn trusts_the_system() {
    let client = Client::connect(std::env::var(URL).unwrap()).unwrap();
    echoed(&client).await;
}

/// Runs the client in a process of its own, for the same reason.
#[tokio::test]
async fn a_system_that_trusts_nothing_is_told_at_once() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("no-certificates");
    let file = folder.join("none.pem");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(&file, "").unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "trusts_nothing", "--ignored"])
        .env(TRUSTED, &file)
        .env("SSL_CERT_DIR", &folder)
        .status();
    assert!(soon("the end", child).await.unwrap().success());
}

#[tokio::test]
#[ignore = "a_system_that_trusts_nothing_is_told_at_once runs it"]
async fn trusts_nothing() {
    let error = Client::connect("wss://localhost:1").unwrap_err();
    assert!(matches!(&error, ConnectError::Tls(_)), "{error:?}");
    assert!(error.to_string().contains("trusts no certificate"), "{error}");
}
