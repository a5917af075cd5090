//! HTTP for the connections that are no links: axum's router on hyper, with the time-outs that
//! `axum::serve` does not set. It speaks HTTP/1 and nothing else.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tower_service::Service;
use tracing::debug;

use crate::{handshake::Encrypted, patience::Patient, pulse::Pulse, replay::Replay};

/// The most that a connection buffers of requests.
const BUFFER: usize = 64 << 10;

/// A router, and the connections it serves.
pub(crate) struct Web {
    router: Router,
    builder: Builder,
    patience: Duration,
    /// Each connection listens for the end, and holds its receiver until it is over.
    end: watch::Sender<()>,
}

impl Web {
    /// With `patience` for the head of a request, for one to come, and for the peer to read.
    pub(crate) fn new(router: Router, patience: Duration) -> Self {
        let mut builder = Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(BUFFER);
        Self { router, builder, patience, end: watch::Sender::new(()) }
    }

    /// Serves a connection to its end. `is_encrypted` says that it speaks TLS.
    pub(crate) fn serve(
        &self,
        stream: Replay,
        peer: SocketAddr,
        is_encrypted: bool,
        pulse: Arc<Pulse>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let router = self.router.clone();
        let stream = TokioIo::new(Patient::new(stream, self.patience, Arc::clone(&pulse)));
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            if is_encrypted {
                request.extensions_mut().insert(Encrypted);
            }
            let answer = router.clone().call(request.map(Body::new));
            let pulse = Arc::clone(&pulse);
            async move {
                let _working = pulse.work();
                Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {}))
            }
        });
        let connection = self.builder.serve_connection(stream, service);
        let mut end = self.end.subscribe();
        async move {
            let mut connection = pin!(connection.with_upgrades());
            let served = tokio::select! {
                served = connection.as_mut() => served,
                _ = end.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = served {
                debug!(%peer, "a connection for HTTP ended: {error}");
            }
        }
    }

    /// Waits until every request is answered.
    pub(crate) async fn end(self) {
        self.end.send_replace(());
        self.end.closed().await;
    }
}
