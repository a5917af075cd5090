//! The task of a client. It runs the state machine, the link and the clock.

use std::{collections::BTreeMap, future::pending, sync::Arc};

use tabmux_core::{
    OwnedPayload, Timestamp,
    hub::{AskId, AttemptId, Input, LinkState},
    session::Secret,
    wire::{Payload, Position, close},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Duration, Instant, sleep_until, timeout},
};

use crate::{
    Ended, Status,
    credentials::{Source, Told},
    destination::Destination,
    inbox::Inbox,
    link::{Event, Link},
    machine::{Machine, News, Order},
    socket::Shared,
    topic::{BrowserEvent, TopicEvent},
};

/// Largest number of publications of a topic, or messages to all tabs, that wait for a reader. The
/// reader gets a gap in place of those above it.
const WAITING: usize = 1_024;
/// Longest time that closing a client may take.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Commands to the client's task from the client, its sockets and its topics.
#[derive(Debug)]
pub(crate) enum Command {
    Open {
        socket: u32,
        path: String,
        protocols: Vec<String>,
        shared: Arc<Shared>,
    },
    Send {
        socket: u32,
        payload: OwnedPayload,
    },
    Credit {
        socket: u32,
        bytes: u64,
    },
    Close {
        socket: u32,
        code: u16,
        reason: String,
    },
    Subscribe {
        topic: u32,
        name: String,
        since: Option<Position>,
        inbox: Inbox<TopicEvent>,
    },
    Unsubscribe {
        topic: u32,
    },
    Listen {
        inbox: Inbox<BrowserEvent>,
    },
    /// Ask the application for newer credentials.
    Renew,
    /// End the client, with all its sockets and topics.
    End,
}

/// The state of the client's task.
#[derive(Debug)]
pub(crate) struct Driver {
    machine: Machine,
    start: Instant,
    destination: Destination,
    link: Option<Link>,
    commands: mpsc::UnboundedReceiver<Command>,
    sockets: BTreeMap<u32, Arc<Shared>>,
    topics: BTreeMap<u32, Inbox<TopicEvent>>,
    listeners: Vec<Inbox<BrowserEvent>>,
    status: watch::Sender<Status>,
    source: Option<Source>,
    /// The credentials that the application returned last.
    credentials: Secret,
    answers: (mpsc::UnboundedSender<Answer>, mpsc::UnboundedReceiver<Answer>),
}

/// A question for credentials, and the application's answer.
type Answer = (AskId, Told);

impl Driver {
    /// `random` must be three random numbers.
    pub(crate) fn new(
        destination: Destination,
        source: Option<Source>,
        random: [u64; 3],
        commands: mpsc::UnboundedReceiver<Command>,
        status: watch::Sender<Status>,
    ) -> Self {
        let url = destination.url();
        Self {
            machine: Machine::new(Timestamp::default(), &url, source.is_some(), random),
            start: Instant::now(),
            destination,
            link: None,
            commands,
            sockets: BTreeMap::new(),
            topics: BTreeMap::new(),
            listeners: Vec::new(),
            status,
            source,
            credentials: Secret("".into()),
            answers: mpsc::unbounded_channel(),
        }
    }

