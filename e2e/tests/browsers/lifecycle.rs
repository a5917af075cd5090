//! Every way to die, and what the user's code sees of it: the rows of docs/lifecycle.md.
//!
//! The pages are those of the chaos run: each has a client with a topic and a virtual socket, and
//! numbers on both, which both ends look at. *Unharmed* means: nothing lost, nothing twice, nothing
//! out of order, in both directions, and the socket open.

use std::{rc::Rc, time::Duration};

use serde_json::{Value, json};
use tabmux_e2e::{
    Result, Stop,
    browser::{Kind, Tab},
    context::{Context, RECONNECT, SOON},
    engine::Engine,
    proxy::{Proxy, Weather},
    runner::Test,
    server::LinkServer,
    wait::{self, equal},
};

use crate::steps::Outcome;

pub(crate) const TESTS: &[Test] = &[
    Test::new("a tab is closed: its sockets end at the server, all others go on", closed),
    Test::new("a page is loaded again: it begins anew, all others go on", reloaded),
    Test::new("the only page is loaded again: it begins anew", reloaded_alone),
    Test::new("a page goes to another page and comes back: it has missed nothing", cached),
    Test::new("every page is in the cache and one comes back: it has missed nothing", all_cached),
    Test::crashing("in the cache again and again, under many messages: it misses nothing", often),
    Test::new("a tab is frozen for a while: it has missed nothing", frozen),
    Test::new("the hub's lock is stolen: nobody misses anything", stolen),
    Test::new("a tab of another build opens, and the old ones go: nobody misses anything", builds),
    Test::new("the link is cut: nobody misses anything", cut),
    Test::new("the link is stalled for a while: nobody misses anything", stalled),
    Test::new("the link loses everything and then breaks: nobody misses anything", half_open),
    Test::new("no link is let in for a while: nobody misses anything", refused),
    Test::new("the server is killed: sockets close with 1006, topics tell a gap", killed),
    Test::new("the server ends by SIGTERM: sockets close with 1006, topics tell a gap", drained),
    Test::crashing("the worker ends and no tab: nobody misses anything", worker_ended),
    Test::crashing("a tab crashes: its sockets end at the server, all others go on", crashed),
    Test::crashing("the worker's process is killed: who lives misses nothing", worker_crashed),
    Test::crashing("the worker's process is killed thrice: who lives misses nothing", thrice),
    Test::crashing("a new page is first at the next worker: nobody misses anything", newcomer),
    Test::crashing("a new page is first, and all others are frozen: they miss nothing", thawed),
    Test::crashing("a new page is first, and all others are in the cache: they miss nothing", away),
    Test::crashing("mirror mode: the worker's process is killed, and each view told", mirror),
    Test::crashing("leader: the leading tab is closed: nobody misses anything", leader_closed),
    Test::crashing("leader: the leading tab crashes: nobody misses anything", leader_crashed),
    Test::crashing("storage: the leading tab is closed: nobody misses anything", storage_closed),
    Test::crashing("storage: the leading tab crashes: nobody misses anything", storage_crashed),
];

/// Some pages, the server and what is between them.
struct Stage {
    server: Rc<LinkServer>,
    proxy: Proxy,
    tabs: Vec<Tab>,
}

impl Stage {
    fn set(context: &mut Context<'_>, tabs: usize) -> Result<Self> {
        Self::set_in(context, tabs, "")
    }

    /// `query` may name a tier.
    fn set_in(context: &mut Context<'_>, tabs: usize, query: &str) -> Result<Self> {
        let server = context.numbers_server()?;
        let proxy = Proxy::watching(server.port())?;
        let mut stage = Self { server, proxy, tabs: Vec::new() };
        for _ in 0..tabs {
            let tab = context.page(Kind::Tab, &format!("chaos.html{query}"))?;
            stage.begin(context, &tab)?;
            if let Some(tier) = query.strip_prefix("?tier=") {
                equal("tier", &context.run(&tab, "C.report().tier")?, &json!(tier))?;
            }
            stage.tabs.push(tab);
        }
        Ok(stage)
    }

    /// Opens what a page shall have, and waits until numbers come.
    fn begin(&self, context: &mut Context<'_>, tab: &Tab) -> Result<()> {
        context.run(tab, "await ready")?;
        let link = format!("ws://127.0.0.1:{}", self.proxy.port());
        context.run(tab, format!("C.connect('{link}/')"))?;
        context.run(tab, "C.topic('chaos:0')")?;
        context.run(tab, format!("C.open(C.page, '{link}/stream?name=' + C.page)"))?;
        numbers_come(context, tab)
    }

