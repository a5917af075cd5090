//! A shard's registry and its handlers.

mod events;
mod refusals;
#[cfg(unix)]
mod streams;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

#[cfg(unix)]
use mio::Token;
use tabmux_core::{
    OwnedPayload, Timestamp,
    session::{
        Answer, Ask, AskId, Denial, DenialCode, Input, Joined, LinkId, Output, Pace, Publication,
        Registry, SendError, SessionConfig, SocketRef, Stats, Visitor,
    },
    wire::{ErrorCode, HubFrame, MAX_CREDENTIALS, TabId, close, message_cost},
};
use tokio::{runtime::Handle, sync::futures::OwnedNotified};

use self::refusals::{BROKER_RETRY, FULL_RETRY, denial_code, refuse_request};
use super::{
    entropy::Entropy,
    errands,
    home::Home,
    judging::Judging,
    lines::{log, log_link_down},
    lookout::Lookout,
    mailbox::Mail,
    post::{Command, JoinAnswer, Post, Word},
    recall,
    rights::Rights,
    service::{Clients, Moment, Order, Ready, Service},
};
use crate::{
    BrokerError, CloseInfo, Ctx, Decision, Handshake, OpenRequest, SocketHandler,
    handler::{Asker, Question},
    logs::rarely,
    routes::Routes,
    ws::Kind,
};

/// The close code of a socket whose handler failed (RFC 6455 section 7.4.1).
const INTERNAL_ERROR: u16 = 1011;

/// The bytes of the longest HELLO: a link that has not said it belongs to nobody, who could pay for
/// parts of a message.
const HELLO_BYTES: usize = MAX_CREDENTIALS + 256;

/// Bytes of publications that are collected, so that each of their links is looked up once for all.
const RUN: usize = 16 << 10;

/// Everything of a shard but its streams.
pub(super) struct Sessions {
    home: Home,
    routes: Arc<Routes>,
    registry: Registry,
    sockets: BTreeMap<SocketRef, Mounted>,
    /// Sockets whose handlers answer later, and the sub-protocols that their tabs offer.
    undecided: BTreeMap<AskId, (SocketRef, Vec<String>)>,
    /// Sockets whose handlers were told that there is no room for publications.
    starved: BTreeSet<SocketRef>,
    published: Stats,
    /// Publications of one topic that came one after the other.
    run: Vec<Publication>,
    /// Bytes of publications since the loop last took orders.
    collected: usize,
    /// Links whose user is known once their credentials are.
    judging: Judging,
    rights: Rights,
    lookout: Lookout,
    entropy: Entropy,
}

/// A virtual socket and who serves it.
struct Mounted {
    handler: Box<dyn SocketHandler>,
    tab: TabId,
    target: Box<str>,
}

impl Sessions {
    pub(super) fn new(home: Home, routes: Arc<Routes>, config: SessionConfig) -> Self {
        Self {
            home,
            routes,
            registry: Registry::new(config, Timestamp::from_micros(0)),
            sockets: BTreeMap::new(),
            undecided: BTreeMap::new(),
            starved: BTreeSet::new(),
            published: Stats::default(),
            run: Vec::new(),
            collected: 0,
            judging: Judging::default(),
            rights: Rights::default(),
            lookout: Lookout::default(),
            entropy: Entropy::default(),
        }
    }

    /// Carries out an output of the registry; the order, if it is one for the loop.
    fn take_output(&mut self, at: Moment<'_>, output: Output) -> Option<Order> {
        match output {
            Output::Send { link, bytes } => {
                return Some(Order::Send { link, kind: Kind::Binary, bytes });
            }
            Output::CloseLink { link, code, reason } => {
                return Some(Order::Close { link, code, reason });
            }
            Output::Publish { frames, links } => return Some(Order::Publish { frames, links }),
            Output::Ask { ask, what } => self.ask(at, ask, what),
            Output::Withdrawn(ask) => {
                self.judging.withdrawn(ask);
                self.rights.withdrawn(ask);
                if let Some((socket, _)) = self.undecided.remove(&ask) {
                    self.unmount(socket);
                }
            }
            Output::TopicUnwanted { topic } => self.home.fanout.leave(self.home.index, topic),
            Output::SocketMessage { socket, payload } => self.hand_over(at, socket, &payload),
            Output::SocketWritable { socket } => {
                self.call(at, socket, |handler, ctx| handler.writable(ctx));
            }
            Output::SocketClosed { socket, code, reason, clean } => {
                let close = CloseInfo { code, reason: &reason, clean };
                self.call(at, socket, |handler, ctx| handler.close(ctx, &close));
                self.unmount(socket);
            }
            Output::LinkDown { link, cause } => {
                self.judging.forget(&mut self.registry, at.now, link);
                log_link_down(self.home.index, link, cause);
            }
            Output::Event(event) => {
                self.hear_of(at, &event);
                log(self.home.index, event);
            }
        }
        None
    }

