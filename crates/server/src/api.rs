//! The HTTP API for backends in any language.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tabmux_core::{OwnedPayload, wire::Position};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{PublishError, app::App, config::ApiKey};

/// Publications that one request may have.
const MAX_BATCH: usize = 10_000;

/// The body of a publish request.
#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Many(Vec<Item>),
    One(Item),
}

/// One publication: a text, or bytes in base64.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    topic: String,
    text: Option<String>,
    base64: Option<String>,
}

#[derive(Serialize)]
struct Published {
    epoch: u64,
    offset: u64,
}

/// A refusal: a status, a text, and where the request stood.
struct Fault {
    status: StatusCode,
    body: Value,
}

/// `POST /tabmux/api/publish`.
pub(crate) async fn publish(State(app): State<Arc<App>>, request: Request) -> Response {
    match carry_out(&app, request).await {
        Ok((false, published)) => Json(published.into_iter().next()).into_response(),
        Ok((true, published)) => Json(published).into_response(),
        Err(fault) => fault.into_response(),
    }
}

/// What was published, and whether it was a batch.
async fn carry_out(app: &App, request: Request) -> Result<(bool, Vec<Published>), Fault> {
    // Before the body is read: for who has no key, the server holds nothing.
    authorize(app.control.desk.settings().api_key.as_ref(), request.headers())?;
    let body = receive(app, request).await?;
    let (many, items) = read(app, &body)?;
    Ok((many, publish_all(app, items).await?))
}

async fn receive(app: &App, request: Request) -> Result<Bytes, Fault> {
    let patience = Duration::from_millis(app.config.http_timeout_ms);
    match timeout(patience, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) => Err(Fault::new(rejection.status(), &rejection.body_text())),
        Err(_) => Err(Fault::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

fn authorize(key: Option<&ApiKey>, headers: &HeaderMap) -> Result<(), Fault> {
    let Some(ApiKey(key)) = key else {
        let text = "this server has no API key: set api_key in its configuration, or \
                    TABMUX_API_KEY in its environment";
        return Err(Fault::new(StatusCode::FORBIDDEN, text));
    };
    let given = headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    let given = given.and_then(|it| it.strip_prefix("Bearer "));
    // Digests are compared, so that how long it takes tells nothing about the key.
    let same = |given: &str| Sha256::digest(given.trim()) == Sha256::digest(key);
    if given.is_some_and(same) {
        return Ok(());
    }
    Err(Fault::new(StatusCode::UNAUTHORIZED, "the header must be Authorization: Bearer <API key>"))
}

/// The publications of a request, and whether it was a batch. All are checked before any is
/// published.
fn read(app: &App, body: &[u8]) -> Result<(bool, Vec<(String, OwnedPayload)>), Fault> {
    let body = serde_json::from_slice::<Body>(body).map_err(|_| {
        let text = "the body must be {\"topic\": …, \"text\": …}, or with \"base64\" instead of \
                    \"text\", or an array of such objects";
        Fault::new(StatusCode::BAD_REQUEST, text)
    })?;
    let (many, items) = match body {
        Body::One(item) => (false, vec![item]),
        Body::Many(items) => (true, items),
    };
    if items.len() > MAX_BATCH {
        let text = format!("a batch has at most {MAX_BATCH} publications");
        return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, &text));
    }
    let check = |(index, item): (usize, Item)| check(app, item).map_err(|fault| fault.at(index));
    let items = items.into_iter().enumerate().map(check).collect::<Result<_, _>>()?;
    Ok((many, items))
}

fn check(app: &App, item: Item) -> Result<(String, OwnedPayload), Fault> {
    let payload = match (item.text, item.base64) {
        (Some(text), None) => OwnedPayload::Text(text),
        (None, Some(text)) => match STANDARD.decode(text) {
            Ok(bytes) => OwnedPayload::Binary(bytes),
            Err(error) => {
                let text = format!("base64 is wrong: {error}");
                return Err(Fault::new(StatusCode::BAD_REQUEST, &text));
            }
        },
        _ => {
            let text = "a publication has either text or base64";
            return Err(Fault::new(StatusCode::BAD_REQUEST, text));
        }
    };
    app.shards.fanout().check(&item.topic, payload.len()).map_err(Fault::from)?;
    Ok((item.topic, payload))
}

/// Publishes one after the other, and gives up when there is no room for as long as a request may
/// take.
async fn publish_all(
    app: &App,
    items: Vec<(String, OwnedPayload)>,
) -> Result<Vec<Published>, Fault> {
    let mut published = Vec::with_capacity(items.len());
    let deadline = Instant::now() + Duration::from_millis(app.config.http_timeout_ms);
    for (topic, payload) in items {
        let publishing = app.shards.fanout().publish(&topic, payload.as_payload());
        let position = timeout_at(deadline, publishing).await;
        match position.unwrap_or(Err(PublishError::Full)) {
            Ok(Position { epoch, offset }) => published.push(Published { epoch, offset }),
            // Those before it are out; the caller learns which.
            Err(error) => return Err(Fault::from(error).after(&published)),
        }
    }
    Ok(published)
}

impl Fault {
    fn new(status: StatusCode, text: &str) -> Self {
        Self { status, body: json!({ "error": text }) }
    }

    /// With the index of the publication that is wrong.
    fn at(mut self, index: usize) -> Self {
        self.body["index"] = index.into();
        self
    }

    /// With what was published before it happened.
    fn after(mut self, published: &[Published]) -> Self {
        self.body["published"] = json!(published);
        self
    }
}

impl From<PublishError> for Fault {
    fn from(error: PublishError) -> Self {
        let status = match error {
            PublishError::Name => StatusCode::BAD_REQUEST,
            PublishError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            PublishError::Full | PublishError::Closed | PublishError::Broker(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Self::new(status, &error.to_string())
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let owed: Option<(HeaderName, &str)> = match self.status {
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
            StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, "1")),
            _ => None,
        };
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some((name, value)) = owed {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
