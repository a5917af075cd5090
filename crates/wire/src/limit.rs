//! Limits that hold for every peer, whatever its configuration. Those of version 1 come first.
//!
//! The length of a whole message is not among them: it is the server's to choose, told in
//! WELCOME, and enforced by whoever reads the WebSocket, before decoding.

/// Bytes of a virtual socket's path with its query.
pub const MAX_PATH: usize = 4096;
/// Sub-protocols offered by one OPEN.
pub const MAX_PROTOCOLS: usize = 32;
/// Bytes of one sub-protocol name.
pub const MAX_PROTOCOL: usize = 256;
/// What a message costs of its socket's credit besides the bytes of its payload: empty ones take
/// room too.
pub const MESSAGE_COST: u64 = 64;

/// What a message with so many bytes of payload costs of its socket's credit.
pub const fn message_cost(len: usize) -> u64 {
    MESSAGE_COST.saturating_add(len as u64)
}

/// Bytes of a close reason, the limit of RFC 6455 section 5.5.
pub const MAX_REASON: usize = 123;
/// Bytes of the text in REFUSED, UNSUBSCRIBED and ERROR.
pub const MAX_MESSAGE_TEXT: usize = 1024;
/// Bytes of the credentials in HELLO.
pub const MAX_CREDENTIALS: usize = 8192;
/// Bytes of a topic's name.
pub const MAX_TOPIC_NAME: usize = 256;
/// Entries of each list in ACK; longer news takes several.
pub const MAX_ACK_ENTRIES: usize = 1024;
/// Tabs listed in WELCOME.
pub const MAX_WELCOME_TABS: usize = 1024;

// Since version 2.

/// Bytes of the ticket in OPEN_TICKET.
pub const MAX_TICKET: usize = 128;
/// Bytes of the name of a request's method.
pub const MAX_METHOD: usize = 256;
/// Bytes of an idempotency key.
pub const MAX_KEY: usize = 128;
/// Bytes of the name of a node in DENIED and GO_AWAY_TO.
pub const MAX_TARGET: usize = 256;
/// Bytes of an identity tag.
pub const MAX_TAG: usize = 64;
/// Features listed in WELCOME.
pub const MAX_FEATURES: usize = 64;
/// Bytes of a user's name in PRESENCE.
pub const MAX_USER: usize = 256;
/// Bytes of what a tab or a user tells of itself in PRESENCE.
pub const MAX_METADATA: usize = 1024;
/// Entries of each list in PRESENCE; longer news takes several.
pub const MAX_PRESENCE_ENTRIES: usize = 256;