    /// Answers a question of the registry.
    fn ask(&mut self, at: Moment<'_>, ask: AskId, what: Ask) {
        match what {
            Ask::Open { socket, tab, path, protocols } => {
                self.open_socket(at, ask, socket, tab, (path, protocols));
            }
            Ask::Join { topic } => self.join_topic(at.now, ask, &topic),
            Ask::Recall { topic, since, bytes } => {
                recall::ask(&mut self.registry, (&self.home, at.now), ask, (&topic, since, bytes));
            }
            Ask::Connect { link, renews, visitor, credentials } => {
                let Self { judging, registry, home, .. } = self;
                let known = (visitor, credentials);
                judging.ask(registry, (home, at.now), ask, (link, renews), known);
            }
            // No handler takes requests, and the registry tells hubs so.
            Ask::Request { .. } => refuse_request(&mut self.registry, at.now, ask),
            Ask::Subscribe { session, topic, renews, .. } => {
                let Self { rights, registry, home, .. } = self;
                rights.ask(registry, (home, at.now), ask, (session, renews), &topic);
            }
        }
    }

    fn hand_over(&mut self, at: Moment<'_>, socket: SocketRef, payload: &OwnedPayload) {
        let credit = self.call(at, socket, |handler, ctx| {
            ctx.credit = message_cost(payload.len());
            handler.message(ctx, payload.as_payload());
            ctx.credit
        });
        if let Some(credit) = credit.filter(|credit| *credit > 0) {
            self.registry.give_back(at.now, socket, credit);
        }
    }

    /// Mounts a handler for a socket and gives its answer to the registry, if it has one.
    fn open_socket(
        &mut self,
        at: Moment<'_>,
        ask: AskId,
        socket: SocketRef,
        tab: TabId,
        (target, protocols): (String, Vec<String>),
    ) {
        match self.mount(at, ask, socket, tab, (&target, &protocols)) {
            Ok(Decision::Later) => {
                self.undecided.insert(ask, (socket, protocols));
            }
            Ok(decision) => self.decided(at, ask, socket, &protocols, decision),
            Err((code, message)) => self.refuse(at, ask, socket, code.into(), &message),
        }
    }

    /// Mounts a handler. Returns what it decides, or why there is none.
    fn mount(
        &mut self,
        at: Moment<'_>,
        ask: AskId,
        socket: SocketRef,
        tab: TabId,
        (target, protocols): (&str, &[String]),
    ) -> Result<Decision, (ErrorCode, String)> {
        let mailbox = Arc::clone(&self.home.mailbox);
        let question = Question { ask, socket, mailbox: &mailbox };
        let session = socket.session;
        let visitor = self.registry.visitor(session).cloned();
        let link = self.registry.link_of(session);
        let address = link.and_then(|link| at.clients.address(link));
        let routes = Arc::clone(&self.routes);
        let asker = Asker { visitor: visitor.as_deref(), address, routes: &routes };
        let request = OpenRequest { target, protocols, tab, session, question, asker };
        let path = request.path();
        let failed = || (ErrorCode::Rejected, "the handler failed".to_owned());
        let Some(factory) = routes.find(path) else {
            return Err((ErrorCode::NoRoute, format!("this server has no handler for {path}")));
        };
        let Ok(handler) = catch_unwind(AssertUnwindSafe(factory)) else {
            rarely!(error, "the factory of {path} panicked");
            return Err(failed());
        };
        self.sockets.insert(socket, Mounted { handler, tab, target: target.into() });
        self.call(at, socket, |handler, ctx| handler.open(ctx, &request)).ok_or_else(failed)
    }

