//! `cargo xtask proxies`: runs the configurations in `deploy` for nginx and haproxy with two
//! servers behind them, and asks for what a browser would ask for.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use xshell::cmd;

use crate::{
    debian, demo, dist,
    process::{quiet, step},
    repo::Repo,
};

/// Debian's packages, and the programs in them.
const NEEDED: [(&str, &str); 4] = [
    ("nginx-light", "/usr/sbin/nginx"),
    ("haproxy", "/usr/sbin/haproxy"),
    ("openssl", "/usr/bin/openssl"),
    ("curl", "/usr/bin/curl"),
];
/// Longest time that a program may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
/// The host name in the configurations.
const HOST: &str = "example.org";

/// Returns the reason why this cannot run here, if there is one.
pub(crate) fn obstacle(repo: &Repo) -> Option<String> {
    debian::obstacle(repo, &missing())
}

fn missing() -> Vec<&'static str> {
    let missing = NEEDED.iter().filter(|(_, program)| !Path::new(program).exists());
    missing.map(|(package, _)| *package).collect()
}

pub(crate) fn run(repo: &Repo) -> anyhow::Result<()> {
    let missing = missing();
    if !missing.is_empty() {
        debian::install(repo, &missing)?;
    }
    step("server", || demo::build_server(repo))?;
    let bed = Bed::new(repo)?;
    let mut passed = 0;
    for proxy in [Proxy::nginx(&bed)?, Proxy::haproxy(&bed)?] {
        let _running = proxy.start()?;
        for (name, check) in CHECKS {
            step(&format!("{}: {name}", proxy.name), || check(&bed, &proxy))?;
            passed += 1;
        }
        if let Some(port) = proxy.passed_on {
            step(&format!("{}: by the PROXY protocol", proxy.name), || bed.by_bytes(port))?;
            passed += 1;
        }
    }
    if Path::new("/usr/bin/systemd-analyze").exists() {
        step("systemd: the unit and the socket", || units(repo, &bed))?;
        passed += 1;
    }
    println!("{passed} passed, 0 failed");
    Ok(())
}

type Check = fn(&Bed, &Proxy) -> anyhow::Result<()>;

const CHECKS: [(&str, Check); 5] = [
    ("a link opens", |_, proxy| proxy.expect_link(101, &[])),
    ("a page of another site gets no link", |_, proxy| {
        let status = proxy.link("https://evil.example", &[])?;
        ensure!(status == 403, "status {status}");
        Ok(())
    }),
    ("what is for backends is not there", |_, proxy| {
        for path in ["/tabmux/stats", "/tabmux/api/publish"] {
            let status = proxy.get(path)?.status;
            ensure!(status == 404, "{path}: status {status}");
        }
        let status = proxy.get("/tabmux/client.js")?.status;
        ensure!(status == 200, "the script: status {status}");
        Ok(())
    }),
    ("the server learns the client's address", |_, proxy| {
        // One address may have one link here. curl acts as a proxy in front, whose header counts
        // because curl calls from this machine.
        let client = "X-Forwarded-For: 192.0.2.1";
        let held = proxy.hold(&[client])?;
        let second = proxy.link(&proxy.origin(), &[client, &held.cookie])?;
        ensure!(second == 429, "the second link of an address: status {second}");
        proxy.expect_link(101, &["X-Forwarded-For: 192.0.2.2", &held.cookie])
    }),
    ("a browser comes back to its server", |bed, proxy| {
        let before = bed.admitted()?;
        let cookie = proxy.hold(&[])?.cookie;
        for _ in 0..5 {
            proxy.expect_link(101, &[&cookie])?;
        }
        let after = bed.admitted()?;
        let mut grown = [after[0] - before[0], after[1] - before[1]];
        grown.sort_unstable();
        ensure!(grown == [0, 6], "the two servers let {grown:?} links in");
        Ok(())
    }),
];

/// Two servers, a certificate, and a folder for files.
struct Bed {
    deploy: PathBuf,
    folder: PathBuf,
    servers: [Server; 2],
    /// The port at which the first server speaks the PROXY protocol.
    proxied: u16,
}

struct Server {
    port: u16,
    metrics: u16,
    _running: Running,
}

