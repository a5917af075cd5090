//! The servers of a route, and which of them gets the next socket.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
};

/// One server of a route.
pub(super) struct Upstream {
    pub(super) place: Place,
    /// What takes the place of the prefix in the path; nothing if the path stays as it is.
    pub(super) base: Option<String>,
    /// Sockets that it has, or that are being opened.
    open: AtomicU32,
    /// It did not take a connection when it was last dialled.
    is_down: AtomicBool,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Host, as in a URL, and port.
    Tcp { host: String, port: u16, is_tls: bool },
    /// The path of a socket.
    Unix(PathBuf),
}

/// The servers of a route.
pub(super) struct Pool {
    pub(super) upstreams: Vec<Arc<Upstream>>,
    sources: Vec<IpAddr>,
    next_source: AtomicUsize,
}

/// A socket at a server, which is counted there until this is dropped.
pub(super) struct Seat(pub(super) Arc<Upstream>);

impl Upstream {
    /// Reads a server's address: `ws://host:port/base`, `wss://…`, or `unix:/path:/base`.
    ///
    /// # Errors
    /// The text says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let bad = |why: &str| {
            format!(
                "the upstream {text:?} {why}; write it as ws://127.0.0.1:9000, wss://host or \
                 unix:/path"
            )
        };
        let (place, base) = if let Some(rest) = text.strip_prefix("unix:") {
            let (path, base) = match rest.split_once(':') {
                Some((path, base)) => (path, Some(base)),
                None => (rest, None),
            };
            if !path.starts_with('/') {
                return Err(bad("has no absolute path"));
            }
            (Place::Unix(path.into()), base)
        } else {
            let (is_tls, rest) = match (text.strip_prefix("ws://"), text.strip_prefix("wss://")) {
                (Some(rest), _) => (false, rest),
                (None, Some(rest)) => (true, rest),
                (None, None) => return Err(bad("has an unknown scheme")),
            };
            let end = rest.find('/').unwrap_or(rest.len());
            let (authority, base) = rest.split_at(end);
            let (host, port) = split(authority).ok_or_else(|| bad("has no host or a bad port"))?;
            let port = port.unwrap_or(if is_tls { 443 } else { 80 });
            (Place::Tcp { host: host.to_owned(), port, is_tls }, (!base.is_empty()).then_some(base))
        };
        let is_path = |base: &str| super::Target::parse(base).is_ok_and(|it| it.path() == base);
        if base.is_some_and(|base| !is_path(base)) {
            return Err(bad("has a path that is none"));
        }
        let (open, is_down) = (AtomicU32::new(0), AtomicBool::new(false));
        Ok(Self { place, base: base.map(str::to_owned), open, is_down })
    }

    /// Returns what requests to it name in `Host`.
    pub(super) fn authority(&self) -> String {
        match &self.place {
            Place::Tcp { host, port: 80, is_tls: false } => host.clone(),
            Place::Tcp { host, port: 443, is_tls: true } => host.clone(),
            Place::Tcp { host, port, .. } => format!("{host}:{port}"),
            Place::Unix(_) => "localhost".to_owned(),
        }
    }

    pub(super) const fn is_tls(&self) -> bool {
        matches!(self.place, Place::Tcp { is_tls: true, .. })
    }

    pub(super) fn mark(&self, is_up: bool) {
        self.is_down.store(!is_up, Ordering::Relaxed);
    }

    pub(super) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }
}

impl Pool {
    pub(super) fn new(upstreams: Vec<Upstream>, sources: Vec<IpAddr>) -> Self {
        let upstreams = upstreams.into_iter().map(Arc::new).collect();
        Self { upstreams, sources, next_source: AtomicUsize::new(0) }
    }

    /// Returns the servers in the order in which a socket tries them: those with the fewest sockets
    /// first, and those that were not there at last.
    pub(super) fn order(&self) -> Vec<Arc<Upstream>> {
        let mut order = self.upstreams.clone();
        order.sort_by_key(|it| (it.is_down(), it.open.load(Ordering::Relaxed)));
        order
    }

