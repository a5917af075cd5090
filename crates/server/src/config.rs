//! The configuration, as a file may give it. Every key has a default.

mod jwt;
mod keys;
pub(crate) mod listen;
mod route;
#[cfg(test)]
mod tests;
mod tls;
mod topics;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::http::HeaderName;
use serde::Deserialize;
use tabmux_core::session::{MAX_SHARDS, SessionConfig};

use self::keys::keys;
pub(crate) use self::topics::check_rules;
pub use self::{
    jwt::JwtConfig,
    listen::{Listen, ListenAddress, listen_address},
    route::{Cookies, Parked, Route},
    tls::TlsConfig,
    topics::{Access, Slow, TopicHistory, TopicRule, UnknownTopics},
};
use crate::Error;

keys! {
    /// The configuration of a [`Server`](crate::Server) and of the binary. In TOML the keys are the
    /// names of the fields; an unknown key is an error. [`Config::EXAMPLE`] has them all. In Rust
    /// a configuration begins with the defaults:
    ///
    /// ```
    /// use tabmux_server::{Config, Limits, TopicRule};
    ///
    /// let config = Config::default()
    ///     .shards(2)
    ///     .limits(Limits::default().links_per_user(20))
    ///     .topics(vec![TopicRule::new("inbox/{user}")]);
    /// assert_eq!(config.limits.links_per_user, 20);
    /// ```
    Config {
        /// Where the binary listens: one address, or a list of them, each as a text such as
        /// `127.0.0.1:3000`, `[::]:3000` or `unix:/run/tabmux.sock`, or as a table with `address`,
        /// `proxy_protocol` and `mode`. Default: 127.0.0.1:3000.
        #[serde(deserialize_with = "listen::list")]
        listen: Vec<Listen> = own(vec![Listen::default()]);
        /// The folder with the scripts and modules of the npm package, its `dist`. Default: none;
        /// the binary `tabmux` then serves those that it was built with.
        assets: Option<PathBuf> = own(None);
        /// Origins that may open a link besides the server's own, such as `https://example.org`, or
        /// `https://*.example.org` for all names below one.
        /// `*` allows every site on the web to use this server in its visitors' name.
        allow_origins: Vec<String> = own(Vec::new()), "tabmux_refused_total{reason=\"origin\"}";
        /// Names that the server answers to, such as `example.org`, `example.org:8080`,
        /// `*.example.org` or `[::1]`, or `*` for all. Requests that call it by another name are
        /// refused with 421: a page of another site may have sent them by a name of its own. Empty:
        /// a listener of this machine alone has the names of this machine, and any other has all.
        hosts: Vec<String> = own(Vec::new()), "tabmux_refused_total{reason=\"host\"}";
        /// How often a hub shows that it lives, in milliseconds; a link of which no byte
        /// comes for 10 s longer is closed. Default: 25,000.
        heartbeat_ms: u64 = millis(heartbeat),
            "tabmux_links_closed_total{reason=\"heartbeat_timeout\"}";
        /// How long a link may take to say HELLO, in milliseconds. Default: 10,000.
        handshake_timeout_ms: u64 = millis(handshake_timeout),
            "tabmux_refused_total{reason=\"handshake_timeout\"}",
            "tabmux_links_closed_total{reason=\"handshake_timeout\"}";
        /// How long a link lives on when all its tabs are in the back/forward cache, in
        /// milliseconds. Default: 10,000.
        suspend_timeout_ms: u64 = millis(suspend_timeout);
        /// How long a session outlives its link, in milliseconds; 0: not at all. Default: 210,000.
        detached_ms: u64 = millis(detached), "tabmux_sessions_ended_total{reason=\"expired\"}";
        /// How long a server that ends takes to send its links away, in milliseconds: a hundredth
        /// of them at a time, so that they do not come back all at once. At most an hour.
        /// Default: 10,000.
        drain_ms: u64 = own(10_000);
        /// How long a server that ends says so at `/healthz` before it sends links away or refuses
        /// any, in milliseconds: time for a load balancer to see it. At most an hour. Default: 0.
        drain_min_ms: u64 = own(0);
        /// How long an HTTP connection may take for the head of a request, wait for one, and take
        /// nothing of an answer, in milliseconds. Default: 10,000.
        http_timeout_ms: u64 = own(10_000);
        /// How long a peer may not acknowledge what was sent to it before its connection ends, in
        /// milliseconds: one that vanished behind a NAT does not answer. 0 leaves that to the
        /// system, which waits a quarter of an hour. Linux only. Default: 30,000.
        peer_timeout_ms: u64 = own(30_000);
        /// Proxies whose `X-Forwarded-For`, or header of the PROXY protocol, names the client:
        /// addresses, networks such as `10.0.0.0/8`, and `unix` for who comes over a Unix socket.
        trusted_proxies: Vec<String> = own(Vec::new());
        /// Whether `/metrics` is served. It should not be public. Default: `true`.
        metrics: bool = own(true);
        /// An address of its own for `/metrics`, which is then served nowhere else.
        #[serde(deserialize_with = "listen::maybe_address")]
        metrics_listen: Option<SocketAddr> = own(None);
        /// Whether `/tabmux/stats` is served. It is where `/metrics` is if that has an address of
        /// its own. Default: `true`.
        stats: bool = own(true);
        /// The least level that the binary logs; `--log` comes before it. Default: `info`.
        log: LogLevel = own(LogLevel::Info);
        /// Threads that serve links, at most 256; 0 for one a core. Default: 0.
        shards: usize = own(0);
        /// The number of this server among those behind one address, at most 65,535. Each session's
        /// id names it, so that no server takes another's session for its own. Default: 0.
        node: u16 = own(0);
        /// What backends must show to use the HTTP API under `/tabmux/api/`; without it and
        /// `api_keys`, nobody can. The binary also takes it from `TABMUX_API_KEY`.
        api_key: Option<ApiKey> = own(None);
        /// More keys of the HTTP API, each in a file of its own and with a name for the log. A
        /// reload reads the files again. Default: none.
        api_keys: Vec<ApiKeyFile> = own(Vec::new());
        /// The request header that names the user, as a trusted proxy sets it, such as
        /// `X-Forwarded-User`; for `limits.links_per_user`, and so that no session goes on with a
        /// link of another user. A request through a trusted proxy that has it twice is refused.
        /// Default: none.
        user_header: Option<String> = own(None), "tabmux_refused_total{reason=\"user_header\"}";
        /// One file with a secret of at least 16 bytes, or two. The first secret makes the identity
        /// tags by which hubs tell users apart; tags that the second made still count. All nodes
        /// have the same. Without one, the server draws a secret that lasts until the process
        /// ends: then every restart counts as a change of user. The binary also takes them from
        /// `TABMUX_IDENTITY_SECRET` and `TABMUX_IDENTITY_SECRET_OLD`. Default: none.
        identity_secret_files: Vec<PathBuf> = own(Vec::new());
        /// How long a judge ([`Builder::judge`](crate::Builder::judge)) may take to answer, and how
        /// long a client waits for its turn, in milliseconds. Default: 5,000.
        judge_timeout_ms: u64 = own(5_000), "tabmux_refused_total{reason=\"judge_timeout\"}";
        /// How long a broker ([`Builder::broker`](crate::Builder::broker)) may take to join a
        /// topic, or to take a publication, in milliseconds, at most 30,000. Default: 10,000.
        broker_timeout_ms: u64 = own(10_000), "tabmux_broker_failures_total{reason=\"timeout\"}";
        /// What is special about topics, by patterns of their names, and who may subscribe to them.
        /// The first rule that fits counts. Default: nothing.
        topics: Vec<TopicRule> = own(Vec::new());
        /// Whether browsers may subscribe to topics that no rule fits: `allow` or `refuse`.
        /// Default: `allow`.
        unknown_topics: UnknownTopics = own(UnknownTopics::Allow);
        /// Paths whose sockets go on to servers of yours. Default: none.
        route: Vec<Route> = own(Vec::new());
        /// How tokens (JWT) name users. Default: not at all. A program needs the feature `jwt`.
        jwt: Option<JwtConfig> = own(None);
        /// Certificates with their keys. With one, all listeners of links but Unix sockets, and
        /// those with `tls = false`, speak TLS and nothing else. A client gets the certificate of
        /// the name that it asks for, else the first. A program needs the feature `tls`. Default:
        /// none.
        #[serde(deserialize_with = "tls::list")]
        tls: Vec<TlsConfig> = own(Vec::new());
        /// Compression.
        deflate: Deflate = own(Deflate::default());
        /// What a peer can reach.
        limits: Limits = own(Limits::default());
    }
}

