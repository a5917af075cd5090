use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use super::{keys::Key, *};

/// What of a registry has no key.
const FIXED: [&str; 16] = [
    "links",
    "users",
    "window_bytes",
    "control_bytes",
    "slow_retry",
    "retry_after",
    "stall_timeout",
    "parked",
    "asks",
    "ask_timeout",
    "ask_bytes",
    "requests",
    "credentials",
    "ask_subscriptions",
    "history",
    "recall_bytes",
];

/// The configuration as a table of TOML.
fn example() -> toml::Table {
    toml::from_str(Config::EXAMPLE).unwrap()
}

/// The default of a key, as people write it; `None` if it is no number.
fn default_of(table: &toml::Table, key: &str) -> Option<String> {
    let value = table.get(key)?.as_integer()?;
    let unit = [(20, "MiB"), (10, "KiB")].into_iter().find(|(bits, _)| value % (1 << bits) == 0);
    let is_bytes = key.contains("bytes");
    Some(match unit {
        Some((bits, unit)) if is_bytes && value > 0 => format!("{} {unit}", value >> bits),
        _ => with_commas(value),
    })
}

fn with_commas(value: i64) -> String {
    let digits = value.to_string();
    let parts = digits.as_bytes().rchunks(3).rev();
    parts.map(|part| std::str::from_utf8(part).unwrap()).collect::<Vec<_>>().join(",")
}

/// Whether a text begins with a value that ends there. All texts begin with no value.
fn begins_with(text: &str, value: &str) -> bool {
    let rest = text.strip_prefix(value);
    rest.is_some_and(|rest| {
        value.is_empty()
            || matches!(rest, "" | ".")
            || rest.starts_with(' ')
            || rest.starts_with(", ")
    })
}

/// The keys of the example by their table, those that are commented out included.
fn written() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let is_key = |key: &str| key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let (mut written, mut table) = (BTreeMap::<_, BTreeSet<_>>::new(), "");
    for line in Config::EXAMPLE.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_matches(['[', ']']);
            written.entry("").or_default().insert(table);
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| is_key(key)) {
            assert!(written.entry(table).or_default().insert(key), "{key} is there twice");
        }
    }
    written
}

fn names(keys: &[Key]) -> BTreeSet<&str> {
    keys.iter().map(|key| key.name).collect()
}

/// What stands between backticks. Every second piece does.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A row of the table of limits in docs/operating.md.
struct Row {
    keys: Vec<&'static Key>,
    /// The table of TOML that has the keys.
    table: toml::Table,
    default: &'static str,
    metrics: BTreeSet<&'static str>,
}

/// The rows that are about keys.
fn documented() -> Vec<Row> {
    const PAGE: &str = include_str!("../../../../docs/operating.md");
    let (_, part) = PAGE.split_once("\n## Limits\n").unwrap();
    let rows = part.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| "));
    let rows = rows.map(|row| {
        let cells = row.split('|').map(str::trim).collect::<Vec<_>>();
        let ["", head, default, _, metrics, ""] = cells[..] else { panic!("{row}") };
        let top = example();
        let (keys, table) = match head.contains("top level") {
            true => (Config::KEYS, top),
            false => (Limits::KEYS, top["limits"].as_table().unwrap().clone()),
        };
        let known = |name| keys.iter().find(|key| key.name == name);
        let keys = code(head).map(|name| known(name).unwrap_or_else(|| panic!("no key {name}")));
        Row { keys: keys.collect(), table, default, metrics: code(metrics).collect() }
    });
    rows.filter(|row| !row.keys.is_empty()).collect()
}

#[test]
fn the_example_is_the_default() {
    assert_eq!(toml::from_str::<Config>(Config::EXAMPLE).unwrap(), Config::default());
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let written = written();
    assert_eq!(written[""], names(Config::KEYS));
    assert_eq!(written["limits"], names(Limits::KEYS));
}

