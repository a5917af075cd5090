//! Links that break.

use tabmux_client::{OpenError, Status};
use tabmux_server::{Config, Server, TaskSocket, task};

use super::support::{Network, Running, soon, text};

/// Counts: the `n`th message must be `n`, and is answered with the same.
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
        // Some of it is on its way, in both directions.
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
    let config = Config { detached_ms: 1, ..Config::default() };
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
