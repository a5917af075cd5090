//! Who pays when memory is short, and what one user or one address may have.

use std::{sync::Arc, time::Duration};

use tabmux_core::{
    session::{
        Account, AccountLimits, Admitted, Answer, Ask, Encoded, Event, Holder, Input, Joined,
        LinkDown, LinkId, Output, Publication, SendError, SessionConfig, SessionEnd, Shares,
        SlowPolicy, SocketRef, TopicFrame, Topics, Visitor,
    },
    wire::{
        Alias, Denied, HubFrame, Payload, RefusedReason, ServerFrame, SocketId, Unsubscribed,
        UnsubscribedReason, Welcome,
    },
};

use super::support::{
    Server, ack, attach, cause, closed, frame, frames, hello, open, resume, text,
};

/// The limit of memory in these tests: publications suffer from 600,000 bytes on, messages from
/// 700,000.
const MEMORY: usize = 800_000;

/// No account has a limit of its own.
const UNLIMITED: AccountLimits =
    AccountLimits { bytes: 0, detached: 0, subscriptions: 0, topics: 0 };

fn config() -> SessionConfig {
    let (per_user, per_address) = (UNLIMITED, UNLIMITED);
    let lane_bytes = 10 << 20;
    let config = SessionConfig { lane_bytes, session_bytes: lane_bytes, ..Default::default() };
    let config = SessionConfig { queue_bytes: lane_bytes, window_bytes: lane_bytes, ..config };
    SessionConfig { memory_bytes: MEMORY, per_user, per_address, ..config }
}

fn address(number: u64) -> Arc<Account> {
    Arc::new(Account::new(number, Holder::Address))
}

/// What is known of a client of an account.
fn visitor(account: &Arc<Account>) -> Option<Visitor> {
    let account = Some(Arc::clone(account));
    Some(Visitor::Admitted(Admitted { account, ..Admitted::default() }))
}

/// Opens a link of an account, whose tab has an open socket. Returns it and the WELCOME.
fn browser(server: &mut Server, link: u64, account: &Arc<Account>) -> (SocketRef, Welcome) {
    server.open_by(link, visitor(account));
    let outputs = server.say(link, &hello());
    let welcome = frames(&outputs).into_iter().find_map(|frame| match frame {
        ServerFrame::Welcome(welcome) => Some(welcome),
        _ => None,
    });
    let welcome = welcome.unwrap();
    server.say(link, &attach(1));
    server.say(link, &open(1, 1));
    let socket = SocketRef { session: welcome.session, tab: Alias(1), socket: SocketId(1) };
    server.accept(socket, "");
    server.drain();
    server.written(link, 1 << 20);
    server.say(link, &ack(&[(1, 1)]));
    (socket, welcome)
}

fn send(server: &mut Server, socket: SocketRef, len: usize) -> Result<(), SendError> {
    let sent = server.registry.send(server.now, socket, Payload::Binary(&vec![0; len]));
    server.drain();
    sent
}

/// Sends until the server keeps so much. The link reads, and acknowledges nothing.
fn fill(server: &mut Server, link: u64, socket: SocketRef, bytes: usize) {
    while server.registry.stats().charged.bytes() < bytes {
        server.registry.send(server.now, socket, Payload::Binary(&[0; 1_000])).unwrap();
        server.drain();
        server.written(link, 10_000);
    }
}

fn linked(server: &Server) -> usize {
    server.registry.stats().links.open
}

#[test]
fn near_the_limit_messages_of_the_account_that_holds_the_most_are_refused_and_no_others() {
    let mut server = Server::with(config());
    let (greedy, neighbour) = (address(1), address(2));
    let (one, _) = browser(&mut server, 1, &greedy);
    let (two, _) = browser(&mut server, 2, &greedy);
    let (third, _) = browser(&mut server, 3, &neighbour);
    fill(&mut server, 1, one, 350_000);
    send(&mut server, third, 20_000).unwrap();
    fill(&mut server, 2, two, 699_000);
    assert_eq!(send(&mut server, one, 2_000), Ok(()), "there is room for one more");
    // All sessions of the account count together.
    assert_eq!(send(&mut server, one, 1_000), Err(SendError::Full));
    assert_eq!(send(&mut server, two, 1_000), Err(SendError::Full));
    for _ in 0..20 {
        assert_eq!(send(&mut server, third, 1_000), Ok(()));
    }
    assert_eq!(server.registry.stats().messages.no_memory, 2);
    assert_eq!(linked(&server), 3);
    // What is acknowledged makes room.
    let sent = server.registry.stats().messages.sent;
    server.say(1, &ack(&[(1, sent.min(200))]));
    assert_eq!(send(&mut server, two, 1_000), Ok(()));
}

