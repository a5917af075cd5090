//! The server of `cargo xtask bench browser`: an echo, and a topic that it fills on command.
//!
//! `/echo` sends back what it gets. A command is a line on stdin; each is answered by a line on
//! stdout, `began MILLIS`, with the time since 1970:
//!
//! - `burst COUNT SIZE` publishes so many numbered texts of that size as fast as the server takes
//!   them.
//! - `rate PER_SECOND COUNT SIZE` publishes them at that rate.

use std::{
    error::Error,
    io::BufRead,
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tabmux_core::wire::Payload;
use tabmux_server::{Ctx, Server, ServerHandle, SocketHandler, listen};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The topic of all publications.
const TOPIC: &str = "figures";

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 3000));
    let mut builder = Server::builder().socket("/echo", || Echo);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        builder = match name.as_str() {
            "--listen" => {
                address = value.parse()?;
                builder
            }
            "--assets" => builder.assets(value),
            "--allow-origin" => builder.allow_origin(value),
            _ => return Err(format!("no option {name}").into()),
        };
    }
    let server = builder.build()?;
    let (commands, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines().map_while(Result::ok);
        lines.for_each(|line| drop(commands.send(line)));
    });
    tokio::spawn(obey(server.handle(), lines));
    let mut terminate = signal(SignalKind::terminate())?;
    let drained = async move {
        terminate.recv().await;
    };
    Ok(server.run(listen(address)?, drained).await?)
}

struct Echo;

impl SocketHandler for Echo {
    fn message(&mut self, ctx: &mut Ctx<'_>, message: Payload<'_>) {
        if let Err(error) = ctx.send(message) {
            ctx.close(1013, &error.to_string());
        }
    }
}

async fn obey(server: ServerHandle, mut lines: mpsc::UnboundedReceiver<String>) {
    while let Some(line) = lines.recv().await {
        if carry_out(&server, &line).await.is_none() {
            println!("fault: {line} could not be carried out");
        }
    }
}

async fn carry_out(server: &ServerHandle, line: &str) -> Option<()> {
    let (name, numbers) = line.split_once(' ')?;
    let numbers = numbers.split(' ').map(|number| number.parse().ok());
    let numbers = numbers.collect::<Option<Vec<usize>>>()?;
    match (name, numbers.as_slice()) {
        ("burst", &[count, size]) => publish(server, None, count, size).await,
        ("rate", &[per_second, count, size]) => {
            publish(server, Some(per_second), count, size).await
        }
        _ => None,
    }
}

/// Publishes texts that begin with their number, from 0.
async fn publish(
    server: &ServerHandle,
    per_second: Option<usize>,
    count: usize,
    size: usize,
) -> Option<()> {
    // Timers count milliseconds: what is due within one goes out together.
    let mut clock = interval(Duration::from_millis(1));
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    println!("began {}", began.as_secs_f64() * 1000.0);
    let (mut due, mut millis) = (0, 0);
    for number in 0..count {
        while per_second.is_some_and(|rate| {
            due = rate * millis / 1000;
            number >= due
        }) {
            clock.tick().await;
            millis += 1;
        }
        let text = format!("{number:<size$}");
        server.publish(TOPIC, Payload::Text(&text)).await.ok()?;
    }
    Some(())
}
