//! Limits that hold for every peer, whatever its configuration. Those of version 1 come first.
//!
//! The length of a whole message is not among them. The server chooses it and tells it in WELCOME.
//! The reader of the WebSocket enforces it before it decodes a frame.

/// Largest size of a virtual socket's path with its query, in bytes.
pub const MAX_PATH: usize = 4096;
/// Largest number of sub-protocols that one OPEN offers.
pub const MAX_PROTOCOLS: usize = 32;
/// Largest size of the name of one sub-protocol, in bytes.
pub const MAX_PROTOCOL: usize = 256;
/// Credit that a message costs besides the bytes of its payload. It is there because empty messages
/// take memory too.
pub const MESSAGE_COST: u64 = 64;

/// Returns the credit of its socket that a message with `len` bytes of payload costs.
pub const fn message_cost(len: usize) -> u64 {
    MESSAGE_COST.saturating_add(len as u64)
}

/// Largest size of a close reason, in bytes. RFC 6455 section 5.5 sets it.
pub const MAX_REASON: usize = 123;
/// Largest size of the text in REFUSED, UNSUBSCRIBED, ERROR, DENIED, CREDENTIALS, DISMISSED and
/// REJECTED, in bytes.
pub const MAX_MESSAGE_TEXT: usize = 1024;
/// Largest size of the credentials in HELLO and CREDENTIALS, in bytes.
pub const MAX_CREDENTIALS: usize = 8192;
/// Largest size of a topic's name, in bytes.
pub const MAX_TOPIC_NAME: usize = 256;
/// Largest number of entries of each list in ACK. A peer that has more to acknowledge sends several
/// ACKs.
pub const MAX_ACK_ENTRIES: usize = 1024;
/// Largest number of tabs that WELCOME lists.
pub const MAX_WELCOME_TABS: usize = 1024;

// The limits below hold since version 2.

/// Largest size of the ticket in OPEN_TICKET and TICKET, in bytes.
pub const MAX_TICKET: usize = 128;
/// Largest size of the name of a request's method, in bytes.
pub const MAX_METHOD: usize = 256;
/// Largest size of an idempotency key, in bytes.
pub const MAX_KEY: usize = 128;
/// Largest size of the name of a node in DENIED and GO_AWAY_TO, in bytes.
pub const MAX_TARGET: usize = 256;
/// Largest size of an identity tag, in bytes.
pub const MAX_TAG: usize = 64;
/// Largest number of features that WELCOME lists.
pub const MAX_FEATURES: usize = 64;
/// Largest size of a user's name in PRESENCE, in bytes.
pub const MAX_USER: usize = 256;
/// Largest size of the metadata of a browser or a user in PRESENCE, in bytes.
pub const MAX_METADATA: usize = 1024;
/// Largest number of entries of each list in PRESENCE. A server that has more to tell sends several
/// frames.
pub const MAX_PRESENCE_ENTRIES: usize = 256;
