//! The double for tests of handlers.

use std::sync::{Arc, Mutex};

use tabmux_server::{
    CloseInfo, Ctx, Decision, Error, HeldCredit, Message, OpenRequest, SendError, Server,
    SocketHandler, SocketSender, task_opening,
    testing::{Browser, Heard, TestServer},
};

use super::support::{demo, soon};

fn message(text: &str) -> Heard {
    Heard::Message(text.into())
}

fn closed(code: u16, reason: &str) -> Heard {
    Heard::Closed { code, reason: reason.to_owned() }
}

/// Does as it is told, and notes what happens.
#[derive(Default)]
struct Puppet {
    notes: Arc<Mutex<Vec<String>>>,
    held: Vec<HeldCredit>,
}

impl Puppet {
    fn note(&self, what: impl Into<String>) {
        self.notes.lock().unwrap().push(what.into());
    }
}

impl SocketHandler for Puppet {
    fn open(&mut self, _: &mut Ctx<'_>, request: &OpenRequest<'_>) -> Decision {
        match request.query() {
            "no" => Decision::reject_with(4403, "not yours"),
            _ => Decision::accept_protocol(request.protocols.last().cloned().unwrap_or_default()),
        }
    }

    fn message(&mut self, ctx: &mut Ctx<'_>, message: Message<'_>) {
        let Message::Text(text) = message else {
            return self.held.push(ctx.hold_credit());
        };
        match text {
            "panic" => panic!("on request"),
            "release" => self.held.clear(),
            "all" => ctx.broadcast_text("to all").unwrap(),
            "publish" => ctx.publish("news", Message::Text("news")).unwrap(),
            "break" => ctx.close(1006, ""),
            "end" => ctx.close(1005, "nobody sees it"),
            "flood" => {
                let mut sent = 0;
                while ctx.send_text(&format!("{sent}")).is_ok() {
                    sent += 1;
                }
                self.note(format!("{sent} sent"));
                assert_eq!(ctx.send_text("one more"), Err(SendError::Full));
            }
            _ => {
                ctx.send_text(ctx.params().get("id").unwrap_or("none").to_owned().as_str()).unwrap()
            }
        }
    }

    fn writable(&mut self, _: &mut Ctx<'_>) {
        self.note("writable");
    }

    fn close(&mut self, _: &mut Ctx<'_>, close: &CloseInfo<'_>) {
        self.note(format!("closed {} {}", close.code, close.clean));
    }
}

fn puppet() -> (TestServer, Arc<Mutex<Vec<String>>>) {
    let notes = Arc::<Mutex<Vec<String>>>::default();
    let shared = Arc::clone(&notes);
    let puppet = move || Puppet { notes: Arc::clone(&shared), held: Vec::new() };
    (TestServer::new(Server::builder().socket("/p/{id}", puppet)).unwrap(), notes)
}

#[test]
fn a_handler_opens_refuses_answers_and_is_told_of_the_end() {
    let (mut server, notes) = puppet();
    let refused = server.open("/p/1?no");
    assert_eq!(
        server.heard(refused),
        [Heard::Refused { code: 4403, message: "not yours".to_owned() }]
    );
    let nowhere = server.open("/nowhere");
    assert!(matches!(&server.heard(nowhere)[..], [Heard::Refused { .. }]));
    let socket = server.open_with("/p/7", &["a", "b"], u64::MAX);
    assert_eq!(server.heard(socket), [Heard::Opened { protocol: "b".to_owned() }]);
    server.send(socket, "who");
    assert_eq!(server.heard(socket), [message("7")]);
    server.close(socket, 4001, "done");
    assert_eq!(server.heard(socket), [closed(4001, "done")]);
    let other = server.open("/p/8");
    server.send(other, "break");
    assert_eq!(server.heard(other)[1..], [closed(1006, "")]);
    server.open("/p/9");
    server.leave();
    let all = ["closed 4001 true", "closed 1006 false", "closed 1006 false"];
    assert_eq!(*notes.lock().unwrap(), all);
}

