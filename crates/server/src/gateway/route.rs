//! A route in force, and the life of one of its sockets.

use std::{
    sync::{
        Arc, Once,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::http::HeaderName;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::{
    Counts, HOST, Numbers, PASSED_ON, PROTO, Refused, Shared, Target, Visit,
    dial::{self, Dialled, Upgraded, Wanted, Ws},
    pipe,
    places::Place,
    tls::Tls,
    upstream::{Pool, Seat, Upstream},
};
use crate::{
    Cookies, Opening, Parked, Route, TaskSocket, admission::File, logs::rarely, origin::Origins,
};

/// A route in force.
pub(super) struct RouteState {
    prefix: Box<str>,
    pool: Arc<Pool>,
    origins: Option<Origins>,
    /// Headers that are passed on besides.
    headers: Vec<HeaderName>,
    open_timeout: Duration,
    limit: u32,
    health: Duration,
    /// How long the connection of a parked page is kept; for ever if `None`.
    parked: Option<Duration>,
    tls: Option<Tls>,
    cookies: Cookies,
    shared: Arc<Shared>,
    open: AtomicU32,
    opened: AtomicU64,
    refused: Counts,
    is_checked: Once,
}

/// The places of a socket in all limits, given back when this is dropped.
pub(super) struct Places {
    route: Arc<RouteState>,
    _place: Place,
    _file: Option<File>,
    /// The place at the upstream.
    seat: Option<Seat>,
}

/// Serves a virtual socket by a WebSocket of an upstream.
pub(super) async fn serve(route: Arc<RouteState>, opening: Opening) {
    let Some((opened, socket)) = open::<Ws>(&route, opening).await else { return };
    let (stop, parked) = (route.shared.stop.subscribe(), route.parked);
    drop(route);
    pipe::carry(socket.accept(), opened.stream, stop, parked).await;
    drop(opened.places);
}

/// A WebSocket of an upstream, and its places in all limits.
pub(super) struct Opened<T> {
    pub(super) stream: T,
    pub(super) places: Places,
}

/// A virtual socket whose upstream is open, and the sub-protocol that this chose.
pub(super) struct Accepted {
    opening: Opening,
    protocol: Option<String>,
}

impl Accepted {
    /// Opens the virtual socket.
    pub(super) fn accept(self) -> TaskSocket {
        match self.protocol {
            Some(protocol) => self.opening.accept_protocol(protocol),
            None => self.opening.accept(),
        }
    }
}

/// Opens the WebSocket of a virtual socket. If that fails, refuses the socket and returns nothing.
pub(super) async fn open<T: Upgraded>(
    route: &Arc<RouteState>,
    opening: Opening,
) -> Option<(Opened<T>, Accepted)> {
    let longest = opening.longest_message();
    match Box::pin(route.open(&opening, longest)).await {
        Ok((mut places, Dialled { stream, protocol, seat })) => {
            route.opened.fetch_add(1, Ordering::Relaxed);
            places.seat = Some(seat);
            Some((Opened { stream, places }, Accepted { opening, protocol }))
        }
        Err(refused) => {
            route.shared.refused.add(&refused);
            route.refused.add(&refused);
            debug!("no socket on {}: {refused}", route.prefix);
            opening.reject(refused.to_string());
            None
        }
    }
}

impl RouteState {
    /// Puts a route in force.
    ///
    /// # Errors
    /// The text says what of it has no meaning.
    pub(super) fn new(route: &Route, shared: &Arc<Shared>) -> Result<Self, String> {
        let path = Target::parse(&route.prefix).map_err(|bad| bad.to_string())?;
        if path.path() != route.prefix {
            return Err("the prefix must be a path without dot segments and query".to_owned());
        }
        if route.open_timeout_ms == 0 || route.open_timeout_ms > 30_000 {
            return Err("open_timeout_ms must be from 1 to 30000".to_owned());
        }
        let upstreams = route.upstreams.iter().map(|text| Upstream::parse(text));
        let upstreams = upstreams.collect::<Result<Vec<_>, _>>()?;
        if upstreams.is_empty() {
            return Err("it has no upstream".to_owned());
        }
        let tls = upstreams.iter().any(Upstream::is_tls).then(|| Tls::new(route)).transpose()?;
        let origins = route.allow_origins.as_deref().map(Origins::new).transpose();
        let headers = route.headers.iter().map(|name| header(name)).collect::<Result<_, _>>()?;
        Ok(Self {
            prefix: route.prefix.as_str().into(),
            pool: Arc::new(Pool::new(upstreams, route.source_addresses.clone())),
            origins: origins.map_err(|error| error.to_string())?,
            headers,
            open_timeout: Duration::from_millis(route.open_timeout_ms),
            limit: route.sockets,
            health: Duration::from_millis(route.health_ms),
            parked: match route.parked {
                Parked::Keep => None,
                Parked::Close => Some(Duration::ZERO),
                Parked::Millis(millis) => Some(Duration::from_millis(millis)),
            },
            tls,
            cookies: route.cookies,
            shared: Arc::clone(shared),
            open: AtomicU32::new(0),
            opened: AtomicU64::new(0),
            refused: Counts::default(),
            is_checked: Once::new(),
        })
    }

    /// Returns the prefix without its last slash.
    pub(super) fn stem(&self) -> &str {
        self.prefix.trim_end_matches('/')
    }

    /// Returns true if a shard can read and write all upstreams itself: none speaks TLS.
    #[cfg(unix)]
    pub(super) const fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    pub(super) fn headers(&self) -> &[HeaderName] {
        &self.headers
    }

    /// Returns whether the route is for a path, whose dot segments are resolved.
    pub(super) fn covers(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix(self.stem()) else {
            return false;
        };
        rest.starts_with('/') || (rest.is_empty() && !self.prefix.ends_with('/'))
    }

    pub(super) fn numbers(&self) -> Numbers<'_> {
        Numbers {
            prefix: &self.prefix,
            open: self.open.load(Ordering::Relaxed).into(),
            opened: self.opened.load(Ordering::Relaxed),
            refused: self.refused.all(),
        }
    }

    /// Opens the WebSocket of a virtual socket.
    async fn open<T: Upgraded>(
        self: &Arc<Self>,
        opening: &Opening,
        longest: usize,
    ) -> Result<(Places, Dialled<T>), Refused> {
        let target = Target::parse(opening.target()).map_err(Refused::Target)?;
        // Nothing else goes into a line of the request.
        if !opening.protocols().iter().all(|protocol| dial::is_token(protocol)) {
            return Err(Refused::Protocols);
        }
        let places = self.take(opening)?;
        let stop = self.shared.stop.subscribe();
        let dialled = tokio::select! {
            dialled = self.reach(opening, target, longest) => dialled?,
            () = pipe::stopped(stop) => return Err(Refused::Draining),
            () = opening.gone() => return Err(Refused::Gone),
        };
        Ok((places, dialled))
    }

    /// Learns what the upstream is to be told of the browser, and dials.
    async fn reach<T: Upgraded>(
        &self,
        opening: &Opening,
        target: Target,
        longest: usize,
    ) -> Result<Dialled<T>, Refused> {
        let visit = match self.cookies {
            Cookies::Open => self.shared.tickets.ask(opening, &target).await?,
            Cookies::Link => {
                Visit { headers: opening.kept_headers().into(), address: opening.address() }
            }
        };
        if let Some(origins) = &self.origins {
            let host = visit.value(HOST).or_else(|| visit.value("host"));
            if !origins.allow(visit.value("origin"), host.unwrap_or(b"")) {
                return Err(Refused::Origin);
            }
        }
        self.watch_upstreams();
        let wanted = self.wanted(&visit, opening.protocols(), target, longest);
        let dialled = timeout(self.open_timeout, self.dial(&wanted)).await;
        dialled.unwrap_or(Err(Refused::Slow(self.open_timeout)))
    }

    /// Takes the socket's place in all limits.
    fn take(self: &Arc<Self>, opening: &Opening) -> Result<Places, Refused> {
        let place = self.shared.places.take(opening.session(), opening.shared_visitor())?;
        let file = self.shared.take_file()?;
        let more = |open: u32| (self.limit == 0 || open < self.limit).then_some(open + 1);
        match self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Places { route: Arc::clone(self), _place: place, _file: file, seat: None }),
            Err(_) => Err(Refused::Route(self.limit)),
        }
    }

    /// Returns what the upstream is asked for.
    fn wanted(
        &self,
        visit: &Visit<'_>,
        protocols: &[String],
        target: Target,
        longest: usize,
    ) -> Wanted {
        let names = PASSED_ON.iter().chain(&self.headers);
        let mut headers = Vec::new();
        for name in names {
            headers.extend(visit.values(name.as_str()).map(|value| (name.clone(), value.into())));
        }
        let mut forwarded = |name, value: Option<Vec<u8>>| {
            headers.extend(value.map(|value| (HeaderName::from_static(name), value)));
        };
        let said = |name| visit.value(name).map(<[u8]>::to_vec);
        forwarded("x-forwarded-for", visit.address.map(|it| it.to_string().into_bytes()));
        forwarded(PROTO, Some(said(PROTO).unwrap_or_else(|| b"http".to_vec())));
        forwarded(HOST, said(HOST).or_else(|| said("host")));
        let protocols = protocols.join(", ");
        Wanted { target, prefix: self.stem().len(), headers, protocols, longest }
    }

    /// Dials the upstreams until one takes the connection.
    async fn dial<T: Upgraded>(&self, wanted: &Wanted) -> Result<Dialled<T>, Refused> {
        for upstream in self.pool.order() {
            let seat = Seat::new(&upstream);
            match dial::connect(&upstream, &self.pool, self.tls.as_ref()).await {
                Ok(stream) => {
                    upstream.mark(true);
                    return T::open(stream, seat, wanted).await;
                }
                Err(error) => {
                    upstream.mark(false);
                    let (prefix, authority) = (&self.prefix, upstream.authority());
                    rarely!(warn, "the upstream {authority} of {prefix} is down: {error}");
                }
            }
        }
        Err(Refused::Down)
    }

    /// Has each of several upstreams dialled now and then, from the first socket on.
    fn watch_upstreams(&self) {
        if self.pool.upstreams.len() < 2 || self.health.is_zero() {
            return;
        }
        self.is_checked.call_once(|| {
            let (pool, every) = (Arc::downgrade(&self.pool), self.health);
            tokio::spawn(async move {
                loop {
                    sleep(every).await;
                    let Some(pool) = pool.upgrade() else { return };
                    for upstream in &pool.upstreams {
                        let dialled = timeout(every, dial::reach(upstream, &pool)).await;
                        upstream.mark(matches!(dialled, Ok(Ok(()))));
                    }
                }
            });
        });
    }
}

impl Places {
    /// Returns how long the connection of a parked page is kept; for ever if `None`.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.route.parked
    }

    /// Returns true if all connections to upstreams are to be closed.
    pub(super) fn is_stopped(&self) -> bool {
        *self.route.shared.stop.borrow()
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.route.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads the name of a header that may be passed on.
fn header(name: &str) -> Result<HeaderName, String> {
    let known = HeaderName::from_bytes(name.as_bytes());
    let known = known.map_err(|_| format!("headers: {name:?} is no name of a header"))?;
    let text = known.as_str();
    let is_ours = text.starts_with("sec-websocket-")
        || text.starts_with("x-forwarded-")
        || matches!(
            text,
            "host" | "connection" | "upgrade" | "content-length" | "transfer-encoding"
        );
    match (is_ours, PASSED_ON.contains(&known)) {
        (true, _) => Err(format!("headers: {name} is set by the gateway")),
        (false, true) => Err(format!("headers: {name} is passed on anyway")),
        (false, false) => Ok(known),
    }
}
