//! Where a server listens.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use crate::Error;

/// Where a server listens, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listen {
    /// The address.
    pub address: ListenAddress,
    /// Connections begin with a header of the PROXY protocol, version 2, which names the client.
    /// Those of others than `trusted_proxies` are closed.
    pub proxy_protocol: bool,
    /// It speaks TLS if the configuration has a certificate. Unix sockets never do. Default:
    /// `true`.
    pub tls: bool,
    /// The rights of a Unix socket's file, such as `0o660`. Without it, what the process gives.
    pub mode: Option<u32>,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Listen {
    /// Reads an address: `127.0.0.1:3000`, `[::]:3000`, or `unix:/run/tabmux.sock`.
    ///
    /// # Errors
    /// For all else, with the right form in the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let address = match text.strip_prefix("unix:") {
            Some("") => return Err("write it as unix:/run/tabmux.sock".to_owned()),
            Some(path) => ListenAddress::Unix(path.into()),
            None => ListenAddress::Tcp(listen_address(text)?),
        };
        Ok(address.into())
    }

    /// Sets [`proxy_protocol`](field@Self::proxy_protocol).
    #[must_use]
    pub const fn proxy_protocol(mut self, proxy_protocol: bool) -> Self {
        self.proxy_protocol = proxy_protocol;
        self
    }
}

impl Listen {
    /// Sets [`tls`](field@Self::tls).
    #[must_use]
    pub const fn tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }
}

impl Default for Listen {
    fn default() -> Self {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 3000)).into()
    }
}

impl From<ListenAddress> for Listen {
    fn from(address: ListenAddress) -> Self {
        Self { address, proxy_protocol: false, tls: true, mode: None }
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        ListenAddress::Tcp(address).into()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Checks all addresses together.
pub(crate) fn check(listens: &[Listen], trusts: bool) -> Result<(), Error> {
    let fault = |text: String| Err(Error::Config(text));
    if listens.is_empty() {
        return fault("listen has no address".to_owned());
    }
    for (index, Listen { address, proxy_protocol, mode, tls: _ }) in listens.iter().enumerate() {
        let is_free = matches!(address, ListenAddress::Tcp(address) if address.port() == 0);
        if !is_free && listens[..index].iter().any(|other| other.address == *address) {
            return fault(format!("listen has {address} twice"));
        }
        if *proxy_protocol && !trusts {
            let text = "needs trusted_proxies: no proxy is believed without";
            return fault(format!("proxy_protocol of {address} {text}"));
        }
        match address {
            ListenAddress::Tcp(_) if mode.is_some() => {
                return fault(format!("mode of {address} has no effect: it is no Unix socket"));
            }
            ListenAddress::Unix(_) if !cfg!(unix) => {
                return fault(format!("{address}: there are no Unix sockets here"));
            }
            ListenAddress::Tcp(_) | ListenAddress::Unix(_) => {}
        }
    }
    Ok(())
}

/// Reads an address to listen on: `127.0.0.1:3000`, or `localhost:3000`, which is the same.
///
/// # Errors
/// For all else, with the right form in the text.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.replacen("localhost:", "127.0.0.1:", 1);
    numeric.parse().map_err(|_| {
        "write it as 127.0.0.1:3000, or 0.0.0.0:3000 for all of IPv4, or [::]:3000 for all"
            .to_owned()
    })
}

pub(super) fn maybe_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    listen_address(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

/// One address, or a list of them.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Listen>, D::Error> {
    struct List;

    impl<'de> Visitor<'de> for List {
        type Value = Vec<Listen>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(FORMS)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![Listen::parse(text).map_err(E::custom)?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut listens = Vec::new();
            while let Some(listen) = list.next_element()? {
                listens.push(listen);
            }
            Ok(listens)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            Ok(vec![One.visit_map(map)?])
        }
    }

    deserializer.deserialize_any(List)
}

const FORMS: &str = "an address such as \"127.0.0.1:3000\", a table with `address`, or a list";

struct One;

impl<'de> Visitor<'de> for One {
    type Value = Listen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORMS)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Listen, E> {
        Listen::parse(text).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Listen, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            address: String,
            #[serde(default)]
            proxy_protocol: bool,
            tls: Option<bool>,
            mode: Option<String>,
        }

        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        let mode = table.mode.map(|mode| {
            let digits = u32::from_str_radix(&mode, 8).ok().filter(|mode| *mode <= 0o777);
            digits.ok_or_else(|| A::Error::custom("mode is three digits such as \"660\""))
        });
        let listen = Listen::parse(&table.address).map_err(A::Error::custom)?;
        let (mode, tls) = (mode.transpose()?, table.tls.unwrap_or(true));
        Ok(Listen { mode, tls, ..listen.proxy_protocol(table.proxy_protocol) })
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(One)
    }
}
