//! Who may have which topics, and what becomes of a subscription whose browser loses its right.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tabmux_core::wire::{
    Hello, HubFrame, Payload, Resume, ServerFrame, UnsubscribedReason, Welcome,
};
use tabmux_server::{
    Access, Admitted, Builder, Config, Message, Refusal, Server, TopicRule, UnknownTopics, Verdict,
};

use super::support::{Hub, Running, frame, hello, say_hello_on};

/// Users are named by a cookie. `staff` is granted its topics.
async fn judge(request: tabmux_server::Handshake) -> Verdict {
    let Some(user) = request.cookie("user") else {
        return Ok(Admitted::nobody());
    };
    // Kept, since it is looked at again when credentials are renewed.
    let admitted = Admitted::user(user).keep("cookie");
    Ok(match request.credentials().or(request.cookie("grant")) {
        Some(pattern) if !pattern.is_empty() => admitted.grant(pattern),
        Some(_) | None => admitted,
    })
}

fn rules() -> Vec<TopicRule> {
    vec![
        TopicRule::new("inbox/{user}"),
        TopicRule::new("users/*").subscribe(Access::Users),
        TopicRule::new("staff/*").subscribe(Access::Granted),
        TopicRule::new("signed/*").subscribe(Access::Signed),
        TopicRule::new("inner/*").subscribe(Access::Nobody),
    ]
}

fn config() -> Config {
    Config::default().shards(2).topics(rules())
}

fn builder() -> Builder {
    let builder = Server::builder().config(config()).judge(judge);
    builder.identity_secrets(b"a secret of sixteen bytes", None)
}

async fn browser(address: SocketAddr, cookie: &str) -> Hub {
    let headers = [("cookie", cookie)];
    let mut hub = Hub::dial_with(address, &headers).await.unwrap();
    hub.say(&hello()).await;
    let bytes = hub.next().await;
    assert!(matches!(frame(&bytes), ServerFrame::Welcome(_)), "{bytes:?}");
    hub
}

/// Why a topic is refused; empty if it is not.
async fn refusal(hub: &mut Hub, request: u64, topic: &str) -> String {
    hub.say(&HubFrame::Subscribe { request, position: None, topic }).await;
    match frame(&hub.next().await) {
        ServerFrame::Subscribed(it) if it.request == request => String::new(),
        ServerFrame::Unsubscribed(it) if it.request == request => {
            assert_eq!((it.reason, it.retry_ms), (UnsubscribedReason::Denied, None));
            it.message.to_owned()
        }
        other => panic!("no answer: {other:?}"),
    }
}

/// The topic that ends, and why.
async fn ends(hub: &mut Hub) -> (String, String) {
    match frame(&hub.next().await) {
        ServerFrame::Unsubscribed(it) => (it.name.to_owned(), it.message.to_owned()),
        other => panic!("nothing ended: {other:?}"),
    }
}

#[tokio::test]
async fn a_user_has_the_topics_of_that_user_and_no_other() {
    let server = Running::start(builder()).await;
    let mut ann = browser(server.address, "user=ann").await;
    assert_eq!(refusal(&mut ann, 1, "inbox/ann").await, "");
    assert_eq!(refusal(&mut ann, 2, "inbox/bob").await, "this topic is another user's");
    let mut nobody = browser(server.address, "a=b").await;
    assert_eq!(refusal(&mut nobody, 1, "inbox/ann").await, "this topic is another user's");
    server.handle.publish("inbox/ann", Message::Text("for ann")).await.unwrap();
    let bytes = ann.next().await;
    let is_it = |it: &ServerFrame<'_>| {
        matches!(it, ServerFrame::Publication { payload: Payload::Text("for ann"), .. })
    };
    assert!(is_it(&frame(&bytes)), "{bytes:?}");
    nobody.quiet().await;
}

