//! Errors of the client. Each says who is at fault.

use std::{fmt, io};

use tokio_tungstenite::tungstenite;

use crate::Ended;

/// The reason why a client could not be made. The caller is at fault, or the system for
/// [`Self::Random`] and [`Self::Tls`]. No server was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is no address of a WebSocket.
    Url {
        /// The address that the caller gave.
        url: String,
        /// The reason why it is invalid.
        source: tungstenite::Error,
    },
    /// The header has an invalid name or value.
    Header {
        /// The name of the header.
        name: String,
    },
    /// The address begins with `wss:`, and this crate was built without its feature `rustls`.
    NoTls {
        /// The address that the caller gave.
        url: String,
    },
    /// The system trusts no certificate, or its cryptography lacks something that TLS needs.
    Tls(String),
    /// The system could not provide random bytes.
    Random(io::Error),
}

/// The reason why a socket could not be opened: the server refused it, or could not be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The server or the network is at fault. The text says which.
    Failed {
        /// The close code with which the server's handler refused the socket, from 3000 to 4999. It
        /// is 1006 if there was none.
        code: u16,
        /// A text that says what failed.
        message: String,
    },
    /// The caller closed the client.
    Closed,
}

/// The reason why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The socket is closed. [`Socket::ended`](crate::Socket::ended) says by whom.
    Closed,
}

impl OpenError {
    pub(crate) fn of(ended: &Ended) -> Self {
        let message = match (&*ended.error, &*ended.reason) {
            ("", "") => format!("the socket was closed with {}", ended.code),
            ("", reason) => format!("the socket was closed with {}: {reason}", ended.code),
            (error, _) => error.to_owned(),
        };
        Self::Failed { code: ended.code, message }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { url, source } => {
                write!(f, "{url:?} is no address such as ws://host/tabmux/ws: {source}")
            }
            Self::Header { name } => write!(f, "the header {name:?} cannot be sent"),
            Self::NoTls { url } => {
                write!(f, "{url:?} needs TLS: enable the feature `rustls` of tabmux-client")
            }
            Self::Tls(message) => f.write_str(message),
            Self::Random(error) => write!(f, "the system has no random bytes: {error}"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Url { source, .. } => Some(source),
            Self::Random(source) => Some(source),
            Self::Header { .. } | Self::NoTls { .. } | Self::Tls(_) => None,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { message, .. } => f.write_str(message),
            Self::Closed => f.write_str("the client is closed"),
        }
    }
}

impl std::error::Error for OpenError {}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the socket is closed"),
        }
    }
}

impl std::error::Error for SendError {}
