//! What attackers do.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Outcome, client::Attacker, serve::KEY};

/// The attackers' address.
const ATTACKER: &str = "192.0.2.66";
/// Clients that dial at the same time.
const DIALLING: usize = 64;

/// One kind of harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// Links open all sockets that they may have, with long targets.
    Sockets,
    /// Handlers hold what links send.
    Credit,
    /// Links begin messages and never end them.
    Parts,
    /// Links read small answers and never acknowledge them.
    Answers,
    /// Links of one address never read.
    Queues,
    /// Sessions are begun and dropped.
    Dropped,
    /// Links subscribe to all topics that there may be.
    Topics,
    /// Sockets wait for an answer that never comes.
    Questions,
    /// The bodies of requests come one byte a second.
    Bodies,
    /// One link opens its limit of everything.
    Everything,
}

/// What is held until the case is over.
pub(crate) enum Held {
    Links(Vec<Attacker>),
    Streams(Vec<TcpStream>),
}

impl Case {
    pub(crate) const ALL: [Self; 10] = [
        Self::Sockets,
        Self::Credit,
        Self::Parts,
        Self::Answers,
        Self::Queues,
        Self::Dropped,
        Self::Topics,
        Self::Questions,
        Self::Bodies,
        Self::Everything,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sockets => "all sockets, with targets of 4 KiB",
            Self::Credit => "handlers hold what is sent",
            Self::Parts => "messages that never end",
            Self::Answers => "answers that are never acknowledged",
            Self::Queues => "links that never read",
            Self::Dropped => "sessions begun and dropped",
            Self::Topics => "all topics",
            Self::Questions => "questions that nobody answers",
            Self::Bodies => "bodies of one byte a second",
            Self::Everything => "everything of one link",
        }
    }

    /// Returns true if somebody has to be refused.
    pub(crate) const fn refuses(self) -> bool {
        match self {
            Self::Sockets
            | Self::Credit
            | Self::Parts
            | Self::Queues
            | Self::Dropped
            | Self::Topics
            | Self::Questions => true,
            Self::Answers | Self::Bodies | Self::Everything => false,
        }
    }

    /// Returns the configuration of the server.
    pub(crate) fn config(self, is_short: bool) -> String {
        let memory = if is_short { 32 << 20 } else { 512 << 20_usize };
        let (links, detached) = if is_short { (2_000, 500) } else { (65_536, 65_536) };
        let topics = if is_short { 1_000 } else { 250_000 };
        // Nobody is stopped but by the limit of all memory, which is to be fair by itself.
        let own = match self {
            Self::Queues | Self::Credit | Self::Parts => 0,
            _ => memory / 4,
        };
        let detached_per_ip = 0;
        let topics_per_ip = topics / 10;
        format!(
            "trusted_proxies = [\"127.0.0.1\"]\napi_key = \"{KEY}\"\nshards = 2\n\
             http_timeout_ms = 2000\n\
             [limits]\nlinks = {links}\ndetached = {detached}\nmemory_bytes = {memory}\n\
             memory_bytes_per_ip = {own}\ndetached_per_ip = {detached_per_ip}\n\
             topics = {topics}\ntopics_per_ip = {topics_per_ip}\nhandshakes_per_s = 0\n\
             handshakes_per_s_per_ip = 0\n"
        )
    }

    /// Does the harm. Returns what is held when it is done.
    pub(crate) async fn attack(self, address: SocketAddr, is_short: bool) -> Outcome<Held> {
        let size = |short, long| if is_short { short } else { long };
        let links = match self {
            Self::Sockets => sockets(address, size(1, 4)).await?,
            Self::Credit => credit(address, size(4, 16)).await?,
            Self::Parts => parts(address, size(60, 900)).await?,
            Self::Answers => answers(address, size(2_000, 20_000)).await?,
            Self::Queues => queues(address, size(60, 520)).await?,
            Self::Dropped => dropped(address, size(2_000, 65_536)).await?,
            Self::Topics => topics(address, size(4, 245)).await?,
            Self::Questions => questions(address, size(4, 64)).await?,
            Self::Bodies => return bodies(address, size(100, 1_000)).await,
            Self::Everything => everything(address).await?,
        };
        Ok(Held::Links(links))
    }
}

impl Held {
    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Links(links) => links.iter().filter(|link| !link.is_over()).count(),
            Self::Streams(streams) => streams.len(),
        }
    }
}

/// Opens links. Those that are refused are left out.
async fn dial(address: SocketAddr, count: usize, reads: bool) -> Outcome<Vec<Attacker>> {
    let (mut all, mut links) = (JoinSet::new(), Vec::new());
    for number in 0..count {
        if number >= DIALLING
            && let Some(done) = all.join_next().await
        {
            links.extend(done??);
        }
        all.spawn(Attacker::dial(address, ATTACKER, reads));
    }
    while let Some(done) = all.join_next().await {
        links.extend(done??);
    }
    Ok(links)
}

async fn sockets(address: SocketAddr, links: usize) -> Outcome<Vec<Attacker>> {
    let mut links = dial(address, links, true).await?;
    let path = format!("/hoard?{}", "x".repeat(4_000));
    for link in &mut links {
        link.attach(64);
        for tab in 1..=64 {
            (1..=256).for_each(|socket| link.open(tab, socket, &path));
            link.flush().await;
        }
    }
    Ok(links)
}

