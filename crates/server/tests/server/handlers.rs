//! Handlers: what they are told, what they can do, and what their faults cost.

use std::sync::{Arc, Mutex};

use tabmux_core::wire::{Alias, HubFrame, Payload, Rejected, ServerFrame, TabId, Welcome};
use tabmux_server::{
    Builder, CloseInfo, Config, Ctx, Decision, Limits, Message, OpenAnswer, OpenRequest, SendError,
    Server, SocketHandler, SocketSender,
};
use tokio::sync::mpsc;

use super::support::{Hub, Running, claim, frame, hello, say_hello_on, soon};

const TAB: Alias = Alias(1);

/// Tells a channel what it is told.
struct Witness(mpsc::UnboundedSender<String>);

impl SocketHandler for Witness {
    fn open(&mut self, ctx: &mut Ctx<'_>, request: &OpenRequest<'_>) -> Decision {
        assert_eq!(ctx.tab(), request.tab);
        let told = format!("open {} {} {:?}", request.path(), request.query(), request.protocols);
        self.0.send(told).unwrap();
        match request.query() {
            "reject" => Decision::reject("not today"),
            "forbid" => Decision::reject_with(4403, "not yours"),
            "last" => Decision::reject_with(4999, "as late as can be"),
            "strange" => Decision::reject_with(1000, "a code of WebSockets"),
            "foreign" => Decision::accept_protocol("foreign"),
            "panic" => panic!("on request"),
            _ => Decision::accept(),
        }
    }

    fn opened(&mut self, ctx: &mut Ctx<'_>) {
        ctx.send_text("welcome").unwrap();
    }

    fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
        match message {
            Message::Text("close") => ctx.close(4001, "as you wish"),
            Message::Text("panic") => panic!("on request"),
            Message::Text("broadcast") => ctx.broadcast_text("to all").unwrap(),
            other => self.0.send(format!("message {other:?} on {}", ctx.target())).unwrap(),
        }
    }

    fn close(&mut self, ctx: &mut Ctx<'_>, close: &CloseInfo<'_>) {
        assert_eq!(ctx.send_text("too late"), Err(SendError::Closed));
        let told = format!("close {} {} {}", close.code, close.reason, close.clean);
        self.0.send(told).unwrap();
    }
}

/// A server with a witness, and what it saw.
async fn witness() -> (Running, mpsc::UnboundedReceiver<String>) {
    witness_with(Config::default()).await
}

async fn witness_with(config: Config) -> (Running, mpsc::UnboundedReceiver<String>) {
    let (sender, seen) = mpsc::unbounded_channel();
    let builder = Server::builder()
        .config(config)
        .socket("/w", move || Witness(sender.clone()))
        .socket("/broken", || -> Witness { panic!("on request") });
    (Running::start(builder).await, seen)
}

async fn next(seen: &mut mpsc::UnboundedReceiver<String>) -> String {
    soon("the handler", seen.recv()).await.unwrap()
}

/// A link whose socket 1 has been welcomed by the witness.
async fn welcomed(server: &Running) -> Hub {
    let mut hub = Hub::with_socket(server.address, "/w?x=1").await;
    assert_eq!(hub.text(TAB, 1).await, "welcome");
    hub
}

#[tokio::test]
async fn a_handler_sees_open_message_and_close() {
    let (server, mut seen) = witness().await;
    let mut hub = welcomed(&server).await;
    hub.send(TAB, 1, Payload::Binary(&[7])).await;
    hub.close(TAB, 1, 0, "").await;
    assert_eq!(next(&mut seen).await, "open /w x=1 []");
    assert_eq!(next(&mut seen).await, "message Binary([7]) on /w?x=1");
    assert_eq!(next(&mut seen).await, "close 1005  true");
}

