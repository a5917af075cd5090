//! Tests of the app over HTTP and with native clients.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at few of many kinds")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rooms::{Database, serve};
use serde_json::{Value, json};
use tabmux_client::{Client, OpenError, OwnedMessage, Socket, Status, Topic, TopicEvent};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::oneshot,
    task::JoinHandle,
};

/// The app, on a free port.
struct App {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    run: JoinHandle<bool>,
}

impl App {
    /// Starts the app. `file` is the database.
    async fn start(file: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, database) = (listener.local_addr().unwrap(), Database::open(file).unwrap());
        let (stop, stopped) = oneshot::channel();
        let run = async move {
            let shutdown = async { stopped.await.unwrap() };
            serve(listener, database, PathBuf::from("none"), shutdown).await.is_ok()
        };
        Self { address, stop, run: tokio::spawn(run) }
    }

    /// Posts a form, and returns the whole answer.
    async fn post(&self, path: &str, headers: &str, form: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}Content-Type: \
             application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            self.address,
            form.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }

    /// Logs in, and returns the cookie.
    async fn log_in(&self, name: &str) -> String {
        let answer = self.post("/login", "", &format!("name={name}")).await;
        let (_, rest) = answer.split_once("set-cookie: ").unwrap_or_else(|| panic!("{answer}"));
        assert!(rest.contains("HttpOnly"), "{answer}");
        rest.split(';').next().unwrap().to_owned()
    }

    fn client(&self, cookie: &str) -> Client {
        let url = format!("ws://{}/tabmux/ws", self.address);
        Client::builder(url).header("cookie", cookie).connect().unwrap()
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        assert!(soon("the end", self.run).await.unwrap());
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(30), future).await;
    waited.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// Returns a file for the database of one test.
fn file(name: &str) -> PathBuf {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("sqlite");
    if file.exists() {
        std::fs::remove_file(&file).unwrap();
    }
    file
}