#[test]
fn a_handler_ends_a_socket_without_a_code_or_as_if_its_connection_broke() {
    let (mut server, notes) = puppet();
    for (word, code) in [("end", 1005), ("break", 1006)] {
        let socket = server.open("/p/1");
        server.send(socket, word);
        assert_eq!(server.heard(socket)[1..], [closed(code, "")]);
        server.send(socket, "who");
        assert_eq!(server.heard(socket), []);
    }
    assert_eq!(*notes.lock().unwrap(), ["closed 1005 true", "closed 1006 false"]);
}

#[test]
fn a_handler_that_panics_loses_its_socket_and_no_other() {
    let (mut server, _) = puppet();
    let (first, second) = (server.open("/p/1"), server.open("/p/2"));
    server.send(first, "panic");
    assert!(matches!(server.heard(first)[1..], [Heard::Closed { code: 1011, .. }]));
    server.send(second, "who");
    assert_eq!(server.heard(second)[1..], [message("2")]);
}

#[test]
fn a_tab_that_gives_no_credit_makes_send_say_full_until_it_does() {
    let (mut server, notes) = puppet();
    let socket = server.open_with("/p/1", &[], 2 * 65);
    server.send(socket, "flood");
    assert_eq!(server.heard(socket)[1..], [message("0"), message("1")]);
    assert_eq!(*notes.lock().unwrap(), ["2 sent"]);
    server.give_credit(socket, 1);
    assert_eq!(*notes.lock().unwrap(), ["2 sent", "writable"]);
}

#[test]
fn credit_that_is_held_comes_back_when_the_guard_is_dropped() {
    let (mut server, _) = puppet();
    let socket = server.open("/p/1");
    server.send(socket, vec![0; 200 << 10]);
    assert_eq!(server.credit(socket), 0);
    server.send(socket, "release");
    assert!(server.credit(socket) >= 200 << 10);
}

#[test]
fn what_is_said_to_all_and_published_is_seen() {
    let (mut server, _) = puppet();
    let socket = server.open("/p/1");
    server.subscribe("news");
    server.send(socket, "all");
    server.send(socket, "publish");
    server.publish("news", Message::Binary(&[7; 70_000])).unwrap();
    assert_eq!(server.broadcasts(), ["to all".into()]);
    assert_eq!(server.published("news"), ["news".into(), vec![7; 70_000].into()]);
    assert_eq!(server.published("other"), []);
}

/// Tells who is there.
struct Doorman;

impl SocketHandler for Doorman {
    fn message(&mut self, ctx: &mut Ctx<'_>, _: Message<'_>) {
        let language = ctx.header("accept-language").map(String::from_utf8_lossy);
        let who = format!("{:?} {language:?} {:?}", ctx.user(), ctx.address());
        ctx.send_text(&who).unwrap();
    }
}

#[test]
fn a_handler_sees_user_headers_and_address() {
    let address = "192.0.2.7".parse().unwrap();
    let ann = Browser::default().user("ann").header("Accept-Language", "de").address(address);
    let builder = || Server::builder().fallback(|| Doorman);
    let mut server = TestServer::of(builder(), ann).unwrap();
    let socket = server.open("/");
    server.send(socket, "who");
    let seen = server.heard(socket);
    assert_eq!(seen[1], message("Some(\"ann\") Some(\"de\") Some(192.0.2.7)"));
    let mut server = TestServer::new(builder()).unwrap();
    let socket = server.open("/");
    server.send(socket, "who");
    assert_eq!(server.heard(socket)[1], message("None None None"));
}

/// Hands its sender to the test.
struct Lender(Arc<Mutex<Option<SocketSender>>>);

impl SocketHandler for Lender {
    fn opened(&mut self, ctx: &mut Ctx<'_>) {
        *self.0.lock().unwrap() = Some(ctx.sender());
    }

    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {}
}

#[test]
fn a_sender_on_another_thread_reaches_the_tab() {
    let lent = Arc::<Mutex<Option<SocketSender>>>::default();
    let shared = Arc::clone(&lent);
    let builder = Server::builder().fallback(move || Lender(Arc::clone(&shared)));
    let mut server = TestServer::new(builder).unwrap();
    let socket = server.open("/");
    let sender = lent.lock().unwrap().take().unwrap();
    std::thread::spawn(move || sender.send_text("from afar").unwrap()).join().unwrap();
    assert_eq!(server.heard(socket)[1..], [message("from afar")]);
}

