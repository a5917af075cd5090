//! The configuration, as a file may give it. Every key has a default.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};
use tabmux_core::session::{Pace, SessionConfig};

use crate::{Error, TopicRule, shard::MAX_SHARDS, topics::check_rules};

/// The configuration of a [`Server`](crate::Server) and of the binary. In TOML the keys are the
/// names of the fields; an unknown key is an error. [`Config::EXAMPLE`] has them all.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address that the binary listens on. 127.0.0.1:3000.
    #[serde(deserialize_with = "listen")]
    pub listen: SocketAddr,
    /// The folder with `client.js`, `tiers.js` and `worker.js`. `packages/tabmux/dist`.
    pub assets: PathBuf,
    /// Origins that may open a link besides the server's own, such as `https://example.org`.
    /// `*` allows every site on the web to use this server in its visitors' name.
    pub allow_origins: Vec<String>,
    /// How often a hub shows that it lives, in milliseconds; a link silent for two and a half
    /// intervals is closed. 25,000.
    pub heartbeat_ms: u64,
    /// How long a link may take to say HELLO, in milliseconds. 10,000.
    pub handshake_timeout_ms: u64,
    /// How long a link lives on when all its tabs are in the back/forward cache, in
    /// milliseconds. 10,000.
    pub suspend_timeout_ms: u64,
    /// How long a session outlives its link, in milliseconds. 60,000; 0: not at all.
    pub detached_ms: u64,
    /// How long a server that ends takes to send its links away, in milliseconds: a hundredth of
    /// them at a time, so that they do not come back all at once. 10,000; at most an hour.
    pub drain_ms: u64,
    /// How long an HTTP connection may take for the head of a request, wait for one, and take
    /// nothing of an answer, in milliseconds. 10,000.
    pub http_timeout_ms: u64,
    /// Proxies whose `X-Forwarded-For` names the client: addresses and networks such as
    /// `10.0.0.0/8`.
    pub trusted_proxies: Vec<String>,
    /// Whether `/metrics` is served. It should not be public. `true`.
    pub metrics: bool,
    /// An address of its own for `/metrics`, which is then served nowhere else.
    #[serde(deserialize_with = "maybe_listen")]
    pub metrics_listen: Option<SocketAddr>,
    /// Threads that serve links, at most 256; 0 for one a core. 0.
    pub shards: usize,
    /// What backends must show to use the HTTP API under `/tabmux/api/`; without it, nobody can.
    /// The binary also takes it from `TABMUX_API_KEY`.
    pub api_key: Option<ApiKey>,
    /// The request header that names the user, as a trusted proxy sets it, such as
    /// `X-Forwarded-User`; for `limits.links_per_user`, and so that no session goes on with a link
    /// of another user. A request through a trusted proxy that has it twice is refused. The pages
    /// need a `key` for each user all the same. None.
    pub user_header: Option<String>,
    /// What is special about topics, by the beginning of their names. None.
    pub topics: Vec<TopicRule>,
    /// Compression.
    pub deflate: Deflate,
    /// What a peer can reach.
    pub limits: Limits,
}

/// A secret that backends share with the server. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ApiKey(pub String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// Compression of messages on links whose browsers can do it: permessage-deflate, RFC 7692.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deflate {
    /// Whether it is offered. Off.
    pub enabled: bool,
    /// The shortest message that is compressed, in bytes. 1,024. What would not get shorter is
    /// sent as it is, unless this is 0.
    pub threshold_bytes: usize,
}

