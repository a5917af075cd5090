//! What every answer over HTTP has: the names that the server answers to, headers that keep
//! browsers from guessing, and a text.

use std::sync::Arc;

use axum::{
    body::{Body, HttpBody},
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    app::App,
    gateway::show,
    hosts::Door,
    ws::upgrade::{CORP, NOSNIFF},
};

/// Who asks for these may call the server as it likes: load balancers and supervisors know
/// addresses, and learn nothing here that is worth a name.
const NAMELESS: [&str; 4] = ["/healthz", "/livez", "/tabmux/healthz", "/tabmux/livez"];

/// Answers a request, or refuses it for the name that it calls the server by.
pub(crate) async fn dress(
    State((app, door)): State<(Arc<App>, Door)>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST).map(HeaderValue::as_bytes);
    let is_nameless = NAMELESS.contains(&request.uri().path());
    let refusal = app.check_host(host, door, None).err().filter(|_| !is_nameless);
    let mut response = match refusal {
        Some(refusal) => refusal.into_response(),
        None if show::is_shown(&app, request.headers()) => show::serve(app, request).await,
        None => next.run(request).await,
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    if response.body().size_hint().exact() == Some(0)
        && let Some(text) = text(response.status())
    {
        let typ = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, typ);
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(text);
    }
    for (name, value) in [NOSNIFF, CORP] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

/// Returns what an answer says that has nothing to say.
fn text(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::NOT_FOUND => Some("there is nothing at this address\n"),
        StatusCode::METHOD_NOT_ALLOWED => {
            Some("this address does not take this method; the header Allow has those it takes\n")
        }
        _ => None,
    }
}