impl Bed {
    fn new(repo: &Repo) -> anyhow::Result<Self> {
        let folder = repo.target().join("proxies");
        repo.sh.create_dir(&folder)?;
        let (key, cert) = (folder.join("key.pem"), folder.join("cert.pem"));
        let name = ["-subj", "/CN=example.org", "-addext", "subjectAltName=DNS:example.org"];
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
        quiet(cmd!(
            repo.sh,
            "openssl req -x509 {curve...} -nodes -days 2 -keyout {key} -out {cert} {name...}"
        ))?;
        let both = fs::read_to_string(&cert)? + &fs::read_to_string(&key)?;
        fs::write(folder.join("both.pem"), both)?;
        let assets = dist::default_out(repo);
        if !assets.join("worker.js").exists() {
            dist::build(repo, &assets, false)?;
        }
        let proxied = free_port()?;
        let start = |node: u16| {
            let (port, metrics) = (free_port()?, free_port()?);
            let mut listen = format!("\"127.0.0.1:{port}\"");
            if node == 1 {
                listen +=
                    &format!(", {{ address = \"127.0.0.1:{proxied}\", proxy_protocol = true }}");
            }
            let config = folder.join(format!("node-{node}.toml"));
            let text = format!(
                "listen = [{listen}]\nmetrics_listen = \"127.0.0.1:{metrics}\"\nnode = {node}\n\
                 hosts = [\"{HOST}\"]\ntrusted_proxies = [\"127.0.0.1\"]\n[limits]\n\
                 links_per_ip = 1\n"
            );
            fs::write(&config, text)?;
            let mut command = Command::new(repo.binary("tabmux"));
            command.args(["serve", "--log", "warn", "--config"]).arg(config);
            command.arg("--assets").arg(&assets);
            let running = Running::start(command, port)?;
            anyhow::Ok(Server { port, metrics, _running: running })
        };
        let servers = [start(1)?, start(2)?];
        Ok(Self { deploy: repo.path("deploy"), folder, servers, proxied })
    }

    /// Returns a configuration of `deploy` with the addresses of this bed in place of its own. The
    /// configuration must contain all that are named.
    fn configuration(&self, name: &str, changes: &[(&str, String)]) -> anyhow::Result<PathBuf> {
        let mut text = fs::read_to_string(self.deploy.join(name))?;
        for (old, new) in changes {
            ensure!(text.contains(old), "{name} has no `{old}`");
            text = text.replace(old, new);
        }
        let file = self.folder.join(name);
        fs::write(&file, text)?;
        Ok(file)
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Returns how many links each server admitted.
    fn admitted(&self) -> anyhow::Result<[u64; 2]> {
        let admitted = |server: &Server| {
            let page = curl(&[&format!("http://127.0.0.1:{}/metrics", server.metrics)])?.body;
            let mut lines = page.lines();
            let value = lines.find_map(|line| line.strip_prefix("tabmux_admitted_total "));
            value.context("no metric")?.parse().context("no number")
        };
        Ok([admitted(&self.servers[0])?, admitted(&self.servers[1])?])
    }

    /// Opens a link through a proxy that passes bytes on and says who calls.
    fn by_bytes(&self, port: u16) -> anyhow::Result<()> {
        let url = format!("http://127.0.0.1:{port}/tabmux/ws");
        let host = format!("Host: {HOST}");
        let (status, _, _) = ask_for_link(&["-H", &host, &url])?;
        ensure!(status == 101, "status {status}");
        Ok(())
    }
}

/// A proxy that runs a configuration of `deploy`.
struct Proxy {
    name: &'static str,
    port: u16,
    /// The port at which the proxy passes bytes on without reading them.
    passed_on: Option<u16>,
    command: Vec<String>,
}

/// A link that stays open.
struct Held {
    /// The header that brings the next request to the same server.
    cookie: String,
    _curl: Running,
}

impl Proxy {
    fn nginx(bed: &Bed) -> anyhow::Result<Self> {
        let port = free_port()?;
        let file = bed.configuration(
            "nginx.conf",
            &[
                ("127.0.0.1:3001", format!("127.0.0.1:{}", bed.servers[0].port)),
                ("127.0.0.1:3002", format!("127.0.0.1:{}", bed.servers[1].port)),
                ("443 ssl", format!("{port} ssl")),
                ("/etc/ssl/example.org.pem", bed.path("cert.pem")),
                ("/etc/ssl/example.org.key", bed.path("key.pem")),
                ("worker_rlimit_nofile 200000", "worker_rlimit_nofile 1024".to_owned()),
                ("worker_connections 100000", "worker_connections 500".to_owned()),
                ("http {", "http { access_log off;".to_owned()),
            ],
        )?;
        let own = format!("daemon off; pid {}; error_log stderr;", bed.path("nginx.pid"));
        let command = ["/usr/sbin/nginx", "-c", &file.display().to_string(), "-g", &own];
        Ok(Self {
            name: "nginx",
            port,
            passed_on: None,
            command: command.map(str::to_owned).to_vec(),
        })
    }

    fn haproxy(bed: &Bed) -> anyhow::Result<Self> {
        let (port, bytes) = (free_port()?, free_port()?);
        let file = bed.configuration(
            "haproxy.cfg",
            &[
                ("127.0.0.1:3001", format!("127.0.0.1:{}", bed.servers[0].port)),
                ("127.0.0.1:3002", format!("127.0.0.1:{}", bed.servers[1].port)),
                ("127.0.0.1:3003 send", format!("127.0.0.1:{} send", bed.proxied)),
                (":443 ssl", format!(":{port} ssl")),
                (":443 v6only", format!(":{port} v6only")),
                ("127.0.0.1:8443", format!("127.0.0.1:{bytes}")),
                ("/etc/ssl/example.org.both.pem", bed.path("both.pem")),
                ("maxconn 100000", "maxconn 200".to_owned()),
            ],
        )?;
        let command = ["/usr/sbin/haproxy", "-db", "-f", &file.display().to_string()];
        Ok(Self {
            name: "haproxy",
            port,
            passed_on: Some(bytes),
            command: command.map(str::to_owned).to_vec(),
        })
    }

