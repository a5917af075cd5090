//! Virtual sockets that another server serves: each is one ordinary WebSocket there.
//!
//! A task dials (`route`, `dial`), and opens the socket once the upstream has opened. Then the
//! shard of the socket carries messages both ways itself (`direct`). If an upstream of the route
//! speaks TLS, the task does (`pipe`), and so it does where the system has no file descriptors.

mod dial;
#[cfg(unix)]
mod direct;
mod ends;
mod pipe;
mod places;
mod refused;
mod route;
pub(crate) mod show;
mod target;
mod tickets;
mod tls;
mod upstream;
#[cfg(unix)]
mod wire;

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::http::{HeaderName, header};
use tokio::{sync::watch, time::timeout};

#[cfg(unix)]
use self::direct::Direct;
pub(crate) use self::refused::Refused;
pub use self::{
    dial::request_head,
    target::{BadTarget, Target},
};
use self::{places::Places, refused::Counts, route::RouteState, tickets::Tickets};
use crate::{
    Config, Cookies, Error,
    admission::{Admission, File},
    app::{Headers, Whose},
    routes::Factory,
    task_opening,
    users::LinkRequest,
};

/// The request headers that every route passes on.
const PASSED_ON: [HeaderName; 5] = [
    header::COOKIE,
    header::ORIGIN,
    header::USER_AGENT,
    header::ACCEPT_LANGUAGE,
    header::AUTHORIZATION,
];
/// What a trusted proxy says of a link.
const PROXIED: [&str; 2] = [PROTO, HOST];
const PROTO: &str = "x-forwarded-proto";
const HOST: &str = "x-forwarded-host";
/// How long a closing handshake with an upstream may take.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// All routes to other servers.
pub(crate) struct Gateway {
    routes: Vec<Arc<RouteState>>,
    /// The headers of a request that some route passes on.
    kept: Vec<HeaderName>,
    /// Some route passes on what links say, which is then kept for each of them.
    keeps_for_links: bool,
    /// Some route has browsers show tickets.
    makes_tickets: bool,
    shared: Arc<Shared>,
}

/// What all routes share.
struct Shared {
    places: Arc<Places>,
    refused: Counts,
    tickets: Tickets,
    /// Tells whether there is an open file left.
    door: OnceLock<Arc<Admission>>,
    /// True when upstream connections are to be closed.
    stop: watch::Sender<bool>,
}

/// A name and its value.
type Header = (Box<str>, Box<[u8]>);

/// What an upstream is told of a browser.
#[derive(Default)]
pub(crate) struct Visit<'a> {
    headers: Cow<'a, [Header]>,
    address: Option<IpAddr>,
}

/// The handlers of the sockets that routes serve.
#[derive(Default)]
pub(crate) struct RouteTable {
    /// Those with the longest prefix first.
    routes: Vec<(Arc<RouteState>, Factory)>,
    /// Refuses what is no target.
    bad: Option<Factory>,
}

