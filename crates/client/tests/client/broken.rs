//! Links that break, and sessions that go on or end.

use std::time::Duration;

use tabmux_client::{Client, OpenError, Status, TopicEvent};
use tabmux_server::{Config, Message, Refusal, Server, TaskSocket, task};

use super::support::{Network, Running, soon, text};

/// Asserts that the `n`th message is `n`, and answers each with the same text.
async fn count(mut socket: TaskSocket) {
    let mut expected = 0_u32;
    while let Some(message) = socket.next().await {
        let number = std::str::from_utf8(message.as_payload().as_bytes()).unwrap().to_owned();
        if number != expected.to_string() {
            return socket.close(4000, &format!("{number} came in the place of {expected}"));
        }
        expected += 1;
        if socket.send(number).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn nothing_is_lost_or_repeated_over_a_link_that_breaks_again_and_again() {
    const CUTS: u32 = 8;
    const EACH: u32 = 150;
    let server = Running::start(Server::builder().socket("/count", task(count))).await;
    let network = Network::to(server.address).await;
    let client = network.client();
    let mut socket = soon("a socket", client.open("/count", &[])).await.unwrap();
    let mut heard = 0;
    for cut in 1..=CUTS {
        for number in (cut - 1) * EACH..cut * EACH {
            socket.send(number.to_string()).await.unwrap();
        }
        // The cut falls while messages are on their way in both directions.
        while heard < cut * EACH - EACH / 2 {
            assert_eq!(text(&mut socket).await, heard.to_string());
            heard += 1;
        }
        let before = network.dials();
        network.cut();
        let dialled = async {
            while network.dials() == before {
                tokio::task::yield_now().await;
            }
        };
        soon("another dial", dialled).await;
    }
    while heard < CUTS * EACH {
        assert_eq!(text(&mut socket).await, heard.to_string());
        heard += 1;
    }
    assert_eq!(socket.ended(), None);
    assert!(server.handle.stats().sessions.resumed > 0);
}

#[tokio::test]
async fn what_is_sent_without_a_link_arrives_with_the_next_one() {
    let server = Running::start(Server::builder().socket("/count", task(count))).await;
    let network = Network::to(server.address).await;
    let client = network.client();
    let mut socket = soon("a socket", client.open("/count", &[])).await.unwrap();
    network.set_down(true);
    network.cut();
    let mut status = client.status();
    soon("the end of the link", status.wait_for(|now| matches!(now, Status::Backoff { .. })))
        .await
        .unwrap();
    for number in 0..3 {
        socket.send(number.to_string()).await.unwrap();
    }
    let failed = soon("an answer", client.open("/count", &[])).await;
    assert!(matches!(failed, Err(OpenError::Failed { .. })), "{failed:?}");
    network.set_down(false);
    for number in 0..3 {
        assert_eq!(text(&mut socket).await, number.to_string());
    }
}

#[tokio::test]
async fn a_session_that_the_server_gave_up_ends_its_sockets_and_another_begins() {
    let config = Config::default().detached_ms(1);
    let builder = Server::builder().config(config).socket("/count", task(count));
    let server = Running::start(builder).await;
    let network = Network::to(server.address).await;
    let client = network.client();
    let mut socket = soon("a socket", client.open("/count", &[])).await.unwrap();
    network.set_down(true);
    network.cut();
    let gone = async {
        while server.handle.stats().sessions.expired == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of the session", gone).await;
    network.set_down(false);
    assert_eq!(soon("the end", socket.next()).await, None);
    let ended = socket.ended().unwrap();
    assert_eq!((ended.code, ended.clean), (1006, false));
    assert!(ended.error.contains("session"), "{ended:?}");
    let mut next = soon("a socket", client.open("/count", &[])).await.unwrap();
    next.send("0").await.unwrap();
    assert_eq!(text(&mut next).await, "0");
}

#[tokio::test]
async fn a_server_that_is_started_again_ends_sockets_and_topics_tell_a_gap() {
    let builder = || {
        let config = Config::default().drain_ms(10);
        Server::builder().config(config).socket("/count", task(count))
    };
    let server = Running::start(builder()).await;
    let client = server.client();
    let mut socket = soon("a socket", client.open("/count", &[])).await.unwrap();
    let mut topic = client.subscribe("prices");
    let first = soon("the topic", topic.next()).await;
    assert!(matches!(first, Some(TopicEvent::Subscribed { .. })), "{first:?}");
    server.handle.publish("prices", Message::Text("41")).await.unwrap();
    let event = soon("a publication", topic.next()).await;
    assert!(matches!(event, Some(TopicEvent::Message { .. })), "{event:?}");
    let address = server.address;
    server.end().await;
    let server = Running::start_at(builder(), address).await;
    assert_eq!(soon("the end", socket.next()).await, None);
    let ended = socket.ended().unwrap();
    assert_eq!((ended.code, ended.clean), (1006, false), "{ended:?}");
    let gap = soon("the gap", topic.next()).await;
    assert!(matches!(gap, Some(TopicEvent::Gap { .. })), "{gap:?}");
    server.handle.publish("prices", Message::Text("42")).await.unwrap();
    let event = soon("a publication", topic.next()).await;
    let Some(TopicEvent::Message { message, .. }) = event else { panic!("{event:?}") };
    assert_eq!(message, "42".into());
    let mut next = soon("a socket", client.open("/count", &[])).await.unwrap();
    next.send("0").await.unwrap();
    assert_eq!(text(&mut next).await, "0");
}

#[tokio::test]
async fn each_request_for_a_link_carries_the_headers_and_a_key_of_its_own() {
    let (told, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let judge = move |request: tabmux_server::Handshake| {
        let header = |name| request.header(name).unwrap().to_owned();
        let seen = (request.cookie("session").map(str::to_owned), header("authorization"));
        told.send((seen, header("sec-websocket-key"))).unwrap();
        async { Ok(tabmux_server::Admitted::user("ann")) }
    };
    let server = Running::start(Server::builder().judge(judge)).await;
    let network = Network::to(server.address).await;
    let client = Client::builder(network.url())
        .header("cookie", "session=7f9c")
        .header("authorization", "Bearer 5f0e")
        .connect()
        .unwrap();
    let (seen, first) = soon("a question", asked.recv()).await.unwrap();
    assert_eq!(seen, (Some("7f9c".to_owned()), "Bearer 5f0e".to_owned()));
    let mut status = client.status();
    soon("the link", status.wait_for(|it| *it == Status::Connected)).await.unwrap();
    network.cut();
    let (again, second) = soon("a question", asked.recv()).await.unwrap();
    assert_eq!(again, seen);
    assert_ne!(first, second);
    drop(client);
}

#[tokio::test]
async fn a_client_that_the_judge_refuses_is_told_why_and_when() {
    let judge = |request: tabmux_server::Handshake| async move {
        match request.cookie("session") {
            None => Err(Refusal::never("log in first")),
            Some(_) => Err(Refusal::retry_after(Duration::from_secs(60), "no database")),
        }
    };
    let server = Running::start(Server::builder().judge(judge)).await;
    let answer = async |client: Client| {
        let mut status = client.status();
        let wait = status.wait_for(|it| *it != Status::Connecting);
        soon("an answer", wait).await.unwrap().clone()
    };
    let refused = answer(server.client()).await;
    assert!(matches!(&refused, Status::Refused { reason } if reason.ends_with("log in first")));
    let client = Client::builder(format!("ws://{}", server.address)).header("cookie", "session=1");
    let later = answer(client.connect().unwrap()).await;
    assert!(matches!(&later, Status::Backoff { reason } if reason.contains("no database")));
}

#[tokio::test]
async fn what_a_server_says_by_http_when_it_refuses_is_in_the_reason() {
    let server = Running::start(Server::builder()).await;
    let client = Client::builder(format!("ws://{}", server.address));
    let client = client.header("origin", "https://elsewhere.example").connect().unwrap();
    let mut status = client.status();
    let refused = soon("an answer", status.wait_for(|it| *it != Status::Connecting)).await;
    let refused = refused.unwrap();
    let Status::Backoff { reason } = &*refused else { panic!("{refused:?}") };
    assert!(reason.contains("403") && reason.contains("elsewhere.example"), "{reason}");
}