    /// All tabs are unharmed, and they are all that there are; they share one connection.
    fn unharmed(&self, context: &mut Context<'_>) -> Result<()> {
        for tab in &self.tabs {
            unharmed(context, tab)?;
        }
        self.server.wait_for_rest(1, self.tabs.len() as u64, RECONNECT)?;
        self.server.wait_for_connections(1, RECONNECT)?;
        let log = self.server.log();
        let faults: Vec<&String> = log.iter().filter(|line| line.starts_with("fault:")).collect();
        equal("what the server found", faults, Vec::new())?;
        wait::until("links", SOON, || self.proxy.history(|history| history.settled(1)))?;
        let faults = self.proxy.history(|history| history.faults().to_vec());
        equal("what the links tell", faults, Vec::new())
    }
}

/// Waits for some numbers, on the socket and on the topic.
fn numbers_come(context: &mut Context<'_>, tab: &Tab) -> Result<()> {
    let counts = "C.report().counts";
    let before = context.run(tab, counts)?;
    wait::until("numbers to come", RECONNECT, || {
        let now = context.run(tab, counts)?;
        let grown = |name: &str| now[name].as_u64() > before[name].as_u64().map(|n| n + 5);
        let grow = grown("down") && grown("up") && grown("publications");
        if grow { Ok(()) } else { Err(format!("{before}, then {now}")) }
    })
}

/// Both ends have the same counts of the tab's socket, which is open; then it goes on.
fn unharmed(context: &mut Context<'_>, tab: &Tab) -> Result<()> {
    context.run(tab, "C.burst(C.page, 20)")?;
    numbers_come(context, tab)?;
    context.run(tab, "C.end()")?;
    let report = wait::until("both counts", RECONNECT, || {
        let report = context.run(tab, "C.report()")?;
        if report["streams"][0]["settled"] == true { Ok(report) } else { Err(report.to_string()) }
    })?;
    equal("faults", &report["faults"], &json!([]))?;
    equal("readyState", &report["streams"][0]["readyState"], &json!(1))?;
    context.run(tab, "C.go()").map(drop)
}

/// The page of a tab, which is another one when it was loaded again.
fn page_of(context: &mut Context<'_>, tab: &Tab) -> Result<Value> {
    context.run(tab, "await ready")?;
    context.run(tab, "C.page")
}

fn closed(context: &mut Context<'_>) -> Outcome {
    let mut stage = Stage::set(context, 3)?;
    context.browser.close(&stage.tabs.remove(1))?;
    stage.unharmed(context)?;
    // The first one had started the worker.
    context.browser.close(&stage.tabs.remove(0))?;
    stage.unharmed(context)?;
    one_stream_ended(&stage.server, 2)
}

fn one_stream_ended(server: &LinkServer, count: usize) -> Outcome {
    wait::until("the streams to end", SOON, || {
        let log = server.log();
        let closed = log.iter().filter(|line| line.starts_with("closed: "));
        equal("streams that ended", closed.count(), count)
    })?;
    Ok(())
}

fn reloaded(context: &mut Context<'_>) -> Outcome {
    let stage = Stage::set(context, 2)?;
    let before = page_of(context, &stage.tabs[0])?;
    context.browser.reload(&stage.tabs[0])?;
    stage.begin(context, &stage.tabs[0])?;
    if page_of(context, &stage.tabs[0])? == before {
        return Err("the page was not loaded again".into());
    }
    stage.unharmed(context)?;
    one_stream_ended(&stage.server, 1)
}

fn reloaded_alone(context: &mut Context<'_>) -> Outcome {
    let stage = Stage::set(context, 1)?;
    let before = page_of(context, &stage.tabs[0])?;
    context.browser.reload(&stage.tabs[0])?;
    stage.begin(context, &stage.tabs[0])?;
    if page_of(context, &stage.tabs[0])? == before {
        return Err("the page was not loaded again".into());
    }
    // WebKit's worker may go without a word: then the session waits for it before its sockets end.
    stage.unharmed(context)?;
    Ok(())
}

fn cached(context: &mut Context<'_>) -> Outcome {
    let stage = Stage::set(context, 2)?;
    until_restored(context, &stage, &stage.tabs[1])
}

