//! What a registry holds its peers to.

use std::time::Duration;

use tabmux_wire::Limits;

use super::{Pace, account::AccountLimits};

/// How long after a PING was due a link may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Defines the configuration. The value of a field is its default, and stands in its documentation.
macro_rules! config {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr;)+) => {
        /// The configuration of a [`Registry`](super::Registry). Every limit has a default.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct SessionConfig {$(
            $(#[doc = $doc])+
            #[doc = concat!("Default: `", stringify!($default), "`.")]
            pub $field: $type,
        )+}

        impl Default for SessionConfig {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }
    };
}

config! {
    /// Links of this registry.
    links: usize = 65_536;
    /// Tabs of one session.
    tabs: u32 = 64;
    /// Virtual sockets of one tab.
    sockets: u32 = 256;
    /// Topics that one browser may be subscribed to.
    subscriptions: u32 = 1_024;
    /// Bytes of one message on the link, either way. The shell enforces it on what it reads,
    /// before decoding.
    message_bytes: usize = 1 << 20;
    /// Bytes sent on a link and not yet written; beyond it, messages are refused with
    /// [`SendError::Full`](super::SendError::Full).
    queue_bytes: usize = 1 << 20;
    /// Bytes that answers (PONG, ERROR, CLOSE, …) may add to a full queue. A hub that makes
    /// the server answer and never reads is closed here.
    control_bytes: usize = 256 << 10;
    /// Bytes sent on a link and not yet written, from which on publications wait uncounted, so
    /// that the policy of their topic can still drop them.
    window_bytes: usize = 64 << 10;
    /// Bytes of publications that may wait for one hub to read or to acknowledge. Beyond it,
    /// the policy of their topic acts. A burst must fit, since no hub can acknowledge within
    /// the turn in which it is sent.
    backlog_bytes: usize = 1 << 20;
    /// Bytes of memory that browsers may make all registries of the server keep. The account that
    /// holds the most pays, and those that hold half as much: from six eighths of the limit on its
    /// publications follow the policies of their topics, from seven its messages are refused, and
    /// at the limit its largest sessions end.
    memory_bytes: usize = 512 << 20;
    /// Bytes of memory that each session may have, whatever others hold.
    minimum_bytes: usize = 1 << 10;
    /// What the sessions of one user may have together.
    per_user: AccountLimits = AccountLimits {
        bytes: 64 << 20, detached: 400, subscriptions: 16_384, topics: 4_096
    };
    /// What the sessions of nobody that come from one address may have together.
    per_address: AccountLimits = AccountLimits {
        bytes: 128 << 20, detached: 4_096, subscriptions: 65_536, topics: 16_384
    };
    /// When a hub whose subscription ended because it did not read may subscribe again.
    slow_retry: Duration = Duration::from_secs(1);
    /// How fast a link may be read. The shell keeps to it.
    pace: Pace = Pace { messages_per_s: 10_000, bytes_per_s: 16 << 20 };
    /// How long a link may take to say HELLO.
    handshake_timeout: Duration = Duration::from_secs(10);
    /// How often a hub sends PING; a link of which no byte came for 10 s more is closed.
    heartbeat: Duration = Duration::from_secs(25);
    /// How long a link lives on after SUSPEND.
    suspend_timeout: Duration = Duration::from_secs(10);
    /// When a hub that was refused for a limit may try again.
    retry_after: Duration = Duration::from_secs(5);
    /// How long the shell may take to answer a question, and after each reply to give the next.
    ask_timeout: Duration = Duration::from_secs(30);
    /// Questions of one browser that may be open; at most 65,535.
    asks: usize = 1_024;
    /// Bytes of requests of one browser that may wait for their answers.
    ask_bytes: usize = 1 << 20;
    /// The shell takes requests of tabs. WELCOME tells hubs so.
    requests: bool = false;
    /// The shell knows users. WELCOME tells hubs so, and whose the link is.
    users: bool = false;
    /// The shell judges credentials: those in HELLO, and those that renew them. WELCOME tells hubs
    /// so. Without it, credentials in HELLO are ignored.
    credentials: bool = false;
    /// Whether the shell is asked for each subscription.
    ask_subscriptions: bool = false;
    /// Whether the shell is asked what came of a topic while a browser was away. Without it, a
    /// browser that left a topic elsewhere is told that publications are missing.
    history: bool = false;
    /// Bytes of publications that the shell is asked for at a time, for a browser that was away.
    recall_bytes: usize = 32 << 10;
    /// Unacknowledged bytes of one lane, told in WELCOME. A message is refused with
    /// [`SendError::Full`](super::SendError::Full) if it would be more, publications wait.
    lane_bytes: usize = 256 << 10;
    /// Unacknowledged bytes of lane 0 and of the lanes of attached tabs, told in WELCOME.
    session_bytes: usize = 1 << 20;
    /// Unacknowledged bytes of the lanes of a session's absent tabs: parked ones, and those
    /// that have not attached since the link broke. A budget of their own, so that what nobody
    /// can acknowledge takes no room from who is there. As much as `session_bytes`, since a
    /// broken link makes all tabs absent.
    absent_bytes: usize = 1 << 20;
    /// What a tab may send on a virtual socket before the application has dealt with some of
    /// it, told in OPENED. A message costs the bytes of its payload, and 64.
    credit_bytes: u32 = 256 << 10;
    /// How long a tab may leave a full lane as it is, while no more than `window_bytes` wait
    /// to be written. After that it is forgotten, and its sockets close.
    stall_timeout: Duration = Duration::from_secs(60);
    /// How long a session outlives its link, told in WELCOME. It is longer than a hub needs to
    /// notice that its link is dead, with all the bytes on their way that may be, and to open
    /// another one.
    detached: Duration = Duration::from_secs(210);
    /// Sessions without a link; beyond it, those that lost theirs first are given up.
    detached_sessions: usize = 65_536;
    /// How long a parked tab is kept by its hub, told in WELCOME, and at most by hubs that
    /// follow one another.
    parked: Duration = Duration::from_secs(600);
}

impl SessionConfig {
    /// What WELCOME tells the hub.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            message_bytes: self.message_bytes as u64,
            lane_bytes: self.lane_bytes as u64,
            session_bytes: self.session_bytes as u64,
            detached_ms: millis(self.detached),
            parked_ms: millis(self.parked),
            tabs: self.tabs,
            sockets: self.sockets,
        }
    }

    /// How long a link may be silent.
    pub(super) fn silence(&self) -> Duration {
        self.heartbeat + PATIENCE
    }
}

/// A span for the wire.
pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
