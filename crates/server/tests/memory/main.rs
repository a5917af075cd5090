//! What a server charges its browsers, held against what the allocator says: the attacks that no
//! counter saw. All charges must be right within a factor of 1.25. Besides, what a gateway holds.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at few of many kinds")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../server/raw.rs"]
#[expect(dead_code, reason = "the tests of the server use the rest")]
mod raw;
#[path = "../server/support.rs"]
#[expect(dead_code, reason = "the tests of the server use the rest")]
mod support;
#[path = "../server/gateway/world.rs"]
#[expect(dead_code, reason = "the tests of the server use the rest")]
mod world;

use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use peak_alloc::PeakAlloc;
use tabmux_core::{
    OwnedPayload,
    wire::{Payload, ServerFrame},
};
use tabmux_server::{Builder, Config, Ctx, HeldCredit, Limits, Server, SocketHandler};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use self::{
    raw::Raw,
    support::{Hub, Running, frame, soon},
    world::{Backend, TAB, opened, tab},
};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Held by each test from its first step to its last: they share the allocator.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs a test, all of which is gone before the next one begins.
fn alone<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = ALLOCATOR.current_usage();
    Runtime::new().unwrap().block_on(test());
    // The threads of shards free what they have after the server has ended.
    let deadline = Instant::now() + Duration::from_secs(30);
    while ALLOCATOR.current_usage() > before + (1 << 20) {
        assert!(Instant::now() < deadline, "{} bytes are left", ALLOCATOR.current_usage() - before);
        thread::yield_now();
    }
}

/// A handler that keeps every message.
#[derive(Default)]
struct Hoard(Vec<(OwnedPayload, HeldCredit)>);

impl SocketHandler for Hoard {
    fn message(&mut self, ctx: &mut Ctx<'_>, message: Payload<'_>) {
        self.0.push((message.into(), ctx.hold_credit()));
    }
}

/// A server that nothing slows down, and what was allocated and charged before a test.
struct Measured {
    server: Running,
    allocated: usize,
}

impl Measured {
    async fn start() -> Self {
        let limits = Limits::default()
            .messages_per_s(10_000_000)
            .bytes_per_s(4_000_000_000)
            .handshakes_per_s(0)
            .links_per_ip(0);
        let config = Config::default().limits(limits).shards(1);
        let builder: Builder = Server::builder().config(config).socket("/hoard", Hoard::default);
        let server = Running::start(builder).await;
        // The first link begins the shard, whose buffers are no link's.
        drop(Hub::welcomed(server.address).await);
        server.stats(|stats| stats.links.open == 0).await;
        Self { server, allocated: ALLOCATOR.current_usage() }
    }

    async fn end(mut self) {
        self.server.stop();
        self.server.ended().await.unwrap();
    }

    /// Fails the test if what is charged is not what was allocated, which is at least `least`: so
    /// much that the rest of the process does not matter.
    fn agrees(&self, least: usize) {
        let allocated = ALLOCATOR.current_usage() - self.allocated;
        let charged = self.server.handle.stats().charged.bytes();
        println!("allocated {allocated}, charged {charged}");
        assert!(allocated >= least, "only {allocated} bytes were allocated");
        let ratio = charged as f64 / allocated as f64;
        assert!((0.8..=1.25).contains(&ratio), "charged {charged} for {allocated}: {ratio:.2}");
    }
}

/// 68 MiB from one link.
#[test]
fn targets_of_sockets_are_charged() {
    alone(targets_of_sockets);
}

async fn targets_of_sockets() {
    as_many_sockets_as_may_be(&format!("/hoard?{}", "x".repeat(4_000)), 60 << 20).await;
}

/// Opens all sockets that one link may have. At least so many bytes are allocated for them.
async fn as_many_sockets_as_may_be(path: &str, least: usize) {
    let measured = Measured::start().await;
    let mut hub = Hub::welcomed(measured.server.address).await;
    for tab in 1..=64 {
        let alias = hub.attach(tab).await;
        for socket in 1..=256 {
            hub.ask(alias, socket, path, &[]).await;
        }
        for _ in 1..=256 {
            hub.next().await;
        }
    }
    measured.server.stats(|stats| stats.sockets.open == 16_384).await;
    measured.agrees(least);
    drop(hub);
    measured.end().await;
}

/// The targets are short: what there is of a socket beside its target counts.
#[test]
fn sockets_with_short_targets_are_charged() {
    alone(sockets_with_short_targets);
}

async fn sockets_with_short_targets() {
    as_many_sockets_as_may_be("/hoard", 2 << 20).await;
}

/// 854 MiB from four links.
#[test]
fn messages_that_handlers_hold_are_charged() {
    alone(messages_that_handlers_hold);
}

