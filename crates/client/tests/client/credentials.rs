//! Credentials of a client, shown and renewed on its link.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use tabmux_client::{Client, Status};
use tabmux_server::{
    Admitted, Builder, Ctx, Handshake, Message, Refusal, Server, SocketHandler, Verdict,
};

use super::support::{Running, soon, text, url};

struct Whose;

impl SocketHandler for Whose {
    fn message(&mut self, ctx: &mut Ctx<'_>, _: Message<'_>) {
        let user = ctx.user().unwrap_or("nobody").to_owned();
        let _ = ctx.send_text(&user);
    }
}

/// Admits a client whose credentials are `NAME NUMBER`. They expire after two seconds.
async fn judge(request: Handshake) -> Verdict {
    match request.credentials() {
        None => Ok(Admitted::needs_credentials()),
        Some(shown) => match shown.split_once(' ') {
            Some((user, _)) => {
                Ok(Admitted::user(user).until(SystemTime::now() + Duration::from_secs(2)))
            }
            None => Err(Refusal::never("log in first")),
        },
    }
}

fn builder() -> Builder {
    Server::builder().socket("/whose", || Whose).judge(judge)
}

/// Returns a client of this user. Its credentials have another number each time.
fn client_of(server: &Running, user: &'static str) -> (Client, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    let builder = Client::builder(url(server.address)).credentials(move || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, String>(format!("{user} {number}")) }
    });
    (builder.connect().unwrap(), asked)
}

#[tokio::test]
async fn credentials_are_renewed_on_the_link_before_they_expire() {
    let server = Running::start(builder()).await;
    let (client, asked) = client_of(&server, "ann");
    let mut socket = soon("a socket", client.open("/whose", &[])).await.unwrap();
    // Each token expires after two seconds.
    let renewing = async {
        while server.handle.stats().links.renewed < 3 {
            socket.send("whose?").await.unwrap();
            assert_eq!(text(&mut socket).await, "ann");
        }
    };
    soon("three renewals", renewing).await;
    assert!(asked.load(Ordering::Relaxed) >= 4);
    let stats = server.handle.stats();
    assert_eq!((stats.links.expired, stats.sessions.resumed, stats.links.open), (0, 0, 1));
}

#[tokio::test]
async fn an_application_can_have_its_credentials_renewed() {
    let server = Running::start(builder()).await;
    let (client, _) = client_of(&server, "ann");
    let mut status = client.status();
    soon("the link", status.wait_for(|it| *it == Status::Connected)).await.unwrap();
    client.renew();
    let renewed = async {
        while server.handle.stats().links.renewed == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("a renewal", renewed).await;
    client.close().await;
}

#[tokio::test]
async fn a_client_whose_application_knows_no_credentials_says_why() {
    let server = Running::start(builder()).await;
    let builder = Client::builder(url(server.address));
    let client = builder.credentials(async || Err::<String, _>("logged out")).connect().unwrap();
    let mut status = client.status();
    let failed = status
        .wait_for(|it| matches!(it, Status::Backoff { reason } if reason.contains("logged out")));
    drop(soon("the reason", failed).await.unwrap());
    let long = Client::builder(url(server.address));
    let long = long.credentials(async || Ok::<_, String>("x".repeat(8_193))).connect().unwrap();
    let mut status = long.status();
    let failed = status
        .wait_for(|it| matches!(it, Status::Backoff { reason } if reason.contains("8192 bytes")));
    drop(soon("the limit", failed).await.unwrap());
}

#[tokio::test]
async fn a_client_that_was_refused_for_good_comes_back_with_other_credentials() {
    let server = Running::start(builder()).await;
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    let builder = Client::builder(url(server.address)).credentials(move || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, String>(if number < 2 { "nobody" } else { "ann 1" }.to_owned()) }
    });
    let client = builder.connect().unwrap();
    let mut status = client.status();
    let refused = status.wait_for(|it| matches!(it, Status::Refused { .. }));
    drop(soon("the refusal", refused).await.unwrap());
    client.renew();
    let again = async {
        while asked.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
    };
    soon("the question", again).await;
    assert!(matches!(*client.status().borrow(), Status::Refused { .. }), "the same as before");
    let back = async {
        while *client.status().borrow() != Status::Connected {
            client.renew();
            tokio::task::yield_now().await;
        }
    };
    soon("the link", back).await;
    assert_eq!(server.handle.users().await, ["ann"]);
}
