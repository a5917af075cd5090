//! Where sockets go that another server serves.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Deserializer, de::Error as _};

/// A part of the paths of virtual sockets that goes on to a WebSocket server of yours.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Route {
    /// The beginning of the paths, in whole parts: `/chat` and `/chat/` are for `/chat/room`, and
    /// not for `/chatter`. Of several routes the longest counts.
    pub prefix: String,
    /// The servers: `ws://host:port`, `wss://host`, or `unix:/path/of/the.sock`. A path after the
    /// host takes the place of the prefix; without one, the path of the socket stays as it is.
    /// With `unix:`, it stands behind another colon. Of several servers, a socket goes to the one
    /// with the fewest sockets of those that answer.
    pub upstreams: Vec<String>,
    /// The origins whose pages may use the route, such as `https://example.org`, besides the
    /// server's own. Default: all those that may open links.
    #[serde(default)]
    pub allow_origins: Option<Vec<String>>,
    /// Which request of the browser it is whose headers the upstream gets, its cookies among them:
    /// `"open"` or `"link"`. Default: `"open"`.
    #[serde(default)]
    pub cookies: Cookies,
    /// Request headers of the browser that are passed on besides `Cookie`, `Origin`, `User-Agent`,
    /// `Accept-Language` and `Authorization`. Default: none.
    #[serde(default)]
    pub headers: Vec<String>,
    /// How long an upstream may take to open a socket, in milliseconds, at most 30,000.
    /// Default: 30,000.
    #[serde(default = "open_timeout")]
    pub open_timeout_ms: u64,
    /// The sockets that may be open at one time; 0 for no limit. Default: 16,384.
    #[serde(default = "sockets")]
    pub sockets: u32,
    /// How often each of several upstreams is dialled to see whether it is there, in milliseconds;
    /// 0: only when a socket is opened. Default: 5,000.
    #[serde(default = "health")]
    pub health_ms: u64,
    /// The addresses of this machine that connections come from, in turn. Each has some 28,000
    /// ports for one upstream. Default: what the system chooses.
    #[serde(default)]
    pub source_addresses: Vec<IpAddr>,
    /// How long a socket whose page is in the back/forward cache keeps its connection: `"keep"`,
    /// as long as the tab is kept, `"close"`, not at all, or a time in milliseconds.
    /// Default: `"keep"`.
    #[serde(default)]
    pub parked: Parked,
    /// A file with the certificates (PEM) of the authorities that `wss:` upstreams may have.
    /// Default: those that the system trusts.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The name that the certificate of a `wss:` upstream must have. Default: its host.
    #[serde(default)]
    pub server_name: Option<String>,
}

/// Which request of the browser it is whose headers an upstream gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Cookies {
    /// That of a short WebSocket to the path of the socket, which the browser opens before the
    /// socket opens: its cookies are those of a native socket. It needs another round trip, and
    /// WebSockets of the path that offer `tabmux.ticket` must reach the gateway.
    #[default]
    Open,
    /// That of the newest link. Cookies with another path than `/` or `/tabmux` are missing, and a
    /// cookie that changed since the link opened is the old one.
    Link,
}

/// How long a socket whose page is in the back/forward cache keeps its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parked {
    /// As long as the tab is kept: 10 minutes.
    #[default]
    Keep,
    /// Not at all, as with a `WebSocket` of the page.
    Close,
    /// So many milliseconds.
    Millis(u64),
}

impl<'de> Deserialize<'de> for Parked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Word(String),
            Millis(u64),
        }
        match Form::deserialize(deserializer)? {
            Form::Word(word) if word == "keep" => Ok(Self::Keep),
            Form::Word(word) if word == "close" => Ok(Self::Close),
            Form::Word(_) => Err(D::Error::custom("write \"keep\", \"close\" or milliseconds")),
            Form::Millis(millis) => Ok(Self::Millis(millis)),
        }
    }
}

const fn open_timeout() -> u64 {
    30_000
}

const fn sockets() -> u32 {
    16_384
}

const fn health() -> u64 {
    5_000
}

impl Route {
    /// Returns a route from a prefix to an upstream.
    pub fn new(prefix: impl Into<String>, upstream: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            upstreams: vec![upstream.into()],
            allow_origins: None,
            cookies: Cookies::Open,
            headers: Vec::new(),
            open_timeout_ms: open_timeout(),
            sockets: sockets(),
            health_ms: health(),
            source_addresses: Vec::new(),
            parked: Parked::Keep,
            ca_file: None,
            server_name: None,
        }
    }

    /// Adds an upstream.
    #[must_use]
    pub fn upstream(mut self, upstream: impl Into<String>) -> Self {
        self.upstreams.push(upstream.into());
        self
    }

    /// Sets the origins that may use the route.
    #[must_use]
    pub fn allow_origins(mut self, origins: Vec<String>) -> Self {
        self.allow_origins = Some(origins);
        self
    }

    /// Sets which request of the browser it is whose headers the upstream gets.
    #[must_use]
    pub const fn cookies(mut self, cookies: Cookies) -> Self {
        self.cookies = cookies;
        self
    }

    /// Sets the request headers that are passed on besides.
    #[must_use]
    pub fn headers(mut self, headers: Vec<String>) -> Self {
        self.headers = headers;
        self
    }

    /// Sets how long an upstream may take to open a socket, in milliseconds.
    #[must_use]
    pub const fn open_timeout_ms(mut self, millis: u64) -> Self {
        self.open_timeout_ms = millis;
        self
    }

    /// Sets how many sockets may be open at one time.
    #[must_use]
    pub const fn sockets(mut self, sockets: u32) -> Self {
        self.sockets = sockets;
        self
    }

    /// Sets how often upstreams are dialled to see whether they are there, in milliseconds.
    #[must_use]
    pub const fn health_ms(mut self, millis: u64) -> Self {
        self.health_ms = millis;
        self
    }

    /// Sets the addresses that connections come from.
    #[must_use]
    pub fn source_addresses(mut self, addresses: Vec<IpAddr>) -> Self {
        self.source_addresses = addresses;
        self
    }

    /// Sets how long a socket whose page is in the back/forward cache keeps its connection.
    #[must_use]
    pub const fn parked(mut self, parked: Parked) -> Self {
        self.parked = parked;
        self
    }

    /// Sets the file with the authorities of `wss:` upstreams.
    #[must_use]
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// Sets the name that the certificate of a `wss:` upstream must have.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }
}
