//! Serves the test page and the built page library. Each server has a port of its own, and
//! therefore an origin of its own.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs},
    path::{Component, Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{Result, paths, ports};

/// A name of this machine that no browser treats as a secure context.
pub const INSECURE_HOST: &str = "tabmux.test";

/// The id of the build that is served at `/next/`.
const NEXT_BUILD: &str = "next";

/// Returns a name besides localhost by which all programs of this machine find 127.0.0.1.
pub fn known_host() -> Option<String> {
    let own = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let names = [INSECURE_HOST, own.trim()];
    let found = names.into_iter().find(|name| {
        let mut addresses = (*name, 0).to_socket_addrs().into_iter().flatten();
        *name != "localhost" && addresses.any(|address| address.ip() == Ipv4Addr::LOCALHOST)
    });
    found.map(str::to_owned)
}

/// A static file server; it ends on drop.
#[derive(Debug)]
pub struct PageServer {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    assets: PathBuf,
    stopped: AtomicBool,
    /// The port of the server that `/tabmux/` comes from. It is 0 if it comes from the folder.
    upstream: AtomicU16,
    /// The only encoding that this server is asked for. `None` means what the browser accepts.
    encoding: Mutex<Option<&'static str>>,
    /// The targets of all requests.
    targets: Mutex<Vec<String>>,
}

impl PageServer {
    /// Serves `e2e/pages` at `/`, the folder `assets` at `/tabmux/`, and the same folder as another
    /// build at `/next/`.
    pub fn start(assets: PathBuf) -> Result<Self> {
        let port = ports::free()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .map_err(|error| format!("cannot serve pages: {error}"))?;
        let (stopped, upstream) = (AtomicBool::new(false), AtomicU16::new(0));
        let (encoding, targets) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { assets, stopped, upstream, encoding, targets });
        let served = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &served));
        Ok(Self { port, shared })
    }

    /// Passes requests below `/tabmux/` to the server on this port from now on, as a proxy would.
    pub fn pass_scripts_to(&self, port: u16) {
        self.shared.upstream.store(port, Ordering::Relaxed);
    }

    /// Asks that server for this encoding from now on, whatever the browser says.
    pub fn ask_for(&self, encoding: &'static str) {
        *self.shared.encoding.lock().unwrap_or_else(PoisonError::into_inner) = Some(encoding);
    }

    /// Returns how often this path was asked for.
    pub fn asked_for(&self, path: &str) -> usize {
        let targets = self.shared.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.iter().filter(|target| *target == path).count()
    }

    /// Returns the id of the build that is served.
    pub fn build(&self) -> Result<String> {
        paths::build(&self.shared.assets)
    }

    /// Returns the port of all pages.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns what the browser sends as `Origin`.
    pub fn origin(&self) -> String {
        // localhost is a secure context in all engines, so that pages have Web Locks.
        format!("http://localhost:{}", self.port)
    }

    /// Returns the origin with a name that is no secure context, so that pages have no Web Locks.
    /// Chromium and Firefox are started so that they know [`INSECURE_HOST`]. Others have to find
    /// one.
    pub fn insecure_origin(&self) -> String {
        let host = known_host().unwrap_or_else(|| INSECURE_HOST.to_owned());
        format!("http://{host}:{}", self.port)
    }

    /// Returns the address of a page.
    pub fn url(&self, page: &str) -> String {
        format!("{}/{page}", self.origin())
    }
}

impl Drop for PageServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // The connection wakes the thread that waits in `accept`.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        let shared = Arc::clone(shared);
        // A browser may go away in the middle of an answer, which is no error here.
        thread::spawn(move || drop(answer(&stream, &shared)));
    }
}

fn answer(mut stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    // Browsers open connections in advance and may never use them.
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream);
    let (mut request, mut headers) = (String::new(), String::new());
    reader.read_line(&mut request)?;
    while reader.read_line(&mut headers)? > 2 {}
    let target = request.split(' ').nth(1).unwrap_or("/");
    let upstream = shared.upstream.load(Ordering::Relaxed);
    let asked = &shared.targets;
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(target.to_owned());
    if upstream != 0 && target.starts_with("/tabmux/") {
        let encoding = *shared.encoding.lock().unwrap_or_else(PoisonError::into_inner);
        return pass_on(stream, upstream, &request, &headers, encoding);
    }
    let page = Page::find(target, &shared.assets);
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: {}\r\ncontent-length: {}\r\n{}\
         access-control-allow-origin: null\r\n\
         cache-control: no-cache\r\nconnection: close\r\n\r\n",
        page.status,
        page.content_type,
        page.body.len(),
        page.policy,
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&page.body)
}