#[tokio::test]
async fn a_broken_link_closes_its_handlers_once_nobody_has_come_for_the_session() {
    let config = Config::default().detached_ms(50);
    let (server, mut seen) = witness_with(config).await;
    drop(welcomed(&server).await);
    next(&mut seen).await;
    assert_eq!(next(&mut seen).await, "close 1006  false");
}

#[tokio::test]
async fn a_handler_closes_and_is_told() {
    let (server, mut seen) = witness().await;
    let mut hub = welcomed(&server).await;
    hub.send(TAB, 1, Payload::Text("close")).await;
    let bytes = hub.next().await;
    assert!(matches!(frame(&bytes), ServerFrame::Close { code: 4001, reason: "as you wish", .. }));
    next(&mut seen).await;
    assert_eq!(next(&mut seen).await, "close 4001 as you wish true");
}

#[tokio::test]
async fn a_handler_refuses() {
    let (server, _seen) = witness().await;
    let mut hub = Hub::welcomed(server.address).await;
    let tab = hub.attach(1).await;
    for (target, expected) in [
        ("/broken", (2, "the handler failed")),
        ("/w?reject", (2, "not today")),
        ("/w?forbid", (4403, "not yours")),
        ("/w?last", (4999, "as late as can be")),
        ("/w?strange", (2, "a code of WebSockets")),
        ("/w?foreign", (2, "the server chose a sub-protocol that was not offered")),
        ("/w?panic", (2, "the handler failed")),
        ("/nowhere", (1, "this server has no handler for /nowhere")),
    ] {
        hub.ask(tab, 1, target, &[]).await;
        let bytes = hub.next().await;
        let ServerFrame::Rejected(Rejected { code, message, .. }) = frame(&bytes) else {
            panic!("{bytes:?}")
        };
        assert_eq!((code, message), expected);
    }
    assert_eq!(server.handle.stats().sockets.open, 0);
}

#[tokio::test]
async fn a_panic_costs_one_socket() {
    let (server, _seen) = witness().await;
    let mut hub = welcomed(&server).await;
    hub.open(TAB, 2, "/w", &[]).await;
    assert_eq!(hub.text(TAB, 2).await, "welcome");
    hub.send(TAB, 1, Payload::Text("panic")).await;
    assert!(matches!(frame(&hub.next().await), ServerFrame::Close { code: 1011, .. }));
    hub.send(TAB, 2, Payload::Text("close")).await;
    assert!(matches!(frame(&hub.next().await), ServerFrame::Close { code: 4001, .. }));
}

#[tokio::test]
async fn a_broadcast_reaches_one_browser_only() {
    let (server, _seen) = witness().await;
    let mut hub = welcomed(&server).await;
    let mut other = welcomed(&server).await;
    hub.send(TAB, 1, Payload::Text("broadcast")).await;
    let payload = Payload::Text("to all");
    assert_eq!(frame(&hub.next().await), ServerFrame::Message { payload });
    other.quiet().await;
}

/// What a flood sends in all, and in one message.
const FLOOD: usize = 16 << 20;
const WAVE: usize = 64 << 10;

/// Sends as much as there is room for, until all is sent; tells when the queue is full.
struct Flood {
    sent: usize,
    seen: mpsc::UnboundedSender<String>,
}

impl Flood {
    fn flow(&mut self, ctx: &mut Ctx<'_>) {
        while self.sent < FLOOD {
            if let Err(error) = ctx.send_binary(&vec![0; WAVE]) {
                assert_eq!(error, SendError::Full);
                self.seen.send("full".to_owned()).unwrap();
                return;
            }
            self.sent += WAVE;
        }
    }
}

impl SocketHandler for Flood {
    fn message(&mut self, ctx: &mut Ctx<'_>, _: Message<'_>) {
        self.flow(ctx);
    }

    fn writable(&mut self, ctx: &mut Ctx<'_>) {
        self.flow(ctx);
    }
}

