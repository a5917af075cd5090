//! Which names the server answers to.
//!
//! A page of any site can have its own name point at this server's address, also at an address that
//! only this machine or its network reaches (DNS rebinding). To the browser the server is then a
//! part of that site, and no origin protects it. The header `Host` tells: it has the name of that
//! site. A server that knows its own names refuses all others.

use std::net::{IpAddr, Ipv6Addr};

use crate::Error;

/// The names that the server answers to.
pub(crate) struct Hosts {
    names: Vec<Name>,
    all: bool,
}

/// What a listener means for the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    /// It listens on this machine alone: without any setting it has the names of this machine.
    pub(crate) is_loopback: bool,
    /// It is for `/metrics` alone, to which the setting does not apply.
    pub(crate) is_inner: bool,
}

/// A name, and the port if it counts.
struct Name {
    host: String,
    port: Option<u16>,
    /// Names below it are meant, and not itself.
    is_below: bool,
}

impl Door {
    /// A router inside an app, which listens where it likes.
    pub(crate) const APP: Self = Self { is_loopback: false, is_inner: false };
}

impl Hosts {
    /// Reads the setting `hosts`.
    ///
    /// # Errors
    /// When an entry is no name.
    pub(crate) fn new(hosts: &[String]) -> Result<Self, Error> {
        let names = hosts.iter().filter(|host| *host != "*").map(|host| {
            Name::read(host).ok_or_else(|| {
                Error::Config(format!(
                    "hosts: {host:?} is no name of a host; write it as example.org, \
                     example.org:8080, *.example.org or [::1]"
                ))
            })
        });
        let names = names.collect::<Result<_, _>>()?;
        Ok(Self { names, all: hosts.iter().any(|host| host == "*") })
    }

    /// Returns true if the server answers to the name in a request's `Host`. A request without one
    /// is not of a browser.
    pub(crate) fn allow(&self, host: Option<&[u8]>, door: Door) -> bool {
        let Some(host) = host.filter(|_| !self.all) else {
            return true;
        };
        if self.names.is_empty() || door.is_inner {
            return !door.is_loopback || split(host).is_some_and(|(name, _)| is_local(&name));
        }
        split(host).is_some_and(|(name, port)| self.names.iter().any(|it| it.is(&name, port)))
    }
}

impl Name {
    fn read(text: &str) -> Option<Self> {
        let (text, is_below) = match text.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (host, port) = split(text.as_bytes())?;
        (!host.contains('*')).then_some(Self { host, port, is_below })
    }

    fn is(&self, name: &str, port: Option<u16>) -> bool {
        let is_named = if self.is_below {
            let front = name.strip_suffix(&self.host).and_then(|name| name.strip_suffix('.'));
            front.is_some_and(|front| !front.is_empty())
        } else {
            name == self.host
        };
        is_named && (self.port.is_none() || self.port == port)
    }
}

/// Returns a name in lower case without the dot at its end, and the port.
fn split(host: &[u8]) -> Option<(String, Option<u16>)> {
    let host = std::str::from_utf8(host).ok()?.to_ascii_lowercase();
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (format!("[{address}]"), port.strip_prefix(':').or(port.is_empty().then_some("")))
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name.to_owned(), Some(port)),
            None => (host, Some("")),
        },
    };
    let port = match port? {
        "" => None,
        port => Some(port.parse().ok()?),
    };
    let name = name.strip_suffix('.').unwrap_or(&name);
    let is_plain = |c: char| !c.is_ascii_whitespace() && !"/?#@,".contains(c);
    (!name.is_empty() && name.chars().all(is_plain)).then(|| (name.to_owned(), port))
}

/// Returns true for the names that browsers look up on this machine alone.
fn is_local(name: &str) -> bool {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: Door = Door { is_loopback: true, is_inner: false };

    fn allow(hosts: &[&str], host: &str, door: Door) -> bool {
        let hosts = hosts.iter().map(|&host| host.to_owned()).collect::<Vec<_>>();
        Hosts::new(&hosts).unwrap().allow(Some(host.as_bytes()), door)
    }

    #[test]
    fn on_this_machine_alone_a_server_has_the_names_of_this_machine() {
        let own = ["localhost", "LOCALHOST:3000", "app.localhost", "127.0.0.1:1", "127.8.8.8"];
        for host in
            own.into_iter().chain(["[::1]:3000", "[::1]", "localhost.", "[::ffff:127.0.0.1]"])
        {
            assert!(allow(&[], host, LOOPBACK), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", "", "a b", "[::1"]
        {
            assert!(!allow(&[], host, LOOPBACK), "{host}");
        }
    }

    #[test]
    fn elsewhere_a_server_has_any_name_unless_it_is_told_its_own() {
        assert!(allow(&[], "any.example", Door::APP));
        assert!(Hosts::new(&["a.example".to_owned()]).unwrap().allow(None, Door::APP));
        for door in [LOOPBACK, Door::APP] {
            for (host, is_own) in [
                ("a.example", true),
                ("A.example:8443", true),
                ("b.example:81", true),
                ("b.example", false),
                ("b.example:80", false),
                ("x.c.example", true),
                ("x.y.c.example:1", true),
                ("c.example", false),
                (".c.example", false),
                ("xc.example", false),
                ("localhost", false),
                ("127.0.0.1", false),
                ("a.example:port", false),
            ] {
                let hosts = ["a.example", "b.example:81", "*.c.example"];
                assert_eq!(allow(&hosts, host, door), is_own, "{host}");
            }
        }
        assert!(allow(&["*"], "any.example", LOOPBACK));
    }

    #[test]
    fn a_listener_for_numbers_alone_is_not_told_the_names_of_the_site() {
        let inner = |is_loopback| Door { is_loopback, is_inner: true };
        assert!(allow(&["a.example"], "10.0.0.1:9464", inner(false)));
        assert!(allow(&["a.example"], "localhost:9464", inner(true)));
        assert!(!allow(&["a.example"], "evil.example", inner(true)));
    }

    #[test]
    fn what_is_no_name_is_an_error() {
        for host in
            ["", "https://a.example", "a.example/", "a.*.example", "*.", "a:b", "[::g]", "::1:1"]
        {
            let error = Hosts::new(&[host.to_owned()]).err().map(|error| error.to_string());
            assert!(error.is_some_and(|error| error.contains("example.org")), "{host}");
        }
    }
}