async fn credit(address: SocketAddr, links: usize) -> Outcome<Vec<Attacker>> {
    let mut links = dial(address, links, true).await?;
    let text = "x".repeat(8_000);
    for link in &mut links {
        link.attach(8);
        for tab in 1..=8 {
            for socket in 1..=32 {
                link.open(tab, socket, "/hoard");
                (0..32).for_each(|_| link.send(tab, socket, &text));
                link.flush().await;
            }
        }
    }
    Ok(links)
}

async fn parts(address: SocketAddr, count: usize) -> Outcome<Vec<Attacker>> {
    const LEN: u64 = 1 << 20;
    let part = vec![0; 900 << 10];
    let mut links = Vec::new();
    for _ in 0..count {
        for mut link in dial(address, 1, true).await? {
            // A binary frame that is not the last one of its message.
            link.raw(&[0x02, 0x80 | 127]);
            link.raw(&LEN.to_be_bytes());
            link.raw(&[0; 4]);
            link.raw(&part);
            link.flush().await;
            links.push(link);
        }
    }
    Ok(links)
}

async fn answers(address: SocketAddr, rounds: usize) -> Outcome<Vec<Attacker>> {
    let mut links = dial(address, 4, true).await?;
    for link in &mut links {
        link.attach(16);
        for round in 1..=u32::try_from(rounds)? {
            (1..=16).for_each(|tab| link.open(tab, round, "/nowhere"));
            if round % 16 == 0 {
                link.flush().await;
            }
            if link.is_over() {
                break;
            }
        }
    }
    Ok(links)
}

async fn queues(address: SocketAddr, count: usize) -> Outcome<Vec<Attacker>> {
    let mut links = dial(address, count, false).await?;
    for link in &mut links {
        link.attach(8);
        (1..=8).for_each(|tab| link.open(tab, 1, "/flood"));
        link.flush().await;
    }
    // What comes together with an OPEN comes before the socket is open.
    sleep(Duration::from_millis(500)).await;
    for link in &mut links {
        (1..=8).for_each(|tab| link.send(tab, 1, "go"));
        link.flush().await;
    }
    sleep(Duration::from_secs(2)).await;
    Ok(links)
}

async fn dropped(address: SocketAddr, count: usize) -> Outcome<Vec<Attacker>> {
    let mut left = count;
    while left > 0 {
        let links = dial(address, left.min(DIALLING), false).await?;
        left -= links.len().min(left);
        for mut link in links {
            link.attach(1);
            // A session in which nothing happened is not kept.
            link.open(1, 1, "/echo");
            link.flush().await;
        }
    }
    Ok(Vec::new())
}

async fn topics(address: SocketAddr, count: usize) -> Outcome<Vec<Attacker>> {
    let mut links = dial(address, count, true).await?;
    for (number, link) in links.iter_mut().enumerate() {
        link.attach(1);
        for topic in 0..1_024 {
            link.subscribe(&format!("topic {topic} of {number}"));
        }
        link.flush().await;
    }
    Ok(links)
}

async fn questions(address: SocketAddr, count: usize) -> Outcome<Vec<Attacker>> {
    let mut links = dial(address, count, true).await?;
    for link in &mut links {
        link.attach(8);
        for tab in 1..=8 {
            (1..=256).for_each(|socket| link.open(tab, socket, "/silent"));
            link.flush().await;
        }
    }
    Ok(links)
}

async fn bodies(address: SocketAddr, count: usize) -> Outcome<Held> {
    let head = format!(
        "POST /tabmux/api/publish HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {KEY}\r\n\
         X-Forwarded-For: {ATTACKER}\r\nContent-Type: application/json\r\n\
         Content-Length: 1000\r\n\r\n"
    );
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(head.as_bytes()).await?;
        streams.push(stream);
    }
    for _ in 0..5 {
        sleep(Duration::from_secs(1)).await;
        for stream in &mut streams {
            // The server may have closed it.
            let _ = timeout(Duration::from_secs(1), stream.write_all(b" ")).await;
        }
    }
    Ok(Held::Streams(streams))
}

async fn everything(address: SocketAddr) -> Outcome<Vec<Attacker>> {
    let mut links = dial(address, 1, true).await?;
    let text = "x".repeat(1_000);
    for link in &mut links {
        link.attach(64);
        for tab in 1..=64 {
            for socket in 1..=256 {
                let path = if socket % 16 == 0 { "/silent" } else { "/hoard" };
                link.open(tab, socket, path);
            }
            link.flush().await;
        }
        for tab in 1..=64 {
            (1..=256).for_each(|socket| link.send(tab, socket, &text));
            link.flush().await;
        }
        (0..1_024).for_each(|topic| link.subscribe(&format!("topic {topic}")));
        link.raw(&[0x02, 0x80 | 127]);
        link.raw(&(1_u64 << 20).to_be_bytes());
        link.raw(&vec![0; 4 + (900 << 10)]);
        link.flush().await;
    }
    Ok(links)
}
