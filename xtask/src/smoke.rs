//! `cargo xtask smoke`: starts the demo server as `cargo demo` does, and asks for what a browser
//! would ask for.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use crate::{demo, dist, process::step, repo::Repo};

/// Longest time for one answer, and for the server's start and end.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(repo: &Repo) -> anyhow::Result<()> {
    let assets = dist::default_out(repo);
    if !assets.join("worker.js").exists() {
        dist::build(repo, &assets, false)?;
    }
    step("server", || demo::build_server(repo))?;
    let mut summary = Summary::default();
    let mut server = Server::start(|address| serve(repo, address))?;
    let address = server.address;

    summary.check("the demo page", || {
        let page = get(address, "/")?;
        page.expect("content-type", "text/html")?;
        ensure!(page.body.contains("</html>"), "the body is no HTML page");
        Ok(())
    });
    summary.check("the page library", || {
        let script = get(address, "/tabmux/client.js")?;
        script.expect("content-type", "text/javascript")?;
        script.expect("cache-control", "no-cache")
    });
    summary.check("the worker: type, policy, cache", || worker(address));
    summary.check("the other tiers: type, cache", || tiers(address));
    summary.check("the scripts: compressed, isolated", || scripts(address));
    summary.check("health", || get(address, "/healthz").map(drop));
    summary.check("statistics", || {
        get(address, "/tabmux/stats")?.expect("content-type", "application/json")
    });
    summary.check("nothing else", || {
        let answer = request(address, "/tabmux/missing.js")?;
        ensure!(answer.status == 404, "status {}, not 404", answer.status);
        Ok(())
    });
    summary.check("a taken port is named", || taken_port(repo, address));
    summary.check("SIGTERM ends it", || server.stop());
    summary.finish()
}

/// Checks that this binary serves the scripts in it, and that it ends when it is told to.
pub(crate) fn serves(binary: &Path) -> anyhow::Result<()> {
    let mut server = Server::start(|address| {
        let mut command = Command::new(binary);
        command.args(["serve", "--log", "warn", "--listen", &address.to_string()]);
        command.current_dir("/").stdin(Stdio::null());
        command
    })?;
    worker(server.address)?;
    scripts(server.address)?;
    get(server.address, "/healthz")?;
    server.stop()
}

fn tiers(address: SocketAddr) -> anyhow::Result<()> {
    // The address is the one in client.js, which does not contain the build.
    let tiers = get(address, "/tabmux/tiers.js")?;
    tiers.expect("content-type", "text/javascript")?;
    tiers.expect("cache-control", "no-cache")
}

fn worker(address: SocketAddr) -> anyhow::Result<()> {
    // The address is the one in client.js, which does not contain the build.
    let worker = get(address, "/tabmux/worker.js")?;
    worker.expect("content-type", "text/javascript")?;
    worker.expect("content-security-policy", "'wasm-unsafe-eval'")?;
    worker.expect("content-security-policy", "connect-src")?;
    worker.expect("cache-control", "no-cache")
}

/// Checks the scripts as browsers ask for them, which all accept brotli.
fn scripts(address: SocketAddr) -> anyhow::Result<()> {
    for name in ["client.js", "tiers.js", "worker.js", "tabmux.iife.js", "debug.js"] {
        let path = format!("/tabmux/{name}");
        let whole = get(address, &path)?;
        let answer = request_with(address, &path, "accept-encoding: gzip, deflate, br\r\n")?;
        ensure!(answer.status == 200, "{path}: status {}", answer.status);
        answer.expect("content-encoding", "br")?;
        answer.expect("vary", "Accept-Encoding")?;
        answer.expect("cross-origin-embedder-policy", "require-corp")?;
        let (sent, len) = (answer.length()?, whole.length()?);
        ensure!(sent < len, "{path}: {sent} bytes in brotli, {len} without");
    }
    Ok(())
}

/// Checks that a second server on the same port fails at once and names the port.
fn taken_port(repo: &Repo, address: SocketAddr) -> anyhow::Result<()> {
    let output = serve(repo, address).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    ensure!(!output.status.success(), "a second server on {address} did not fail");
    let message = String::from_utf8_lossy(&output.stderr);
    let port = address.port().to_string();
    ensure!(message.contains(&port), "the message names no port: {message}");
    Ok(())
}

fn serve(repo: &Repo, address: SocketAddr) -> Command {
    let mut command = Command::new(repo.binary("tabmux"));
    command.args(["serve", "--demo", "--listen", &address.to_string(), "--assets"]);
    command.arg(dist::default_out(repo)).current_dir(&repo.root).stdin(Stdio::null());
    command
}

/// The number of checks, and the names of those that failed.
#[derive(Default)]
struct Summary {
    passed: u32,
    failed: u32,
}

impl Summary {
    fn check(&mut self, name: &str, check: impl FnOnce() -> anyhow::Result<()>) {
        match step(name, check) {
            Ok(()) => self.passed += 1,
            Err(error) => {
                println!("     {error:#}");
                self.failed += 1;
            }
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        println!("{} passed, {} failed", self.passed, self.failed);
        ensure!(self.failed == 0, "the demo server does not do what it must");
        Ok(())
    }
}

/// A running server, which is killed on drop.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(command: impl FnOnce(SocketAddr) -> Command) -> anyhow::Result<Self> {
        // The port was free a moment ago. The server cannot tell a port that it chose itself.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = command(address).stdout(Stdio::null()).spawn()?;
        let mut server = Self { child, address };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended at once ({status})");
            }
            ensure!(Instant::now() < deadline, "the server does not listen on {address}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(server)
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        let pid = self.child.id().to_string();
        ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "kill failed");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the server ended with {status}");
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the server still runs after {PATIENCE:?}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both calls fail only if the server has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer to an HTTP request.
struct Answer {
    path: String,
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// Fails unless a header of this name contains the text.
    fn expect(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let value = self.header(name)?;
        ensure!(value.contains(text), "{}: {name} is `{value}`, no `{text}`", self.path);
        Ok(())
    }

    /// Returns the length of the body that the header names.
    fn length(&self) -> anyhow::Result<usize> {
        self.header("content-length")?.parse().with_context(|| format!("{}: length", self.path))
    }

    fn header(&self, name: &str) -> anyhow::Result<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut values = headers.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let (_, value) = values.next().with_context(|| format!("{}: no {name}", self.path))?;
        Ok(value.trim())
    }
}

fn get(address: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    let answer = request(address, path)?;
    ensure!(answer.status == 200, "{path}: status {}", answer.status);
    Ok(answer)
}

fn request(address: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    request_with(address, path, "")
}

/// The request is HTTP/1.0, so that the body ends with the connection and is not chunked. Each of
/// the headers must end its line.
fn request_with(address: SocketAddr, path: &str, headers: &str) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: {address}\r\n{headers}\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).with_context(|| format!("{path}: no whole answer"))?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Answer {
        path: path.to_owned(),
        status: status.context("no HTTP status")?,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}