#[test]
fn the_doc_of_a_number_ends_with_its_default() {
    let example = example();
    let limits = example["limits"].as_table().unwrap();
    for (table, keys) in [(&example, Config::KEYS), (limits, Limits::KEYS)] {
        for key in keys {
            let Some(default) = default_of(table, key.name) else { continue };
            let told = key.doc.rsplit_once("Default: ").map(|(_, told)| told);
            assert!(told.is_some_and(|told| begins_with(told, &default)), "{}", key.name);
        }
    }
}

#[test]
fn every_limit_is_documented_once() {
    let keys = documented().into_iter().flat_map(|row| row.keys).map(|key| key.name);
    let mut keys = keys.collect::<Vec<_>>();
    keys.sort_unstable();
    assert!(keys.is_sorted_by(|one, other| one < other), "{keys:?}");
    let wanted = Config::KEYS.iter().filter(|key| key.is_of_core || !key.metrics.is_empty());
    for key in wanted.chain(Limits::KEYS) {
        assert!(keys.contains(&key.name), "{}", key.name);
    }
}

#[test]
fn documented_limits_have_their_defaults_and_metrics() {
    for Row { keys, table, default, metrics } in documented() {
        let defaults = keys.iter().filter_map(|key| default_of(&table, key.name));
        let defaults = defaults.collect::<Vec<_>>().join(", ");
        assert!(begins_with(default, &defaults), "{}: {default} is {defaults}", keys[0].name);
        let wanted = keys.iter().flat_map(|key| key.metrics).copied().collect();
        assert_eq!(metrics, wanted, "{}", keys[0].name);
    }
}

#[test]
fn every_limit_of_a_registry_has_a_key_or_is_known_to_be_fixed() {
    let mut changed = example();
    let more = |table: &mut toml::Table| {
        for (_, value) in table.iter_mut() {
            if let toml::Value::Integer(value) = value {
                *value += 1;
            }
        }
    };
    more(&mut changed);
    more(changed["limits"].as_table_mut().unwrap());
    let session = |config: Config| format!("{:#?}", config.session(1));
    let (before, after) = (session(Config::default()), session(changed.try_into().unwrap()));
    let lines = before.lines().zip(after.lines()).filter(|(before, after)| before == after);
    let values = lines.filter_map(|(line, _)| line.trim().strip_suffix(',')?.split_once(": "));
    assert_eq!(values.map(|(key, _)| key).collect::<BTreeSet<_>>(), FIXED.into());
}

#[test]
fn shards_share_what_is_for_all_links() {
    let text = "[limits]\nmemory_bytes = 4000\ndetached = 5\nlane_bytes = 7";
    let session = toml::from_str::<Config>(text).unwrap().session(4);
    // Each registry is told what the others hold, so it knows the limit for all.
    assert_eq!((session.memory_bytes, session.detached_sessions), (4_000, 2));
    assert_eq!(session.lane_bytes, 7);
}

#[test]
fn the_default_has_no_fault() {
    assert!(Config::default().check().is_ok());
}

#[test]
fn a_limit_of_zero_is_refused_by_its_name() {
    let doors = ["links", "handshakes", "http_connections"];
    let rest = ["tabs", "sockets", "subscriptions", "topics"];
    let bytes = ["message_bytes", "queue_bytes", "inbox_bytes", "credit_bytes"];
    for key in doors.into_iter().chain(rest).chain(bytes) {
        let config = toml::from_str::<Config>(&format!("[limits]\n{key} = 0")).unwrap();
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(&format!("limits.{key}")), "{error}");
    }
}