fn all_cached(context: &mut Context<'_>) -> Outcome {
    let stage = Stage::set(context, 1)?;
    until_restored(context, &stage, &stage.tabs[0])
}

/// WebKit drops some of what was on its way to a page that leaves, and hands over the rest later.
fn often(context: &mut Context<'_>) -> Outcome {
    if context.engine != Engine::WebKit {
        return Err(Stop::Skipped("it keeps no page in the cache to which messages come".into()));
    }
    let stage = Stage::set(context, 2)?;
    for pause in 1..5 {
        let url =
            format!("ws://127.0.0.1:{}/stream?name={pause}&every={pause}", stage.proxy.port());
        context.run(&stage.tabs[0], format!("C.open('{pause}', '{url}')"))?;
    }
    for round in 0..8 {
        equal("restored", leave_and_return(context, &stage, &stage.tabs[0])?, true)?;
        numbers_come(context, &stage.tabs[0])?;
        let faults = context.run(&stage.tabs[0], "C.report().faults")?;
        equal(&format!("faults in round {round}"), faults, json!([]))?;
    }
    Ok(())
}

/// Leaves and comes back until the engine has kept the page. Chromium and Firefox drop one for
/// which a message was just on its way, so it may take some attempts.
fn until_restored(context: &mut Context<'_>, stage: &Stage, tab: &Tab) -> Outcome {
    for _ in 0..8 {
        let is_restored = leave_and_return(context, stage, tab)?;
        stage.unharmed(context)?;
        // A page that holds a lock is never kept in Firefox.
        equal("restored", is_restored && context.engine == Engine::Firefox, false)?;
        if is_restored || context.engine == Engine::Firefox {
            return Ok(());
        }
    }
    Err("the page was dropped each time".into())
}

/// Whether the page was restored; one that was not begins anew.
fn leave_and_return(context: &mut Context<'_>, stage: &Stage, tab: &Tab) -> Result<bool> {
    let before = page_of(context, tab)?;
    let away = context.pages.url("blank.html");
    context.browser.navigate(tab, &away)?;
    for other in stage.tabs.iter().filter(|other| *other != tab) {
        unharmed(context, other)?;
    }
    context.browser.back(tab)?;
    let is_restored = page_of(context, tab)? == before;
    if !is_restored {
        stage.begin(context, tab)?;
    }
    Ok(is_restored)
}

fn frozen(context: &mut Context<'_>) -> Outcome {
    let stage = Stage::set(context, 2)?;
    context.browser.freeze(&stage.tabs[1])?;
    unharmed(context, &stage.tabs[0])?;
    context.browser.thaw(&stage.tabs[1])?;
    stage.unharmed(context)?;
    Ok(())
}

fn stolen(context: &mut Context<'_>) -> Outcome {
    let stage = Stage::set(context, 2)?;
    let steal = "(async () => {
        const { held } = await navigator.locks.query();
        const hubs = held.map(({ name }) => name).filter((name) => name.includes(':hub:'));
        for (const name of hubs) await navigator.locks.request(name, { steal: true }, () => 0);
        return hubs.length;
    })()";
    equal("hubs", context.run(&stage.tabs[1], steal)?, json!(1))?;
    stage.unharmed(context)?;
    Ok(())
}

/// Each build has a worker of its own; both get their numbers, and one is left in the end.
fn builds(context: &mut Context<'_>) -> Outcome {
    let mut stage = Stage::set(context, 2)?;
    let next = context.page(Kind::Tab, "chaos.html?build=next")?;
    stage.begin(context, &next)?;
    for tab in stage.tabs.iter().chain([&next]) {
        unharmed(context, tab)?;
    }
    for old in std::mem::replace(&mut stage.tabs, vec![next]) {
        context.browser.close(&old)?;
    }
    stage.unharmed(context)?;
    Ok(())
}

fn cut(context: &mut Context<'_>) -> Outcome {
    let stage = Stage::set(context, 3)?;
    for _ in 0..3 {
        equal("connections cut", stage.proxy.cut(), 1)?;
        stage.unharmed(context)?;
    }
    Ok(())
}

fn stalled(context: &mut Context<'_>) -> Outcome {
    in_weather(context, Weather::Stalled)
}

fn half_open(context: &mut Context<'_>) -> Outcome {
    in_weather(context, Weather::HalfOpen)
}