/// What a peer can reach.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Links. 65,536, or fewer if the system allows fewer open files.
    pub links: usize,
    /// Links of one client's address, of a /64 network with IPv6; 0 for no limit. Those that come
    /// from this machine are not counted. 1,024.
    pub links_per_ip: u32,
    /// Links of one user, whom `user_header` or [`Builder::user`](crate::Builder::user) names;
    /// 0 for no limit. 100.
    pub links_per_user: u32,
    /// Links that may open in a second, and at once after a quiet one; 0 for no limit. 5,000.
    pub handshakes_per_s: u32,
    /// Connections that have not yet said what they want; beyond it the oldest goes. 4,096.
    pub handshakes: usize,
    /// Connections for HTTP. 4,096.
    pub http_connections: usize,
    /// Tabs of one browser. 64.
    pub tabs: u32,
    /// Virtual sockets of one tab. 256.
    pub sockets: u32,
    /// Messages that are read of one link in a second; 0 for no limit. Who sends faster is read
    /// later. 10,000.
    pub messages_per_s: u32,
    /// Bytes that are read of one link in a second; 0 for no limit. 16 MiB.
    pub bytes_per_s: u32,
    /// Bytes of one message, either way. 1 MiB.
    pub message_bytes: usize,
    /// Bytes that may wait to be written to one link. 1 MiB.
    pub queue_bytes: usize,
    /// Bytes that one tab has not acknowledged, and publications that the whole browser has not.
    /// 256 KiB.
    pub lane_bytes: usize,
    /// Bytes that one browser has not acknowledged, those for absent tabs left out. 1 MiB.
    pub session_bytes: usize,
    /// Bytes kept for the tabs of one browser that are in the back/forward cache, or that have not
    /// been there since its link broke. 1 MiB.
    pub absent_bytes: usize,
    /// What a tab may send on a virtual socket before its handler has dealt with some of it: bytes
    /// of payload, and 64 for each message. 256 KiB.
    pub credit_bytes: u32,
    /// Sessions without a link. 65,536.
    pub detached: usize,
    /// Topics that one browser may be subscribed to. 1,024.
    pub subscriptions: u32,
    /// Topics of the server that are subscribed to. 250,000.
    pub topics: usize,
    /// Bytes of publications that may wait for one hub to read; then the topic's rule acts.
    /// 256 KiB.
    pub backlog_bytes: usize,
    /// Bytes that may wait for all hubs, or be kept until they acknowledge them. At this limit
    /// sessions without a link end, then messages wait with the handlers and the rules of topics
    /// act, for hubs that have not read everything. 512 MiB.
    pub total_queue_bytes: usize,
    /// Bytes of messages that tasks have sent or published and a shard has not yet taken.
    /// 16 MiB.
    pub inbox_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        let session = SessionConfig::default();
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 3000)),
            assets: PathBuf::from("packages/tabmux/dist"),
            allow_origins: Vec::new(),
            heartbeat_ms: millis(session.heartbeat),
            handshake_timeout_ms: millis(session.handshake_timeout),
            suspend_timeout_ms: millis(session.suspend_timeout),
            detached_ms: millis(session.detached),
            drain_ms: 10_000,
            http_timeout_ms: 10_000,
            trusted_proxies: Vec::new(),
            metrics: true,
            metrics_listen: None,
            shards: 0,
            api_key: None,
            user_header: None,
            topics: Vec::new(),
            deflate: Deflate::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Deflate {
    fn default() -> Self {
        Self { enabled: false, threshold_bytes: 1_024 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let session = SessionConfig::default();
        Self {
            links: session.links,
            links_per_ip: 1_024,
            links_per_user: 100,
            handshakes_per_s: 5_000,
            handshakes: 4_096,
            http_connections: 4_096,
            tabs: session.tabs,
            sockets: session.sockets,
            messages_per_s: session.pace.messages_per_s,
            bytes_per_s: session.pace.bytes_per_s,
            message_bytes: session.message_bytes,
            queue_bytes: session.queue_bytes,
            lane_bytes: session.lane_bytes,
            session_bytes: session.session_bytes,
            absent_bytes: session.absent_bytes,
            credit_bytes: session.credit_bytes,
            detached: session.detached_sessions,
            subscriptions: session.subscriptions,
            topics: 250_000,
            backlog_bytes: session.backlog_bytes,
            total_queue_bytes: 512 << 20,
            inbox_bytes: 16 << 20,
        }
    }
}

impl Config {
    /// A file with every key and its default.
    pub const EXAMPLE: &str = include_str!("../tabmux.toml");

    /// Reads a TOML file.
    ///
    /// # Errors
    /// When the file cannot be read, is no TOML, or has a key that is unknown or of another type.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let at = |message: String| Error::ConfigFile { path: path.to_owned(), message };
        let text = std::fs::read_to_string(path).map_err(|error| at(error.to_string()))?;
        toml::from_str(&text).map_err(|error| at(error.to_string()))
    }

    /// Checks what the types do not say.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let limits = &self.limits;
        let faults = [
            (self.heartbeat_ms == 0, "heartbeat_ms must be at least 1"),
            (self.handshake_timeout_ms == 0, "handshake_timeout_ms must be at least 1"),
            (self.suspend_timeout_ms == 0, "suspend_timeout_ms must be at least 1"),
            (self.http_timeout_ms == 0, "http_timeout_ms must be at least 1"),
            (self.detached_ms > 86_400_000, "detached_ms must be at most 86400000, a day"),
            (limits.lane_bytes == 0, "limits.lane_bytes must be at least 1"),
            (limits.session_bytes < limits.lane_bytes, SMALL_SESSION),
            (limits.absent_bytes < limits.lane_bytes, SMALL_ABSENT),
            (limits.credit_bytes == 0, "limits.credit_bytes must be at least 1"),
            (self.drain_ms > 3_600_000, "drain_ms must be at most 3600000, an hour"),
            (limits.handshakes == 0, "limits.handshakes must be at least 1"),
            (limits.http_connections == 0, "limits.http_connections must be at least 1"),
            (limits.links == 0, "limits.links must be at least 1"),
            (limits.tabs == 0, "limits.tabs must be at least 1"),
            (limits.tabs > 1_024, "limits.tabs must be at most 1024, of which a hub can be told"),
            (limits.sockets == 0, "limits.sockets must be at least 1"),
            (limits.subscriptions == 0, "limits.subscriptions must be at least 1"),
            (limits.topics == 0, "limits.topics must be at least 1"),
            (self.api_key.as_ref().is_some_and(|key| key.0.len() < 16), SHORT_KEY),
            (limits.inbox_bytes == 0, "limits.inbox_bytes must be at least 1"),
            (self.shards > MAX_SHARDS, "shards must be at most 256"),
            (limits.message_bytes < 1_024, "limits.message_bytes must be at least 1024"),
            (
                limits.queue_bytes < limits.message_bytes,
                "limits.queue_bytes must be at least limits.message_bytes",
            ),
        ];
        if self.user_header.is_some() && self.trusted_proxies.is_empty() {
            let message = "user_header needs trusted_proxies: else every client could name a user";
            return Err(Error::Config(message.to_owned()));
        }
        check_rules(&self.topics)?;
        match faults.into_iter().find(|(fault, _)| *fault) {
            Some((_, message)) => Err(Error::Config(message.to_owned())),
            None => Ok(()),
        }
    }

    /// What each of `shards` registries gets.
    pub(crate) fn session(&self, shards: usize) -> SessionConfig {
        SessionConfig {
            links: self.limits.links,
            tabs: self.limits.tabs,
            sockets: self.limits.sockets,
            message_bytes: self.limits.message_bytes,
            pace: Pace {
                messages_per_s: self.limits.messages_per_s,
                bytes_per_s: self.limits.bytes_per_s,
            },
            queue_bytes: self.limits.queue_bytes,
            lane_bytes: self.limits.lane_bytes,
            session_bytes: self.limits.session_bytes,
            absent_bytes: self.limits.absent_bytes,
            credit_bytes: self.limits.credit_bytes,
            detached_sessions: self.limits.detached.div_ceil(shards.max(1)),
            subscriptions: self.limits.subscriptions,
            backlog_bytes: self.limits.backlog_bytes,
            total_queue_bytes: self.limits.total_queue_bytes / shards.max(1),
            heartbeat: Duration::from_millis(self.heartbeat_ms),
            handshake_timeout: Duration::from_millis(self.handshake_timeout_ms),
            suspend_timeout: Duration::from_millis(self.suspend_timeout_ms),
            detached: Duration::from_millis(self.detached_ms),
            ..SessionConfig::default()
        }
    }
}

