//! The application's judge: what it sees, what becomes of its answers, and of none.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::response::Response;
use tabmux_core::wire::{Denied, RefusedReason, ServerFrame, Term, close};
use tabmux_server::{
    Admitted, Builder, Config, Ctx, Handshake, Limits, Message, OpenRequest, Refusal, Server,
    SocketHandler, Target, Verdict,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, mpsc},
};
use tokio_tungstenite::tungstenite::Error as WsError;

use super::{
    raw,
    support::{Hub, Running, frame, get, hello, metric, soon},
};

/// Tells each tab what is known of it.
struct Who;

impl SocketHandler for Who {
    fn opened(&mut self, ctx: &mut Ctx<'_>) {
        let user = ctx.user().unwrap_or("nobody").to_owned();
        let locale = String::from_utf8_lossy(ctx.header("X-Locale").unwrap_or(b"-")).into_owned();
        let address = ctx.address().map_or_else(|| "-".to_owned(), |it| it.to_string());
        let room = ctx.params().get("room").unwrap_or("-").to_owned();
        ctx.send_text(&format!("{user} {locale} {address} {room}")).unwrap();
    }

    fn open(&mut self, ctx: &mut Ctx<'_>, request: &OpenRequest<'_>) -> tabmux_server::Decision {
        assert_eq!(request.user(), ctx.user());
        assert_eq!(request.header("x-locale"), ctx.header("x-locale"));
        assert_eq!(request.address(), ctx.address());
        assert_eq!(request.params().get("room"), ctx.params().get("room"));
        tabmux_server::Decision::accept()
    }

    fn message(&mut self, _: &mut Ctx<'_>, _: Message<'_>) {}
}

/// Lets in whom the cookie `user` names, keeps a header, and refuses everybody else for good.
async fn by_cookie(request: Handshake) -> Verdict {
    match request.cookie("user") {
        Some("later") => Err(Refusal::retry_after(Duration::from_secs(3), "come back later")),
        Some(user) => Ok(Admitted::user(user).keep("X-Locale")),
        None => Err(Refusal::never("log in first")),
    }
}

fn judged() -> Builder {
    Server::builder().socket("/who/{room}", || Who).judge(by_cookie)
}

/// Serves an app with the server's router in it.
async fn mounted(builder: Builder) -> (SocketAddr, tabmux_server::ServerHandle) {
    let server = builder.build().unwrap();
    let handle = server.handle();
    let app = server.router().merge(server.metrics());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        // Keeps the server.
        let _server = server;
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, app).await
    });
    (address, handle)
}