#[tokio::test]
async fn a_slow_reader_fills_its_queue_and_gets_all_in_the_end() {
    let (sender, mut seen) = mpsc::unbounded_channel();
    let flood = move || Flood { sent: 0, seen: sender.clone() };
    let server = Running::start(Server::builder().socket("/flood", flood)).await;
    let mut slow = Hub::with_socket(server.address, "/flood").await;
    let mut other = Hub::with_socket(server.address, "/flood").await;
    slow.send(TAB, 1, Payload::Text("go")).await;
    assert_eq!(next(&mut seen).await, "full");
    other.quiet().await;
    let mut received = 0;
    while received < FLOOD {
        let bytes = slow.next().await;
        let ServerFrame::Data { payload, .. } = frame(&bytes) else { panic!("no message") };
        received += payload.len();
    }
    slow.quiet().await;
    assert!(server.handle.stats().messages.queue_full > 0);
}

/// Gives its sender away.
struct Lend(Arc<Mutex<Option<SocketSender>>>);

impl SocketHandler for Lend {
    fn opened(&mut self, ctx: &mut Ctx<'_>) {
        *self.0.lock().unwrap() = Some(ctx.sender());
    }

    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {}
}

async fn lent(config: Config) -> (Running, Hub, SocketSender) {
    let shelf = Arc::new(Mutex::new(None));
    let lend = Arc::clone(&shelf);
    let builder = Server::builder().config(config).socket("/lend", move || Lend(lend.clone()));
    let server = Running::start(builder).await;
    let hub = Hub::with_socket(server.address, "/lend").await;
    let sender = shelf.lock().unwrap().take().unwrap();
    (server, hub, sender)
}

#[tokio::test]
async fn a_sender_works_from_another_thread() {
    let (_server, mut hub, sender) = lent(Config::default()).await;
    std::thread::spawn(move || {
        sender.send_text("from afar").unwrap();
        sender.close(4003, "that was all").unwrap();
    });
    assert_eq!(hub.text(TAB, 1).await, "from afar");
    let bytes = hub.next().await;
    assert!(matches!(frame(&bytes), ServerFrame::Close { code: 4003, reason: "that was all", .. }));
}

#[tokio::test]
async fn what_a_sender_cannot_send_closes_its_socket() {
    let (_server, mut hub, sender) = lent(Config::default()).await;
    sender.send_binary(&vec![0; 2 << 20]).unwrap();
    assert!(matches!(frame(&hub.next().await), ServerFrame::Close { code: 1009, .. }));
}

#[tokio::test]
async fn a_full_inbox_refuses() {
    let limits = Limits::default().inbox_bytes(1_024).message_bytes(1_024);
    let (_server, _hub, sender) = lent(Config::default().limits(limits)).await;
    assert_eq!(sender.send_binary(&[0; 1_024]), Err(SendError::Full));
}

#[tokio::test]
async fn a_sender_outlives_its_server_without_harm() {
    let (mut server, hub, sender) = lent(Config::default()).await;
    drop(hub);
    server.stop();
    server.ended().await.unwrap();
    assert_eq!(sender.send_text("hello?"), Err(SendError::Closed));
}

/// Has itself sent more than a link's queue takes, by mail, before its shard can write any of it.
struct Burst;

impl SocketHandler for Burst {
    fn message(&mut self, ctx: &mut Ctx<'_>, _: Message<'_>) {
        for number in 0..BURST {
            let chunk = [&number.to_be_bytes()[..], &[0; 32 << 10]].concat();
            ctx.sender().send_binary(&chunk).unwrap();
        }
    }
}

/// Three times what a link's queue takes.
const BURST: u32 = 96;

