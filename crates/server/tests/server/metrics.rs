//! `/metrics`.

use std::collections::{BTreeMap, BTreeSet};

use tabmux_core::wire::{Alias, Payload};
use tabmux_server::{Config, Server};
use tokio::net::TcpListener;

use super::support::{Hub, Running, get};

/// Names are for ever: dashboards and alerts have them.
const NAMES: [&str; 88] = [
    "process_cpu_seconds_total counter",
    "process_max_fds gauge",
    "process_open_fds gauge",
    "process_resident_memory_bytes gauge",
    "tabmux_account_subscriptions_refused_total counter",
    "tabmux_admitted_total counter",
    "tabmux_api_publications_total counter",
    "tabmux_api_requests_total counter",
    "tabmux_asks gauge",
    "tabmux_asks_overdue_total counter",
    "tabmux_asks_refused_total counter",
    "tabmux_bad_opens_total counter",
    "tabmux_broker_failures_total counter",
    "tabmux_build_info gauge",
    "tabmux_charged_bytes gauge",
    "tabmux_claims_refused_total counter",
    "tabmux_credentials_total counter",
    "tabmux_credentials_total{result} 2",
    "tabmux_deliveries_total counter",
    "tabmux_draining gauge",
    "tabmux_gateway_refused_total counter",
    "tabmux_gateway_refused_total{reason} 14",
    "tabmux_handshake_seconds histogram",
    "tabmux_handshakes gauge",
    "tabmux_hellos_refused_total counter",
    "tabmux_history_bytes gauge",
    "tabmux_history_evicted_total counter",
    "tabmux_history_publications gauge",
    "tabmux_http_connections gauge",
    "tabmux_judge_answers_total counter",
    "tabmux_judge_answers_total{from} 2",
    "tabmux_judge_withdrawn_total counter",
    "tabmux_judging gauge",
    "tabmux_kept_bytes gauge",
    "tabmux_link_pauses_total counter",
    "tabmux_links gauge",
    "tabmux_links_closed_total counter",
    "tabmux_links_limit gauge",
    "tabmux_log_lines_lost_total counter",
    "tabmux_messages_in_total counter",
    "tabmux_messages_out_total counter",
    "tabmux_messages_refused_total counter",
    "tabmux_publications_dropped_total counter",
    "tabmux_publications_recovered_total counter",
    "tabmux_publications_total counter",
    "tabmux_publish_to_write_seconds histogram",
    "tabmux_queued_bytes gauge",
    "tabmux_recoveries gauge",
    "tabmux_recovery_gaps_total counter",
    "tabmux_refused_total counter",
    "tabmux_route_opened_total counter",
    "tabmux_route_refused_total counter",
    "tabmux_route_sockets gauge",
    "tabmux_sessions gauge",
    "tabmux_sessions_detached gauge",
    "tabmux_sessions_ended_total counter",
    "tabmux_sessions_resumed_total counter",
    "tabmux_shared_bytes gauge",
    "tabmux_slow_subscriptions_total counter",
    "tabmux_sockets gauge",
    "tabmux_sockets_awaiting_credit gauge",
    "tabmux_sockets_over_credit_total counter",
    "tabmux_sockets_refused_total counter",
    "tabmux_subscriptions gauge",
    "tabmux_subscriptions_refused_total counter",
    "tabmux_subscriptions_revoked_total counter",
    "tabmux_tabs gauge",
    "tabmux_tabs_awaited gauge",
    "tabmux_tabs_parked gauge",
    "tabmux_tabs_refused_total counter",
    "tabmux_tabs_set_aside_total counter",
    "tabmux_tabs_stalled_total counter",
    "tabmux_tickets gauge",
    "tabmux_tickets_total counter",
    "tabmux_topics gauge",
    "tabmux_uptime_seconds gauge",
    // Of labels.
    "tabmux_api_requests_total{result} 6",
    "tabmux_broker_failures_total{reason} 3",
    "tabmux_build_info{version} 1",
    "tabmux_charged_bytes{kind} 9",
    "tabmux_claims_refused_total{reason} 3",
    "tabmux_links_closed_total{reason} 5",
    "tabmux_messages_refused_total{reason} 5",
    "tabmux_publications_dropped_total{reason} 3",
    "tabmux_refused_total{reason} 19",
    "tabmux_sessions_ended_total{reason} 2",
    "tabmux_sessions_resumed_total{reason} 2",
    "tabmux_tickets_total{fate} 5",
];

