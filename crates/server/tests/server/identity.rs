//! Whose a link is, as hubs are told: the tag in WELCOME, and `/tabmux/who`.

use std::{net::SocketAddr, time::Duration};

use futures_util::StreamExt;
use tabmux_core::wire::{IdentityTag, ServerFrame};
use tabmux_server::{Admitted, Builder, Refusal, Server};
use tokio::time::timeout;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error as WsError, Message, client::IntoClientRequest},
};

use super::support::{Hub, Running, frame, hello, soon};

const OLD: &[u8] = b"the secret of last year";
const NEW: &[u8] = b"the secret of this year";

/// A server that takes the user from a cookie. It refuses a user whose name is "banned".
fn builder() -> Builder {
    Server::builder().identity_secrets(NEW, Some(OLD)).judge(|request| async move {
        match request.cookie("user") {
            Some("banned") => Err(Refusal::never("you are banned")),
            user => Ok(user.map_or(Admitted::nobody(), Admitted::user)),
        }
    })
}

/// The identity that a hub is welcomed as.
async fn welcomed(address: SocketAddr, query: &str, user: Option<&str>) -> IdentityTag {
    let cookie = user.map(|user| format!("user={user}"));
    let cookie = cookie.as_deref().map(|cookie| ("cookie", cookie));
    let mut hub = Hub::dial_at(address, query, cookie.as_slice()).await.unwrap();
    hub.say(&hello()).await;
    match frame(&hub.next().await) {
        ServerFrame::Welcome(welcome) => welcome.tail.unwrap().identity,
        other => panic!("not welcomed: {other:?}"),
    }
}

/// What `/tabmux/who` says, and the code and reason that it closes with.
async fn who(
    address: SocketAddr,
    query: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Option<String>, u16, String), WsError> {
    let mut request = format!("ws://{address}/tabmux/who{query}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let (mut socket, _) = soon("the handshake", connect_async(request)).await?;
    let mut said = None;
    loop {
        match soon("an answer", socket.next()).await {
            Some(Ok(Message::Text(text))) => {
                assert_eq!(said.replace(text.to_string()), None, "it says one thing");
            }
            Some(Ok(Message::Close(Some(close)))) => {
                let close = (close.code.into(), close.reason.to_string());
                // The server ends the connection, and does not wait for the client to do so.
                let ended = async { while socket.next().await.is_some_and(|it| it.is_ok()) {} };
                timeout(Duration::from_secs(4), ended).await.unwrap();
                return Ok((said, close.0, close.1));
            }
            other => panic!("not an answer: {other:?}"),
        }
    }
}

fn user(tag: &str) -> IdentityTag {
    IdentityTag::User(tag.into())
}

#[tokio::test]
async fn a_hub_is_told_whose_its_link_is() {
    let server = Running::start(builder()).await;
    let ann = server.handle.identity("ann").unwrap();
    assert_eq!(welcomed(server.address, "", Some("ann")).await, user(&ann));
    assert_eq!(welcomed(server.address, "", None).await, IdentityTag::Nobody);
    assert_ne!(server.handle.identity("bob").unwrap(), ann);
}

#[tokio::test]
async fn a_server_without_users_says_so() {
    let server = Running::start(Server::builder()).await;
    assert_eq!(welcomed(server.address, "", None).await, IdentityTag::NoUsers);
    assert_eq!(server.handle.identity("ann"), None);
    let answer = who(server.address, "", &[]).await.unwrap();
    assert_eq!(answer, (Some("no users".to_owned()), 1000, String::new()));
}

#[tokio::test]
async fn who_tells_whose_the_browser_is_now() {
    let server = Running::start(builder()).await;
    let ann = server.handle.identity("ann").unwrap();
    let answer = who(server.address, "", &[("cookie", "user=ann")]).await.unwrap();
    assert_eq!(answer, (Some(format!("user {ann}")), 1000, String::new()));
    let answer = who(server.address, "", &[]).await.unwrap();
    assert_eq!(answer, (Some("nobody".to_owned()), 1000, String::new()));
}

#[tokio::test]
async fn who_tells_a_refused_browser_why() {
    let server = Running::start(builder()).await;
    let answer = who(server.address, "", &[("cookie", "user=banned")]).await.unwrap();
    assert_eq!(answer, (None, 1008, "you are banned".to_owned()));
}

#[tokio::test]
async fn who_takes_no_place_of_a_link() {
    let server = Running::start(builder()).await;
    who(server.address, "", &[("cookie", "user=ann")]).await.unwrap();
    assert_eq!(server.stats(|_| true).await.links.open, 0);
    assert!(server.handle.users().await.is_empty());
}

#[tokio::test]
async fn who_answers_no_foreign_page() {
    let server = Running::start(builder()).await;
    let error = who(server.address, "", &[("origin", "https://evil.example")]).await.unwrap_err();
    let WsError::Http(response) = error else { panic!("{error:?}") };
    assert_eq!(response.status(), 403);
}

#[tokio::test]
async fn a_tag_of_the_second_secret_stays_what_it_is() {
    let before = Server::builder()
        .identity_secrets(OLD, None)
        .judge(|_| async { Ok(Admitted::user("ann")) });
    let old = Running::start(before).await.handle.identity("ann").unwrap();
    let server = Running::start(builder()).await;
    let new = server.handle.identity("ann").unwrap();
    assert_ne!(old, new);
    let shown = format!("?identity={old}");
    assert_eq!(welcomed(server.address, &shown, Some("ann")).await, user(&old));
    let bob = server.handle.identity("bob").unwrap();
    assert_eq!(welcomed(server.address, &shown, Some("bob")).await, user(&bob));
    assert_eq!(welcomed(server.address, "?identity=nonsense", Some("ann")).await, user(&new));
    let answer = who(server.address, &shown, &[("cookie", "user=ann")]).await.unwrap();
    assert_eq!(answer.0, Some(format!("user {old}")));
}

#[tokio::test]
async fn a_secret_that_is_too_short_is_refused() {
    let error = Server::builder().identity_secrets(b"short", None).build().unwrap_err();
    assert!(error.to_string().contains("at least 16 bytes"), "{error}");
}

#[test]
fn nothing_that_is_printed_has_the_secret() {
    let printed = format!("{:?}", builder());
    assert!(!printed.contains("secret of"), "{printed}");
}
