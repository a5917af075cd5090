//! The client, served by the server itself so that both are always of one version.

use std::{collections::HashMap, io};

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{
    encoding::{self, Encoding},
    files::{Age, File, Folder, content_type, failed},
    logs::rarely,
};

/// A worker is held to the policy of its own response, not of its page's: it compiles its wasm
/// and dials, and nothing else.
const WORKER_POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; \
                             connect-src 'self' ws: wss: http: https:";

/// A page that is isolated from other origins starts a worker only if the worker's own response
/// asks for that isolation, and loads from other origins only what says that it may be. Scripts are
/// secret to nobody: a worker of another origin may fetch its module here.
const ISOLATION: [(&str, &str); 3] = [
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "cross-origin"),
    ("access-control-allow-origin", "*"),
];

/// The files that are served, and no other; each may have compressed copies beside it.
pub(crate) const NAMES: [&str; 12] = [
    "client.js",
    "tiers.js",
    "worker.js",
    "tabmux.iife.js",
    "install.js",
    "debug.js",
    "client.js.map",
    "tiers.js.map",
    "worker.js.map",
    "tabmux.iife.js.map",
    "install.js.map",
    "debug.js.map",
];

/// Where the scripts come from.
pub(crate) enum Scripts {
    Folder(Folder),
    /// By name. Empty in a program that has none.
    Embedded(HashMap<&'static str, File>),
}

impl Scripts {
    /// The scripts of a program: pairs of name and content.
    pub(crate) fn embedded(scripts: &[(&'static str, &'static [u8])]) -> Self {
        Self::Embedded(scripts.iter().map(|(name, bytes)| (*name, File::embedded(bytes))).collect())
    }

    async fn read(&self, name: &str) -> io::Result<Option<File>> {
        match self {
            Self::Folder(folder) => folder.read(name).await,
            Self::Embedded(files) => Ok(files.get(name).cloned()),
        }
    }
}

/// Returns true for a name that holds the build: `worker.0123abcd.js`, `mux.0123abcd.wasm`.
pub(crate) fn is_versioned(name: &str) -> bool {
    let Some((stem, ending)) = name.rsplit_once('.') else { return false };
    let Some((what, build)) = stem.split_once('.') else { return false };
    let is_build = build.len() == 8 && build.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_build && matches!((what, ending), ("worker", "js") | ("mux" | "mirror" | "trace", "wasm"))
}

/// Answers a request for one of [`NAMES`], whose query may name the version, or for a file whose
/// name does. A version that is not there is not found: another one would be cached for ever.
pub(crate) async fn serve(
    scripts: &Scripts,
    name: &str,
    query: Option<&str>,
    request: &HeaderMap,
) -> Response {
    let is_versioned = is_versioned(name);
    let script = match scripts.read(name).await {
        Ok(Some(script)) => script,
        Ok(None) if is_versioned => return not_this_build(name),
        Ok(None) => return not_built(scripts, name),
        Err(error) => return failed(name, &error),
    };
    let version = query.and_then(|query| query.strip_prefix("v="));
    if version.is_some_and(|version| version != script.hash()) {
        return not_this_build(name);
    }
    let age = if is_versioned || version.is_some() { Age::Forever } else { Age::AskAgain };
    let (file, encoding) = match copy(scripts, name, &script, request).await {
        Some((copy, encoding)) => (copy, Some(encoding)),
        None => (script, None),
    };
    let mut response = file.respond(content_type(name), request, age);
    let is_whole = response.status() == StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Some(encoding) = encoding.filter(|_| is_whole) {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
    }
    for (name, value) in ISOLATION {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if name.starts_with("worker.") && !name.ends_with(".map") {
        let policy = HeaderValue::from_static(WORKER_POLICY);
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// The best compressed copy of a script that a request accepts, if there is one beside it. One
/// that is older than the script is of another build.
async fn copy(
    scripts: &Scripts,
    name: &str,
    script: &File,
    request: &HeaderMap,
) -> Option<(File, Encoding)> {
    for encoding in encoding::accepted(request) {
        let name = format!("{name}{}", encoding.suffix());
        match scripts.read(&name).await {
            Ok(Some(copy)) if copy.modified() >= script.modified() => {
                return Some((copy, encoding));
            }
            Ok(Some(_)) => rarely!(warn, "{name} is older than its script, and is not served"),
            Ok(None) => {}
            Err(error) => rarely!(error, "cannot read {name}: {error}"),
        }
    }
    None
}

fn not_this_build(name: &str) -> Response {
    let text = format!("{name}: this server has another build; load the page again\n");
    (StatusCode::NOT_FOUND, text).into_response()
}

fn not_built(scripts: &Scripts, name: &str) -> Response {
    let text = match scripts {
        Scripts::Folder(folder) => format!(
            "{name} is not in {}; run `cargo xtask dist` to build it, or name its folder with \
             --assets\n",
            folder.path().display()
        ),
        Scripts::Embedded(_) => format!(
            "this server was built without {name}; name a folder that has it with --assets, or in \
             an app with Builder::assets: `dist` of the npm package is one\n"
        ),
    };
    (StatusCode::NOT_FOUND, text).into_response()
}
