//! Whatever hubs, the shell and the clock do, a registry keeps its promises to the shell: it speaks
//! of open links only, ends each question and each socket once, counts what there is, and holds
//! nothing when all are gone.

#![no_main]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};
use tabmux_core::{
    Timestamp,
    feed::{Keep, Recalled},
    session::{
        Admitted, Answer, AnswerError, Ask, AskId, Denial, Encoded, Farewell, Input, Joined,
        LinkId, Output, Publication, Registry, SessionConfig, SlowPolicy, SocketRef, TopicFrame,
        Topics, User, Visitor,
    },
};
use tabmux_wire::{
    Alias, ErrorCode, Hello, HubFrame, HubId, LaneCount, Payload, Position, RefusedReason, Request,
    Resume, ServerFrame, SessionId, SocketId, TabId, Term, Token, TopicId, Upstream,
};

fuzz_target!(|bytes: &[u8]| {
    let mut dice = Unstructured::new(bytes);
    let Ok(mut shell) = Shell::new(&mut dice) else { return };
    while !dice.is_empty() {
        // An error says that the bytes are at an end.
        if shell.step(&mut dice).is_err() {
            break;
        }
        count_step();
        shell.look();
    }
    shell.end();
});

/// Counts the steps of all conversations, and tells each ten millions.
fn count_step() {
    static STEPS: AtomicU64 = AtomicU64::new(0);
    let steps = STEPS.fetch_add(1, Ordering::Relaxed) + 1;
    if steps.is_multiple_of(10_000_000) {
        eprintln!("{} million steps", steps / 1_000_000);
    }
}

const NAMES: [&str; 4] = ["latest", "gap", "recover", "\u{0}not a name"];
const TEXT: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
const PAUSES_MS: [u64; 8] = [0, 1, 90, 1_000, 4_000, 11_000, 31_000, 125_000];
/// Longer than all that a registry waits for.
const LONG: Duration = Duration::from_secs(10_000);

/// Draws who opens a link.
fn visitor(dice: &mut Unstructured<'_>) -> Result<Option<Visitor>> {
    let retry = Some(Duration::from_secs(1));
    Ok(match dice.int_in_range(0..=4_u8)? {
        0 | 1 => None,
        2 => {
            let (code, message) = (RefusedReason::Denied, "not today".into());
            Some(Visitor::Refused(Farewell { code, retry, message }))
        }
        user => {
            let user = Some(Arc::new(User::new(&(user - 2).to_string(), 0)));
            let headers = vec![("x-locale".into(), b"de".as_slice().into())];
            Some(Visitor::Admitted(Admitted { user, headers, ..Admitted::default() }))
        }
    })
}

/// What there is at the other side of a registry.
struct Shell {
    registry: Registry,
    topics: Topics,
    now: Timestamp,
    used: u64,
    links: BTreeSet<LinkId>,
    /// Links of which the registry has not yet said that they are down.
    up: BTreeSet<LinkId>,
    /// What hubs were told in WELCOME.
    sessions: Vec<(SessionId, Token, Term)>,
    asks: BTreeMap<AskId, Ask>,
    /// A question that is over.
    over: Option<AskId>,
    sockets: BTreeSet<SocketRef>,
    joined: BTreeSet<TopicId>,
    /// How many reliable frames each tab of a link has sent.
    said: BTreeMap<(LinkId, u32), u64>,
}

