//! Files of a folder over HTTP: types, cache headers, and no way out of the folder.
//!
//! All answers that are being sent at one time share one buffer for each file, which is freed with
//! the last of them. So the server holds at most the files that are being sent, each once, however
//! many peers ask and however slowly they read; and a folder of any size takes no memory while
//! nobody asks for its files.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt::Write as _,
    fs::{File as Handle, Metadata, OpenOptions},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::SystemTime,
};

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use tokio::{sync::Mutex as Turn, task::spawn_blocking};

use crate::logs::rarely;

/// What a page of the site may load and reach.
const SITE_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
                           object-src 'none'; base-uri 'none'; frame-ancestors 'self'";

/// How long a browser may use an answer without asking.
#[derive(Clone, Copy)]
pub(crate) enum Age {
    /// The address itself names the content.
    Forever,
    /// It asks each time, and gets 304 if nothing changed.
    AskAgain,
}

impl Age {
    const fn cache_control(self) -> &'static str {
        match self {
            Self::Forever => "public, max-age=31536000, immutable",
            Self::AskAgain => "no-cache",
        }
    }
}

/// Files that a folder remembers before it forgets those that nobody reads.
const REMEMBERED: usize = 1_024;

/// A folder of static files.
pub(crate) struct Folder {
    path: PathBuf,
    /// What a link leads to outside of it is served as well.
    is_open: bool,
    /// What was asked for and existed. Who reads a file has its turn, so that a file that many ask
    /// for at once is read once.
    known: Mutex<HashMap<String, Arc<Turn<Known>>>>,
}

/// What is known of a file.
#[derive(Default)]
struct Known {
    stamp: Option<Stamp>,
    content: Weak<Content>,
}

/// Equal for as long as a file stays the same: its number, the time of its last change, which
/// nobody can set, and its length.
#[cfg(unix)]
type Stamp = (u64, (i64, i64), u64);
#[cfg(not(unix))]
type Stamp = (SystemTime, u64);

/// A file in memory, and the name of its content.
#[derive(Clone)]
pub(crate) struct File(Arc<Content>);

struct Content {
    bytes: Cow<'static, [u8]>,
    /// When it was written; `None` if the system does not say.
    modified: Option<SystemTime>,
    /// The first 16 hex digits of its SHA-256.
    hash: String,
}

impl Folder {
    /// A folder whose files may be links to others.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, is_open: true, known: Mutex::default() }
    }

    /// A folder that no link leads out of.
    pub(crate) fn closed(path: PathBuf) -> Self {
        Self { path, is_open: false, known: Mutex::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a file, unless it is in memory already; `None` if there is none.
    pub(crate) async fn read(&self, name: &str) -> io::Result<Option<File>> {
        let path = self.path.join(name);
        // A name that no file has is not remembered, and no device is opened.
        if !tokio::fs::metadata(&path).await.is_ok_and(|metadata| metadata.is_file()) {
            return Ok(None);
        }
        let mut known = self.known(name).lock_owned().await;
        let root = (!self.is_open).then(|| self.path.clone());
        // The turn goes along: it lasts until the file is read, also if the peer goes before.
        spawn_blocking(move || match root {
            Some(root) => {
                let path = path.canonicalize()?;
                if !path.starts_with(root.canonicalize()?) {
                    rarely!(warn, "{} is not served: a link to it leads there", path.display());
                    return Ok(None);
                }
                known.read(&path)
            }
            None => known.read(&path),
        })
        .await?
    }

    fn known(&self, name: &str) -> Arc<Turn<Known>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = known.get(name) {
            return Arc::clone(file);
        }
        if known.len() >= REMEMBERED {
            known.retain(|_, file| {
                let is_sent = |file: &Known| file.content.strong_count() > 0;
                // More than one has it while somebody reads it or waits to.
                Arc::strong_count(file) > 1 || file.try_lock().is_ok_and(|file| is_sent(&file))
            });
        }
        Arc::clone(known.entry(name.to_owned()).or_default())
    }

    /// Answers a request for a page of a site or what belongs to it.
    pub(crate) async fn serve(&self, path: &str, headers: &HeaderMap) -> Response {
        let Some(name) = file_name(path) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        match self.read(&name).await {
            Ok(Some(file)) => {
                let mut response = file.respond(content_type(&name), headers, Age::AskAgain);
                let policy = HeaderValue::from_static(SITE_POLICY);
                response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
                response
            }
            Ok(None) => (StatusCode::NOT_FOUND, "no such page\n").into_response(),
            Err(error) => failed(&name, &error),
        }
    }
}