/// What a tab is told of whose it is, on a link with these headers.
async fn told(address: SocketAddr, headers: &[(&'static str, &str)]) -> String {
    let mut hub = Hub::dial_with(address, headers).await.unwrap();
    hub.say(&hello()).await;
    assert!(matches!(frame(&hub.next().await), ServerFrame::Welcome(_)));
    let tab = hub.attach(1).await;
    hub.open(tab, 1, "/who/7", &[]).await;
    let told = hub.text(tab, 1).await;
    hub.leave(&[1]).await;
    told
}

/// The denial that a hub with these headers gets, and the close after it.
async fn denied(address: SocketAddr, headers: &[(&'static str, &str)]) -> (Option<u64>, String) {
    let mut hub = Hub::dial_with(address, headers).await.unwrap();
    hub.say(&hello()).await;
    let bytes = hub.next().await;
    let (retry, text) = match frame(&bytes) {
        ServerFrame::Denied(Denied { code, term, retry_ms, target, message }) => {
            // A hub that claims a session gives it up at `Denied`, and keeps it at `Limit`.
            let is_final =
                if retry_ms.is_none() { RefusedReason::Denied } else { RefusedReason::Limit };
            assert_eq!((code, term, target), (is_final, Term(0), ""));
            (retry_ms, message.to_owned())
        }
        other => panic!("not denied: {other:?}"),
    };
    let code = if retry.is_none() { close::POLICY } else { close::TRY_AGAIN_LATER };
    assert_eq!(hub.closed().await, (code, text.clone()));
    (retry, text)
}

async fn both_ways(check: impl AsyncFn(SocketAddr)) {
    let running = Running::start(judged()).await;
    check(running.address).await;
    check(mounted(judged()).await.0).await;
}

#[tokio::test]
async fn handlers_see_the_user_the_kept_headers_the_address_and_the_parameters() {
    both_ways(async |address| {
        let headers = [("cookie", "a=b; user=ann"), ("x-locale", "de"), ("x-other", "no")];
        assert_eq!(told(address, &headers).await, "ann de 127.0.0.1 7");
        assert_eq!(told(address, &headers[..1]).await, "ann - 127.0.0.1 7");
    })
    .await;
}

#[tokio::test]
async fn the_address_is_the_clients_behind_a_proxy() {
    let config = || Config::default().trusted_proxies(vec!["127.0.0.1".to_owned()]);
    let nobody = || Server::builder().socket("/who/{room}", || Who).config(config());
    let running = Running::start(nobody()).await;
    for address in [running.address, mounted(nobody()).await.0] {
        for client in ["192.0.2.7", "2001:db8::7"] {
            let expected = format!("nobody - {client} 7");
            assert_eq!(told(address, &[("x-forwarded-for", client)]).await, expected);
        }
        assert_eq!(told(address, &[]).await, "nobody - 127.0.0.1 7");
    }
}

#[tokio::test]
async fn a_refusal_is_told_to_the_hub_after_the_upgrade_with_its_text_and_time() {
    both_ways(async |address| {
        assert_eq!(denied(address, &[]).await, (None, "log in first".to_owned()));
        let later = denied(address, &[("cookie", "user=later")]).await;
        assert_eq!(later, (Some(3_000), "come back later".to_owned()));
        let judged = metric(address, "tabmux_refused_total{reason=\"judged\"}").await;
        assert_eq!(judged, 2.0);
    })
    .await;
}

#[tokio::test]
async fn in_an_app_the_judge_sees_what_layers_have_set() {
    #[derive(Clone)]
    struct LoggedIn(&'static str);
    let server = Server::builder()
        .socket("/who/{room}", || Who)
        .judge(|request| async move {
            match request.parts.extensions.get::<LoggedIn>() {
                Some(LoggedIn(user)) => Ok(Admitted::user(*user)),
                None => Err(Refusal::never("no layer")),
            }
        })
        .build()
        .unwrap();
    let login = async |mut request: axum::extract::Request, next: axum::middleware::Next| {
        request.extensions_mut().insert(LoggedIn("layered"));
        let response: Response = next.run(request).await;
        response
    };
    let app = server.router().layer(axum::middleware::from_fn(login));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    assert_eq!(told(address, &[]).await, "layered - 127.0.0.1 7");
    drop(server);
}

#[tokio::test]
async fn the_judge_is_not_asked_about_a_wrong_origin_nor_an_address_without_room() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let limits = Limits::default().links_per_ip(1);
    let trusted_proxies = vec!["127.0.0.1".to_owned()];
    let builder = Server::builder()
        .config(Config::default().limits(limits).trusted_proxies(trusted_proxies))
        .judge(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok(Admitted::nobody()) }
        });
    let server = Running::start(builder).await;
    let foreign = [("origin", "https://foreign.example")];
    assert_eq!(Hub::refused(server.address, &foreign).await.0, 403);
    let client = [("x-forwarded-for", "192.0.2.1")];
    let _hub = Hub::dial_with(server.address, &client).await.unwrap();
    assert_eq!(Hub::refused(server.address, &client).await.0, 429);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_limits_of_links_and_of_users_are_looked_at_after_the_judge() {
    let limits = Limits::default().links(2).links_per_user(1);
    let server = Running::start(judged().config(Config::default().limits(limits))).await;
    let ann = [("cookie", "user=ann")];
    let _ann = Hub::dial_with(server.address, &ann).await.unwrap();
    assert_eq!(Hub::refused(server.address, &ann).await.0, 429);
    let _bob = Hub::dial_with(server.address, &[("cookie", "user=bob")]).await.unwrap();
    let (status, retry) = Hub::refused(server.address, &[("cookie", "user=eve")]).await;
    assert!(status == 503 && retry.is_some());
}

/// A judge that waits for ever, and tells when it is asked and when it is let go.
fn silent() -> (Builder, mpsc::UnboundedReceiver<&'static str>) {
    struct Dropped(mpsc::UnboundedSender<&'static str>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send("dropped");
        }
    }
    let (sender, seen) = mpsc::unbounded_channel();
    let builder = Server::builder().judge(move |_| {
        let dropped = Dropped(sender.clone());
        async move {
            let _ = dropped.0.send("asked");
            std::future::pending().await
        }
    });
    (builder, seen)
}

async fn next(seen: &mut mpsc::UnboundedReceiver<&'static str>) -> &'static str {
    soon("the judge", seen.recv()).await.unwrap()
}

#[tokio::test]
async fn a_client_that_leaves_withdraws_its_question() {
    let (builder, mut seen) = silent();
    let running = Running::start(builder).await;
    let (other, mut seen_too) = silent();
    let (address, _handle) = mounted(other).await;
    for (address, seen) in [(running.address, &mut seen), (address, &mut seen_too)] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(raw::head(&raw::lines(address)).as_bytes()).await.unwrap();
        assert_eq!(next(seen).await, "asked");
        drop(stream);
        assert_eq!(next(seen).await, "dropped");
        let gone = async {
            while metric(address, "tabmux_judging").await > 0.0 {
                tokio::task::yield_now().await;
            }
        };
        soon("the question to be withdrawn", gone).await;
        assert_eq!(metric(address, "tabmux_judge_withdrawn_total").await, 1.0);
    }
}

#[tokio::test]
async fn a_judge_that_never_answers_is_left_alone_after_a_while_and_clients_are_told_when() {
    let (builder, mut seen) = silent();
    let config = Config::default().judge_timeout_ms(20);
    let server = Running::start(builder.config(config)).await;
    for _ in 0..16 {
        let (status, retry) = Hub::refused(server.address, &[]).await;
        assert!(status == 503 && retry.is_some());
        assert_eq!([next(&mut seen).await, next(&mut seen).await], ["asked", "dropped"]);
    }
    let (status, retry) = Hub::refused(server.address, &[]).await;
    assert!(status == 503 && retry.is_some());
    let reason = |reason| format!("tabmux_refused_total{{reason=\"{reason}\"}}");
    assert_eq!(metric(server.address, &reason("judge_timeout")).await, 16.0);
    assert_eq!(metric(server.address, &reason("judge_failed")).await, 1.0);
    assert!(seen.try_recv().is_err(), "it was not asked again");
    assert_eq!(get(server.address, "/healthz", "").await.status, 200);
}

#[tokio::test]
async fn one_client_that_makes_a_judge_fail_takes_it_from_nobody() {
    let builder = Server::builder().judge(|request| async move {
        assert!(request.cookie("user").is_some(), "on request");
        Ok(Admitted::nobody())
    });
    let config = Config::default().trusted_proxies(vec!["127.0.0.1".to_owned()]);
    let server = Running::start(builder.config(config)).await;
    let from = |client| [("x-forwarded-for", client), ("cookie", "user=ann")];
    for _ in 0..40 {
        assert_eq!(Hub::refused(server.address, &from("192.0.2.1")[..1]).await.0, 503);
    }
    Hub::dial_with(server.address, &from("192.0.2.2")).await.unwrap();
    let asked = "tabmux_judge_answers_total{from=\"judge\"}";
    assert_eq!(metric(server.address, asked).await, 41.0);
}

#[tokio::test]
async fn clients_of_one_address_whose_judging_takes_long_take_it_from_nobody() {
    // For the first address the judge never answers.
    let builder = Server::builder().judge(|request| async move {
        if request.cookie("user").is_none() {
            std::future::pending::<()>().await;
        }
        Ok(Admitted::nobody())
    });
    let limits = Limits::default().judging(16);
    let config = Config::default().limits(limits).trusted_proxies(vec!["127.0.0.1".to_owned()]);
    let server = Running::start(builder.config(config)).await;
    let from = |client| [("x-forwarded-for", client), ("cookie", "user=ann")];
    let mut crowd = Vec::new();
    for _ in 0..40 {
        let mut lines = raw::lines(server.address);
        lines.push("X-Forwarded-For: 192.0.2.1".to_owned());
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(raw::head(&lines).as_bytes()).await.unwrap();
        crowd.push(stream);
    }
    soon("the questions", async { while metric(server.address, "tabmux_judging").await < 40.0 {} })
        .await;
    Hub::dial_with(server.address, &from("192.0.2.2")).await.unwrap();
    let asked = "tabmux_judge_answers_total{from=\"judge\"}";
    assert_eq!(metric(server.address, asked).await, 3.0, "two, the share of the first, and one");
}

#[tokio::test]
async fn a_cookie_is_found_beside_others_that_are_no_text() {
    let builder = Server::builder().judge(by_cookie).socket("/quiet", || Who);
    let server = Running::start(builder).await;
    for cookie in [&b"user=ann; name=Jos\xe9"[..], "name=Jos\u{e9}; user=ann".as_bytes()] {
        let mut head = raw::head(&raw::lines(server.address)).into_bytes();
        head.truncate(head.len() - 2);
        head.extend_from_slice(&[b"Cookie: ", cookie, b"\r\n\r\n"].concat());
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&head).await.unwrap();
        stream.write_all(&raw::hello(None)).await.unwrap();
        let users = async { while server.handle.users().await != ["ann"] {} };
        soon("ann", users).await;
        drop(stream);
        server.stats(|stats| stats.links.open == 0).await;
    }
}

#[tokio::test]
async fn a_judge_that_panics_costs_one_client_its_answer() {
    let builder = Server::builder().judge(|request| async move {
        assert!(request.cookie("user").is_some(), "on request");
        Ok(Admitted::nobody())
    });
    let server = Running::start(builder).await;
    assert_eq!(Hub::refused(server.address, &[]).await.0, 503);
    Hub::dial_with(server.address, &[("cookie", "user=ann")]).await.unwrap();
    let reason = "tabmux_refused_total{reason=\"judge_failed\"}";
    assert_eq!(metric(server.address, reason).await, 1.0);
}

#[tokio::test]
async fn beyond_the_queue_clients_are_told_when_and_those_in_it_get_their_turn() {
    let (gate, running) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let most = Arc::new(AtomicUsize::new(0));
    let (open, now, peak) = (Arc::clone(&gate), Arc::clone(&running), Arc::clone(&most));
    let limits = Limits::default().judging(2).judging_queue(3);
    let builder = Server::builder().config(Config::default().limits(limits)).judge(move |_| {
        let (gate, now, peak) = (Arc::clone(&open), Arc::clone(&now), Arc::clone(&peak));
        async move {
            let running = now.fetch_add(1, Ordering::Relaxed) + 1;
            peak.fetch_max(running, Ordering::Relaxed);
            gate.acquire().await.unwrap().forget();
            now.fetch_sub(1, Ordering::Relaxed);
            Ok(Admitted::nobody())
        }
    });
    let server = Running::start(builder).await;
    let address = server.address;
    let waiting = (0..5).map(|_| tokio::spawn(Hub::dial_from(address, None))).collect::<Vec<_>>();
    let full = async {
        while metric(address, "tabmux_judging").await < 5.0 {
            tokio::task::yield_now().await;
        }
    };
    soon("five questions", full).await;
    let (status, retry) = Hub::refused(address, &[]).await;
    assert!(status == 503 && retry.is_some());
    let reason = "tabmux_refused_total{reason=\"judging_queue\"}";
    assert_eq!(metric(address, reason).await, 1.0);
    gate.add_permits(5);
    for hub in waiting {
        soon("its turn", hub).await.unwrap().unwrap();
    }
    assert_eq!(most.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_answer_is_remembered_for_requests_with_the_same_key() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let builder = Server::builder()
        .judge(move |request| {
            log.lock().unwrap().push(request.cookie("user").unwrap_or("-").to_owned());
            by_cookie(request)
        })
        .remember_verdicts(Duration::from_secs(600), |request| {
            request.cookie("user").map(str::to_owned)
        });
    let server = Running::start(builder).await;
    let address = server.address;
    let dial = async |user: &str| {
        let cookie = format!("user={user}");
        Hub::dial_with(address, &[("cookie", &cookie)]).await.unwrap()
    };
    let _hubs = [dial("ann").await, dial("ann").await, dial("bob").await];
    for _ in 0..2 {
        denied(address, &[]).await;
    }
    assert_eq!(*asked.lock().unwrap(), ["ann", "bob", "-", "-"], "without a key all are asked");
    // Who is told to come back later is not told so again from memory.
    for _ in 0..2 {
        denied(address, &[("cookie", "user=later")]).await;
    }
    assert_eq!(asked.lock().unwrap().drain(4..).count(), 2);
    assert_eq!(metric(address, "tabmux_judge_answers_total{from=\"memory\"}").await, 1.0);
    // What was answered of a user counts no more once the user is asked about again.
    server.handle.recheck("ann").unwrap();
    let _hub = dial("ann").await;
    assert_eq!(asked.lock().unwrap().last().map(String::as_str), Some("ann"));
    assert_eq!(asked.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn a_user_who_is_ended_while_the_judge_looks_is_looked_at_again() {
    let (first, allowed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait, asked) = (Arc::clone(&first), Arc::clone(&allowed), AtomicUsize::new(0));
    let builder = Server::builder().judge(move |request| {
        let is_first = asked.fetch_add(1, Ordering::Relaxed) == 0;
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            if !is_first {
                return Err(Refusal::never("banned"));
            }
            tell.notify_one();
            wait.notified().await;
            by_cookie(request).await
        }
    });
    let server = Running::start(builder).await;
    let address = server.address;
    let dialling = tokio::spawn(async move { denied(address, &[("cookie", "user=ann")]).await });
    soon("the first question", first.notified()).await;
    server.handle.disconnect(Target::User("ann"), &Refusal::never("banned")).unwrap();
    allowed.notify_one();
    assert_eq!(soon("the answer", dialling).await.unwrap(), (None, "banned".to_owned()));
}

#[tokio::test]
async fn a_client_that_is_being_judged_is_not_given_up_for_being_old() {
    let gate = Arc::new(Semaphore::new(0));
    let (entered, mut seen) = mpsc::unbounded_channel();
    let open = Arc::clone(&gate);
    let limits = Limits::default().handshakes(1);
    let builder = Server::builder().config(Config::default().limits(limits)).judge(move |_| {
        let (gate, entered) = (Arc::clone(&open), entered.clone());
        async move {
            entered.send("asked").unwrap();
            gate.acquire().await.unwrap().forget();
            Ok(Admitted::nobody())
        }
    });
    let server = Running::start(builder).await;
    let address = server.address;
    let judged = tokio::spawn(Hub::dial_from(address, None));
    assert_eq!(next(&mut seen).await, "asked");
    // Those that say nothing push each other out.
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut byte = [0];
    let gone = soon("the oldest to go", silent[0].read(&mut byte)).await;
    assert!(matches!(gone, Ok(0) | Err(_)));
    gate.add_permits(1);
    soon("the judged one", judged).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_never_judged() {
    let (builder, mut seen) = silent();
    let config = Config::default().handshake_timeout_ms(300);
    let server = Running::start(builder.config(config)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = raw::head(&raw::lines(server.address));
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let dripping = async {
        for byte in head.as_bytes() {
            tick.tick().await;
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
        panic!("the whole head came, {} bytes", head.len());
    };
    soon("the connection to be closed", dripping).await;
    assert!(seen.try_recv().is_err());
    let reason = "tabmux_refused_total{reason=\"handshake_timeout\"}";
    assert_eq!(metric(server.address, reason).await, 1.0);
}

#[tokio::test]
async fn the_server_ends_while_a_judge_looks() {
    let (builder, mut seen) = silent();
    let mut server = Running::start(builder).await;
    let address = server.address;
    let dialling = tokio::spawn(Hub::dial_from(address, None));
    assert_eq!(next(&mut seen).await, "asked");
    server.stop();
    server.ended().await.unwrap();
    assert_eq!(next(&mut seen).await, "dropped");
    let end = soon("the client to be told", dialling).await.unwrap();
    assert!(matches!(end.err(), Some(WsError::Io(_) | WsError::Protocol(_))));
}
