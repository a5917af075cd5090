//! Virtual sockets that another server serves: each is one ordinary WebSocket there.
//!
//! A socket is a task (`route`). It dials (`dial`), opens the socket once the upstream has opened,
//! and carries messages both ways (`pipe`).

mod dial;
mod pipe;
mod places;
mod refused;
mod route;
mod target;
mod tls;
mod upstream;

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderName, header};
use tokio::{sync::watch, time::timeout};

pub(crate) use self::refused::Refused;
pub use self::{
    dial::request_head,
    target::{BadTarget, Target},
};
use self::{places::Places, refused::Counts, route::RouteState};
use crate::{Config, Error, routes::Factory, task_opening, users::LinkRequest};

/// The request headers of a link that every route passes on.
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
    /// The headers of a link's request that are kept.
    kept: Vec<HeaderName>,
    shared: Arc<Shared>,
}

/// What all routes share.
struct Shared {
    places: Arc<Places>,
    refused: Counts,
    /// True when upstream connections are to be closed.
    stop: watch::Sender<bool>,
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
        Ok(Self { routes, kept, shared })
    }

    /// Returns what a link's request tells upstreams. Without routes it is nothing.
    pub(crate) fn keep(&self, request: &LinkRequest<'_>) -> Vec<(Box<str>, Box<[u8]>)> {
        let mut kept = Vec::new();
        if self.routes.is_empty() {
            return kept;
        }
        let proxied = PROXIED.into_iter().filter(|_| request.proxied);
        for name in self.kept.iter().map(HeaderName::as_str).chain(proxied) {
            kept.extend(request.values(name).map(|value| (name.into(), value.into())));
        }
        kept.shrink_to_fit();
        kept
    }

    /// Returns the handlers of the routes.
    pub(crate) fn table(&self) -> RouteTable {
        let mut routes = self.routes.iter().map(|route| {
            let (route, served) = (Arc::clone(route), Arc::clone(route));
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
