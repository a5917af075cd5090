//! The ways to host a hub: which one it is, that tabs share whichever it is, and who follows when
//! the tab that hosts it goes.

use std::time::Duration;

use serde_json::{Value, json};
use tabmux_e2e::{
    Result,
    browser::{Kind, Tab},
    context::{Context, RECONNECT, SOON},
    engine::Engine,
    paths,
    runner::Test,
    server::LinkServer,
    wait::{self, equal},
};

use crate::steps::{Outcome, ask, hub_of, ignored, link_lock, one_link};

pub(crate) const TESTS: &[Test] = &[
    Test::new("tiers: leader: three tabs have one connection", leader_shares),
    Test::new("tiers: leader: it closes, and another tab leads", leader_closes),
    Test::new("tiers: leader: it goes to another page, and another tab leads", leader_parks),
    Test::new("tiers: leader: its last tab leaves", leader_leaves),
    Test::new("tiers: leader: it is silent, and loses the lock to one tab", leader_silent),
    Test::new("tiers: leader: its lock is stolen, and it ends its worker", leader_robbed),
    Test::new("tiers: leader: messages without meaning are counted and harm nobody", garbage),
    Test::new("tiers: storage: three tabs have one connection", storage_shares),
    Test::new("tiers: storage: it closes, and another tab leads", storage_closes),
    Test::new("tiers: storage: its page is blocked, and its hub goes on", storage_blocked),
    Test::new("tiers: storage: tabs that open together have one leader", storage_together),
    // WebKitGTK fires storage events only without its driver, as it runs here.
    Test::crashing("tiers: storage: without BroadcastChannel", storage_without_channel),
    Test::new("tiers: direct: each tab has a connection of its own", direct),
    Test::new("tiers: no secure context: a SharedWorker without locks", insecure_shared_worker),
    Test::new("tiers: no secure context, no SharedWorker: storage", insecure_storage),
    Test::new("tiers: no secure context, two tiers: none takes the other's session", insecure_mix),
    Test::new("tiers: without SharedWorker a tab leads", without_shared_worker),
    Test::new("tiers: a tab without SharedWorker joins those that have one", joins_worker),
    Test::new("tiers: tabs with SharedWorker join one that leads without", joins_leader),
    Test::new("tiers: the holder of the link's lock is silent, and loses it", silent_holder),
    Test::new("tiers: bfcache: prefer", prefer),
    Test::without_storage("tiers: where storage is refused each tab has a connection", refused),
    Test::new("tiers: a sandboxed page, which may do nothing, is told so", sandboxed),
];

/// Connects a client called `client` with these options and opens an echo socket.
pub(crate) fn connect(
    context: &mut Context<'_>,
    server: &LinkServer,
    tab: &Tab,
    options: &str,
) -> Result<()> {
    context.run(tab, format!("T.client('client', '{}', {options})", server.url("/")))?;
    context.run(tab, "await T.state('client', 'connected')")?;
    open(context, server, tab, "echo", options)
}

pub(crate) fn open(
    context: &mut Context<'_>,
    server: &LinkServer,
    tab: &Tab,
    name: &str,
    options: &str,
) -> Result<()> {
    context.run(tab, format!("T.mux('{name}', '{}', {options})", server.url("/echo")))?;
    context.run(tab, format!("await T.until('{name}', 'open')")).map(drop)
}

/// Opens `page` in `count` tabs and connects each.
pub(crate) fn share(
    context: &mut Context<'_>,
    server: &LinkServer,
    count: usize,
    page: &str,
    tier: &str,
) -> Result<Vec<Tab>> {
    let options = forced(tier);
    let mut tabs = Vec::new();
    for index in 0..count {
        let kind = if index == 2 { Kind::Window } else { Kind::Tab };
        let tab = context.page(kind, page)?;
        connect(context, server, &tab, &options)?;
        expect_tier(context, &tab, tier)?;
        tabs.push(tab);
    }
    one_link(server, count)?;
    Ok(tabs)
}

pub(crate) fn forced(tier: &str) -> String {
    format!("{{ tiers: ['{tier}'] }}")
}