fn refused(context: &mut Context<'_>) -> Outcome {
    in_weather(context, Weather::Refusing)
}

/// What is sent meanwhile is not lost.
fn in_weather(context: &mut Context<'_>, weather: Weather) -> Outcome {
    let stage = Stage::set(context, 3)?;
    stage.proxy.set(weather);
    if weather == Weather::Refusing {
        stage.proxy.cut();
    }
    for tab in &stage.tabs {
        context.run(tab, "C.burst(C.page, 50)")?;
    }
    if weather == Weather::HalfOpen {
        stage.proxy.cut();
    }
    stage.proxy.set(Weather::Fair);
    stage.unharmed(context)?;
    Ok(())
}

fn killed(context: &mut Context<'_>) -> Outcome {
    let stage = Stage::set(context, 2)?;
    stage.server.kill();
    stage.server.restart()?;
    expect_a_new_session(context, &stage)
}

fn drained(context: &mut Context<'_>) -> Outcome {
    let stage = Stage::set(context, 2)?;
    let status = stage.server.terminate(Duration::from_secs(20))?;
    equal("exit status", status.code(), Some(0))?;
    stage.server.restart()?;
    expect_a_new_session(context, &stage)
}

fn expect_a_new_session(context: &mut Context<'_>, stage: &Stage) -> Outcome {
    for tab in &stage.tabs {
        let report = wait::until("the socket to close and a gap", RECONNECT, || {
            let report = context.run(tab, "C.report()")?;
            let told = report["counts"]["gaps"] == 1 && report["streams"][0]["readyState"] == 3;
            if told { Ok(report) } else { Err(report.to_string()) }
        })?;
        equal("code", &report["streams"][0]["closed"]["code"], &json!(1006))?;
        equal("faults", &report["faults"], &json!([]))?;
        context.run(tab, "C.take()")?;
        let url = format!("ws://127.0.0.1:{}/stream?name=", stage.proxy.port());
        context.run(tab, format!("C.open(C.page, '{url}' + C.page)"))?;
    }
    stage.unharmed(context)?;
    Ok(())
}

fn worker_ended(context: &mut Context<'_>) -> Outcome {
    let stage = Stage::set(context, 3)?;
    equal("workers that ended", context.browser.end_workers()?, 1)?;
    stage.unharmed(context)?;
    Ok(())
}

fn crashed(context: &mut Context<'_>) -> Outcome {
    let mut stage = Stage::set(context, 3)?;
    let victim = stage.tabs.remove(2);
    let process = context.browser.process(&victim)?;
    if process.is_some() {
        for tab in &stage.tabs {
            if context.browser.process(tab)? == process {
                return Err(Stop::Skipped("the tabs share one process".into()));
            }
        }
    }
    context.browser.crash(&victim)?;
    stage.unharmed(context)?;
    one_stream_ended(&stage.server, 1)
}

fn worker_crashed(context: &mut Context<'_>) -> Outcome {
    let mut stage = Stage::set(context, 4)?;
    crash_worker(context, &mut stage)
}

fn thrice(context: &mut Context<'_>) -> Outcome {
    let mut stage = Stage::set(context, 5)?;
    for _ in 0..3 {
        crash_worker(context, &mut stage)?;
    }
    Ok(())
}

/// A page that had no hub asks for the next worker as soon as the old one is dead, before the
/// others do, which wait for a moment, and for longer while they are hidden.
fn newcomer(context: &mut Context<'_>) -> Outcome {
    let mut stage = Stage::set(context, 3)?;
    let hub = context.run(&stage.tabs[0], "C.report().hub")?;
    let tab = context.page(Kind::Tab, "chaos.html")?;
    context.run(&tab, "await ready")?;
    let link = format!("ws://127.0.0.1:{}", stage.proxy.port());
    let script = format!(
        "void navigator.locks.request('tabmux:hub:' + {hub}, {{ mode: 'shared' }}, () => {{
          setTimeout(() => {{
            C.connect('{link}/');
            C.topic('chaos:0');
            C.open(C.page, '{link}/stream?name=' + C.page);
          }}, 30);
        }})"
    );
    context.run(&tab, script)?;
    stage.tabs.push(tab.clone());
    let dead = context.browser.crash_worker(&stage.tabs)?.ok_or("no process runs a worker")?;
    stage.tabs.retain(|tab| !dead.contains(tab));
    if dead.contains(&tab) || stage.tabs.len() < 2 {
        return Err(Stop::Skipped("the pages died with the worker".into()));
    }
    numbers_come(context, &tab)?;
    stage.unharmed(context)?;
    Ok(())
}