impl Shell {
    fn new(dice: &mut Unstructured<'_>) -> Result<Self> {
        // Limits that a few steps reach.
        let config = SessionConfig {
            links: 4,
            tabs: 3,
            sockets: 3,
            subscriptions: 2,
            credentials: true,
            message_bytes: 4_096,
            queue_bytes: 512,
            control_bytes: 512,
            window_bytes: 128,
            backlog_bytes: 256,
            memory_bytes: 8_192, minimum_bytes: 256,
            lane_bytes: 256,
            session_bytes: 512,
            absent_bytes: 512,
            credit_bytes: 512,
            asks: 3,
            detached_sessions: 2,
            ask_subscriptions: dice.arbitrary()?,
            ask_bytes: 64,
            requests: dice.arbitrary()?,
            history: dice.arbitrary()?,
            recall_bytes: 64,
            ..SessionConfig::default()
        };
        let now = Timestamp::from_millis(1_000);
        Ok(Self {
            registry: Registry::new(config, now),
            topics: Topics::new(1, 3),
            now,
            used: 0,
            links: BTreeSet::new(),
            up: BTreeSet::new(),
            sessions: Vec::new(),
            asks: BTreeMap::new(),
            over: None,
            sockets: BTreeSet::new(),
            joined: BTreeSet::new(),
            said: BTreeMap::new(),
        })
    }

    fn step(&mut self, dice: &mut Unstructured<'_>) -> Result<()> {
        match dice.int_in_range(0..=21)? {
            0 => self.open_link(dice)?,
            1 => self.hello(dice)?,
            2..=8 => self.frame(dice)?,
            9 => {
                let bytes = dice.arbitrary::<u8>()?.into();
                self.on_link(dice, |link| Input::LinkWritten { link, bytes })?;
            }
            10 => {
                let link = self.on_link(dice, |link| Input::LinkClosed { link })?;
                self.links.retain(|it| Some(*it) != link);
            }
            11 => self.answer(dice)?,
            12 => self.send(dice)?,
            13 => self.close_or_give_back(dice)?,
            14 => self.publish(dice)?,
            15 | 16 => {
                let pause = PAUSES_MS[dice.choose_index(PAUSES_MS.len())?];
                self.pass(Duration::from_millis(pause));
            }
            17 => {
                let bytes = dice.bytes(dice.len().min(12))?.to_vec();
                let Some(link) = self.link(dice)? else { return Ok(()) };
                let input = Input::LinkMessage { link, bytes: &bytes };
                self.registry.handle_input(self.now, input);
            }
            18 => {
                self.on_link(dice, |link| Input::LinkText { link })?;
            }
            19 => {
                let bytes = dice.arbitrary::<u16>()?.into();
                self.on_link(dice, |link| Input::LinkHolds { link, bytes })?;
            }
            20 => self.people(dice)?,
            _ if dice.ratio(1, 8)? => self.registry.shutdown(self.now),
            _ => {
                let spread = Duration::from_secs(1);
                self.registry.drain(self.now, dice.int_in_range(1..=3)?, spread, spread);
            }
        }
        Ok(())
    }

    fn link(&self, dice: &mut Unstructured<'_>) -> Result<Option<LinkId>> {
        let links: Vec<_> = self.links.iter().copied().collect();
        if links.is_empty() { Ok(None) } else { dice.choose(&links).copied().map(Some) }
    }

    fn on_link(
        &mut self,
        dice: &mut Unstructured<'_>,
        input: impl FnOnce(LinkId) -> Input<'static>,
    ) -> Result<Option<LinkId>> {
        let link = self.link(dice)?;
        if let Some(link) = link {
            self.registry.handle_input(self.now, input(link));
        }
        Ok(link)
    }

    /// The application does something with users, sessions and tabs.
    fn people(&mut self, dice: &mut Unstructured<'_>) -> Result<()> {
        let user = dice.int_in_range(1..=2_u8)?.to_string();
        let retry = dice.arbitrary::<bool>()?.then_some(Duration::from_secs(1));
        let (code, message) = (RefusedReason::Ended, "the application ends it".into());
        let farewell = Farewell { code, retry, message };
        let sessions = self.registry.sessions().collect::<Vec<_>>();
        let session = (!sessions.is_empty()).then(|| dice.choose(&sessions)).transpose()?;
        match (dice.int_in_range(0..=5)?, session) {
            (0, Some(info)) => {
                let ended = self.registry.end_session(self.now, info.session, &farewell);
                assert_eq!(ended, Ok(()), "a session that is listed can be ended");
            }
            (1, Some(info)) if !info.tabs.is_empty() => {
                let tab = *dice.choose(&info.tabs)?;
                let ended = self.registry.end_tab(self.now, info.session, tab, &farewell);
                assert_eq!(ended, Ok(()), "a tab that is listed can be ended");
            }
            (2, _) => {
                self.registry.end_user(self.now, &user, &farewell);
                assert!(self.registry.sessions_of(&user).is_empty(), "a user's sessions end");
            }
            (3, _) => {
                self.registry.recheck_user(self.now, &user, Duration::from_secs(1));
                let sessions = self.registry.sessions_of(&user);
                assert!(sessions.iter().all(|it| !it.is_linked), "a user's links close");
            }
            _ => {
                self.registry.tell_user(self.now, &user, Payload::Text("to the user"));
            }
        }
        Ok(())
    }