pub(crate) fn expect_tier(context: &mut Context<'_>, tab: &Tab, tier: &str) -> Result<()> {
    equal("tier", context.run(tab, "T.get('client').status.tier")?, json!(tier))?;
    if context.run(tab, "T.has('echo')")? == json!(true) {
        equal("tier", context.run(tab, "T.get('echo').tier")?, json!(tier))?;
    }
    Ok(())
}

/// Messages of the tab's echo socket in both directions, and one from a tab to all tabs.
fn converse(
    context: &mut Context<'_>,
    server: &LinkServer,
    tabs: &[Tab],
    tier: &str,
) -> Result<()> {
    for (index, tab) in tabs.iter().enumerate() {
        ask(context, tab, "echo", &format!("tab {index}"))?;
        context.run(tab, "T.get('echo').send(new Uint8Array([1, 2, 255]))")?;
        let both = context.run(tab, "await T.messages('echo', 2)")?;
        equal("bytes", both[1].clone(), json!("ArrayBuffer [1 2 255]"))?;
    }
    let (url, options) = (server.url("/demo/notify"), forced(tier));
    context.run(&tabs[0], format!("T.mux('notify', '{url}', {options})"))?;
    context.run(&tabs[0], "await T.until('notify', 'open')")?;
    context.run(&tabs[0], "T.get('notify').send('to everyone')")?;
    for tab in tabs {
        let messages = context.run(tab, "await T.messages('client')")?;
        let told = messages[0].as_str().is_some_and(|text| text.contains("to everyone"));
        equal("told", told, true)?;
    }
    Ok(())
}

/// One connection, and a hub that counts these tabs. What the server counts may for a while hold
/// the tabs of a hub that is gone as well.
pub(crate) fn one_connection(
    context: &mut Context<'_>,
    server: &LinkServer,
    tabs: &[Tab],
) -> Result<()> {
    for tab in tabs {
        context.run(tab, format!("await T.tabs('client', {})", tabs.len()))?;
    }
    server.wait_for_connections(1, SOON)
}

/// Which of the tabs has a worker of its own that runs.
pub(crate) fn leaders(context: &mut Context<'_>, tabs: &[Tab]) -> Result<Vec<usize>> {
    let running = context.run_all(tabs, "T.dedicated.length - T.terminated.length")?;
    Ok((0..tabs.len()).filter(|index| running[*index] != json!(0)).collect())
}

/// Waits until these tabs are connected to one and the same hub, which is not `before`, and one of
/// them leads; then a new socket works in each, over one link.
fn expect_follower(
    context: &mut Context<'_>,
    server: &LinkServer,
    tabs: &[Tab],
    before: &str,
    tier: &str,
) -> Outcome {
    for tab in tabs {
        wait::until("another hub", RECONNECT, || {
            let now = hub_of(context, tab)?;
            if now == before { Err(format!("still {now}")) } else { Ok(()) }
        })?;
        context.run(tab, "await T.state('client', 'connected')")?;
    }
    let hubs: Result<Vec<String>> = tabs.iter().map(|tab| hub_of(context, tab)).collect();
    let hubs = hubs?;
    equal("one hub", hubs.iter().all(|hub| *hub == hubs[0]), true)?;
    equal("leaders", leaders(context, tabs)?.len(), 1)?;
    for tab in tabs {
        open(context, server, tab, &format!("after {before}"), &forced(tier))?;
        ask(context, tab, &format!("after {before}"), "are you there")?;
    }
    one_connection(context, server, tabs)?;
    Ok(())
}

fn leader_shares(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = share(context, &server, 3, "page.html", "leader")?;
    equal("leaders", leaders(context, &tabs)?, vec![0])?;
    converse(context, &server, &tabs, "leader")?;
    Ok(())
}

fn leader_closes(context: &mut Context<'_>) -> Outcome {
    closes(context, "leader")
}

fn storage_closes(context: &mut Context<'_>) -> Outcome {
    closes(context, "storage")
}

fn closes(context: &mut Context<'_>, tier: &str) -> Outcome {
    let server = context.server()?;
    let mut tabs = share(context, &server, 3, "page.html", tier)?;
    for _ in 0..2 {
        let leader = leaders(context, &tabs)?[0];
        let hub = hub_of(context, &tabs[leader])?;
        context.browser.close(&tabs.remove(leader))?;
        expect_follower(context, &server, &tabs, &hub, tier)?;
    }
    Ok(())
}

