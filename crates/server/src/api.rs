//! The HTTP API for backends in any language.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json,
    body::Bytes,
    extract::{ConnectInfo, FromRequest, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tabmux_core::{OwnedPayload, wire::Position};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{ApiKey, ApiKeyFile, Config, Error, PublishError, app::App, logs::rarely};

/// Publications that one request may have.
const MAX_BATCH: usize = 10_000;
/// Characters of a key, at least.
const SHORTEST_KEY: usize = 16;

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

/// The query of a request about one topic.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfTopic {
    topic: String,
}

/// A refusal: a status, a text, and where the request stood.
struct Fault {
    status: StatusCode,
    body: Value,
}

/// The keys of the API. Digests are compared, so that how long it takes tells nothing about a key.
pub(crate) struct ApiKeys(Vec<[u8; 32]>);

/// How requests of the API ended.
#[derive(Default)]
pub(crate) struct Counts {
    requests: [AtomicU64; Ended::ALL.len()],
    published: AtomicU64,
}

/// What a request of the API came to.
#[derive(Clone, Copy)]
enum Ended {
    Ok,
    /// Its key was wrong, or there was none.
    Key,
    /// It made no sense.
    Bad,
    TooLarge,
    /// Its body did not come.
    Late,
    /// The server could not carry it out.
    Unavailable,
}

impl Ended {
    const ALL: [Self; 6] =
        [Self::Ok, Self::Key, Self::Bad, Self::TooLarge, Self::Late, Self::Unavailable];

