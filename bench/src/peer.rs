//! The servers: each a process that ends with its owner.

use std::{
    fmt,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tabmux_cli::bench::{Form, Plan, Process, Publisher, Retry, Speech, Topics};

const KEY: &str = "a key for one run on the loopback";
/// What is measured is how fast the server can be, not how fast it lets in.
const UNLIMITED: &str = "[limits]\nhandshakes_per_s = 0\n";
/// Links that are opening at once: below the queue of connections that every peer has.
const IN_FLIGHT: usize = 100;

/// The server that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A shard for each core, and no limit of links a second.
    Tabmux,
    /// A tabmux server with one shard.
    OneShard,
    /// As it comes, its limit of links a second included.
    Guarded,
    Floor,
    Ws,
    Axum,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tabmux => "tabmux",
            Self::OneShard => "tabmux, one shard",
            Self::Guarded => "tabmux, as it comes",
            Self::Floor => "floor",
            Self::Ws => "ws",
            Self::Axum => "axum",
        })
    }
}

/// Where the servers are.
pub(crate) struct Peers {
    pub(crate) tabmux: PathBuf,
    pub(crate) ws: Option<PathBuf>,
    /// Where this program's own peers are.
    folder: PathBuf,
    configs: [PathBuf; 2],
}

impl Peers {
    pub(crate) fn new(tabmux: PathBuf, ws: Option<PathBuf>) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let folder = own.parent().context("this program is in no folder")?.to_owned();
        let configs = ["bench.toml", "bench-one-shard.toml"].map(|name| folder.join(name));
        std::fs::write(&configs[0], UNLIMITED)?;
        std::fs::write(&configs[1], format!("shards = 1\n{UNLIMITED}"))?;
        Ok(Self { tabmux, ws, folder, configs })
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        kind != Kind::Ws || self.ws.is_some()
    }

    pub(crate) fn start(&self, kind: Kind) -> anyhow::Result<Server> {
        self.start_on(kind, 0)
    }

    /// Starts a server on a port; 0 for any.
    pub(crate) fn start_on(&self, kind: Kind, port: u16) -> anyhow::Result<Server> {
        let mut command = match kind {
            Kind::Tabmux | Kind::OneShard | Kind::Guarded => {
                let mut command = Command::new(&self.tabmux);
                command.args(["serve", "--log", "error", "--listen"]);
                command.arg(format!("127.0.0.1:{port}")).env("TABMUX_API_KEY", KEY);
                if kind != Kind::Guarded {
                    let config = &self.configs[usize::from(kind == Kind::OneShard)];
                    command.arg("--config").arg(config);
                }
                command
            }
            Kind::Ws => {
                let mut command = Command::new("node");
                command.arg(self.ws.as_ref().context("without --ws")?).arg(port.to_string());
                command
            }
            Kind::Floor | Kind::Axum => {
                let name = if kind == Kind::Floor { "floor" } else { "axum-peer" };
                let mut command = Command::new(self.folder.join(name));
                command.arg(port.to_string());
                command
            }
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("cannot start {kind}"))?;
        let stdout = child.stdout.take();
        // From here on it ends with the server that is returned, or not.
        let mut server = Server { kind, child, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        let mut line = String::new();
        BufReader::new(stdout.context("no stdout")?).read_line(&mut line)?;
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        match address.and_then(|address| address.parse().ok()) {
            Some(address) => server.address = address,
            None => bail!("{kind} did not say where it listens, but {line:?}"),
        }
        Ok(server)
    }
}

/// A server that runs; it is killed when this is dropped.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    pub(crate) const fn is_tabmux(&self) -> bool {
        matches!(self.kind, Kind::Tabmux | Kind::OneShard | Kind::Guarded)
    }

    /// Links with tabs and topics, if it knows such things.
    pub(crate) fn plan(&self, tabs: u32, topics: Topics) -> Plan {
        let (path, speech) = if self.is_tabmux() {
            ("/tabmux/ws", Speech::Tabmux { tabs, topics })
        } else {
            ("/ws", Speech::Plain)
        };
        Plan {
            address: self.address,
            path: path.to_owned(),
            speech,
            in_flight: IN_FLIGHT,
            ramp: None,
            retry: Retry::Never,
            patience: Duration::from_secs(30),
        }
    }

    pub(crate) fn publisher(&self, topics: &Topics) -> Publisher {
        let form = if self.is_tabmux() {
            let topics = (0..topics.len()).map(|place| topics.name(place).to_owned()).collect();
            Form::Tabmux { key: Some(KEY.to_owned()), topics }
        } else {
            Form::Plain
        };
        Publisher::new(self.address, form)
    }

    /// Ends it; the time until it has.
    pub(crate) fn kill(mut self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        self.child.kill()?;
        self.child.wait()?;
        Ok(start.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