/// Into the back/forward cache, where there is one for such a page; then it comes back.
fn leader_parks(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = share(context, &server, 3, "page.html", "leader")?;
    let hub = hub_of(context, &tabs[0])?;
    let elsewhere = context.pages.url("blank.html");
    context.browser.navigate(&tabs[0], &elsewhere)?;
    expect_follower(context, &server, &tabs[1..], &hub, "leader")?;
    context.browser.back(&tabs[0])?;
    context.run(&tabs[0], "await ready")?;
    let is_restored = context.run(&tabs[0], "T.has('client')")? == json!(true);
    // Firefox caches no page that has to do with a lock.
    equal("out of the cache", is_restored, context.engine != Engine::Firefox)?;
    if is_restored {
        context.run(&tabs[0], "await T.state('client', 'connected')")?;
        open(context, &server, &tabs[0], "back", &forced("leader"))?;
    } else {
        connect(context, &server, &tabs[0], &forced("leader"))?;
    }
    equal("hub", hub_of(context, &tabs[0])?, hub_of(context, &tabs[1])?)?;
    one_connection(context, &server, &tabs)?;
    Ok(())
}

fn leader_leaves(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = share(context, &server, 2, "page.html", "leader")?;
    let hub = hub_of(context, &tabs[0])?;
    // Not the page goes but all that it had open.
    context.run(&tabs[0], "(T.get('echo').close(), T.get('client').close())")?;
    expect_follower(context, &server, &tabs[1..], &hub, "leader")?;
    context.run(&tabs[1], "T.get('client').close()")?;
    context.browser.close(&tabs[1])?;
    server.wait_for_connections(0, SOON)?;
    Ok(())
}

/// The name of the lock that leaders hold, as a follower knows it.
pub(crate) const LEADER_LOCK: &str = "(await navigator.locks.query()).held.concat((await \
     navigator.locks.query()).pending).find(({ name }) => name.startsWith('tabmux:leader:')).name";

/// What a frozen leader looks like to the others: the lock is held, and nobody answers.
fn leader_silent(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = share(context, &server, 3, "page.html", "leader")?;
    let hub = hub_of(context, &tabs[0])?;
    let idle = context.tab()?;
    context.run(
        &idle,
        format!(
            "(T.name = {LEADER_LOCK}, T.robbed = 0, T.held = new Promise((held) => \
             navigator.locks.request(T.name, {{ steal: true }}, () => (held(), new Promise(() => \
             0))).catch(() => T.robbed += 1)), await T.held, 1)"
        ),
    )?;
    // The leader, who was robbed, ends its worker; then somebody robs the tab that does nothing.
    wait::until("the silent holder to lose the lock", Duration::from_secs(25), || {
        equal("robbed", context.run(&idle, "T.robbed")?, json!(1))
    })?;
    expect_follower(context, &server, &tabs, &hub, "leader")?;
    Ok(())
}

fn leader_robbed(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = share(context, &server, 2, "page.html", "leader")?;
    let hub = hub_of(context, &tabs[0])?;
    // The thief gives it back at once, to whoever waits first.
    let steal =
        format!("await navigator.locks.request({LEADER_LOCK}, {{ steal: true }}, () => 'stolen')");
    context.run(&tabs[1], steal)?;
    wait::until("the end of the worker", SOON, || {
        equal("terminated", context.run(&tabs[0], "T.terminated.length")?, json!(1))
    })?;
    expect_follower(context, &server, &tabs, &hub, "leader")
}

