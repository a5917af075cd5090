//! `cargo xtask bench gateway`: what a gateway costs beside nginx and haproxy, with one upstream
//! that echoes. A browser has fifteen tabs: one link at tabmux, fifteen WebSockets at the others.
//! docs/benchmarks.md says what is measured.

#![expect(clippy::wildcard_enum_match_arm, reason = "a benchmark looks at few of many kinds")]
#![forbid(unsafe_code)]

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use tabmux_core::wire::{
    Hello, HubFrame, HubId, LaneCount, NEWEST_VERSION, Payload, ServerFrame, SocketId, TabId,
    Upstream,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, accept_async_with_config, connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

/// Tabs of a browser.
const TABS: u64 = 15;
/// Browsers that memory is measured over: from the first number to the second.
const SLOPE: [usize; 2] = [50, 200];
/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_secs(2);

type Ws = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A proxy that is measured.
struct Proxy {
    name: &'static str,
    child: Child,
    address: SocketAddr,
    is_mux: bool,
}

/// The sockets of one browser. A number sent here is that of the tab that says something.
type Browser = mpsc::UnboundedSender<(u64, Arc<[u8]>)>;

/// The figures of one proxy.
struct Figures {
    name: &'static str,
    memory: f64,
    sockets: f64,
    /// By size of a message.
    cpu: Vec<f64>,
}

/// Sizes of messages, how many each tab sends, and the pause between two of a browser.
const LOADS: [(usize, u32, Duration); 3] = [
    (100, 100, Duration::from_millis(5)),
    (64 << 10, 4, Duration::from_millis(50)),
    (1 << 20, 1, Duration::from_millis(200)),
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let [tabmux, write @ ..] = &arguments[..] else { bail!("gateway TABMUX [FILE]") };
    let upstream = echo().await?;
    let folder = std::env::temp_dir().join(format!("tabmux-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let mut all = Vec::new();
    for name in ["tabmux", "nginx, 4k", "nginx", "haproxy"] {
        let proxy = Proxy::start(name, Path::new(tabmux), &folder, upstream).await;
        let Some(proxy) = proxy? else {
            eprintln!("     SKIPPED {name}: it is not installed");
            continue;
        };
        all.push(measure(proxy).await?);
    }
    fs::remove_dir_all(&folder)?;
    let table = table(&all);
    println!("{table}");
    for file in write {
        let text = fs::read_to_string(file)?;
        let (before, rest) = text.split_once("<!-- gateway -->\n").context("no place in FILE")?;
        let (_, after) = rest.split_once("<!-- /gateway -->").context("no end of it in FILE")?;
        fs::write(file, format!("{before}<!-- gateway -->\n{table}<!-- /gateway -->{after}"))?;
    }
    Ok(())
}

/// Starts the server behind all proxies.
async fn echo() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut ws) = accept_async_with_config(stream, Some(lean())).await else {
                    return;
                };
                while let Some(Ok(message)) = ws.next().await {
                    if message.is_close() || ws.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}

fn lean() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4 << 10).write_buffer_size(4 << 10)
}

impl Proxy {
    /// Starts a proxy; `None` if it is not there.
    async fn start(
        name: &'static str,
        tabmux: &Path,
        folder: &Path,
        upstream: SocketAddr,
    ) -> anyhow::Result<Option<Self>> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let config = folder.join("proxy.conf");
        let mut command = match name {
            "tabmux" => {
                fs::write(&config, TABMUX)?;
                let mut command = Command::new(tabmux);
                command.args(["gateway", "--log", "error", "--config"]).arg(&config);
                command.args(["--listen", &address.to_string()]);
                command.arg("--route").arg(format!("/=ws://{upstream}"));
                // The load generator is no browser, and shows no tickets.
                command.args(["--cookies", "link"]);
                command
            }
            "haproxy" => {
                fs::write(&config, haproxy(address, upstream))?;
                let mut command = Command::new("/usr/sbin/haproxy");
                command.arg("-f").arg(&config);
                command
            }
            _ => {
                let size = if name == "nginx" { "" } else { "proxy_buffer_size 4k;" };
                fs::write(&config, nginx(folder, address, upstream, size))?;
                let mut command = Command::new("/usr/sbin/nginx");
                command.arg("-c").arg(&config);
                command
            }
        };
        let program = PathBuf::from(command.get_program());
        if program.is_absolute() && !program.exists() {
            return Ok(None);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().with_context(|| format!("{}", program.display()))?;
        let this = Self { name, child, address, is_mux: name == "tabmux" };
        for _ in 0..200 {
            if TcpStream::connect(address).await.is_ok() {
                return Ok(Some(this));
            }
            sleep(Duration::from_millis(50)).await;
        }
        bail!("{name} does not listen")
    }

