//! A client.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    Broadcasts, BrowserEvent, ConnectError, OpenError, Socket, Topic,
    credentials::Source,
    destination::Destination,
    driver::{Command, Driver},
    inbox::Inbox,
    socket::Shared,
};

/// A link to a tabmux server, which dials again when it breaks and goes on where it was.
///
/// It is what a browser with one tab is. Its task runs until the client and all of its sockets and
/// topics are dropped, or until [`close`](Self::close).
#[derive(Debug)]
pub struct Client {
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<Status>,
    /// Sockets and topics have numbers of one row.
    last: AtomicU32,
    task: JoinHandle<()>,
}

/// How a client is made. Begin with [`Client::builder`].
#[derive(Clone)]
#[must_use]
pub struct Builder {
    url: String,
    headers: Vec<(String, String)>,
    credentials: Option<Source>,
    #[cfg(feature = "rustls")]
    tls: Option<Arc<rustls::ClientConfig>>,
}

/// How the link is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// It is being opened.
    Connecting,
    /// It works.
    Connected,
    /// It failed, and is tried again soon.
    Backoff {
        /// Why.
        reason: String,
    },
    /// It works, but the server has no room for this client, or has sent it away for a time.
    /// Sockets fail until that is over.
    Full {
        /// Why.
        reason: String,
    },
    /// The server refused the client, or sent it away, for good. Nothing is tried any more. Sockets
    /// fail.
    Refused {
        /// Why.
        reason: String,
    },
    /// The client is closed.
    Closed {
        /// Why.
        reason: String,
    },
}

/// Shows the names of headers and not their values, which may be secrets, and no query.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let url = self.url.split('?').next();
        f.debug_struct("Builder").field("url", &url).field("headers", &names).finish()
    }
}

impl Builder {
    /// Adds a header to each request that opens a link, such as a cookie.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Shows the server who the user is, by a token for example. The function is asked before each
    /// dial, and again before the credentials expire, as the server says. If it fails, the client
    /// tries again later. Credentials have 8,192 bytes at most.
    ///
    /// ```
    /// use tabmux_client::Client;
    /// # async fn fresh_token() -> Result<String, std::io::Error> { Ok(String::new()) }
    ///
    /// let builder = Client::builder("wss://example.org").credentials(fresh_token);
    /// # drop(builder);
    /// ```
    pub fn credentials<F, E>(mut self, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, E>> + Send + 'static,
        E: fmt::Display,
    {
        self.credentials = Some(Source::new(ask));
        self
    }

    /// Sets what links to `wss:` addresses trust, and which certificate the client shows, in place
    /// of trusting the certificates of the system. [`rustls`] is exported for this.
    #[cfg(feature = "rustls")]
    pub fn tls(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Makes the client. It dials at once, and again until it is closed:
    /// [`Client::status`] tells how that goes.
    ///
    /// # Errors
    /// When the address or a header has no meaning. [`ConnectError::NoTls`] when the address begins
    /// with `wss:` and the feature `rustls` is missing.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect(self) -> Result<Client, ConnectError> {
        let credentials = self.credentials.clone();
        let destination = self.destination()?;
        let mut random = [[0; 8]; 3];
        for bytes in &mut random {
            getrandom::fill(bytes).map_err(|error| ConnectError::Random(error.into()))?;
        }
        let (commands, queue) = mpsc::unbounded_channel();
        let (sender, status) = watch::channel(Status::Connecting);
        let random = random.map(u64::from_ne_bytes);
        let driver = Driver::new(destination, credentials, random, queue, sender);
        let task = tokio::spawn(driver.run());
        Ok(Client { commands, status, last: AtomicU32::new(0), task })
    }

    #[cfg(not(feature = "rustls"))]
    fn destination(self) -> Result<Destination, ConnectError> {
        Destination::new(&self.url, &self.headers)
    }

    #[cfg(feature = "rustls")]
    fn destination(self) -> Result<Destination, ConnectError> {
        let mut destination = Destination::new(&self.url, &self.headers)?;
        destination.set_tls(self.tls)?;
        Ok(destination)
    }
}

impl Client {
    /// Begins to make a client of the server at this address, such as `ws://127.0.0.1:3000`. An
    /// address without a path gets `/tabmux/ws`.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder {
            url: url.into(),
            headers: Vec::new(),
            credentials: None,
            #[cfg(feature = "rustls")]
            tls: None,
        }
    }

    /// Makes a client without headers of its own. See [`Builder::connect`].
    ///
    /// # Errors
    /// As for [`Builder::connect`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect(url: impl Into<String>) -> Result<Self, ConnectError> {
        Self::builder(url).connect()
    }

    /// Opens a virtual socket. `target` is path and query, and `protocols` are the sub-protocols
    /// offered, best first. Waits for the link and for the server. To wait less, drop the future:
    /// the socket is then closed.
    ///
    /// # Errors
    /// When the server refuses it, or a dial fails meanwhile.
    pub async fn open(&self, target: &str, protocols: &[&str]) -> Result<Socket, OpenError> {
        let (socket, shared) = (self.number(), Arc::new(Shared::new()));
        let command = Command::Open {
            socket,
            path: target.to_owned(),
            protocols: protocols.iter().copied().map(str::to_owned).collect(),
            shared: Arc::clone(&shared),
        };
        self.commands.send(command).map_err(|_| OpenError::Closed)?;
        Socket::opened(socket, shared, self.commands.clone()).await
    }

    /// Subscribes to a topic. Its first event says where the topic is.
    pub fn subscribe(&self, name: &str) -> Topic {
        let (number, inbox) = (self.number(), Inbox::new());
        let (name, commands) = (name.to_owned(), self.commands.clone());
        let command = Command::Subscribe { topic: number, name, inbox: inbox.clone() };
        if self.commands.send(command).is_err() {
            inbox.end();
        }
        Topic { number, inbox, commands }
    }

    /// Returns what the server says to all tabs of the browser, and to this client alone, from now
    /// on.
    pub fn broadcasts(&self) -> Broadcasts {
        let inbox = Inbox::<BrowserEvent>::new();
        if self.commands.send(Command::Listen { inbox: inbox.clone() }).is_err() {
            inbox.end();
        }
        Broadcasts { inbox }
    }

    /// Returns how the link is, now and whenever it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Shows the server newer credentials at once, on the link that is open. Those of another user
    /// are refused, and change nothing. A client that was refused for good dials again if its
    /// credentials are others now.
    pub fn renew(&self) {
        // A client that is closed has none.
        let _ = self.commands.send(Command::Renew);
    }

    /// Ends the client with all its sockets and topics. Returns when the link is closed, after 2 s
    /// at most.
    pub async fn close(self) {
        // Where that fails it is closed already.
        let _ = self.commands.send(Command::End);
        let _ = self.task.await;
    }

    fn number(&self) -> u32 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_builder_shows_has_no_secrets() {
        let builder = Client::builder("ws://a/b?token=s3cret").header("cookie", "session=s3cret");
        let shown = format!("{builder:?}");
        assert!(shown.contains("cookie") && shown.contains("ws://a/b"), "{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