    /// Returns the address of this machine that the next connection to `remote` comes from.
    pub(super) fn source(&self, remote: SocketAddr) -> Option<IpAddr> {
        let fits = |source: &&IpAddr| source.is_ipv4() == remote.is_ipv4();
        let count = self.sources.iter().filter(fits).count();
        let turn = self.next_source.fetch_add(1, Ordering::Relaxed).checked_rem(count)?;
        self.sources.iter().filter(fits).nth(turn).copied()
    }
}

impl Seat {
    pub(super) fn new(upstream: &Arc<Upstream>) -> Self {
        upstream.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(upstream))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns host and port of an authority. A host of IPv6 stands in brackets.
fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        Some(_) | None => (authority, None),
    };
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(is_good),
    };
    is_host.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Option<String>) {
        let upstream = Upstream::parse(text).unwrap();
        (upstream.authority(), upstream.base)
    }

    #[test]
    fn addresses_of_servers_are_read() {
        let base = |text: &str| Some(text.to_owned());
        assert_eq!(parsed("ws://127.0.0.1:9000"), ("127.0.0.1:9000".to_owned(), None));
        assert_eq!(parsed("ws://app"), ("app".to_owned(), None));
        assert_eq!(parsed("wss://app.example/v1/"), ("app.example".to_owned(), base("/v1/")));
        assert_eq!(parsed("wss://app:80/"), ("app:80".to_owned(), base("/")));
        assert_eq!(parsed("ws://[::1]:9000"), ("[::1]:9000".to_owned(), None));
        assert_eq!(parsed("ws://[::1]/x"), ("[::1]".to_owned(), base("/x")));
        assert_eq!(parsed("unix:/run/app.sock"), ("localhost".to_owned(), None));
        assert_eq!(parsed("unix:/run/app.sock:/v1"), ("localhost".to_owned(), base("/v1")));
    }

    #[test]
    fn what_is_no_address_is_an_error() {
        for text in [
            "127.0.0.1:9000",
            "http://a",
            "ws://",
            "ws://:80",
            "ws://a:99999",
            "ws://a b",
            "ws://u@a",
            "ws://a/x?y",
            "ws://a/../x",
            "ws://a\r\n",
            "ws://[::1",
            "unix:app.sock",
            "unix:/a:b",
        ] {
            assert!(Upstream::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_server_with_the_fewest_sockets_is_next_and_one_that_was_down_is_last() {
        let upstreams = ["ws://a", "ws://b"].map(|text| Upstream::parse(text).unwrap());
        let pool = Pool::new(upstreams.into(), Vec::new());
        let first = |pool: &Pool| pool.order()[0].authority();
        let seat = Seat::new(&pool.upstreams[0]);
        assert_eq!(first(&pool), "b");
        pool.upstreams[1].mark(false);
        assert_eq!(first(&pool), "a");
        pool.upstreams[1].mark(true);
        let _more = [Seat::new(&pool.upstreams[1]), Seat::new(&pool.upstreams[1])];
        assert_eq!(first(&pool), "a");
        drop(seat);
        assert_eq!(first(&pool), "a");
    }

    #[test]
    fn connections_come_from_the_addresses_in_turn() {
        let sources = ["127.0.0.2", "::1", "127.0.0.3"].map(|text| text.parse().unwrap());
        let pool = Pool::new(Vec::new(), sources.into());
        let from = |remote: &str| pool.source(remote.parse().unwrap()).unwrap().to_string();
        let turns = [(); 4].map(|()| from("127.0.0.1:80"));
        assert_ne!(turns[0], turns[1]);
        assert_eq!((&turns[0], &turns[1]), (&turns[2], &turns[3]));
        assert_eq!(from("[::2]:80"), "::1");
        let none = Pool::new(Vec::new(), Vec::new());
        assert_eq!(none.source("127.0.0.1:80".parse().unwrap()), None);
    }
}
