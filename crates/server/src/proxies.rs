//! Who a client is when proxies stand before the server.
//!
//! Each proxy appends the address it was called from to `X-Forwarded-For`, so the list is true
//! from its end on, for as long as it names proxies that are trusted. `Forwarded` is not read: a
//! client could send it through a proxy that only knows the other, and the other way round.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::{Error, incoming::UNIX_PEER};

/// Proxies that are believed.
pub(crate) struct Proxies(Vec<IpNet>);

/// Who comes over a Unix socket, in the setting.
const UNIX: &str = "unix";

impl Proxies {
    pub(crate) fn new(trusted: &[String]) -> Result<Self, Error> {
        let network = |text: &String| {
            let address = || text.parse::<IpAddr>().map(IpNet::from);
            if text == UNIX {
                return Ok(UNIX_PEER.ip().into());
            }
            text.parse().or_else(|_| address()).map_err(|_| {
                Error::Config(format!(
                    "trusted_proxies: {text:?} is no address; write it as 127.0.0.1, 10.0.0.0/8, \
                     or \"unix\" for who comes over a Unix socket"
                ))
            })
        };
        trusted.iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// The address of the client that a connection speaks for, by its headers.
    pub(crate) fn client<'a>(
        &self,
        peer: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> IpAddr {
        let mut client = peer.to_canonical();
        let entries = forwarded.rev().flat_map(|list| list.rsplit(|&byte| byte == b','));
        for entry in entries {
            if !self.trusts(client) {
                break;
            }
            // What a trusted proxy did not write as an address stands for the proxy.
            let Some(next) = address(entry.trim_ascii()) else {
                break;
            };
            client = next;
        }
        client
    }

    /// Whether an address is a trusted proxy's.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An address, perhaps in brackets or with a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    // Nobody calls from there.
    Some(address.to_canonical()).filter(|address| !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, headers: &[&str]) -> String {
        let trusted = trusted.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let proxies = Proxies::new(&trusted).unwrap();
        let headers = headers.iter().map(|header| header.as_bytes());
        proxies.client(peer.parse().unwrap(), headers).to_string()
    }

    #[test]
    fn nobody_is_believed_unless_named() {
        assert_eq!(client(&[], "10.0.0.1", &["192.0.2.1"]), "10.0.0.1");
        assert_eq!(client(&["10.0.0.2"], "10.0.0.1", &["192.0.2.1"]), "10.0.0.1");
    }

    #[test]
    fn the_last_that_is_no_proxy_is_the_client() {
        let trusted = ["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"];
        for (headers, expected) in [
            (&["192.0.2.1"][..], "192.0.2.1"),
            (&["192.0.2.9, 192.0.2.1, 10.1.2.3"], "192.0.2.1"),
            (&["192.0.2.9,192.0.2.1 ", " 10.1.2.3,2001:db8::7"], "192.0.2.1"),
            (&["192.0.2.1:4711"], "192.0.2.1"),
            (&["[2001:dead::1]:4711"], "2001:dead::1"),
            (&["[2001:dead::1]"], "2001:dead::1"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
            (&["10.9.9.9, 10.1.2.3"], "10.9.9.9"),
            (&[], "127.0.0.1"),
        ] {
            assert_eq!(client(&trusted, "127.0.0.1", headers), expected, "{headers:?}");
            assert_eq!(client(&trusted, "::ffff:127.0.0.1", headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_proxy_on_a_unix_socket_is_believed_if_it_is_named() {
        let unix = UNIX_PEER.ip().to_string();
        assert_eq!(client(&["unix"], &unix, &["192.0.2.9, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(client(&["unix"], &unix, &["192.0.2.9, 0.0.0.0"]), unix);
        assert_eq!(client(&["127.0.0.1"], &unix, &["192.0.2.1"]), unix);
    }

    #[test]
    fn garbage_counts_for_the_proxy_that_let_it_through() {
        for garbage in ["", ",", "unknown", "192.0.2.1.5", "\u{fc}, ,", "1.2.3.4, _hidden"] {
            assert_eq!(client(&["10.0.0.1"], "10.0.0.1", &[garbage]), "10.0.0.1", "{garbage:?}");
        }
        let long = "9,".repeat(4_000);
        assert_eq!(client(&["10.0.0.1"], "10.0.0.1", &[&long]), "10.0.0.1");
    }

    #[test]
    fn what_is_no_network_is_an_error() {
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0", "*"] {
            let error = Proxies::new(&[text.to_owned()]).err().unwrap().to_string();
            assert!(error.contains("10.0.0.0/8"), "{error}");
        }
    }
}