#[tokio::test]
async fn rules_let_in_users_those_who_are_granted_a_topic_or_nobody() {
    let server = Running::start(builder()).await;
    let mut nobody = browser(server.address, "a=b").await;
    let mut ann = browser(server.address, "user=ann").await;
    let mut bob = browser(server.address, "user=bob; grant=staff/{any}").await;
    assert!(refusal(&mut nobody, 1, "users/news").await.contains("log in"));
    assert_eq!(refusal(&mut ann, 1, "users/news").await, "");
    assert!(refusal(&mut ann, 2, "staff/plans").await.contains("not granted"));
    assert_eq!(refusal(&mut bob, 1, "staff/plans").await, "");
    assert!(refusal(&mut bob, 2, "inner/x").await.contains("no browser"));
    assert_eq!(refusal(&mut nobody, 2, "no rule fits").await, "");
}

#[tokio::test]
async fn topics_without_a_rule_are_refused_where_the_configuration_says_so() {
    let config = config().unknown_topics(UnknownTopics::Refuse);
    let server = Running::start(builder().config(config)).await;
    let mut ann = browser(server.address, "user=ann").await;
    assert!(refusal(&mut ann, 1, "typo").await.contains("no rule"));
    assert_eq!(refusal(&mut ann, 2, "inbox/ann").await, "");
}

#[tokio::test]
async fn a_signed_topic_is_for_those_who_know_its_signed_name() {
    let server = Running::start(builder()).await;
    let mut hub = browser(server.address, "user=ann").await;
    let signed = server.handle.sign_topic("signed/5").unwrap();
    let other = server.handle.sign_topic("signed/6").unwrap();
    let forged = signed.replace("/5", "/6");
    for (request, name) in [(1, "signed/5"), (2, "signed/5~"), (3, &forged)] {
        assert!(refusal(&mut hub, request, name).await.contains("signature"), "{name}");
    }
    assert_eq!(refusal(&mut hub, 4, &signed).await, "");
    assert_ne!(signed, other);
    server.handle.publish("signed/5", Message::Text("5")).await.unwrap();
    server.handle.publish(&signed, Message::Text("6")).await.unwrap();
    for expected in ["5", "6"] {
        match frame(&hub.next().await) {
            ServerFrame::Publication { payload: Payload::Text(text), .. } => {
                assert_eq!(text, expected);
            }
            other => panic!("no publication: {other:?}"),
        }
    }
}

