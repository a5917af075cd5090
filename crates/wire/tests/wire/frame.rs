//! A frame of either direction, so that one test serves both.

use tabmux_wire::{DecodeError, FRAME_TYPES, HubFrame, Sender, ServerFrame};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Hub(HubFrame<'a>),
    Server(ServerFrame<'a>),
}

impl<'a> Frame<'a> {
    pub(crate) fn decode(sender: Sender, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        match sender {
            Sender::Hub => HubFrame::decode(bytes).map(Self::Hub),
            Sender::Server => ServerFrame::decode(bytes).map(Self::Server),
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Hub(frame) => frame.to_bytes(),
            Self::Server(frame) => frame.to_bytes(),
        }
    }

    pub(crate) const fn sender(&self) -> Sender {
        match self {
            Self::Hub(_) => Sender::Hub,
            Self::Server(_) => Sender::Server,
        }
    }

    /// Returns the frame's name in the table of frame types.
    pub(crate) fn name(&self) -> &'static str {
        let code = match self {
            Self::Hub(frame) => frame.code(),
            Self::Server(frame) => frame.code(),
        };
        FRAME_TYPES.iter().find(|row| row.code == code).map_or("UNKNOWN", |row| row.name)
    }
}

impl<'a> From<HubFrame<'a>> for Frame<'a> {
    fn from(frame: HubFrame<'a>) -> Self {
        Self::Hub(frame)
    }
}

impl<'a> From<ServerFrame<'a>> for Frame<'a> {
    fn from(frame: ServerFrame<'a>) -> Self {
        Self::Server(frame)
    }
}

/// Asserts that the bytes are an error, or exactly what their frame encodes to.
pub(crate) fn assert_consistent(bytes: &[u8]) {
    for sender in [Sender::Hub, Sender::Server] {
        if let Ok(frame) = Frame::decode(sender, bytes) {
            assert_eq!(frame.to_bytes(), bytes, "{frame:?}");
        }
    }
}

/// Asserts that a frame survives the way to bytes and back.
pub(crate) fn assert_accepted<'a>(frame: impl Into<Frame<'a>>) {
    let frame = frame.into();
    let bytes = frame.to_bytes();
    assert_eq!(Frame::decode(frame.sender(), &bytes).as_ref(), Ok(&frame));
}

/// Asserts that a frame's bytes are refused.
pub(crate) fn assert_refused<'a>(frame: impl Into<Frame<'a>>, why: DecodeError) {
    let frame = frame.into();
    let bytes = frame.to_bytes();
    assert_eq!(Frame::decode(frame.sender(), &bytes), Err(why));
}
