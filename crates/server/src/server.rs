//! A server: as a router for an axum app, or running on a listener of its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use axum::Router;
use tabmux_core::{
    session::Stats,
    wire::{Payload, Position},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};

use crate::{
    Builder, Config, Error, PublishError, accept,
    files::Folder,
    handler::Factory,
    http,
    origin::Origins,
    shard::{Board, Shards},
    topics::Topics,
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
    board: Weak<Board>,
    topics: Weak<Topics>,
}

/// What HTTP handlers share.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) origins: Origins,
    pub(crate) shards: Shards,
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
    ) -> Result<Self, Error> {
        let shards = Shards::new(&config, routes)?;
        let assets = Folder::new(config.assets.clone());
        Ok(Self { app: Arc::new(App { config, origins, shards, assets, site }) })
    }

    /// The routes `/tabmux/*` and `/healthz`, to merge into an axum app.
    ///
    /// Once open, a link that comes this way lives in a shard as one of [`run`](Self::run) does.
    /// That is so for an app served on a [`tokio::net::TcpListener`]; on any other listener, such
    /// as one that speaks TLS, each link also keeps a task, two buffers of 8 KiB and a pair of
    /// sockets between it and its shard.
    pub fn router(&self) -> Router {
        http::router(Arc::clone(&self.app))
    }

    /// A look at the server.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(self.app.shards.board(), self.app.shards.topics())
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
        let address = listener.local_addr()?;
        let (others, rest) = mpsc::channel(1);
        let mut accepting = tokio::spawn(accept::run(listener, Arc::clone(&self.app), others));
        let (stop, mut stopped) = watch::channel(false);
        let rest = accept::Rest::new(rest, address);
        let http = axum::serve(rest, self.router()).with_graceful_shutdown(async move {
            // An error means that the sender is gone: time to stop as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        let mut http = tokio::spawn(http.into_future());
        tokio::select! {
            () = shutdown => {}
            ended = &mut http => {
                return ended.map_err(std::io::Error::from).flatten().map_err(Error::from);
            }
            Err(failed) = &mut accepting => return Err(std::io::Error::from(failed).into()),
        }
        accepting.abort();
        // Its end is that it was aborted.
        let _ = accepting.await;
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
        let shards = &self.app.shards;
        let mut streams = shards.streams();
        let grace = Duration::from_millis(self.app.config.shutdown_grace_ms);
        shards.drain(grace, SPREAD);
        let gone = |streams: &usize| *streams == 0;
        let _ = timeout_at(Instant::now() + grace, streams.wait_for(gone)).await;
        shards.close_links();
        let _ = timeout_at(Instant::now() + LAST_WAIT, streams.wait_for(gone)).await;
    }
}

impl ServerHandle {
    pub(crate) fn new(board: &Arc<Board>, topics: &Arc<Topics>) -> Self {
        let (board, topics) = ((board.watch(), Arc::downgrade(board)), Arc::downgrade(topics));
        Self { stats: board.0, board: board.1, topics }
    }

    /// Publishes a message to every browser that is subscribed to a topic; its position, also
    /// when nobody is. Any name of 1 to 256 bytes is a topic.
    ///
    /// # Errors
    /// [`PublishError::Name`], [`PublishError::TooLarge`]; [`PublishError::Full`] when the
    /// shards are behind; [`PublishError::Closed`] when the server is gone.
    pub fn publish(&self, topic: &str, message: Payload<'_>) -> Result<Position, PublishError> {
        self.topics.upgrade().ok_or(PublishError::Closed)?.publish(topic, message)
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
        self.board.upgrade().map(|board| board.uptime())
    }
}
