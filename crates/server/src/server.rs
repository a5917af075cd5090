//! A server: as a router for an axum app, or running on a listener of its own.

use std::{fmt, io, sync::Arc, time::Duration};

use axum::{Router, middleware::from_fn_with_state};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};
use tracing::info;

use crate::{
    Builder, Config, Error, Listeners, ServerHandle,
    accept::{self, Ear},
    admission::{Admission, Tickets},
    api,
    app::{App, Files, Names},
    broker::Broker,
    control::Desk,
    descriptors,
    face::dress,
    gateway::{Gateway, show},
    hosts::Door,
    http,
    identity::Identity,
    judge::{Hook, KeyOf, Room},
    listeners::Opened,
    routes::Routes,
    settings::Settings,
    shard::Shards,
    topics::TopicDesk,
    users::UserOf,
    web::Web,
};

/// A server drains in so many steps.
const SLICES: u32 = 100;
/// The time over which the hubs that leave in one step spread their reconnects.
const SPREAD: Duration = Duration::from_millis(1_000);
/// How long closing handshakes and HTTP responses may take at the end.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// A tabmux server.
pub struct Server {
    pub(crate) app: Arc<App>,
}

/// Who is to name the users of links.
pub(crate) enum Namer {
    /// Nobody.
    No,
    /// A function that answers at once.
    User(UserOf),
    /// The application's judge, and for how long answers hold for whom.
    Judge(Hook, Option<(Duration, KeyOf)>),
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("config", &self.app.config).finish_non_exhaustive()
    }
}