keys! {
    /// What a peer can reach.
    Limits {
        /// Links, or fewer if the system allows fewer open files. Default: 65,536.
        links: usize = own(65_536),
            "tabmux_refused_total{reason=\"links\"}", "tabmux_links", "tabmux_links_limit";
        /// Links of one client's address, of a /64 network with IPv6; 0 for no limit. Links that
        /// come from this machine are not counted. Default: 1,024.
        links_per_ip: u32 = own(1_024), "tabmux_refused_total{reason=\"links_per_ip\"}";
        /// Links of one user, whom `user_header`, a token, [`Builder::user`](crate::Builder::user)
        /// or [`Builder::judge`](crate::Builder::judge) names; 0 for no limit. Default: 100.
        links_per_user: u32 = own(100), "tabmux_refused_total{reason=\"links_per_user\"}";
        /// Links that may open in a second, and at once after a quiet one; 0 for no limit.
        /// Default: 5,000.
        handshakes_per_s: u32 = own(5_000), "tabmux_refused_total{reason=\"handshakes_per_s\"}";
        /// The same of one client's address, of a /64 network with IPv6; 0 for no limit. Links that
        /// come from this machine are not counted. Default: 500.
        handshakes_per_s_per_ip: u32 = own(500),
            "tabmux_refused_total{reason=\"handshakes_per_s_per_ip\"}";
        /// Connections that have not yet said what they want; beyond it the oldest goes.
        /// Default: 4,096.
        handshakes: usize = own(4_096),
            "tabmux_refused_total{reason=\"handshakes\"}", "tabmux_handshakes";
        /// Calls of a judge that run at a time. Default: 64.
        judging: usize = own(64), "tabmux_judging";
        /// Clients that wait for a judge besides. Default: 4,096.
        judging_queue: usize = own(4_096), "tabmux_refused_total{reason=\"judging_queue\"}",
            "tabmux_judging";
        /// Answers of a judge that are remembered for others with the same key. Default: 10,000.
        judge_answers: usize = own(10_000), "tabmux_judge_answers_total{from=\"memory\"}";
        /// Connections for HTTP. Default: 4,096.
        http_connections: usize = own(4_096),
            "tabmux_refused_total{reason=\"http_connections\"}", "tabmux_http_connections";
        /// Connections for HTTP of one client's address, of a /64 network with IPv6; 0 for no
        /// limit. Those of this machine and of trusted proxies are not counted. Default: 256.
        http_per_ip: u32 = own(256), "tabmux_refused_total{reason=\"http_per_ip\"}";
        /// Tabs of one browser. Default: 64.
        tabs: u32 = core(tabs), "tabmux_tabs_refused_total";
        /// Virtual sockets of one tab. Default: 256.
        sockets: u32 = core(sockets), "tabmux_sockets_refused_total";
        /// Messages that are read of one link in a second; 0 for no limit. A link that sends faster
        /// is read later. Default: 10,000.
        messages_per_s: u32 = core(pace.messages_per_s), "tabmux_link_pauses_total";
        /// Bytes that are read of one link in a second; 0 for no limit. Default: 16 MiB.
        bytes_per_s: u32 = core(pace.bytes_per_s), "tabmux_link_pauses_total";
        /// Bytes of one message, either way. Default: 1 MiB.
        message_bytes: usize = core(message_bytes),
            "tabmux_messages_refused_total{reason=\"too_large\"}";
        /// Bytes that may wait to be written to one link. Default: 1 MiB.
        queue_bytes: usize = core(queue_bytes),
            "tabmux_messages_refused_total{reason=\"queue_full\"}",
            "tabmux_links_closed_total{reason=\"not_reading\"}";
        /// Bytes that one tab has not acknowledged, and publications that the whole browser has
        /// not. Default: 256 KiB.
        lane_bytes: usize = core(lane_bytes),
            "tabmux_messages_refused_total{reason=\"queue_full\"}",
            "tabmux_tabs_stalled_total", "tabmux_kept_bytes";
        /// Bytes that one browser has not acknowledged, those for absent tabs left out.
        /// Default: 1 MiB.
        session_bytes: usize = core(session_bytes),
            "tabmux_messages_refused_total{reason=\"queue_full\"}", "tabmux_kept_bytes";
        /// Bytes kept for the tabs of one browser that are in the back/forward cache, or that have
        /// not been there since its link broke. Default: 1 MiB.
        absent_bytes: usize = core(absent_bytes),
            "tabmux_messages_refused_total{reason=\"absent_full\"}", "tabmux_kept_bytes";
        /// What a tab may send on a virtual socket before its handler has dealt with some of it:
        /// bytes of payload, and 64 for each message. Default: 256 KiB.
        credit_bytes: u32 = core(credit_bytes), "tabmux_sockets_over_credit_total";
        /// Sockets that one browser may have at servers behind routes; 0 for no limit. Default: 64.
        upstream_per_browser: u32 = own(64),
            "tabmux_gateway_refused_total{reason=\"upstream_per_browser\"}";
        /// Sockets that one user may have there; 0 for no limit. Default: 1,024.
        upstream_per_user: u32 = own(1_024),
            "tabmux_gateway_refused_total{reason=\"upstream_per_user\"}";
        /// Sessions without a link. Default: 65,536.
        detached: usize = core(detached_sessions),
            "tabmux_sessions_ended_total{reason=\"evicted\"}", "tabmux_sessions_detached";
        /// Sessions without a link of one user; 0 for no limit. Default: 400.
        detached_per_user: usize = core(per_user.detached),
            "tabmux_sessions_ended_total{reason=\"evicted\"}";
        /// Sessions without a link of nobody that came from one address, of a /64 network with
        /// IPv6; 0 for no limit. Default: 4,096.
        detached_per_ip: usize = core(per_address.detached),
            "tabmux_sessions_ended_total{reason=\"evicted\"}";
        /// Topics that one browser may be subscribed to. Default: 1,024.
        subscriptions: u32 = core(subscriptions), "tabmux_subscriptions_refused_total";
        /// Subscriptions of the sessions of one user; 0 for no limit. Default: 16,384.
        subscriptions_per_user: usize = core(per_user.subscriptions),
            "tabmux_account_subscriptions_refused_total";
        /// Subscriptions of the sessions of nobody from one address, of a /64 network with IPv6;
        /// 0 for no limit. Default: 65,536.
        subscriptions_per_ip: usize = core(per_address.subscriptions),
            "tabmux_account_subscriptions_refused_total";
        /// Topics that sessions of one user were the first to subscribe to; 0 for no limit.
        /// Default: 4,096.
        topics_per_user: usize = core(per_user.topics),
            "tabmux_account_subscriptions_refused_total";
        /// Topics that sessions of nobody from one address, of a /64 network with IPv6, were the
        /// first to subscribe to; 0 for no limit. Default: 16,384.
        topics_per_ip: usize = core(per_address.topics),
            "tabmux_account_subscriptions_refused_total";
        /// Topics of the server that are subscribed to. Default: 250,000.
        topics: usize = own(250_000), "tabmux_subscriptions_refused_total", "tabmux_topics";
        /// Bytes of memory that the history of all topics takes, of those whose rule has `history`.
        /// Beyond it the topic of which the most is kept loses its oldest publications.
        /// Default: 64 MiB.
        history_bytes: usize = own(64 << 20),
            "tabmux_history_bytes", "tabmux_history_evicted_total";
        /// Bytes of publications that may wait for one hub to read; then the topic's rule acts.
        /// Default: 1 MiB.
        backlog_bytes: usize = core(backlog_bytes),
            "tabmux_slow_subscriptions_total", "tabmux_publications_dropped_total";
        /// Bytes of memory that browsers may make the server keep. The user or the address that
        /// holds the most pays: from six eighths of the limit on the rules of topics act, from
        /// seven on messages wait with the handlers, and at the limit its largest sessions end.
        /// Default: 512 MiB.
        memory_bytes: usize = core(memory_bytes),
            "tabmux_charged_bytes", "tabmux_shared_bytes",
            "tabmux_messages_refused_total{reason=\"memory\"}",
            "tabmux_sessions_ended_total{reason=\"evicted\"}";
        /// The same for the sessions of one user; 0 for no limit. Default: 64 MiB.
        memory_bytes_per_user: usize = core(per_user.bytes),
            "tabmux_messages_refused_total{reason=\"memory\"}",
            "tabmux_sessions_ended_total{reason=\"evicted\"}";
        /// The same for the sessions of nobody from one address, of a /64 network with IPv6; 0 for
        /// no limit. Default: 128 MiB.
        memory_bytes_per_ip: usize = core(per_address.bytes),
            "tabmux_messages_refused_total{reason=\"memory\"}",
            "tabmux_sessions_ended_total{reason=\"evicted\"}";
        /// Bytes of memory that each session may have, whatever others hold. All `links` and all
        /// `detached` sessions must have room for them in `memory_bytes`. Default: 1 KiB.
        minimum_bytes: usize = core(minimum_bytes);
        /// Bytes of messages that tasks have sent or published and a shard has not yet taken.
        /// Default: 16 MiB.
        inbox_bytes: usize = own(16 << 20);
    }
}

