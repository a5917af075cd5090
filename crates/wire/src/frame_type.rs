//! The table of frame types. `cargo xtask tidy` compares it with PROTOCOL.md.

/// The bit of the type byte that marks a reliable frame, which is counted in its lane. A peer that
/// does not know the type can still count the frame.
pub const RELIABLE: u8 = 0x80;

/// The end of a link that sends a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The hub in the browser.
    Hub,
    /// The server of the link.
    Server,
}

/// One row of the table of frame types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameType {
    /// The type byte, with its [`RELIABLE`] bit.
    pub code: u8,
    /// The name used in PROTOCOL.md and in logs.
    pub name: &'static str,
    /// The end that may send it.
    pub sender: Sender,
    /// The version that brought it. A peer sends it only on links of that version or a later one.
    pub since: u32,
}

macro_rules! frame_types {
    ($(since $since:literal { $($sender:ident $name:ident = $code:literal,)* })*) => {
        /// All frame types of this release.
        pub const FRAME_TYPES: &[FrameType] = &[$($(
            FrameType {
                code: $code,
                name: stringify!($name),
                sender: Sender::$sender,
                since: $since,
            },
        )*)*];

        pub(crate) mod hub { frame_types!(@of Hub $($($sender $name $code)*)*); }
        pub(crate) mod server { frame_types!(@of Server $($($sender $name $code)*)*); }
    };
    (@of $want:ident) => {};
    (@of Hub Hub $name:ident $code:literal $($rest:tt)*) => {
        pub(crate) const $name: u8 = $code;
        frame_types!(@of Hub $($rest)*);
    };
    (@of Server Server $name:ident $code:literal $($rest:tt)*) => {
        pub(crate) const $name: u8 = $code;
        frame_types!(@of Server $($rest)*);
    };
    (@of $want:ident $other:ident $name:ident $code:literal $($rest:tt)*) => {
        frame_types!(@of $want $($rest)*);
    };
}

frame_types! {
    since 1 {
        Hub HELLO = 0x01,
        Hub ATTACH = 0x02,
        Hub PARK = 0x03,
        Hub GONE = 0x04,
        Hub SUSPEND = 0x05,
        Hub ACK = 0x06,
        Hub PING = 0x07,
        Hub SUBSCRIBE = 0x08,
        Hub UNSUBSCRIBE = 0x09,
        Hub OPEN = 0x90,
        Hub DATA_TEXT = 0x91,
        Hub DATA_BINARY = 0x92,
        Hub CLOSE = 0x93,
        Hub CREDIT = 0x94,
        Server WELCOME = 0x41,
        Server ATTACHED = 0x42,
        Server FENCED = 0x43,
        Server REFUSED = 0x44,
        Server GO_AWAY = 0x45,
        Server ACK = 0x46,
        Server PONG = 0x47,
        Server SUBSCRIBED = 0x48,
        Server UNSUBSCRIBED = 0x49,
        Server ERROR = 0x4a,
        Server OPENED = 0xd0,
        Server DATA_TEXT = 0xd1,
        Server DATA_BINARY = 0xd2,
        Server CLOSE = 0xd3,
        Server CREDIT = 0xd4,
        Server MESSAGE_TEXT = 0xe0,
        Server MESSAGE_BINARY = 0xe1,
        Server PUBLICATION_TEXT = 0xe2,
        Server PUBLICATION_BINARY = 0xe3,
        Server GAP = 0xe4,
    }
    since 2 {
        Hub CREDENTIALS = 0x0a,
        Hub PRESENCE = 0x0b,
        Hub END = 0x0c,
        Hub OPEN_TICKET = 0x95,
        Hub REQUEST_TEXT = 0x96,
        Hub REQUEST_BINARY = 0x97,
        Hub CANCEL = 0x98,
        Hub PUBLISH_TEXT = 0x99,
        Hub PUBLISH_BINARY = 0x9a,
        Hub RECOVER = 0x9b,
        Server GO_AWAY_TO = 0x4b,
        Server DENIED = 0x4c,
        Server CREDENTIALS = 0x4d,
        Server DISMISSED = 0x4e,
        Server COMING = 0x4f,
        Server TICKET = 0x50,
        Server REJECTED = 0xd5,
        Server REPLY_TEXT = 0xd6,
        Server REPLY_BINARY = 0xd7,
        Server PUBLISHED = 0xd8,
        Server RECOVERED_TEXT = 0xd9,
        Server RECOVERED_BINARY = 0xda,
        Server CAUGHT_UP = 0xdb,
        Server PRESENCE = 0xe5,
        Server DIRECT_TEXT = 0xe6,
        Server DIRECT_BINARY = 0xe7,
    }
}

/// Returns true if an unknown type byte may be a later version's frame from this sender. Types of a
/// hub have bit 6 clear, and types of a server have it set. A byte whose low six bits are 0 is no
/// type.
pub(crate) const fn may_be_from(code: u8, sender: Sender) -> bool {
    let from_server = code & 0x40 != 0;
    code & 0x3f != 0 && from_server == matches!(sender, Sender::Server)
}
