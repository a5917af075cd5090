//! Links on streams that no epoll can watch, such as those of a TLS library inside an axum app.
//!
//! A task carries bytes between the stream and one end of a pair of sockets; the other end lives
//! in a shard as any link does. This costs each such link a task, two buffers of 8 KiB, two file
//! descriptors and a copy of every byte. A proxy that ends TLS in front of the server costs none
//! of it.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{admission::Ticket, shard::Shards};

/// Gives a stream to a shard.
#[cfg(unix)]
pub(crate) fn build(
    shards: &Shards,
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ticket: Ticket,
    inflates: bool,
) -> io::Result<()> {
    use tokio::{io::copy_bidirectional, net::UnixStream};

    use crate::shard::{Connection, Io};

    let (mut near, far) = UnixStream::pair()?;
    let connection = Connection { io: Io::Unix(far.into_std()?), ticket: Some(ticket), inflates };
    shards.place(connection, Vec::new());
    tokio::spawn(async move {
        if let Err(error) = copy_bidirectional(&mut stream, &mut near).await {
            tracing::debug!("a bridged link broke: {error}");
        }
    });
    Ok(())
}

/// Refuses: there is no pair of sockets here.
#[cfg(not(unix))]
pub(crate) fn build(
    _: &Shards,
    _: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    _: Ticket,
    _: bool,
) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only TCP streams carry links on this system"))
}
