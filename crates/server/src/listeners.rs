//! The listeners of a server.

use std::{
    io,
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpListener;
#[cfg(unix)]
use {
    crate::socket_file::SocketFile,
    std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    tokio::{
        io::{Interest, unix::AsyncFd},
        net::UnixListener,
    },
};

use crate::{
    Config, Error,
    config::{Listen, ListenAddress},
    incoming::Fresh,
};

/// Connections that the kernel keeps until they are accepted, if it allows so many.
const BACKLOG: i32 = 4_096;

/// What a server listens on.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) links: Vec<Opened>,
    /// That of `metrics_listen`.
    pub(crate) metrics: Option<TcpListener>,
    has_certificate: bool,
}

/// A listener that is open.
#[derive(Debug)]
pub(crate) struct Opened {
    socket: Ready,
    /// Connections begin with a header of the PROXY protocol.
    pub(crate) has_header: bool,
    /// It speaks TLS if there is a certificate.
    pub(crate) may_speak_tls: bool,
}

#[derive(Debug)]
enum Ready {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, Option<SocketFile>),
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
        let listens = config.listen.iter();
        let links = listens.map(|listen| Opened::new(listen, &config.listen));
        let (links, metrics) = (links.collect::<Result<_, _>>()?, Self::metrics(None, config)?);
        Ok(Self { links, metrics, has_certificate: !config.tls.is_empty() })
    }

    /// Takes listeners that are open already, such as those that a supervisor keeps open while a
    /// server starts again, in the place of what `listen` names. One whose address is in `listen`
    /// is for whom that says. `metrics_listen` is opened.
    ///
    /// # Errors
    /// When a listener cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[cfg(unix)]
    pub fn passed(
        config: &Config,
        tcp: Vec<std::net::TcpListener>,
        unix: Vec<std::os::unix::net::UnixListener>,
    ) -> Result<Self, Error> {
        let named = |address: Option<ListenAddress>| {
            config.listen.iter().find(|it| Some(&it.address) == address.as_ref())
        };
        let mut links = Vec::new();
        for listener in tcp {
            let address = listener.local_addr().ok().map(ListenAddress::Tcp);
            listener.set_nonblocking(true)?;
            let socket = Ready::Tcp(TcpListener::from_std(listener)?);
            let named = named(address);
            let has_header = named.is_some_and(|listen| listen.proxy_protocol);
            let may_speak_tls = named.is_none_or(|listen| listen.tls);
            links.push(Opened { socket, has_header, may_speak_tls });
        }
        for listener in unix {
            let address = listener.local_addr().ok();
            let path = address.and_then(|it| Some(it.as_pathname()?.to_owned()));
            listener.set_nonblocking(true)?;
            let socket = Ready::Unix(UnixListener::from_std(listener)?, None);
            let named = named(path.map(ListenAddress::Unix));
            let has_header = named.is_some_and(|listen| listen.proxy_protocol);
            links.push(Opened { socket, has_header, may_speak_tls: false });
        }
        let metrics = Self::metrics(None, config)?;
        Ok(Self { links, metrics, has_certificate: !config.tls.is_empty() })
    }

    /// Returns the addresses that links come to, as an operator reads them:
    /// `http://127.0.0.1:3000/`, or `unix:/run/tabmux.sock`.
    pub fn addresses(&self) -> Vec<String> {
        let of = |opened: &Opened| {
            let address = opened.socket.address();
            let is_safe = opened.may_speak_tls && self.has_certificate;
            if is_safe { address.replacen("http:", "https:", 1) } else { address }
        };
        self.links.iter().map(of).collect()
    }

    /// Returns the listener for `/metrics`, which may be open already. Returns nothing if it has
    /// none of its own.
    pub(crate) fn metrics(
        open: Option<TcpListener>,
        config: &Config,
    ) -> Result<Option<TcpListener>, Error> {
        match (open, config.metrics_listen) {
            (None, Some(address)) => bind(address, "metrics_listen", false).map(Some),
            (open, _) => Ok(open),
        }
    }
}

impl From<TcpListener> for Listeners {
    fn from(links: TcpListener) -> Self {
        Self { links: vec![links.into()], metrics: None, has_certificate: false }
    }
}

impl From<TcpListener> for Opened {
    fn from(listener: TcpListener) -> Self {
        Self { socket: Ready::Tcp(listener), has_header: false, may_speak_tls: true }
    }
}

impl Opened {
    fn new(listen: &Listen, all: &[Listen]) -> Result<Self, Error> {
        let socket = match &listen.address {
            ListenAddress::Tcp(address) => {
                // `[::]` takes IPv4 as well, unless another listener does.
                let has_v4 = |other: &Listen| match &other.address {
                    ListenAddress::Tcp(other) => other.is_ipv4() && other.port() == address.port(),
                    ListenAddress::Unix(_) => false,
                };
                Ready::Tcp(bind(*address, "listen", all.iter().any(has_v4))?)
            }
            #[cfg(unix)]
            ListenAddress::Unix(path) => {
                let (listener, file) = SocketFile::open(path, listen.mode)?;
                Ready::Unix(UnixListener::from_std(listener)?, Some(file))
            }
            #[cfg(not(unix))]
            ListenAddress::Unix(_) => {
                return Err(io::Error::from(io::ErrorKind::Unsupported).into());
            }
        };
        let may_speak_tls = listen.tls && matches!(listen.address, ListenAddress::Tcp(_));
        Ok(Self { socket, has_header: listen.proxy_protocol, may_speak_tls })
    }

