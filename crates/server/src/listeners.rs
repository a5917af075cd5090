//! The listeners of a server.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use crate::{Config, Error};

/// Connections that the kernel keeps until they are accepted, if it allows so many.
const BACKLOG: u32 = 4_096;

/// What a server listens on.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) links: TcpListener,
    /// That of `metrics_listen`.
    pub(crate) metrics: Option<TcpListener>,
}

impl Listeners {
    /// Opens what a configuration names: `listen`, and `metrics_listen` if it is set.
    ///
    /// # Errors
    /// When an address is in use, or none of this machine.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(config: &Config) -> Result<Self, Error> {
        Ok(Self { links: listen(config.listen)?, metrics: Self::metrics(None, config)? })
    }

    /// Returns the address that links come to.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.links.local_addr()
    }

    /// Returns the listener for `/metrics`, which may be open already. Returns nothing if it has
    /// none of its own.
    pub(crate) fn metrics(
        open: Option<TcpListener>,
        config: &Config,
    ) -> Result<Option<TcpListener>, Error> {
        match (open, config.metrics_listen) {
            (None, Some(address)) => bind(address, "metrics_listen").map(Some),
            (open, _) => Ok(open),
        }
    }
}

impl From<TcpListener> for Listeners {
    fn from(links: TcpListener) -> Self {
        Self { links, metrics: None }
    }
}

/// Opens a listener, with room for a storm of connections; the error says what to do.
///
/// # Errors
/// When the address is in use, or none of this machine.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    bind(address, "listen")
}

fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, Error> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A server that starts again must not wait for the connections of the one before it.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::AddressInUse { address, key },
        _ => Error::Listen { address, source },
    })
}
