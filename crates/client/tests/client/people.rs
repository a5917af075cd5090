//! Messages to one tab, and tabs that the server ends.

use std::time::Duration;

use tabmux_client::{BrowserEvent, Client, OpenError, Status};
use tabmux_server::{Message, Refusal, Server, Target, task};

use super::support::{Running, soon};

/// Returns a server with a socket that stays open.
async fn running() -> Running {
    let quiet = task(|mut socket| async move { while socket.next().await.is_some() {} });
    Running::start(Server::builder().socket("/quiet", quiet)).await
}

/// Waits until the client's status is as wanted.
async fn status(client: &Client, is: impl Fn(&Status) -> bool) -> Status {
    let mut status = client.status();
    let status = soon("a status", status.wait_for(|status| is(status))).await.unwrap();
    status.clone()
}

/// Returns the only tab of the server that is not among those.
async fn tab_besides(server: &Running, others: &[Target<'_>]) -> Target<'static> {
    let sessions = server.handle.sessions().await;
    let tabs = sessions.iter().flat_map(|it| it.tabs.iter().map(|tab| (it.session, *tab)));
    let tabs = tabs.map(|(session, tab)| Target::Tab(session, tab));
    let tabs = tabs.filter(|tab| !others.contains(tab)).collect::<Vec<_>>();
    let [tab] = tabs[..] else { panic!("{tabs:?}") };
    tab
}

#[tokio::test]
async fn a_message_to_a_tab_reaches_that_tab_alone() {
    let server = running().await;
    let one = server.client();
    let _held = soon("a socket", one.open("/quiet", &[])).await.unwrap();
    let first = tab_besides(&server, &[]).await;
    let two = server.client();
    let _held = soon("a socket", two.open("/quiet", &[])).await.unwrap();
    let second = tab_besides(&server, &[first]).await;
    let (mut heard_one, mut heard_two) = (one.broadcasts(), two.broadcasts());
    let send = |target, text| server.handle.send(target, Message::Text(text)).unwrap();
    send(second, "for two");
    // A message that was sent to the other tab too would arrive before this one.
    send(first, "for one");
    send(second, "again");
    let message = |text: &str| Some(BrowserEvent::Message(text.into()));
    assert_eq!(soon("a message", heard_one.next()).await, message("for one"));
    assert_eq!(soon("a message", heard_two.next()).await, message("for two"));
    assert_eq!(soon("a message", heard_two.next()).await, message("again"));
}

#[tokio::test]
async fn a_client_that_is_sent_away_for_good_is_told_why_and_opens_nothing() {
    let server = running().await;
    let client = server.client();
    let mut socket = soon("a socket", client.open("/quiet", &[])).await.unwrap();
    let tab = tab_besides(&server, &[]).await;
    server.handle.disconnect(tab, &Refusal::never("moderated")).unwrap();
    let refused = status(&client, |it| matches!(it, Status::Refused { .. })).await;
    assert!(format!("{refused:?}").contains("moderated"), "{refused:?}");
    assert_eq!(soon("the end", socket.next()).await, None);
    let error = soon("an answer", client.open("/quiet", &[])).await.unwrap_err();
    assert!(matches!(&error, OpenError::Failed { .. }), "{error:?}");
    assert!(error.to_string().contains("moderated"), "{error}");
}

#[tokio::test]
async fn a_client_that_is_sent_away_for_a_while_comes_back() {
    let server = running().await;
    let client = server.client();
    let mut socket = soon("a socket", client.open("/quiet", &[])).await.unwrap();
    let tab = tab_besides(&server, &[]).await;
    let later = Refusal::retry_after(Duration::from_millis(100), "moderated");
    server.handle.disconnect(tab, &later).unwrap();
    assert_eq!(soon("the end", socket.next()).await, None);
    status(&client, |it| matches!(it, Status::Connected)).await;
    soon("a socket", client.open("/quiet", &[])).await.unwrap();
}
