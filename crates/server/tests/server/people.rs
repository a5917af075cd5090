//! What an application does with users, browsers and tabs, by the server's handle.

use std::{net::SocketAddr, time::Duration};

use tabmux_core::wire::{
    Alias, Audience, Denied, Dismissed, GoAwayReason, Hello, HubFrame, HubId, NEWEST_VERSION,
    OLDEST_VERSION, Payload, RefusedReason, Resume, ServerFrame, SessionId, TabId, Term, Welcome,
};
use tabmux_server::{
    Admitted, ApiKey, Builder, Config, Ctx, Limits, Message, Refusal, SendError, Server,
    SocketHandler, Target,
};

use super::support::{Hub, Running, frame, hello, post, say_hello_on, soon};

struct Quiet;

impl SocketHandler for Quiet {
    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {}
}

/// A server of two shards that takes the user from a cookie.
fn builder() -> Builder {
    let config = Config::default().shards(2);
    Server::builder().config(config).socket("/quiet", || Quiet).judge(|request| async move {
        Ok(request.cookie("user").map_or(Admitted::nobody(), Admitted::user))
    })
}

async fn running() -> Running {
    Running::start(builder()).await
}

/// A browser of a user, with tab 1 and a socket.
async fn browser(address: SocketAddr, user: &str) -> (Hub, Welcome) {
    let cookie = format!("user={user}");
    let mut hub = Hub::dial_with(address, &[("cookie", &cookie)]).await.unwrap();
    hub.say(&hello()).await;
    let welcome = match frame(&hub.next().await) {
        ServerFrame::Welcome(welcome) => welcome,
        other => panic!("not welcomed: {other:?}"),
    };
    let tab = hub.attach(1).await;
    hub.open(tab, 1, "/quiet", &[]).await;
    (hub, welcome)
}

async fn hears(hub: &mut Hub, text: &str) {
    match frame(&hub.next().await) {
        ServerFrame::Message { payload: Payload::Text(it) } => assert_eq!(it, text),
        other => panic!("not the message: {other:?}"),
    }
}

#[tokio::test]
async fn users_and_sessions_are_listed() {
    let server = running().await;
    let (_one, first) = browser(server.address, "ann").await;
    let (two, _) = browser(server.address, "ann").await;
    let (_three, _) = browser(server.address, "bob").await;
    let _nobody = Hub::welcomed(server.address).await;
    assert_eq!(server.handle.users().await, ["ann", "bob"]);
    assert_eq!(server.handle.sessions().await.len(), 4);
    let of_ann = server.handle.sessions_of("ann").await;
    assert_eq!(of_ann.len(), 2);
    let info = of_ann.iter().find(|it| it.session == first.session).unwrap();
    assert_eq!((info.is_linked, &*info.tabs), (true, &[TabId(1)][..]));
    // A session that waits for its link is there too.
    drop(two);
    server.stats(|stats| stats.links.open == 3).await;
    let of_ann = server.handle.sessions_of("ann").await;
    assert_eq!(of_ann.iter().filter(|it| it.is_linked).count(), 1);
}

#[tokio::test]
async fn a_server_that_had_no_link_yet_has_no_users() {
    let server = running().await;
    assert!(soon("the users", server.handle.users()).await.is_empty());
    assert!(soon("the sessions", server.handle.sessions()).await.is_empty());
}

#[tokio::test]
async fn messages_reach_a_user_a_browser_or_a_tab_and_nobody_else() {
    let server = running().await;
    let (mut one, first) = browser(server.address, "ann").await;
    let (mut two, _) = browser(server.address, "ann").await;
    let (mut other, _) = browser(server.address, "bob").await;
    let send = |target, text| server.handle.send(target, Message::Text(text)).unwrap();
    send(Target::User("ann"), "to ann");
    hears(&mut one, "to ann").await;
    hears(&mut two, "to ann").await;
    send(Target::Browser(first.session), "to the browser");
    hears(&mut one, "to the browser").await;
    let tab = one.attach(2).await;
    send(Target::Tab(first.session, TabId(2)), "to the tab");
    let bytes = one.next().await;
    let (lane, audience, payload) = (tab.0, Audience::Tab, Payload::Text("to the tab"));
    assert_eq!(frame(&bytes), ServerFrame::Direct { lane, audience, payload });
    // Nobody is there.
    send(Target::User("eve"), "lost");
    send(Target::Browser(SessionId([0; 16])), "lost");
    send(Target::Tab(first.session, TabId(9)), "lost");
    let elsewhere = Target::Browser(SessionId([255; 16]));
    let error = server.handle.send(elsewhere, Message::Text("lost"));
    assert_eq!(error, Err(SendError::Closed), "there is no such shard");
    one.quiet().await;
    two.quiet().await;
    other.quiet().await;
}

