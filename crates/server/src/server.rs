//! A server: as a router for an axum app, or running on a listener of its own.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use axum::{Router, serve::ListenerExt};
use tabmux_core::session::Stats;
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    Builder, Config, Error, files::Folder, handler::Factory, http, origin::Origins, shard::Shard,
};

/// The time over which the hubs of a server that shuts down spread their reconnects.
const SPREAD: Duration = Duration::from_millis(1_000);
/// How long closing handshakes and HTTP responses may take at the end.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// A tabmux server.
pub struct Server {
    app: Arc<App>,
}

/// A look at a running server, from anywhere. Cheap to clone; it keeps nothing alive.
#[derive(Clone)]
pub struct ServerHandle {
    stats: watch::Receiver<Stats>,
    shard: Weak<Shard>,
}

/// What HTTP handlers share.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) origins: Origins,
    pub(crate) shard: Arc<Shard>,
    pub(crate) assets: Folder,
    pub(crate) site: Option<Folder>,
}

impl Server {
    /// Begins to put a server together.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(
        config: Config,
        origins: Origins,
        routes: BTreeMap<String, Factory>,
        site: Option<Folder>,
    ) -> Self {
        let shard = Shard::new(config.session(), config.limits.inbox_bytes, routes);
        let assets = Folder::new(config.assets.clone());
        Self { app: Arc::new(App { config, origins, shard, assets, site }) }
    }

    /// The routes `/tabmux/*` and `/healthz`, to merge into an axum app. Its requests should
    /// carry the peer's address, as `into_make_service_with_connect_info::<SocketAddr>` gives it;
    /// without it, logs do not name peers.
    pub fn router(&self) -> Router {
        http::router(Arc::clone(&self.app))
    }

    /// A look at the server.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(&self.app.shard)
    }

    /// Serves until `shutdown` is done, then asks every hub to leave, closes what is left with
    /// 1001 after a grace, and returns.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!("cannot set TCP_NODELAY: {error}");
            }
        });
        let router = self.router().into_make_service_with_connect_info::<SocketAddr>();
        let (stop, mut stopped) = watch::channel(false);
        let http = axum::serve(listener, router).with_graceful_shutdown(async move {
            // An error means that the sender is gone: time to stop as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        let mut http = tokio::spawn(http.into_future());
        tokio::select! {
            () = shutdown => {}
            ended = &mut http => {
                return ended.map_err(std::io::Error::from).flatten().map_err(Error::from);
            }
        }
        stop.send_replace(true);
        self.leave().await;
        let deadline = Instant::now() + LAST_WAIT;
        // Links no longer count here; what is left is a request that never ends.
        if timeout_at(deadline, &mut http).await.is_err() {
            http.abort();
        }
        Ok(())
    }

    /// The end of a server that is mounted in an app of yours: asks every hub to leave, closes
    /// what is left with 1001 after a grace, and refuses new links.
    pub async fn leave(&self) {
        let shard = &self.app.shard;
        let mut tasks = shard.tasks();
        let grace = Duration::from_millis(self.app.config.shutdown_grace_ms);
        shard.drain(grace, SPREAD);
        let gone = |tasks: &usize| *tasks == 0;
        let _ = timeout_at(Instant::now() + grace, tasks.wait_for(gone)).await;
        shard.close_links();
        let _ = timeout_at(Instant::now() + LAST_WAIT, tasks.wait_for(gone)).await;
    }
}

impl ServerHandle {
    pub(crate) fn new(shard: &Arc<Shard>) -> Self {
        Self { stats: shard.stats(), shard: Arc::downgrade(shard) }
    }

    /// The numbers of this moment.
    pub fn stats(&self) -> Stats {
        *self.stats.borrow()
    }

    /// Tells when links, tabs, parked tabs or sockets change. Changes that come faster than they
    /// are looked at are one change.
    pub fn watch(&self) -> watch::Receiver<Stats> {
        self.stats.clone()
    }

    /// How long the server exists; `None` when it is gone.
    pub fn uptime(&self) -> Option<Duration> {
        self.shard.upgrade().map(|shard| shard.uptime())
    }
}