/// The numbers of a route.
pub(crate) struct Numbers<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) open: u64,
    pub(crate) opened: u64,
    pub(crate) refused: [(&'static str, u64); Refused::REASONS.len()],
}

impl Gateway {
    /// Makes the routes of a configuration.
    ///
    /// # Errors
    /// When one has no meaning.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let limits = &config.limits;
        let shared = Arc::new(Shared {
            places: Arc::new(Places::new(limits.upstream_per_browser, limits.upstream_per_user)),
            refused: Counts::default(),
            tickets: Tickets::default(),
            door: OnceLock::new(),
            stop: watch::Sender::new(false),
        });
        let mut kept = PASSED_ON.to_vec();
        kept.push(header::HOST);
        let mut routes = Vec::<Arc<RouteState>>::new();
        for route in &config.route {
            let fault = |text| Error::Config(format!("route {:?}: {text}", route.prefix));
            let state = RouteState::new(route, &shared).map_err(fault)?;
            if routes.iter().any(|it| it.stem() == state.stem()) {
                return Err(fault("another route has the same prefix".to_owned()));
            }
            kept.extend(state.headers().iter().cloned());
            routes.push(Arc::new(state));
        }
        kept.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        kept.dedup();
        let uses = |cookies| config.route.iter().any(|route| route.cookies == cookies);
        let (keeps_for_links, makes_tickets) = (uses(Cookies::Link), uses(Cookies::Open));
        Ok(Self { routes, kept, keeps_for_links, makes_tickets, shared })
    }

    /// Returns what a link's request tells upstreams. It is nothing if no route passes that on.
    pub(crate) fn keep(&self, request: &LinkRequest<'_>) -> Headers {
        if self.keeps_for_links { self.look(request) } else { Headers::new() }
    }

    /// Returns what a request tells upstreams.
    pub(crate) fn look(&self, request: &LinkRequest<'_>) -> Headers {
        let mut kept = Headers::new();
        let proxied = PROXIED.into_iter().filter(|_| request.proxied);
        for name in self.kept.iter().map(HeaderName::as_str).chain(proxied) {
            kept.extend(request.values(name).map(|value| (name.into(), value.into())));
        }
        let is_told = kept.iter().any(|(name, _)| &**name == PROTO);
        if request.is_encrypted && !is_told {
            kept.push((PROTO.into(), (*b"https").into()));
        }
        kept.shrink_to_fit();
        kept
    }

    /// Returns true if some route has browsers show tickets.
    pub(crate) const fn makes_tickets(&self) -> bool {
        self.makes_tickets
    }

    /// Takes a ticket that somebody shows at a target. Returns false if no socket waits for it.
    fn show(&self, ticket: &str, target: &str, whose: &Whose, visit: Visit<'static>) -> bool {
        self.shared.tickets.show(ticket, target, whose, visit)
    }

    /// Returns how many tickets count, and what became of tickets.
    pub(crate) fn tickets(&self) -> (usize, Vec<(&'static str, u64)>) {
        (self.shared.tickets.len(), self.shared.tickets.counts().into())
    }

    /// Names the door, which counts open files.
    pub(crate) fn set_door(&self, door: Arc<Admission>) {
        // There is one for each server.
        let _ = self.shared.door.set(door);
    }

    /// Returns the handlers of the routes.
    pub(crate) fn table(&self) -> RouteTable {
        let mut routes = self.routes.iter().map(|route| {
            let (route, served) = (Arc::clone(route), Arc::clone(route));
            #[cfg(unix)]
            if route.is_plain() {
                let factory: Factory = Box::new(move || Box::new(Direct::new(&served)));
                return (route, factory);
            }
            let handlers = task_opening(move |opening| route::serve(Arc::clone(&served), opening));
            let factory: Factory = Box::new(move || Box::new(handlers()));
            (route, factory)
        });
        let mut routes = routes.by_ref().collect::<Vec<_>>();
        routes.sort_by_key(|(route, _)| std::cmp::Reverse(route.stem().len()));
        let bad = (!routes.is_empty()).then(|| {
            let handlers = task_opening(async |opening| {
                let bad = Target::parse(opening.target()).err();
                opening.reject(bad.map_or_else(String::new, |bad| bad.to_string()));
            });
            let factory: Factory = Box::new(move || Box::new(handlers()));
            factory
        });
        RouteTable { routes, bad }
    }

    /// Closes all upstream connections.
    pub(crate) async fn close(&self) {
        self.shared.stop.send_replace(true);
        // What is left then ends with the process.
        let _ = timeout(LAST_WAIT, self.shared.places.empty()).await;
    }

    /// Returns how often sockets got no upstream, by reason.
    pub(crate) fn refused(&self) -> [(&'static str, u64); Refused::REASONS.len()] {
        self.shared.refused.all()
    }

    /// Returns the numbers of each route.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = Numbers<'_>> {
        self.routes.iter().map(|route| route.numbers())
    }
}

impl Shared {
    /// Takes the open file of a connection. Without a door nobody counts them.
    fn take_file(&self) -> Result<Option<File>, Refused> {
        let Some(door) = self.door.get() else { return Ok(None) };
        door.take_file().map(Some).ok_or(Refused::Files)
    }
}

impl RouteTable {
    /// Returns what makes the handler of a path. It is the raw path of an OPEN; its dot segments
    /// are resolved before a route is chosen.
    pub(crate) fn find(&self, path: &str) -> Option<&Factory> {
        match Target::parse(path) {
            Ok(target) => {
                let found = self.routes.iter().find(|(route, _)| route.covers(target.path()));
                found.map(|(_, factory)| factory)
            }
            Err(_) => self.bad.as_ref(),
        }
    }
}

impl Visit<'_> {
    /// Returns the values of a header, by its name in lower case.
    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let found = self.headers.iter().filter(move |(key, _)| &**key == name);
        found.map(|(_, value)| &**value)
    }

    /// Returns the bytes of the headers.
    fn bytes(&self) -> usize {
        let one = |(name, value): &Header| size_of::<Header>() + name.len() + value.len();
        self.headers.iter().map(one).sum()
    }

    /// Returns the first value of a header, by its name in lower case.
    fn value(&self, name: &str) -> Option<&[u8]> {
        self.values(name).next()
    }
}
