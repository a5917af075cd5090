//! Credentials that pages show: in HELLO, and to renew those of a link.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tabmux_core::wire::{
    Feature, Hello, HubFrame, RefusedReason, Resume, ServerFrame, Standing, TabId, Welcome,
};
use tabmux_server::{
    Admitted, Builder, Config, Ctx, Handshake, Limits, Message, Refusal, Server, SocketHandler,
    Target, Verdict,
};
use tokio::sync::Semaphore;

use super::support::{Hub, Running, claim, frame, get, hello, say_hello_on, soon};

struct Who;

impl SocketHandler for Who {
    fn opened(&mut self, ctx: &mut Ctx<'_>) {
        let user = ctx.user().unwrap_or("nobody").to_owned();
        let locale = ctx.header("x-locale").unwrap_or(b"-");
        let locale = String::from_utf8_lossy(locale).into_owned();
        let _ = ctx.send_text(&format!("{user} {locale}"));
    }

    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {}
}

/// Names the user that the credentials name: `ann`, or `ann for 3` seconds.
async fn judge(request: Handshake) -> Verdict {
    match request.credentials() {
        None => Ok(Admitted::needs_credentials()),
        Some("") => Err(Refusal::never("log in first")),
        Some("later") => Err(Refusal::retry_after(Duration::from_secs(3), "no database")),
        Some(text) => {
            let (user, seconds) = text.split_once(" for ").unwrap_or((text, "600"));
            let lives = Duration::from_secs(seconds.parse().unwrap());
            Ok(Admitted::user(user).keep("x-locale").until(SystemTime::now() + lives))
        }
    }
}

fn builder() -> Builder {
    let config = Config::default().shards(2);
    Server::builder().config(config).socket("/who", || Who).judge(judge)
}

/// Returns a HELLO that shows these credentials.
pub(crate) fn showing<'a>(hello: &HubFrame<'a>, credentials: &'a str) -> HubFrame<'a> {
    let HubFrame::Hello(hello) = hello.clone() else { panic!("no HELLO") };
    HubFrame::Hello(Hello { credentials, ..hello })
}

/// A link that shows these credentials, and its WELCOME.
async fn browser(address: SocketAddr, credentials: &str) -> (Hub, Welcome) {
    let hub = Hub::dial(address).await;
    let (mut hub, welcome) = say_hello_on(hub, &showing(&hello(), credentials)).await;
    let told = hub.next().await;
    assert!(matches!(frame(&told), ServerFrame::Credentials(it) if it.request == 0), "{told:?}");
    (hub, welcome)
}

/// What a link is denied with that shows these credentials.
async fn denied(address: SocketAddr, credentials: &str) -> (RefusedReason, Option<u64>, String) {
    let mut hub = Hub::dial(address).await;
    hub.say(&showing(&hello(), credentials)).await;
    match frame(&hub.next().await) {
        ServerFrame::Denied(it) => (it.code, it.retry_ms, it.message.to_owned()),
        other => panic!("not denied: {other:?}"),
    }
}

/// Renews the credentials of a link. Returns whether they were accepted, when they expire, and the
/// text.
pub(crate) async fn renew(
    hub: &mut Hub,
    request: u64,
    credentials: &str,
) -> (bool, Option<u64>, String) {
    hub.say(&HubFrame::Credentials { request, credentials }).await;
    match frame(&hub.next().await) {
        ServerFrame::Credentials(Standing { request: of, accepted, expires_ms, message }) => {
            assert_eq!(of, request);
            (accepted, expires_ms, message.to_owned())
        }
        other => panic!("no answer: {other:?}"),
    }
}

#[tokio::test]
async fn the_credentials_in_hello_name_the_user() {
    let server = Running::start(builder()).await;
    let mut hub = Hub::dial_with(server.address, &[("x-locale", "de")]).await.unwrap();
    hub.say(&showing(&hello(), "ann")).await;
    let bytes = hub.next().await;
    let ServerFrame::Welcome(welcome) = frame(&bytes) else { panic!("{bytes:?}") };
    assert_eq!(welcome.tail.unwrap().features, [Feature::Renewal]);
    hub.next().await;
    let tab = hub.attach(1).await;
    hub.open(tab, 1, "/who", &[]).await;
    assert_eq!(hub.text(tab, 1).await, "ann de");
    assert_eq!(server.handle.users().await, ["ann"]);
    assert!(server.handle.identity("ann").is_some());
    let never = (RefusedReason::Denied, None, "log in first".to_owned());
    assert_eq!(denied(server.address, "").await, never);
    let later = (RefusedReason::Limit, Some(3_000), "no database".to_owned());
    assert_eq!(denied(server.address, "later").await, later);
}

