//! A double for tests of handlers: everything that a handler meets, without a network, a thread or
//! a clock.
//!
//! A [`TestServer`] is the real server without its sockets. It has one browser with one tab, whose
//! part the test plays. Handlers get the real [`Ctx`](crate::Ctx), so what works here works there.
//!
//! ```
//! use tabmux_server::{
//!     Ctx, Message, Server, SocketHandler,
//!     testing::{Heard, TestServer},
//! };
//!
//! struct Room;
//!
//! impl SocketHandler for Room {
//!     fn opened(&mut self, ctx: &mut Ctx<'_>) {
//!         let welcome = format!("this is room {}", ctx.params().get("id").unwrap_or("?"));
//!         let _ = ctx.send_text(&welcome);
//!     }
//!
//!     fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
//!         let _ = ctx.publish("rooms", message);
//!         ctx.close(4000, "one message is enough");
//!     }
//! }
//!
//! let mut server = TestServer::new(Server::builder().socket("/room/{id}", || Room))?;
//! server.subscribe("rooms");
//! let socket = server.open("/room/7");
//! assert_eq!(
//!     server.heard(socket),
//!     [Heard::Opened { protocol: String::new() }, Heard::Message("this is room 7".into())]
//! );
//! server.send(socket, "hello");
//! assert_eq!(server.published("rooms"), ["hello".into()]);
//! let reason = "one message is enough".to_owned();
//! assert_eq!(server.heard(socket), [Heard::Closed { code: 4000, reason }]);
//! # Ok::<(), tabmux_server::Error>(())
//! ```
//!
//! Handlers that spawn tasks, and those that [`task`](crate::task()) makes, need a tokio runtime.
//! [`TestServer::next`] waits for them:
//!
//! ```
//! use tabmux_server::{
//!     Server, task,
//!     testing::{Heard, TestServer},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tabmux_server::Error> {
//! let echo = task(|mut socket| async move {
//!     while let Some(message) = socket.next().await {
//!         let _ = socket.send(message).await;
//!     }
//! });
//! let mut server = TestServer::new(Server::builder().socket("/echo", echo))?;
//! let socket = server.open("/echo");
//! assert!(matches!(server.next(socket).await, Heard::Opened { .. }));
//! server.send(socket, "hello");
//! assert_eq!(server.next(socket).await, Heard::Message("hello".into()));
//! # Ok(())
//! # }
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tabmux_core::{
    OwnedPayload,
    session::{Admitted, User, Visitor},
    wire::{
        Alias, Hello, HubFrame, HubId, LaneCount, NEWEST_VERSION, OLDEST_VERSION, Payload,
        Rejected, ServerFrame, SocketId, TabId, TopicId, Upstream,
    },
};

use crate::{
    Builder, Error, PublishError,
    shard::alone::{Alone, Told},
};

/// The tab of the test.
const TAB: TabId = TabId(1);

/// A server without a network, and a browser with one tab. See the [module](self).
///
/// # Panics
/// Its methods panic when the server closes the link of the browser, which it does when a limit of
/// the configuration is passed.
pub struct TestServer {
    alone: Alone,
    /// What the server calls the tab.
    tab: Alias,
    /// Messages that the tab said.
    said: u64,
    sockets: u32,
    heard: BTreeMap<SocketId, Ear>,
    broadcasts: VecDeque<OwnedPayload>,
    topics: BTreeMap<TopicId, String>,
    /// The topics that were asked for. The number of the question is the place, counted from 1.
    asked: Vec<String>,
    published: BTreeMap<String, Vec<OwnedPayload>>,
    /// Frames that came, by lane.
    lanes: BTreeMap<u32, u64>,
}

/// What was heard on one socket.
#[derive(Default)]
struct Ear {
    heard: VecDeque<Heard>,
    given: u64,
}

/// The browser of a test, as a judge lets it in.
///
/// ```
/// use tabmux_server::{
///     Ctx, Message, Server, SocketHandler,
///     testing::{Browser, Heard, TestServer},
/// };
///
/// struct Greeter;
///
/// impl SocketHandler for Greeter {
///     fn message(&mut self, ctx: &mut Ctx<'_>, _: Message<'_>) {
///         let hello = format!("hello, {}", ctx.user().unwrap_or("stranger"));
///         let _ = ctx.send_text(&hello);
///     }
/// }
///
/// let builder = Server::builder().socket("/hello", || Greeter);
/// let mut server = TestServer::of(builder, Browser::default().user("ann"))?;
/// let socket = server.open("/hello");
/// server.send(socket, "who am I?");
/// assert_eq!(server.heard(socket)[1..], [Heard::Message("hello, ann".into())]);
/// # Ok::<(), tabmux_server::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Browser {
    user: Option<String>,
    headers: Vec<(Box<str>, Box<[u8]>)>,
    address: Option<IpAddr>,
}

/// A virtual socket of the tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TestSocket(SocketId);