fn value(message: OwnedMessage) -> Value {
    match message {
        OwnedMessage::Text(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("no text: {other:?}"),
    }
}

async fn heard(socket: &mut Socket) -> Value {
    value(soon("a note", socket.next()).await.unwrap())
}

async fn published(topic: &mut Topic) -> Value {
    loop {
        match soon("a publication", topic.next()).await {
            Some(TopicEvent::Message { message, .. }) => return value(message),
            Some(TopicEvent::Subscribed { .. }) => {}
            other => panic!("no publication: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_note_reaches_who_is_there_and_who_comes_later() {
    let file = file("notes");
    let app = App::start(&file).await;
    let (ann, bob) = (app.log_in("ann").await, app.log_in("bob").await);
    let (ann, bob) = (app.client(&ann), app.client(&bob));
    let mut topic = bob.subscribe("room:7");
    assert!(matches!(soon("it", topic.next()).await, Some(TopicEvent::Subscribed { .. })));
    let room = soon("the room", ann.open("/room/7", &[])).await.unwrap();
    room.send("milk").await.unwrap();
    let note = published(&mut topic).await;
    assert_eq!((&note["author"], &note["text"]), (&json!("ann"), &json!("milk")));
    let mut later = soon("the room", bob.open("/room/7", &[])).await.unwrap();
    // The note comes with the same id, so that a page shows it once.
    assert_eq!(heard(&mut later).await, note);
    later.send("bread").await.unwrap();
    assert_eq!(published(&mut topic).await["author"], "bob");
    // A page in another room gets none of these notes.
    let mut other = soon("a room", ann.open("/room/8", &[])).await.unwrap();
    other.send(vec![1]).await.unwrap();
    assert_eq!(soon("the end", other.next()).await, None);
    assert_eq!(other.ended().unwrap().code, 1003);
    app.end().await;
    // The links were sent away, and the notes are still in the database.
    let app = App::start(&file).await;
    let cookie = app.log_in("cleo").await;
    let cleo = app.client(&cookie);
    let mut room = soon("the room", cleo.open("/room/7", &[])).await.unwrap();
    assert_eq!(heard(&mut room).await["text"], "milk");
    assert_eq!(heard(&mut room).await["text"], "bread");
    app.end().await;
}

#[tokio::test]
async fn who_enters_while_others_write_misses_no_note() {
    const NOTES: usize = 40;
    let app = App::start(&file("busy")).await;
    let (ann, bob) = (app.log_in("ann").await, app.log_in("bob").await);
    let (ann, bob) = (app.client(&ann), app.client(&bob));
    let room = soon("the room", ann.open("/room/7", &[])).await.unwrap();
    let written = async {
        for number in 0..NOTES {
            room.send(number.to_string()).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    // The test does as the page does: it subscribes to the topic first, and then opens the room.
    let seen = async {
        let mut topic = bob.subscribe("room:7");
        assert!(matches!(soon("it", topic.next()).await, Some(TopicEvent::Subscribed { .. })));
        let mut room = soon("the room", bob.open("/room/7", &[])).await.unwrap();
        let (mut seen, mut came) = (BTreeMap::new(), 0);
        while seen.len() < NOTES {
            let note = tokio::select! {
                note = heard(&mut room) => note,
                note = published(&mut topic) => note,
            };
            came += 1;
            let (id, text) = (note["id"].as_i64().unwrap(), note["text"].clone());
            let known = seen.entry(id).or_insert_with(|| text.clone());
            assert_eq!(*known, text, "an id is of one note");
            assert!(came <= 2 * NOTES, "a note comes twice at most: {seen:?}");
        }
        seen
    };
    let ((), seen) = tokio::join!(written, seen);
    let wanted = (0..NOTES).map(|number| json!(number.to_string()));
    assert!(seen.into_values().eq(wanted), "ids are in the order of the notes");
    app.end().await;
}

/// Returns the reason why the client is refused for good.
async fn refused(client: &Client) -> String {
    let mut status = client.status();
    let ended = |status: &Status| !matches!(status, Status::Connecting);
    let status = soon("an answer", status.wait_for(ended)).await.unwrap().clone();
    match status {
        Status::Refused { reason } => reason,
        other => panic!("no refusal: {other:?}"),
    }
}

#[tokio::test]
async fn who_has_not_logged_in_or_has_logged_out_stays_outside() {
    let app = App::start(&file("outside")).await;
    let reason = refused(&app.client("other=1")).await;
    assert!(reason.contains("log in first"), "{reason}");
    let cookie = app.log_in("ann").await;
    let ann = app.client(&cookie);
    let odd = soon("an answer", ann.open("/room/kitchen", &[])).await;
    assert!(matches!(odd, Err(OpenError::Failed { message, .. }) if message.contains("number")));
    let mut room = soon("the room", ann.open("/room/1", &[])).await.unwrap();
    app.post("/logout", &format!("Cookie: {cookie}\r\n"), "").await;
    assert_eq!(soon("the end", room.next()).await, None);
    let mut status = ann.status();
    let away = soon("the end", status.wait_for(|it| *it != Status::Connected)).await;
    let away = away.unwrap().clone();
    assert!(
        matches!(&away, Status::Refused { reason } if reason.contains("log in again")),
        "{away:?}"
    );
    let reason = refused(&app.client(&cookie)).await;
    assert!(reason.contains("log in again"), "{reason}");
    let answer = app.post("/login", "", "name=").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    app.end().await;
}

#[tokio::test]
async fn who_logs_out_in_one_browser_stays_in_another() {
    let app = App::start(&file("browsers")).await;
    let (here, there) = (app.log_in("ann").await, app.log_in("ann").await);
    let (ann, other) = (app.client(&here), app.client(&there));
    let mut room = soon("the room", ann.open("/room/7", &[])).await.unwrap();
    let stays = soon("the room", other.open("/room/8", &[])).await.unwrap();
    app.post("/logout", &format!("Cookie: {here}\r\n"), "").await;
    assert_eq!(soon("the end", room.next()).await, None);
    // The other browser dials again too, and its socket goes on.
    let mut topic = other.subscribe("room:8");
    assert!(matches!(soon("it", topic.next()).await, Some(TopicEvent::Subscribed { .. })));
    stays.send("still here").await.unwrap();
    assert_eq!(published(&mut topic).await["text"], "still here");
    assert_eq!(stays.ended(), None);
    app.end().await;
}

/// The process is ended by SIGTERM, as an orchestrator does it.
#[tokio::test]
async fn a_process_that_is_told_to_end_sends_its_links_away_and_ends() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_rooms"))
        .args(["127.0.0.1:0".as_ref(), file("process").as_os_str(), "none".as_ref()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let line = soon("the address", lines.next_line()).await.unwrap().unwrap();
    let address = line.strip_prefix("rooms at http://").unwrap().trim_end_matches('/');
    let (stop, run) = (oneshot::channel().0, tokio::spawn(async { true }));
    let app = App { address: address.parse().unwrap(), stop, run };
    let cookie = app.log_in("ann").await;
    let ann = app.client(&cookie);
    let _room = soon("the room", ann.open("/room/7", &[])).await.unwrap();
    // A request that never ends does not keep the process alive.
    let mut slow = TcpStream::connect(app.address).await.unwrap();
    let part = "POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nContent-Type: \
                application/x-www-form-urlencoded\r\n\r\nname";
    slow.write_all(part.as_bytes()).await.unwrap();
    let mut status = ann.status();
    let id = process.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    let left = soon("the end of the link", status.wait_for(|it| *it != Status::Connected)).await;
    let left = left.unwrap().clone();
    assert!(matches!(left, Status::Backoff { .. }), "sent away, to come back: {left:?}");
    assert!(soon("the end", process.wait()).await.unwrap().success());
}
