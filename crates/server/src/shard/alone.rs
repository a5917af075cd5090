//! The sessions of a shard without its loop: for tests of handlers.

use std::{
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::Poll;
use tabmux_core::{
    Timestamp,
    session::{LinkId, SessionConfig, Visitor},
    wire::HubFrame,
};

#[cfg(unix)]
use super::streams::Streams;
use super::{
    board::Board,
    fanout::Fanout,
    home::Home,
    mailbox::{Mail, Mailbox},
    node::Node,
    open_mailboxes,
    post::Word,
    service::{Clients, Order, Service},
    sessions::Sessions,
};
use crate::{
    Config,
    admission::{Admission, Quota, Tickets},
    control::{Control, Desk},
    routes::Routes,
    settings::Settings,
    topics::TopicDesk,
    ws::Kind,
};

/// The only link there is.
const LINK: LinkId = LinkId(0);

/// Sessions with one link, which is open. Time passes when it is told to.
pub(crate) struct Alone {
    sessions: Sessions,
    mailbox: Arc<Mailbox<Word>>,
    control: Arc<Control>,
    client: Client,
    now: Timestamp,
    /// What the mailbox wakes, and nobody waits for.
    _poll: Poll,
}

/// The other end of the link.
struct Client(Option<IpAddr>);

/// What the link is told.
pub(crate) enum Told {
    Frame(Vec<u8>),
    /// A publication, as it stands on the link: with the header of its WebSocket frame.
    Publication(Vec<u8>),
    Closed {
        code: u16,
        reason: String,
    },
}

impl Alone {
    pub(crate) fn new(
        config: &Config,
        settings: Settings,
        routes: Routes,
        visitor: Visitor,
        address: Option<IpAddr>,
        topics: Arc<TopicDesk>,
    ) -> io::Result<Self> {
        let room = Arc::default();
        let (mut polls, mailboxes) = open_mailboxes(1, config.limits.inbox_bytes, &room)?;
        let poll = polls.remove(0);
        let mailbox = Arc::clone(&mailboxes[0]);
        mailbox.begin();
        let tickets = Arc::new(Tickets::new(Instant::now()));
        let board = Arc::new(Board::new(1, Arc::clone(&tickets)));
        let broker = Arc::new(topics.memory_broker(config)?);
        let fanout = Fanout::new(config, Arc::clone(&mailboxes), room, broker, topics);
        let admission = Arc::new(Admission::new(Quota::new(&config.limits), tickets));
        let control = Arc::new(Control {
            board: Arc::clone(&board),
            fanout: Arc::clone(&fanout),
            mailboxes,
            node: Node(config.node),
            desk: Desk::new(admission, None, None, settings, config.clone()),
        });
        let home = Home {
            index: 0,
            node: Node(config.node),
            mailbox: Arc::clone(&mailbox),
            board,
            fanout,
            control: Arc::clone(&control),
            #[cfg(unix)]
            streams: Arc::new(Streams::new(poll.registry().try_clone()?)),
        };
        let session = SessionConfig { ask_subscriptions: true, history: true, ..config.session(1) };
        let mut sessions = Sessions::new(home, Arc::new(routes), session);
        let now = Timestamp::from_micros(0);
        if !sessions.opened(now, LINK, Some(&Arc::new(visitor)), None) {
            return Err(io::Error::other("the system has no random bytes"));
        }
        Ok(Self { sessions, mailbox, control, client: Client(address), now, _poll: poll })
    }

    pub(crate) const fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// The hub says this.
    pub(crate) fn say(&mut self, frame: &HubFrame<'_>) {
        self.sessions.message(self.now, LINK, Kind::Binary, &frame.to_bytes());
    }

    pub(crate) fn advance(&mut self, span: Duration) {
        self.now = self.now + span;
        self.sessions.wake(self.now);
    }

    /// Takes the mail, and returns what the link is told next.
    pub(crate) fn poll(&mut self) -> Option<Told> {
        for mail in self.mailbox.take().0 {
            match mail {
                Mail::Word(word) => drop(self.sessions.word(self.now, word, &self.client)),
                Mail::Arrival(_)
                | Mail::Knock(_)
                | Mail::Evict(_)
                | Mail::EndKnocks
                | Mail::Stop => {}
            }
        }
        let order = self.sessions.order(self.now, &self.client)?;
        self.sessions.publish();
        Some(match order {
            Order::Send { link, bytes, .. } => {
                self.sessions.written(self.now, link, bytes.len());
                Told::Frame(bytes.to_vec())
            }
            Order::Publish { frames, links } => {
                let mut bytes = Vec::new();
                for frame in frames {
                    bytes.extend_from_slice(frame.bytes(false));
                    links
                        .iter()
                        .for_each(|link| self.sessions.written(self.now, *link, frame.len()));
                }
                Told::Publication(bytes)
            }
            // The stub that it is for is the loop's.
            Order::Seat { .. } => return self.poll(),
            Order::Close { code, reason, .. } => Told::Closed { code, reason: reason.into_owned() },
        })
    }
}

impl Clients for Client {
    fn address(&self, _: LinkId) -> Option<IpAddr> {
        self.0
    }
}
