//! The handshake of a WebSocket, as axum hands it over and takes the answer.

use std::net::SocketAddr;

use axum::{
    extract::ConnectInfo,
    http::{StatusCode, Version, header, request::Parts, uri::PathAndQuery},
    response::{AppendHeaders, IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;

use crate::{
    admission::Cause,
    app::{App, Way},
    ws::{
        Agreed,
        upgrade::{self, Offer, Refusal},
    },
};

/// Marks a request that came over TLS of this server.
#[derive(Clone, Copy)]
pub(crate) struct Encrypted;

/// What the answer to a good handshake says.
pub(crate) struct Handshaken {
    accept: String,
    protocol: Option<&'static str>,
    deflate: Agreed,
}

impl Handshaken {
    pub(crate) const fn new(accept: String, deflate: Agreed) -> Self {
        Self { accept, protocol: None, deflate }
    }

    /// Answers without compression.
    pub(crate) fn plain(accept: String) -> Self {
        Self::new(accept, Agreed::default())
    }

    /// Chooses a sub-protocol.
    pub(crate) fn with_protocol(self, protocol: &'static str) -> Self {
        Self { protocol: Some(protocol), ..self }
    }

    /// Returns true if messages may be deflated.
    pub(crate) const fn inflates(&self) -> bool {
        self.deflate.is_on()
    }

    pub(crate) fn response(&self) -> Response {
        let headers = [
            (header::UPGRADE, "websocket"),
            (header::CONNECTION, "Upgrade"),
            (header::SEC_WEBSOCKET_ACCEPT, &self.accept),
        ];
        let deflate = self.deflate.header();
        let extensions = deflate.map(|value| (header::SEC_WEBSOCKET_EXTENSIONS, value));
        let protocol = self.protocol.map(|name| (header::SEC_WEBSOCKET_PROTOCOL, name));
        let more = (AppendHeaders(extensions), AppendHeaders(protocol));
        (StatusCode::SWITCHING_PROTOCOLS, headers, more.0, more.1).into_response()
    }
}

/// Reads a handshake. Returns what is known of the way that it came, and what is asked.
pub(crate) fn offer<'a>(app: &App, parts: &'a Parts) -> Result<(Way, Offer<'a>), Refusal> {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let headers = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let http11 = parts.version >= Version::HTTP_11;
    let offer = upgrade::check(parts.method.as_str(), http11, headers)
        .inspect_err(|_| app.admission.count(Cause::Malformed, peer))?;
    let target = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    let is_encrypted = parts.extensions.get::<Encrypted>().is_some();
    Ok((Way { peer, is_hidden: true, is_encrypted }, Offer { target, ..offer }))
}

/// Returns the request that the application sees. It cannot take the connection.
pub(crate) fn without_upgrade(parts: &Parts) -> Parts {
    let mut parts = parts.clone();
    parts.extensions.remove::<OnUpgrade>();
    parts
}
