//! What one address may make the server keep, and that its neighbour notices nothing. Clients come
//! through a trusted proxy that names them.

use std::net::SocketAddr;

use tabmux_core::{
    OwnedPayload,
    wire::{Alias, HubFrame, Payload, ServerFrame, UnsubscribedReason},
};
use tabmux_server::{Builder, Config, Ctx, HeldCredit, Limits, Message, Server, SocketHandler};

use super::{
    raw::Raw,
    support::{Hub, Running, frame, hello, metric, soon},
};

/// A handler that keeps every message.
#[derive(Default)]
struct Hoard(Vec<(OwnedPayload, HeldCredit)>);

impl SocketHandler for Hoard {
    fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
        self.0.push((message.into(), ctx.hold_credit()));
    }
}

struct Echo;

impl SocketHandler for Echo {
    fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
        let _ = ctx.send(message);
    }
}

fn builder(limits: Limits) -> Builder {
    let trusted_proxies = vec!["127.0.0.1".to_owned()];
    let config = Config::default().limits(limits).trusted_proxies(trusted_proxies).shards(2);
    Server::builder().config(config).socket("/hoard", Hoard::default).socket("/echo", || Echo)
}

/// Which of the two ways in a server has.
#[derive(Clone, Copy)]
enum Way {
    Own,
    Axum,
}

/// A server, and its address.
enum Started {
    Own(Running),
    Axum { _server: Server, address: SocketAddr },
}

impl Started {
    async fn new(way: Way, limits: Limits) -> Self {
        let builder = builder(limits);
        match way {
            Way::Own => Self::Own(Running::start(builder).await),
            Way::Axum => {
                let server = builder.build().unwrap();
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let app = server.router().merge(server.metrics());
                let app = app.into_make_service_with_connect_info::<SocketAddr>();
                tokio::spawn(axum::serve(listener, app).into_future());
                Self::Axum { _server: server, address }
            }
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Own(server) => server.address,
            Self::Axum { address, .. } => *address,
        }
    }

    async fn metric(&self, name: &str) -> f64 {
        metric(self.address(), name).await
    }

    /// A browser at an address, with tab 1.
    async fn browser(&self, client: &str) -> Hub {
        let mut hub = Hub::dial_with(self.address(), &[("x-forwarded-for", client)]).await.unwrap();
        hub.say(&hello()).await;
        assert!(matches!(frame(&hub.next().await), ServerFrame::Welcome(_)));
        hub.attach(1).await;
        hub
    }
}

const ATTACKER: &str = "192.0.2.1";
const NEIGHBOUR: &str = "192.0.2.2";
const TAB: Alias = Alias(1);

/// One address has its handlers keep what it sends, and opens one link after the other.
async fn neighbour_hears_every_echo(way: Way) {
    let limits = Limits::default().links(100).detached(100).memory_bytes_per_ip(0);
    let server = Started::new(way, limits.memory_bytes(4 << 20).credit_bytes(1 << 20)).await;
    let mut neighbour = server.browser(NEIGHBOUR).await;
    neighbour.open(TAB, 1, "/echo", &[]).await;
    let (text, mut attackers) = ("x".repeat(60_000), Vec::new());
    for round in 0..30 {
        let mut attacker = server.browser(ATTACKER).await;
        attacker.open(TAB, 1, "/hoard", &[]).await;
        for _ in 0..10 {
            attacker.send(TAB, 1, Payload::Text(&text)).await;
        }
        attackers.push(attacker);
        let word = format!("round {round}");
        neighbour.send(TAB, 1, Payload::Text(&word)).await;
        assert_eq!(neighbour.text(TAB, 1).await, word);
    }
    let evicted = async || server.metric("tabmux_sessions_ended_total{reason=\"evicted\"}").await;
    // 18 MB were sent, and the server keeps 4 MiB, or a quarter more for a moment.
    soon("sessions that end", async { while evicted().await < 20.0 {} }).await;
    let held = server.metric("tabmux_charged_bytes{kind=\"credit\"}").await;
    assert!(held > 1_000_000.0 && held < 5_300_000.0, "{held}");
    neighbour.quiet().await;
}

#[tokio::test]
async fn a_neighbour_of_one_who_hoards_hears_every_echo() {
    neighbour_hears_every_echo(Way::Own).await;
}

#[tokio::test]
async fn a_neighbour_of_one_who_hoards_hears_every_echo_through_axum() {
    neighbour_hears_every_echo(Way::Axum).await;
}

/// Why a topic is refused, if it is.
async fn subscribe(hub: &mut Hub, topic: &str) -> Option<String> {
    hub.say(&HubFrame::Subscribe { request: 1, position: None, topic }).await;
    match frame(&hub.next().await) {
        ServerFrame::Unsubscribed(it) => {
            assert_eq!((it.reason, it.retry_ms), (UnsubscribedReason::Limit, Some(5_000)));
            Some(it.message.to_owned())
        }
        ServerFrame::Subscribed(_) => None,
        other => panic!("no answer: {other:?}"),
    }
}

/// All shards count together.
#[tokio::test]
async fn one_address_brings_up_so_many_topics_from_all_its_links() {
    let limits = Limits::default().topics_per_ip(20).topics(40);
    let server = Started::new(Way::Own, limits).await;
    let mut attackers = Vec::new();
    for _ in 0..4 {
        attackers.push(server.browser(ATTACKER).await);
    }
    let mut refused = 0;
    for topic in 0..40 {
        let hub = &mut attackers[topic % 4];
        if let Some(message) = subscribe(hub, &format!("topic {topic}")).await {
            assert_eq!(message, "an address may bring up 20 topics on this server");
            refused += 1;
        }
    }
    assert_eq!(refused, 20);
    let mut neighbour = server.browser(NEIGHBOUR).await;
    assert_eq!(subscribe(&mut neighbour, "news").await, None);
    assert_eq!(server.metric("tabmux_account_subscriptions_refused_total").await, 20.0);
    // A topic that nobody wants any more makes room.
    attackers[0].say(&HubFrame::Unsubscribe { topic: "topic 0" }).await;
    assert_eq!(subscribe(&mut attackers[0], "mine").await, None);
}

#[tokio::test]
async fn a_link_that_has_not_said_hello_may_begin_no_long_message() {
    let server = Started::new(Way::Own, Limits::default()).await;
    let mut link = Raw::link(server.address()).await;
    // The header of a binary frame of 10,000 bytes.
    link.say(&[0x82, 0x80 | 126, 0x27, 0x10, 0, 0, 0, 0]).await;
    assert_eq!(link.closed().await, 1009);
}
