//! The client, served by the server itself so that both are always of one version.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::files::{Folder, content_type, failed};

/// A worker is held to the policy of its own response, not of its page's: it compiles its wasm
/// and dials, and nothing else.
const WORKER_POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; \
                             connect-src 'self' ws: wss: http: https:";

/// A page that is isolated from other origins starts a worker only if the worker's own response
/// asks for that isolation, and loads from other origins only what says that it may be.
const ISOLATION: [(&str, &str); 2] = [
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "cross-origin"),
];

/// The files that are served, and no other.
pub(crate) const NAMES: [&str; 7] = [
    "client.js",
    "tiers.js",
    "worker.js",
    "debug.js",
    "client.js.map",
    "tiers.js.map",
    "worker.js.map",
];

/// Answers a request for one of [`NAMES`], whose query may name the version.
pub(crate) async fn serve(
    folder: &Folder,
    name: &'static str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Response {
    let version = query.and_then(|query| query.strip_prefix("v="));
    match folder.read(name).await {
        Ok(Some(file)) => {
            let mut response = file.respond(content_type(name), headers, version);
            for (name, value) in ISOLATION {
                response.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            if name == "worker.js" {
                let policy = HeaderValue::from_static(WORKER_POLICY);
                response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
            }
            response
        }
        Ok(None) => {
            let folder = folder.path().display();
            let text = format!(
                "{name} is not in {folder}; run `cargo xtask dist` to build it, or name its \
                 folder with --assets\n"
            );
            (StatusCode::NOT_FOUND, text).into_response()
        }
        Err(error) => failed(name, &error),
    }
}
