//! Handlers that are async functions.

use std::sync::Arc;

use tabmux_core::wire::{
    Alias, HubFrame, Payload, Rejected, ServerFrame, SocketId, TabId, Upstream,
};
use tabmux_server::{
    Builder, Config, Limits, Opening, SendError, Server, TaskHandler, task, task_opening,
};
use tokio::sync::{Notify, mpsc};

use super::support::{Hub, Running, frame, soon};

const TAB: Alias = Alias(1);

async fn running(install: impl FnOnce(Builder) -> Builder) -> (Running, Hub) {
    let server = Running::start(install(Server::builder())).await;
    let hub = Hub::with_socket(server.address, "/task").await;
    (server, hub)
}

#[tokio::test]
async fn a_task_answers_and_its_return_closes_the_socket() {
    let echo = task(|mut socket| async move {
        while let Some(message) = socket.next().await {
            if message.is_empty() {
                return;
            }
            socket.send(message).await.unwrap();
        }
    });
    let (_server, mut hub) = running(|builder| builder.socket("/task", echo)).await;
    for text in ["one", "two"] {
        hub.send(TAB, 1, Payload::Text(text)).await;
        assert_eq!(hub.text(TAB, 1).await, text);
    }
    hub.send(TAB, 1, Payload::Text("")).await;
    assert!(matches!(frame(&hub.next().await), ServerFrame::Close { code: 1000, .. }));
}

#[tokio::test]
async fn a_task_waits_for_room_and_what_it_sent_comes_before_its_close() {
    let flood = task(|socket| async move {
        for number in 0..2_000_u32 {
            let chunk = [&number.to_be_bytes()[..], &[0; 8 << 10]].concat();
            socket.send(chunk).await.unwrap();
        }
        socket.close(4001, "that was all");
        assert_eq!(socket.send("late").await, Err(SendError::Closed));
    });
    let (server, mut hub) = running(|builder| builder.socket("/task", flood)).await;
    // It does not read until the link's queue is full.
    server.stats(|stats| stats.messages.queue_full > 0).await;
    for number in 0..2_000_u32 {
        let bytes = hub.next().await;
        let ServerFrame::Data { payload, .. } = frame(&bytes) else { panic!("no chunk {number}") };
        assert_eq!(payload.as_bytes()[..4], number.to_be_bytes());
    }
    let bytes = hub.next().await;
    assert!(matches!(frame(&bytes), ServerFrame::Close { code: 4001, reason: "that was all", .. }));
}

/// Echoes as long as it can, and says why it ended.
fn echo_to_the_limit(
    ended: mpsc::UnboundedSender<SendError>,
) -> impl Fn() -> TaskHandler + Send + Sync {
    task(move |mut socket| {
        let ended = ended.clone();
        async move {
            while let Some(message) = socket.next().await {
                let (larger, len) = (vec![0; message.len() + 8], message.len());
                socket.send(message).await.unwrap();
                // What is larger than that by a frame's header cannot be sent, and costs nothing.
                let refused = socket.send(larger).await.unwrap_err();
                ended.send(refused).unwrap();
                socket.send(len.to_string()).await.unwrap();
            }
        }
    })
}

/// The longest message that a page can send on the first socket of its only tab.
fn longest(message_bytes: usize) -> usize {
    let up = Upstream { tab: TAB, n: 2 };
    let empty = HubFrame::Data { up, socket: SocketId(1), payload: Payload::Binary(&[]) };
    message_bytes - empty.to_bytes().len()
}

