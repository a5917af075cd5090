//! The tabmux wire format, versions 1 and 2: the frames that a hub and a server send each other on
//! a link.
//!
//! One frame is one binary WebSocket message. Its first byte is the frame type. A header of varints
//! follows. Some frames end with a payload, which reaches to the end of the message and is never
//! changed. `PROTOCOL.md` at the root of the repository describes every byte.
//!
//! The encoding is canonical: a frame has exactly one encoding, and [`HubFrame::decode`] and
//! [`ServerFrame::decode`] refuse any other. For any bytes, either decoding fails with a
//! [`DecodeError`], or encoding the decoded frame gives the same bytes back.
//!
//! ```
//! use tabmux_wire::{HubFrame, TabId};
//!
//! let mut bytes = Vec::new();
//! HubFrame::Attach { tab: TabId(7), last: 0 }.encode(&mut bytes);
//! assert_eq!(HubFrame::decode(&bytes), Ok(HubFrame::Attach { tab: TabId(7), last: 0 }));
//! ```
//!
//! The crate has no IO, no clock, no randomness, no dependency and no `unsafe`.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

mod call;
mod code;
mod codec;
mod denial;
mod error;
mod frame_type;
mod hello;
mod hub_frame;
mod id;
mod limit;
mod presence;
mod server_frame;
mod subscription;
mod welcome;

pub use self::{
    call::{CaughtUp, Publish, Recover, Recovered, Rejected, Reply, Request},
    code::{Audience, ErrorCode, Feature, GoAwayReason, RefusedReason, UnsubscribedReason, close},
    codec::{Put, Reader},
    denial::{Denied, Dismissed, Standing},
    error::DecodeError,
    frame_type::{FRAME_TYPES, FrameType, RELIABLE, Sender},
    hello::{Hello, Resume},
    hub_frame::{HubFrame, Upstream},
    id::{
        Alias, HubId, LaneCount, Payload, Position, SessionId, SocketId, TabId, Term, Token,
        TopicId,
    },
    limit::{
        MAX_ACK_ENTRIES, MAX_CREDENTIALS, MAX_FEATURES, MAX_KEY, MAX_MESSAGE_TEXT, MAX_METADATA,
        MAX_METHOD, MAX_PATH, MAX_PRESENCE_ENTRIES, MAX_PROTOCOL, MAX_PROTOCOLS, MAX_REASON,
        MAX_TAG, MAX_TARGET, MAX_TICKET, MAX_TOPIC_NAME, MAX_USER, MAX_WELCOME_TABS, MESSAGE_COST,
        message_cost,
    },
    presence::{Member, Presence, Present},
    server_frame::ServerFrame,
    subscription::{Subscribed, Unsubscribed},
    welcome::{IdentityTag, Limits, Welcome, WelcomeTab, WelcomeTail},
};

/// The oldest version of the wire format that this crate speaks.
pub const OLDEST_VERSION: u32 = 1;

/// The newest version of the wire format that this crate speaks.
pub const NEWEST_VERSION: u32 = 2;

/// The six bytes after the type byte of HELLO and WELCOME. They tell a tabmux peer from any other.
pub const MAGIC: [u8; 6] = *b"tabmux";
