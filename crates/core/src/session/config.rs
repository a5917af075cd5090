//! What a registry holds its peers to.

use std::time::Duration;

use tabmux_wire::Limits;

use super::Pace;

/// The configuration of a [`Registry`](super::Registry). Every limit has a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Links of this registry. 65,536.
    pub links: usize,
    /// Tabs of one session. 64.
    pub tabs: u32,
    /// Virtual sockets of one tab. 256.
    pub sockets: u32,
    /// Topics that one browser may be subscribed to. 1,024.
    pub subscriptions: u32,
    /// Bytes of one message on the link, either way. 1 MiB. The shell enforces it on what it
    /// reads, before decoding.
    pub message_bytes: usize,
    /// Bytes sent on a link and not yet written; beyond it, messages are refused with
    /// [`SendError::Full`](super::SendError::Full). 1 MiB.
    pub queue_bytes: usize,
    /// Bytes that answers (PONG, ERROR, CLOSE, …) may add to a full queue. A hub that makes the
    /// server answer and never reads is closed here. 256 KiB.
    pub control_bytes: usize,
    /// Bytes sent on a link and not yet written, from which on publications wait uncounted, so
    /// that the policy of their topic can still drop them. 64 KiB.
    pub window_bytes: usize,
    /// Bytes of publications that may wait for one hub to read or to acknowledge. Beyond it, the
    /// policy of their topic acts. A burst must fit, since no hub can acknowledge within the turn
    /// in which it is sent. 1 MiB.
    pub backlog_bytes: usize,
    /// Bytes that may wait for all hubs of this registry, and that are kept for them until they
    /// acknowledge. Beyond it sessions without a link that keep something are given up, the oldest
    /// first, messages to a hub that has not read everything are refused, and the policies of
    /// topics act. 256 MiB.
    pub total_queue_bytes: usize,
    /// When a hub whose subscription ended because it did not read may subscribe again. 1 s.
    pub slow_retry: Duration,
    /// How fast a link may be read. The shell keeps to it. 10,000 messages and 16 MiB in a second.
    pub pace: Pace,
    /// How long a link may take to say HELLO. 10 s.
    pub handshake_timeout: Duration,
    /// How often a hub sends PING; a link silent for two and a half intervals is closed. 25 s.
    pub heartbeat: Duration,
    /// How long a link lives on after SUSPEND. 10 s.
    pub suspend_timeout: Duration,
    /// When a hub that was refused for a limit may try again. 5 s.
    pub retry_after: Duration,
    /// How long the shell may take to answer a question. 30 s.
    pub ask_timeout: Duration,
    /// Questions of one browser that may be open. 1,024; at most 65,535.
    pub asks: usize,
    /// Whether the shell is asked for each subscription. No.
    pub ask_subscriptions: bool,
    /// Unacknowledged bytes of one lane, told in WELCOME. A message is refused with
    /// [`SendError::Full`](super::SendError::Full) if it would be more, publications wait.
    /// 256 KiB.
    pub lane_bytes: usize,
    /// Unacknowledged bytes of lane 0 and of the lanes of attached tabs, told in WELCOME. 1 MiB.
    pub session_bytes: usize,
    /// Unacknowledged bytes of the lanes of a session's absent tabs: parked ones, and those that
    /// have not attached since the link broke. A budget of their own, so that what nobody can
    /// acknowledge takes no room from who is there. As much as `session_bytes`, since a broken link
    /// makes all tabs absent. 1 MiB.
    pub absent_bytes: usize,
    /// What a tab may send on a virtual socket before the application has dealt with some of it,
    /// told in OPENED. A message costs the bytes of its payload, and 64. 256 KiB.
    pub credit_bytes: u32,
    /// How long a tab may leave a full lane as it is, while no more than `window_bytes` wait to be
    /// written. After that it is forgotten, and its sockets close. 60 s.
    pub stall_timeout: Duration,
    /// How long a session outlives its link, told in WELCOME. It is longer than a hub needs to
    /// notice that its link is dead and to open another one. 120 s.
    pub detached: Duration,
    /// Sessions without a link; beyond it, those that lost theirs first are given up. 65,536.
    pub detached_sessions: usize,
    /// How long a parked tab is kept by its hub, told in WELCOME, and at most by hubs that follow
    /// one another. 10 min.
    pub parked: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            links: 65_536,
            tabs: 64,
            sockets: 256,
            subscriptions: 1_024,
            message_bytes: 1 << 20,
            queue_bytes: 1 << 20,
            control_bytes: 256 << 10,
            window_bytes: 64 << 10,
            backlog_bytes: 1 << 20,
            total_queue_bytes: 256 << 20,
            slow_retry: Duration::from_secs(1),
            pace: Pace { messages_per_s: 10_000, bytes_per_s: 16 << 20 },
            handshake_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(25),
            suspend_timeout: Duration::from_secs(10),
            retry_after: Duration::from_secs(5),
            ask_timeout: Duration::from_secs(30),
            asks: 1_024,
            ask_subscriptions: false,
            lane_bytes: 256 << 10,
            session_bytes: 1 << 20,
            absent_bytes: 1 << 20,
            credit_bytes: 256 << 10,
            stall_timeout: Duration::from_secs(60),
            detached: Duration::from_secs(120),
            detached_sessions: 65_536,
            parked: Duration::from_secs(600),
        }
    }
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
        self.heartbeat.saturating_mul(5) / 2
    }
}

/// A span for the wire.
pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