#[tokio::test]
async fn a_task_echoes_the_longest_message_that_a_page_can_send() {
    // Below what a task may keep waiting, as much as that, and above it.
    for message_bytes in [1 << 16, 1 << 20, 3 << 20] {
        let limits = Limits::default().message_bytes(message_bytes).queue_bytes(4 << 20);
        let limits = limits.credit_bytes(4 << 20);
        let (sender, mut refused) = mpsc::unbounded_channel();
        let config = Config::default().limits(limits);
        let builder = Server::builder().config(config).socket("/task", echo_to_the_limit(sender));
        let server = Running::start(builder).await;
        let mut hub = Hub::with_socket(server.address, "/task").await;
        let message = vec![7; longest(message_bytes)];
        hub.send(TAB, 1, Payload::Binary(&message)).await;
        let bytes = hub.next().await;
        let ServerFrame::Data { payload, .. } = frame(&bytes) else { panic!("no echo") };
        assert!(payload.as_bytes() == message, "{}", payload.len());
        assert_eq!(soon("the task", refused.recv()).await, Some(SendError::TooLarge));
        hub.credit(TAB, 1, 8 << 20).await;
        assert_eq!(hub.text(TAB, 1).await, message.len().to_string());
    }
}

#[tokio::test]
async fn a_task_waits_for_credit_and_sockets_beside_it_go_on() {
    const CHUNK: usize = 100 << 10;
    let (sent, mut news) = mpsc::unbounded_channel();
    let flood = task(move |socket| {
        let sent = sent.clone();
        async move {
            // What has no credit waits for room in the task's queue of 1 MiB, and then here.
            for number in 1_u64..=30 {
                socket.send(vec![0; CHUNK]).await.unwrap();
                sent.send(number).unwrap();
            }
        }
    });
    let echo = task(|mut socket| async move {
        while let Some(message) = socket.next().await {
            socket.send(message).await.unwrap();
        }
    });
    let install = |builder: Builder| builder.socket("/flood", flood).socket("/echo", echo);
    let server = Running::start(install(Server::builder())).await;
    let mut hub = Hub::welcomed(server.address).await;
    hub.attach(1).await;
    hub.open_with(TAB, 1, "/echo", 1).await;
    hub.open_with(TAB, 2, "/flood", 1).await;
    let message = hub.next().await;
    assert!(matches!(frame(&message), ServerFrame::Data { socket: SocketId(2), .. }));
    server.stats(|stats| stats.messages.no_credit > 0 && stats.sockets.awaiting_credit == 1).await;
    // The next that comes is of the other socket, and nothing after it.
    hub.send(TAB, 1, Payload::Text("through")).await;
    assert_eq!(hub.text(TAB, 1).await, "through");
    hub.quiet().await;
    while soon("the task", news.recv()).await != Some(11) {}
    assert!(news.try_recv().is_err(), "1 went out, 10 wait, and the 12th waits with the task");
    // One for each message that is given back.
    for _ in 1..30 {
        hub.credit(TAB, 2, CHUNK as u64 + 64).await;
        let message = hub.next().await;
        assert!(matches!(frame(&message), ServerFrame::Data { socket: SocketId(2), .. }));
    }
    assert!(matches!(frame(&hub.next().await), ServerFrame::Close { code: 1000, .. }));
    assert_eq!(soon("the task", news.recv()).await, Some(12));
    server.stats(|stats| stats.sockets.awaiting_credit == 0).await;
}

#[tokio::test]
async fn a_task_learns_that_its_socket_closed() {
    let (ended, mut news) = mpsc::unbounded_channel();
    let wait = task(move |mut socket| {
        let ended = ended.clone();
        async move {
            let none = socket.next().await.is_none();
            ended.send((none, socket.send("late").await)).unwrap();
        }
    });
    let (_server, mut hub) = running(|builder| builder.socket("/task", wait)).await;
    hub.close(TAB, 1, 1000, "").await;
    assert!(matches!(frame(&hub.next().await), ServerFrame::Close { code: 1000, .. }));
    assert_eq!(soon("the task", news.recv()).await, Some((true, Err(SendError::Closed))));
}

#[tokio::test]
async fn a_task_that_panics_closes_its_socket_with_1011() {
    let broken = task(|mut socket| async move {
        socket.next().await;
        panic!("on purpose");
    });
    let (_server, mut hub) = running(|builder| builder.socket("/task", broken)).await;
    hub.send(TAB, 1, Payload::Text("go")).await;
    assert!(matches!(frame(&hub.next().await), ServerFrame::Close { code: 1011, .. }));
}