    fn open_link(&mut self, dice: &mut Unstructured<'_>) -> Result<()> {
        let place = (0..6).find(|place| self.links.iter().all(|it| it.0 & 0xffff_ffff != *place));
        let Some(place) = place else { return Ok(()) };
        self.used += 1;
        let link = LinkId(self.used << 32 | place);
        let mut entropy = [7; 32];
        entropy[8..16].copy_from_slice(&self.used.to_be_bytes());
        let visitor = visitor(dice)?.map(Arc::new);
        self.links.insert(link);
        self.up.insert(link);
        self.registry.handle_input(self.now, Input::LinkOpened { link, entropy, visitor });
        Ok(())
    }

    fn hello(&mut self, dice: &mut Unstructured<'_>) -> Result<()> {
        let resume = if self.sessions.is_empty() || dice.ratio(1, 3)? {
            None
        } else {
            let (session, token, Term(term)) = *dice.choose(&self.sessions)?;
            let have0 = dice.arbitrary::<bool>()?.then_some(dice.int_in_range(0..=3)?);
            let term = Term(term + dice.int_in_range(0..=1)?);
            Some(Resume { session, token, term, have0 })
        };
        let hub = HubId(dice.int_in_range(1..=3)?);
        let max_version = dice.int_in_range(1..=2)?;
        let credentials = if dice.ratio(1, 4)? { "who" } else { "" };
        let hello = Hello { min_version: 1, max_version, hub, resume, credentials };
        self.say(dice, |_, _| HubFrame::Hello(hello.clone()))
    }

    fn say(
        &mut self,
        dice: &mut Unstructured<'_>,
        frame: impl FnOnce(&mut Self, LinkId) -> HubFrame<'static>,
    ) -> Result<()> {
        let Some(link) = self.link(dice)? else { return Ok(()) };
        let bytes = frame(self, link).to_bytes();
        self.registry.handle_input(self.now, Input::LinkMessage { link, bytes: &bytes });
        Ok(())
    }

    /// The number of the next reliable frame of a tab; now and then that of the last one again.
    fn up(&mut self, dice: &mut Unstructured<'_>, link: LinkId) -> Result<Upstream> {
        let tab = dice.int_in_range(1..=4)?;
        let said = self.said.entry((link, tab)).or_default();
        match dice.int_in_range(0..=15)? {
            0 => {}
            // It may be another hub that goes on with the tab.
            1 => *said = dice.int_in_range(0..=4)?,
            _ => *said += 1,
        }
        Ok(Upstream { tab: Alias(tab), n: (*said).max(1) })
    }