impl Server {
    /// Begins to put a server together.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(
        config: Config,
        settings: Settings,
        routes: Routes,
        (files, gateway): (Files, Gateway),
        (namer, identity): (Namer, Option<Identity>),
        (broker, topics): (Option<Arc<dyn Broker>>, Arc<TopicDesk>),
    ) -> Result<Self, Error> {
        let mut names = Names::No;
        let desk = |shards: usize, tickets: &Arc<Tickets>| {
            let quota = descriptors::quota(&config, shards);
            let admission = Arc::new(Admission::new(quota, Arc::clone(tickets)));
            let room = match namer {
                Namer::No => None,
                Namer::User(user) => {
                    names = Names::User(user);
                    None
                }
                Namer::Judge(hook, cache) => {
                    let room = Room::new(&config, hook, cache, Arc::clone(tickets));
                    let room = Arc::new(room);
                    names = Names::Judge(Arc::clone(&room));
                    Some(room)
                }
            };
            Desk::new(admission, room, identity, settings, config.clone())
        };
        let broker = match broker {
            Some(broker) => broker,
            None => Arc::new(topics.memory_broker(&config)?),
        };
        let shards = Shards::new(&config, routes, (broker, topics), desk)?;
        let control = Arc::clone(shards.control());
        let admission = Arc::clone(&control.desk.admission);
        let answering = Arc::new(Semaphore::new(admission.quota().handshakes));
        let api = api::Counts::default();
        gateway.set_door(Arc::clone(&admission));
        let app = App { config, control, admission, names, shards, files, api, gateway, answering };
        Ok(Self { app: Arc::new(app) })
    }

    /// Returns the routes `/tabmux/*`, to merge into an axum app. It has no fallback and no other
    /// route, so it merges with any app that has no routes below `/tabmux/` of its own.
    ///
    /// Once open, a link that comes this way lives in a shard as one of [`run`](Self::run) does.
    /// That is so for an app served on a [`tokio::net::TcpListener`]; on any other listener, such
    /// as one that speaks TLS, each link also keeps a task, two buffers of 8 KiB and a pair of
    /// sockets between it and its shard.
    ///
    /// Let your orchestrator watch `/tabmux/healthz`, and start the app again when it stays at 503:
    /// a shard failed then, and its sessions are lost.
    ///
    /// `limits.links_per_ip` needs to know who calls: serve the app with
    /// [`into_make_service_with_connect_info`](Router::into_make_service_with_connect_info)
    /// of a `SocketAddr`. `/metrics` is not among the routes: [`metrics`](Self::metrics) has it.
    ///
    /// ```no_run
    /// use std::net::SocketAddr;
    /// use axum::{Router, routing::get};
    /// use tabmux_server::Server;
    ///
    /// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::builder().assets("node_modules/tabmux/dist").build()?;
    /// let app = Router::new().route("/", get(async || "hello")).merge(server.router());
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    /// axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn router(&self) -> Router {
        let app = Arc::clone(&self.app);
        http::router(Arc::clone(&app)).route_layer(from_fn_with_state((app, Door::APP), dress))
    }

    /// Puts in front of an app what takes the tickets of routes ([`Cookies::Open`]), which come to
    /// paths of the app. [`run`](Self::run) does it by itself.
    ///
    /// [`Cookies::Open`]: crate::Cookies::Open
    pub fn with_tickets(&self, app: Router) -> Router {
        app.layer(from_fn_with_state(Arc::clone(&self.app), show::among_others))
    }

    /// Returns what serves the folder given to [`Builder::site`](crate::Builder::site), and `404`
    /// without one. It is for [`Router::fallback_service`] of an app.
    pub fn site(&self) -> Router {
        http::site_router(Arc::clone(&self.app))
    }

    /// The route `/metrics`, which should not be public.
    pub fn metrics(&self) -> Router {
        http::metrics_router(Arc::clone(&self.app))
    }

    /// A look at the server.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(&self.app.control)
    }

    /// Serves until `shutdown` is done, then says so for `drain_min_ms`, sends the links away over
    /// `drain_ms`, answers what was asked over HTTP, and returns. Meanwhile `/healthz` and
    /// `/tabmux/healthz` say 503, and new links are refused once links are sent away. `/healthz`
    /// and `/livez` are served here alone, and not by [`router`](Self::router).
    ///
    /// `listeners` is a [`TcpListener`](tokio::net::TcpListener) of yours, or [`Listeners::open`].
    ///
    /// # Errors
    /// When a listener fails. [`Error::Shard`] when a shard fails: the links of the others are then
    /// sent away as if `shutdown` were done.
    pub async fn run(
        self,
        listeners: impl Into<Listeners>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        let config = &self.app.config;
        let Listeners { links, metrics, .. } = listeners.into();
        let (stop, mut stopped) = watch::channel(false);
        let mut router = http::router(Arc::clone(&self.app));
        router = router.merge(http::health_router(Arc::clone(&self.app)));
        router = router.fallback_service(self.site());
        let mut ears = Vec::new();
        if config.metrics {
            match Listeners::metrics(metrics, config)? {
                Some(listener) => ears.push(self.ear(listener.into(), self.metrics(), true)?),
                None => router = router.merge(self.metrics()),
            }
        }
        for listener in links {
            ears.push(self.ear(listener, router.clone(), false)?);
        }
        let stop_accepting = async move {
            // An error means that the sender is gone: time to stop as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let mut fronts = JoinSet::new();
        fronts.spawn(accept::run(ears, Arc::clone(&self.app), stop_accepting, LAST_WAIT));
        let board = Arc::clone(self.app.shards.board());
        tokio::select! {
            () = shutdown => {}
            () = board.failure() => {}
            Some(Err(failed)) = fronts.join_next() => return Err(io::Error::from(failed).into()),
        }
        info!("draining {} links", self.handle().stats().links.open);
        self.leave().await;
        stop.send_replace(true);
        while fronts.join_next().await.is_some() {}
        board.failed().map_or(Ok(()), |shard| Err(Error::Shard(shard)))
    }

    /// Puts a listener together with what answers its requests.
    fn ear(&self, opened: Opened, router: Router, is_inner: bool) -> io::Result<Ear> {
        let door = Door { is_loopback: opened.is_loopback()?, is_inner };
        let router = http::dressed(router, Arc::clone(&self.app), door);
        let web = Web::new(router, Duration::from_millis(self.app.config.http_timeout_ms));
        let has_header = opened.has_header;
        // That of the metrics is for this machine, or for those who bring their own.
        let speaks_tls = opened.may_speak_tls && !is_inner && !self.app.config.tls.is_empty();
        let patience = match self.app.config.peer_timeout_ms {
            0 => None,
            millis => Some(Duration::from_millis(millis)),
        };
        Ok(Ear { listener: opened.listener(patience)?, web, door, has_header, speaks_tls })
    }

    /// The end of a server that is mounted in an app of yours: says at `/tabmux/healthz` for
    /// `drain_min_ms` that it ends, while everything still works. Then it refuses new links, sends
    /// those that it has away, a hundredth of them at a time over `drain_ms`, and returns when none
    /// is left.
    pub async fn leave(&self) {
        let App { admission, shards, config, gateway, .. } = &*self.app;
        // Of a shard that failed, load balancers know already.
        if shards.board().failed().is_none() {
            admission.announce_drain();
            sleep(Duration::from_millis(config.drain_min_ms)).await;
        }
        admission.drain();
        let mut streams = shards.streams();
        let gone = |streams: &usize| *streams == 0;
        let start = Instant::now();
        let step = Duration::from_millis(config.drain_ms) / SLICES;
        for slice in 0..SLICES {
            shards.drain(SLICES - slice, SPREAD);
            let next = start + step * (slice + 1);
            if timeout_at(next, streams.wait_for(gone)).await.is_ok() {
                shards.close_streams();
                return gateway.close().await;
            }
        }
        shards.close_links();
        let _ = timeout_at(Instant::now() + LAST_WAIT, streams.wait_for(gone)).await;
        shards.close_streams();
        gateway.close().await;
    }
}