#[tokio::test]
async fn a_user_who_is_sent_away_is_told_why_on_all_links() {
    let server = running().await;
    let (mut one, _) = browser(server.address, "ann").await;
    let (mut two, _) = browser(server.address, "ann").await;
    let (mut other, _) = browser(server.address, "bob").await;
    server.handle.disconnect(Target::User("ann"), &Refusal::never("logged out")).unwrap();
    for hub in [&mut one, &mut two] {
        let bytes = hub.next().await;
        let (code, term, target) = (RefusedReason::Ended, Term(0), "");
        let denied = Denied { code, term, retry_ms: None, target, message: "logged out" };
        assert_eq!(frame(&bytes), ServerFrame::Denied(denied));
        assert_eq!(hub.closed().await, (1008, "logged out".to_owned()));
    }
    other.quiet().await;
    assert_eq!(server.handle.users().await, ["bob"]);
    // The judge decides whether the user may come again.
    browser(server.address, "ann").await;
}

#[tokio::test]
async fn a_browser_and_a_tab_are_sent_away_alone() {
    let server = running().await;
    let (mut one, first) = browser(server.address, "ann").await;
    let (mut two, _) = browser(server.address, "ann").await;
    one.attach(2).await;
    let later = Refusal::retry_after(Duration::from_secs(9), "too loud");
    server.handle.disconnect(Target::Tab(first.session, TabId(2)), &later).unwrap();
    let bytes = one.next().await;
    let (tab, retry_ms, message) = (TabId(2), Some(9_000), "too loud");
    assert_eq!(frame(&bytes), ServerFrame::Dismissed(Dismissed { tab, retry_ms, message }));
    one.quiet().await;
    server.handle.disconnect(Target::Browser(first.session), &later).unwrap();
    let bytes = one.next().await;
    assert!(matches!(frame(&bytes), ServerFrame::Denied(it) if it.retry_ms == Some(9_000)));
    two.quiet().await;
    assert_eq!(server.handle.sessions().await.len(), 1);
}

#[tokio::test]
async fn a_user_who_is_asked_about_again_comes_back_to_the_same_session() {
    let server = running().await;
    let (mut hub, welcome) = browser(server.address, "ann").await;
    server.handle.recheck("ann").unwrap();
    let bytes = hub.next().await;
    let ServerFrame::GoAway { reason: GoAwayReason::Rebalance, spread_ms, .. } = frame(&bytes)
    else {
        panic!("not asked to leave: {bytes:?}");
    };
    assert_eq!(spread_ms, 500);
    assert_eq!(hub.closed().await.0, 1001);
    let mut again = Hub::dial_with(server.address, &[("cookie", "user=ann")]).await.unwrap();
    let Welcome { session, token, term, .. } = welcome;
    let resume = Some(Resume { session, token, term, have0: Some(0) });
    let (min_version, max_version) = (OLDEST_VERSION, NEWEST_VERSION);
    let hello = Hello { min_version, max_version, hub: HubId(9), resume, credentials: "" };
    again.say(&HubFrame::Hello(hello)).await;
    let bytes = again.next().await;
    assert!(matches!(frame(&bytes), ServerFrame::Welcome(it) if it.resumed));
    again.say(&HubFrame::Attach { tab: TabId(1), last: 1 }).await;
    let bytes = again.next().await;
    let attached = frame(&bytes);
    assert!(
        matches!(attached, ServerFrame::Attached { alias: Alias(1), next: 2, n_seen: 1, .. }),
        "{attached:?}"
    );
}

