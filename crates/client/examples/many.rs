//! Opens many clients that subscribe to one topic, and prints what they cost this process. The
//! figures say why `tabmux bench` drives its links without this crate. On Linux, with a server that
//! somebody publishes to:
//!
//! ```sh
//! TABMUX_API_KEY=a-key-of-this-trial tabmux serve &
//! TABMUX_API_KEY=a-key-of-this-trial tabmux bench --links 1 --rate 20 --duration 30 &
//! cargo run --release -p tabmux-client --example many -- ws://127.0.0.1:3000 2000 bench/0 10
//! ```

#![expect(clippy::wildcard_enum_match_arm, reason = "an example looks at few of many kinds")]

use std::{
    error::Error,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tabmux_client::{Client, TopicEvent};
use tokio::{task::JoinSet, time::sleep};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let [url, clients, topic, seconds] = &arguments[..] else {
        return Err("an address, a number of clients, a topic and a number of seconds".into());
    };
    let (clients, seconds) = (clients.parse::<u64>()?, seconds.parse::<u64>()?);
    let (before, start) = (resident()?, Instant::now());
    let (subscribed, delivered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut all = JoinSet::new();
    for _ in 0..clients {
        let mut topic = Client::connect(url)?.subscribe(topic);
        let (subscribed, delivered) = (Arc::clone(&subscribed), Arc::clone(&delivered));
        all.spawn(async move {
            while let Some(event) = topic.next().await {
                let count = match event {
                    TopicEvent::Subscribed { .. } => &subscribed,
                    _ => &delivered,
                };
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while subscribed.load(Ordering::Relaxed) < clients {
        sleep(Duration::from_millis(10)).await;
    }
    println!("{clients} clients are subscribed after {:.1?}", start.elapsed());
    println!("{:.1} KiB for each", (resident()? - before) / clients as f64 / 1024.0);
    let (used, already) = (cpu()?, delivered.load(Ordering::Relaxed));
    sleep(Duration::from_secs(seconds)).await;
    let count = delivered.load(Ordering::Relaxed) - already;
    let each = (cpu()? - used) / count as f64 * 1e6;
    println!("{count} deliveries in {seconds} s, {each:.2} µs of CPU for each");
    Ok(())
}

/// Returns the resident memory of this process, in bytes.
fn resident() -> Result<f64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(number.parse::<f64>()? * 1024.0)
}

/// Returns the CPU time that this process has used, in seconds.
fn cpu() -> Result<f64, Box<dyn Error>> {
    let schedstat = fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds = schedstat.split_whitespace().next().ok_or("no schedstat")?;
    Ok(nanoseconds.parse::<f64>()? / 1e9)
}