/// The others, which the worker leaves behind, hold no lock of theirs for the next one to see.
fn thawed(context: &mut Context<'_>) -> Outcome {
    let mut stage = Stage::set(context, 3)?;
    for tab in &stage.tabs {
        context.browser.freeze(tab)?;
    }
    equal("workers that ended", context.browser.end_workers()?, 1)?;
    let tab = context.page(Kind::Tab, "chaos.html")?;
    stage.begin(context, &tab)?;
    equal("tabs at the next worker", context.run(&tab, "C.report().tabs")?, json!(1))?;
    for tab in &stage.tabs {
        context.browser.thaw(tab)?;
    }
    stage.tabs.push(tab);
    stage.unharmed(context)?;
    Ok(())
}

/// Any engine may drop a page: one that it kept goes on.
fn away(context: &mut Context<'_>) -> Outcome {
    let query = match context.engine {
        Engine::Chromium => "",
        // It freezes the worker, which goes on with the new page. One of the tab alone it drops.
        Engine::Firefox => "?bfcache=prefer",
        // It freezes it too, but for one of the tab alone, which ends.
        Engine::WebKit => "?tier=storage",
    };
    for _ in 0..8 {
        let mut stage = Stage::set_in(context, 1, query)?;
        let tab = stage.tabs[0].clone();
        let before = page_of(context, &tab)?;
        context.browser.navigate(&tab, &context.pages.url("blank.html"))?;
        if context.engine == Engine::Chromium {
            // That of a page which it dropped may be there as well.
            context.browser.end_workers()?;
        }
        let other = context.page(Kind::Tab, &format!("chaos.html{query}"))?;
        stage.begin(context, &other)?;
        context.browser.back(&tab)?;
        let is_restored = page_of(context, &tab)? == before;
        if is_restored {
            stage.tabs.push(other);
            stage.unharmed(context)?;
            return Ok(());
        }
        context.browser.close_all()?;
    }
    Err("the page was dropped each time".into())
}

fn crash_worker(context: &mut Context<'_>, stage: &mut Stage) -> Outcome {
    let dead = context.browser.crash_worker(&stage.tabs)?;
    let dead = dead.ok_or("no process runs a worker")?;
    stage.tabs.retain(|tab| !dead.contains(tab));
    if stage.tabs.is_empty() {
        return Err("no tab is left".into());
    }
    stage.unharmed(context)?;
    Ok(())
}

fn mirror(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let mut tabs = context.tabs(4)?;
    for tab in &tabs {
        context.run(tab, format!("T.shared('view', '{}')", server.url("/")))?;
        context.run(tab, "await T.until('view', 'open')")?;
    }
    let dead = context.browser.crash_worker(&tabs)?.ok_or("no process runs a worker")?;
    tabs.retain(|tab| !dead.contains(tab));
    if tabs.is_empty() {
        return Err("no tab is left".into());
    }
    for tab in &tabs {
        let closed = context.run(tab, "await T.until('view', 'close')")?;
        equal("code", &closed[0]["code"], &json!(1006))?;
    }
    Ok(())
}

fn leader_closed(context: &mut Context<'_>) -> Outcome {
    first_closed(context, "?tier=leader")
}

fn leader_crashed(context: &mut Context<'_>) -> Outcome {
    first_crashed(context, "?tier=leader")
}

fn storage_closed(context: &mut Context<'_>) -> Outcome {
    first_closed(context, "?tier=storage")
}

fn storage_crashed(context: &mut Context<'_>) -> Outcome {
    first_crashed(context, "?tier=storage")
}

/// The first tab leads.
fn first_closed(context: &mut Context<'_>, query: &str) -> Outcome {
    let mut stage = Stage::set_in(context, 3, query)?;
    context.browser.close(&stage.tabs.remove(0))?;
    stage.unharmed(context)?;
    context.browser.close(&stage.tabs.remove(0))?;
    stage.unharmed(context)?;
    Ok(())
}

fn first_crashed(context: &mut Context<'_>, query: &str) -> Outcome {
    let mut stage = Stage::set_in(context, 4, query)?;
    crash_worker(context, &mut stage)?;
    Ok(())
}
