//! Shards: where links live, what they cost each other, and what runs out.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use tabmux_core::wire::{Alias, HubFrame, Payload, ServerFrame, TabId, Welcome};
use tabmux_server::{
    Config, Ctx, Limits, Message, SendError, Server, SocketHandler, SocketSender, Target,
};
use tokio::{io::AsyncReadExt, net::TcpSocket};

use super::{
    raw::{Raw, head, hello, lines, masked},
    support::{Hub, Running, claim, frame, hello as hub_hello, say_hello_on, soon},
};

const TAB: Alias = Alias(1);

fn on_shards(shards: usize) -> Config {
    Config::default().shards(shards)
}

fn welcome(message: &[u8]) -> Welcome {
    let ServerFrame::Welcome(welcome) = frame(message) else { panic!("{message:?}") };
    welcome
}

/// The shard that a WELCOME's session names.
fn shard(message: &[u8]) -> u8 {
    welcome(message).session.0[0]
}

/// The id of a session that nobody has, in this shard of this node.
fn id_of(node: u16, shard: u8) -> [u8; 16] {
    let mut id = [9; 16];
    id[0] = shard;
    id[1..3].copy_from_slice(&node.to_be_bytes());
    id
}

#[tokio::test]
async fn links_spread_over_the_shards_and_their_numbers_add_up() {
    let server = Running::start(Server::builder().config(on_shards(3))).await;
    let (mut links, mut shards) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let mut raw = Raw::link(server.address).await;
        raw.say(&hello(None)).await;
        shards.push(shard(&raw.message().await));
        links.push(raw);
    }
    shards.sort_unstable();
    assert_eq!(shards, [0, 0, 1, 1, 2, 2]);
    server.stats(|stats| stats.links.open == 6 && stats.sessions.held == 6).await;
    links.truncate(2);
    server.stats(|stats| stats.links.open == 2 && stats.sessions.held == 2).await;
}

#[tokio::test]
async fn the_limit_of_links_is_one_for_all_shards() {
    let limits = Limits::default().links(2);
    let config = on_shards(3).limits(limits);
    let server = Running::start(Server::builder().config(config)).await;
    let first = Hub::welcomed(server.address).await;
    let _second = Hub::welcomed(server.address).await;
    assert_eq!(Hub::refused(server.address, &[]).await.0, 503);
    drop(first);
    server.stats(|stats| stats.links.open == 1).await;
    Hub::welcomed(server.address).await;
}

#[tokio::test]
async fn a_link_moves_to_the_shard_that_its_session_names() {
    let server = Running::start(Server::builder().config(on_shards(4))).await;
    for home in [2, 0, 3, 1] {
        let mut raw = Raw::link(server.address).await;
        let attach = masked(&HubFrame::Attach { tab: TabId(5), last: 0 }.to_bytes());
        // What comes behind HELLO moves with it, half a frame too.
        raw.say(&[&hello(Some(id_of(0, home))), &attach, &attach[..3]].concat()).await;
        assert_eq!(shard(&raw.message().await), home);
        assert!(matches!(frame(&raw.message().await), ServerFrame::Attached { .. }));
        raw.say(&attach[3..]).await;
        assert!(matches!(frame(&raw.message().await), ServerFrame::Attached { .. }));
        let stats = server.stats(|stats| stats.tabs.attached == 1).await;
        assert_eq!((stats.links.open, stats.sessions.held), (1, 1));
        drop(raw);
        server.stats(|stats| stats.links.open == 0).await;
    }
    // There is no such shard: it stays where it is.
    let mut raw = Raw::link(server.address).await;
    raw.say(&hello(Some(id_of(0, 200)))).await;
    assert!(shard(&raw.message().await) < 4);
}

#[tokio::test]
async fn a_session_names_its_node() {
    for node in [0, 7, 0x1234] {
        let server = Running::start(Server::builder().config(on_node(node))).await;
        let (_hub, welcome) = say_hello_on(Hub::dial(server.address).await, &hub_hello()).await;
        assert_eq!(welcome.session.0[1..3], node.to_be_bytes());
    }
}