#[tokio::test]
async fn what_a_hub_says_behind_hello_waits_for_the_answer_and_is_not_lost() {
    let permits = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&permits);
    let builder = builder().judge(move |request| {
        let gate = Arc::clone(&gate);
        async move {
            if request.credentials().is_some() {
                gate.acquire().await.unwrap().forget();
            }
            judge(request).await
        }
    });
    let server = Running::start(builder).await;
    let mut hub = Hub::dial(server.address).await;
    hub.say(&showing(&hello(), "ann")).await;
    hub.say(&HubFrame::Attach { tab: TabId(1), last: 0 }).await;
    server.stats(|stats| stats.asks.open == 1).await;
    // More than the loop reads at once.
    for nonce in 0..20_000 {
        hub.say(&HubFrame::Ping { nonce }).await;
    }
    assert_eq!(server.handle.stats().sessions.held, 0);
    permits.add_permits(1);
    assert!(matches!(frame(&hub.next().await), ServerFrame::Welcome(_)));
    assert!(matches!(frame(&hub.next().await), ServerFrame::Credentials(_)));
    assert!(matches!(frame(&hub.next().await), ServerFrame::Attached { .. }));
    for nonce in 0..20_000 {
        assert_eq!(frame(&hub.next().await), ServerFrame::Pong { nonce });
    }
}