    /// Gives the registry the answer of a handler, which was offered these sub-protocols.
    fn decided(
        &mut self,
        at: Moment<'_>,
        ask: AskId,
        socket: SocketRef,
        offered: &[String],
        decision: Decision,
    ) {
        let code = DenialCode::from(ErrorCode::Rejected);
        match decision {
            Decision::Accept { protocol } if protocol.is_empty() || offered.contains(&protocol) => {
                let answer = Answer::Open { protocol: &protocol };
                if self.registry.answer(at.now, ask, answer).is_ok() {
                    self.call(at, socket, |handler, ctx| handler.opened(ctx));
                } else {
                    // The tab went while the handler decided.
                    self.unmount(socket);
                }
            }
            Decision::Accept { protocol } => {
                rarely!(error, "a handler chose a sub-protocol that was not offered: {protocol:?}");
                let message = "the server chose a sub-protocol that was not offered";
                self.refuse(at, ask, socket, code, message);
            }
            Decision::Reject { code: own, message } => {
                self.refuse(at, ask, socket, own.map_or(code, denial_code), &message);
            }
            Decision::Later => self.refuse(at, ask, socket, code, "the handler gave no answer"),
        }
    }

    /// Takes an answer that comes later. One to a question that is over does nothing.
    fn answered(&mut self, at: Moment<'_>, ask: AskId, decision: Decision) {
        if let Some((socket, offered)) = self.undecided.remove(&ask) {
            self.decided(at, ask, socket, &offered, decision);
        }
    }

    fn refuse(
        &mut self,
        at: Moment<'_>,
        ask: AskId,
        socket: SocketRef,
        code: DenialCode,
        message: &str,
    ) {
        self.unmount(socket);
        let denial = Denial { code, message, retry: None };
        // A question that is over needs no answer.
        let _ = self.registry.answer(at.now, ask, Answer::Deny(denial));
    }

    /// Drops a socket's handler, which may have a `drop` that panics.
    fn unmount(&mut self, socket: SocketRef) {
        self.starved.remove(&socket);
        if let Some(mounted) = self.sockets.remove(&socket)
            && catch_unwind(AssertUnwindSafe(|| drop(mounted))).is_err()
        {
            rarely!(error, "a handler panicked when it was dropped");
        }
    }