/// What a line of the log must at least mean to be written. The levels mean what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Act now.
    Error,
    /// Look.
    Warn,
    /// A state changed.
    Info,
    /// About one link.
    Debug,
    /// Everything.
    Trace,
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

/// One of several keys of the HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ApiKeyFile {
    /// What the log calls it.
    pub name: String,
    /// The file that has the key. White space at its end is not part of it.
    pub file: PathBuf,
}

impl ApiKeyFile {
    /// Returns a key that is in a file.
    pub fn new(name: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), file: file.into() }
    }
}

/// Compression of messages on links whose browsers can do it: permessage-deflate, RFC 7692.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Deflate {
    /// Whether it is offered. Off.
    pub enabled: bool,
    /// The shortest message that is compressed, in bytes. 1,024. What would not get shorter is
    /// sent as it is, unless this is 0.
    pub threshold_bytes: usize,
}

impl Default for Deflate {
    fn default() -> Self {
        Self { enabled: false, threshold_bytes: 1_024 }
    }
}

impl Deflate {
    /// Sets whether it is offered.
    #[must_use]
    pub const fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Sets the shortest message that is compressed, in bytes.
    #[must_use]
    pub const fn threshold_bytes(mut self, threshold_bytes: usize) -> Self {
        self.threshold_bytes = threshold_bytes;
        self
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
            (self.peer_timeout_ms > 3_600_000, "peer_timeout_ms must be at most 3600000, an hour"),
            (self.detached_ms > 86_400_000, "detached_ms must be at most 86400000, a day"),
            (limits.lane_bytes == 0, "limits.lane_bytes must be at least 1"),
            (limits.session_bytes < limits.lane_bytes, SMALL_SESSION),
            (limits.absent_bytes < limits.lane_bytes, SMALL_ABSENT),
            (limits.credit_bytes == 0, "limits.credit_bytes must be at least 1"),
            (self.drain_ms > 3_600_000, "drain_ms must be at most 3600000, an hour"),
            (self.drain_min_ms > 3_600_000, "drain_min_ms must be at most 3600000, an hour"),
            (!self.metrics && self.metrics_listen.is_some(), UNUSED_LISTENER),
            (limits.inbox_bytes < limits.message_bytes, SMALL_INBOX),
            (limits.handshakes == 0, "limits.handshakes must be at least 1"),
            (self.judge_timeout_ms == 0, "judge_timeout_ms must be at least 1"),
            (self.broker_timeout_ms == 0, "broker_timeout_ms must be at least 1"),
            (self.broker_timeout_ms > 30_000, LONG_BROKER),
            (limits.judging == 0, "limits.judging must be at least 1"),
            (limits.http_connections == 0, "limits.http_connections must be at least 1"),
            (limits.links == 0, "limits.links must be at least 1"),
            (limits.tabs == 0, "limits.tabs must be at least 1"),
            (limits.tabs > 1_024, "limits.tabs must be at most 1024, of which a hub can be told"),
            (limits.sockets == 0, "limits.sockets must be at least 1"),
            (limits.subscriptions == 0, "limits.subscriptions must be at least 1"),
            (limits.topics == 0, "limits.topics must be at least 1"),
            (self.shards > MAX_SHARDS, "shards must be at most 256"),
            (limits.message_bytes < 1_024, "limits.message_bytes must be at least 1024"),
            (
                limits.queue_bytes < limits.message_bytes,
                "limits.queue_bytes must be at least limits.message_bytes",
            ),
        ];
        if let Some(name) = &self.user_header
            && HeaderName::from_bytes(name.as_bytes()).is_err()
        {
            let text = format!(
                "user_header: {name:?} is no name of a header; write it as X-Forwarded-User"
            );
            return Err(Error::Config(text));
        }
        if self.user_header.is_some() && self.trusted_proxies.is_empty() {
            let message = "user_header needs trusted_proxies: else every client could name a user";
            return Err(Error::Config(message.to_owned()));
        }
        if self.identity_secret_files.len() > 2 {
            let message = "identity_secret_files names more than two files";
            return Err(Error::Config(message.to_owned()));
        }
        listen::check(&self.listen, !self.trusted_proxies.is_empty())?;
        check_rules(&self.topics)?;
        let sessions = limits.links.saturating_add(limits.detached);
        if sessions.saturating_mul(limits.minimum_bytes) > limits.memory_bytes {
            let message = "limits.memory_bytes must be at least limits.minimum_bytes times the sum \
                           of limits.links and limits.detached: each session has its minimum";
            return Err(Error::Config(message.to_owned()));
        }
        match faults.into_iter().find(|(fault, _)| *fault) {
            Some((_, message)) => Err(Error::Config(message.to_owned())),
            None => Ok(()),
        }
    }

    /// Returns what each of `shards` registries gets. They share what is for all links.
    pub(crate) fn session(&self, shards: usize) -> SessionConfig {
        let mut session = SessionConfig::default();
        self.apply(&mut session);
        self.limits.apply(&mut session);
        session.detached_sessions = session.detached_sessions.div_ceil(shards.max(1));
        // The listener counts the links of all shards, by a limit that a reload may change.
        session.links = usize::MAX;
        // The gateway's own deadline comes first, and says more.
        let patience = self.route.iter().map(|route| route.open_timeout_ms).max();
        let patience = Duration::from_millis(patience.unwrap_or(0)) + Duration::from_secs(1);
        session.ask_timeout = session.ask_timeout.max(patience);
        session
    }
}

const LONG_BROKER: &str =
    "broker_timeout_ms must be at most 30000: nobody waits longer for a topic";
const SMALL_SESSION: &str = "limits.session_bytes must be at least limits.lane_bytes";

const UNUSED_LISTENER: &str =
    "metrics_listen has no effect with metrics = false; leave one of them out";

const SMALL_INBOX: &str = "limits.inbox_bytes must be at least limits.message_bytes: else no \
                           message of that size could be published";

const SMALL_ABSENT: &str = "limits.absent_bytes must be at least limits.lane_bytes";

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