#[test]
fn at_the_limit_the_largest_session_of_the_account_that_holds_the_most_ends() {
    let mut server = Server::with(config());
    let (greedy, neighbour) = (address(1), address(2));
    let (small, _) = browser(&mut server, 1, &greedy);
    let (large, _) = browser(&mut server, 2, &greedy);
    let (third, _) = browser(&mut server, 3, &neighbour);
    send(&mut server, third, 200_000).unwrap();
    fill(&mut server, 1, small, 320_000);
    fill(&mut server, 2, large, 690_000);
    // What is not refused by a message: what the shell holds for a link.
    let outputs = server.input(Input::LinkHolds { link: LinkId(1), bytes: 120_000 });
    assert_eq!(cause(&outputs), LinkDown::Evicted);
    assert_eq!(closed(&outputs).0, 2, "its other session is larger");
    let ServerFrame::Denied(Denied { code, retry_ms, message, .. }) = frame(&outputs) else {
        panic!("not told why: {outputs:?}")
    };
    assert_eq!((code, retry_ms), (RefusedReason::Limit, Some(5_000)));
    assert_eq!(message, "this browser, or its user, holds too much memory of the server");
    let stats = server.registry.stats();
    assert_eq!((stats.sessions.held, stats.sessions.evicted), (2, 1));
    assert_eq!(send(&mut server, third, 1_000), Ok(()));
    assert_eq!(send(&mut server, small, 1_000), Ok(()), "there is room again");
}

#[test]
fn a_session_without_a_link_ends_as_well_if_it_is_the_largest() {
    let mut server = Server::with(config());
    let (greedy, neighbour) = (address(1), address(2));
    let (large, _) = browser(&mut server, 1, &greedy);
    browser(&mut server, 2, &neighbour);
    fill(&mut server, 1, large, 500_000);
    server.cut(1);
    let outputs = server.input(Input::LinkHolds { link: LinkId(2), bytes: 310_000 });
    let (session, end) = (large.session, SessionEnd::Evicted);
    assert!(outputs.contains(&Output::Event(Event::SessionEnded { session, end })));
    assert_eq!((linked(&server), greedy.is_idle()), (1, true));
}

#[test]
fn many_links_of_one_address_leave_every_echo_to_the_neighbour() {
    let mut server = Server::with(SessionConfig { memory_bytes: 32 << 20, ..config() });
    let (greedy, neighbour) = (address(1), address(2));
    let (echo, _) = browser(&mut server, 1_000, &neighbour);
    let mut attackers = Vec::new();
    for link in 1..=200 {
        attackers.push(browser(&mut server, link, &greedy).0);
    }
    let mut refused = 0;
    for round in 0..300_u64 {
        for attacker in &attackers {
            refused += u32::from(send(&mut server, *attacker, 1_000) == Err(SendError::Full));
        }
        server.say(1_000, &text(2 + round, 1, "are you there?"));
        assert_eq!(send(&mut server, echo, 1_000), Ok(()), "round {round}");
        server.written(1_000, 10_000);
        server.say(1_000, &ack(&[(1, round)]));
        assert!(server.registry.stats().charged.bytes() < 32 << 20);
    }
    assert!(refused > 10_000, "{refused}");
}

#[test]
fn who_has_no_more_than_each_may_have_never_pays() {
    // All that there is is less than the smallest parts of all sessions.
    let minimum_bytes = 40_000;
    let mut server = Server::with(SessionConfig { minimum_bytes, ..config() });
    let sockets: Vec<_> =
        (1..=20).map(|link| browser(&mut server, link, &address(link)).0).collect();
    for _ in 0..35 {
        for socket in &sockets {
            assert_eq!(send(&mut server, *socket, 1_000), Ok(()));
        }
    }
    assert!(server.registry.stats().charged.bytes() > MEMORY / 8 * 7);
    // The first that goes beyond it pays for all.
    let outputs = server.input(Input::LinkHolds { link: LinkId(7), bytes: 90_000 });
    assert_eq!(closed(&outputs).0, 7);
    assert_eq!(linked(&server), 19);
}

