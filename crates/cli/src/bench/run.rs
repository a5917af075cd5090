//! One run of `tabmux bench`.

use std::{
    io::Write,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use super::{
    Answer, Fleet, Form, Options, Plan, Process, Progress, Publisher, Report, Retry, Speech, Tally,
    Topics,
    fleet::need_files,
    options::Url,
    report::{ClientCost, Deliveries, Latency, Links, Publications, ServerCost, Subscriptions},
    stamp::Clock,
    tally::{Reasons, count},
};

/// Links that may be opening at once. It is below 128, which is the length of many accept queues.
const IN_FLIGHT: usize = 100;
/// Longest time that the last deliveries may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the fleet looks at the clock when nothing arrives.
const TURN: Duration = Duration::from_millis(50);
/// Share of the one core that a fleet can use, above which the fleet is the bottleneck.
const BUSY: f64 = 0.9;

/// Runs until the measurement is done or `stop` is set, and prints the result.
///
/// # Errors
/// Returns an error if there is nothing to measure. The text says what to do.
pub fn run(options: &Options, stop: &AtomicBool) -> Result<(), String> {
    let report = measure(options, stop)?;
    let json = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())? + "\n";
    let mut stdout = std::io::stdout();
    let printed = match &options.json {
        Some(path) if path.as_os_str() == "-" => stdout.write_all(json.as_bytes()),
        Some(path) => {
            let written = std::fs::write(path, json);
            written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            write!(stdout, "{report}")
        }
        None => write!(stdout, "{report}"),
    };
    // If stdout is closed, nobody reads the result.
    let _ = printed;
    match report.links.opened {
        0 if !report.interrupted => Err("no link could be opened".to_owned()),
        _ => Ok(()),
    }
}

/// What happened while the publisher published.
struct Published {
    accepted: Vec<u64>,
    failed: Reasons,
    elapsed: Duration,
}

/// A moment, with the CPU time that was used until then.
struct Moment {
    at: Instant,
    own: Duration,
    server: Option<Duration>,
    resident: Option<u64>,
}

impl Moment {
    fn now(server: Option<Process>) -> Self {
        Self {
            at: Instant::now(),
            own: Process::own().cpu().unwrap_or_default(),
            server: server.and_then(|process| process.cpu().ok()),
            resident: server.and_then(|process| process.resident().ok()),
        }
    }
}

fn measure(options: &Options, stop: &AtomicBool) -> Result<Report, String> {
    let names = (0..options.topics).map(|number| format!("bench/{number}")).collect::<Vec<_>>();
    need_files(options.links)?;
    reach(&options.url)?;
    let mut publisher = publisher(options, &names);
    if options.topics > 0 {
        check_key(&mut publisher, options.topics)?;
    }
    let server = match options.pid {
        Some(pid) => Ok(Process(pid)),
        None => Process::listening(options.url.address),
    };
    let server = server.and_then(|process| match process.resident() {
        Ok(_) => Ok(process),
        Err(error) => Err(format!("process {}: {error}", process.0)),
    });
    let process = server.as_ref().ok().copied();
    let clock = Clock::start();
    let mut fleet = Fleet::new(plan(options, names.clone()), clock).map_err(no_epoll)?;

    let before = Moment::now(process);
    let took = open(&mut fleet, options.links, stop)?;
    let opened = Moment::now(process);
    let links = fleet.tally().ready;
    let published = if options.topics > 0 && links > 0 {
        publish(&mut fleet, publisher, clock, options, stop)?
    } else {
        rest(&mut fleet, options.duration(), stop)?;
        Published { accepted: Vec::new(), failed: Reasons::new(), elapsed: options.duration() }
    };
    let after = Moment::now(process);

    let tally = fleet.tally();
    let deliveries = deliveries(tally, &published);
    Ok(Report {
        url: options.url.to_string(),
        interrupted: stop.load(Ordering::Relaxed),
        links: Links {
            wanted: options.links as u64,
            opened: links,
            refused: tally.refused.clone(),
            lost: tally.lost.clone(),
            seconds: took.as_secs_f64(),
            per_second: links as f64 / took.as_secs_f64(),
        },
        subscriptions: Subscriptions {
            confirmed: tally.subscribers.iter().sum(),
            refused: tally.unsubscribed.clone(),
        },
        publications: publications(options, &published),
        latency_us: Latency::of(tally),
        server: process.and_then(|process| {
            cost(process, [&before, &opened, &after], links, deliveries.received)
        }),
        server_unknown: server.err(),
        client: client(&opened, &after),
        deliveries,
    })
}

