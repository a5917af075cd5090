//! `/metrics`: the numbers of a server, in the text form that Prometheus reads.

use std::{
    fmt::{Display, Write},
    sync::atomic::Ordering,
};

use tabmux_core::session::Stats;

use crate::{
    admission::{Admission, Cause},
    descriptors,
    shard::Board,
};

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Parts of a second in which Linux tells what a process used of a CPU, on every machine.
const TICKS: f64 = 100.0;

/// What a number is: it grows, or it goes up and down.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// The numbers of this moment.
pub(crate) fn text(board: &Board, admission: &Admission) -> String {
    let mut page = Page(String::with_capacity(8 << 10));
    page.stats(&board.stats());
    let help = "Times that a link was read later, for limits.messages_per_s or bytes_per_s.";
    page.one(Kind::Counter, "tabmux_link_pauses_total", help, board.pauses());
    page.door(admission);
    page.one(Kind::Gauge, "tabmux_uptime_seconds", "Since the start.", board.uptime().as_secs());
    page.process();
    page.0
}

struct Page(String);

impl Page {
    fn stats(&mut self, stats: &Stats) {
        // Without `..`: a number that is not here does not compile.
        let Stats {
            links,
            sessions,
            tabs,
            awaited,
            parked,
            sockets,
            awaiting_credit,
            topics,
            subscriptions,
            queued_bytes,
            messages_in,
            messages_out,
            publications,
            deliveries,
            subscriptions_refused,
            slow_subscriptions,
            dropped_replaced,
            dropped_recover,
            dropped_gap,
            protocol_errors,
            refused,
            tabs_refused,
            sockets_refused,
            bad_opens,
            queue_full,
            absent_full,
            no_credit,
            too_large,
            over_credit,
            handshake_timeouts,
            heartbeat_timeouts,
            not_reading,
            kept_bytes,
            detached,
            resumed,
            takeovers,
            expired,
            evicted,
            stale,
            forged,
            foreign,
            set_aside,
            stalled,
        } = *stats;
        use Kind::{Counter, Gauge};
        self.one(Gauge, "tabmux_links", "Links, those before HELLO included.", links);
        self.one(Gauge, "tabmux_sessions", "Sessions.", sessions);
        let help = "Sessions that have lost their link and wait for another one.";
        self.one(Gauge, "tabmux_sessions_detached", help, detached);
        let help = "Sessions that went on with another link, of the same hub or of another.";
        let reasons = [("reconnect", resumed - takeovers), ("takeover", takeovers)];
        self.many(Counter, "tabmux_sessions_resumed_total", help, "reason", &reasons);
        let help = "Sessions without a link that ended: nobody came in time, or limits.";
        let reasons = [("expired", expired), ("evicted", evicted)];
        self.many(Counter, "tabmux_sessions_ended_total", help, "reason", &reasons);
        let help = "Claims of a session that were refused: an old term, another token or user.";
        let reasons = [("stale", stale), ("forged", forged), ("foreign", foreign)];
        self.many(Counter, "tabmux_claims_refused_total", help, "reason", &reasons);
        let help = "Tabs without which lane 0 was acknowledged.";
        self.one(Counter, "tabmux_tabs_set_aside_total", help, set_aside);
        let help = "Tabs forgotten because they left a full lane as it was for a minute.";
        self.one(Counter, "tabmux_tabs_stalled_total", help, stalled);
        self.one(Gauge, "tabmux_tabs", "Tabs that are there.", tabs);
        let help = "Tabs whose session has lost its link, and that have not attached since.";
        self.one(Gauge, "tabmux_tabs_awaited", help, awaited);
        self.one(Gauge, "tabmux_tabs_parked", "Tabs in the back/forward cache.", parked);
        self.one(Gauge, "tabmux_sockets", "Virtual sockets.", sockets);
        let help = "Virtual sockets with more to send than their page gave credit for.";
        self.one(Gauge, "tabmux_sockets_awaiting_credit", help, awaiting_credit);
        let help = "Topics that a browser is subscribed to; each shard counts its own.";
        self.one(Gauge, "tabmux_topics", help, topics);
        let help = "Subscriptions of browsers to topics.";
        self.one(Gauge, "tabmux_subscriptions", help, subscriptions);
        let help = "Bytes that wait for hubs to read.";
        self.one(Gauge, "tabmux_queued_bytes", help, queued_bytes);
        let help = "Bytes that are kept for hubs until they acknowledge them.";
        self.one(Gauge, "tabmux_kept_bytes", help, kept_bytes);
        let help = "Publications, counted by each shard where a browser wants them.";
        self.one(Counter, "tabmux_publications_total", help, publications);
        let help = "Publications sent, one for each link.";
        self.one(Counter, "tabmux_deliveries_total", help, deliveries);
        let help = "Publications dropped for hubs that did not read fast enough, by policy.";
        let reasons = [
            ("keep_latest", dropped_replaced),
            ("recover", dropped_recover),
            ("drop", dropped_gap),
        ];
        self.many(Counter, "tabmux_publications_dropped_total", help, "reason", &reasons);
        let help =
            "Subscriptions refused: limits.subscriptions, limits.topics, or the topic's name.";
        self.one(Counter, "tabmux_subscriptions_refused_total", help, subscriptions_refused);
        let help = "Subscriptions ended because their hub did not read fast enough.";
        self.one(Counter, "tabmux_slow_subscriptions_total", help, slow_subscriptions);
        let help = "Messages of virtual sockets that came.";
        self.one(Counter, "tabmux_messages_in_total", help, messages_in);
        let help = "Messages of virtual sockets that were sent.";
        self.one(Counter, "tabmux_messages_out_total", help, messages_out);
        let help = "OPEN of numbers that are in use, which are ignored.";
        self.one(Counter, "tabmux_bad_opens_total", help, bad_opens);
        let help = "Messages that were not sent, by reason.";
        let reasons = [
            ("queue_full", queue_full),
            ("absent_full", absent_full),
            ("no_credit", no_credit),
            ("too_large", too_large),
        ];
        self.many(Counter, "tabmux_messages_refused_total", help, "reason", &reasons);
        let help = "Links that the server closed, by reason.";
        let reasons = [
            ("handshake_timeout", handshake_timeouts),
            ("heartbeat_timeout", heartbeat_timeouts),
            ("not_reading", not_reading),
            ("protocol_error", protocol_errors),
        ];
        self.many(Counter, "tabmux_links_closed_total", help, "reason", &reasons);
        let help = "HELLO that was refused: another version, draining.";
        self.one(Counter, "tabmux_hellos_refused_total", help, refused);
        let help = "Tabs refused for limits.tabs.";
        self.one(Counter, "tabmux_tabs_refused_total", help, tabs_refused);
        let help = "Virtual sockets refused for limits.sockets.";
        self.one(Counter, "tabmux_sockets_refused_total", help, sockets_refused);
        let help = "Virtual sockets closed because their page sent without credit.";
        self.one(Counter, "tabmux_sockets_over_credit_total", help, over_credit);
    }

