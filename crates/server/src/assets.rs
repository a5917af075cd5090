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
