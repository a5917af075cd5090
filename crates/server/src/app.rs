//! What the listener and the HTTP handlers share.

use std::{io, net::IpAddr};

use tokio::net::TcpStream;

use crate::{
    Config,
    admission::{Admission, Cause, Ticket},
    assets::Scripts,
    files::Folder,
    metrics::Counter,
    origin::Origins,
    proxies::Proxies,
    shard::{Connection, Io, Shards},
    users::{LinkRequest, UserOf},
    ws::upgrade::Refusal,
};

/// What the listener and the HTTP handlers share.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) origins: Origins,
    pub(crate) proxies: Proxies,
    pub(crate) admission: Admission,
    pub(crate) user: Option<UserOf>,
    pub(crate) shards: Shards,
    pub(crate) files: Files,
}

/// What is served besides links.
pub(crate) struct Files {
    pub(crate) scripts: Scripts,
    pub(crate) site: Option<Folder>,
    /// Numbers of the application.
    pub(crate) counters: Vec<Counter>,
}

/// What a handshake came to.
pub(crate) struct Opening {
    /// What was read behind it.
    pub(crate) early: Vec<u8>,
    pub(crate) ticket: Ticket,
    /// Messages may be deflated.
    pub(crate) inflates: bool,
}

impl App {
    /// Whose link a request would open, if that is told. A request that names two users is refused.
    pub(crate) fn user_of(
        &self,
        headers: &[(&str, &[u8])],
        peer: Option<IpAddr>,
        client: Option<IpAddr>,
    ) -> Result<Option<String>, Refusal> {
        let Some(user_of) = &self.user else {
            return Ok(None);
        };
        let proxied = peer.is_some_and(|peer| self.proxies.trusts(peer.to_canonical()));
        user_of(&LinkRequest { headers, client, proxied })
            .inspect_err(|_| self.admission.count(Cause::UserHeader, client))
    }

    /// Gives a stream whose handshake is done to a shard.
    ///
    /// # Errors
    /// When the stream cannot be taken out of the runtime.
    pub(crate) fn place(&self, stream: TcpStream, opening: Opening) -> io::Result<()> {
        let Opening { early, ticket, inflates } = opening;
        let io = Io::Tcp(stream.into_std()?);
        self.shards.place(Connection { io, ticket: Some(ticket), inflates }, early);
        Ok(())
    }
}