    /// Calls a socket's handler; `None` if there is none, or if it panicked and lost its socket.
    fn call<T>(
        &mut self,
        at: Moment<'_>,
        socket: SocketRef,
        call: impl FnOnce(&mut dyn SocketHandler, &mut Ctx<'_>) -> T,
    ) -> Option<T> {
        let mounted = self.sockets.get_mut(&socket)?;
        let (registry, home, routes) = (&mut self.registry, &self.home, &*self.routes);
        let Mounted { handler, tab, target } = mounted;
        let (tab, credit, room, ready) = (*tab, 0, None, Ready::default());
        let mut ctx = Ctx { registry, home, routes, at, socket, tab, target, credit, room, ready };
        // The handler is dropped after a panic, and the registry is not left in the middle of a
        // call: every `Ctx` method returns before the handler goes on.
        let outcome = catch_unwind(AssertUnwindSafe(|| call(&mut **handler, &mut ctx)));
        let room = ctx.room.take();
        if outcome.is_err() {
            // A query may hold a secret.
            let path = target.split('?').next().unwrap_or_default();
            rarely!(error, "the handler of {path} panicked; its socket is closed");
            self.unmount(socket);
            let _ = self.registry.close(at.now, socket, INTERNAL_ERROR, "the handler failed");
        } else if let Some(room) = room {
            self.starve(socket, room);
        }
        outcome.ok()
    }

    /// Takes a publication; whether more may be collected before it goes out.
    fn collect(&mut self, now: Timestamp, publication: Publication) -> bool {
        if self.run.first().is_some_and(|first| first.topic != publication.topic) {
            self.publish_run(now);
        }
        self.collected += publication.frame.len();
        self.run.push(publication);
        self.collected < RUN
    }

    /// Publishes what was collected of one topic.
    fn publish_run(&mut self, now: Timestamp) {
        if !self.run.is_empty() {
            self.registry.publish(now, &self.run);
            self.run.clear();
        }
    }

    fn join_topic(&mut self, now: Timestamp, ask: AskId, name: &Arc<str>) {
        if let Some(answer) = self.home.fanout.join(self.home.index, ask, name) {
            self.joined(now, ask, answer);
        }
    }

    /// Tells the registry where a topic is.
    fn joined(&mut self, now: Timestamp, ask: AskId, answer: JoinAnswer) {
        match answer {
            Ok((Joined { topic, position }, policy)) => {
                let answer = Answer::Joined { topic, position, policy };
                if self.registry.answer(now, ask, answer).is_err() {
                    // Nobody wants it any more.
                    self.home.fanout.leave(self.home.index, topic);
                }
            }
            Err(error) => {
                let (code, message) = (ErrorCode::Limit.into(), &error.to_string());
                let retry = match error {
                    BrokerError::TooManyTopics => FULL_RETRY,
                    BrokerError::Unavailable(_) => BROKER_RETRY,
                };
                let denial = Denial { code, message, retry: Some(retry) };
                let _ = self.registry.answer(now, ask, Answer::Deny(denial));
            }
        }
    }

    /// Notes that a handler was told that there is no room for publications.
    fn starve(&mut self, socket: SocketRef, room: OwnedNotified) {
        if self.starved.is_empty() {
            let mailbox = Arc::downgrade(&self.home.mailbox);
            let tell = move || {
                if let Some(mailbox) = mailbox.upgrade() {
                    // A shard that failed has no handlers.
                    let _ = mailbox.push(Mail::Word(Word::Room), 0);
                }
            };
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(async move {
                    room.await;
                    tell();
                })),
                // A test without a runtime: the handler looks again in the next turn.
                Err(_) => tell(),
            }
        }
        self.starved.insert(socket);
    }

    /// Tells the handlers that wait for it that there may be room for publications.
    fn feed_starved(&mut self, at: Moment<'_>) {
        for socket in std::mem::take(&mut self.starved) {
            self.call(at, socket, |handler, ctx| handler.publishable(ctx));
        }
    }

    fn carry_out_post(&mut self, at: Moment<'_>, Post { socket, command }: Post) {
        let registry = &mut self.registry;
        // A socket that closed meanwhile has nobody to tell.
        let _ = match command {
            Command::Close { code, reason } => registry.close(at.now, socket, code, &reason),
            Command::Send(payload) => {
                match registry.send_rushed(at.now, socket, payload.as_payload()) {
                    Err(SendError::Full) => {
                        let reason = "too much waits to be written to this browser";
                        registry.close(at.now, socket, close::TRY_AGAIN_LATER, reason)
                    }
                    Err(SendError::TooLarge) => {
                        let reason = "the server sent a message larger than its limit";
                        registry.close(at.now, socket, close::TOO_BIG, reason)
                    }
                    sent => sent,
                }
            }
            Command::Ticket(ticket) => match self.sockets.get(&socket) {
                Some(it) => registry.send_ticket(at.now, socket, &ticket, &it.target),
                None => Ok(()),
            },
            Command::Keep(bytes) => registry.keep_for_opening(at.now, socket, bytes),
            Command::Poke => {
                self.call(at, socket, |handler, ctx| handler.writable(ctx));
                Ok(())
            }
            Command::GiveBack { cost } => {
                registry.give_back(at.now, socket, cost);
                Ok(())
            }
            Command::Answer { ask, decision } => {
                self.answered(at, ask, decision);
                Ok(())
            }
        };
    }
}

impl Service for Sessions {
    type Word = Word;

    fn message_limit(&self) -> usize {
        self.registry.config().message_bytes
    }

    fn first_message_limit(&self) -> usize {
        HELLO_BYTES.min(self.message_limit())
    }

    fn pace(&self) -> Pace {
        self.registry.config().pace
    }

    fn opened(
        &mut self,
        now: Timestamp,
        link: LinkId,
        visitor: Option<&Arc<Visitor>>,
        handshake: Option<Box<Handshake>>,
    ) -> bool {
        let user = visitor.and_then(|visitor| visitor.user());
        if user.is_some_and(|user| !self.home.board.tickets().is_current(user)) {
            // The user was ended on the way. Whoever comes again is judged again.
            return false;
        }
        let mut entropy = match self.entropy.draw() {
            Ok(entropy) => entropy,
            Err(fault) => {
                rarely!(error, "the system has no random bytes: {fault}");
                return false;
            }
        };
        self.home.node.name(self.home.index, &mut entropy);
        let visitor = visitor.cloned();
        self.registry.handle_input(now, Input::LinkOpened { link, entropy, visitor });
        if let Some(handshake) = handshake {
            self.judging.keep(&mut self.registry, now, link, handshake);
        }
        true
    }