#[tokio::test]
async fn a_reload_changes_what_is_let_in_from_now_on_or_nothing_at_all() {
    let server = Running::start(Server::builder()).await;
    let address = server.address;
    let foreign = [("origin", "https://foreign.example")];
    assert_eq!(Hub::refused(address, &foreign).await.0, 403);
    let config = Config::default()
        .allow_origins(vec!["https://foreign.example".to_owned()])
        .api_key(Some(ApiKey("0123456789abcdef".to_owned())))
        .limits(Limits::default().links(1));
    let wrong = config.clone().allow_origins(vec!["nonsense".to_owned()]);
    assert!(server.handle.reload(&wrong).unwrap_err().to_string().contains("nonsense"));
    assert_eq!(Hub::refused(address, &foreign).await.0, 403);
    server.handle.reload(&config).unwrap();
    let _hub = Hub::dial_with(address, &foreign).await.unwrap();
    assert_eq!(Hub::refused(address, &foreign).await.0, 503, "one link is the limit now");
    let body = r#"{"topic": "t", "text": "x"}"#;
    let key = "Authorization: Bearer 0123456789abcdef\r\nContent-Type: application/json\r\n";
    assert_eq!(post(address, "/tabmux/api/publish", key, body).await.status, 200);
    server.handle.reload(&Config::default()).unwrap();
    assert_eq!(post(address, "/tabmux/api/publish", key, body).await.status, 403);
}

#[tokio::test]
async fn a_server_that_never_had_a_link_has_nobody_to_list_or_tell() {
    let server = Server::builder().build().unwrap();
    let handle = server.handle();
    assert!(soon("the sessions", handle.sessions()).await.is_empty());
    assert!(soon("the users", handle.users()).await.is_empty());
    // More than waits for a shard that is behind.
    let large = "x".repeat(1 << 19);
    for _ in 0..100 {
        handle.send(Target::User("ann"), Message::Text(&large)).unwrap();
    }
}

#[tokio::test]
async fn a_reload_may_raise_the_limit_of_links() {
    let links = |links| Config::default().limits(Limits::default().links(links));
    let server = Running::start(Server::builder().config(links(1))).await;
    let _first = Hub::welcomed(server.address).await;
    assert_eq!(Hub::refused(server.address, &[]).await.0, 503);
    server.handle.reload(&links(3)).unwrap();
    let _more = [Hub::welcomed(server.address).await, Hub::welcomed(server.address).await];
    assert_eq!(Hub::refused(server.address, &[]).await.0, 503);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_and_one_that_fits_arrives() {
    let limits = Limits::default().message_bytes(1_024);
    let server = Running::start(Server::builder().config(Config::default().limits(limits))).await;
    let dialled = Hub::dial(server.address).await;
    let (mut hub, welcome) = say_hello_on(dialled, &hello()).await;
    hub.attach(1).await;
    let session = welcome.session;
    for target in [Target::User("ann"), Target::Browser(session), Target::Tab(session, TabId(1))] {
        let large = "x".repeat(1_024);
        let sent = server.handle.send(target, Message::Text(&large));
        assert_eq!(sent, Err(SendError::TooLarge));
    }
    let fits = "x".repeat(1_024 - 48);
    server.handle.send(Target::Browser(session), Message::Text(&fits)).unwrap();
    match frame(&hub.next().await) {
        ServerFrame::Message { payload } => assert_eq!(payload, Payload::Text(&fits)),
        other => panic!("unexpected: {other:?}"),
    }
}

#[tokio::test]
async fn a_handle_outlives_its_server_and_says_so() {
    let mut server = running().await;
    let handle = server.handle.clone();
    server.stop();
    soon("the end", server.ended()).await.unwrap();
    let refusal = Refusal::never("gone");
    assert_eq!(handle.disconnect(Target::User("ann"), &refusal), Err(SendError::Closed));
    assert_eq!(handle.recheck("ann"), Err(SendError::Closed));
    let sent = handle.send(Target::User("ann"), Message::Text("x"));
    assert_eq!(sent, Err(SendError::Closed));
    assert!(handle.sessions().await.is_empty() && handle.uptime().is_none());
    assert_eq!(handle.reload(&Config::default()).unwrap_err().to_string(), "the server is gone");
}
