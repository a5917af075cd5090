//! The tab that hosts the hub goes, and nobody misses anything: sockets stay open, and numbered
//! messages that are under way all the time come back, each once and in order.

use std::time::Duration;

use serde_json::{Value, json};
use tabmux_e2e::{
    Result, Stop,
    browser::{Kind, Tab},
    context::{Context, SOON},
    engine::Engine,
    runner::Test,
    server::LinkServer,
    wait::{self, equal},
};

use crate::{
    steps::{Outcome, hub_of, link_lock, one_link},
    tiers::{LEADER_LOCK, connect, leaders, open, share},
};

pub(crate) const TESTS: &[Test] = &[
    Test::new("lossless tiers: the leader closes", leader_closes),
    Test::new("lossless tiers: the leader goes to another page and comes back", leader_parks),
    Test::new("lossless tiers: the leader loses its lock", leader_robbed),
    Test::new("lossless tiers: the leader's last socket closes, its page stays", leader_leaves),
    Test::new("lossless tiers: the leader is frozen, and thaws", leader_frozen),
    Test::new("lossless tiers: the holder of the lease closes", storage_closes),
    Test::new("lossless tiers: the holder of the lease is frozen, and thaws", storage_frozen),
    Test::new("lossless tiers: a page of its own is cached and comes back", direct_parks),
    Test::new("lossless tiers: the holder of the link's lock is robbed of it", link_lock_robbed),
];

/// Those that need a browser of their own.
pub(crate) const CRASHES: &[Test] = &[
    // WebKitGTK fires storage events only without its driver, as it runs here.
    Test::crashing("lossless tiers: without BroadcastChannel", storage_without_channel),
    Test::crashing("lossless tiers: the leader's process is killed", leader_crashes),
    Test::crashing("lossless tiers: the process of the lease's holder is killed", storage_crashes),
    Test::crashing("lossless tiers: without locks a killed tab is noticed", killed_without_locks),
];

/// Longer than the lease, or the watchdog of followers, and a handover.
const TAKEN_OVER: Duration = Duration::from_secs(25);

/// Starts a stream on the echo socket of each tab.
fn stream(context: &mut Context<'_>, tabs: &[Tab]) -> Result<()> {
    for tab in tabs {
        context.run(tab, "T.stream('echo')")?;
    }
    tabs.iter().try_for_each(|tab| goes_on(context, tab, SOON))
}

/// Waits until more messages have come back to `tab` than when it was asked.
fn goes_on(context: &mut Context<'_>, tab: &Tab, within: Duration) -> Result<()> {
    let got = "T.streams.echo.got";
    let before = context.run(tab, got)?.as_u64().unwrap_or_default();
    wait::until("the stream to go on", within, || {
        let now = context.run(tab, got)?.as_u64().unwrap_or_default();
        if now > before + 10 { Ok(()) } else { Err(format!("{now} messages came back")) }
    })
}

/// The streams go on with another hub than `hub`; then they end with nothing lost.
fn taken_over(
    context: &mut Context<'_>,
    server: &LinkServer,
    tabs: &[Tab],
    hub: &str,
) -> Result<()> {
    for tab in tabs {
        wait::until("another hub", TAKEN_OVER, || {
            let now = hub_of(context, tab)?;
            if now == hub { Err(format!("still {now}")) } else { Ok(()) }
        })?;
        goes_on(context, tab, TAKEN_OVER)?;
    }
    end(context, tabs)?;
    server.wait_for_connections(1, SOON)?;
    one_link(server, tabs.len())
}

fn end(context: &mut Context<'_>, tabs: &[Tab]) -> Result<()> {
    for tab in tabs {
        let got = context.run(tab, "await T.streams.echo.end()")?;
        equal("came back", got.as_u64().is_some_and(|got| got > 20), true)?;
        equal("state", context.run(tab, "T.get('echo').readyState")?, json!(1))?;
        equal("errors", context.run(tab, "T.count('echo', 'error')")?, json!(0))?;
    }
    Ok(())
}

fn leader_closes(context: &mut Context<'_>) -> Outcome {
    closes(context, "page.html", "leader")
}

fn storage_closes(context: &mut Context<'_>) -> Outcome {
    closes(context, "page.html", "storage")
}

fn storage_without_channel(context: &mut Context<'_>) -> Outcome {
    closes(context, "page.html?without=BroadcastChannel", "storage")
}

fn closes(context: &mut Context<'_>, page: &str, tier: &str) -> Outcome {
    let server = context.server()?;
    let mut tabs = share(context, &server, 3, page, tier)?;
    stream(context, &tabs)?;
    let leader = leaders(context, &tabs)?[0];
    let hub = hub_of(context, &tabs[leader])?;
    context.browser.close(&tabs.remove(leader))?;
    taken_over(context, &server, &tabs, &hub)?;
    Ok(())
}

fn leader_parks(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = share(context, &server, 3, "page.html", "leader")?;
    stream(context, &tabs)?;
    let hub = hub_of(context, &tabs[0])?;
    let elsewhere = context.pages.url("blank.html");
    context.browser.navigate(&tabs[0], &elsewhere)?;
    taken_over(context, &server, &tabs[1..], &hub)?;
    context.browser.back(&tabs[0])?;
    context.run(&tabs[0], "await ready")?;
    if context.engine != Engine::Firefox {
        goes_on(context, &tabs[0], SOON)?;
        end(context, &tabs[..1])?;
        one_link(&server, 3)?;
    }
    Ok(())
}