#[tokio::test]
async fn rules_that_need_what_is_not_there_are_refused_at_the_start() {
    for (access, told) in [(Access::Signed, "a secret"), (Access::Hook, "may_subscribe")] {
        let topics = vec![TopicRule::new("a/*").subscribe(access)];
        let error = Server::builder().config(Config::default().topics(topics)).build();
        let error = error.err().unwrap().to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[tokio::test]
async fn a_reload_ends_the_subscriptions_that_the_new_rules_do_not_allow() {
    let server = Running::start(builder()).await;
    let mut hub = browser(server.address, "user=ann").await;
    assert_eq!(refusal(&mut hub, 1, "open").await, "");
    assert_eq!(refusal(&mut hub, 2, "inbox/ann").await, "");
    let mut topics = rules();
    topics.push(TopicRule::new("open").subscribe(Access::Nobody));
    server.handle.reload(&config().topics(topics)).unwrap();
    let (name, why) = ends(&mut hub).await;
    assert_eq!((&*name, &*why), ("open", "no browser may have this topic"));
    server.handle.publish("inbox/ann", Message::Text("still here")).await.unwrap();
    assert!(matches!(frame(&hub.next().await), ServerFrame::Publication { .. }));
    assert_eq!(server.handle.stats().topics.rights_lost, 1);
}

#[tokio::test]
async fn newer_credentials_that_grant_less_end_a_subscription() {
    let server = Running::start(builder()).await;
    let mut hub = browser(server.address, "user=ann; grant=staff/*").await;
    assert_eq!(refusal(&mut hub, 1, "staff/plans").await, "");
    assert_eq!(refusal(&mut hub, 2, "inbox/ann").await, "");
    hub.say(&HubFrame::Credentials { request: 1, credentials: "other/*" }).await;
    let mut ended = Vec::new();
    for _ in 0..2 {
        match frame(&hub.next().await) {
            ServerFrame::Credentials(standing) => assert!(standing.accepted, "{standing:?}"),
            ServerFrame::Unsubscribed(it) => ended.push(it.name.to_owned()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ended, ["staff/plans"]);
}

#[tokio::test]
async fn a_session_that_comes_back_with_less_loses_what_it_may_not_have_any_more() {
    let server = Running::start(builder()).await;
    let headers = [("cookie", "user=ann; grant=staff/*")];
    let hub = Hub::dial_with(server.address, &headers).await.unwrap();
    let (mut hub, welcome) = say_hello_on(hub, &hello()).await;
    hub.attach(1).await;
    assert_eq!(refusal(&mut hub, 1, "staff/plans").await, "");
    drop(hub);
    let hub = Hub::dial_with(server.address, &[("cookie", "user=ann")]).await.unwrap();
    let HubFrame::Hello(first) = hello() else { panic!("no HELLO") };
    let Welcome { session, token, term, .. } = welcome;
    let resume = Some(Resume { session, token, term, have0: None });
    let (mut hub, again) = say_hello_on(hub, &HubFrame::Hello(Hello { resume, ..first })).await;
    assert!(again.resumed);
    assert!(matches!(frame(&hub.next().await), ServerFrame::Subscribed(it) if it.request == 0));
    let (name, why) = ends(&mut hub).await;
    assert_eq!(name, "staff/plans");
    assert!(why.contains("not granted"), "{why}");
}

/// A server that asks its application about `team/*`, which says yes while the switch is on.
fn asking(switch: &Arc<AtomicBool>) -> Builder {
    let switch = Arc::clone(switch);
    let topics = vec![TopicRule::new("team/*").subscribe(Access::Hook)];
    let builder = Server::builder().config(Config::default().shards(1).topics(topics));
    builder.judge(judge).may_subscribe(move |request| {
        let allowed = switch.load(Ordering::SeqCst);
        async move {
            tokio::task::yield_now().await;
            assert_ne!(request.topic, "team/panic", "as the test wants it");
            match request.user() {
                Some("ann") if allowed => Ok(()),
                Some("eve") => Err(Refusal::retry_after(Duration::from_secs(7), "later")),
                _ => Err(Refusal::never("not in this team")),
            }
        }
    })
}

#[tokio::test]
async fn the_application_is_asked_and_asked_again_after_a_reload() {
    let switch = Arc::new(AtomicBool::new(true));
    let server = Running::start(asking(&switch)).await;
    let mut ann = browser(server.address, "user=ann").await;
    let mut bob = browser(server.address, "user=bob").await;
    assert_eq!(refusal(&mut ann, 1, "team/a").await, "");
    assert_eq!(refusal(&mut bob, 1, "team/a").await, "not in this team");
    switch.store(false, Ordering::SeqCst);
    let topics = vec![TopicRule::new("team/*").subscribe(Access::Hook)];
    server.handle.reload(&Config::default().shards(1).topics(topics)).unwrap();
    assert_eq!(ends(&mut ann).await, ("team/a".to_owned(), "not in this team".to_owned()));
}

#[tokio::test]
async fn an_application_that_fails_or_says_later_refuses_for_a_time() {
    let server = Running::start(asking(&Arc::new(AtomicBool::new(true)))).await;
    let mut eve = browser(server.address, "user=eve").await;
    for (request, topic, retry) in [(1, "team/a", 7_000), (2, "team/panic", 5_000)] {
        eve.say(&HubFrame::Subscribe { request, position: None, topic }).await;
        match frame(&eve.next().await) {
            ServerFrame::Unsubscribed(it) => assert_eq!(it.retry_ms, Some(retry), "{it:?}"),
            other => panic!("{other:?}"),
        }
    }
}
