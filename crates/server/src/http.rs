//! The HTTP face: the link's handshake, the client's files, numbers and health.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Extension, Json, Router,
    extract::{
        ConnectInfo, RawQuery, State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection as Rejection},
    },
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tracing::{debug, error, info};

use crate::{assets, link, server::App};

/// A link is idle most of the time: a small buffer that grows when a large message comes.
const READ_BUFFER: usize = 4 << 10;

pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .route("/tabmux/ws", get(open_link))
        .route("/tabmux/stats", get(stats))
        .route("/healthz", get(|| async { "ok\n" }));
    for name in assets::NAMES {
        let asset = move |State(app): State<Arc<App>>, RawQuery(query), headers: HeaderMap| {
            let query: Option<String> = query;
            async move { assets::serve(&app.assets, name, query.as_deref(), &headers).await }
        };
        router = router.route(&format!("/tabmux/{name}"), get(asset));
    }
    if app.site.is_some() {
        router = router.fallback(get(site));
    }
    router.with_state(app)
}

type Peer = Option<Extension<ConnectInfo<SocketAddr>>>;

/// The handshake of a link.
async fn open_link(
    State(app): State<Arc<App>>,
    peer: Peer,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, Rejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return no_upgrade(rejection),
    };
    if let Err(refusal) = app.origins.check(&headers) {
        info!("handshake refused: {refusal}");
        return (StatusCode::FORBIDDEN, refusal + "\n").into_response();
    }
    let mut entropy = [0; 32];
    if let Err(fault) = getrandom::fill(&mut entropy) {
        error!("the system has no random bytes: {fault}");
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let limit = app.config.limits.message_bytes;
    let shard = Arc::clone(&app.shard);
    upgrade.read_buffer_size(READ_BUFFER).max_message_size(limit).max_frame_size(limit).on_upgrade(
        async move |socket| {
            let incoming = shard.open_link(entropy);
            if let Some(Extension(ConnectInfo(address))) = peer {
                debug!(link = incoming.link.0, %address, "link open");
            }
            // Not held by the link: what it needs of the shard is in `incoming`.
            drop(shard);
            link::serve(socket, incoming).await;
        },
    )
}

fn no_upgrade(rejection: Rejection) -> Response {
    match rejection {
        Rejection::InvalidConnectionHeader(_)
        | Rejection::InvalidUpgradeHeader(_)
        | Rejection::InvalidWebSocketVersionHeader(_) => {
            let headers = [(header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_VERSION, "13")];
            let text = "this address speaks the tabmux protocol over a WebSocket; open it with \
                        the tabmux page library\n";
            (StatusCode::UPGRADE_REQUIRED, headers, text).into_response()
        }
        other => other.into_response(),
    }
}

async fn stats(State(app): State<Arc<App>>) -> Json<Value> {
    let stats = *app.shard.stats().borrow();
    Json(json!({
        "links": stats.links,
        "sessions": stats.sessions,
        "tabs": stats.tabs,
        "parked": stats.parked,
        "sockets": stats.sockets,
        "messages_in": stats.messages_in,
        "messages_out": stats.messages_out,
        "uptime_s": app.shard.uptime().as_secs(),
        "protocol_errors": stats.protocol_errors,
        "refused": stats.refused,
        "tabs_refused": stats.tabs_refused,
        "sockets_refused": stats.sockets_refused,
        "queue_full": stats.queue_full,
        "too_large": stats.too_large,
        "handshake_timeouts": stats.handshake_timeouts,
        "heartbeat_timeouts": stats.heartbeat_timeouts,
        "not_reading": stats.not_reading,
    }))
}

async fn site(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Response {
    match &app.site {
        Some(folder) => folder.serve(uri.path(), &headers).await,
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