#[test]
fn a_setting_without_effect_is_refused_by_its_name() {
    for (text, told) in [
        ("user_header = \"X User:\"\ntrusted_proxies = [\"::1\"]", "user_header: \"X User:\""),
        ("user_header = \"\"\ntrusted_proxies = [\"::1\"]", "user_header"),
        ("user_header = \"X-User\"", "user_header needs trusted_proxies"),
        ("metrics = false\nmetrics_listen = \"[::1]:1\"", "metrics_listen has no effect"),
        ("[limits]\ninbox_bytes = 1048575", "limits.inbox_bytes must be at least"),
        ("drain_min_ms = 3600001", "drain_min_ms must be at most 3600000"),
    ] {
        let config = toml::from_str::<Config>(text).unwrap();
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn a_server_may_listen_in_several_places() {
    let unix = ListenAddress::Unix("/run/t.sock".into());
    let v4 = ListenAddress::Tcp("127.0.0.1:3000".parse().unwrap());
    let proxied = Listen::from(ListenAddress::Tcp("[::]:1".parse().unwrap())).proxy_protocol(true);
    let with_mode = Listen { mode: Some(0o660), ..unix.clone().into() };
    for (text, expected) in [
        ("\"localhost:3000\"", vec![v4.clone().into()]),
        ("\"unix:/run/t.sock\"", vec![unix.into()]),
        ("{ address = \"[::]:1\", proxy_protocol = true }", vec![proxied.clone()]),
        (
            "[\"127.0.0.1:3000\", { address = \"unix:/run/t.sock\", mode = \"660\" }]",
            vec![v4.into(), with_mode],
        ),
    ] {
        let config = toml::from_str::<Config>(&format!("listen = {text}")).unwrap();
        assert_eq!(config.listen, expected, "{text}");
        let trusts = config.trusted_proxies(vec!["::1".to_owned()]);
        assert!(trusts.check().is_ok(), "{text}");
    }
    for (text, told) in [
        ("\"3456\"", "write it as 127.0.0.1:3000"),
        ("\"unix:\"", "write it as unix:/run/tabmux.sock"),
        ("7", "an address such as"),
        ("[[]]", "an address such as"),
        ("{ adress = \"[::]:1\" }", "adress"),
        ("{ address = \"unix:/a\", mode = \"888\" }", "three digits"),
        ("[]", "listen has no address"),
        ("[\"[::1]:1\", \"[::1]:1\"]", "listen has [::1]:1 twice"),
        ("{ address = \"[::1]:1\", mode = \"660\" }", "mode of [::1]:1 has no effect"),
        ("{ address = \"[::1]:1\", proxy_protocol = true }", "needs trusted_proxies"),
    ] {
        let config = toml::from_str::<Config>(&format!("listen = {text}"));
        let error = match config {
            Ok(config) => config.check().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(told), "{text}: {error}");
    }
}

#[test]
fn keys_that_differ_are_named() {
    let (one, other) = (Config::default(), Config::default().shards(7).metrics(false));
    assert_eq!(one.differences(&other), ["metrics", "shards"]);
    assert_eq!(one.differences(&one), [""; 0]);
}

#[test]
fn the_smallest_parts_of_all_sessions_fit_into_the_memory() {
    let check =
        |text: &str| toml::from_str::<Config>(&format!("[limits]\n{text}")).unwrap().check();
    assert!(
        check("links = 1000\ndetached = 24\nminimum_bytes = 100\nmemory_bytes = 102400").is_ok()
    );
    let few = "links = 1000\ndetached = 24\nminimum_bytes = 100\nmemory_bytes = 102399";
    let error = check(few).unwrap_err().to_string();
    assert!(error.contains("limits.memory_bytes must be at least limits.minimum_bytes"), "{error}");
    assert!(check("links = 1000000").is_err(), "the default of the memory is for fewer");
}

#[test]
fn the_address_of_the_metrics_is_read() {
    let config = toml::from_str::<Config>("metrics_listen = \"localhost:9000\"").unwrap();
    assert_eq!(config.metrics_listen, Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9000))));
    assert!(toml::from_str::<Config>("metrics_listen = \"9000\"").is_err());
}

#[test]
fn the_session_gets_what_the_file_says() {
    let text = "heartbeat_ms = 7\n[limits]\ntabs = 3\nsockets = 5";
    let session = toml::from_str::<Config>(text).unwrap().session(1);
    assert_eq!(session.heartbeat, Duration::from_millis(7));
    assert_eq!((session.tabs, session.sockets), (3, 5));
}