impl Known {
    /// Takes time.
    fn read(&mut self, path: &Path) -> io::Result<Option<File>> {
        let Some((mut handle, metadata)) = open(path)? else {
            return Ok(None);
        };
        let stamp = Some(stamp(&metadata)?);
        if self.stamp == stamp
            && let Some(content) = self.content.upgrade()
        {
            return Ok(Some(File(content)));
        }
        let mut bytes = Vec::new();
        // A file may say that it is larger than all memory.
        bytes.try_reserve_exact(usize::try_from(metadata.len()).unwrap_or(usize::MAX))?;
        handle.read_to_end(&mut bytes)?;
        let content = Arc::new(Content::new(bytes.into(), metadata.modified().ok()));
        *self = Self { stamp, content: Arc::downgrade(&content) };
        Ok(Some(File(content)))
    }
}

/// Opens a file; `None` if there is none. What took the file's place a moment ago, such as a FIFO
/// that nobody writes to, must not block the thread.
fn open(path: &Path) -> io::Result<Option<(Handle, Metadata)>> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    match options.open(path) {
        Ok(handle) => {
            let metadata = handle.metadata()?;
            Ok(metadata.is_file().then_some((handle, metadata)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
fn stamp(metadata: &Metadata) -> io::Result<Stamp> {
    use std::os::unix::fs::MetadataExt;

    Ok((metadata.ino(), (metadata.ctime(), metadata.ctime_nsec()), metadata.len()))
}

#[cfg(not(unix))]
fn stamp(metadata: &Metadata) -> io::Result<Stamp> {
    Ok((metadata.modified()?, metadata.len()))
}

impl Content {
    fn new(bytes: Cow<'static, [u8]>, modified: Option<SystemTime>) -> Self {
        let mut hash = String::with_capacity(16);
        for byte in &Sha256::digest(&bytes)[..8] {
            // Writing to a string cannot fail.
            let _ = write!(hash, "{byte:02x}");
        }
        Self { bytes, modified, hash }
    }
}

/// For [`Bytes`], which keep their owner alive.
impl AsRef<[u8]> for File {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl File {
    /// A file that is a part of the program.
    pub(crate) fn embedded(bytes: &'static [u8]) -> Self {
        Self(Arc::new(Content::new(bytes.into(), None)))
    }

    /// The name of its content.
    pub(crate) fn hash(&self) -> &str {
        &self.0.hash
    }

    /// When it was written; `None` if the system does not say.
    pub(crate) fn modified(&self) -> Option<SystemTime> {
        self.0.modified
    }

    /// The answer to a request that may know the content by an earlier answer's ETag.
    pub(crate) fn respond(
        self,
        content_type: &'static str,
        request: &HeaderMap,
        age: Age,
    ) -> Response {
        let etag = format!("\"{}\"", self.0.hash);
        let known = request.get_all(header::IF_NONE_MATCH).into_iter();
        let mut known =
            known.filter_map(|tags| tags.to_str().ok()).flat_map(|tags| tags.split(','));
        // Weak tags are compared as if they were strong.
        let unchanged = known.any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
        });
        let headers = [
            (header::CONTENT_TYPE, content_type.to_owned()),
            (header::CACHE_CONTROL, age.cache_control().to_owned()),
            (header::ETAG, etag),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        ];
        if unchanged {
            (StatusCode::NOT_MODIFIED, headers).into_response()
        } else {
            (headers, Bytes::from_owner(self)).into_response()
        }
    }
}

/// The answer when a file is there and cannot be read.
pub(crate) fn failed(name: &str, error: &io::Error) -> Response {
    rarely!(error, "cannot read {name}: {error}");
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

    #[cfg(unix)]
    #[test]
    fn a_fifo_that_took_the_place_of_a_file_is_no_file() {
        let path = std::env::temp_dir().join(format!("tabmux-fifo-{}", std::process::id()));
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let found = open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(found.is_none());
    }

    #[tokio::test]
    async fn files_that_nobody_reads_are_forgotten_when_they_are_many() {
        let path = std::env::temp_dir().join(format!("tabmux-files-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let folder = Folder::new(path.clone());
        let mut held = Vec::new();
        for number in 0..=REMEMBERED + 8 {
            let name = format!("{number}.txt");
            std::fs::write(path.join(&name), &name).unwrap();
            let file = folder.read(&name).await.unwrap().unwrap();
            if number < 4 {
                held.push((name, file));
            }
        }
        std::fs::remove_dir_all(path).unwrap();
        let known = folder.known.lock().unwrap();
        assert!(known.len() < 16, "{}", known.len());
        assert!(held.iter().all(|(name, _)| known.contains_key(name)));
    }
}
