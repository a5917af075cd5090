//! Files of a folder over HTTP: types, cache headers, and no way out of the folder.

use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

/// What a page of the site may load and reach.
const SITE_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
                           object-src 'none'; base-uri 'none'; frame-ancestors 'self'";
/// For what the address itself names the content of.
const FOREVER: &str = "public, max-age=31536000, immutable";
/// For everything else: ask each time, and get 304 if nothing changed.
const ASK_AGAIN: &str = "no-cache";

/// A folder of static files.
pub(crate) struct Folder(PathBuf);

/// A file in memory, and the name of its content.
pub(crate) struct File {
    bytes: Vec<u8>,
    /// The first 16 hex digits of its SHA-256.
    hash: String,
}

impl Folder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Reads a file; `None` if there is none.
    pub(crate) async fn read(&self, name: &str) -> io::Result<Option<File>> {
        match tokio::fs::read(self.0.join(name)).await {
            Ok(bytes) => Ok(Some(File::new(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // A folder, or a file used as one, is no file either.
            Err(_) if !self.0.join(name).is_file() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Answers a request for a page of a site or what belongs to it.
    pub(crate) async fn serve(&self, path: &str, headers: &HeaderMap) -> Response {
        let Some(name) = file_name(path) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        match self.read(&name).await {
            Ok(Some(file)) => {
                let mut response = file.respond(content_type(&name), headers, None);
                let policy = HeaderValue::from_static(SITE_POLICY);
                response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
                response
            }
            Ok(None) => (StatusCode::NOT_FOUND, "no such page\n").into_response(),
            Err(error) => failed(&name, &error),
        }
    }
}

impl File {
    fn new(bytes: Vec<u8>) -> Self {
        let mut hash = String::with_capacity(16);
        for byte in &Sha256::digest(&bytes)[..8] {
            // Writing to a string cannot fail.
            let _ = write!(hash, "{byte:02x}");
        }
        Self { bytes, hash }
    }

    /// The answer to a request that may name the content by `version`, or may know it by an
    /// earlier answer's ETag.
    pub(crate) fn respond(
        self,
        content_type: &'static str,
        request: &HeaderMap,
        version: Option<&str>,
    ) -> Response {
        let etag = format!("\"{}\"", self.hash);
        let known = request.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
        let cache = if version == Some(&self.hash) { FOREVER } else { ASK_AGAIN };
        let unchanged = known.is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == etag));
        let headers = [
            (header::CONTENT_TYPE, content_type.to_owned()),
            (header::CACHE_CONTROL, cache.to_owned()),
            (header::ETAG, etag),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        ];
        if unchanged {
            (StatusCode::NOT_MODIFIED, headers).into_response()
        } else {
            (headers, self.bytes).into_response()
        }
    }
}

/// The answer when a file is there and cannot be read.
pub(crate) fn failed(name: &str, error: &io::Error) -> Response {
    crate::logs::rarely!(error, "cannot read {name}: {error}");
    (StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read\n").into_response()
}

/// The file a path names, relative to the folder; `None` for what may lead out of it.
fn file_name(path: &str) -> Option<String> {
    let path = path.strip_prefix('/')?;
    let hidden = |part: &str| part.starts_with('.') || (part.is_empty() && path != part);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let inner = path.strip_suffix('/').unwrap_or(path);
    if !path.chars().all(plain) || inner.split('/').any(hidden) {
        return None;
    }
    let index = if path.is_empty() || path.ends_with('/') { "index.html" } else { "" };
    Some(format!("{path}{index}"))
}

/// By the ending of the name.
pub(crate) fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_file_of_the_folder() {
        for (path, file) in [
            ("/", "index.html"),
            ("/a.js", "a.js"),
            ("/b/", "b/index.html"),
            ("/b/c-d_e.css", "b/c-d_e.css"),
        ] {
            assert_eq!(file_name(path).as_deref(), Some(file), "{path}");
        }
    }

    #[test]
    fn no_path_leads_out_of_the_folder() {
        for path in ["/../a", "/a/../../b", "/.git/config", "//etc/passwd", "/%2e%2e/a", "/a\\b"] {
            assert_eq!(file_name(path), None, "{path}");
        }
    }
}
