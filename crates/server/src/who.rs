//! `/tabmux/who`: a short WebSocket whose only message tells whose the browser is now.
//!
//! A hub asks it before it serves another tab, and so learns of a log-in in another tab. It is a
//! WebSocket because browsers then send the cookies that a socket of the page would have.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tabmux_core::wire::{IdentityTag, close};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::OwnedSemaphorePermit,
    time::timeout,
};
use tracing::debug;

use crate::{
    admission::Cause,
    app::App,
    handshake::{self, Handshaken},
    judge,
    ws::{Opcode, put_close, put_frame, upgrade::Refusal},
};

/// How long a client may take to read the answer and to close.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest close frame of a client, in bytes.
const CLOSE: usize = 131;

/// Answers whose the browser is.
pub(crate) async fn serve(State(app): State<Arc<App>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let (handshaken, frames) = match ask(&app, &parts).await {
        Ok(answer) => answer,
        Err(refusal) => return refusal.into_response(),
    };
    let Ok(place) = Arc::clone(&app.answering).try_acquire_owned() else {
        return app.admission.refuse(Cause::Handshakes, None).into_response();
    };
    let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() else {
        return Refusal::new(426, "this connection cannot be upgraded").into_response();
    };
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => tell(upgraded, &frames, place).await,
            Err(error) => debug!("nobody was told whose a browser is: {error}"),
        }
    });
    handshaken.response()
}

/// Returns the head of the answer, and the frames that follow it.
async fn ask(
    app: &App,
    parts: &axum::http::request::Parts,
) -> Result<(Handshaken, Vec<u8>), Refusal> {
    let (way, offer) = handshake::offer(app, parts)?;
    let answer = app.identify(&offer, way, || handshake::without_upgrade(parts)).await?;
    let mut frames = Vec::new();
    match answer {
        Ok(identity) => {
            put_frame(&mut frames, Opcode::Text, text(&identity).as_bytes());
            put_close(&mut frames, close::NORMAL, "");
        }
        Err(refusal) => put_close(&mut frames, close::POLICY, judge::Refusal::message(&refusal)),
    }
    // Messages this short are not compressed.
    Ok((Handshaken::plain(offer.accept), frames))
}

/// Returns the message that tells an identity.
fn text(identity: &IdentityTag) -> String {
    match identity {
        IdentityTag::NoUsers => "no users".to_owned(),
        IdentityTag::Nobody => "nobody".to_owned(),
        IdentityTag::User(tag) => format!("user {tag}"),
    }
}

/// Tells an answer, and gives the client time to close. The place is free when the connection is
/// over.
pub(crate) async fn tell(upgraded: Upgraded, frames: &[u8], _place: OwnedSemaphorePermit) {
    let mut stream = TokioIo::new(upgraded);
    let telling = async {
        stream.write_all(frames).await?;
        stream.flush().await?;
        // RFC 6455, section 7.1.1: once the client has answered the close, the server ends the
        // connection, and the client waits for that. Nothing else that a client says matters.
        let _heard = stream.read(&mut [0; CLOSE]).await?;
        stream.shutdown().await
    };
    if let Ok(Err(error)) = timeout(PATIENCE, telling).await {
        debug!("a client left before its answer: {error}");
    }
}