    fn frame(&mut self, dice: &mut Unstructured<'_>) -> Result<()> {
        let Some(link) = self.link(dice)? else { return Ok(()) };
        let small = dice.int_in_range(0..=4_u64)?;
        let (tab, socket) = (TabId(small), SocketId(dice.int_in_range(1..=4)?));
        let name = *dice.choose(&NAMES)?;
        let text = &TEXT[..dice.int_in_range(0..=TEXT.len())?];
        let frame = match dice.int_in_range(0..=18)? {
            0 | 1 => HubFrame::Attach { tab, last: dice.int_in_range(0..=3)? },
            2 => HubFrame::Park { tab },
            3 => HubFrame::Gone { tab },
            4 => HubFrame::Suspend,
            5 | 6 => {
                let lane = dice.int_in_range(0..=4)?;
                let lanes = vec![LaneCount { lane, count: small }];
                let aside = if dice.ratio(1, 4)? { vec![Alias(1)] } else { Vec::new() };
                HubFrame::Ack { lanes, aside }
            }
            7 => HubFrame::Ping { nonce: small },
            8 => {
                let position = dice.ratio(1, 3)?.then_some(Position { epoch: 1, offset: small });
                HubFrame::Subscribe { request: small, position, topic: name }
            }
            9 => HubFrame::Unsubscribe { topic: name },
            10 | 11 => {
                let (up, credit) = (self.up(dice, link)?, 100 * small);
                let (path, protocols, ticket) = ("/chat", vec!["a"], "");
                HubFrame::Open { up, socket, credit, path, protocols, ticket }
            }
            12 => {
                let up = self.up(dice, link)?;
                HubFrame::Data { up, socket, payload: Payload::Text(text) }
            }
            13 => {
                let code = *dice.choose(&[0, 1000, 3000, 4999, 999])?;
                HubFrame::Close { up: self.up(dice, link)?, socket, code, reason: text }
            }
            14 | 15 => {
                let (up, credit, payload) = (self.up(dice, link)?, 50 * small, Payload::Text(text));
                HubFrame::Request(Request { up, socket, credit, method: "add", key: "", payload })
            }
            17 => HubFrame::Credentials { request: 1 + small, credentials: "who" },
            16 => HubFrame::Cancel { up: self.up(dice, link)?, socket },
            _ => {
                let bytes = *dice.choose(&[1, 64, 1_000, u64::MAX])?;
                HubFrame::Credit { up: self.up(dice, link)?, socket, bytes }
            }
        };
        let bytes = frame.to_bytes();
        self.registry.handle_input(self.now, Input::LinkMessage { link, bytes: &bytes });
        Ok(())
    }

    /// Returns the answer to a question what came of a topic.
    fn recall(&mut self, ask: &Ask) -> Option<Recalled> {
        match ask {
            Ask::Recall { topic, since, bytes } => {
                Some(self.topics.recall(self.now, topic, *since, *bytes))
            }
            _ => None,
        }
    }

    /// Answers a question: one that is open, in a way that fits or not, or one that is over.
    fn answer(&mut self, dice: &mut Unstructured<'_>) -> Result<()> {
        if let Some(over) = self.over.filter(|_| dice.ratio(1, 8).unwrap_or_default()) {
            let answer = self.registry.answer(self.now, over, Answer::Allow);
            assert_eq!(answer, Err(AnswerError::Late));
        }
        let open: Vec<_> = self.asks.iter().map(|(id, ask)| (*id, ask.clone())).collect();
        if open.is_empty() {
            return Ok(());
        }
        let (id, ask) = dice.choose(&open)?.clone();
        let denial = Denial { code: ErrorCode::Denied.into(), message: "no", retry: None };
        let kind = dice.int_in_range(0..=7_u8)?;
        let who = visitor(dice)?.unwrap_or_else(|| Visitor::Admitted(Admitted::default()));
        let who = Arc::new(who);
        let recalled = self.recall(&ask);
        let answer = match (&ask, kind) {
            (_, 0) => Answer::Deny(denial),
            (Ask::Open { .. } | Ask::Request { .. } | Ask::Connect { .. } | Ask::Recall { .. }, 1)
            | (Ask::Subscribe { .. }, 2..) => {
                Answer::Allow
            }
            (Ask::Subscribe { .. } | Ask::Join { .. }, 1) | (Ask::Open { .. }, 2..) => {
                Answer::Open { protocol: "" }
            }
            (Ask::Recall { .. }, 2..) => match &recalled {
                Some(recalled) => Answer::Recalled(recalled),
                None => Answer::Deny(denial),
            },
            (Ask::Connect { .. }, 2..) => Answer::Admit(&who),
            (Ask::Request { .. }, 2..) => {
                let payload = Payload::Text(&TEXT[..dice.int_in_range(0..=TEXT.len())?]);
                Answer::Reply { payload, last: kind < 5 }
            }
            (Ask::Join { topic }, 2..) => match self.topics.join(0, topic) {
                Ok(Joined { topic, position }) => {
                    let policy = SlowPolicy::DropWithGap;
                    Answer::Joined { topic, position, policy }
                }
                Err(_) => Answer::Deny(denial),
            },
        };
        let fits = kind != 1;
        let result = self.registry.answer(self.now, id, answer);
        let is_over = match (result, answer) {
            (Err(AnswerError::Unsent(_)), Answer::Reply { .. }) => false,
            (Ok(()), Answer::Reply { last, .. }) => last,
            (result, _) => {
                assert_eq!(result, if fits { Ok(()) } else { Err(AnswerError::Unfit) }, "{ask:?}");
                fits
            }
        };
        if !is_over {
            return Ok(());
        }
        self.asks.remove(&id);
        self.over = Some(id);
        match (ask, answer) {
            (Ask::Open { socket, .. }, Answer::Open { .. }) => {
                assert!(self.sockets.insert(socket), "{socket:?} is open twice");
            }
            (_, Answer::Joined { topic, .. }) => {
                self.joined.insert(topic);
            }
            _ => {}
        }
        Ok(())
    }