/// What a tab hears on a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heard {
    /// It is open.
    Opened {
        /// The sub-protocol that the handler chose, empty for none.
        protocol: String,
    },
    /// It was refused.
    Refused {
        /// The code of REJECTED: the handler's own, or one below 256 of the protocol, such as 2 for
        /// a handler that gives none, and 1 for a path without a handler.
        code: u16,
        /// Why.
        message: String,
    },
    /// A message.
    Message(OwnedPayload),
    /// It is closed.
    Closed {
        /// The close code.
        code: u16,
        /// The close reason.
        reason: String,
    },
}

impl Browser {
    /// Names its user.
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.user = Some(name.into());
        self
    }

    /// Adds a header that the judge had the server keep.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_ascii_lowercase().into(), value.as_ref().into()));
        self
    }

    /// Sets its address.
    pub const fn address(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }
}

impl TestServer {
    /// Makes a server of these handlers and this configuration, for a browser without a user.
    ///
    /// # Errors
    /// As for [`Builder::build`].
    pub fn new(builder: Builder) -> Result<Self, Error> {
        Self::of(builder, Browser::default())
    }

    /// Makes a server for this browser. The judge of the builder is not asked, and its broker is
    /// not used: publications go through one in memory.
    ///
    /// # Errors
    /// As for [`Builder::build`].
    pub fn of(builder: Builder, browser: Browser) -> Result<Self, Error> {
        let (config, settings, routes, topics) = builder.into_parts()?;
        let Browser { user, headers, address } = browser;
        let user = user.map(|name| Arc::new(User::new(&name, 0)));
        let visitor = Visitor::Admitted(Admitted { user, address, headers, ..Admitted::default() });
        let mut server = Self {
            alone: Alone::new(&config, settings, routes, visitor, address, topics)?,
            tab: Alias(0),
            said: 0,
            sockets: 0,
            heard: BTreeMap::new(),
            broadcasts: VecDeque::new(),
            topics: BTreeMap::new(),
            asked: Vec::new(),
            published: BTreeMap::new(),
            lanes: BTreeMap::new(),
        };
        server.alone.say(&HubFrame::Hello(Hello {
            min_version: OLDEST_VERSION,
            max_version: NEWEST_VERSION,
            hub: HubId(1),
            resume: None,
            credentials: "",
        }));
        server.alone.say(&HubFrame::Attach { tab: TAB, last: 0 });
        server.settle();
        Ok(server)
    }

    /// The tab opens a socket. `target` is path and query.
    pub fn open(&mut self, target: &str) -> TestSocket {
        self.open_with(target, &[], u64::MAX)
    }

    /// The tab opens a socket, offers sub-protocols, and gives this much credit: the handler can
    /// send as long as there is some. A message costs its bytes and 64.
    pub fn open_with(&mut self, target: &str, protocols: &[&str], credit: u64) -> TestSocket {
        self.sockets += 1;
        let (socket, protocols) = (SocketId(self.sockets), protocols.to_vec());
        self.heard.insert(socket, Ear::default());
        let up = self.up();
        let ticket = "";
        self.say(&HubFrame::Open { up, socket, credit, path: target, protocols, ticket });
        TestSocket(socket)
    }

    /// The tab sends a message.
    pub fn send(&mut self, socket: TestSocket, message: impl Into<OwnedPayload>) {
        let (up, message) = (self.up(), message.into());
        self.say(&HubFrame::Data { up, socket: socket.0, payload: message.as_payload() });
    }

    /// The tab closes a socket: with 1000 or a code from 3000 to 4999, or with 0 for none.
    pub fn close(&mut self, socket: TestSocket, code: u16, reason: &str) {
        let up = self.up();
        self.say(&HubFrame::Close { up, socket: socket.0, code, reason });
    }

    /// The tab lets the handler send more.
    pub fn give_credit(&mut self, socket: TestSocket, bytes: u64) {
        let up = self.up();
        self.say(&HubFrame::Credit { up, socket: socket.0, bytes });
    }

    /// The tab goes, with all of its sockets.
    pub fn leave(&mut self) {
        self.say(&HubFrame::Gone { tab: TAB });
    }

    /// Time passes.
    pub fn advance(&mut self, span: Duration) {
        self.alone.advance(span);
        self.settle();
    }

    /// Takes what the tab heard on a socket.
    pub fn heard(&mut self, socket: TestSocket) -> Vec<Heard> {
        self.settle();
        self.ear(socket).heard.drain(..).collect()
    }

