//! The real `tabmux` server as a process that tests kill and start again.

use std::{
    cell::RefCell,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{Result, http, paths, ports, process::Group, sockets, wait};

/// The key with which backends publish.
const API_KEY: &str = "the key of the tests";

/// The server program that runs.
#[derive(Clone, Debug)]
pub enum Program {
    /// The demo: `tabmux serve --demo`.
    Demo,
    /// The same, but the header `X-User` of a proxy names the user.
    Users,
    /// The same, with room for two tabs of a browser.
    TwoTabs,
    /// The same, with history of topics and without sessions that outlive their link.
    History,
    /// The server of protocol version 1, as `tabmux serve --demo`.
    Version1,
    /// The example `chaos` with a judge that admits browsers with the cookie `user`.
    Judged,
    /// The same, with a judge that also admits guests, as nobody.
    Guests,
    /// The example `figures`, which publishes on command.
    Figures,
    /// The example `chaos`, which numbers its messages.
    Numbers {
        /// Number of topics to which the server publishes.
        topics: u32,
        /// The port for WebSockets without tabmux, if there is one.
        plain: Option<u16>,
        /// A port for streams, to which the gateway passes sockets on.
        upstream: Option<u16>,
    },
    /// The same with a gateway to the plain server at this port, for the path `/whose` and for
    /// those below `/parked`, each of which has its own setting of that name.
    Gateway {
        /// The port of the plain server.
        upstream: u16,
        /// Whether a judge names users, and lets in guests.
        judges: bool,
    },
}

/// A server on a free port, which stays the same when the server is started again.
#[derive(Debug)]
pub struct LinkServer {
    program: Program,
    port: u16,
    origins: Vec<String>,
    process: RefCell<Option<Group>>,
    /// The secrets of identity tags, if there are any: the first makes tags.
    secrets: RefCell<Vec<&'static str>>,
    log: Log,
}

impl LinkServer {
    /// Starts the server and waits until it is healthy. Pages of `origins` may open links.
    pub fn start(program: Program, origins: &[String]) -> Result<Self> {
        let server = Self {
            program,
            port: ports::free()?,
            origins: origins.to_vec(),
            process: RefCell::new(None),
            secrets: RefCell::default(),
            log: Log::default(),
        };
        server.restart()?;
        Ok(server)
    }

    /// Returns the port of links.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the lines that the server has written so far, over all its runs.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Returns the address of a virtual socket.
    pub fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address())
    }

    /// Sends a line to a server of [`Program::Figures`]. Returns the time when the server began to
    /// obey, in milliseconds since 1970.
    pub fn obey(&self, line: &str) -> Result<f64> {
        let began = || -> Vec<f64> {
            let lines = self.log.lines().into_iter();
            lines.filter_map(|line| line.strip_prefix("began ")?.parse().ok()).collect()
        };
        let before = began().len();
        let mut process = self.process.borrow_mut();
        let process = process.as_mut().ok_or("the server does not run")?;
        let input = process.leader().stdin.as_mut().ok_or("the server takes no commands")?;
        writeln!(input, "{line}").map_err(|error| format!("{line}: {error}"))?;
        wait::until("the server to obey", Duration::from_secs(5), || {
            began().get(before).copied().ok_or_else(|| format!("{:?}", self.log.lines()))
        })
    }

    /// Kills the server, so that it can send nothing more.
    pub fn kill(&self) {
        self.process.take();
    }

    /// Asks the server to end by SIGTERM.
    pub fn terminate(&self, within: Duration) -> Result<ExitStatus> {
        let mut process = self.process.take().ok_or("the server does not run")?;
        process.terminate(within)
    }

    /// Starts the server again on the same port.
    pub fn restart(&self) -> Result<()> {
        let mut command = self.command()?;
        command.args(["--listen", &self.address().to_string(), "--assets"]);
        command.arg(paths::assets()?);
        for origin in &self.origins {
            command.args(["--allow-origin", origin]);
        }
        command.env("TABMUX_API_KEY", API_KEY);
        let names = ["TABMUX_IDENTITY_SECRET", "TABMUX_IDENTITY_SECRET_OLD"];
        command.envs(names.iter().zip(self.secrets.borrow().iter()));
        command.current_dir(paths::root());
        let takes_commands = matches!(self.program, Program::Figures);
        command.stdin(if takes_commands { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Group::spawn(&mut command)?;
        let child = process.leader();
        child.stdout.take().into_iter().for_each(|stream| self.log.follow(stream));
        child.stderr.take().into_iter().for_each(|stream| self.log.follow(stream));
        self.process.replace(Some(process));
        wait::until("the server to be healthy", Duration::from_secs(10), || {
            let answer = self.get("/healthz")?;
            wait::equal("status of /healthz", answer.status, 200)
        })
    }

    /// Starts the server again with these secrets of identity tags: the first makes tags, and those
    /// of the second count.
    pub fn restart_with_secrets(&self, secrets: &[&'static str]) -> Result<()> {
        self.kill();
        self.secrets.replace(secrets.to_vec());
        self.restart()
    }

    fn command(&self) -> Result<Command> {
        let mut command;
        match self.program {
            Program::Demo => {
                command = Command::new(paths::server_binary()?);
                command.args(["serve", "--demo"]);
            }
            Program::Version1 => {
                let binary = paths::version_1_binary().ok_or("TABMUX_VERSION_1_BIN is not set")?;
                command = Command::new(binary);
                command.args(["serve", "--demo"]);
            }
            Program::Users => {
                command = Command::new(paths::server_binary()?);
                command.args(["serve", "--demo", "--config", "e2e/users.toml"]);
            }
            Program::TwoTabs => {
                command = Command::new(paths::server_binary()?);
                command.args(["serve", "--demo", "--config", "e2e/two-tabs.toml"]);
            }
            Program::History => {
                command = Command::new(paths::server_binary()?);
                command.args(["serve", "--demo", "--config", "e2e/history.toml"]);
            }
            Program::Figures => command = Command::new(paths::figures_binary()?),
            Program::Judged => {
                command = Command::new(paths::numbers_binary()?);
                command.args(["--judge", "true"]);
            }
            Program::Guests => {
                command = Command::new(paths::numbers_binary()?);
                command.args(["--judge", "guests"]);
            }
            Program::Gateway { upstream, judges } => {
                command = Command::new(paths::numbers_binary()?);
                command.arg("--route").arg(format!("/whose=ws://127.0.0.1:{upstream}"));
                for parked in ["keep", "close", "500"] {
                    let route = format!("/parked/{parked}=ws://127.0.0.1:{upstream}");
                    command.arg("--route").arg(route);
                    if parked != "keep" {
                        command.args(["--parked", parked]);
                    }
                }
                if judges {
                    command.args(["--judge", "guests"]);
                }
            }
            Program::Numbers { topics, plain, upstream } => {
                command = Command::new(paths::numbers_binary()?);
                command.args(["--topics", &topics.to_string()]);
                if let Some(port) = upstream {
                    let address = format!("127.0.0.1:{port}");
                    command.args(["--upstream", &address]);
                    command.arg("--route").arg(format!("/stream=ws://{address}"));
                }
                if let Some(port) = plain {
                    command.args(["--plain", &format!("127.0.0.1:{port}")]);
                }
            }
        }
        Ok(command)
    }

    /// Returns the numbers of `/tabmux/stats`.
    pub fn stats(&self) -> Result<Value> {
        self.get("/tabmux/stats")?.json()
    }

    /// Returns one number of `/tabmux/stats`.
    pub fn stat(&self, name: &str) -> Result<u64> {
        let stats = self.stats()?;
        stats[name].as_u64().ok_or_else(|| format!("no number {name} in {stats}"))
    }

    /// Returns the lines of `/metrics` that contain this text and are not 0.
    pub fn metrics(&self, part: &str) -> Result<Vec<String>> {
        let answer = self.get("/metrics")?;
        let text = String::from_utf8_lossy(&answer.body);
        let lines = text
            .lines()
            .filter(|line| line.contains(part) && !line.starts_with('#') && !line.ends_with(" 0"));
        Ok(lines.map(String::from).collect())
    }

    /// Publishes a text to a topic, as a backend does.
    pub fn publish(&self, topic: &str, text: &str) -> Result<()> {
        let (path, body) = ("/tabmux/api/publish", json!({ "topic": topic, "text": text }));
        let timeout = Duration::from_secs(5);
        let answer = http::post_with_key(self.address(), path, API_KEY, &body, timeout)?;
        wait::equal("status of publish", answer.status, 200)
    }

    /// Returns where a topic is, as JSON that a page may go on from.
    pub fn position(&self, topic: &str) -> Result<Value> {
        let path = format!("/tabmux/api/position?topic={topic}");
        let answer = http::get_with_key(self.address(), &path, API_KEY, Duration::from_secs(5))?;
        wait::equal("status of position", answer.status, 200)?;
        answer.json()
    }

    /// Waits until the server counts `wanted` subscriptions.
    pub fn wait_for_subscriptions(&self, wanted: u64, within: Duration) -> Result<()> {
        wait::until(&format!("{wanted} subscriptions"), within, || {
            wait::equal("subscriptions", self.stat("subscriptions")?, wanted)
        })
    }

    /// Waits until the server counts `wanted` tabs; parked and awaited ones are counted apart.
    pub fn wait_for_tabs(&self, wanted: u64, within: Duration) -> Result<()> {
        wait::until(&format!("{wanted} tabs in the registry"), within, || {
            wait::equal("tabs", self.stat("tabs")?, wanted)
        })
    }

    /// Waits until there are `links` links and `tabs` tabs that are present.
    pub fn wait_for_rest(&self, links: u64, tabs: u64, within: Duration) -> Result<()> {
        wait::until(&format!("{links} links with {tabs} tabs in all"), within, || {
            let stats = self.stats()?;
            let number = |name: &str| stats[name].as_u64().unwrap_or_default();
            let (sessions, detached) = (number("sessions"), number("detached"));
            wait::equal("links", number("links"), links)?;
            wait::equal("sessions with a link", sessions - detached, links)?;
            wait::equal("tabs", number("tabs"), tabs)
        })
    }

    /// Returns how many connections the kernel counts on the port of links. Only links go there,
    /// and requests of the harness, which are over when they return.
    pub fn connections(&self) -> Result<usize> {
        sockets::established(self.port)
    }

    /// Waits until the kernel counts `wanted` connections.
    pub fn wait_for_connections(&self, wanted: usize, within: Duration) -> Result<()> {
        wait::until(&format!("{wanted} connections"), within, || {
            wait::equal("connections", self.connections()?, wanted)
        })
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn get(&self, path: &str) -> Result<http::Answer> {
        http::request(self.address(), "GET", path, None, Duration::from_secs(5))
    }
}

/// The lines a process has written so far.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Returns all lines so far.
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds the lines of `stream` in the background, until it ends.
    fn follow(&self, stream: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(std::result::Result::ok) {
                log.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
    }
}
