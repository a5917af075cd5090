//! Virtual sockets of a client.

use futures_util::{FutureExt, StreamExt};
use tabmux_client::{Client, ConnectError, OpenError, SendError, Status};
use tabmux_server::{Server, TaskSocket, task, task_opening};

use super::support::{Running, soon, text, url};

async fn echo(mut socket: TaskSocket) {
    while let Some(message) = socket.next().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_socket_carries_text_and_bytes_both_ways() {
    let server = Running::start(Server::builder().socket("/echo", task(echo))).await;
    let client = server.client();
    let mut socket = soon("a socket", client.open("/echo", &[])).await.unwrap();
    socket.send("text").await.unwrap();
    socket.send(vec![1, 2]).await.unwrap();
    assert_eq!(text(&mut socket).await, "text");
    assert_eq!(StreamExt::next(&mut socket).await, Some(vec![1, 2].into()));
    assert_eq!(*client.status().borrow(), Status::Connected);
    socket.close(4001, "done");
    assert_eq!(socket.next().await, None);
    let ended = socket.ended().unwrap();
    assert_eq!((ended.code, &*ended.reason, ended.clean), (4001, "done", true));
    assert_eq!(socket.send("late").await, Err(SendError::Closed));
}

#[tokio::test]
async fn the_server_chooses_a_sub_protocol_refuses_and_closes() {
    let choosy = task_opening(|opening| async move {
        if opening.target().ends_with("?no") {
            return opening.reject("not yours");
        }
        if opening.target().ends_with("?forbidden") {
            return opening.reject_with(4403, "not yours either");
        }
        opening.accept_protocol("b").close(1006, "");
    });
    let server = Running::start(Server::builder().socket("/choosy", choosy)).await;
    let client = server.client();
    let refused = soon("an answer", client.open("/choosy?no", &["a", "b"])).await;
    let message = "not yours".to_owned();
    assert_eq!(refused.unwrap_err(), OpenError::Failed { code: 1006, message });
    let refused = soon("an answer", client.open("/choosy?forbidden", &[])).await;
    let message = "not yours either".to_owned();
    assert_eq!(refused.unwrap_err(), OpenError::Failed { code: 4403, message });
    let refused = soon("an answer", client.open("/nowhere", &[])).await.unwrap_err();
    assert!(refused.to_string().contains("/nowhere"), "{refused}");
    let mut socket = soon("a socket", client.open("/choosy", &["a", "b"])).await.unwrap();
    assert_eq!(socket.protocol(), "b");
    assert_eq!(soon("the end", socket.next()).await, None);
    let ended = socket.ended().unwrap();
    assert_eq!((ended.code, ended.clean), (1006, false));
}

#[tokio::test]
async fn a_sender_waits_for_a_handler_that_is_behind() {
    let server = Running::start(Server::builder().socket(
        "/deaf",
        task(|socket| async move {
            std::future::pending::<()>().await;
            drop(socket);
        }),
    ));
    let client = server.await.client();
    let socket = soon("a socket", client.open("/deaf", &[])).await.unwrap();
    // The client has 256 KiB of credit, and may send a message of any size while some is left.
    for _ in 0..3 {
        soon("room", socket.send(vec![0; 100 << 10])).await.unwrap();
    }
    let mut more = std::pin::pin!(socket.send("one more"));
    assert_eq!((&mut more).now_or_never(), None);
    socket.close(1000, "");
    assert_eq!(soon("the end", more).await, Err(SendError::Closed));
}

#[tokio::test]
async fn a_reader_that_is_behind_holds_up_the_server_and_gets_all() {
    const COUNT: u32 = 2_000;
    let flood = task(|socket| async move {
        for number in 0..COUNT {
            let message = [&number.to_be_bytes()[..], &[0; 1 << 10]].concat();
            if socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let server = Running::start(Server::builder().socket("/flood", flood)).await;
    let client = server.client();
    let mut socket = soon("a socket", client.open("/flood", &[])).await.unwrap();
    let held = async {
        while server.handle.stats().messages.no_credit == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("the server that waits", held).await;
    for number in 0..COUNT {
        let message = soon("a message", socket.next()).await.unwrap();
        assert_eq!(message.as_payload().as_bytes()[..4], number.to_be_bytes());
    }
    assert_eq!(soon("the end", socket.next()).await, None);
    assert_eq!(socket.ended().unwrap().code, 1000);
}

#[tokio::test]
async fn a_socket_that_is_dropped_is_closed_and_so_is_a_client() {
    let server = Running::start(Server::builder().socket("/echo", task(echo))).await;
    let client = server.client();
    let (first, second) = tokio::join!(client.open("/echo", &[]), client.open("/echo", &[]));
    let until = |open: u64, links: u64| {
        let handle = server.handle.clone();
        async move {
            loop {
                let stats = handle.stats();
                if (stats.sockets.open as u64, stats.links.open as u64) == (open, links) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        }
    };
    soon("two sockets", until(2, 1)).await;
    drop(first.unwrap());
    soon("one socket", until(1, 1)).await;
    drop(client);
    let mut second = second.unwrap();
    second.send("still there").await.unwrap();
    assert_eq!(text(&mut second).await, "still there");
    drop(second);
    soon("no link", until(0, 0)).await;
}

#[tokio::test]
async fn the_end_of_a_client_ends_its_sockets_and_topics() {
    let server = Running::start(Server::builder().socket("/echo", task(echo))).await;
    let client = server.client();
    let mut socket = soon("a socket", client.open("/echo", &[])).await.unwrap();
    let mut topic = client.subscribe("news");
    let (mut all, status) = (client.broadcasts(), client.status());
    soon("the end", client.close()).await;
    assert_eq!(socket.next().await, None);
    assert_eq!(all.next().await, None);
    while soon("the end", topic.next()).await.is_some() {}
    assert!(matches!(*status.borrow(), Status::Closed { .. }));
    let stats = server.handle.stats();
    assert_eq!((stats.links.open, stats.sessions.detached), (0, 0), "the session ended as well");
}

#[tokio::test]
async fn an_error_says_who_is_at_fault() {
    for none in ["not an address", "http://127.0.0.1:1", "/tabmux/ws", "ws://"] {
        let error = Client::connect(none).unwrap_err();
        assert!(matches!(error, ConnectError::Url { .. }), "{none}: {error:?}");
    }
    #[cfg(not(feature = "rustls"))]
    {
        let error = Client::connect("wss://example.org").unwrap_err();
        assert!(matches!(error, ConnectError::NoTls { .. }), "{error:?}");
    }
    let odd = Client::builder("ws://127.0.0.1:1/").header("a b", "c").connect();
    assert!(matches!(odd, Err(ConnectError::Header { .. })));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::connect(url(free)).unwrap();
    let failed = soon("an answer", client.open("/echo", &[])).await.unwrap_err();
    let OpenError::Failed { code: 1006, message } = failed else { panic!("{failed:?}") };
    assert!(message.contains("could not connect"), "{message}");
    assert!(matches!(*client.status().borrow(), Status::Backoff { .. }));
}