/// A topic of a shard, whose frames a meter counts.
struct Stage {
    server: Server,
    topics: Topics,
}

impl Stage {
    fn new(config: SessionConfig) -> Self {
        Self { server: Server::with(config), topics: Topics::new(7, 1_000) }
    }

    fn subscribe(&mut self, link: u64, topic: &str) -> Vec<Output> {
        let subscribe = HubFrame::Subscribe { request: 1, position: None, topic };
        let mut outputs = self.server.say(link, &subscribe);
        outputs.retain(|output| {
            let Output::Ask { ask, what: Ask::Join { topic } } = output else { return true };
            let Joined { topic, position } = self.topics.join(0, topic).unwrap();
            let answer = Answer::Joined { topic, position, policy: SlowPolicy::Recover };
            self.server.registry.answer(self.server.now, *ask, answer).unwrap();
            false
        });
        outputs.extend(self.server.drain());
        self.server.written(link, 1 << 20);
        outputs
    }

    fn publish(&mut self, topic: &str, len: usize) -> Vec<Output> {
        let numbered = self.topics.publish(topic, Payload::Binary(&vec![0; len]));
        let Some(TopicFrame { topic, bytes, meter }) = numbered.frame else {
            return Vec::new();
        };
        let frame = Encoded::new(bytes.into(), None).of_topic(topic, numbered.previous);
        let frame = Arc::new(frame.charged_to(&meter));
        let publication = Publication { topic, position: numbered.position, frame };
        self.server.registry.publish(self.server.now, &[publication]);
        let outputs = self.server.drain();
        for output in &outputs {
            if let Output::TopicUnwanted { topic } = output {
                self.topics.leave(0, *topic);
            }
        }
        outputs
    }
}

/// The links that a publication goes to.
fn links(outputs: &[Output]) -> Vec<u64> {
    let published = outputs.iter().filter_map(|output| match output {
        Output::Publish { links, .. } => Some(links.iter().map(|link| link.0)),
        _ => None,
    });
    published.flatten().collect()
}

/// Why a topic was refused, or ended.
fn unsubscribed(outputs: &[Output]) -> Option<(UnsubscribedReason, Option<u64>, String)> {
    frames(outputs).into_iter().find_map(|frame| match frame {
        ServerFrame::Unsubscribed(Unsubscribed { reason, retry_ms, message, .. }) => {
            Some((reason, retry_ms, message.to_owned()))
        }
        _ => None,
    })
}

#[test]
fn the_first_that_pays_is_who_holds_the_most_with_publications() {
    let mut stage = Stage::new(config());
    let (greedy, neighbour) = (address(1), address(2));
    let (one, _) = browser(&mut stage.server, 1, &greedy);
    browser(&mut stage.server, 2, &neighbour);
    stage.subscribe(1, "prices");
    stage.subscribe(2, "prices");
    fill(&mut stage.server, 1, one, 500_000);
    assert_eq!(links(&stage.publish("prices", 100)), [1, 2]);
    fill(&mut stage.server, 1, one, 610_000);
    let outputs = stage.publish("prices", 100);
    assert_eq!(links(&outputs), [2]);
    assert_eq!(unsubscribed(&outputs).unwrap().0, UnsubscribedReason::Slow);
    assert_eq!(send(&mut stage.server, one, 1_000), Ok(()), "its messages are refused later");
}

#[test]
fn publications_that_many_do_not_acknowledge_count_once() {
    let mut stage = Stage::new(SessionConfig { memory_bytes: 8 << 20, ..config() });
    for link in 1..=100 {
        browser(&mut stage.server, link, &address(link));
        stage.subscribe(link, "prices");
    }
    // 100 MiB, if each counted what it is behind.
    for _ in 0..64 {
        let outputs = stage.publish("prices", 16 << 10);
        assert_eq!(links(&outputs).len(), 100);
        (1..=100).for_each(|link| drop(stage.server.written(link, 1 << 20)));
    }
    assert_eq!(stage.server.registry.stats().topics.slow_subscriptions, 0);
}