fn garbage(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = share(context, &server, 2, "page.html", "leader")?;
    let hub = hub_of(context, &tabs[0])?;
    let post = format!(
        "((name) => {{
            const channel = new BroadcastChannel(name.replace(':leader:', ':'));
            const link = new BroadcastChannel('tabmux:socket:' + name.slice(14).split(' ')[0]);
            const garbage = [
                null, undefined, 0, 1n, 'retire', '', {{}}, [], [0n], [1n, null], [1n, []],
                [1n, [99]], [-1n, [0]], [2n ** 64n, [0]], [1n, [0, 2n, {{}}]], [1n, [0, 1n, {{}}]],
                [1n, 2, 3], [[]], [[1n]], [[], 0], [[], []], [[], null], [[], {{}}], [[], 'stays'],
                [[], [0n, 0]], [[], ['', 0, 0, 0, 0, '']], [[], [0n, NaN, 0, 0, 0, '']],
                [[], [0n, 0, 0, 0, 0, {{}}]], [[], [0n, 77, 0, 0, 0, '']], [[1], 'x'], [[{{}}]],
                new Uint8Array(3), new Map(), new Error('x'), 'x'.repeat(1e6),
                ...Array.from({{ length: 1000 }}, (_, n) => [BigInt(n), [5, 1]]),
            ];
            for (const message of garbage) {{
                channel.postMessage(message);
                link.postMessage(message);
            }}
            return garbage.length;
        }})({LEADER_LOCK})"
    );
    let idle = context.tab()?;
    let count = context.run(&idle, post)?;
    equal("posted", count.as_u64().is_some_and(|count| count > 1000), true)?;
    wait::until("most of it to be counted", SOON, || {
        let counts = ignored(context, &idle)?;
        equal("workers", counts.as_array().map(Vec::len), Some(1))?;
        equal("over 1000", counts[0].as_u64().is_some_and(|count| count > 1000), true)
    })?;
    converse(context, &server, &tabs, "leader")?;
    for tab in &tabs {
        equal("hub", hub_of(context, tab)?, hub.clone())?;
        let uncaught = "T.log.filter((line) => /^(uncaught|unhandled)/.test(line))";
        equal("errors", context.run(tab, uncaught)?, json!([]))?;
    }
    one_link(&server, 2)?;
    Ok(())
}

fn storage_shares(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = share(context, &server, 3, "page.html", "storage")?;
    equal("leaders", leaders(context, &tabs)?, vec![0])?;
    converse(context, &server, &tabs, "storage")?;
    Ok(())
}

/// The key of the lease.
const LEASE: &str = "Object.keys(localStorage).find((key) => key.startsWith('tabmux:leader:'))";

/// The page that leads cannot renew its lease, so that runs out. Its worker still speaks on the
/// channel: nobody leads besides it, and nobody is deaf.
fn storage_blocked(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = share(context, &server, 2, "page.html", "storage")?;
    let hub = hub_of(context, &tabs[0])?;
    context.run(
        &tabs[0],
        "(T.heard = T.dedicated[0].onmessage, T.dedicated[0].onmessage = null, 1)",
    )?;
    let lease = format!("localStorage.getItem({LEASE})");
    let name = |lease: &Value| lease.as_str().unwrap_or_default()[..16].to_owned();
    let holder = name(&context.run(&tabs[1], &lease)?);
    // It runs out after 5 s, and would be held by another 2.5 s after that.
    wait::until("the lease to be old", RECONNECT, || {
        let age = context.run(&tabs[1], format!("Date.now() - {lease}.split(':')[1]"))?;
        if age.as_u64() > Some(9000) { Ok(()) } else { Err(format!("it is {age} ms old")) }
    })?;
    equal("holder", name(&context.run(&tabs[1], &lease)?), holder)?;
    ask(context, &tabs[1], "echo", "is anybody there")?;
    equal("hub", hub_of(context, &tabs[1])?, hub)?;
    equal("workers of the other tab", context.run(&tabs[1], "T.dedicated.length")?, json!(0))?;
    context.run(&tabs[0], "(T.dedicated[0].onmessage = T.heard, 1)")?;
    one_link(&server, 2)?;
    Ok(())
}

fn storage_together(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(4)?;
    let url = server.url("/");
    let options = forced("storage");
    for tab in &tabs {
        context.run(tab, format!("T.client('client', '{url}', {options})"))?;
    }
    for tab in &tabs {
        context.run(tab, "await T.state('client', 'connected')")?;
    }
    equal("leaders", leaders(context, &tabs)?.len(), 1)?;
    equal("workers", context.run_all(&tabs, "T.dedicated.length")?, {
        let leader = leaders(context, &tabs)?[0];
        (0..4).map(|index| json!(u8::from(index == leader))).collect()
    })?;
    one_link(&server, 4)?;
    Ok(())
}