    /// Returns true if nobody but this machine reaches it by a name.
    pub(crate) fn is_loopback(&self) -> io::Result<bool> {
        match &self.socket {
            Ready::Tcp(listener) => Ok(listener.local_addr()?.ip().to_canonical().is_loopback()),
            #[cfg(unix)]
            Ready::Unix(..) => Ok(false),
        }
    }

    /// Begins to accept. A peer that acknowledges nothing for `patience` is given up.
    pub(crate) fn listener(self, patience: Option<Duration>) -> io::Result<Listener> {
        if let Ready::Tcp(listener) = &self.socket {
            tune(&SockRef::from(listener), patience)?;
        }
        Listener::new(self.socket)
    }
}

/// Sets what the connections of a listener inherit: what is written goes out at once, and a peer
/// that acknowledges nothing for `patience` is given up.
#[cfg_attr(
    not(target_os = "linux"),
    expect(unused_variables, reason = "the system has no such option")
)]
fn tune(listener: &SockRef<'_>, patience: Option<Duration>) -> io::Result<()> {
    listener.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    listener.set_tcp_user_timeout(patience)?;
    Ok(())
}

impl Ready {
    fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|_| "http://?/".to_owned(), |address| format!("http://{address}/")),
            #[cfg(unix)]
            Self::Unix(listener, _) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                path.map_or_else(|| "unix:?".to_owned(), |path| format!("unix:{}", path.display()))
            }
        }
    }
}

/// A listener that accepts, without a task for each connection.
#[cfg(unix)]
pub(crate) struct Listener(AsyncFd<Inner>);

#[cfg(unix)]
enum Inner {
    Tcp(mio::net::TcpListener),
    Unix(
        mio::net::UnixListener,
        #[expect(dead_code, reason = "its end removes the file")] Option<SocketFile>,
    ),
}

#[cfg(unix)]
impl AsRawFd for Inner {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

#[cfg(unix)]
impl AsFd for Inner {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

#[cfg(unix)]
impl Inner {
    fn accept(&self) -> io::Result<(Fresh, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Fresh::Tcp(stream.into()), peer))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                Ok((Fresh::Unix(stream.into()), crate::incoming::UNIX_PEER))
            }
        }
    }
}

#[cfg(unix)]
impl Listener {
    fn new(socket: Ready) -> io::Result<Self> {
        let inner = match socket {
            Ready::Tcp(listener) => {
                Inner::Tcp(mio::net::TcpListener::from_std(listener.into_std()?))
            }
            Ready::Unix(listener, file) => {
                Inner::Unix(mio::net::UnixListener::from_std(listener.into_std()?), file)
            }
        };
        #[expect(
            deprecated,
            reason = "the other way is unsafe, and this descriptor is inner's own"
        )]
        let listener = AsyncFd::with_interest(inner, Interest::READABLE)?;
        Ok(Self(listener))
    }

    pub(crate) fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(Fresh, SocketAddr)>> {
        loop {
            let mut guard = std::task::ready!(self.0.poll_read_ready(context))?;
            if let Ok(accepted) = guard.try_io(|inner| inner.get_ref().accept()) {
                return Poll::Ready(accepted);
            }
        }
    }

    /// Accepts a connection that is there already.
    pub(crate) fn try_accept(&self) -> io::Result<(Fresh, SocketAddr)> {
        self.0.try_io(Interest::READABLE, Inner::accept)
    }
}

#[cfg(not(unix))]
pub(crate) struct Listener(TcpListener);

#[cfg(not(unix))]
impl Listener {
    #[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
    fn new(socket: Ready) -> io::Result<Self> {
        let Ready::Tcp(listener) = socket;
        Ok(Self(listener))
    }

    pub(crate) fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(Fresh, SocketAddr)>> {
        let (stream, peer) = std::task::ready!(self.0.poll_accept(context))?;
        stream.set_nodelay(true)?;
        Poll::Ready(stream.into_std().map(|stream| (Fresh::Tcp(stream), peer)))
    }

    #[expect(clippy::unused_self, reason = "it accepts elsewhere")]
    pub(crate) fn try_accept(&self) -> io::Result<(Fresh, SocketAddr)> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Opens a listener, with room for a storm of connections; the error says what to do. `[::]` takes
/// IPv4 as well.
///
/// # Errors
/// When the address is in use, or none of this machine.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    bind(address, "listen", false)
}

fn bind(address: SocketAddr, key: &'static str, only_v6: bool) -> Result<TcpListener, Error> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(only_v6)?;
        }
        // A server that starts again must not wait for the connections of the one before it.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            Error::AddressInUse { address, key }
        } else {
            Error::Listen { address, source }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn connections_inherit_what_is_set_for_their_listener() {
        let opened = Opened::from(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let Ready::Tcp(listener) = &opened.socket else { unreachable!() };
        let address = listener.local_addr().unwrap();
        let listener = opened.listener(Some(Duration::from_secs(7))).unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (stream, _) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
        let Fresh::Tcp(stream) = stream else { panic!("no TCP") };
        let stream = SockRef::from(&stream);
        assert!(stream.tcp_nodelay().unwrap());
        assert_eq!(stream.tcp_user_timeout().unwrap(), Some(Duration::from_secs(7)));
    }
}