    /// Returns the ids of the processes of the gateway.
    fn pids(&self) -> Vec<u32> {
        let main = self.child.id();
        let path = format!("/proc/{main}/task/{main}/children");
        let children = fs::read_to_string(path).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).chain([main]).collect()
    }

    /// Its resident memory in bytes.
    fn memory(&self) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for pid in self.pids() {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            let kib = line.context("no Pss")?.trim().trim_end_matches(" kB").parse::<f64>()?;
            sum += kib * 1_024.0;
        }
        Ok(sum)
    }

    /// Its CPU time in seconds.
    fn cpu(&self) -> anyhow::Result<f64> {
        let mut nanos = 0.0;
        for pid in self.pids() {
            for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
                let text = fs::read_to_string(thread?.path().join("schedstat"))?;
                nanos += text.split(' ').next().context("no schedstat")?.parse::<f64>()?;
            }
        }
        Ok(nanos / 1e9)
    }

    /// Its sockets towards browsers.
    fn sockets(&self) -> anyhow::Result<usize> {
        let own = format!(":{:04X} ", self.address.port());
        let table = fs::read_to_string("/proc/net/tcp")?;
        let is_ours = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().map(|it| format!("{it} "));
            local.is_some_and(|it| it.ends_with(&own)) && fields.nth(1) == Some("01")
        };
        Ok(table.lines().filter(is_ours).count())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for pid in self.pids() {
            let _ = Command::new("kill").arg(pid.to_string()).status();
        }
        let _ = self.child.wait();
    }
}

async fn measure(proxy: Proxy) -> anyhow::Result<Figures> {
    let heard = Arc::<AtomicU64>::default();
    let mut browsers = Vec::new();
    let mut at = Vec::new();
    for count in SLOPE {
        while browsers.len() < count {
            browsers.push(browser(&proxy, &heard).await?);
        }
        sleep(SETTLE).await;
        at.push(proxy.memory()?);
    }
    let more = (SLOPE[1] - SLOPE[0]) as f64 * TABS as f64;
    let memory = (at[1] - at[0]) / more / 1_024.0;
    let sockets = proxy.sockets()? as f64 / browsers.len() as f64;
    let mut cpu = Vec::new();
    for (size, each, pause) in LOADS {
        browsers.truncate(if size > 1_000 { 10 } else { SLOPE[1] });
        cpu.push(load(&proxy, &browsers, &heard, (size, each, pause)).await?);
    }
    eprintln!("     {}: {memory:.2} KiB, {sockets:.2} sockets, {cpu:.2?} µs", proxy.name);
    Ok(Figures { name: proxy.name, memory, sockets, cpu })
}

/// Has each tab send so many messages, and waits for their echoes. Returns microseconds of CPU for
/// each message, of which an echo is one.
async fn load(
    proxy: &Proxy,
    browsers: &[Browser],
    heard: &AtomicU64,
    (size, each, pause): (usize, u32, Duration),
) -> anyhow::Result<f64> {
    let bytes = Arc::<[u8]>::from(vec![b'x'; size]);
    let (before, from) = (proxy.cpu()?, heard.load(Ordering::Relaxed));
    let speakers = browsers.iter().enumerate().map(|(index, browser)| {
        let (browser, bytes) = (browser.clone(), Arc::clone(&bytes));
        tokio::spawn(async move {
            // Browsers do not speak all at once.
            sleep(pause * index as u32 / 200).await;
            for _ in 0..each {
                for tab in 0..TABS {
                    let _ = browser.send((tab, Arc::clone(&bytes)));
                    sleep(pause).await;
                }
            }
        })
    });
    for speaker in speakers.collect::<Vec<_>>() {
        speaker.await?;
    }
    let wanted = u64::from(each) * TABS * browsers.len() as u64;
    let end = Instant::now() + PATIENCE;
    while heard.load(Ordering::Relaxed) - from < wanted {
        let there = heard.load(Ordering::Relaxed) - from;
        ensure!(Instant::now() < end, "{}: {there} echoes of {wanted}", proxy.name);
        sleep(Duration::from_millis(10)).await;
    }
    Ok((proxy.cpu()? - before) / (2 * wanted) as f64 * 1e6)
}

