//! HTTP for the connections that are no links: axum's router on hyper, with the time-outs that
//! `axum::serve` does not set.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use tower_service::Service;
use tracing::debug;

use crate::replay::Replay;

/// The most that a connection buffers of requests.
const BUFFER: usize = 64 << 10;

/// A router, and the connections it serves.
pub(crate) struct Web {
    router: Router,
    builder: Builder<TokioExecutor>,
    connections: GracefulShutdown,
}

impl Web {
    /// With `patience` for the head of a request, and for one to come.
    pub(crate) fn new(router: Router, patience: Duration) -> Self {
        let mut builder = Builder::new(TokioExecutor::new()).http1_only();
        let http1 = &mut builder.http1();
        http1.timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(BUFFER);
        Self { router, builder, connections: GracefulShutdown::new() }
    }

    /// Serves a connection to its end.
    pub(crate) fn serve(
        &self,
        stream: Replay,
        peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
        let router = self.router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            let answer = router.clone().call(request.map(Body::new));
            async { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
        });
        let connection = self.builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let connection = self.connections.watch(connection.into_owned());
        async move {
            if let Err(error) = connection.await {
                debug!(%peer, "a connection for HTTP ended: {error}");
            }
        }
    }

    /// Waits until every request is answered.
    pub(crate) async fn end(self) {
        self.connections.shutdown().await;
    }
}
