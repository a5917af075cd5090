//! What a run has shown: a table for people, JSON for programs.

use std::fmt;

use serde::Serialize;

use super::tally::{Reasons, Tally};

/// What a run has shown.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The server.
    pub url: String,
    /// Whether ctrl-c ended the run early.
    pub interrupted: bool,
    /// Links.
    pub links: Links,
    /// Subscriptions.
    pub subscriptions: Subscriptions,
    /// What was published.
    pub publications: Publications,
    /// What came of it.
    pub deliveries: Deliveries,
    /// From publishing to the link, in microseconds; `null` without deliveries.
    pub latency_us: Option<Latency>,
    /// The server's process; `null` when it cannot be looked at.
    pub server: Option<ServerCost>,
    /// Why it cannot.
    pub server_unknown: Option<String>,
    /// This process.
    pub client: ClientCost,
}

/// Links.
#[derive(Clone, Debug, Serialize)]
pub struct Links {
    /// As many were to be opened.
    pub wanted: u64,
    /// Were open when all were answered.
    pub opened: u64,
    /// Attempts that failed, by reason; more than links are missing when some came back later.
    pub refused: Reasons,
    /// Broke later, by reason.
    pub lost: Reasons,
    /// Seconds that opening took.
    pub seconds: f64,
    /// Links opened per second.
    pub per_second: f64,
}

/// Subscriptions.
#[derive(Clone, Debug, Serialize)]
pub struct Subscriptions {
    /// Confirmed by the server.
    pub confirmed: u64,
    /// Refused or ended, by reason.
    pub refused: Reasons,
}

/// What was published.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Publications {
    /// Accepted by the server.
    pub accepted: u64,
    /// Not accepted, by reason.
    pub failed: Reasons,
    /// Accepted per second.
    pub per_second: f64,
    /// What `--rate` asked for.
    pub wanted_per_second: f64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Deliveries {
    /// One for each accepted publication and subscription to its topic.
    pub expected: u64,
    /// Came.
    pub received: u64,
    /// Did not come.
    pub lost: u64,
    /// Came again or out of order.
    pub repeated: u64,
    /// Came after something was silently left out.
    pub skipped: u64,
    /// Gaps that the server told of.
    pub gaps: u64,
    /// Deliveries per second.
    pub per_second: f64,
}

/// Quantiles, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Half are faster.
    pub p50: u64,
    /// Nine of ten are faster.
    pub p90: u64,
    /// All but one of a hundred are faster.
    pub p99: u64,
    /// The slowest.
    pub max: u64,
}

/// What the run cost the server's process.
#[derive(Clone, Debug, Serialize)]
pub struct ServerCost {
    /// Its number.
    pub pid: u32,
    /// Resident bytes before the links were opened.
    pub resident_before: u64,
    /// Resident bytes with all links, before anything was published.
    pub resident_with_links: u64,
    /// Resident bytes at the end.
    pub resident_after: u64,
    /// Bytes for each link, open and idle.
    pub bytes_per_link: f64,
    /// CPU for each link that was opened, in microseconds.
    pub cpu_us_per_link: f64,
    /// CPU for each delivery, in microseconds; `null` without deliveries.
    pub cpu_us_per_delivery: Option<f64>,
    /// CPU while publishing, in cores.
    pub cores: f64,
}

/// What the run cost this process.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ClientCost {
    /// CPU while publishing, in cores.
    pub cores: f64,
    /// More than 90 % of the one core that it can use: then speed and latency are its own.
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
            let text =
                format!("{lost} lost, {gaps} gaps told, {skipped} not told, {repeated} again");
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
                "warning: this program had no CPU left: the server can do more than this, and \
                 faster. Use fewer links or a lower rate, or run several of it"
            )?;
        }
        let Publications { per_second, wanted_per_second, .. } = self.publications;
        if !self.interrupted && per_second < wanted_per_second * 0.9 {
            writeln!(
                f,
                "warning: {wanted_per_second} publications a second were to be sent; the server \
                 answered too slowly for that. Try --burst"
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