/// Opens the sockets of a browser.
async fn browser(proxy: &Proxy, heard: &Arc<AtomicU64>) -> anyhow::Result<Browser> {
    let (sender, inbox) = mpsc::unbounded_channel();
    if proxy.is_mux {
        let url = format!("ws://{}/tabmux/ws", proxy.address);
        let (ws, _) = connect_async_with_config(url, Some(lean()), true).await?;
        let ws = timeout(PATIENCE, open_tabs(ws)).await??;
        tokio::spawn(link(ws, inbox, Arc::clone(heard)));
        return Ok(sender);
    }
    let mut sinks = Vec::new();
    for _ in 0..TABS {
        let url = format!("ws://{}/echo", proxy.address);
        let (ws, _) = connect_async_with_config(url, Some(lean()), true).await?;
        let (sink, mut stream) = ws.split();
        let heard = Arc::clone(heard);
        tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                heard.fetch_add(u64::from(message.is_binary()), Ordering::Relaxed);
            }
        });
        sinks.push(sink);
    }
    tokio::spawn(plain(sinks, inbox));
    Ok(sender)
}

/// Sends what the tabs of a browser say, each on its own WebSocket.
async fn plain(
    mut sinks: Vec<SplitSink<Ws, Message>>,
    mut inbox: mpsc::UnboundedReceiver<(u64, Arc<[u8]>)>,
) {
    while let Some((tab, bytes)) = inbox.recv().await {
        if let Some(sink) = sinks.get_mut(tab as usize) {
            let _ = sink.send(Message::binary(bytes.to_vec())).await;
        }
    }
}

/// Opens a socket for each tab of a link.
async fn open_tabs(mut ws: Ws) -> anyhow::Result<Ws> {
    let (min_version, max_version, hub) = (NEWEST_VERSION, NEWEST_VERSION, HubId(1));
    let hello = Hello { min_version, max_version, hub, resume: None, credentials: "" };
    say(&mut ws, &HubFrame::Hello(hello)).await?;
    let mut open = 0;
    while open < TABS {
        let Some(Ok(Message::Binary(bytes))) = ws.next().await else { bail!("the link closed") };
        match ServerFrame::decode(&bytes)? {
            ServerFrame::Welcome(_) => {
                for tab in 1..=TABS {
                    say(&mut ws, &HubFrame::Attach { tab: TabId(tab), last: 0 }).await?;
                }
            }
            ServerFrame::Attached { alias, .. } => {
                let (up, socket) = (Upstream { tab: alias, n: 1 }, SocketId(1));
                let (path, protocols, ticket) = ("/echo", Vec::new(), "");
                let credit = u64::MAX;
                let open = HubFrame::Open { up, socket, credit, path, protocols, ticket };
                say(&mut ws, &open).await?;
            }
            ServerFrame::Opened { .. } => open += 1,
            ServerFrame::Rejected(rejected) => bail!("{}", rejected.message),
            _ => {}
        }
    }
    Ok(ws)
}

async fn say(ws: &mut Ws, frame: &HubFrame<'_>) -> anyhow::Result<()> {
    Ok(ws.send(Message::binary(frame.to_bytes())).await?)
}