#[tokio::test]
async fn a_tab_waits_for_a_task_that_is_behind_and_its_other_sockets_go_on() {
    let (release, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let waits = Arc::clone(&release);
    let slow = task(move |mut socket| {
        let (waits, gate) = (Arc::clone(&waits), Arc::clone(&gate));
        async move {
            waits.notified().await;
            for _ in 0..3 {
                socket.next().await.unwrap();
            }
            gate.notified().await;
        }
    });
    let echo = task(|mut socket| async move {
        while let Some(message) = socket.next().await {
            socket.send(message).await.unwrap();
        }
    });
    let (server, mut hub) =
        running(|builder| builder.socket("/task", slow).socket("/echo", echo)).await;
    hub.open(TAB, 2, "/echo", &[]).await;
    // What there is credit for, to the byte, and more than half of it.
    hub.send(TAB, 1, Payload::Binary(&[0; (128 << 10) - 64])).await;
    hub.send(TAB, 1, Payload::Binary(&[0; (128 << 10) - 65])).await;
    hub.send(TAB, 1, Payload::Binary(&[0; 100 << 10])).await;
    hub.send(TAB, 2, Payload::Text("beside")).await;
    assert_eq!(hub.text(TAB, 2).await, "beside");
    hub.quiet().await;
    assert_eq!(hub.given.get(&(TAB, 1)), None, "the task took nothing");
    release.notify_one();
    // The task may take the first two within one turn. The credit for the third, less than half of
    // what a socket has, then waits for more.
    while hub.given.get(&(TAB, 1)).is_none_or(|given| *given < (256 << 10) - 1) {
        hub.send(TAB, 2, Payload::Text("beside")).await;
        assert_eq!(hub.text(TAB, 2).await, "beside");
    }
    let all = (256 << 10) - 1 + (100 << 10) + 64;
    assert!(hub.given[&(TAB, 1)] <= all, "{:?}", hub.given);
    assert_eq!(server.handle.stats().sockets.over_credit, 0);
}

#[tokio::test]
async fn a_page_that_minds_no_credit_loses_its_socket_and_no_other() {
    let deaf = task(|socket| async move {
        std::future::pending::<()>().await;
        drop(socket);
    });
    let echo = task(|mut socket| async move {
        while let Some(message) = socket.next().await {
            socket.send(message).await.unwrap();
        }
    });
    let (server, mut hub) =
        running(|builder| builder.socket("/task", deaf).socket("/echo", echo)).await;
    hub.open(TAB, 2, "/echo", &[]).await;
    for _ in 0..3 {
        hub.send(TAB, 1, Payload::Binary(&[0; 500 << 10])).await;
    }
    let bytes = hub.next().await;
    let ServerFrame::Close { code: 1008, socket, .. } = frame(&bytes) else { panic!("{bytes:?}") };
    assert_eq!(socket.0, 1);
    hub.send(TAB, 2, Payload::Text("still here")).await;
    assert_eq!(hub.text(TAB, 2).await, "still here");
    server.stats(|stats| stats.sockets.over_credit == 1 && stats.sockets.open == 1).await;
}

#[tokio::test]
async fn what_a_task_sent_comes_although_its_tab_talks_on() {
    let (ended, mut news) = mpsc::unbounded_channel();
    let stop = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop);
    let parting = task(move |socket| {
        let (ended, stopped) = (ended.clone(), Arc::clone(&stopped));
        async move {
            let mut number = 0_u32;
            loop {
                let chunk = [&number.to_be_bytes()[..], &[0; 64 << 10]].concat();
                tokio::select! {
                    sent = socket.send(chunk) => sent.unwrap(),
                    () = stopped.notified() => break,
                }
                number += 1;
            }
            // It ends while the last of them are unwritten.
            drop(socket);
            ended.send(number).unwrap();
        }
    });
    let (server, mut hub) = running(|builder| builder.socket("/task", parting)).await;
    server.stats(|stats| stats.messages.queue_full > 0).await;
    stop.notify_one();
    let count = soon("the task", news.recv()).await.unwrap();
    for _ in 0..6 {
        hub.send(TAB, 1, Payload::Binary(&[0; 500 << 10])).await;
    }
    // Not before the server has them: reading makes room for what the task sent.
    server.stats(|stats| stats.messages.received >= 3).await;
    for number in 0..count {
        let bytes = hub.next().await;
        let ServerFrame::Data { payload, .. } = frame(&bytes) else { panic!("no chunk {number}") };
        assert_eq!(payload.as_bytes()[..4], number.to_be_bytes());
    }
    assert!(matches!(frame(&hub.next().await), ServerFrame::Close { code: 1000, .. }));
}

