//! Who does not read holds up who sends, and nobody else.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{SinkExt, StreamExt};
use tabmux_core::wire::{Payload, ServerFrame};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use super::world::{Backend, Conn, TAB, connected, opened, tab};
use crate::support::{Hub, frame, soon};

const CHUNK: usize = 64 << 10;
/// What may be on its way: buffers of the system, and what the gateway holds.
const HELD: usize = 24 << 20;
const ALL: usize = 200 << 20;

/// Sends numbered chunks, and counts what the system took.
async fn flood(mut conn: Conn, sent: Arc<AtomicUsize>) {
    for number in 0..u32::try_from(ALL / CHUNK).unwrap() {
        let chunk = [&number.to_be_bytes()[..], &[0; CHUNK - 4]].concat();
        conn.ws.send(Message::binary(chunk)).await.unwrap();
        sent.fetch_add(CHUNK, Ordering::Relaxed);
    }
    conn.ws.close(None).await.unwrap();
}

/// Waits until a number does not grow any more.
async fn stands_still(count: &AtomicUsize) -> usize {
    let mut last = (count.load(Ordering::Relaxed), 0);
    while last.1 < 20 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        let now = count.load(Ordering::Relaxed);
        last = if now == last.0 && now > 0 { (now, last.1 + 1) } else { (now, 0) };
    }
    last.0
}