fn storage_without_channel(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let page = "page.html?without=BroadcastChannel";
    let mut tabs = share(context, &server, 3, page, "storage")?;
    converse(context, &server, &tabs, "storage")?;
    // Messages go: the lease is left, and the claim.
    let left = format!(
        "Object.keys(localStorage).filter((key) => key !== {LEASE})
           .map((key) => key.split('[')[0])"
    );
    let claim = json!([format!("tabmux:socket:mux:{}:", paths::build(&paths::assets()?)?)]);
    equal("what is left in localStorage", context.run(&tabs[1], left)?, claim)?;
    let hub = hub_of(context, &tabs[0])?;
    context.browser.close(&tabs.remove(0))?;
    expect_follower(context, &server, &tabs, &hub, "storage")
}

fn direct(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(2)?;
    for tab in &tabs {
        connect(context, &server, tab, &forced("direct"))?;
        expect_tier(context, tab, "direct")?;
    }
    server.wait_for_connections(2, SOON)?;
    for tab in &tabs {
        ask(context, tab, "echo", "alone")?;
        equal("tabs", context.run(tab, "T.get('client').status.tabs")?, json!(1))?;
    }
    // Its session is of use to no other page.
    let left = "Object.keys(localStorage).filter((key) => key.includes('direct'))";
    equal("claims", context.run(&tabs[0], left)?, json!([]))?;
    context.browser.close(&tabs[0])?;
    server.wait_for_connections(1, SOON)?;
    Ok(())
}

fn insecure_shared_worker(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let mut tabs = Vec::new();
    for _ in 0..3 {
        let tab = context.insecure_page(Kind::Tab, "page.html")?;
        equal("locks", context.run(&tab, "navigator.locks === undefined")?, json!(true))?;
        connect(context, &server, &tab, "{}")?;
        expect_tier(context, &tab, "shared-worker")?;
        tabs.push(tab);
    }
    one_link(&server, 3)?;
    converse(context, &server, &tabs, "shared-worker")?;
    Ok(())
}

fn insecure_storage(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let mut tabs = Vec::new();
    for _ in 0..3 {
        let tab = context.insecure_page(Kind::Tab, "page.html?without=SharedWorker")?;
        connect(context, &server, &tab, "{}")?;
        expect_tier(context, &tab, "storage")?;
        tabs.push(tab);
    }
    one_link(&server, 3)?;
    converse(context, &server, &tabs, "storage")?;
    let leader = leaders(context, &tabs)?[0];
    let hub = hub_of(context, &tabs[leader])?;
    context.browser.close(&tabs.remove(leader))?;
    expect_follower(context, &server, &tabs, &hub, "storage")
}

/// No lock keeps the hub of one tier from dialling while that of the other lives. Would a page find
/// the session of the other, both would take it over from each other for ever.
fn insecure_mix(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let first = context.insecure_page(Kind::Tab, "page.html")?;
    connect(context, &server, &first, "{ tiers: ['storage'] }")?;
    expect_tier(context, &first, "storage")?;
    let second = context.insecure_page(Kind::Tab, "page.html")?;
    connect(context, &server, &second, "{ tiers: ['shared-worker'] }")?;
    expect_tier(context, &second, "shared-worker")?;
    for tab in [&first, &second] {
        ask(context, tab, "echo", "are you there")?;
    }
    equal("sessions", server.stat("sessions")?, 2)?;
    equal("takeovers", server.stat("takeovers")?, 0)?;
    Ok(())
}

fn without_shared_worker(context: &mut Context<'_>) -> Outcome {
    falls_to_leader(context, 3, "page.html?without=SharedWorker")
}

fn falls_to_leader(context: &mut Context<'_>, count: usize, page: &str) -> Outcome {
    let server = context.server()?;
    let mut tabs = Vec::new();
    for _ in 0..count {
        let tab = context.page(Kind::Tab, page)?;
        connect(context, &server, &tab, "{}")?;
        expect_tier(context, &tab, "leader")?;
        tabs.push(tab);
    }
    one_link(&server, count)?;
    converse(context, &server, &tabs, "leader")?;
    Ok(())
}

