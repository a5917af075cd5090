//! The address that a client dials, with its headers and its TLS configuration.

#[cfg(feature = "rustls")]
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{
        self,
        client::IntoClientRequest,
        error::UrlError,
        handshake::client::{Request, generate_key},
        http::{
            HeaderName, HeaderValue, Uri,
            header::{SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL},
        },
        protocol::WebSocketConfig,
    },
};

use crate::ConnectError;

/// How long a ticket may take to be shown. It is of no use after that.
const PATIENCE: Duration = Duration::from_secs(10);

/// The path at which a server serves links.
const PATH: &str = "/tabmux/ws";

/// Size of the read and of the write buffer of each link, in bytes.
const BUFFER: usize = 8 << 10;

/// An address, and the headers of each request for a link.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    request: Request,
    /// The TLS configuration, for addresses that begin with `wss:`.
    #[cfg(feature = "rustls")]
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Destination {
    /// Parses the address and the headers.
    pub(crate) fn new(url: &str, headers: &[(String, String)]) -> Result<Self, ConnectError> {
        let fault = |source| ConnectError::Url { url: url.to_owned(), source };
        let uri = with_path(url.parse::<Uri>().map_err(|error| fault(error.into()))?);
        match uri.scheme_str() {
            Some("ws") => {}
            Some("wss") if cfg!(feature = "rustls") => {}
            Some("wss") => return Err(ConnectError::NoTls { url: url.to_owned() }),
            _ => return Err(fault(UrlError::UnsupportedUrlScheme.into())),
        }
        let mut request = uri.into_client_request().map_err(fault)?;
        for (name, value) in headers {
            let fault = || ConnectError::Header { name: name.clone() };
            let key = HeaderName::try_from(name).map_err(|_| fault())?;
            let value = HeaderValue::try_from(value).map_err(|_| fault())?;
            request.headers_mut().append(key, value);
        }
        #[cfg(feature = "rustls")]
        let tls = None;
        Ok(Self {
            request,
            #[cfg(feature = "rustls")]
            tls,
        })
    }

    /// Sets the TLS configuration: the caller's, or one that trusts the certificates of the system.
    #[cfg(feature = "rustls")]
    pub(crate) fn set_tls(
        &mut self,
        config: Option<Arc<rustls::ClientConfig>>,
    ) -> Result<(), ConnectError> {
        self.tls = match config {
            None if self.request.uri().scheme_str() == Some("wss") => Some(system_tls()?),
            config => config,
        };
        Ok(())
    }

    /// Returns the address of links, with its path and query.
    pub(crate) fn url(&self) -> String {
        self.request.uri().to_string()
    }

    /// Shows a ticket at a path of the server. Nobody is told of a failure: the server asks again.
    pub(crate) async fn show(mut self, ticket: String, path: String) {
        let protocols = HeaderValue::try_from(format!("tabmux.ticket, {ticket}"));
        let (Ok(protocols), Some(uri)) = (protocols, at_path(self.request.uri(), &path)) else {
            return;
        };
        *self.request.uri_mut() = uri;
        self.request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocols);
        let showing = async {
            if let Ok(mut socket) = self.dial().await {
                // The server closes it at once. The library answers the close while it is read.
                while let Some(Ok(_)) = socket.next().await {}
            }
        };
        let _ = timeout(PATIENCE, showing).await;
    }

    /// Opens a link. The error is a text for people. If the server refused, it contains the
    /// server's reason.
    pub(crate) async fn dial(
        mut self,
    ) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, String> {
        if let Ok(key) = HeaderValue::try_from(generate_key()) {
            // Each handshake needs a key of its own.
            self.request.headers_mut().insert(SEC_WEBSOCKET_KEY, key);
        }
        let config = WebSocketConfig::default();
        let config = Some(config.read_buffer_size(BUFFER).write_buffer_size(BUFFER));
        #[cfg(feature = "rustls")]
        let dialled = {
            let connector = self.tls.map(tokio_tungstenite::Connector::Rustls);
            let dial = tokio_tungstenite::connect_async_tls_with_config;
            dial(self.request, config, true, connector).await
        };
        #[cfg(not(feature = "rustls"))]
        let dialled =
            tokio_tungstenite::connect_async_with_config(self.request, config, true).await;
        match dialled {
            Ok((socket, _)) => Ok(socket),
            Err(error) => Err(reason(&error)),
        }
    }
}

/// Returns another address of the same server.
fn at_path(uri: &Uri, path: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// Returns the address, with the path of links if it has none.
fn with_path(uri: Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    match &parts.path_and_query {
        Some(path) if path.as_str() != "/" => return uri,
        _ => parts.path_and_query = Some(tungstenite::http::uri::PathAndQuery::from_static(PATH)),
    }
    Uri::from_parts(parts).unwrap_or(uri)
}

/// Returns the reason why a dial failed. A server that refuses writes its reason into the first
/// line of the body.
fn reason(error: &tungstenite::Error) -> String {
    let tungstenite::Error::Http(answer) = error else {
        return error.to_string();
    };
    let body = answer.body().as_deref().unwrap_or_default();
    let body = String::from_utf8_lossy(body);
    let line = body.lines().next().unwrap_or_default().trim();
    let status = answer.status();
    if line.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {line}") }
}

/// Returns a configuration that trusts the certificates of the system. It uses the crypto provider
/// that the process installed, or ring's if there is none.
#[cfg(feature = "rustls")]
fn system_tls() -> Result<Arc<rustls::ClientConfig>, ConnectError> {
    use rustls::{
        ClientConfig, RootCertStore,
        crypto::{CryptoProvider, ring},
    };

    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reasons = found.errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        let message = format!("the system trusts no certificate; {}", reasons.join("; "));
        return Err(ConnectError::Tls(message));
    }
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(ring::default_provider()));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Tls(error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
