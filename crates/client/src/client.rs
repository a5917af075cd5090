//! The client, its builder and its status.

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
    Broadcasts, BrowserEvent, ConnectError, OpenError, Position, Socket, Topic,
    credentials::Source,
    destination::Destination,
    driver::{Command, Driver},
    inbox::Inbox,
    socket::Shared,
};

/// A link to a tabmux server. It dials again when it breaks and resumes its session.
///
/// To the server a client is a browser with one tab. Its task runs until the client and all of its
/// sockets and topics are dropped, or until [`close`](Self::close).
#[derive(Debug)]
pub struct Client {
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<Status>,
    /// The number that was given to the last socket or topic. Both are numbered from one sequence.
    last: AtomicU32,
    task: JoinHandle<()>,
}

/// Options of a client that is not connected yet. [`Client::builder`] returns one.
#[derive(Clone)]
#[must_use]
pub struct Builder {
    url: String,
    headers: Vec<(String, String)>,
    credentials: Option<Source>,
    #[cfg(feature = "rustls")]
    tls: Option<Arc<rustls::ClientConfig>>,
}

/// The state of a client's link.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// The link is being opened.
    Connecting,
    /// The link is open and welcomed.
    Connected,
    /// The link failed, and the client dials again soon.
    Backoff {
        /// The reason for the failure.
        reason: String,
    },
    /// The link works, but the server has no room for this client, or has sent it away for a time.
    /// Sockets fail until that is over.
    Full {
        /// The reason that the server gave.
        reason: String,
    },
    /// The server refused the client, or sent it away, for good. The client does not dial again by
    /// itself. Its sockets fail.
    Refused {
        /// The reason that the server gave.
        reason: String,
    },
    /// The application closed the client.
    Closed {
        /// The reason why the client ended.
        reason: String,
    },
}

/// Prints the names of headers, but not their values, which may be secrets. Prints no query.
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

    /// Gives the client credentials to show to the server, such as a token. The client calls the
    /// function before each dial, and again before the credentials expire, as the server says. If
    /// the function fails, the client tries again later. Credentials have at most 8,192 bytes.
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

    /// Sets the TLS configuration of links to `wss:` addresses: the certificates that they trust,
    /// and the certificate that the client shows. Without it they trust the certificates of the
    /// system. The crate exports [`rustls`] for this.
    #[cfg(feature = "rustls")]
    pub fn tls(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Makes the client. It dials at once, and dials again whenever the link breaks, until it is
    /// closed. [`Client::status`] shows the state of the link.
    ///
    /// # Errors
    /// Returns an error if the address or a header is invalid, and [`ConnectError::NoTls`] if the
    /// address begins with `wss:` and the feature `rustls` is missing.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
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
    /// Returns a builder for a client of the server at this address, such as `ws://127.0.0.1:3000`.
    /// An address without a path gets `/tabmux/ws`.
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
    /// Returns the same errors as [`Builder::connect`].
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    pub fn connect(url: impl Into<String>) -> Result<Self, ConnectError> {
        Self::builder(url).connect()
    }

    /// Opens a virtual socket. `target` is the path with its query. `protocols` are the
    /// sub-protocols that the client offers, best first. The future waits for the link and for the
    /// server. To wait for less time, drop the future: the client then closes the socket.
    ///
    /// # Errors
    /// Returns an error if the server refuses the socket, or if a dial fails while it waits.
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

    /// Subscribes to a topic, from now on. The first event tells the topic's position.
    pub fn subscribe(&self, name: &str) -> Topic {
        self.subscribe_from(name, None)
    }

    /// Subscribes to a topic that the application left at a position. Everything after that comes,
    /// or is told as [`TopicEvent::Gap`](crate::TopicEvent::Gap).
    ///
    /// ```no_run
    /// # async fn run(client: tabmux_client::Client, last: tabmux_client::Position) {
    /// let mut prices = client.subscribe_since("prices", last);
    /// while let Some(event) = prices.next().await {
    ///     println!("{event:?}");
    /// }
    /// # }
    /// ```
    pub fn subscribe_since(&self, name: &str, since: Position) -> Topic {
        self.subscribe_from(name, Some(since))
    }

    fn subscribe_from(&self, name: &str, since: Option<Position>) -> Topic {
        let (number, inbox) = (self.number(), Inbox::new());
        let (name, commands) = (name.to_owned(), self.commands.clone());
        let command = Command::Subscribe { topic: number, name, since, inbox: inbox.clone() };
        if self.commands.send(command).is_err() {
            inbox.end();
        }
        Topic { number, inbox, commands }
    }

    /// Returns the messages that the server sends from now on to all tabs of the browser, or to
    /// this client alone.
    pub fn broadcasts(&self) -> Broadcasts {
        let inbox = Inbox::<BrowserEvent>::new();
        if self.commands.send(Command::Listen { inbox: inbox.clone() }).is_err() {
            inbox.end();
        }
        Broadcasts { inbox }
    }

    /// Returns a receiver of the link's state, now and whenever it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Asks the application for newer credentials at once, and shows them on the open link.
    /// Credentials of another user are refused, and change nothing. A client that was refused for
    /// good dials again if its credentials have changed.
    pub fn renew(&self) {
        // Sending fails only if the client is closed, which then has no credentials to renew.
        let _ = self.commands.send(Command::Renew);
    }

    /// Ends the client with all its sockets and topics. Returns when the link is closed, after at
    /// most 2 s.
    pub async fn close(self) {
        // Sending fails only if the client is closed already.
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