fn no_epoll(error: std::io::Error) -> String {
    format!("cannot watch sockets: {error}")
}

fn reach(url: &Url) -> Result<(), String> {
    match TcpStream::connect_timeout(&url.address, Duration::from_secs(3)) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "no server at {} ({error}): start one with `tabmux serve`, or name another by --url",
            url.address
        )),
    }
}

fn publisher(options: &Options, names: &[String]) -> Publisher {
    // One more topic, to which no link subscribes.
    let topics = names.iter().cloned().chain(["bench/check".to_owned()]).collect();
    Publisher::new(options.url.address, Form::Tabmux { key: options.api_key.clone(), topics })
}

/// Publishes to a topic without subscribers. A wrong key is noticed before thousands of links are
/// opened in vain.
fn check_key(publisher: &mut Publisher, nobodys: usize) -> Result<(), String> {
    const NOT_AT_ALL: &str = "or use --topics 0 to publish nothing";
    let answer = publisher.publish(&[(nobodys, String::new())]);
    let Answer { status, text } = answer.map_err(|error| format!("cannot publish: {error}"))?;
    Err(match status {
        200 => return Ok(()),
        401 => format!(
            "the server does not accept this API key: give its own by --api-key or \
             TABMUX_API_KEY, {NOT_AT_ALL}"
        ),
        403 => format!(
            "the server has no API key and so nobody may publish: start it with TABMUX_API_KEY \
             set and give the same to this program, {NOT_AT_ALL}"
        ),
        404 => {
            format!("the server has no /tabmux/api/publish: is it a tabmux server? {NOT_AT_ALL}")
        }
        _ => format!("cannot publish, HTTP {status}: {}", text.trim()),
    })
}

fn plan(options: &Options, names: Vec<String>) -> Plan {
    let per_link = options.topics_per_link;
    let topics = Topics { common: Vec::new(), dealt: names, per_link };
    Plan {
        address: options.url.address,
        path: options.url.path.clone(),
        speech: Speech::Tabmux { tabs: options.tabs, topics },
        in_flight: IN_FLIGHT,
        ramp: options.ramp,
        retry: if options.patience > 0 { Retry::WhenTold } else { Retry::Never },
        patience: Duration::from_secs(options.patience.max(5)),
    }
}

fn open(fleet: &mut Fleet, links: usize, stop: &AtomicBool) -> Result<Duration, String> {
    let mut progress = Progress::new("opening links", links as u64);
    let took = fleet.grow(links, &mut |tally| {
        let refused = tally.refused.values().sum::<u64>();
        progress.at(tally.ready, || format!("{refused} refused"));
        !stop.load(Ordering::Relaxed)
    });
    took.map_err(|error| format!("cannot open links: {error}"))
}

/// Holds the links without publishing.
fn rest(fleet: &mut Fleet, duration: Duration, stop: &AtomicBool) -> Result<(), String> {
    let start = Instant::now();
    let mut progress = Progress::new("holding links", duration.as_secs());
    while start.elapsed() < duration && !stop.load(Ordering::Relaxed) {
        fleet.turn(TURN).map_err(no_epoll)?;
        let ready = fleet.tally().ready;
        progress.at(start.elapsed().as_secs(), || format!("s, {ready} links"));
    }
    Ok(())
}

fn publish(
    fleet: &mut Fleet,
    publisher: Publisher,
    clock: Clock,
    options: &Options,
    stop: &AtomicBool,
) -> Result<Published, String> {
    let (report, reports) = mpsc::channel();
    let ended = Arc::new(AtomicBool::new(false));
    let (pace, end) = (Pace::of(options), Arc::clone(&ended));
    let thread = std::thread::spawn(move || {
        // Sending fails only if the run is over.
        let _ = report.send(pace.keep(publisher, clock, &end));
    });
    let seconds = options.duration().as_secs();
    let mut progress = Progress::new("publishing", seconds);
    let start = Instant::now();
    let published = loop {
        fleet.turn(TURN).map_err(no_epoll)?;
        if stop.load(Ordering::Relaxed) {
            ended.store(true, Ordering::Relaxed);
        }
        let delivered = fleet.tally().delivered;
        progress.at(start.elapsed().as_secs(), || format!("s, {delivered} deliveries"));
        match reports.try_recv() {
            Ok(published) => break published,
            Err(mpsc::TryRecvError::Empty) => {}
            Err(mpsc::TryRecvError::Disconnected) => return Err("the publisher failed".to_owned()),
        }
    };
    // The thread has sent its result, so it ends now.
    let _ = thread.join();
    let (mut last, mut news) = (0, Instant::now());
    while fleet.tally().delivered < expected(fleet.tally(), &published)
        && news.elapsed() < PATIENCE
        && !stop.load(Ordering::Relaxed)
    {
        fleet.turn(TURN).map_err(no_epoll)?;
        if last != fleet.tally().delivered {
            (last, news) = (fleet.tally().delivered, Instant::now());
        }
    }
    Ok(published)
}