/// The link of a browser: sends what tabs say, counts echoes, and acknowledges as hubs do.
async fn link(
    mut ws: Ws,
    mut inbox: mpsc::UnboundedReceiver<(u64, Arc<[u8]>)>,
    heard: Arc<AtomicU64>,
) {
    let mut sent = [1_u64; TABS as usize + 1];
    // ATTACHED is not counted, OPENED is the first of each lane.
    let (mut got, mut unsaid) = ([1_u64; TABS as usize + 1], 0);
    loop {
        tokio::select! {
            said = inbox.recv() => {
                let Some((tab, bytes)) = said else { return };
                let tab = tab as usize + 1;
                sent[tab] += 1;
                let up = Upstream { tab: tabmux_core::wire::Alias(tab as u32), n: sent[tab] };
                let payload = Payload::Binary(&bytes);
                let data = HubFrame::Data { up, socket: SocketId(1), payload };
                if say(&mut ws, &data).await.is_err() {
                    return;
                }
            }
            message = ws.next() => {
                let Some(Ok(Message::Binary(bytes))) = message else { return };
                let Ok(frame) = ServerFrame::decode(&bytes) else { return };
                if let Some(count) = frame.lane().and_then(|lane| got.get_mut(lane as usize)) {
                    *count += 1;
                    unsaid += bytes.len();
                }
                heard.fetch_add(
                    u64::from(matches!(frame, ServerFrame::Data { .. })),
                    Ordering::Relaxed,
                );
                if unsaid > 16 << 10 {
                    unsaid = 0;
                    let lanes = (1..=TABS as usize)
                        .map(|lane| LaneCount { lane: lane as u32, count: got[lane] })
                        .collect();
                    if say(&mut ws, &HubFrame::Ack { lanes, aside: Vec::new() }).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn table(all: &[Figures]) -> String {
    let names = all.iter().map(|it| it.name).collect::<Vec<_>>().join(" | ");
    let mut text = format!("| what | unit | {names} | target |\n");
    text += &format!("| --- | --- |{} --- |\n", " ---: |".repeat(all.len()));
    let mut row = |what: &str, unit: &str, value: &dyn Fn(&Figures) -> f64, target: String| {
        let cells = all.iter().map(|it| format!("{:.2}", value(it))).collect::<Vec<_>>();
        text += &format!("| {what} | {unit} | {} | {target} |\n", cells.join(" | "));
    };
    let of = |name: &str| all.iter().find(|it| it.name == name);
    let verdict = |own: Option<f64>, other: Option<f64>, most: f64, what: &str| {
        let Some(ratio) = own.zip(other).map(|(own, other)| own / other) else {
            return String::new();
        };
        let met = if ratio <= most { "met" } else { "missed" };
        format!("{most} × {what}: {met} ({ratio:.2})")
    };
    let own = of("tabmux");
    let memory = |it: Option<&Figures>| it.map(|it| it.memory);
    let target = verdict(memory(own), memory(of("nginx, 4k")), 1.5, "nginx");
    row("a tab, its upstream socket included: memory", "KiB", &|it| it.memory, target);
    row("a browser of 15 tabs: sockets", "in the kernel", &|it| it.sockets, String::new());
    let others = all.iter().filter(|it| it.name != "tabmux").map(|it| it.cpu[0]);
    let least = others.min_by(f64::total_cmp);
    let target = verdict(own.map(|it| it.cpu[0]), least, 1.2, "the leaner");
    row("a message of 100 B", "µs CPU", &|it| it.cpu[0], target);
    row("a message of 64 KiB", "µs CPU", &|it| it.cpu[1], String::new());
    row("a message of 1 MiB", "µs CPU", &|it| it.cpu[2], String::new());
    text
}

/// No limits that the others have not, and room for a message of 1 MiB.
const TABMUX: &str = "\
shards = 2
[limits]
handshakes_per_s = 0
links_per_ip = 0
bytes_per_s = 0
messages_per_s = 0
message_bytes = 2097152
queue_bytes = 4194304
lane_bytes = 4194304
session_bytes = 33554432
absent_bytes = 4194304
credit_bytes = 4194304
";

fn nginx(folder: &Path, address: SocketAddr, upstream: SocketAddr, size: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log /dev/null;
        worker_rlimit_nofile 20000; user root;
        events {{ worker_connections 10000; }}
        http {{
            access_log off;
            server {{
                listen {address};
                location / {{
                    proxy_pass http://{upstream}; proxy_http_version 1.1; {size}
                    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
                    proxy_read_timeout 1h; proxy_send_timeout 1h;
                }}
            }}
        }}\n"
    )
}

fn haproxy(address: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "global\n  maxconn 8000\n  nbthread 2\ndefaults\n  mode http\n  timeout connect 10s\n  \
         timeout client 1h\n  timeout server 1h\n  timeout tunnel 1h\nfrontend f\n  \
         bind {address}\n  default_backend b\nbackend b\n  server s {upstream}\n"
    )
}