fn joins_worker(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let first = context.tab()?;
    connect(context, &server, &first, "{}")?;
    let second = context.page(Kind::Tab, "page.html?broken")?;
    connect(context, &server, &second, "{}")?;
    expect_tier(context, &first, "shared-worker")?;
    expect_tier(context, &second, "leader")?;
    equal("hub", hub_of(context, &second)?, hub_of(context, &first)?)?;
    equal("own workers", context.run(&second, "T.dedicated.length")?, json!(0))?;
    one_link(&server, 2)?;
    // Where the SharedWorker goes with its last tab, the other leads; Chromium lets it live on.
    context.browser.close(&first)?;
    wait::until("a socket that answers", Duration::from_secs(25), || {
        let echo = format!("T.mux('again', '{}', {{}})", server.url("/echo"));
        context.run(&second, echo)?;
        context.run(
            &second,
            "await Promise.race([T.until('again', 'open'), T.until('again', 'close')])",
        )?;
        ask(context, &second, "again", "are you there")
    })?;
    one_connection(context, &server, &[second])?;
    Ok(())
}

fn joins_leader(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let first = context.page(Kind::Tab, "page.html?broken")?;
    connect(context, &server, &first, "{}")?;
    let second = context.tab()?;
    connect(context, &server, &second, "{}")?;
    equal("hub", hub_of(context, &second)?, hub_of(context, &first)?)?;
    expect_tier(context, &second, "leader")?;
    one_link(&server, 2)?;
    Ok(())
}

/// As another script of the build whose tabs are all frozen would be.
fn silent_holder(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let idle = context.tab()?;
    let lock = link_lock(&server)?;
    context.run(
        &idle,
        format!(
            "(T.robbed = 0, await new Promise((held) => navigator.locks.request({lock}, \
             () => (held(1), new Promise(() => 0))).catch(() => T.robbed += 1)))"
        ),
    )?;
    let tab = context.tab()?;
    connect(context, &server, &tab, "{}")?;
    equal("robbed", context.run(&idle, "T.robbed")?, json!(1))?;
    expect_tier(context, &tab, "shared-worker")?;
    one_link(&server, 1)?;
    Ok(())
}

fn prefer(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(2)?;
    for tab in &tabs {
        connect(context, &server, tab, "{ bfcache: 'prefer' }")?;
        expect_tier(context, tab, "shared-worker")?;
    }
    one_link(&server, 2)?;
    let elsewhere = context.pages.url("blank.html");
    context.browser.navigate(&tabs[1], &elsewhere)?;
    server.wait_for_tabs(1, SOON)?;
    context.browser.back(&tabs[1])?;
    context.run(&tabs[1], "await ready")?;
    equal("out of the cache", context.run(&tabs[1], "T.has('client')")?, json!(true))?;
    context.run(&tabs[1], "await T.state('client', 'connected')")?;
    open(context, &server, &tabs[1], "back", "{ bfcache: 'prefer' }")?;
    ask(context, &tabs[1], "back", "here again")?;
    one_link(&server, 2)?;
    Ok(())
}

/// The user has forbidden sites to keep data, and so SharedWorkers, locks and localStorage throw or
/// reject. Nothing else tells pages so: the objects are there.
fn refused(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(2)?;
    for tab in &tabs {
        let storage = "(() => { try { return !!localStorage; } catch { return 'refused'; } })()";
        equal("storage", context.run(tab, storage)?, json!("refused"))?;
        connect(context, &server, tab, "{}")?;
        equal("tier", context.run(tab, "T.get('client').status.tier")?, json!("direct"))?;
        ask(context, tab, "echo", "are you there")?;
    }
    server.wait_for_connections(2, SOON)?;
    Ok(())
}

/// Its origin is nobody else's, so there is no script of its own from which to make a worker.
fn sandboxed(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.page(Kind::Tab, "page.html?sandboxed")?;
    context.run(&tab, format!("T.client('client', '{}')", server.url("/")))?;
    // Firefox refuses a worker later than the others, and as if its script were missing.
    wait::until("the reason", SOON, || {
        let reason = context.run(&tab, "T.get('client').status.reason")?;
        let reason = reason.as_str().unwrap_or_default();
        equal("reason", reason.contains("Serve it from the page's own origin"), true)
    })?;
    Ok(())
}