async fn messages_that_handlers_hold() {
    const MESSAGES: usize = 240;
    let measured = Measured::start().await;
    let mut hub = Hub::welcomed(measured.server.address).await;
    let text = "x".repeat(1_000);
    for tab in 1..=8 {
        let alias = hub.attach(tab).await;
        for socket in 1..=16 {
            hub.open(alias, socket, "/hoard", &[]).await;
            for _ in 0..MESSAGES {
                hub.send(alias, socket, Payload::Text(&text)).await;
            }
        }
    }
    measured.server.stats(|stats| stats.messages.received == (8 * 16 * MESSAGES) as u64).await;
    measured.agrees(24 << 20);
    assert!(measured.server.handle.stats().charged.credit > 24 << 20);
    drop(hub);
    measured.end().await;
}

/// 1 MiB a link.
#[test]
fn parts_of_messages_are_charged() {
    alone(parts_of_messages);
}

async fn parts_of_messages() {
    const LEN: usize = 900 << 10;
    let measured = Measured::start().await;
    // The beginning of a binary frame, which is not the last one of its message.
    let mut begin = vec![0x02, 0x80 | 127];
    begin.extend((LEN as u64).to_be_bytes());
    begin.extend([0; 4]);
    let part = vec![0; LEN];
    let allocated = ALLOCATOR.current_usage();
    let mut links = Vec::new();
    for _ in 0..32 {
        let mut link = Raw::link(measured.server.address).await;
        link.say(&raw::hello(None)).await;
        link.message().await;
        link.say(&begin).await;
        link.say(&part).await;
        links.push(link);
    }
    let measured = Measured { allocated, ..measured };
    // Buffers grow by doubling.
    measured.server.stats(|stats| stats.charged.links >= 31 << 20).await;
    measured.agrees(24 << 20);
    drop(links);
    measured.server.stats(|stats| stats.charged.links == 0).await;
    measured.end().await;
}

/// 200 MB down to a page that takes none of it for a while, and 100 MB up.
#[test]
fn a_gateway_carries_a_flood_in_flat_memory() {
    alone(floods_through_a_gateway);
}

async fn floods_through_a_gateway() {
    const CHUNK: usize = 64 << 10;
    const DOWN: usize = 200_000_000 / CHUNK;
    const UP: usize = 100_000_000 / CHUNK;
    /// What the gateway may hold, and this test as server and page.
    const FLAT: usize = 8 << 20;
    let backend = Backend::start().await;
    let limits = Limits::default().bytes_per_s(4_000_000_000);
    let build = |it: Builder| it.config(Config::default().limits(limits).shards(1));
    let mut server = backend.behind_server(build, |it| it).await;
    let mut hub = tab(&server).await;
    hub.ask_with(TAB, 1, "/chat/", 128 << 10).await;
    let (mut sink, mut stream) = backend.conn().await.ws.split();
    opened(&mut hub).await;
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let chunk = Bytes::from(vec![7; CHUNK]);
    let down = {
        let chunk = chunk.clone();
        tokio::spawn(async move {
            for _ in 0..DOWN {
                sink.send(Message::Binary(chunk.clone())).await.unwrap();
            }
            sink
        })
    };
    server.stats(|stats| stats.sockets.awaiting_credit == 1).await;
    // The page has taken two chunks.
    for got in 0..DOWN {
        if got == 1 {
            let credit = (DOWN * (CHUNK + 64)) as u64;
            hub.credit(TAB, 1, credit).await;
        }
        assert!(matches!(frame(&hub.next().await), ServerFrame::Data { .. }));
    }
    let sink = soon("the flood", down).await.unwrap();
    let held = ALLOCATOR.peak_usage() - before;
    assert!(held < FLAT, "{held} bytes were held downwards");
    ALLOCATOR.reset_peak_usage();
    let up = tokio::spawn(async move {
        for _ in 0..UP {
            assert_eq!(stream.next().await.unwrap().unwrap().len(), CHUNK);
        }
        stream
    });
    let mut sent = 0;
    for _ in 0..UP {
        sent += tabmux_server::message_cost(CHUNK);
        // A page waits for credit, of which it has 256 KiB at first.
        while sent > (256 << 10) + hub.given.get(&(TAB, 1)).copied().unwrap_or(0) {
            hub.quiet().await;
        }
        hub.send(TAB, 1, Payload::Binary(&chunk)).await;
    }
    let stream = soon("the flood", up).await.unwrap();
    let held = ALLOCATOR.peak_usage() - before;
    assert!(held < FLAT, "{held} bytes were held upwards");
    drop((sink, stream, hub));
    server.stop();
    server.ended().await.unwrap();
}