#[tokio::test]
async fn a_task_sees_who_opens_its_socket_and_where() {
    let who = task_opening(|opening| async move {
        let language = opening.header("Accept-Language").map(String::from_utf8_lossy);
        let seen = format!(
            "{:?} {language:?} {:?} {:?} {:?} {}",
            opening.user(),
            opening.address(),
            opening.param("id"),
            opening.param("other"),
            opening.server().stats().links.open
        );
        opening.accept().send(seen).await.unwrap();
    });
    let address = "192.0.2.7".parse().unwrap();
    let ann = Browser::default().user("ann").header("accept-language", "de").address(address);
    let mut server = TestServer::of(Server::builder().socket("/r/{id}", who), ann).unwrap();
    let socket = server.open("/r/7");
    assert!(matches!(soon("it", server.next(socket)).await, Heard::Opened { .. }));
    let seen = "Some(\"ann\") Some(\"de\") Some(192.0.2.7) Some(\"7\") None 1";
    assert_eq!(soon("it", server.next(socket)).await, message(seen));
}

#[tokio::test]
async fn tasks_that_answer_later_are_waited_for() {
    let slow = task_opening(|opening| async move {
        tokio::task::yield_now().await;
        if opening.target().ends_with("no") {
            return opening.reject("too late");
        }
        let mut socket = opening.accept();
        while let Some(message) = socket.next().await {
            socket.send(message).await.unwrap();
        }
    });
    let mut server = TestServer::new(Server::builder().socket("/{*any}", slow)).unwrap();
    let (yes, no) = (server.open("/yes"), server.open("/no"));
    assert_eq!(server.heard(yes), []);
    assert!(matches!(soon("it", server.next(yes)).await, Heard::Opened { .. }));
    let refused = Heard::Refused { code: 2, message: "too late".to_owned() };
    assert_eq!(soon("it", server.next(no)).await, refused);
    server.send(yes, "echo");
    assert_eq!(soon("it", server.next(yes)).await, message("echo"));
}

/// Nobody answers: the server refuses after 30 s, which pass at once.
#[test]
fn time_passes_when_the_test_says_so() {
    let asked = Arc::<Mutex<Vec<tabmux_server::OpenAnswer>>>::default();
    let shared = Arc::clone(&asked);
    let builder = Server::builder().fallback(move || Silent(Arc::clone(&shared)));
    let mut server = TestServer::new(builder).unwrap();
    let socket = server.open("/");
    server.advance(std::time::Duration::from_secs(29));
    assert_eq!(server.heard(socket), []);
    server.advance(std::time::Duration::from_secs(2));
    assert!(matches!(server.heard(socket)[..], [Heard::Refused { .. }]));
    drop(asked);
}

/// Keeps its answers.
struct Silent(Arc<Mutex<Vec<tabmux_server::OpenAnswer>>>);

impl SocketHandler for Silent {
    fn open(&mut self, _: &mut Ctx<'_>, request: &OpenRequest<'_>) -> Decision {
        self.0.lock().unwrap().push(request.answer_later());
        Decision::Later
    }

    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {}
}

#[test]
fn a_builder_with_a_fault_is_refused_as_by_build() {
    let twice = || Server::builder().fallback(Puppet::default).fallback(Puppet::default);
    let (double, real) = (TestServer::new(twice()).err(), twice().build().err());
    let (Some(Error::Config(double)), Some(Error::Config(real))) = (double, real) else {
        panic!("both must refuse")
    };
    assert_eq!(double, real);
}

#[test]
fn the_demo_can_be_tested_without_a_server() {
    let mut server = TestServer::new(demo::install(Server::builder())).unwrap();
    let socket = server.open("/echo");
    server.send(socket, "echo");
    assert_eq!(server.heard(socket)[1..], [message("echo")]);
}