fn leader_frozen(context: &mut Context<'_>) -> Outcome {
    freezes(context, "leader")
}

fn storage_frozen(context: &mut Context<'_>) -> Outcome {
    freezes(context, "storage")
}

/// Whether its worker stands still as well or not: who leads answers.
fn freezes(context: &mut Context<'_>, tier: &str) -> Outcome {
    let server = context.server()?;
    let tabs = share(context, &server, 3, "page.html", tier)?;
    stream(context, &tabs)?;
    context.browser.freeze(&tabs[0])?;
    for _ in 0..2 {
        for tab in &tabs[1..] {
            goes_on(context, tab, TAKEN_OVER)?;
        }
    }
    context.browser.thaw(&tabs[0])?;
    goes_on(context, &tabs[0], TAKEN_OVER)?;
    end(context, &tabs)?;
    equal("leaders", leaders(context, &tabs)?.len(), 1)?;
    server.wait_for_connections(1, SOON)?;
    one_link(&server, 3)?;
    Ok(())
}

fn leader_robbed(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = share(context, &server, 3, "page.html", "leader")?;
    stream(context, &tabs)?;
    let hub = hub_of(context, &tabs[0])?;
    // The thief gives it back at once, to whoever waits first.
    let steal =
        format!("await navigator.locks.request({LEADER_LOCK}, {{ steal: true }}, () => 'stolen')");
    context.run(&tabs[1], steal)?;
    taken_over(context, &server, &tabs, &hub)?;
    Ok(())
}

fn leader_leaves(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = share(context, &server, 3, "page.html", "leader")?;
    stream(context, &tabs[1..])?;
    let hub = hub_of(context, &tabs[0])?;
    context.run(&tabs[0], "(T.get('echo').close(), T.get('client').close())")?;
    taken_over(context, &server, &tabs[1..], &hub)?;
    Ok(())
}

fn direct_parks(context: &mut Context<'_>) -> Outcome {
    if context.engine == Engine::Firefox {
        return Err(Stop::Skipped("it caches no page whose worker has a WebSocket".into()));
    }
    let server = context.server()?;
    let options = "{ tiers: ['direct'] }";
    let tab = context.tab()?;
    context.run(&tab, format!("T.client('client', '{}', {options})", server.url("/")))?;
    open(context, &server, &tab, "echo", options)?;
    stream(context, std::slice::from_ref(&tab))?;
    let elsewhere = context.pages.url("blank.html");
    context.browser.navigate(&tab, &elsewhere)?;
    context.browser.back(&tab)?;
    context.run(&tab, "await ready")?;
    equal("out of the cache", context.run(&tab, "T.has('echo')")?, json!(true))?;
    goes_on(context, &tab, TAKEN_OVER)?;
    end(context, &[tab])?;
    server.wait_for_connections(1, SOON)?;
    one_link(&server, 1)?;
    Ok(())
}

/// The hub closes its link, and gets the lock again when the thief has done with it.
fn link_lock_robbed(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = share(context, &server, 2, "page.html", "leader")?;
    stream(context, &tabs)?;
    let lock = link_lock(&server)?;
    let steal = format!("await navigator.locks.request({lock}, {{ steal: true }}, () => 'stolen')");
    equal("stolen", context.run(&tabs[1], steal)?, Value::from("stolen"))?;
    for tab in &tabs {
        goes_on(context, tab, TAKEN_OVER)?;
    }
    end(context, &tabs)?;
    server.wait_for_connections(1, SOON)?;
    one_link(&server, 2)?;
    Ok(())
}

fn leader_crashes(context: &mut Context<'_>) -> Outcome {
    crashes(context, "leader")
}

fn storage_crashes(context: &mut Context<'_>) -> Outcome {
    crashes(context, "storage")
}

fn crashes(context: &mut Context<'_>, tier: &str) -> Outcome {
    let server = context.server()?;
    let tabs = share(context, &server, 5, "page.html", tier)?;
    let leader = leaders(context, &tabs)?[0];
    let hub = hub_of(context, &tabs[leader])?;
    let process = context.browser.process(&tabs[leader])?;
    let mut others = Vec::new();
    for (index, tab) in tabs.iter().enumerate() {
        let own = process.is_none() || context.browser.process(tab)? != process;
        if index != leader && own {
            others.push(tab.clone());
        }
    }
    if others.is_empty() {
        return Err("all tabs share one process".into());
    }
    stream(context, &others)?;
    context.browser.crash(&tabs[leader])?;
    taken_over(context, &server, &others, &hub)?;
    Ok(())
}

/// Nothing tells of its end but that it does not answer. In WebKit the worker may die with it.
fn killed_without_locks(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let mut tabs = Vec::new();
    for _ in 0..4 {
        let tab = context.insecure_page(Kind::Tab, "page.html")?;
        connect(context, &server, &tab, "{}")?;
        tabs.push(tab);
    }
    one_link(&server, 4)?;
    // The worker lives in the process of the first.
    let host = context.browser.process(&tabs[0])?;
    let victim = tabs.pop().ok_or("no tab")?;
    let process = context.browser.process(&victim)?;
    if process.is_some() && process == host {
        return Err("all tabs share one process".into());
    }
    let mut others = Vec::new();
    for tab in tabs {
        if process.is_none() || context.browser.process(&tab)? != process {
            others.push(tab);
        }
    }
    stream(context, &others)?;
    context.browser.crash(&victim)?;
    server.wait_for_tabs(others.len() as u64, Duration::from_secs(40))?;
    end(context, &others)?;
    one_link(&server, others.len())?;
    Ok(())
}
