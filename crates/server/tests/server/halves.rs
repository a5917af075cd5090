//! Sockets of tasks as streams and sinks, and in halves.

use futures_util::{SinkExt, StreamExt};
use tabmux_core::wire::{Alias, Payload, ServerFrame};
use tabmux_server::{OwnedMessage, SendError, Server, TaskSocket, TaskWriter, task};
use tokio::sync::mpsc;

use super::support::{Hub, Running, frame, soon};

const TAB: Alias = Alias(1);

/// A server whose sockets at `/task` this task serves, and a hub that opened one.
async fn running<F, Fut>(run: F) -> (Running, Hub)
where
    F: Fn(TaskSocket) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let server = Running::start(Server::builder().socket("/task", task(run))).await;
    let hub = Hub::with_socket(server.address, "/task").await;
    (server, hub)
}

/// The code and the reason of the close that must come next.
async fn closed(hub: &mut Hub) -> (u16, String) {
    match frame(&hub.next().await) {
        ServerFrame::Close { code, reason, .. } => (code, reason.to_owned()),
        other => panic!("not closed: {other:?}"),
    }
}

#[tokio::test]
async fn a_socket_is_a_stream_and_a_sink() {
    let (_server, mut hub) = running(|socket| async move {
        let (sink, stream) = StreamExt::split(socket);
        let loud = stream.map(|message| match message {
            OwnedMessage::Text(text) => Ok(text.to_uppercase().into()),
            OwnedMessage::Binary(bytes) => Ok(bytes.into()),
        });
        loud.forward(sink).await.unwrap();
    })
    .await;
    for text in ["one", "two"] {
        hub.send(TAB, 1, Payload::Text(text)).await;
        assert_eq!(hub.text(TAB, 1).await, text.to_uppercase());
    }
}

#[tokio::test]
async fn a_socket_is_open_while_one_half_is_left() {
    let (sent, mut writers) = mpsc::unbounded_channel();
    let (_server, mut hub) = running(move |socket| {
        let (writer, mut reader) = socket.split();
        sent.send(writer).unwrap();
        async move {
            // The task goes on without a writer of its own, and ends with this message.
            assert_eq!(reader.next().await, Some("go".into()));
        }
    })
    .await;
    let writer = soon("the writer", writers.recv()).await.unwrap();
    hub.send(TAB, 1, Payload::Text("go")).await;
    let other = writer.clone();
    drop(writer);
    other.send("still there").await.unwrap();
    assert_eq!(hub.text(TAB, 1).await, "still there");
    drop(other);
    assert_eq!(closed(&mut hub).await, (1000, String::new()));
}

#[tokio::test]
async fn a_half_whose_task_panics_closes_the_socket_at_once() {
    let (kept, mut readers) = mpsc::unbounded_channel();
    let (_server, mut hub) = running(move |socket| {
        let (writer, reader) = socket.split();
        kept.send(reader).unwrap();
        async move {
            writer.send("before").await.unwrap();
            panic!("on request");
        }
    })
    .await;
    assert_eq!(hub.text(TAB, 1).await, "before");
    assert_eq!(closed(&mut hub).await.0, 1011);
    let mut reader = soon("the reader", readers.recv()).await.unwrap();
    assert_eq!(reader.next().await, None);
    assert_eq!(reader.ended().map(|ended| ended.code), Some(1011));
}

#[tokio::test]
async fn a_task_ends_its_socket_without_a_code_or_as_if_it_broke() {
    for (code, clean) in [(1005, true), (1006, false)] {
        let (ended, mut ends) = mpsc::unbounded_channel();
        let (_server, mut hub) = running(move |mut socket| {
            let ended = ended.clone();
            async move {
                socket.close(code, "");
                assert_eq!(socket.next().await, None);
                ended.send(socket.ended().unwrap()).unwrap();
            }
        })
        .await;
        assert_eq!(closed(&mut hub).await, (code, String::new()));
        let end = soon("the end", ends.recv()).await.unwrap();
        assert_eq!((end.code, end.clean), (code, clean));
    }
}

/// Sends until its room is full, and says how much of that waits.
async fn fill(mut writer: TaskWriter, said: mpsc::UnboundedSender<&'static str>) {
    // 2 MiB, twice of what may wait for the link, and not one flush.
    for _ in 0..32 {
        writer.feed(vec![0; 64 << 10].into()).await.unwrap();
    }
    said.send("fed").unwrap();
    writer.flush().await.unwrap();
    said.send("flushed").unwrap();
    SinkExt::close(&mut writer).await.unwrap();
    assert_eq!(writer.send("late".to_owned()).await, Err(SendError::Closed));
    said.send("closed").unwrap();
}

#[tokio::test]
async fn a_flush_waits_for_the_link_and_a_close_for_the_end() {
    let (said, mut news) = mpsc::unbounded_channel();
    let server = task(move |socket| fill(socket.split().0, said.clone()));
    let server = Running::start(Server::builder().socket("/task", server)).await;
    let mut hub = Hub::welcomed(server.address).await;
    hub.attach(1).await;
    // Credit for one message only.
    hub.open_with(TAB, 1, "/task", 1).await;
    let first = hub.next().await;
    assert!(matches!(frame(&first), ServerFrame::Data { .. }));
    server.stats(|stats| stats.messages.no_credit > 0).await;
    assert!(news.try_recv().is_err(), "there is no room for all");
    for _ in 1..32 {
        hub.credit(TAB, 1, (64 << 10) + 64).await;
        assert!(matches!(frame(&hub.next().await), ServerFrame::Data { .. }));
    }
    assert_eq!(closed(&mut hub).await, (1000, String::new()));
    for step in ["fed", "flushed", "closed"] {
        assert_eq!(soon(step, news.recv()).await, Some(step));
    }
}

#[tokio::test]
async fn a_reader_that_is_dropped_gives_back_the_credit_of_what_it_did_not_read() {
    let (sent, mut halves) = mpsc::unbounded_channel();
    let (_server, mut hub) = running(move |socket| {
        sent.send(socket.split()).unwrap();
        async {}
    })
    .await;
    let (writer, reader) = soon("the halves", halves.recv()).await.unwrap();
    // Credit is given in halves of the first credit, so each message takes one half.
    let text = "x".repeat((128 << 10) - 64);
    for _ in 0..2 {
        hub.send(TAB, 1, Payload::Text(&text)).await;
    }
    hub.quiet().await;
    assert_eq!(hub.given.get(&(TAB, 1)), None);
    drop(reader);
    let whole = 2 * (128 << 10);
    let gets_it_back = async {
        while hub.given.get(&(TAB, 1)) != Some(&whole) {
            writer.send("there").await.unwrap();
            assert_eq!(hub.text(TAB, 1).await, "there");
        }
    };
    soon("the credit", gets_it_back).await;
}