/// Passes a request without a body to the server on this port, and its answer back.
fn pass_on(
    mut stream: &TcpStream,
    port: u16,
    request: &str,
    headers: &str,
    encoding: Option<&str>,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let is_passed = |line: &&str| {
        let line = line.to_ascii_lowercase();
        let is_replaced = encoding.is_some() && line.starts_with("accept-encoding:");
        !line.starts_with("connection:") && !is_replaced
    };
    let headers = headers.split_inclusive('\n').filter(is_passed).collect::<String>();
    let encoding = encoding.map(|name| format!("Accept-Encoding: {name}\r\n"));
    let encoding = encoding.unwrap_or_default();
    server.write_all(format!("{request}Connection: close\r\n{encoding}{headers}").as_bytes())?;
    std::io::copy(&mut server, &mut stream).map(drop)
}

struct Page {
    status: &'static str,
    content_type: &'static str,
    policy: String,
    body: Vec<u8>,
}

impl Page {
    fn find(target: &str, assets: &Path) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let next = path.strip_prefix("/next/");
        let asset = path.strip_prefix("/tabmux/").or(next);
        let file = match asset {
            Some(name) if next.is_some() => assets.join(of_this_build(name, assets)),
            Some(name) => assets.join(name),
            None => paths::pages().join(path.trim_start_matches('/')),
        };
        let inside = !file.components().any(|part| part == Component::ParentDir);
        let mut body = if inside { fs::read(&file).ok() } else { None };
        let is_script = !path.ends_with(".wasm");
        if let (Some(_), Some(text)) = (next.filter(|_| is_script), &mut body) {
            *text = of_next_build(text, assets);
        }
        Self {
            status: if body.is_some() { "200 OK" } else { "404 Not Found" },
            content_type: content_type(&file),
            policy: policy(query),
            body: body.unwrap_or_default(),
        }
    }
}

/// Returns the script as another build would contain it, with another id in all places.
fn of_next_build(script: &[u8], assets: &Path) -> Vec<u8> {
    let Ok(build) = paths::build(assets) else { return script.to_vec() };
    String::from_utf8_lossy(script).replace(&build, NEXT_BUILD).into_bytes()
}

/// Returns the file of this build for a name with the id of the other build.
fn of_this_build(name: &str, assets: &Path) -> String {
    paths::build(assets).map_or_else(|_| name.to_owned(), |build| name.replace(NEXT_BUILD, &build))
}

/// Returns headers that the query asks for: a content security policy that is too strict, or
/// isolation from other origins.
fn policy(query: &str) -> String {
    let named = match query {
        "no-workers" => "content-security-policy: worker-src 'none'",
        "no-wasm" => "content-security-policy: script-src 'self'; connect-src *",
        "no-link" => {
            "content-security-policy: script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'"
        }
        // The page gets an origin that no other page has, as in an iframe with this attribute.
        "sandboxed" => "content-security-policy: sandbox allow-scripts",
        "isolated" => {
            "cross-origin-opener-policy: same-origin\r\n\
             cross-origin-embedder-policy: require-corp"
        }
        // An application may send this header at a log-out while tabs are open.
        "clear-storage" => "clear-site-data: \"storage\"",
        "strict" => return documented("page"),
        "strict-worker" => return documented("worker"),
        _ => return String::new(),
    };
    format!("{named}\r\n")
}

/// Returns the policy with this name in docs/csp.md, with any server of this machine in place of
/// the documented one.
fn documented(name: &str) -> String {
    let docs = include_str!("../../docs/csp.md");
    let (_, rest) = docs.split_once(&format!("```csp {name}\n")).unwrap_or_default();
    let policy = rest.lines().next().unwrap_or_default();
    let policy = policy.replace("wss://example.org", "ws://127.0.0.1:*");
    format!("content-security-policy: {policy}\r\n")
}

fn content_type(file: &Path) -> &'static str {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("wasm") => "application/wasm",
        Some("map" | "json") => "application/json",
        _ => "application/octet-stream",
    }
}