#[tokio::test]
async fn what_comes_by_mail_all_at_once_is_no_fault_of_a_hub_that_reads() {
    let server = Running::start(Server::builder().socket("/burst", || Burst)).await;
    let mut hub = Hub::with_socket(server.address, "/burst").await;
    hub.send(TAB, 1, Payload::Text("go")).await;
    for number in 0..BURST {
        let bytes = hub.next().await;
        let ServerFrame::Data { payload, .. } = frame(&bytes) else {
            panic!("no chunk {number}: {:?}", frame(&bytes))
        };
        assert_eq!(payload.as_bytes()[..4], number.to_be_bytes());
    }
}

/// Cannot even be dropped.
struct Undroppable;

impl SocketHandler for Undroppable {
    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {
        panic!("on request");
    }
}

impl Drop for Undroppable {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("on the way out");
        }
    }
}

#[tokio::test]
async fn a_handler_that_panics_when_it_is_dropped_costs_no_link() {
    let config = Config::default().shards(1);
    let builder = Server::builder().config(config).socket("/undroppable", || Undroppable);
    let server = Running::start(builder).await;
    let mut hub = Hub::with_socket(server.address, "/undroppable").await;
    hub.close(TAB, 1, 1000, "").await;
    assert!(matches!(frame(&hub.next().await), ServerFrame::Close { code: 1000, .. }));
    hub.open(TAB, 2, "/undroppable", &[]).await;
    hub.send(TAB, 2, Payload::Text("panic")).await;
    assert!(matches!(frame(&hub.next().await), ServerFrame::Close { code: 1011, .. }));
    hub.quiet().await;
}