fn on_node(node: u16) -> Config {
    on_shards(4).node(node)
}

#[tokio::test]
async fn a_link_that_claims_a_session_of_another_node_begins_a_new_one_where_it_is() {
    let server = Running::start(Server::builder().config(on_node(7))).await;
    for (node, home, is_moved) in [(0, 3, false), (8, 3, false), (0x0700, 3, false), (7, 3, true)] {
        let mut raw = Raw::link(server.address).await;
        raw.say(&hello(Some(id_of(node, home)))).await;
        let message = raw.message().await;
        let welcome = welcome(&message);
        assert_eq!(welcome.session.0[1..3], [0, 7], "{node}");
        // No link is open but this one, so it comes to the first shard.
        let expected = if is_moved { home } else { 0 };
        assert_eq!((welcome.session.0[0], welcome.resumed), (expected, false), "{node}");
        drop(raw);
        server.stats(|stats| stats.links.open == 0).await;
    }
}

#[tokio::test]
async fn a_session_goes_on_at_its_node_and_begins_anew_at_another() {
    let builder = Server::builder().config(on_node(1));
    let own = Running::start(crate::support::demo::install(builder)).await;
    let other = Running::start(Server::builder().config(on_node(2))).await;
    let (mut hub, first) = say_hello_on(Hub::dial(own.address).await, &hub_hello()).await;
    // A session in which nothing happened would end with its link.
    let tab = hub.attach(1).await;
    hub.open(tab, 1, "/echo", &[]).await;
    drop(hub);
    own.stats(|stats| stats.links.open == 0).await;
    let (_hub, away) = say_hello_on(Hub::dial(other.address).await, &claim(&first, 9)).await;
    assert!(!away.resumed && away.session != first.session);
    let (_hub, back) = say_hello_on(Hub::dial(own.address).await, &claim(&first, 9)).await;
    assert!(back.resumed && back.session == first.session);
}

#[tokio::test]
async fn the_application_reaches_no_session_of_another_node() {
    let server = Running::start(Server::builder().config(on_node(7))).await;
    let (_hub, welcome) = say_hello_on(Hub::dial(server.address).await, &hub_hello()).await;
    let handle = &server.handle;
    let own = welcome.session;
    handle.send(Target::Browser(own), Payload::Text("hello")).unwrap();
    let mut foreign = own;
    foreign.0[2] = 8;
    let sent = handle.send(Target::Browser(foreign), Payload::Text("hello"));
    assert_eq!(sent, Err(SendError::Closed));
}

#[tokio::test]
async fn a_pong_that_is_due_moves_with_its_link() {
    let server = Running::start(Server::builder().config(on_shards(3))).await;
    for home in [2, 0, 1] {
        let mut raw = Raw::link(server.address).await;
        let ping = [0x89, 0x81, 0, 0, 0, 0, 7];
        raw.say(&[&ping[..], &hello(Some(id_of(0, home)))].concat()).await;
        let mut pong = [0; 3];
        soon("a pong", raw.0.read_exact(&mut pong)).await.unwrap();
        assert_eq!(pong, [0x8a, 1, 7]);
        assert_eq!(shard(&raw.message().await), home);
    }
}

#[tokio::test]
async fn pongs_that_wait_stay_whole_when_their_link_moves() {
    let server = Running::start(Server::builder().config(on_shards(2))).await;
    for _ in 0..4 {
        // A window so small that pongs wait in the server.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let mut raw = Raw(socket.connect(server.address).await.unwrap());
        raw.say(head(&lines(server.address)).as_bytes()).await;
        assert_eq!(raw.head().await.0, 101);
        let ping = [&[0x89, 0xfd][..], &[0; 4], &[7; 125]].concat();
        for _ in 0..50 {
            raw.say(&ping.repeat(1_000)).await;
        }
        // With no other link there is, it is in the first shard.
        raw.say(&hello(Some(id_of(0, 1)))).await;
        let welcome = loop {
            match raw.frame().await {
                (0x8a, pong) => assert_eq!(pong, [7; 125]),
                (first, payload) => {
                    assert_eq!(first, 0x82);
                    break payload;
                }
            }
        };
        assert_eq!(shard(&welcome), 1);
        drop(raw);
        server.stats(|stats| stats.links.open == 0).await;
    }
}