    fn leaves(&mut self, link: LinkId) -> Option<Box<Handshake>> {
        self.judging.take(link)
    }

    fn is_pending(&self, link: LinkId) -> bool {
        self.registry.is_pending(link)
    }

    fn home(&self, first: &[u8]) -> Option<usize> {
        match HubFrame::decode(first) {
            // A session of another node is not here, so a new one begins where the link is.
            Ok(HubFrame::Hello(hello)) => self.home.node.shard(hello.resume?.session),
            _ => None,
        }
    }

    fn message(&mut self, now: Timestamp, link: LinkId, kind: Kind, bytes: &[u8]) {
        let input = match kind {
            Kind::Binary => Input::LinkMessage { link, bytes },
            Kind::Text => Input::LinkText { link },
        };
        self.lookout.look_if_due(now, &self.home, &mut self.registry);
        self.registry.handle_input(now, input);
    }

    fn written(&mut self, now: Timestamp, link: LinkId, bytes: usize) {
        self.registry.handle_input(now, Input::LinkWritten { link, bytes });
    }

    fn heard(&mut self, now: Timestamp, link: LinkId) {
        self.registry.handle_input(now, Input::LinkHeard { link });
    }

    fn holds(&mut self, now: Timestamp, link: LinkId, bytes: usize) {
        let bytes = self.judging.holds(link, bytes);
        self.registry.handle_input(now, Input::LinkHolds { link, bytes });
    }

    fn closed(&mut self, now: Timestamp, link: LinkId) {
        self.registry.handle_input(now, Input::LinkClosed { link });
    }

    fn word(&mut self, now: Timestamp, word: Word, clients: &dyn Clients) -> bool {
        let at = Moment { now, clients };
        if !matches!(word, Word::Publication(_)) {
            self.publish_run(now);
        }
        match word {
            Word::Publication(publication) => return self.collect(now, publication),
            Word::Post(post) => self.carry_out_post(at, post),
            Word::Joined { ask, answer } => self.joined(now, ask, answer),
            Word::Recalled(it) => recall::answered(&mut self.registry, now, &it),
            Word::Judged { ask, answer } => {
                let Self { judging, registry, home, .. } = self;
                judging.answered(registry, (home, now), ask, answer);
            }
            Word::Topic { ask, verdict } => {
                self.rights.answered(&mut self.registry, now, ask, &verdict);
            }
            Word::Review => self.registry.review(now),
            Word::Room => self.feed_starved(at),
            Word::Shares => self.lookout.look(now, &self.home, &mut self.registry),
            Word::People(errand) => errands::run(&mut self.registry, now, errand),
            Word::Drain { slices, spread } => {
                self.registry.drain(now, slices, Duration::ZERO, spread);
            }
            Word::CloseLinks => self.registry.shutdown(now),
            #[cfg(unix)]
            Word::CloseStreams => self.close_streams(at),
        }
        false
    }

    #[cfg(unix)]
    fn stream_ready(&mut self, at: Moment<'_>, token: Token, ready: Ready) {
        self.stream_is_ready(at, token, ready);
    }

    fn stop(&mut self, now: Timestamp) {
        self.registry.shutdown(now);
    }

    fn wake(&mut self, now: Timestamp) {
        self.registry.handle_timeout(now);
        self.lookout.look_if_due(now, &self.home, &mut self.registry);
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.registry.poll_timeout().map(|(at, _)| at)
    }

    fn order(&mut self, now: Timestamp, clients: &dyn Clients) -> Option<Order> {
        let at = Moment { now, clients };
        self.publish_run(now);
        self.collected = 0;
        if let Some(seat) = self.judging.pop() {
            return Some(seat);
        }
        while let Some(output) = self.registry.poll_output() {
            if let Some(order) = self.take_output(at, output) {
                return Some(order);
            }
        }
        None
    }

    fn publish(&mut self) {
        let stats = self.registry.stats();
        if stats != self.published {
            self.published = stats;
            self.home.board.publish(self.home.index, stats);
        }
    }
}

/// The end of the server, or of a shard that failed: what it served is gone, what it counted stays.
impl Drop for Sessions {
    fn drop(&mut self) {
        let stats = self.registry.stats();
        self.home.board.publish(self.home.index, stats.without_population());
    }
}
