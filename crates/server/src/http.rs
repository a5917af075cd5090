//! The HTTP face: the link's handshake, the client's files, numbers and health.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, RawQuery, Request, State},
    http::{HeaderMap, StatusCode, Uri, header, request::Parts},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::net::TcpStream;
use tracing::debug;

use crate::{
    admission::Ticket,
    api,
    app::{App, Opening},
    assets, bridge,
    face::dress,
    handshake::{self, Handshaken},
    hosts::Door,
    incoming::Incoming,
    metrics,
    patience::Patient,
    replay::Replay,
    who,
    ws::upgrade::Refusal,
};

pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .route("/tabmux/ws", any(open_link))
        .route("/tabmux/who", any(who::serve))
        .route("/tabmux/api/publish", post(api::publish).layer(body_limit(&app)))
        .route("/tabmux/api/position", get(api::position))
        .route("/tabmux/healthz", get(health))
        .route("/tabmux/livez", get(life));
    if app.config.stats && app.config.metrics_listen.is_none() {
        router = router.route("/tabmux/stats", get(stats));
    }
    for name in assets::NAMES {
        let asset = move |State(app): State<Arc<App>>, RawQuery(query), headers: HeaderMap| {
            let query: Option<String> = query;
            async move { assets::serve(&app.files.scripts, name, query.as_deref(), &headers).await }
        };
        router = router.route(&format!("/tabmux/{name}"), get(asset));
    }
    router.route("/tabmux/{name}", get(versioned)).with_state(app)
}

/// Files whose names hold the build.
async fn versioned(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    if assets::is_versioned(&name) {
        assets::serve(&app.files.scripts, &name, None, &headers).await
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}

/// The files of the site, as the fallback of a router.
pub(crate) fn site_router(app: Arc<App>) -> Router {
    let router =
        if app.files.site.is_some() { Router::new().fallback(get(site)) } else { Router::new() };
    router.with_state(app)
}

/// What a request of the API may have: what the shards' inboxes may.
fn body_limit(app: &App) -> DefaultBodyLimit {
    DefaultBodyLimit::max(app.config.limits.inbox_bytes)
}

/// `/healthz` and `/livez` alone: an app may have some of its own.
pub(crate) fn health_router(app: Arc<App>) -> Router {
    Router::new().route("/healthz", get(health)).route("/livez", get(life)).with_state(app)
}

/// `/metrics`, and the same as JSON if that has an address of its own.
pub(crate) fn metrics_router(app: Arc<App>) -> Router {
    let mut router = Router::new().route("/metrics", get(metrics));
    if app.config.stats && app.config.metrics_listen.is_some() {
        router = router.route("/tabmux/stats", get(stats));
    }
    router.with_state(app)
}

/// Gives each answer of a listener what every answer has.
pub(crate) fn dressed(router: Router, app: Arc<App>, door: Door) -> Router {
    router.layer(from_fn_with_state((app, door), dress))
}

/// The handshake of a link that did not come first on its connection, or in an app of yours. hyper
/// drops the future of a client that leaves, and its question with it.
async fn open_link(State(app): State<Arc<App>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let (handshaken, ticket) = match accept(&app, &parts).await {
        Ok(accepted) => accepted,
        Err(refusal) => return refusal.into_response(),
    };
    let inflates = handshaken.inflates();
    let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() else {
        return Refusal::new(426, "this connection cannot be upgraded").into_response();
    };
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => hand_over(&app, upgraded, ticket, inflates),
            Err(error) => debug!("no link after the handshake: {error}"),
        }
    });
    handshaken.response()
}

/// Returns what the answer says, and the link's place in the limits.
async fn accept(app: &App, parts: &Parts) -> Result<(Handshaken, Ticket), Refusal> {
    let (way, offer) = handshake::offer(app, parts)?;
    let ticket = app.judge(&offer, way, || handshake::without_upgrade(parts)).await?;
    let deflate = offer.deflate.only_if(app.config.deflate.enabled);
    Ok((Handshaken::new(offer.accept, deflate), ticket))
}

/// Takes the stream back from hyper and gives it to a shard. Both the listener's own connections
/// and those of `axum::serve`, which wraps its streams once more, come without a bridge.
fn hand_over(app: &App, upgraded: Upgraded, ticket: Ticket, inflates: bool) {
    let placed = match upgraded.downcast::<TokioIo<Patient<Replay>>>() {
        Ok(parts) => {
            let (stream, early) = parts.io.into_inner().into_inner().into_parts();
            let early = [&early, &parts.read_buf[..]].concat();
            app.place(stream, Opening { early, ticket, inflates })
        }
        Err(upgraded) => match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
            Ok(parts) => {
                let opening = Opening { early: parts.read_buf.into(), ticket, inflates };
                app.place(Incoming::Tcp(parts.io.into_inner()), opening)
            }
            Err(upgraded) => bridge::build(&app.shards, TokioIo::new(upgraded), ticket, inflates),
        },
    };
    if let Err(error) = placed {
        debug!("no link after the handshake: {error}");
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = (status, self.text.clone()).into_response();
        for (name, value) in self.headers() {
            let value = header::HeaderValue::from_static(value);
            response.headers_mut().insert(*name, value);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Tells load balancers whether to send anybody here.
async fn health(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    if app.shards.board().failed().is_some() {
        (StatusCode::SERVICE_UNAVAILABLE, "a shard failed\n")
    } else if app.admission.is_leaving() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

/// Tells a supervisor whether to start the process again. A server that drains is well.
async fn life(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    match app.shards.board().failed() {
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "a shard failed\n"),
        None => (StatusCode::OK, "ok\n"),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let shared = app.shards.fanout().shared_bytes();
    let text = metrics::text(
        app.shards.board(),
        (&app.admission, app.room()),
        (shared, app.shards.fanout().keeping()),
        &app.shards.fanout().broker_failures(),
        &app.api,
        (&app.gateway, &app.files.counters),
    );
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text)
}

async fn stats(State(app): State<Arc<App>>) -> Json<BTreeMap<&'static str, u64>> {
    let board = app.shards.board();
    let numbers = board.stats().numbers().map(|number| (number.key, number.value));
    let shared = app.shards.fanout().shared_bytes() as u64;
    let more = [("shared_bytes", shared), ("uptime_s", board.uptime().as_secs())];
    Json(numbers.chain(more).collect())
}

async fn site(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Response {
    match &app.files.site {
        Some(folder) => folder.serve(uri.path(), &headers).await,
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
