//! `/metrics`: the numbers of a server, in the text form that Prometheus reads.

use std::{
    fmt::{Display, Write},
    sync::atomic::Ordering,
};

use tabmux_core::{
    feed::Keeping,
    session::{NumberKind, Stats},
};

use crate::{
    admission::{Admission, Cause},
    api, descriptors,
    gateway::{Gateway, Numbers},
    histogram::{BOUNDS, Histogram, Snapshot},
    judge::Room,
    shard::board::Board,
};

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Parts of a second in which Linux tells what a process used of a CPU, on every machine.
const TICKS: f64 = 100.0;

/// A number of the application.
pub(crate) struct Counter {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) read: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// Returns the numbers of this moment. `shared` is the memory that browsers share, and `keeping`
/// the history of topics.
pub(crate) fn text(
    board: &Board,
    (admission, room): (&Admission, Option<&Room>),
    (shared, keeping): (usize, Keeping),
    broker: &[(&str, u64)],
    api: &api::Counts,
    (gateway, counters): (&Gateway, &[Counter]),
) -> String {
    let mut page = Page(String::with_capacity(8 << 10));
    page.stats(&board.stats());
    let help = "Memory of topics and of publications that browsers share, each counted once.";
    page.one(NumberKind::Gauge, "tabmux_shared_bytes", help, shared);
    page.history(keeping);
    let help = "Times that a link was read later, for limits.messages_per_s or bytes_per_s.";
    page.one(NumberKind::Counter, "tabmux_link_pauses_total", help, board.pauses());
    let help = "From a publication, or another thing that a shard is sent, to the writes for it.";
    page.histogram("tabmux_publish_to_write_seconds", help, board.mail());
    page.door(admission);
    let help = "From the acceptance of a connection to its link.";
    page.histogram("tabmux_handshake_seconds", help, &admission.opening);
    page.judge(room);
    let help = "Calls of the broker that came to nothing.";
    page.many(NumberKind::Counter, "tabmux_broker_failures_total", help, broker);
    let help = "Requests of the HTTP API, by what they came to.";
    page.labelled("tabmux_api_requests_total", help, "result", &api.requests());
    let help = "Publications that the HTTP API took.";
    page.one(NumberKind::Counter, "tabmux_api_publications_total", help, api.published());
    let name = "tabmux_build_info";
    page.head(NumberKind::Gauge, name, "1, with the version of the server.");
    page.sample(name, Some(("version", env!("CARGO_PKG_VERSION"))), 1);
    page.gateway(gateway);
    page.tickets(gateway);
    for Counter { name, help, read } in counters {
        page.one(NumberKind::Counter, name, help, read());
    }
    page.one(
        NumberKind::Gauge,
        "tabmux_uptime_seconds",
        "Since the start.",
        board.uptime().as_secs(),
    );
    page.process();
    page.0
}

struct Page(String);

impl Page {
    /// The numbers of sessions. Those of one metric follow one another.
    fn stats(&mut self, stats: &Stats) {
        let mut metric = "";
        for number in stats.numbers() {
            if number.metric != metric {
                metric = number.metric;
                self.head(number.kind, metric, number.help);
            }
            self.sample(metric, number.label, number.sample);
        }
    }

    fn history(&mut self, keeping: Keeping) {
        use NumberKind::{Counter, Gauge};
        let help = "Memory of the history of topics.";
        self.one(Gauge, "tabmux_history_bytes", help, keeping.bytes);
        let help = "Publications that are kept for browsers that are away.";
        self.one(Gauge, "tabmux_history_publications", help, keeping.publications);
        let help = "Publications that were dropped because limits.history_bytes was reached.";
        self.one(Counter, "tabmux_history_evicted_total", help, keeping.evicted);
    }

    fn door(&mut self, admission: &Admission) {
        use NumberKind::{Counter, Gauge};
        let quota = admission.quota();
        let help = "Links that were let in.";
        self.one(Counter, "tabmux_admitted_total", help, admission.admitted());
        let help = "Connections that were not served, by limit or reason.";
        let reasons = Cause::ALL.map(|cause| (cause.name(), admission.refused(cause)));
        self.many(Counter, "tabmux_refused_total", help, &reasons);
        let help = "Links that may be open.";
        self.one(Gauge, "tabmux_links_limit", help, quota.links);
        let help = "Connections that have not yet said what they want.";
        let count = admission.handshakes.load(Ordering::Relaxed);
        self.one(Gauge, "tabmux_handshakes", help, count);
        let help = "Connections for HTTP.";
        let count = admission.http.load(Ordering::Relaxed);
        self.one(Gauge, "tabmux_http_connections", help, count);
        let help = "1 while the server sends its links away, or is about to.";
        self.one(Gauge, "tabmux_draining", help, u8::from(admission.is_leaving()));
    }

