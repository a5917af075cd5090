//! The result of a run: a table for people, or JSON for programs.

use std::fmt;

use serde::Serialize;

use super::tally::{Reasons, Tally};

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The address of the server's WebSocket.
    pub url: String,
    /// True if ctrl-c ended the run early.
    pub interrupted: bool,
    /// How many links were opened, refused and lost.
    pub links: Links,
    /// How many subscriptions were confirmed and refused.
    pub subscriptions: Subscriptions,
    /// How many messages were published.
    pub publications: Publications,
    /// How many publications arrived at links.
    pub deliveries: Deliveries,
    /// Time from publishing to the arrival at a link, in microseconds. `null` if nothing arrived.
    pub latency_us: Option<Latency>,
    /// What the run cost the server. `null` if its process cannot be read.
    pub server: Option<ServerCost>,
    /// The reason why the server's process cannot be read.
    pub server_unknown: Option<String>,
    /// What the run cost this process.
    pub client: ClientCost,
}

/// How many links were opened, refused and lost.
#[derive(Clone, Debug, Serialize)]
pub struct Links {
    /// Number of links that were to be opened.
    pub wanted: u64,
    /// Number of links that were open after the last answer.
    pub opened: u64,
    /// Attempts that failed, by reason. There may be more than links are missing, because some came
    /// back later.
    pub refused: Reasons,
    /// Links that broke after they were open, by reason.
    pub lost: Reasons,
    /// Seconds that opening all links took.
    pub seconds: f64,
    /// Links that were opened per second.
    pub per_second: f64,
}

/// How many subscriptions were confirmed and refused.
#[derive(Clone, Debug, Serialize)]
pub struct Subscriptions {
    /// Subscriptions that the server confirmed.
    pub confirmed: u64,
    /// Subscriptions that the server refused or ended, by reason.
    pub refused: Reasons,
}

/// How many messages were published.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Publications {
    /// Publications that the server accepted.
    pub accepted: u64,
    /// Publications that the server did not accept, by reason.
    pub failed: Reasons,
    /// Publications that were accepted per second.
    pub per_second: f64,
    /// Publications per second that `--rate` asked for.
    pub wanted_per_second: f64,
}

/// How many publications arrived at links.
#[derive(Clone, Debug, Serialize)]
pub struct Deliveries {
    /// Expected deliveries: one for each accepted publication and each subscription to its topic.
    pub expected: u64,
    /// Deliveries that arrived at a link.
    pub received: u64,
    /// Expected deliveries that did not arrive.
    pub lost: u64,
    /// Deliveries that arrived twice or out of order.
    pub repeated: u64,
    /// Deliveries before which something was left out without a gap.
    pub skipped: u64,
    /// Gaps that the server reported.
    pub gaps: u64,
    /// Deliveries that arrived per second.
    pub per_second: f64,
}

/// Quantiles of the latency, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Half of the deliveries are faster.
    pub p50: u64,
    /// Nine of ten deliveries are faster.
    pub p90: u64,
    /// All but one delivery of a hundred are faster.
    pub p99: u64,
    /// The latency of the slowest delivery.
    pub max: u64,
}

/// What the run cost the server's process.
#[derive(Clone, Debug, Serialize)]
pub struct ServerCost {
    /// The number of the process.
    pub pid: u32,
    /// Resident bytes before the links were opened.
    pub resident_before: u64,
    /// Resident bytes with all links, before anything was published.
    pub resident_with_links: u64,
    /// Resident bytes at the end of the run.
    pub resident_after: u64,
    /// Bytes for each link that is open and idle.
    pub bytes_per_link: f64,
    /// CPU time for each link that was opened, in microseconds.
    pub cpu_us_per_link: f64,
    /// CPU time for each delivery, in microseconds. `null` if nothing was delivered.
    pub cpu_us_per_delivery: Option<f64>,
    /// CPU that was used while publishing, in cores.
    pub cores: f64,
}

