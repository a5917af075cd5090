//! The server of `cargo xtask chaos` and of `cargo xtask bench handover`: it numbers what it sends,
//! and looks at the numbers of what it gets.
//!
//! - `/stream?name=N&every=MS` sends `d 1 …`, `d 2 …`, wants `u 1 …`, `u 2 …`, and answers `end`
//!   by `t SENT RECEIVED`.
//! - `/ticks` sends `k T` every hundredth of a second. `T` is the time in hundredths, so that the
//!   numbers go on when the server starts again.
//! - To the topics `chaos:0`, `chaos:1`, … it publishes `p RUN 1`, `p RUN 2`, …; `RUN` is
//!   another one each time that the server starts.
//!
//! With `--judge true` links are for who has the cookie `user`, with `--judge guests` for others as
//! well. `/user` answers each message by the user of its link, and passes on what follows `all:`
//! to all tabs of the browser. `log out` ends all that the user has open. Where the link's address
//! has the query `credentials`, links are for who shows `NAME for SECONDS`. The secrets of identity
//! tags are `TABMUX_IDENTITY_SECRET` and `TABMUX_IDENTITY_SECRET_OLD`, as those of `tabmux serve`.
//!
//! What must not be is a line on stdout that begins with `fault:`. `--plain ADDR` serves ticks to
//! WebSockets that know nothing of tabmux, and `--upstream ADDR` serves streams to them. `--route
//! PREFIX=URL` passes sockets on.

use std::{
    collections::BTreeSet,
    error::Error,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{SinkExt, StreamExt};
use tabmux_core::{OwnedPayload, wire::Payload};
use tabmux_server::{
    Admitted, Ctx, Handshake, Parked, Refusal, Route, Server, ServerHandle, SocketHandler, Target,
    TaskSocket, Verdict, listen, task,
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_tungstenite::{
    WebSocketStream, accept_async, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
    },
};

/// For handlers, which are made before it.
static SERVER: OnceLock<ServerHandle> = OnceLock::new();

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let open = Arc::new(OpenStreams::default());
    let mut builder = Server::builder().assets(options.assets).socket("/ticks", task(ticks));
    match options.upstream {
        Some(address) => drop(tokio::spawn(upstream(listen(address)?, open))),
        None => {
            let serve = task(move |socket| virtual_stream(socket, Arc::clone(&open)));
            builder = builder.socket("/stream", serve);
        }
    }
    for route in options.routes {
        builder = builder.route(route);
    }
    if let Some(guests) = options.judge {
        builder = builder.judge(move |request| judge(request, guests)).socket("/user", || Whose);
    }
    for origin in options.origins {
        builder = builder.allow_origin(origin);
    }
    let secret = |name: &str| std::env::var(name).ok().map(String::into_bytes);
    if let Some(first) = secret("TABMUX_IDENTITY_SECRET") {
        let old = secret("TABMUX_IDENTITY_SECRET_OLD");
        builder = builder.identity_secrets(&first, old.as_deref());
    }
    let server = builder.build()?;
    SERVER.get_or_init(|| server.handle());
    for number in 0..options.topics {
        tokio::spawn(publish(server.handle(), format!("chaos:{number}"), options.topic_pause));
    }
    if let Some(address) = options.plain {
        tokio::spawn(plain(listen(address)?));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let drained = async move {
        terminate.recv().await;
    };
    Ok(server.run(listen(options.listen)?, drained).await?)
}

/// Says whose its link is.
struct Whose;

impl SocketHandler for Whose {
    fn message(&mut self, ctx: &mut Ctx<'_>, message: Payload<'_>) {
        let user = ctx.user().unwrap_or("nobody").to_owned();
        let sent = match message {
            Payload::Text(text) => match text.strip_prefix("all:") {
                Some(text) => ctx.broadcast_text(text),
                None if text == "log out" => {
                    let ended = SERVER.get().map(|handle| {
                        handle.disconnect(Target::User(&user), &Refusal::never("you logged out"))
                    });
                    println!("logged out: {user} {ended:?}");
                    Ok(())
                }
                None => ctx.send_text(&user),
            },
            Payload::Binary(_) => ctx.send_text(&user),
        };
        if sent.is_err() {
            println!("fault: {user} could not be told");
        }
    }
}

/// Lets in who has the cookie `user`, or shows credentials where the address says so, and refuses
/// everybody else for good, unless there are guests.
async fn judge(request: Handshake, guests: bool) -> Verdict {
    if let Some(shown) = request.credentials() {
        return judge_credentials(shown);
    }
    // A hub whose names hold a tag adds it to the query.
    let query = request.parts.uri.query().unwrap_or_default();
    if query.split('&').any(|it| it == "credentials") {
        return Ok(Admitted::needs_credentials());
    }
    let verdict = match request.cookie("user") {
        Some(user) => Ok(Admitted::user(user)),
        None if guests => Ok(Admitted::nobody()),
        None => Err(Refusal::never("log in first")),
    };
    let shown = request.query("identity").unwrap_or_default();
    // Hubs ask whose the browser is before a socket opens. Tests count the links alone.
    let what = if request.parts.uri.path().ends_with("/who") { "asked" } else { "judged" };
    println!("{what}: {} {shown}", verdict.is_ok());
    verdict
}

fn judge_credentials(shown: &str) -> Verdict {
    let shown = shown.trim_end().split_once(" for ");
    match shown.and_then(|(user, seconds)| Some((user, seconds.parse().ok()?))) {
        Some((user, seconds)) => {
            let until = SystemTime::now() + Duration::from_secs(seconds);
            Ok(Admitted::user(user).until(until))
        }
        None => Err(Refusal::never("log in first")),
    }
}

struct Options {
    listen: SocketAddr,
    plain: Option<SocketAddr>,
    upstream: Option<SocketAddr>,
    routes: Vec<Route>,
    assets: String,
    origins: Vec<String>,
    topics: u32,
    topic_pause: Duration,
    /// Whether guests are let in, if there is a judge.
    judge: Option<bool>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            plain: None,
            upstream: None,
            routes: Vec::new(),
            assets: "packages/tabmux/dist".into(),
            origins: Vec::new(),
            topics: 0,
            topic_pause: Duration::from_millis(50),
            judge: None,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--listen" => options.listen = value.parse()?,
                "--plain" => options.plain = Some(value.parse()?),
                "--upstream" => options.upstream = Some(value.parse()?),
                "--route" => {
                    let (prefix, upstream) = value.split_once('=').ok_or("--route PREFIX=URL")?;
                    options.routes.push(Route::new(prefix, upstream));
                }
                // How long the last route keeps the connection of a parked page.
                "--parked" => {
                    let parked = match &*value {
                        "close" => Parked::Close,
                        millis => Parked::Millis(millis.parse()?),
                    };
                    let route = options.routes.pop().ok_or("--parked before --route")?;
                    options.routes.push(route.parked(parked));
                }
                "--assets" => options.assets = value,
                "--allow-origin" => options.origins.push(value),
                "--topics" => options.topics = value.parse()?,
                "--judge" => options.judge = Some(value == "guests"),
                "--topic-every" => options.topic_pause = Duration::from_millis(value.parse()?),
                _ => return Err(format!("no option {name}").into()),
            }
        }
        Ok(options)
    }
}