/// Says by which route it was found, and with which parameters.
struct Route(&'static str);

impl SocketHandler for Route {
    fn opened(&mut self, ctx: &mut Ctx<'_>) {
        let told = format!("{} {:?}", self.0, ctx.params());
        ctx.send_text(&told).unwrap();
    }

    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {}
}

/// What a socket with this path says first.
async fn route(path: &str) -> String {
    let builder = Server::builder()
        .socket("/room/lobby", || Route("lobby"))
        .socket("/room/{id}", || Route("room"))
        .socket("/files/{*path}", || Route("files"))
        .fallback(|| Route("fallback"));
    let server = Running::start(builder).await;
    let mut hub = Hub::with_socket(server.address, path).await;
    hub.text(TAB, 1).await
}

#[tokio::test]
async fn a_parameter_stands_for_a_part_of_the_path() {
    assert_eq!(route("/room/7%2F8?a=b").await, r#"room {"id": "7%2F8"}"#);
}

#[tokio::test]
async fn a_path_without_a_parameter_comes_first() {
    assert_eq!(route("/room/lobby").await, "lobby {}");
}

#[tokio::test]
async fn a_prefix_leads_to_what_follows_it() {
    assert_eq!(route("/files/a/b.txt").await, r#"files {"path": "a/b.txt"}"#);
}

#[tokio::test]
async fn what_no_route_leads_to_is_for_the_fallback() {
    assert_eq!(route("/room/7/8").await, "fallback {}");
}

fn fault(builder: Builder) -> String {
    builder.build().err().unwrap().to_string()
}

#[test]
fn paths_that_cannot_be_told_apart_are_refused_and_named() {
    let add = |builder: Builder, path| builder.socket(path, || Route(""));
    let two = |a, b| fault(add(add(Server::builder(), a), b));
    assert_eq!(two("/a", "/a"), "the path /a has two handlers");
    let text = "the paths /a/{x} and /a/{y} have two handlers for the same sockets; change one";
    assert_eq!(two("/a/{y}", "/a/{x}"), text);
    let twice = Server::builder().fallback(|| Route("")).fallback(|| Route(""));
    assert_eq!(fault(twice), "the server has two fallbacks; leave one out");
}

#[test]
fn a_path_that_is_no_route_is_refused() {
    let of = |path| fault(Server::builder().socket(path, || Route("")));
    assert_eq!(of("room"), "the path \"room\" must begin with / and have no ? or #");
    assert!(of("/{*all}/end").starts_with("the path \"/{*all}/end\" cannot be a route: "));
    assert!(of("/{").starts_with("the path \"/{\" cannot be a route: "));
    // As axum wrote it before 0.8.
    assert!(of("/room/:id").contains("write {id} for one part of the path"), "{}", of("/room/:id"));
    assert!(of("/files/*rest").contains("{*rest} for all that follows"), "{}", of("/files/*rest"));
}

/// Hands what answers its open to the test.
struct Undecided {
    answers: mpsc::UnboundedSender<OpenAnswer>,
    _alive: Arc<()>,
}

impl SocketHandler for Undecided {
    fn open(&mut self, _: &mut Ctx<'_>, request: &OpenRequest<'_>) -> Decision {
        self.answers.send(request.answer_later()).unwrap();
        Decision::Later
    }

    fn opened(&mut self, ctx: &mut Ctx<'_>) {
        ctx.send_text("welcome").unwrap();
    }

    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {}
}

/// A tab that waits for an answer, what gives it, and how many handlers live.
async fn undecided() -> (Running, Hub, OpenAnswer, Arc<()>) {
    let (server, hub, _, answer, alive) = undecided_in().await;
    (server, hub, answer, alive)
}

/// A tab that waits for an answer, its session, and what gives the answer.
async fn undecided_session() -> (Running, Hub, Welcome, OpenAnswer) {
    let (server, hub, welcome, answer, _) = undecided_in().await;
    (server, hub, welcome, answer)
}

async fn undecided_in() -> (Running, Hub, Welcome, OpenAnswer, Arc<()>) {
    let (sender, mut answers) = mpsc::unbounded_channel();
    let alive = Arc::new(());
    let lives = Arc::clone(&alive);
    let make = move || Undecided { answers: sender.clone(), _alive: Arc::clone(&lives) };
    let server = Running::start(Server::builder().socket("/later", make)).await;
    let (mut hub, welcome) = say_hello_on(Hub::dial(server.address).await, &hello()).await;
    let tab = hub.attach(1).await;
    hub.ask(tab, 1, "/later", &["chat"]).await;
    let answer = soon("the handler", answers.recv()).await.unwrap();
    server.stats(|stats| stats.sockets.open == 1).await;
    (server, hub, welcome, answer, alive)
}

/// Why the socket was refused.
async fn refused(hub: &mut Hub) -> String {
    match frame(&hub.next().await) {
        ServerFrame::Rejected(Rejected { message, .. }) => message.to_owned(),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_handler_accepts_later() {
    let (_server, mut hub, answer, _) = undecided().await;
    answer.accept_protocol("chat");
    let bytes = hub.next().await;
    assert!(matches!(frame(&bytes), ServerFrame::Opened { protocol: "chat", .. }), "{bytes:?}");
    assert_eq!(hub.text(TAB, 1).await, "welcome");
}

#[tokio::test]
async fn a_handler_refuses_later_and_is_dropped() {
    let (server, mut hub, answer, alive) = undecided().await;
    answer.reject("the database says no");
    assert_eq!(refused(&mut hub).await, "the database says no");
    server.stats(|stats| stats.sockets.open == 0).await;
    // The factory's own, and the test's.
    assert_eq!(Arc::strong_count(&alive), 2);
}

/// What a hub hears that attaches its tab for the first time, after ATTACHED.
async fn attached(hub: &mut Hub) -> (u16, String) {
    hub.attach(1).await;
    refused_with(hub).await
}

/// The code and the text of a refusal.
async fn refused_with(hub: &mut Hub) -> (u16, String) {
    match frame(&hub.next().await) {
        ServerFrame::Rejected(Rejected { code, message, .. }) => (code, message.to_owned()),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_refusal_that_comes_while_the_link_is_lost_arrives_with_the_next() {
    let (server, hub, welcome, answer) = undecided_session().await;
    drop(hub);
    server.stats(|stats| stats.links.open == 0).await;
    answer.reject_with(4403, "not yours");
    server.stats(|stats| stats.sockets.open == 0).await;
    let (mut hub, again) = say_hello_on(Hub::dial(server.address).await, &claim(&welcome, 9)).await;
    assert!(again.resumed);
    assert_eq!(attached(&mut hub).await, (4403, "not yours".to_owned()));
}

#[tokio::test]
async fn a_refusal_that_is_lost_with_its_link_is_sent_again_until_it_is_acknowledged() {
    let (server, mut hub, welcome, answer) = undecided_session().await;
    answer.reject_with(4403, "not yours");
    let expected = (4403, "not yours".to_owned());
    assert_eq!(refused_with(&mut hub).await, expected);
    // The first two hubs say that their tab has heard nothing.
    for _ in 0..2 {
        drop(hub);
        (hub, _) = say_hello_on(Hub::dial(server.address).await, &claim(&welcome, 9)).await;
        assert_eq!(attached(&mut hub).await, expected);
    }
    drop(hub);
    let (mut hub, _) = say_hello_on(Hub::dial(server.address).await, &claim(&welcome, 9)).await;
    hub.say(&HubFrame::Attach { tab: TabId(1), last: 1 }).await;
    let bytes = hub.next().await;
    assert!(matches!(frame(&bytes), ServerFrame::Attached { next: 2, .. }), "{bytes:?}");
    hub.skip_to(TAB, 1);
    hub.ask(TAB, 1, "/nowhere", &[]).await;
    let nowhere = "this server has no handler for /nowhere".to_owned();
    assert_eq!(refused_with(&mut hub).await, (1, nowhere));
}

#[tokio::test]
async fn a_refusal_reaches_the_hub_that_takes_over() {
    // The first hub has heard it, but its tab has not; or nobody has.
    for is_heard in [true, false] {
        let (server, mut first, welcome, answer) = undecided_session().await;
        let expected = (4403, "not yours".to_owned());
        let second = Hub::dial(server.address).await;
        if is_heard {
            answer.reject_with(4403, "not yours");
            assert_eq!(refused_with(&mut first).await, expected);
            let (mut second, taken) = say_hello_on(second, &claim(&welcome, 10)).await;
            assert!(taken.resumed && taken.term.0 == 2);
            assert_eq!(attached(&mut second).await, expected);
        } else {
            let (mut second, taken) = say_hello_on(second, &claim(&welcome, 10)).await;
            assert!(taken.resumed && taken.term.0 == 2);
            second.attach(1).await;
            answer.reject_with(4403, "not yours");
            assert_eq!(refused_with(&mut second).await, expected);
        }
        assert!(matches!(frame(&first.next().await), ServerFrame::Fenced { .. }));
    }
}

#[tokio::test]
async fn a_handler_that_drops_its_answer_refuses() {
    let (_server, mut hub, answer, _) = undecided().await;
    drop(answer);
    assert_eq!(refused(&mut hub).await, "the handler gave no answer");
}

#[tokio::test]
async fn a_sub_protocol_that_was_not_offered_is_refused_later_too() {
    let (_server, mut hub, answer, _) = undecided().await;
    answer.accept_protocol("mail");
    let message = "the server chose a sub-protocol that was not offered";
    assert_eq!(refused(&mut hub).await, message);
}

#[tokio::test]
async fn a_handler_whose_tab_goes_is_dropped_and_its_answer_does_nothing() {
    let (server, mut hub, answer, alive) = undecided().await;
    hub.say(&HubFrame::Gone { tab: TabId(1) }).await;
    server.stats(|stats| stats.sockets.open == 0).await;
    assert_eq!(Arc::strong_count(&alive), 2);
    answer.accept();
    let tab = hub.attach(1).await;
    hub.ask(tab, 1, "/nowhere", &[]).await;
    assert_eq!(refused(&mut hub).await, "this server has no handler for /nowhere");
}
