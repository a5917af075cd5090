//! Streams as they come in, over TCP or over a Unix socket.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::shard::Io;

/// The address of whoever comes over a Unix socket. Nobody else has it.
pub(crate) const UNIX_PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A stream that was accepted and that no runtime watches. It does not block.
pub(crate) enum Fresh {
    Tcp(std::net::TcpStream),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
}

/// A stream that tokio watches.
pub(crate) enum Incoming {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

impl Fresh {
    /// Has tokio watch it.
    pub(crate) fn watched(self) -> io::Result<Incoming> {
        Ok(match self {
            Self::Tcp(stream) => Incoming::Tcp(TcpStream::from_std(stream)?),
            #[cfg(unix)]
            Self::Unix(stream) => Incoming::Unix(tokio::net::UnixStream::from_std(stream)?),
        })
    }
}

impl Incoming {
    /// Returns it as a shard takes it.
    ///
    /// # Errors
    /// When the stream cannot be taken out of the runtime.
    pub(crate) fn into_io(self) -> io::Result<Io> {
        Ok(match self {
            Self::Tcp(stream) => Io::Tcp(stream.into_std()?),
            #[cfg(unix)]
            Self::Unix(stream) => Io::Unix(stream.into_std()?),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => {
                let (stream, session) = stream.into_inner();
                Io::Tls(stream.into_std()?, Box::new(session))
            }
        })
    }
}

/// Does the same with either.
macro_rules! either {
    ($stream:expr, $inner:ident => $what:expr) => {
        match $stream.get_mut() {
            Incoming::Tcp($inner) => $what,
            #[cfg(unix)]
            Incoming::Unix($inner) => $what,
            #[cfg(feature = "tls")]
            Incoming::Tls($inner) => $what,
        }
    };
}

impl AsyncRead for Incoming {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, it => Pin::new(it).poll_read(context, buffer))
    }
}

impl AsyncWrite for Incoming {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, it => Pin::new(it).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, it => Pin::new(it).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, it => Pin::new(it).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, it => Pin::new(it).poll_shutdown(context))
    }
}