    /// Waits for what the tab hears next on a socket. Other tasks of the runtime run meanwhile.
    pub async fn next(&mut self, socket: TestSocket) -> Heard {
        loop {
            self.settle();
            if let Some(heard) = self.ear(socket).heard.pop_front() {
                return heard;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Returns the credit that the tab was given back on a socket, all in all. It comes once it is
    /// half of what a tab may send, 256 KiB by default.
    pub fn credit(&mut self, socket: TestSocket) -> u64 {
        self.settle();
        self.ear(socket).given
    }

    /// Takes what was said to all tabs of the browser.
    pub fn broadcasts(&mut self) -> Vec<OwnedPayload> {
        self.settle();
        self.broadcasts.drain(..).collect()
    }

    /// The browser subscribes to a topic: [`published`](Self::published) has what follows.
    pub fn subscribe(&mut self, topic: &str) {
        self.asked.push(topic.to_owned());
        let request = self.asked.len() as u64;
        self.say(&HubFrame::Subscribe { request, position: None, topic });
    }

    /// Publishes to a topic, as a backend does.
    ///
    /// # Errors
    /// As for [`Ctx::publish`](crate::Ctx::publish).
    pub fn publish(&mut self, topic: &str, message: Payload<'_>) -> Result<(), PublishError> {
        self.alone.control().fanout.publish_now(topic, message, &mut None)?;
        self.settle();
        Ok(())
    }

    /// Takes what was published to a topic.
    pub fn published(&mut self, topic: &str) -> Vec<OwnedPayload> {
        self.settle();
        self.published.remove(topic).unwrap_or_default()
    }

    fn ear(&mut self, socket: TestSocket) -> &mut Ear {
        self.heard.entry(socket.0).or_default()
    }

    fn up(&mut self) -> Upstream {
        self.said += 1;
        Upstream { tab: self.tab, n: self.said }
    }

    fn say(&mut self, frame: &HubFrame<'_>) {
        self.alone.say(frame);
        self.settle();
    }

    /// Takes all that the server says by now.
    fn settle(&mut self) {
        while let Some(told) = self.alone.poll() {
            match told {
                Told::Frame(bytes) => self.frame(&bytes),
                Told::Publication(bytes) => self.frames(&bytes),
                Told::Closed { code, reason } => panic!("the link is closed: {code} {reason}"),
            }
            let lanes = self.lanes.iter().map(|(&lane, &count)| LaneCount { lane, count });
            let (lanes, aside) = (lanes.collect::<Vec<_>>(), Vec::new());
            if !lanes.is_empty() {
                self.alone.say(&HubFrame::Ack { lanes, aside });
            }
        }
    }

    /// Takes frames that stand in frames of a WebSocket.
    fn frames(&mut self, mut bytes: &[u8]) {
        while let [_, short, rest @ ..] = bytes {
            let (len, rest) = match short {
                126 => rest
                    .split_first_chunk()
                    .map_or((0, rest), |(len, rest)| (u16::from_be_bytes(*len).into(), rest)),
                127 => rest
                    .split_first_chunk()
                    .map_or((0, rest), |(len, rest)| (u64::from_be_bytes(*len), rest)),
                short => (u64::from(*short), rest),
            };
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
            self.frame(&rest[..len]);
            bytes = &rest[len..];
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "few frames concern a handler")]
    fn frame(&mut self, bytes: &[u8]) {
        let frame = match ServerFrame::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => panic!("the server said what is no frame: {error}"),
        };
        if let Some(lane) = frame.lane() {
            *self.lanes.entry(lane).or_default() += 1;
        }
        match frame {
            ServerFrame::Attached { alias, .. } => self.tab = alias,
            ServerFrame::Opened { socket, protocol, .. } => {
                self.hear(socket, Heard::Opened { protocol: protocol.to_owned() });
            }
            ServerFrame::Rejected(Rejected { socket, code, message, .. }) => {
                self.hear(socket, Heard::Refused { code, message: message.to_owned() });
            }
            ServerFrame::Data { socket, payload, .. } => {
                self.hear(socket, Heard::Message(payload.into()));
            }
            ServerFrame::Close { socket, code, reason, .. } => {
                self.hear(socket, Heard::Closed { code, reason: reason.to_owned() });
            }
            ServerFrame::Credit { socket, bytes, .. } => {
                self.ear(TestSocket(socket)).given += bytes;
            }
            ServerFrame::Message { payload } => self.broadcasts.push_back(payload.into()),
            ServerFrame::Subscribed(subscribed) => {
                let place = usize::try_from(subscribed.request - 1).ok();
                if let Some(name) = place.and_then(|place| self.asked.get(place)) {
                    self.topics.insert(subscribed.topic, name.clone());
                }
            }
            ServerFrame::Publication { topic, payload, .. } => {
                if let Some(name) = self.topics.get(&topic) {
                    self.published.entry(name.clone()).or_default().push(payload.into());
                }
            }
            // What else hubs are told concerns no handler.
            _ => {}
        }
    }

    fn hear(&mut self, socket: SocketId, heard: Heard) {
        self.ear(TestSocket(socket)).heard.push_back(heard);
    }
}

impl fmt::Debug for TestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").field("sockets", &self.sockets).finish_non_exhaustive()
    }
}
