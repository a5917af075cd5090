//! What a hub is told at its birth, and its limits.

use std::time::Duration;

use tabmux_wire::HubId;

/// How a hub uses its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In front of any WebSocket server: every tab sees every message.
    Mirror,
    /// To a tabmux server: every socket is a virtual socket of its own.
    Mux,
}

/// The configuration of a hub. Every limit has a default.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Mirror or mux.
    pub mode: Mode,
    /// The random name of this run.
    pub hub: HubId,
    /// Where the link goes; only for messages to people.
    pub url: String,
    /// Whether the hub asks a tab where its link goes before each dial. Then `url` is what people
    /// call the link. False.
    pub asks: bool,
    /// Whether the hub asks the server whose the browser is, before a tab attaches to a link that
    /// is of a user. Not needed where tabs of two users never share a hub. False.
    pub asks_who: bool,
    /// Whose hub this is, where its names hold that: an identity tag, or what stands for nobody.
    /// Empty.
    pub tag: String,
    /// How long a tab that was asked may be silent before the next one is asked as well. 3 s.
    pub ask_each: Duration,
    /// How long a link may take to open, and all tabs to say where it goes. 20 s.
    pub dial_timeout: Duration,
    /// How long the server may take to say WELCOME. 10 s.
    pub handshake_timeout: Duration,
    /// How long nothing at all may come while something is not acknowledged; 1 s more for each
    /// 8,000 bytes that are not. 10 s.
    pub pong_timeout: Duration,
    /// The same, when there is reason to think that the link is dead: the machine slept, the
    /// network or a page was away. 3 s.
    pub probe_timeout: Duration,
    /// The first ceiling of the random wait between dials; it doubles with each failure. 500 ms.
    pub backoff_first: Duration,
    /// The last ceiling. 30 s.
    pub backoff_last: Duration,
    /// A link that lived this long makes the next wait a first one again. 10 s.
    pub backoff_reset: Duration,
    /// How long a tab whose lock was granted may take to say park or bye. 500 ms.
    pub tab_grace: Duration,
    /// How long a tab may stay parked. 10 min.
    pub parked_ttl: Duration,
    /// How long the link outlives the last tab, so that the next page finds it. 2 s in mux mode,
    /// 0 in mirror mode.
    pub linger: Duration,
    /// How long what was received may wait for its acknowledgement. 5 s.
    pub ack_delay: Duration,
    /// Frames of one lane that are acknowledged without waiting. 128.
    pub ack_frames: u64,
    /// Bytes of them. 32 KiB.
    pub ack_bytes: usize,
    /// How long a tab may take to say that it has heard what was posted to it; after that the
    /// others are acknowledged without it. 5 s.
    pub check_timeout: Duration,
    /// Tabs. 1024.
    pub tabs: usize,
    /// Sockets of one tab. 256.
    pub sockets: usize,
    /// Topics, and subscriptions of one tab. 1024.
    pub topics: usize,
    /// Bytes kept for a tab that is parked; bytes of lane 0 kept for tabs that are about to attach,
    /// of which half a lane's limit is enough; and bytes of the last publications of all topics,
    /// kept for tabs that say where they left a topic. 256 KiB each.
    pub held_bytes: usize,
    /// The first credit of a virtual socket: what the server may send on it before the tab, which
    /// has then heard half of it, gives more. 128 KiB.
    pub credit_bytes: u64,
    /// Bytes the link may hold unsent, and bytes that a tabmux server may not have acknowledged,
    /// before messages wait in the hub. 256 KiB in mux mode, 1 MiB in mirror mode.
    pub link_bytes: u64,
    /// Bytes of messages that may wait in the hub for each tab. 16 MiB.
    pub outbox_bytes: usize,
}

impl HubConfig {
    /// The defaults for a mode.
    pub fn new(mode: Mode, hub: HubId, url: impl Into<String>) -> Self {
        Self {
            mode,
            hub,
            url: url.into(),
            asks: false,
            asks_who: false,
            tag: String::new(),
            ask_each: Duration::from_secs(3),
            dial_timeout: Duration::from_secs(20),
            handshake_timeout: Duration::from_secs(10),
            pong_timeout: Duration::from_secs(10),
            probe_timeout: Duration::from_secs(3),
            backoff_first: Duration::from_millis(500),
            backoff_last: Duration::from_secs(30),
            backoff_reset: Duration::from_secs(10),
            tab_grace: Duration::from_millis(500),
            parked_ttl: Duration::from_secs(600),
            linger: match mode {
                Mode::Mirror => Duration::ZERO,
                Mode::Mux => Duration::from_secs(2),
            },
            ack_delay: Duration::from_secs(5),
            ack_frames: 128,
            ack_bytes: 32 << 10,
            check_timeout: Duration::from_secs(5),
            tabs: 1024,
            sockets: 256,
            topics: 1024,
            held_bytes: 256 << 10,
            credit_bytes: 128 << 10,
            link_bytes: match mode {
                Mode::Mirror => 1 << 20,
                Mode::Mux => 256 << 10,
            },
            outbox_bytes: 16 << 20,
        }
    }
}
