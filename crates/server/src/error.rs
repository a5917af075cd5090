//! What can go wrong before a server runs, and what ends one that does.

use std::{fmt, io, net::SocketAddr, path::PathBuf};

use tabmux_core::session::BadTopicName;

/// Why a server could not be built or run. The text is for the operator and says what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A setting has no meaning: whoever made the configuration is at fault.
    Config(String),
    /// A configuration file could not be read, or has a mistake: the operator is at fault.
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// Why, with the name of the key at fault.
        message: String,
    },
    /// Another program listens on the address: the operator chooses which of the two has it.
    AddressInUse {
        /// The address.
        address: SocketAddr,
        /// The key of the configuration that names it: `listen` or `metrics_listen`.
        key: &'static str,
    },
    /// The address cannot be listened on: it is none of this machine, or needs rights.
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A shard failed, by its number: tabmux or the system is at fault. The links of the other
    /// shards were sent away.
    Shard(usize),
    /// The server is gone. Nobody is at fault.
    Gone,
    /// The system failed.
    Io(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(message) => f.write_str(message),
            Self::ConfigFile { path, message } => write!(f, "{}: {message}", path.display()),
            Self::AddressInUse { address, key: "listen" } => write!(
                f,
                "{address} is already in use; stop the other program or choose another port \
                 with --listen"
            ),
            Self::AddressInUse { address, key } => write!(
                f,
                "{address} of {key} is already in use; stop the other program or choose another \
                 port"
            ),
            Self::Listen { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Self::Shard(shard) => write!(
                f,
                "shard {shard} failed, as the log says, and its sessions are lost; start the \
                 server again"
            ),
            Self::Gone => f.write_str("the server is gone"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen { source, .. } | Self::Io(source) => Some(source),
            Self::Config(_)
            | Self::ConfigFile { .. }
            | Self::AddressInUse { .. }
            | Self::Shard(_)
            | Self::Gone => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Why a publication was not published. No browser is ever at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The name is not one of a topic: it has 1 to 256 bytes. The publisher is at fault.
    Name,
    /// The message is larger than `limits.message_bytes`, of which the frame takes up to 48. The
    /// publisher is at fault.
    TooLarge,
    /// More waits for the shards, or for the broker, than `limits.inbox_bytes`: they are
    /// overloaded. Trying again is of use.
    Full,
    /// The broker did not take it, and says why. Trying again may be of use.
    Broker(String),
    /// The server is gone. Nobody is at fault.
    Closed,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => return BadTopicName.fmt(f),
            Self::TooLarge => "the message is larger than limits.message_bytes",
            Self::Broker(why) => return write!(f, "the broker did not take it: {why}"),
            Self::Full => "too much waits for the shards; try again",
            Self::Closed => "the server is gone",
        })
    }
}

impl std::error::Error for PublishError {}