/// How fast to publish, and which messages.
struct Pace {
    topics: usize,
    burst: usize,
    rate: f64,
    size: usize,
    duration: Duration,
}

impl Pace {
    fn of(options: &Options) -> Self {
        Self {
            topics: options.topics,
            burst: options.burst.max(1),
            rate: options.rate,
            size: options.size,
            duration: options.duration(),
        }
    }

    /// Publishes until the time is over. Late messages are sent at once, so that a server that
    /// answers slowly for a moment gets its full load. Messages that are more than a second late
    /// are left out.
    fn keep(&self, mut publisher: Publisher, clock: Clock, end: &AtomicBool) -> Published {
        let step = Duration::from_secs_f64(self.burst as f64 / self.rate);
        let (mut accepted, mut failed) = (vec![0; self.topics], Reasons::new());
        let (start, mut number) = (Instant::now(), 0);
        let mut due = start;
        while due < start + self.duration && !end.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now < due {
                std::thread::sleep((due - now).min(TURN));
                continue;
            }
            let messages = (0..self.burst).map(|_| {
                number += 1;
                let topic = usize::try_from(number).unwrap_or(0) % self.topics;
                (topic, clock.stamp(number, self.size))
            });
            let messages = messages.collect::<Vec<_>>();
            match publisher.publish(&messages) {
                Ok(Answer { status: 200, .. }) => {
                    messages.iter().for_each(|(topic, _)| accepted[*topic] += 1);
                }
                Ok(Answer { status, text }) => {
                    count(&mut failed, format!("HTTP {status}: {}", text.trim()));
                }
                Err(error) => count(&mut failed, error.to_string()),
            }
            due = (due + step).max(now.checked_sub(Duration::from_secs(1)).unwrap_or(now));
        }
        Published { accepted, failed, elapsed: start.elapsed().max(Duration::from_millis(1)) }
    }
}

fn expected(tally: &Tally, published: &Published) -> u64 {
    tally.subscribers.iter().zip(&published.accepted).map(|(links, times)| links * times).sum()
}

fn deliveries(tally: &Tally, published: &Published) -> Deliveries {
    let (expected, received) = (expected(tally, published), tally.delivered);
    Deliveries {
        expected,
        received,
        lost: expected.saturating_sub(received),
        repeated: tally.repeated,
        skipped: tally.skipped,
        gaps: tally.gaps,
        per_second: received as f64 / published.elapsed.as_secs_f64(),
    }
}

fn publications(options: &Options, published: &Published) -> Publications {
    let accepted = published.accepted.iter().sum::<u64>();
    Publications {
        accepted,
        failed: published.failed.clone(),
        per_second: accepted as f64 / published.elapsed.as_secs_f64(),
        wanted_per_second: if published.accepted.is_empty() { 0.0 } else { options.rate },
    }
}

fn cost(
    process: Process,
    [before, opened, after]: [&Moment; 3],
    links: u64,
    deliveries: u64,
) -> Option<ServerCost> {
    let opening = opened.server?.saturating_sub(before.server?);
    let publishing = after.server?.saturating_sub(opened.server?);
    let [resident_before, resident_with_links] = [before.resident?, opened.resident?];
    let each = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
    let grown = resident_with_links as f64 - resident_before as f64;
    Some(ServerCost {
        pid: process.0,
        resident_before,
        resident_with_links,
        resident_after: after.resident?,
        bytes_per_link: each(grown, links).unwrap_or(0.0),
        cpu_us_per_link: each(opening.as_secs_f64() * 1e6, links).unwrap_or(0.0),
        cpu_us_per_delivery: each(publishing.as_secs_f64() * 1e6, deliveries),
        cores: publishing.as_secs_f64() / (after.at - opened.at).as_secs_f64(),
    })
}

fn client(opened: &Moment, after: &Moment) -> ClientCost {
    let elapsed = (after.at - opened.at).as_secs_f64();
    let cores = after.own.saturating_sub(opened.own).as_secs_f64() / elapsed;
    ClientCost { cores, bottleneck: cores > BUSY }
}