/// Tells every socket of the server what one says.
struct Crowd(Arc<Mutex<Vec<SocketSender>>>);

impl SocketHandler for Crowd {
    fn opened(&mut self, ctx: &mut Ctx<'_>) {
        self.0.lock().unwrap().push(ctx.sender());
    }

    fn message(&mut self, _: &mut Ctx<'_>, message: Message<'_>) {
        for sender in &*self.0.lock().unwrap() {
            sender.send(message).unwrap();
        }
    }
}

#[tokio::test]
async fn what_one_shard_says_every_shard_hears_in_order() {
    let crowd = Arc::default();
    let builder = Server::builder().config(on_shards(3));
    let server = Running::start(builder.socket("/crowd", move || Crowd(Arc::clone(&crowd)))).await;
    let mut hubs = Vec::new();
    for _ in 0..6 {
        hubs.push(Hub::with_socket(server.address, "/crowd").await);
    }
    for number in 0..50 {
        hubs[1].send(TAB, 1, Payload::Text(&number.to_string())).await;
    }
    for hub in &mut hubs {
        for number in 0..50 {
            assert_eq!(hub.text(TAB, 1).await, number.to_string());
        }
    }
}

/// Sends without an end, as fast as it may.
struct Flood {
    accepted: Arc<Mutex<u64>>,
    next: u64,
}

const CHUNK: usize = 32 << 10;

impl SocketHandler for Flood {
    fn message(&mut self, ctx: &mut Ctx<'_>, _: Message<'_>) {
        self.writable(ctx);
    }

    fn writable(&mut self, ctx: &mut Ctx<'_>) {
        let mut chunk = vec![0; CHUNK];
        loop {
            chunk[..8].copy_from_slice(&self.next.to_be_bytes());
            match ctx.send_binary(&chunk) {
                Ok(()) => self.next += 1,
                Err(SendError::Full) => break,
                Err(error) => panic!("{error}"),
            }
        }
        *self.accepted.lock().unwrap() = self.next;
    }
}

#[tokio::test]
async fn a_reader_that_stops_holds_up_nobody_and_takes_no_more_than_its_queue() {
    let accepted = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&accepted);
    let builder = crate::support::demo::install(Server::builder().config(on_shards(1)));
    let flood = move || Flood { accepted: Arc::clone(&seen), next: 0 };
    let server = Running::start(builder.socket("/flood", flood)).await;
    let mut slow = Hub::with_socket(server.address, "/flood").await;
    let mut quick = Hub::with_socket(server.address, "/echo").await;
    slow.send(TAB, 1, Payload::Text("go")).await;
    // The kernel's buffers fill, then the queue; after that nothing is taken.
    let mut before = u64::MAX;
    for round in 0.. {
        let text = round.to_string();
        for _ in 0..50 {
            quick.send(TAB, 1, Payload::Text(&text)).await;
            assert_eq!(quick.text(TAB, 1).await, text);
        }
        let now = *accepted.lock().unwrap();
        if now == before && now > 0 {
            break;
        }
        before = now;
    }
    let (queue, kernel) = (1 << 20, 16 << 20);
    assert!(before * CHUNK as u64 <= queue + kernel, "{before} chunks");
    assert!(server.handle.stats().messages.queue_full > 0);
    // It reads again, and misses nothing.
    for number in 0..before + 100 {
        let bytes = slow.next().await;
        let ServerFrame::Data { payload: Payload::Binary(chunk), .. } = frame(&bytes) else {
            panic!("no chunk {number}")
        };
        assert_eq!(chunk[..8], number.to_be_bytes());
    }
    assert_eq!(server.handle.stats().links.open, 2);
}

/// Asks by mail for its own end, and then sends whenever it can.
struct Parting;

impl SocketHandler for Parting {
    fn message(&mut self, ctx: &mut Ctx<'_>, _: Message<'_>) {
        ctx.sender().close(4001, "").unwrap();
        self.writable(ctx);
    }