    /// The judge of the application. Without one all numbers are 0.
    fn judge(&mut self, room: Option<&Room>) {
        let [asked, cached, withdrawn] = room.map_or([0; 3], Room::counts);
        let help = "Clients that are being judged, or wait for it.";
        self.one(NumberKind::Gauge, "tabmux_judging", help, room.map_or(0, Room::open));
        let name = "tabmux_judge_answers_total";
        self.head(NumberKind::Counter, name, "Questions that were answered, by whom.");
        self.sample(name, Some(("from", "judge")), asked);
        self.sample(name, Some(("from", "memory")), cached);
        let help = "Questions whose client left before they were answered.";
        self.one(NumberKind::Counter, "tabmux_judge_withdrawn_total", help, withdrawn);
    }

    /// The sockets that other servers serve. Without routes, those of each route have no samples.
    fn gateway(&mut self, gateway: &Gateway) {
        use NumberKind::{Counter, Gauge};
        let help = "Sockets that got no connection to the server behind their path, by reason.";
        self.many(Counter, "tabmux_gateway_refused_total", help, &gateway.refused());
        let name = "tabmux_route_sockets";
        self.head(Gauge, name, "Sockets that are open at the servers behind a route.");
        for Numbers { prefix, open, .. } in gateway.numbers() {
            self.sample(name, Some(("route", prefix)), open);
        }
        let name = "tabmux_route_opened_total";
        self.head(Counter, name, "Sockets that the servers behind a route have opened.");
        for Numbers { prefix, opened, .. } in gateway.numbers() {
            self.sample(name, Some(("route", prefix)), opened);
        }
        let name = "tabmux_route_refused_total";
        self.head(Counter, name, "Sockets of a route that got no connection, by reason.");
        for Numbers { prefix, refused, .. } in gateway.numbers() {
            for (reason, count) in refused {
                self.line(format_args!("{name}{{route=\"{prefix}\",reason=\"{reason}\"}} {count}"));
            }
        }
    }

    /// What became of tickets, by which browsers show their cookies.
    fn tickets(&mut self, gateway: &Gateway) {
        let (count, fates) = gateway.tickets();
        let help = "Tickets that count: sockets that wait for the browser to show its cookies.";
        self.one(NumberKind::Gauge, "tabmux_tickets", help, count);
        let help = "Tickets, by what became of them.";
        self.labelled("tabmux_tickets_total", help, "fate", &fates);
    }

    /// The process, by the names that every Prometheus client gives; what the system does not
    /// tell is left out.
    fn process(&mut self) {
        use NumberKind::{Counter, Gauge};
        if let Some(bytes) = resident() {
            self.one(Gauge, "process_resident_memory_bytes", "Memory.", bytes);
        }
        if let Some(seconds) = cpu() {
            self.one(Counter, "process_cpu_seconds_total", "CPU time.", seconds);
        }
        if let Some(open) = open_files() {
            self.one(Gauge, "process_open_fds", "Open files, links included.", open);
        }
        if let Some(limit) = descriptors::limit() {
            self.one(Gauge, "process_max_fds", "The limit of open files.", limit);
        }
    }

    fn one(&mut self, kind: NumberKind, name: &str, help: &str, value: impl Display) {
        self.head(kind, name, help);
        self.sample(name, None, value);
    }

    fn many(&mut self, kind: NumberKind, name: &str, help: &str, values: &[(&str, u64)]) {
        self.head(kind, name, help);
        for (reason, value) in values {
            self.sample(name, Some(("reason", reason)), value);
        }
    }

    fn labelled(&mut self, name: &str, help: &str, key: &str, values: &[(&str, u64)]) {
        self.head(NumberKind::Counter, name, help);
        for (label, value) in values {
            self.sample(name, Some((key, label)), value);
        }
    }

    fn sample(&mut self, name: &str, label: Option<(&str, &str)>, value: impl Display) {
        match label {
            Some((key, label)) => self.line(format_args!("{name}{{{key}=\"{label}\"}} {value}")),
            None => self.line(format_args!("{name} {value}")),
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        let Snapshot { within, count, seconds } = histogram.snapshot();
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} histogram"));
        for (bound, within) in BOUNDS.iter().zip(within) {
            self.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {within}"));
        }
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        self.line(format_args!("{name}_sum {seconds}\n{name}_count {count}"));
    }

    fn head(&mut self, kind: NumberKind, name: &str, help: &str) {
        let kind = match kind {
            NumberKind::Counter => "counter",
            NumberKind::Gauge => "gauge",
        };
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

fn cpu() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in the second field may hold anything; what follows its end is numbers.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut used = fields.split(' ').skip(11).map(|ticks| ticks.parse::<f64>().ok());
    Some((used.next()?? + used.next()??) / TICKS)
}

fn open_files() -> Option<u64> {
    let folder = std::path::Path::new("/proc/self/fd");
    // Newer kernels tell the number as the folder's size; older ones must be counted out.
    match std::fs::metadata(folder).ok()?.len() {
        0 => Some(std::fs::read_dir(folder).ok()?.count() as u64),
        count => Some(count),
    }
}