/// A hub that asked for a socket of a task, which offers the sub-protocols `a` and `b`.
async fn asking<F, Fut>(run: F) -> (Running, Hub)
where
    F: Fn(Opening) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let server = Running::start(Server::builder().socket("/task", task_opening(run))).await;
    let mut hub = Hub::welcomed(server.address).await;
    let tab = hub.attach(1).await;
    hub.ask(tab, 1, "/task?x=1", &["a", "b"]).await;
    (server, hub)
}

#[tokio::test]
async fn a_task_chooses_a_sub_protocol() {
    let (_server, mut hub) = asking(|opening| async move {
        assert_eq!(
            (opening.target(), opening.protocols()),
            ("/task?x=1", &["a".into(), "b".into()][..])
        );
        let socket = opening.accept_protocol("b");
        socket.send("welcome").await.unwrap();
        std::future::pending().await
    })
    .await;
    let bytes = hub.next().await;
    assert!(matches!(frame(&bytes), ServerFrame::Opened { protocol: "b", .. }), "{bytes:?}");
    assert_eq!(hub.text(TAB, 1).await, "welcome");
}

/// Why the socket was refused.
async fn refused(hub: &mut Hub) -> String {
    match frame(&hub.next().await) {
        ServerFrame::Rejected(Rejected { message, .. }) => message.to_owned(),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_task_refuses_its_socket() {
    let (_server, mut hub) = asking(|opening| async move { opening.reject("not yours") }).await;
    assert_eq!(refused(&mut hub).await, "not yours");
}

#[tokio::test]
async fn a_task_refuses_its_socket_with_a_code() {
    let run = |opening: Opening| async move { opening.reject_with(4403, "not yours") };
    let (_server, mut hub) = asking(run).await;
    let bytes = hub.next().await;
    let ServerFrame::Rejected(Rejected { code, message, .. }) = frame(&bytes) else {
        panic!("{bytes:?}")
    };
    assert_eq!((code, message), (4403, "not yours"));
}

#[tokio::test]
async fn a_task_that_panics_before_it_accepts_refuses() {
    let (_server, mut hub) = asking(|_| async move { panic!("on request") }).await;
    assert_eq!(refused(&mut hub).await, "the handler gave no answer");
}

#[tokio::test]
async fn a_task_learns_how_its_socket_ended() {
    let (sender, mut seen) = mpsc::unbounded_channel();
    let (_server, mut hub) = asking(move |opening| {
        let sender = sender.clone();
        async move {
            let mut socket = opening.accept();
            assert_eq!(socket.ended(), None);
            assert_eq!(socket.next().await, None);
            sender.send(socket.ended()).unwrap();
        }
    })
    .await;
    hub.next().await;
    hub.close(TAB, 1, 4001, "enough").await;
    let ended = soon("the end", seen.recv()).await.unwrap().unwrap();
    assert_eq!((ended.code, &*ended.reason, ended.clean), (4001, "enough", true));
}

#[tokio::test]
async fn a_socket_whose_tab_went_before_it_was_accepted_is_closed() {
    let (sender, mut openings) = mpsc::unbounded_channel();
    let (server, mut hub) = asking(move |opening| {
        let sent = sender.send(opening);
        async move { assert!(sent.is_ok()) }
    })
    .await;
    let opening = soon("the task", openings.recv()).await.unwrap();
    server.stats(|stats| stats.sockets.open == 1).await;
    hub.say(&HubFrame::Gone { tab: TabId(1) }).await;
    server.stats(|stats| stats.sockets.open == 0).await;
    let mut socket = opening.accept();
    assert_eq!(socket.next().await, None);
    assert_eq!(socket.send("late").await, Err(SendError::Closed));
}