/// What the run cost this process.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ClientCost {
    /// CPU that was used while publishing, in cores.
    pub cores: f64,
    /// True if this process used more than 90 % of the one core that it can use. Speed and latency
    /// are then limited by this process.
    pub bottleneck: bool,
}

impl Latency {
    pub(super) fn of(tally: &Tally) -> Option<Self> {
        let at = |quantile| tally.latency.value_at_quantile(quantile);
        (!tally.latency.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: tally.latency.max(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { links, subscriptions, publications, deliveries, .. } = self;
        let early = if self.interrupted { ", ended early" } else { "" };
        writeln!(f, "{}{early}", self.url)?;
        let opened =
            format!("{} of {}, {:.0} a second", links.opened, links.wanted, links.per_second);
        row(f, "links opened", &opened)?;
        reasons(f, "refused", &links.refused)?;
        reasons(f, "lost later", &links.lost)?;
        if subscriptions.confirmed > 0 || !subscriptions.refused.is_empty() {
            row(f, "subscriptions", &subscriptions.confirmed.to_string())?;
            reasons(f, "refused or ended", &subscriptions.refused)?;
            let Publications { accepted, per_second, .. } = publications;
            row(f, "publications", &format!("{accepted}, {per_second:.1} a second"))?;
            reasons(f, "failed", &publications.failed)?;
            let Deliveries { received, expected, per_second, .. } = deliveries;
            let text = format!("{received} of {expected}, {per_second:.0} a second");
            row(f, "deliveries", &text)?;
            let Deliveries { lost, repeated, skipped, gaps, .. } = deliveries;
            let text = format!(
                "{lost} lost, {gaps} gaps reported, {skipped} not reported, {repeated} repeated"
            );
            row(f, "  order and losses", &text)?;
        }
        if let Some(Latency { p50, p90, p99, max }) = self.latency_us {
            let [p50, p90, p99, max] = [p50, p90, p99, max].map(|us| us as f64 / 1e3);
            let text = format!("p50 {p50:.2}, p90 {p90:.2}, p99 {p99:.2}, max {max:.2} ms");
            row(f, "latency", &text)?;
        }
        self.cost(f)
    }
}

impl Report {
    fn cost(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.server_unknown {
            row(f, "server's cost", &format!("unknown: {why}"))?;
        }
        if let Some(cost) = &self.server {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let text = format!(
                "{:.1} MiB, with links {:.1}, at the end {:.1}; {:.2} KiB a link",
                mib(cost.resident_before),
                mib(cost.resident_with_links),
                mib(cost.resident_after),
                cost.bytes_per_link / 1024.0
            );
            row(f, "server's memory", &text)?;
            let each = cost.cpu_us_per_delivery.map(|us| format!(", {us:.2} µs a delivery"));
            let each = each.unwrap_or_default();
            let text =
                format!("{:.2} cores, {:.0} µs a link{each}", cost.cores, cost.cpu_us_per_link);
            row(f, "server's CPU", &text)?;
        }
        row(f, "this program's CPU", &format!("{:.2} cores", self.client.cores))?;
        if self.client.bottleneck {
            writeln!(
                f,
                "warning: this program had no CPU left, so the server can do more, and faster. \
                 Use fewer links or a lower rate, or run this program several times at once"
            )?;
        }
        let Publications { per_second, wanted_per_second, .. } = self.publications;
        if !self.interrupted && per_second < wanted_per_second * 0.9 {
            writeln!(
                f,
                "warning: the server answered too slowly to publish {wanted_per_second} messages a \
                 second. Try --burst"
            )?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    writeln!(f, "{name:<20}{text}")
}

fn reasons(f: &mut fmt::Formatter<'_>, name: &str, reasons: &Reasons) -> fmt::Result {
    reasons
        .iter()
        .try_for_each(|(why, count)| row(f, &format!("  {name}"), &format!("{count}: {why}")))
}