    const fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            200..300 => Self::Ok,
            401 | 403 => Self::Key,
            408 => Self::Late,
            413 => Self::TooLarge,
            500.. => Self::Unavailable,
            _ => Self::Bad,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Key => "wrong_key",
            Self::Bad => "bad",
            Self::TooLarge => "too_large",
            Self::Late => "late",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Counts {
    /// Returns how many requests came to what.
    pub(crate) fn requests(&self) -> [(&'static str, u64); Ended::ALL.len()] {
        Ended::ALL
            .map(|ended| (ended.name(), self.requests[ended as usize].load(Ordering::Relaxed)))
    }

    /// Returns how many publications were taken.
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    fn count(&self, status: StatusCode) {
        self.requests[Ended::of(status) as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl ApiKeys {
    /// Reads the keys of a configuration, and the files that it names.
    ///
    /// # Errors
    /// When a file cannot be read, or a key is too short.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let mut keys = Vec::new();
        if let Some(ApiKey(key)) = &config.api_key {
            keys.push(digest(key, "api_key")?);
        }
        for ApiKeyFile { name, file } in &config.api_keys {
            let of = format!("the key {name:?} of api_keys");
            let key = std::fs::read_to_string(file).map_err(|error| {
                Error::Config(format!("{of} cannot be read from {}: {error}", file.display()))
            })?;
            keys.push(digest(key.trim_end(), &of)?);
        }
        Ok(Self(keys))
    }

    fn know(&self, given: &str) -> bool {
        let given = <[u8; 32]>::from(Sha256::digest(given));
        // All are looked at.
        self.0.iter().fold(false, |known, key| known | (*key == given))
    }
}

fn digest(key: &str, of: &str) -> Result<[u8; 32], Error> {
    if key.len() < SHORTEST_KEY {
        let least = format!("must have at least {SHORTEST_KEY} characters");
        return Err(Error::Config(format!("{of} {least}: who knows it can publish")));
    }
    Ok(Sha256::digest(key).into())
}

/// `POST /tabmux/api/publish`.
pub(crate) async fn publish(State(app): State<Arc<App>>, request: Request) -> Response {
    let answer = match carry_out(&app, request).await {
        Ok((many, published)) => {
            app.api.published.fetch_add(published.len() as u64, Ordering::Relaxed);
            if many {
                Json(published).into_response()
            } else {
                Json(published.into_iter().next()).into_response()
            }
        }
        Err(fault) => fault.into_response(),
    };
    app.api.count(answer.status());
    answer
}

/// `GET /tabmux/api/position?topic=NAME`.
pub(crate) async fn position(
    State(app): State<Arc<App>>,
    topic: Result<Query<OfTopic>, QueryRejection>,
    request: Request,
) -> Response {
    // A body cannot be shared between threads, so the request goes before anything is awaited.
    let checked = check_key(&app, &request);
    drop(request);
    let found = match checked {
        Ok(()) => find(&app, topic).await,
        Err(fault) => Err(fault),
    };
    let answer = match found {
        Ok(Position { epoch, offset }) => Json(Published { epoch, offset }).into_response(),
        Err(fault) => fault.into_response(),
    };
    app.api.count(answer.status());
    answer
}

async fn find(app: &App, topic: Result<Query<OfTopic>, QueryRejection>) -> Result<Position, Fault> {
    let Ok(Query(OfTopic { topic })) = topic else {
        let text = "the query must be topic=NAME, percent-encoded";
        return Err(Fault::new(StatusCode::BAD_REQUEST, text).of("topic"));
    };
    app.shards.fanout().position(&topic).await.map_err(|error| Fault::from(error).of("topic"))
}

/// Returns what was published, and whether it was a batch.
async fn carry_out(app: &App, request: Request) -> Result<(bool, Vec<Published>), Fault> {
    // Before the body is read: for who has no key, the server holds nothing.
    check_key(app, &request)?;
    let body = receive(app, request).await?;
    let (many, items) = read(app, &body)?;
    Ok((many, publish_all(app, items).await?))
}

/// Checks the key of a request, and tells the log of one that is wrong.
fn check_key(app: &App, request: &Request) -> Result<(), Fault> {
    let settings = app.control.desk.settings();
    authorize(&settings.api_keys, request.headers()).inspect_err(|_| {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let forwarded = request.headers().get_all("x-forwarded-for").iter();
        let forwarded = forwarded.map(HeaderValue::as_bytes).collect::<Vec<_>>();
        let client = peer.map_or_else(
            || "unknown".to_owned(),
            |ConnectInfo(peer)| {
                settings.proxies.client(peer.ip(), forwarded.into_iter()).to_string()
            },
        );
        rarely!(warn, %client, "a request of the API had no key, or a wrong one");
    })
}

async fn receive(app: &App, request: Request) -> Result<Bytes, Fault> {
    let patience = Duration::from_millis(app.config.http_timeout_ms);
    match timeout(patience, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) => Err(Fault::new(rejection.status(), &rejection.body_text())),
        Err(_) => Err(Fault::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

fn authorize(keys: &ApiKeys, headers: &HeaderMap) -> Result<(), Fault> {
    if keys.0.is_empty() {
        let text = "this server has no API key: set api_key or api_keys in its configuration, or \
                    TABMUX_API_KEY in its environment";
        return Err(Fault::new(StatusCode::FORBIDDEN, text));
    }
    let given = headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    let given = given.and_then(|it| it.trim().split_once(' '));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    if given.is_some_and(|(_, key)| keys.know(key.trim())) {
        return Ok(());
    }
    Err(Fault::new(StatusCode::UNAUTHORIZED, "the header must be Authorization: Bearer <API key>"))
}

/// The publications of a request, and whether it was a batch. All are checked before any is
/// published.
fn read(app: &App, body: &[u8]) -> Result<(bool, Vec<(String, OwnedPayload)>), Fault> {
    let many = body.trim_ascii_start().starts_with(b"[");
    let items = match many {
        true => serde_json::from_slice::<Vec<Item>>(body),
        false => serde_json::from_slice::<Item>(body).map(|item| vec![item]),
    };
    let items = items.map_err(|error| wrong(body, many, &error))?;
    if items.len() > MAX_BATCH {
        let text = format!("a batch has at most {MAX_BATCH} publications");
        return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, &text));
    }
    let check = |(index, item): (usize, Item)| {
        check(app, item).map_err(|fault| if many { fault.at(index) } else { fault })
    };
    let items = items.into_iter().enumerate().map(check).collect::<Result<_, _>>()?;
    Ok((many, items))
}

/// Says which field of which publication is wrong.
fn wrong(body: &[u8], many: bool, error: &serde_json::Error) -> Fault {
    let bad = |text: &str| Fault::new(StatusCode::BAD_REQUEST, text);
    let items = match serde_json::from_slice(body) {
        Err(error) => return bad(&format!("the body is no JSON: {error}")),
        Ok(Value::Array(items)) => items,
        Ok(item) => vec![item],
    };
    let mut faults = items.iter().enumerate().filter_map(|(index, item)| {
        let (field, text) = fault_of(item)?;
        let fault = bad(&text);
        let fault = if many { fault.at(index) } else { fault };
        Some(match field {
            Some(field) => fault.of(field),
            None => fault,
        })
    });
    faults.next().unwrap_or_else(|| bad(&format!("the body is wrong: {error}")))
}

/// Returns what is wrong with a publication, and the field if there is one.
fn fault_of(item: &Value) -> Option<(Option<&str>, String)> {
    let Some(object) = item.as_object() else {
        let form = "a publication is an object such as {\"topic\": \"news\", \"text\": \"hello\"}";
        return Some((None, form.to_owned()));
    };
    let known = ["topic", "text", "base64"];
    if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
        return Some((Some(key), format!("there is no field {key}")));
    }
    if !object.contains_key("topic") {
        return Some((Some("topic"), "topic is missing".to_owned()));
    }
    let is_wrong = |field: &&str| match object.get(*field) {
        None | Some(Value::String(_)) => false,
        Some(Value::Null) => *field == "topic",
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => true,
    };
    let field = known.into_iter().find(is_wrong)?;
    Some((Some(field), format!("{field} must be a string")))
}

fn check(app: &App, item: Item) -> Result<(String, OwnedPayload), Fault> {
    let (payload, field) = match (item.text, item.base64) {
        (Some(text), None) => (OwnedPayload::Text(text), "text"),
        (None, Some(text)) => match STANDARD.decode(text) {
            Ok(bytes) => (OwnedPayload::Binary(bytes), "base64"),
            Err(error) => {
                let text = format!("base64 is wrong: {error}");
                return Err(Fault::new(StatusCode::BAD_REQUEST, &text).of("base64"));
            }
        },
        _ => {
            let text = "a publication has either text or base64";
            return Err(Fault::new(StatusCode::BAD_REQUEST, text).of("text"));
        }
    };
    app.shards.fanout().check(&item.topic, payload.len()).map_err(|error| {
        let field = if error == PublishError::Name { "topic" } else { field };
        Fault::from(error).of(field)
    })?;
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

    /// With the field that is wrong.
    fn of(mut self, field: &str) -> Self {
        self.body["field"] = field.into();
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
