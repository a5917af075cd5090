//! How a virtual socket and its upstream end, and what each of the two is told.

use tabmux_core::wire::close;
use tokio_tungstenite::tungstenite::{
    Error,
    error::{CapacityError, ProtocolError},
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use tracing::debug;

/// What tungstenite makes of a close frame whose code may not be sent. The browser's WebSocket
/// fails the connection then.
const BAD_CLOSE: &str = "Protocol violation";
/// What the page reads of an upstream whose messages are none.
const BROKE_RULES: &str = "the server behind this path broke the rules of WebSocket";

/// What ended one of the two.
pub(super) enum End {
    /// The virtual socket is closed.
    Tab,
    /// The upstream closed, with code and reason.
    Upstream(Option<CloseFrame>),
    /// The upstream broke, or broke the rules.
    Broken(Error),
    /// The page has been in the back/forward cache for too long.
    Parked,
    /// The server is about to end.
    Stopped,
}

/// What is to be said at each end.
pub(super) struct Closes {
    /// Code and reason for the tab, if it is still there.
    pub(super) tab: Option<(u16, String)>,
    pub(super) upstream: Goodbye,
}

/// What remains to be done at an upstream.
pub(super) enum Goodbye {
    /// It is closed, without a code if there is no frame, and ends the connection then.
    Say(Option<CloseFrame>),
    /// It closed, and ends the connection after the answer.
    Hear,
    /// The connection is broken.
    None,
}

impl End {
    /// Returns what is to be said at each end. `tab` returns code and reason with which the virtual
    /// socket was closed, if it is.
    pub(super) fn closes(self, tab: impl FnOnce() -> Option<(u16, String)>) -> Closes {
        let tell = |code, reason: &str| Some((code, reason.to_owned()));
        match self {
            Self::Tab => {
                let upstream = tab().map_or_else(going_away, |(code, reason)| said(code, &reason));
                Closes { tab: None, upstream }
            }
            // The tab sees what it would of a connection that did not outlive the cache.
            Self::Parked => Closes { tab: tell(close::ABNORMAL, ""), upstream: going_away() },
            Self::Stopped => Closes { tab: tell(close::GOING_AWAY, ""), upstream: going_away() },
            Self::Upstream(frame) => {
                let tab = match &frame {
                    None => tell(close::NO_STATUS, ""),
                    Some(frame) if is_bad(frame) => tell(close::ABNORMAL, BROKE_RULES),
                    Some(frame) => tell(frame.code.into(), &frame.reason),
                };
                Closes { tab, upstream: Goodbye::Hear }
            }
            Self::Broken(error) => broken(&error),
        }
    }
}

/// Returns what is said where an upstream broke, or broke the rules.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library adds errors")]
fn broken(error: &Error) -> Closes {
    debug!("an upstream broke: {error}");
    let (code, reason) = match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            (close::TOO_BIG, "the server sent a message larger than its limit")
        }
        // A browser says `error` of a connection that it fails, and not of one that breaks.
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => (close::ABNORMAL, ""),
        Error::Protocol(_) | Error::Utf8(_) => (close::ABNORMAL, BROKE_RULES),
        _ => (close::ABNORMAL, ""),
    };
    let tab = Some((code, reason.to_owned()));
    let code = match error {
        Error::Capacity(_) => CloseCode::Size,
        Error::Utf8(_) => CloseCode::Invalid,
        Error::Protocol(_) => CloseCode::Protocol,
        _ => return Closes { tab, upstream: Goodbye::None },
    };
    Closes { tab, upstream: Goodbye::Say(Some(CloseFrame { code, reason: "".into() })) }
}

/// Returns the goodbye that says how a virtual socket was closed.
pub(super) fn said(code: u16, reason: &str) -> Goodbye {
    match code {
        close::NO_STATUS => Goodbye::Say(None),
        // Browsers say this of a page that goes.
        close::ABNORMAL => going_away(),
        code => Goodbye::Say(Some(CloseFrame { code: code.into(), reason: reason.into() })),
    }
}

/// Returns the goodbye of a page that goes.
pub(super) fn going_away() -> Goodbye {
    Goodbye::Say(Some(CloseFrame { code: CloseCode::Away, reason: "".into() }))
}

fn is_bad(frame: &CloseFrame) -> bool {
    frame.code == CloseCode::Protocol && frame.reason.as_str() == BAD_CLOSE
}