    fn start(&self) -> anyhow::Result<Running> {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        Running::start(command, self.port)
    }

    fn origin(&self) -> String {
        format!("https://{HOST}:{}", self.port)
    }

    /// Returns the arguments of curl for a path.
    fn arguments(&self, path: &str) -> [String; 4] {
        let resolve = format!("{HOST}:{}:127.0.0.1", self.port);
        ["-k".to_owned(), "--resolve".to_owned(), resolve, self.origin() + path]
    }

    fn get(&self, path: &str) -> anyhow::Result<Answer> {
        curl(&self.arguments(path).each_ref().map(String::as_str))
    }

    /// Asks for a link, and returns the status.
    fn link(&self, origin: &str, headers: &[&str]) -> anyhow::Result<u16> {
        Ok(self.ask(origin, headers)?.0)
    }

    fn ask(&self, origin: &str, headers: &[&str]) -> anyhow::Result<(u16, Vec<String>, Running)> {
        let (own, origin) = (self.arguments("/tabmux/ws"), format!("Origin: {origin}"));
        let mut arguments = own.each_ref().map(String::as_str).to_vec();
        arguments.extend(["-H", &origin]);
        headers.iter().for_each(|header| arguments.extend(["-H", header]));
        ask_for_link(&arguments)
    }

    fn expect_link(&self, status: u16, headers: &[&str]) -> anyhow::Result<()> {
        let answered = self.link(&self.origin(), headers)?;
        ensure!(answered == status, "status {answered}");
        Ok(())
    }

    /// Opens a link that stays open.
    fn hold(&self, headers: &[&str]) -> anyhow::Result<Held> {
        let (status, head, running) = self.ask(&self.origin(), headers)?;
        ensure!(status == 101, "status {status}");
        let cookie = head.iter().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let value = value.trim().split(';').next()?;
            name.eq_ignore_ascii_case("set-cookie").then(|| format!("Cookie: {value}"))
        });
        Ok(Held { cookie: cookie.unwrap_or_else(|| "Cookie: none=1".to_owned()), _curl: running })
    }
}

/// Has curl ask for a link. Returns the status and the head of the answer, and the running curl,
/// which waits for more.
fn ask_for_link(arguments: &[&str]) -> anyhow::Result<(u16, Vec<String>, Running)> {
    let mut command = Command::new("/usr/bin/curl");
    // curl writes its report of the head at once.
    command.args(["-sv", "--max-time", "60"]).args(UPGRADE).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let output = child.stderr.take().context("curl has no output")?;
    let running = Running(child);
    let mut head = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        let Some(line) = line.strip_prefix("< ").map(str::trim_end) else { continue };
        if line.is_empty() {
            break;
        }
        head.push(line.to_owned());
    }
    let status = head.first().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    Ok((status.context("no answer")?, head, running))
}

/// Arguments that make curl ask for a WebSocket.
const UPGRADE: [&str; 10] = [
    "-H",
    "Connection: Upgrade",
    "-H",
    "Upgrade: websocket",
    "-H",
    "Sec-WebSocket-Version: 13",
    "-H",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "--no-buffer",
    "--http1.1",
];

struct Answer {
    status: u16,
    body: String,
}

/// Has curl ask for an answer that ends.
fn curl(arguments: &[&str]) -> anyhow::Result<Answer> {
    let mut command = Command::new("/usr/bin/curl");
    command.args(["-s", "-i", "--max-time", "60"]).args(arguments).stdin(Stdio::null());
    let text = String::from_utf8_lossy(&command.output()?.stdout).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Answer { status: status.context("no status")?, body: body.to_owned() })
}

/// A program that is ended on drop.
struct Running(Child);

impl Running {
    fn start(mut command: Command, port: u16) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut running = Self(child);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = running.0.try_wait()?;
            ensure!(ended.is_none(), "{command:?} ended at once");
            ensure!(Instant::now() < deadline, "{command:?} does not listen");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx ends its workers only when it is asked to end. The calls fail only if it has ended.
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.0.wait();
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Has systemd check the units of the Debian package.
fn units(repo: &Repo, bed: &Bed) -> anyhow::Result<()> {
    let source = repo.path("crates/cli/debian");
    let binary = repo.binary("tabmux").display().to_string();
    let unit = fs::read_to_string(source.join("service"))?;
    let unit = unit.replace("/usr/bin/tabmux", &binary);
    let unit = unit.replace("file:///usr/share/doc/tabmux/operating.md", "https://example.org");
    let (service, socket) = (bed.folder.join("tabmux.service"), bed.folder.join("tabmux.socket"));
    fs::write(&service, unit)?;
    fs::copy(source.join("socket"), &socket)?;
    quiet(cmd!(repo.sh, "systemd-analyze verify --man=no {service} {socket}"))
}
