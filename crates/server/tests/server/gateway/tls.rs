//! Upstreams that speak TLS.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tabmux_core::wire::Payload;
use tabmux_server::Server;
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};
use tokio_tungstenite::{
    accept_async,
    tungstenite::{Message, protocol::CloseFrame},
};

use super::world::{TAB, closed, opened, rejected, route, tab};
use crate::support::{Hub, Running, folder, soon};

/// What accepts TLS as `name`, and the certificate (PEM) of its authority.
fn acceptor(name: &str) -> (TlsAcceptor, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    (TlsAcceptor::from(Arc::new(config)), authority.pem())
}

#[tokio::test]
async fn an_upstream_may_have_its_own_authority_and_another_name() {
    use futures_util::SinkExt;
    let (acceptor, authority) = acceptor("app.internal");
    let path = folder("gateway-tls").join("ca.pem");
    std::fs::write(&path, authority).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://{}", listener.local_addr().unwrap());
    let builder = Server::builder()
        .route(route("/chat/", &url).ca_file(&path).server_name("app.internal"))
        .route(route("/wrong/", &url).ca_file(&path));
    let server = Running::start(builder).await;
    let mut hub = tab(&server).await;
    hub.ask(TAB, 1, "/chat/", &[]).await;
    let (stream, _) = soon("a connection", listener.accept()).await.unwrap();
    let stream = soon("TLS", acceptor.accept(stream)).await.unwrap();
    let mut ws = soon("the handshake", accept_async(stream)).await.unwrap();
    opened(&mut hub).await;
    ws.send(Message::text("in secret")).await.unwrap();
    assert_eq!(hub.text(TAB, 1).await, "in secret");
    // Without the name its certificate is that of somebody else.
    hub.ask(TAB, 2, "/wrong/", &[]).await;
    let (stream, _) = soon("a connection", listener.accept()).await.unwrap();
    assert!(soon("TLS", acceptor.accept(stream)).await.is_err());
    assert!(rejected(&mut hub).await.contains("takes no connections"));
}

/// A task carries the messages of such an upstream, and a shard those of others.
#[tokio::test]
async fn an_upstream_that_speaks_tls_ends_as_others_do() {
    use futures_util::{SinkExt, StreamExt};
    let (acceptor, authority) = acceptor("app.internal");
    let path = folder("gateway-tls-ends").join("ca.pem");
    std::fs::write(&path, authority).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://{}", listener.local_addr().unwrap());
    let route = route("/chat/", &url).ca_file(&path).server_name("app.internal");
    let server = Running::start(Server::builder().route(route)).await;
    let mut hub = tab(&server).await;
    let open = async |hub: &mut Hub, socket| {
        hub.ask(TAB, socket, "/chat/", &[]).await;
        let (stream, _) = soon("a connection", listener.accept()).await.unwrap();
        let stream = soon("TLS", acceptor.accept(stream)).await.unwrap();
        let ws = soon("the handshake", accept_async(stream)).await.unwrap();
        opened(hub).await;
        ws
    };
    let frame =
        |code: u16, reason: &'static str| CloseFrame { code: code.into(), reason: reason.into() };
    let mut ws = open(&mut hub, 1).await;
    ws.send(Message::text("last")).await.unwrap();
    ws.close(Some(frame(4001, "gone"))).await.unwrap();
    assert_eq!(hub.text(TAB, 1).await, "last");
    assert_eq!(closed(&mut hub).await, (4001, "gone".to_owned()));
    let mut ws = open(&mut hub, 2).await;
    hub.send(TAB, 2, Payload::Text("bye")).await;
    hub.close(TAB, 2, 4002, "left").await;
    assert_eq!(soon("a message", ws.next()).await.unwrap().unwrap(), Message::text("bye"));
    let end = soon("a close", ws.next()).await.unwrap().unwrap();
    assert_eq!(end, Message::Close(Some(frame(4002, "left"))));
}