/// Sends on socket 1 as a page does, as long as there is credit. Returns how many chunks that were.
async fn fill(hub: &mut Hub) -> u32 {
    let (mut sent, mut number, mut stood) = (0_u64, 0_u32, 0);
    let cost = tabmux_server::message_cost(CHUNK);
    while stood < 50 {
        // The page has 256 KiB at first.
        let credit = (256 << 10) + hub.given.get(&(TAB, 1)).copied().unwrap_or(0);
        if sent + cost > credit {
            // Whatever is due comes before the answer to a ping.
            hub.quiet().await;
            stood += 1;
            continue;
        }
        let chunk = [&number.to_be_bytes()[..], &[0; CHUNK - 4]].concat();
        hub.send(TAB, 1, Payload::Binary(&chunk)).await;
        (sent, number, stood) = (sent + cost, number + 1, 0);
        assert!(sent < HELD as u64, "{sent} bytes are held");
    }
    number
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_blocked_holds_its_upstream_up_and_loses_nothing() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let mut hub = tab(&server).await;
    // A socket with little credit, and one that is not hurt.
    hub.ask_with(TAB, 1, "/chat/", 128 << 10).await;
    let conn = backend.conn().await;
    opened(&mut hub).await;
    hub.ask(TAB, 2, "/chat/", &[]).await;
    let mut other = backend.conn().await;
    opened(&mut hub).await;
    let sent = Arc::<AtomicUsize>::default();
    let flooding = tokio::spawn(flood(conn, Arc::clone(&sent)));
    let held = soon("the flood to stop", stands_still(&sent)).await;
    assert!(held < HELD, "{held} bytes are held");
    let mut number = 0_u32;
    other.send("meanwhile").await;
    loop {
        let bytes = hub.next().await;
        match frame(&bytes) {
            ServerFrame::Data { socket, payload: Payload::Text(text), .. } => {
                assert_eq!((socket.0, text), (2, "meanwhile"));
                break;
            }
            ServerFrame::Data { payload, .. } => {
                assert_eq!(payload.as_bytes()[..4], number.to_be_bytes());
                number += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    hub.credit(TAB, 1, u64::from(u32::MAX)).await;
    loop {
        let bytes = hub.next().await;
        match frame(&bytes) {
            ServerFrame::Data { payload, .. } => {
                assert_eq!(payload.as_bytes()[..4], number.to_be_bytes());
                number += 1;
            }
            ServerFrame::Close { code: 1005, .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(number as usize, ALL / CHUNK);
    flooding.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_does_not_read_holds_its_page_up_and_others_go_on() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let (mut hub, mut conn) = connected(&server, &backend).await;
    hub.ask(TAB, 2, "/chat/", &[]).await;
    let mut other = backend.conn().await;
    opened(&mut hub).await;
    let number = fill(&mut hub).await;
    hub.send(TAB, 2, Payload::Text("meanwhile")).await;
    assert_eq!(other.text().await, "meanwhile");
    for expected in 0..number {
        match soon("a chunk", conn.ws.next()).await {
            Some(Ok(Message::Binary(bytes))) => assert_eq!(bytes[..4], expected.to_be_bytes()),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_page_sends_to_a_slow_upstream_arrives_whole_and_little_is_held() {
    const UP: u32 = 100 << 20;
    const CHUNKS: u32 = UP / CHUNK as u32;
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let (mut hub, mut conn) = connected(&server, &backend).await;
    let read = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&read);
    let reading = tokio::spawn(async move {
        for expected in 0..CHUNKS {
            let Some(Ok(Message::Binary(bytes))) = conn.ws.next().await else {
                panic!("chunk {expected} does not come")
            };
            assert_eq!(bytes[..4], expected.to_be_bytes());
            counted.fetch_add(CHUNK, Ordering::Relaxed);
            // The page is always ahead.
            tokio::task::yield_now().await;
        }
    });
    let cost = tabmux_server::message_cost(CHUNK);
    let (mut spent, mut number) = (0_u64, 0_u32);
    while number < CHUNKS {
        let credit = (256 << 10) + hub.given.get(&(TAB, 1)).copied().unwrap_or(0);
        if spent + cost > credit {
            hub.quiet().await;
            continue;
        }
        let chunk = [&number.to_be_bytes()[..], &[0; CHUNK - 4]].concat();
        hub.send(TAB, 1, Payload::Binary(&chunk)).await;
        (spent, number) = (spent + cost, number + 1);
        let held =
            number as usize * CHUNK - read.load(Ordering::Relaxed).min(number as usize * CHUNK);
        assert!(held < HELD, "{held} bytes are held");
    }
    soon("the last chunk", reading).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tab_may_send_no_more_to_an_upstream_that_ended_the_connection() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let mut hub = tab(&server).await;
    // The tab takes nothing, so the end of the upstream stays behind its message.
    hub.ask_with(TAB, 1, "/chat/", 0).await;
    let mut conn = backend.conn().await;
    opened(&mut hub).await;
    conn.send("before the end").await;
    drop(conn);
    // It asserts that little is held.
    fill(&mut hub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_behind_each_other_all_come_while_the_upstream_does_not_read() {
    const MESSAGES: usize = 5_000;
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let (mut hub, mut conn) = connected(&server, &backend).await;
    fill(&mut hub).await;
    for _ in 0..MESSAGES {
        conn.ws.feed(Message::text("")).await.unwrap();
    }
    conn.ws.flush().await.unwrap();
    let mut heard = 0;
    while heard < MESSAGES {
        let bytes = hub.next().await;
        heard += usize::from(matches!(frame(&bytes), ServerFrame::Data { .. }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_sends_parts_without_end_leaves_others_their_turn() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let (mut hub, mut conn) = connected(&server, &backend).await;
    hub.ask(TAB, 2, "/chat/", &[]).await;
    let mut other = backend.conn().await;
    opened(&mut hub).await;
    let part = |opcode| Message::Frame(Frame::message(Vec::new(), OpCode::Data(opcode), false));
    let flooding = tokio::spawn(async move {
        let _ = conn.ws.send(part(Data::Text)).await;
        while conn.ws.feed(part(Data::Continue)).await.is_ok() {}
    });
    for _ in 0..100 {
        other.send("meanwhile").await;
        loop {
            let bytes = hub.next().await;
            if let ServerFrame::Data { payload: Payload::Text("meanwhile"), .. } = frame(&bytes) {
                break;
            }
        }
    }
    flooding.abort();
}

#[tokio::test]
async fn a_tab_that_closes_while_its_upstream_does_not_read_leaves_nothing_behind() {
    let backend = Backend::start().await;
    let server = backend.behind().await;
    let (mut hub, conn) = connected(&server, &backend).await;
    fill(&mut hub).await;
    hub.close(TAB, 1, 4000, "enough").await;
    server.stats(|stats| stats.sockets.open == 0).await;
    let name = "tabmux_route_sockets{route=\"/chat/\"}";
    let gone = async {
        while crate::support::metric(server.address, name).await > 0.5 {
            tokio::task::yield_now().await;
        }
    };
    soon("its place to be free", gone).await;
    drop(conn);
}