/// The streams that are open now, by name: pages use no name twice.
#[derive(Default)]
struct OpenStreams(Mutex<BTreeSet<String>>);

impl OpenStreams {
    fn add(&self, name: &str) {
        if !self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned()) {
            println!("fault: stream {name} was opened twice");
        }
    }

    fn remove(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// What carries a stream.
trait Line {
    async fn next(&mut self) -> Option<OwnedPayload>;
    async fn send(&mut self, message: OwnedPayload) -> Outcome<()>;
}

impl Line for TaskSocket {
    async fn next(&mut self) -> Option<OwnedPayload> {
        Self::next(self).await
    }

    async fn send(&mut self, message: OwnedPayload) -> Outcome<()> {
        Ok(Self::send(self, message).await?)
    }
}

/// A WebSocket of a client that knows nothing of tabmux: here the gateway.
impl Line for WebSocketStream<TcpStream> {
    async fn next(&mut self) -> Option<OwnedPayload> {
        loop {
            match StreamExt::next(self).await?.ok()? {
                Message::Text(text) => return Some(text.as_str().to_owned().into()),
                Message::Binary(bytes) => return Some(bytes.to_vec().into()),
                // The library answers it.
                Message::Close(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    async fn send(&mut self, message: OwnedPayload) -> Outcome<()> {
        let message = match message {
            OwnedPayload::Text(text) => Message::text(text),
            OwnedPayload::Binary(bytes) => Message::binary(bytes),
        };
        Ok(SinkExt::send(self, message).await?)
    }
}

/// Serves streams to the gateway.
async fn upstream(listener: TcpListener, open: Arc<OpenStreams>) {
    while let Ok((stream, _)) = listener.accept().await {
        let open = Arc::clone(&open);
        tokio::spawn(async move {
            let mut target = String::new();
            #[expect(clippy::result_large_err, reason = "the type is the library's")]
            let note = |request: &Request, response: Response| {
                target = request.uri().to_string();
                Ok(response)
            };
            if let Ok(socket) = accept_hdr_async(stream, note).await {
                serve_stream(socket, &target, &open).await;
            }
        });
    }
}

async fn virtual_stream(socket: TaskSocket, open: Arc<OpenStreams>) {
    let target = socket.target().to_owned();
    serve_stream(socket, &target, &open).await;
}

async fn serve_stream(mut line: impl Line, target: &str, open: &OpenStreams) {
    let name = query(target, "name").unwrap_or("?").to_owned();
    let pause = query(target, "every").and_then(|ms| ms.parse().ok()).unwrap_or(20);
    open.add(&name);
    let (sent, received) = exchange(&mut line, &name, Duration::from_millis(pause)).await;
    open.remove(&name);
    println!("closed: stream {name} after {sent} down and {received} up");
}

/// Sends and receives until the socket is closed. Returns how many messages went down and up.
async fn exchange(line: &mut impl Line, name: &str, pause: Duration) -> (u64, u64) {
    let (mut sent, mut received) = (0, 0);
    let mut ended = false;
    let mut clock = interval(pause);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = line.next() => {
                let Some(message) = message else { return (sent, received) };
                let text = text_of(&message);
                if text == "end" {
                    ended = true;
                    // Where that fails, what came before the close is still to be read.
                    let _ = line.send(format!("t {sent} {received}").into()).await;
                } else if text == "go" {
                    ended = false;
                } else {
                    check_upward(name, text, message.len(), &mut received);
                }
            }
            _ = clock.tick(), if !ended => {
                match line.send(numbered('d', sent + 1)).await {
                    Ok(()) => sent += 1,
                    Err(_) => ended = true,
                }
            }
        }
    }
}

fn check_upward(name: &str, text: &str, length: usize, received: &mut u64) {
    let number = text.strip_prefix("u ").and_then(|rest| rest.split(' ').next());
    let number = number.and_then(|number| number.parse::<u64>().ok());
    match number {
        Some(number) if number == *received + 1 => {
            let whole = numbered('u', number).len();
            if whole != length {
                println!("fault: stream {name}: message {number} up has {length} bytes of {whole}");
            }
        }
        Some(number) => println!("fault: stream {name}: {number} came up after {received}"),
        None => println!("fault: stream {name}: came up: {text:?}"),
    }
    *received = number.unwrap_or(*received);
}

/// Every tenth message is binary, every fiftieth is long. The page makes the same.
fn numbered(direction: char, number: u64) -> OwnedPayload {
    let filler = if number.is_multiple_of(50) { 2000 } else { number % 7 };
    let filler = "x".repeat(filler.try_into().unwrap_or_default());
    let text = format!("{direction} {number} {filler}");
    if number.is_multiple_of(10) { text.into_bytes().into() } else { text.into() }
}

fn text_of(message: &OwnedPayload) -> &str {
    match message {
        OwnedPayload::Text(text) => text,
        OwnedPayload::Binary(bytes) => std::str::from_utf8(bytes).unwrap_or("no UTF-8"),
    }
}

async fn ticks(mut socket: TaskSocket) {
    let mut tick = now();
    loop {
        // What was due while the socket could not take it comes late, not never.
        while tick <= now() {
            if socket.send(format!("k {tick}")).await.is_err() {
                return;
            }
            tick += 1;
        }
        tokio::select! {
            message = socket.next() => if message.is_none() { return },
            () = at(tick) => {}
        }
    }
}

async fn plain(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let Ok(mut socket) = accept_async(stream).await else { return };
            let mut tick = now();
            while SinkExt::send(&mut socket, Message::text(format!("k {tick}"))).await.is_ok() {
                tick += 1;
                at(tick).await;
            }
        });
    }
}

/// Hundredths of a second since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_millis() / TICK_MS) as u64
}

const TICK_MS: u128 = 10;

async fn at(tick: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wait = Duration::from_millis(tick * TICK_MS as u64).saturating_sub(now);
    sleep_until(Instant::now() + wait).await;
}

async fn publish(server: ServerHandle, topic: String, pause: Duration) {
    let run = now();
    let mut clock = interval(pause);
    for number in 1_u64.. {
        clock.tick().await;
        let text = format!("p {run} {number}");
        if server.publish(&topic, Payload::Text(&text)).await.is_err() {
            return;
        }
    }
}

fn query<'a>(target: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}
