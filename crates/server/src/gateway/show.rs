//! The short WebSocket by which a hub shows a ticket.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;
use tabmux_core::wire::close;
use tracing::debug;

use super::Visit;
use crate::{
    admission::Cause,
    app::{App, Glimpse},
    handshake::{self, Handshaken},
    who,
    ws::{put_close, upgrade::Refusal},
};

/// The sub-protocol that is offered before a ticket, and chosen.
const PROTOCOL: &str = "tabmux.ticket";

/// Takes the tickets that come among other requests.
pub(crate) async fn among_others(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    if is_shown(&app, request.headers()) {
        serve(app, request).await
    } else {
        next.run(request).await
    }
}

/// Returns true if a request shows a ticket to a server that makes some.
pub(crate) fn is_shown(app: &App, headers: &HeaderMap) -> bool {
    app.gateway.makes_tickets() && ticket(headers).is_some()
}

/// Answers a request that shows a ticket.
pub(crate) async fn serve(app: Arc<App>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let Ok(place) = Arc::clone(&app.answering).try_acquire_owned() else {
        return app.admission.refuse(Cause::Handshakes, None).into_response();
    };
    let (handshaken, frames) = match take(&app, &parts).await {
        Ok(answer) => answer,
        Err(refusal) => return refusal.into_response(),
    };
    let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() else {
        return Refusal::new(426, "this connection cannot be upgraded").into_response();
    };
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => who::tell(upgraded, &frames, place).await,
            Err(error) => debug!("a ticket was shown, and nobody waits for the answer: {error}"),
        }
    });
    handshaken.response()
}

/// Takes the ticket of a request. Returns the head of the answer, and the frames that follow it.
async fn take(app: &App, parts: &Parts) -> Result<(Handshaken, Vec<u8>), Refusal> {
    let (way, offer) = handshake::offer(app, parts)?;
    let Glimpse { whose, address, headers } =
        app.glimpse(&offer, way, || handshake::without_upgrade(parts)).await?;
    let visit = Visit { headers: headers.into(), address };
    let ticket = ticket(&parts.headers).unwrap_or_default();
    let mut frames = Vec::new();
    if app.gateway.show(ticket, offer.target, &whose, visit) {
        put_close(&mut frames, close::NORMAL, "");
    } else {
        put_close(&mut frames, close::POLICY, "no socket waits for this ticket");
    }
    Ok((Handshaken::plain(offer.accept).with_protocol(PROTOCOL), frames))
}

/// Returns the ticket that a request shows.
fn ticket(headers: &HeaderMap) -> Option<&str> {
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let (first, ticket) = offered.split_once(',')?;
    (first.trim() == PROTOCOL).then(|| ticket.trim())
}