#[test]
fn where_publications_take_the_memory_hubs_that_are_behind_pay() {
    let memory_bytes = 4 << 20;
    let mut stage = Stage::new(SessionConfig { memory_bytes, window_bytes: 64 << 10, ..config() });
    for link in 1..=100 {
        browser(&mut stage.server, link, &address(link));
        stage.subscribe(link, &format!("topic {link}"));
    }
    let (echo, _) = browser(&mut stage.server, 1_000, &address(1_000));
    for _ in 0..64 {
        for link in 1..=100 {
            stage.publish(&format!("topic {link}"), 4 << 10);
        }
        assert!(stage.topics.meter().bytes() < memory_bytes / 4 * 5);
        assert_eq!(send(&mut stage.server, echo, 10), Ok(()));
    }
    assert!(stage.server.registry.stats().topics.slow_subscriptions > 0);
}

#[test]
fn what_other_registries_hold_counts_and_who_holds_little_here_does_not_pay() {
    let mut server = Server::with(config());
    let (socket, _) = browser(&mut server, 1, &address(1));
    fill(&mut server, 1, socket, 50_000);
    let shares = |others, heaviest| Input::Shares(Shares { others, registries: 2, heaviest });
    assert_eq!(server.input(shares(690_000, 600_000)), []);
    assert_eq!(send(&mut server, socket, 1_000), Ok(()), "the other one is to pay");
    assert_eq!(server.registry.heaviest() / 1_000, 49);
    // Here is who holds the most.
    server.input(shares(690_000, 20_000));
    assert_eq!(send(&mut server, socket, 1_000), Err(SendError::Full));
    server.input(shares(0, 0));
    assert_eq!(send(&mut server, socket, 1_000), Ok(()));
    assert_eq!(server.registry.heaviest(), 0, "nobody needs to know");
}

#[test]
fn all_registries_together_never_hold_a_quarter_more_than_the_limit() {
    const REGISTRIES: usize = 4;
    let mut servers = [(); REGISTRIES].map(|()| Server::with(config()));
    let held = |servers: &[Server]| -> Vec<usize> {
        servers.iter().map(|server| server.registry.stats().charged.bytes()).collect()
    };
    let mut link = 0;
    for _ in 0..20 {
        let before = held(&servers);
        let sum: usize = before.iter().sum();
        let heaviest = servers.iter().map(|server| server.registry.heaviest()).max().unwrap();
        for (server, own) in servers.iter_mut().zip(&before) {
            let registries = REGISTRIES;
            server.input(Input::Shares(Shares { others: sum - own, registries, heaviest }));
        }
        // All that happens until the shell adds up again: each link is of another address.
        for server in &mut servers {
            for _ in 0..100 {
                link += 1;
                browser(server, link, &address(link));
                server.input(Input::LinkHolds { link: LinkId(link), bytes: 5_000 });
            }
        }
        let sum: usize = held(&servers).iter().sum();
        assert!(sum <= MEMORY / 4 * 5, "{sum}");
    }
    let evicted = servers.iter().map(|server| server.registry.stats().sessions.evicted);
    assert!(evicted.sum::<u64>() > 1_000);
}

#[test]
fn an_account_that_holds_more_than_any_may_loses_its_largest_sessions() {
    let per_address = AccountLimits { bytes: 80_000, ..UNLIMITED };
    let mut server = Server::with(SessionConfig { per_address, ..config() });
    let greedy = address(1);
    let (one, _) = browser(&mut server, 1, &greedy);
    let (two, _) = browser(&mut server, 2, &greedy);
    let (third, _) = browser(&mut server, 3, &address(2));
    fill(&mut server, 1, one, 75_000);
    while send(&mut server, two, 1_000).is_ok() {}
    assert_eq!(send(&mut server, one, 1_000), Err(SendError::Full));
    assert_eq!((send(&mut server, third, 1_000), linked(&server)), (Ok(()), 3));
    let outputs = server.input(Input::LinkHolds { link: LinkId(2), bytes: 20_000 });
    assert_eq!((closed(&outputs).0, cause(&outputs)), (1, LinkDown::Evicted));
    assert!(greedy.bytes() < 70_000 && linked(&server) == 2);
}