    fn send(&mut self, dice: &mut Unstructured<'_>) -> Result<()> {
        let payload = Payload::Text(&TEXT[..dice.int_in_range(0..=TEXT.len())?]);
        let sockets: Vec<_> = self.sockets.iter().copied().collect();
        if sockets.is_empty() || dice.ratio(1, 4)? {
            if let Some((session, ..)) = self.sessions.last() {
                let _ = self.registry.broadcast(self.now, *session, payload);
            }
            return Ok(());
        }
        let socket = *dice.choose(&sockets)?;
        // Each of these may say that there is no room.
        let _ = match dice.arbitrary()? {
            true => self.registry.send(self.now, socket, payload),
            false => self.registry.send_rushed(self.now, socket, payload),
        };
        Ok(())
    }

    fn close_or_give_back(&mut self, dice: &mut Unstructured<'_>) -> Result<()> {
        let sockets: Vec<_> = self.sockets.iter().copied().collect();
        if sockets.is_empty() {
            return Ok(());
        }
        let socket = *dice.choose(&sockets)?;
        if dice.arbitrary()? {
            self.registry.give_back(self.now, socket, 64);
        } else {
            let _ = self.registry.close(self.now, socket, 4_000, "bye");
        }
        Ok(())
    }

    fn publish(&mut self, dice: &mut Unstructured<'_>) -> Result<()> {
        let payload = Payload::Text(&TEXT[..dice.int_in_range(0..=TEXT.len())?]);
        let name = NAMES[dice.int_in_range(0..=2)?];
        let keep = Keep { count: 3, bytes: 256, age: Duration::from_secs(60) };
        let numbered = self.topics.publish_kept(self.now, name, keep, payload);
        if let Some(TopicFrame { topic, bytes, meter }) = numbered.frame {
            let frame = Encoded::new(bytes.into(), None).of_topic(topic, numbered.previous);
            let frame = frame.charged_to(&meter);
            let position = numbered.position;
            let publication = Publication { topic, position, frame: Arc::new(frame) };
            self.registry.publish(self.now, &[publication]);
        }
        Ok(())
    }