    fn door(&mut self, admission: &Admission) {
        use Kind::{Counter, Gauge};
        let quota = admission.quota();
        let help = "Links that were let in.";
        self.one(Counter, "tabmux_admitted_total", help, admission.admitted());
        let help = "Connections that were not served, by limit or reason.";
        let reasons = Cause::ALL.map(|cause| (cause.name(), admission.refused(cause)));
        self.many(Counter, "tabmux_refused_total", help, "reason", &reasons);
        let help = "Links that may be open.";
        self.one(Gauge, "tabmux_links_limit", help, quota.links);
        let help = "Connections that have not yet said what they want.";
        let count = admission.handshakes.load(Ordering::Relaxed);
        self.one(Gauge, "tabmux_handshakes", help, count);
        let help = "Connections for HTTP.";
        let count = admission.http.load(Ordering::Relaxed);
        self.one(Gauge, "tabmux_http_connections", help, count);
        let help = "1 while the server sends its links away.";
        self.one(Gauge, "tabmux_draining", help, u8::from(admission.is_draining()));
    }

    /// The process, by the names that every Prometheus client gives; what the system does not
    /// tell is left out.
    fn process(&mut self) {
        use Kind::{Counter, Gauge};
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

    fn one(&mut self, kind: Kind, name: &str, help: &str, value: impl Display) {
        self.head(kind, name, help);
        self.line(format_args!("{name} {value}"));
    }

    fn many(&mut self, kind: Kind, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.head(kind, name, help);
        for (text, value) in values {
            self.line(format_args!("{name}{{{label}=\"{text}\"}} {value}"));
        }
    }

    fn head(&mut self, kind: Kind, name: &str, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
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