const SMALL_SESSION: &str = "limits.session_bytes must be at least limits.lane_bytes";

const SMALL_ABSENT: &str = "limits.absent_bytes must be at least limits.lane_bytes";

const SHORT_KEY: &str = "api_key must have at least 16 characters: who knows it can publish";

/// Reads an address to listen on: `127.0.0.1:3000`, or `localhost:3000`, which is the same.
///
/// # Errors
/// For all else, with the right form in the text.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.replacen("localhost:", "127.0.0.1:", 1);
    numeric.parse().map_err(|_| "write it as 127.0.0.1:3000, or 0.0.0.0:3000 for all".to_owned())
}

fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    listen_address(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn maybe_listen<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    listen(deserializer).map(Some)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_default() {
        assert_eq!(toml::from_str::<Config>(Config::EXAMPLE).unwrap(), Config::default());
    }

    #[test]
    fn the_default_has_no_fault() {
        assert!(Config::default().check().is_ok());
    }

    #[test]
    fn a_limit_of_zero_is_refused_by_its_name() {
        let doors = ["links", "handshakes", "http_connections"];
        let rest = ["tabs", "sockets", "subscriptions", "topics"];
        let bytes = ["message_bytes", "queue_bytes", "inbox_bytes", "credit_bytes"];
        for key in doors.into_iter().chain(rest).chain(bytes) {
            let config = toml::from_str::<Config>(&format!("[limits]\n{key} = 0")).unwrap();
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(&format!("limits.{key}")), "{error}");
        }
    }

    #[test]
    fn the_address_of_the_metrics_is_read() {
        let config = toml::from_str::<Config>("metrics_listen = \"localhost:9000\"").unwrap();
        assert_eq!(config.metrics_listen, Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9000))));
        assert!(toml::from_str::<Config>("metrics_listen = \"9000\"").is_err());
    }

    #[test]
    fn the_session_gets_what_the_file_says() {
        let text = "heartbeat_ms = 7\n[limits]\ntabs = 3\nlinks = 5";
        let session = toml::from_str::<Config>(text).unwrap().session(1);
        assert_eq!(session.heartbeat, Duration::from_millis(7));
        assert_eq!((session.tabs, session.links), (3, 5));
    }
}