    /// Time passes, and the registry is woken whenever it asks to be.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some((at, why)) = self.registry.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.registry.handle_timeout(self.now);
            self.hear();
            let next = self.registry.poll_timeout();
            assert!(next.is_none_or(|(at, _)| at > self.now), "{why:?} is due again: {next:?}");
        }
        self.now = end;
    }

    /// Takes the orders, and holds the registry's numbers against what is left.
    fn look(&mut self) {
        self.hear();
        let stats = self.registry.stats();
        assert_eq!(stats.links.open, self.links.len());
        assert_eq!(self.up, self.links);
        assert_eq!(stats.asks.open, self.asks.len());
        let opening = self.asks.values().filter(|ask| matches!(ask, Ask::Open { .. })).count();
        assert_eq!(stats.sockets.open, self.sockets.len() + opening);
        let charged = stats.charged;
        assert_eq!(charged.asks == 0, stats.asks.open == self.joins(), "{charged:?}");
        if stats.links.open + stats.sessions.held == 0 {
            assert_eq!(charged.bytes(), 0, "{charged:?}");
        }
    }

    fn hear(&mut self) {
        while let Some(output) = self.registry.poll_output() {
            match output {
                Output::Send { link, bytes } => {
                    assert!(self.links.contains(&link), "{link:?} is not open");
                    match ServerFrame::decode(&bytes) {
                        Ok(ServerFrame::Welcome(welcome)) => {
                            self.sessions.push((welcome.session, welcome.token, welcome.term));
                        }
                        Ok(_) => {}
                        Err(error) => panic!("{error}: {bytes:02x?}"),
                    }
                }
                Output::CloseLink { link, .. } => {
                    assert!(self.links.remove(&link), "{link:?} is not open");
                }
                Output::Ask { ask, what } => {
                    assert!(self.asks.insert(ask, what).is_none(), "{ask:?} is asked twice");
                }
                Output::Withdrawn(ask) => {
                    assert!(self.asks.remove(&ask).is_some(), "{ask:?} is not open");
                    self.over = Some(ask);
                }
                Output::SocketMessage { socket, .. } | Output::SocketWritable { socket } => {
                    let mut requests = self.asks.values().filter_map(|ask| match ask {
                        Ask::Request { request, .. } => Some(*request),
                        _ => None,
                    });
                    let is_request = requests.any(|request| request == socket);
                    assert!(is_request || self.sockets.contains(&socket), "{socket:?} is not open");
                }
                Output::SocketClosed { socket, .. } => {
                    assert!(self.sockets.remove(&socket), "{socket:?} is not open");
                }
                Output::Publish { links, .. } => {
                    assert!(links.iter().all(|link| self.links.contains(link)), "{links:?}");
                }
                Output::TopicUnwanted { topic } => {
                    assert!(self.joined.remove(&topic), "{topic:?} was not joined");
                    self.topics.leave(0, topic);
                }
                Output::LinkDown { link, .. } => {
                    assert!(self.up.remove(&link), "{link:?} is down twice");
                }
                Output::Event(_) => {}
            }
        }
    }

    /// Returns how many of the questions are for topics, which the topics pay for.
    fn joins(&self) -> usize {
        let of_topic = |ask: &&Ask| matches!(ask, Ask::Join { .. } | Ask::Recall { .. });
        self.asks.values().filter(of_topic).count()
    }

    /// All links break, and everything runs out.
    fn end(&mut self) {
        // One after the other: the end of one may have the registry close another.
        while let Some(link) = self.links.pop_first() {
            self.registry.handle_input(self.now, Input::LinkClosed { link });
            self.look();
        }
        self.pass(LONG);
        self.look();
        let stats = self.registry.stats();
        assert_eq!(stats.sessions.held, 0);
        let tabs = stats.tabs;
        assert_eq!((tabs.attached, tabs.awaited, tabs.parked), (0, 0, 0));
        assert_eq!((self.sockets.len(), self.asks.len(), self.joined.len()), (0, 0, 0));
        assert_eq!((stats.topics.subscribed, stats.topics.subscriptions), (0, 0));
        assert_eq!((stats.memory.kept_bytes, stats.memory.queued_bytes), (0, 0));
        assert_eq!(stats.charged.bytes(), 0);
        // What is left is charged to the topics alone.
        let meter = Arc::clone(self.topics.meter());
        self.topics = Topics::new(1, 1);
        assert_eq!(meter.bytes(), 0);
        assert_eq!(self.registry.poll_timeout(), None);
    }
}