    /// Runs until the client and all its sockets and topics are dropped, or until [`Command::End`].
    pub(crate) async fn run(mut self) {
        loop {
            self.carry_out();
            let wake = self.machine.poll_timeout().map(|at| self.instant(at));
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::End) | None => break,
                    Some(command) => self.command(command),
                },
                Some(answer) = self.answers.1.recv() => self.answered(answer),
                event = next_event(&mut self.link) => self.event(event),
                () = sleep(wake) => self.wake(),
            }
        }
        self.end().await;
    }

    /// Leaves the server, and waits until the link is closed.
    async fn end(mut self) {
        self.machine.leave(self.now());
        self.carry_out();
        if let Some(mut link) = self.link.take() {
            link.close(close::NORMAL, String::new());
            let closed = async {
                while let Some(event) = link.events.recv().await {
                    if matches!(event, Event::Closed { .. }) {
                        return;
                    }
                }
            };
            // The client ends even if the server does not answer.
            let _ = timeout(LAST_WAIT, closed).await;
        }
        self.over("the client is closed");
    }

    /// Ends all sockets and topics.
    fn over(&mut self, reason: &str) {
        for shared in std::mem::take(&mut self.sockets).into_values() {
            shared.ended(Ended::broken(reason));
        }
        for inbox in std::mem::take(&mut self.topics).into_values() {
            inbox.push(TopicEvent::End { reason: reason.to_owned() });
            inbox.end();
        }
        self.listeners.drain(..).for_each(|inbox| inbox.end());
        self.status.send_replace(Status::Closed { reason: reason.to_owned() });
    }

    fn command(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Open { socket, path, protocols, shared } => {
                self.sockets.insert(socket, shared);
                self.machine.open(now, socket, path, protocols);
            }
            Command::Send { socket, payload } => self.machine.send(now, socket, payload),
            Command::Credit { socket, bytes } => self.machine.give_credit(now, socket, bytes),
            Command::Close { socket, code, reason } => {
                self.machine.close(now, socket, code, reason);
            }
            Command::Subscribe { topic, name, since, inbox } => {
                self.topics.insert(topic, inbox);
                self.machine.subscribe(now, topic, &name, since);
            }
            Command::Unsubscribe { topic } => {
                if self.topics.remove(&topic).is_some() {
                    self.machine.unsubscribe(now, topic);
                }
            }
            Command::Listen { inbox } => self.listeners.push(inbox),
            Command::Renew => self.machine.renew(now),
            // The loop in `run` handles this command and ends.
            Command::End => {}
        }
    }

    /// Takes the application's answer to a question for credentials.
    fn answered(&mut self, (id, told): Answer) {
        let now = self.now();
        match told {
            Ok(text) => {
                let is_new = *text != *self.credentials.0;
                self.credentials = Secret(text.into());
                self.machine.answer(now, id, Ok(is_new));
            }
            Err(why) => self.machine.answer(now, id, Err(&why)),
        }
    }

    fn event(&mut self, event: Event) {
        let (now, attempt) = (self.now(), self.attempt());
        match event {
            Event::Opened => {
                let (protocol, extensions) = ("", "");
                self.machine.link(now, Input::LinkOpened { attempt, protocol, extensions });
            }
            Event::Message(payload) => {
                let payload: Payload<'_> = payload.as_payload();
                self.machine.link(now, Input::LinkMessage { attempt, payload });
            }
            Event::Closed { code, reason, clean, failed } => {
                self.link = None;
                let reason = &reason;
                self.machine.link(now, Input::LinkClosed { attempt, code, reason, clean, failed });
            }
        }
    }

    fn wake(&mut self) {
        let unsent = self.link.as_ref().map_or(0, Link::unsent);
        self.machine.wake(self.now(), self.attempt(), unsent);
    }

    fn carry_out(&mut self) {
        while let Some(order) = self.machine.poll_order() {
            match order {
                Order::Open(attempt) => {
                    self.link = Some(Link::dial(attempt, self.destination.clone()))
                }
                Order::Send(attempt, payload) => {
                    if let Some(link) = self.link_of(attempt) {
                        link.send(payload);
                    }
                }
                Order::Show(attempt, mut frame) => {
                    frame.extend_from_slice(self.credentials.0.as_bytes());
                    if let Some(link) = self.link_of(attempt) {
                        link.send(OwnedPayload::Binary(frame));
                    }
                }
                Order::Ask(id) => {
                    if let Some(source) = self.source.clone() {
                        let answers = self.answers.0.clone();
                        // The end of the client does not cancel the application's function.
                        drop(tokio::spawn(async move { answers.send((id, source.ask().await)) }));
                    }
                }
                Order::ShowTicket { ticket, path } => {
                    tokio::spawn(self.destination.clone().show(ticket, path));
                }
                Order::Close(attempt, code, reason) => {
                    if let Some(link) = self.link_of(attempt) {
                        link.close(code, reason);
                    }
                }
                Order::Tell(news) => self.tell(news),
            }
        }
    }

    fn tell(&mut self, news: News) {
        match news {
            News::Status { state, reason } => {
                let status = match state {
                    LinkState::Idle | LinkState::Connecting => Status::Connecting,
                    LinkState::Connected => Status::Connected,
                    LinkState::Backoff => Status::Backoff { reason },
                    LinkState::Full => Status::Full { reason },
                    LinkState::Refused => Status::Refused { reason },
                };
                self.status.send_if_modified(|old| {
                    let is_new = *old != status;
                    *old = status;
                    is_new
                });
            }
            News::Opened { socket, protocol, credit } => {
                if let Some(shared) = self.sockets.get(&socket) {
                    shared.opened(protocol, credit);
                }
            }
            News::Message { socket, payload } => {
                if let Some(shared) = self.sockets.get(&socket) {
                    shared.inbox.push(payload);
                }
            }
            News::Credit { socket, bytes } => {
                if let Some(shared) = self.sockets.get(&socket) {
                    shared.add_credit(bytes);
                }
            }
            News::Closed { socket, code, clean, reason, error } => {
                if let Some(shared) = self.sockets.remove(&socket) {
                    shared.ended(Ended { code, reason, clean, error });
                }
            }
            News::Subscribed { topic, position } => {
                self.publish(topic, TopicEvent::Subscribed { position });
            }
            News::Publication { topic, position, payload } => {
                self.publish(topic, TopicEvent::Message { position, message: payload });
            }
            News::Gap { topic, position } => self.publish(topic, TopicEvent::Gap { position }),
            News::Unsubscribed { topic, reason } => {
                if let Some(inbox) = self.topics.remove(&topic) {
                    inbox.push(TopicEvent::End { reason });
                    inbox.end();
                }
            }
            News::Browser(message) => self.broadcast(&BrowserEvent::Message(message)),
            News::BrowserGap => self.broadcast(&BrowserEvent::Gap),
            News::Refused(reason) => self.over(&reason),
        }
    }

    fn publish(&self, topic: u32, event: TopicEvent) {
        if let Some(inbox) = self.topics.get(&topic) {
            inbox.push_or(WAITING, event, TopicEvent::into_gap);
        }
    }

    fn broadcast(&mut self, event: &BrowserEvent) {
        // A listener whose reader is gone is dropped.
        self.listeners.retain(|inbox| !inbox.is_alone());
        for inbox in &self.listeners {
            inbox.push_or(WAITING, event.clone(), |_| BrowserEvent::Gap);
        }
    }

    fn attempt(&self) -> AttemptId {
        self.link.as_ref().map_or(AttemptId(0), |link| link.attempt)
    }

    fn link_of(&self, attempt: AttemptId) -> Option<&Link> {
        self.link.as_ref().filter(|link| link.attempt == attempt)
    }

    fn now(&self) -> Timestamp {
        let micros = self.start.elapsed().as_micros();
        Timestamp::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    fn instant(&self, at: Timestamp) -> Instant {
        // Adds a microsecond, so that `at` has passed when the timer fires.
        self.start + Duration::from_micros(at.as_micros() + 1)
    }
}

/// Returns the next event of the link. Without a link it never returns.
async fn next_event(link: &mut Option<Link>) -> Event {
    match link {
        Some(link) => link.events.recv().await.unwrap_or_else(|| Event::Closed {
            code: close::ABNORMAL,
            reason: "the task of the link ended".to_owned(),
            clean: false,
            failed: false,
        }),
        None => pending().await,
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}