    fn writable(&mut self, ctx: &mut Ctx<'_>) {
        while ctx.send_binary(&[0; 1_000]).is_ok() {}
    }
}

#[tokio::test]
async fn a_link_that_takes_all_it_gets_does_not_keep_the_mail_waiting() {
    // One message fills the queue, and the kernel has room for thousands of them.
    let limits = Limits::default().message_bytes(1_024).queue_bytes(1_024);
    let builder = Server::builder().config(on_shards(1).limits(limits));
    let server = Running::start(builder.socket("/parting", || Parting)).await;
    let mut hub = Hub::with_socket(server.address, "/parting").await;
    hub.send(TAB, 1, Payload::Text("go")).await;
    let mut chunks = 0;
    while !matches!(frame(&hub.next().await), ServerFrame::Close { code: 4001, .. }) {
        chunks += 1;
    }
    assert!(chunks < 100, "{chunks} chunks came before the mail");
}

#[tokio::test]
async fn a_peer_that_pings_and_never_reads_is_not_remembered() {
    let server = Running::demo().await;
    let mut raw = Raw::link(server.address).await;
    let ping = [&[0x89, 0xfd][..], &[0; 4], &[7; 125]].concat();
    for _ in 0..100 {
        raw.say(&ping.repeat(1_000)).await;
    }
    raw.say(&hello(None)).await;
    // As many pongs as there was room for, whole, and then the answer.
    let mut pong = [0; 127];
    let welcome = loop {
        soon("a frame", raw.0.read_exact(&mut pong[..2])).await.unwrap();
        if pong[0] == 0x82 {
            let mut rest = vec![0; pong[1].into()];
            raw.0.read_exact(&mut rest).await.unwrap();
            break rest;
        }
        assert_eq!(pong[..2], [0x8a, 125]);
        soon("a pong", raw.0.read_exact(&mut pong[2..])).await.unwrap();
    };
    shard(&welcome);
}

#[tokio::test]
async fn what_is_no_websocket_any_more_is_told_why() {
    let server = Running::demo().await;
    for (bytes, code) in [
        (&[0xc2, 0x80, 0, 0, 0, 0][..], 1002),
        (&[0x82, 0x00], 1002),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
        (&[0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], 1009),
    ] {
        let mut raw = Raw::link(server.address).await;
        raw.say(bytes).await;
        // More that nobody reads must not cost it the answer.
        raw.say(&[0; 5_000]).await;
        assert_eq!(raw.closed().await, code);
    }
    let mut raw = Raw::link(server.address).await;
    raw.say(&[0x88, 0x82, 0, 0, 0, 0, 0x0f, 0xa7]).await;
    assert_eq!(raw.closed().await, 4007);
    server.stats(|stats| stats.links.open == 0).await;
}

/// Two thousand, or as many as this process may have both ends of.
fn crowd() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    soft.map_or(2_000, |soft| soft.saturating_sub(400) / 2).min(2_000)
}

#[tokio::test]
async fn thousands_of_idle_links_and_one_that_is_not() {
    let server =
        Running::start(crate::support::demo::install(Server::builder().config(on_shards(2)))).await;
    let (crowd, mut links) = (crowd(), Vec::new());
    for _ in 0..crowd {
        let mut raw = Raw::link(server.address).await;
        raw.say(&hello(None)).await;
        links.push(raw);
    }
    let mut sessions = BTreeSet::new();
    for raw in &mut links {
        let message = raw.message().await;
        let ServerFrame::Welcome(welcome) = frame(&message) else { panic!("{message:?}") };
        sessions.insert(welcome.session);
    }
    assert_eq!(sessions.len(), crowd);
    let mut hub = Hub::with_socket(server.address, "/echo").await;
    hub.send(TAB, 1, Payload::Text("still here")).await;
    assert_eq!(hub.text(TAB, 1).await, "still here");
    server.stats(|stats| stats.links.open == crowd + 1).await;
    drop(links);
    server.stats(|stats| stats.links.open == 1).await;
}