/// A page, each line of which was understood.
#[derive(Default)]
struct Page {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Page {
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let (mut page, mut helped) = (Self::default(), String::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').unwrap();
                assert!(!text.is_empty());
                name.clone_into(&mut helped);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, helped, "a type without help");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                assert!(page.types.insert(name.to_owned(), kind.to_owned()).is_none());
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.split_once('{').unwrap_or((series, ""));
                let plain = |c: char| c.is_ascii_lowercase() || c == '_';
                assert!(name.chars().all(plain) && page.metric(name) == helped, "{line}");
                let plain = |c: char| plain(c) || c.is_ascii_digit() || ".+I".contains(c);
                let label = labels.strip_suffix("\"}").and_then(|it| it.split_once("=\""));
                let is_plain =
                    |(key, value): (&str, &str)| (key.chars().chain(value.chars())).all(plain);
                assert!(labels.is_empty() || label.is_some_and(is_plain), "{line}");
                let value = value.parse().unwrap();
                assert!(page.samples.insert(series.to_owned(), value).is_none(), "{line}");
            }
        }
        page
    }

    /// The metric that has a sample of this name: that of a histogram has several.
    fn metric<'a>(&self, name: &'a str) -> &'a str {
        let parts = ["_bucket", "_sum", "_count"];
        let stem = parts.iter().find_map(|part| name.strip_suffix(part));
        let is_histogram = |stem: &&str| self.types.get(*stem).is_some_and(|it| it == "histogram");
        stem.filter(is_histogram).unwrap_or(name)
    }

    /// The names of the labels of a metric, one for each sample.
    fn labels<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let labels = self.samples.keys().filter_map(move |it| it.strip_prefix(name));
        labels.filter_map(|it| Some(it.strip_prefix('{')?.split_once('=')?.0))
    }

    fn counters(&self) -> impl Iterator<Item = (&String, f64)> {
        let counter = |series: &str| {
            let kind = &self.types[self.metric(series.split('{').next().unwrap())];
            matches!(kind.as_str(), "counter" | "histogram")
        };
        let samples = self.samples.iter().map(|(series, value)| (series, *value));
        samples.filter(move |(series, _)| counter(series))
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn its_names_are_these() {
    let server = Running::demo().await;
    let page = Page::parse(&get(server.address, "/metrics", "").await.body);
    let mut names = page.types.iter().map(|(name, kind)| format!("{name} {kind}"));
    let mut found = names.by_ref().collect::<BTreeSet<_>>();
    for name in page.types.keys() {
        let labels = page.labels(name).collect::<Vec<_>>();
        if let Some(label) = labels.first() {
            found.insert(format!("{name}{{{label}}} {}", labels.len()));
        }
    }
    assert_eq!(found, NAMES.map(str::to_owned).into());
}

#[tokio::test]
async fn every_line_is_understood_and_no_counter_goes_back() {
    let server = Running::demo().await;
    let response = get(server.address, "/metrics", "").await;
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let before = Page::parse(&response.body);
    let mut hub = Hub::with_socket(server.address, "/echo").await;
    hub.send(Alias(1), 1, Payload::Text("hello")).await;
    hub.text(Alias(1), 1).await;
    let during = Page::parse(&get(server.address, "/metrics", "").await.body);
    let gauges = ["tabmux_links", "tabmux_sessions", "tabmux_tabs", "tabmux_sockets"];
    assert_eq!(gauges.map(|name| during.samples[name]), [1.0; 4]);
    hub.leave(&[1]).await;
    server.stats(|stats| stats.links.open == 0).await;
    let after = Page::parse(&get(server.address, "/metrics", "").await.body);
    assert_eq!(gauges.map(|name| after.samples[name]), [0.0; 4]);
    let grown = ["admitted", "messages_in", "messages_out"];
    let grown = grown.map(|name| after.samples[&format!("tabmux_{name}_total")]);
    assert_eq!(grown, [1.0; 3]);
    for (older, newer) in [(&before, &during), (&during, &after)] {
        for (series, value) in older.counters() {
            assert!(newer.samples[series] >= value, "{series} went back");
        }
    }
}

#[tokio::test]
async fn it_may_have_a_listener_of_its_own_or_none() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let config = Config::default().metrics_listen(Some(free));
    let server = Running::start(Server::builder().config(config)).await;
    assert_eq!(get(server.address, "/metrics", "").await.status, 404);
    assert_eq!(get(free, "/metrics", "").await.status, 200);
    let config = Config::default().metrics(false);
    let server = Running::start(Server::builder().config(config)).await;
    assert_eq!(get(server.address, "/metrics", "").await.status, 404);
}