#[tokio::test]
async fn a_session_goes_on_in_its_shard_with_newer_credentials_of_its_user_alone() {
    let server = Running::start(builder()).await;
    let mut browsers = Vec::new();
    for _ in 0..2 {
        let (mut hub, welcome) = browser(server.address, "ann for 60").await;
        let tab = hub.attach(1).await;
        hub.open(tab, 1, "/who", &[]).await;
        browsers.push((hub, welcome));
    }
    for (_, welcome) in &browsers {
        let hub = Hub::dial(server.address).await;
        let (_hub, again) = say_hello_on(hub, &showing(&claim(welcome, 9), "ann for 90")).await;
        assert!(again.resumed && again.session == welcome.session);
        let mut hub = Hub::dial(server.address).await;
        hub.say(&showing(&claim(welcome, 9), "bob")).await;
        let bytes = hub.next().await;
        let is_denied = matches!(frame(&bytes), ServerFrame::Denied(it)
            if it.code == RefusedReason::Denied);
        assert!(is_denied, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_hub_that_leaves_withdraws_the_question() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let builder = builder().judge(move |request| {
        let count = Arc::clone(&count);
        async move {
            if request.credentials().is_none() {
                return Ok(Admitted::needs_credentials());
            }
            count.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }
    });
    let server = Running::start(builder).await;
    let mut hub = Hub::dial(server.address).await;
    hub.say(&showing(&hello(), "ann")).await;
    let waits = async {
        while asked.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("the judge", waits).await;
    drop(hub);
    server.stats(|stats| stats.asks.open == 0 && stats.links.open == 0).await;
    let looking = async {
        while !get(server.address, "/metrics", "").await.body.contains("withdrawn_total 1") {
            tokio::task::yield_now().await;
        }
    };
    soon("the question to be withdrawn", looking).await;
}

#[tokio::test]
async fn a_user_who_is_ended_while_the_credentials_are_checked_is_judged_again() {
    let permits = Arc::new(Semaphore::new(0));
    let asked = Arc::new(AtomicUsize::new(0));
    let (gate, count) = (Arc::clone(&permits), Arc::clone(&asked));
    let builder = builder().judge(move |request| {
        let (gate, count) = (Arc::clone(&gate), Arc::clone(&count));
        async move {
            match request.credentials() {
                None => Ok(Admitted::needs_credentials()),
                Some(user) if count.fetch_add(1, Ordering::Relaxed) == 0 => {
                    gate.acquire().await.unwrap().forget();
                    Ok(Admitted::user(user))
                }
                Some(_) => Err(Refusal::never("you logged out")),
            }
        }
    });
    let server = Running::start(builder).await;
    let mut hub = Hub::dial(server.address).await;
    hub.say(&showing(&hello(), "ann")).await;
    let waits = async {
        while asked.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("the judge", waits).await;
    server.handle.disconnect(Target::User("ann"), &Refusal::never("bye")).unwrap();
    permits.add_permits(1);
    match frame(&hub.next().await) {
        ServerFrame::Denied(it) => assert_eq!(it.message, "you logged out"),
        other => panic!("not judged again: {other:?}"),
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn newer_credentials_extend_the_link_and_those_of_another_user_change_nothing() {
    let server = Running::start(builder()).await;
    let begun = Instant::now();
    let (mut hub, welcome) = browser(server.address, "ann for 2").await;
    let tab = hub.attach(1).await;
    hub.open(tab, 1, "/who", &[]).await;
    assert_eq!(hub.text(tab, 1).await, "ann -");
    let refused = renew(&mut hub, 1, "bob for 90").await;
    assert_eq!((refused.0, &*refused.2), (false, "these credentials are of another user"));
    assert!(refused.1.is_some_and(|ms| ms <= 2_000));
    assert_eq!(renew(&mut hub, 2, "later").await.2, "no database");
    let (accepted, expires, _) = renew(&mut hub, 3, "ann for 90").await;
    assert!(accepted && expires.is_some_and(|ms| (80_000..=90_000).contains(&ms)), "{expires:?}");
    assert_eq!(server.handle.users().await, ["ann"]);
    // Past the first end.
    while begun.elapsed() < Duration::from_millis(2_300) {
        hub.quiet().await;
    }
    let (_, expires, _) = renew(&mut hub, 4, "ann for 1").await;
    assert!(expires.is_some_and(|ms| ms <= 1_000));
    let closed = hub.closed().await;
    assert_eq!(closed, (1008, "the credentials of this link have expired".to_owned()));
    let hub = Hub::dial(server.address).await;
    let (_hub, again) = say_hello_on(hub, &showing(&claim(&welcome, 9), "ann for 90")).await;
    assert!(again.resumed, "the session waited");
    let stats = server.handle.stats().links;
    assert_eq!((stats.renewed, stats.not_renewed, stats.expired), (2, 2, 1));
}

#[tokio::test]
async fn a_user_has_as_many_links_as_the_limit_says_however_they_were_named() {
    let mut limits = Limits::default();
    limits.links_per_user = 2;
    let server = Running::start(builder().config(Config::default().shards(2).limits(limits))).await;
    let (one, _) = browser(server.address, "ann").await;
    let (mut two, _) = browser(server.address, "ann").await;
    let (code, retry, text) = denied(server.address, "ann").await;
    assert_eq!((code, &*text), (RefusedReason::Limit, "too many links of this user"));
    assert!(retry.is_some());
    let (_other, _) = browser(server.address, "bob").await;
    // A renewal takes no place of its own.
    assert!(renew(&mut two, 1, "ann").await.0);
    drop(one);
    let coming = async { while denied_or_welcomed(server.address, "ann").await.is_none() {} };
    soon("the place of the link that went", coming).await;
}

/// A link that shows these credentials, if there is room for it.
async fn denied_or_welcomed(address: SocketAddr, credentials: &str) -> Option<Hub> {
    let mut hub = Hub::dial(address).await;
    hub.say(&showing(&hello(), credentials)).await;
    let is_welcome = matches!(frame(&hub.next().await), ServerFrame::Welcome(_));
    is_welcome.then_some(hub)
}

#[tokio::test]
async fn credentials_count_more_than_whose_the_request_was() {
    let builder = builder().judge(|request| async move {
        let cookie = request.cookie("user").map_or(Admitted::nobody(), Admitted::user);
        let shown = request.credentials().filter(|text| !text.is_empty());
        Ok(shown.map_or(cookie, Admitted::user))
    });
    let server = Running::start(builder).await;
    let cookie = [("cookie", "user=ann")];
    let hub = Hub::dial_with(server.address, &cookie).await.unwrap();
    let (_one, _) = say_hello_on(hub, &hello()).await;
    assert_eq!(server.handle.users().await, ["ann"]);
    let hub = Hub::dial_with(server.address, &cookie).await.unwrap();
    let (two, _) = say_hello_on(hub, &showing(&hello(), "bob")).await;
    assert_eq!(server.handle.users().await, ["ann", "bob"]);
    drop(two);
    server.stats(|stats| stats.links.open == 1).await;
}

#[tokio::test]
async fn a_judge_that_fails_refuses_for_now_what_shows_credentials() {
    let builder = builder().judge(|request| async move {
        assert!(request.credentials().is_none(), "on request");
        Ok(Admitted::needs_credentials())
    });
    let server = Running::start(builder).await;
    let (code, retry, text) = denied(server.address, "ann").await;
    assert_eq!((code, &*text), (RefusedReason::Limit, "the server is busy"));
    assert!(retry.is_some_and(|ms| ms >= 1_000));
    server.stats(|stats| stats.links.open == 0 && stats.charged.bytes() == 0).await;
}

#[tokio::test]
async fn a_claim_of_a_session_that_another_hub_has_is_looked_at_when_the_answer_comes() {
    let server = Running::start(builder()).await;
    let (mut hub, welcome) = browser(server.address, "ann").await;
    hub.attach(1).await;
    let Welcome { session, token, term, .. } = welcome;
    let resume = Some(Resume { session, token, term, have0: None });
    let HubFrame::Hello(bare) = hello() else { panic!() };
    let other = HubFrame::Hello(Hello { resume, hub: tabmux_core::wire::HubId(77), ..bare });
    let (_second, again) =
        say_hello_on(Hub::dial(server.address).await, &showing(&other, "ann")).await;
    assert!(again.resumed && again.term.0 == welcome.term.0 + 1);
    assert!(matches!(frame(&hub.next().await), ServerFrame::Fenced { .. }));
}