#[test]
fn a_session_that_goes_on_from_elsewhere_counts_there() {
    let mut stage = Stage::new(config());
    let (home, office) = (address(1), address(2));
    let (socket, welcome) = browser(&mut stage.server, 1, &home);
    stage.subscribe(1, "prices");
    fill(&mut stage.server, 1, socket, 50_000);
    stage.server.cut(1);
    let held = home.bytes();
    assert!(held > 40_000);
    stage.server.open_by(2, visitor(&office));
    stage.server.say(2, &resume(&welcome, 9, None));
    assert_eq!(home.bytes(), 0);
    assert!(office.bytes() + 1_000 > held);
    // The topic stays with who brought it up.
    stage.server.say(2, &HubFrame::Unsubscribe { topic: "prices" });
    assert!(home.is_idle());
    stage.server.cut(2);
    stage.server.pass(Duration::from_secs(300));
    assert!(office.is_idle());
    assert_eq!(stage.server.registry.stats().charged.bytes(), 0);
}

#[test]
fn who_drops_many_sessions_loses_its_own_and_not_those_of_others() {
    let mut server = Server::with(SessionConfig { detached_sessions: 50, ..config() });
    let (greedy, neighbour) = (address(1), address(2));
    let (_, kept) = browser(&mut server, 1_000, &neighbour);
    server.cut(1_000);
    for link in 1..=500 {
        browser(&mut server, link, &greedy);
        server.cut(link);
    }
    let stats = server.registry.stats();
    assert_eq!((stats.sessions.detached, stats.sessions.evicted), (50, 451));
    server.open_by(1_001, visitor(&neighbour));
    let outputs = server.say(1_001, &resume(&kept, 9, None));
    let is_back = |frame: &ServerFrame<'_>| matches!(frame, ServerFrame::Welcome(it) if it.resumed);
    assert!(frames(&outputs).iter().any(is_back), "{outputs:?}");
}

#[test]
fn an_account_has_so_many_sessions_without_a_link() {
    let per_address = AccountLimits { detached: 3, ..UNLIMITED };
    let mut server = Server::with(SessionConfig { per_address, ..config() });
    let greedy = address(1);
    let browsers: Vec<_> = (1..=4).map(|link| browser(&mut server, link, &greedy).0).collect();
    browser(&mut server, 5, &address(2));
    for link in [2, 1, 3, 5] {
        server.cut(link);
        server.pass(Duration::from_secs(1));
    }
    assert_eq!(server.registry.stats().sessions.detached, 4);
    let outputs = server.cut(4);
    let (session, end) = (browsers[1].session, SessionEnd::Evicted);
    assert!(outputs.contains(&Output::Event(Event::SessionEnded { session, end })));
    assert_eq!(server.registry.stats().sessions.detached, 4);
}

#[test]
fn an_account_has_so_many_subscriptions_and_topics() {
    let per_user = AccountLimits { subscriptions: 4, topics: 2, ..UNLIMITED };
    let mut stage = Stage::new(SessionConfig { per_user, ..config() });
    let user = Arc::new(Account::new(1, Holder::User));
    browser(&mut stage.server, 1, &user);
    browser(&mut stage.server, 2, &user);
    browser(&mut stage.server, 3, &address(2));
    let refused = |outputs: Vec<Output>| unsubscribed(&outputs);
    assert_eq!(refused(stage.subscribe(3, "news")), None);
    assert_eq!(refused(stage.subscribe(1, "a")), None);
    assert_eq!(refused(stage.subscribe(2, "b")), None);
    let (reason, retry, message) = refused(stage.subscribe(1, "c")).unwrap();
    assert_eq!((reason, retry), (UnsubscribedReason::Limit, Some(5_000)));
    assert_eq!(message, "a user may bring up 2 topics on this server");
    assert_eq!(refused(stage.subscribe(1, "news")), None, "somebody else has it");
    assert_eq!(refused(stage.subscribe(2, "news")), None);
    let (_, _, message) = refused(stage.subscribe(1, "b")).unwrap();
    assert_eq!(message, "a user may have 4 subscriptions on this server");
    assert_eq!(refused(stage.subscribe(3, "c")), None, "others are not refused");
    let topics = stage.server.registry.stats().topics;
    assert_eq!((topics.subscriptions_refused, topics.account_full), (2, 2));
    stage.server.say(2, &HubFrame::Unsubscribe { topic: "b" });
    assert_eq!(refused(stage.subscribe(1, "d")), None);
}