/// A part of docs/operating.md.
fn operating(title: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, part) = page.split_once(&format!("\n## {title}\n")).unwrap();
    part.split("\n## ").next().unwrap().to_owned()
}

/// What stands between backticks. Every second piece does.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_documented_metrics_are_those_that_are_served() {
    let server = Running::demo().await;
    let page = Page::parse(&get(server.address, "/metrics", "").await.body);
    let part = operating("Metrics");
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    let mut documented = BTreeSet::new();
    for (names, _) in rows {
        for name in code(&format!("`{names}")) {
            let (name, label) = match name.strip_suffix('}').and_then(|it| it.split_once('{')) {
                Some((name, label)) => (name, Some(label)),
                None => (name, None),
            };
            assert_eq!(label, page.labels(name).next(), "{name}");
            assert!(documented.insert(name.to_owned()), "{name} is there twice");
        }
    }
    let served = page.types.into_keys().collect::<BTreeSet<_>>();
    let differences = documented.symmetric_difference(&served).collect::<Vec<_>>();
    assert!(differences.is_empty(), "served or documented alone: {differences:?}");
}

/// Names of metrics in a text, which begin with `tabmux_` or `process_`.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    words.filter(|word| word.starts_with("tabmux_") || word.starts_with("process_")).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_dashboard_and_the_alerts_ask_for_metrics_that_are_served() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
    let [board, rules] = ["grafana.json", "alerts.yml"]
        .map(|file| std::fs::read_to_string(format!("{folder}/{file}")).unwrap());
    let json = serde_json::from_str::<serde_json::Value>(&board).unwrap();
    assert!(json["panels"].as_array().is_some_and(|panels| panels.len() > 6));
    let server = Running::demo().await;
    let page = Page::parse(&get(server.address, "/metrics", "").await.body);
    for text in [&board, &rules] {
        let names = named(text);
        assert!(names.len() > 6);
        for name in names {
            assert!(page.types.contains_key(page.metric(name)), "{name}");
        }
    }
}

#[tokio::test]
async fn openings_and_publications_are_timed() {
    let server = Running::demo().await;
    let mut hub = Hub::with_socket(server.address, "/echo").await;
    hub.subscribe(1, "prices").await;
    server.handle.publish("prices", Payload::Text("42")).await.unwrap();
    hub.next().await;
    // The turn that wrote it is over.
    hub.quiet().await;
    let page = Page::parse(&get(server.address, "/metrics", "").await.body);
    assert_eq!(page.samples["tabmux_handshake_seconds_count"], 1.0);
    for name in ["handshake", "publish_to_write"] {
        let count = page.samples[&format!("tabmux_{name}_seconds_count")];
        let all = page.samples[&format!("tabmux_{name}_seconds_bucket{{le=\"+Inf\"}}")];
        assert!(count >= 1.0 && all == count, "{name}: {count}, {all}");
        assert!(page.samples[&format!("tabmux_{name}_seconds_sum")] < 20.0, "{name}");
    }
}

#[tokio::test]
async fn every_metric_of_a_limit_is_served() {
    let server = Running::demo().await;
    let page = Page::parse(&get(server.address, "/metrics", "").await.body);
    let part = operating("Limits");
    let metrics = code(&part).filter(|code| code.starts_with("tabmux_")).collect::<Vec<_>>();
    assert!(metrics.len() > 30, "{metrics:?}");
    for metric in metrics {
        let found = page.samples.contains_key(metric) || page.types.contains_key(metric);
        assert!(found, "{metric}");
    }
}
