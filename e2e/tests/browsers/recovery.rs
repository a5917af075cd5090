//! The server goes away and comes back; the hub dies and is replaced.

use std::time::Duration;

use serde_json::{Value, json};
use tabmux_e2e::{
    Result,
    browser::Tab,
    context::{Context, SOON},
    runner::Test,
    server::LinkServer,
    wait::equal,
};

use crate::steps::{Outcome, another_hub, ask, connect_all, hub_of, one_link, open_echo};

pub(crate) const TESTS: &[Test] = &[
    Test::new("the server is killed and started again", killed),
    Test::new("the server ends by SIGTERM and is started again", terminated),
    Test::new("a trap in the worker's wasm makes a new hub", trapped),
    Test::new("a hub that traps again and again is given up, and each tab told", given_up),
];

fn killed(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = open_tabs(context, &server)?;
    server.kill();
    expect_cut(context, &tabs)?;
    server.restart()?;
    expect_closed(context, &tabs)?;
    expect_recovery(context, &server, &tabs)
}

fn terminated(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = open_tabs(context, &server)?;
    let status = server.terminate(SOON)?;
    equal("exit status", status.code(), Some(0))?;
    expect_cut(context, &tabs)?;
    server.restart()?;
    expect_closed(context, &tabs)?;
    expect_recovery(context, &server, &tabs)
}

fn trapped(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = open_tabs(context, &server)?;
    let hub = hub_of(context, &tabs[0])?;
    // A message of the port protocol that exists for this test alone.
    context.run(&tabs[1], "T.workers.at(-1).port.postMessage([99])")?;
    for tab in &tabs {
        another_hub(context, tab, &hub)?;
        ask(context, tab, "echo", "still the same socket")?;
    }
    let hubs: Result<Vec<String>> = tabs.iter().map(|tab| hub_of(context, tab)).collect();
    let hubs = hubs?;
    equal("hubs", hubs.iter().filter(|hub| **hub == hubs[0]).count(), tabs.len())?;
    expect_working(context, &server, &tabs)
}

fn given_up(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(2)?;
    connect_all(context, &server, &tabs)?;
    for _ in 0..5 {
        let hub = hub_of(context, &tabs[0])?;
        context.run(&tabs[1], "T.workers.at(-1).port.postMessage([99])")?;
        for tab in &tabs {
            another_hub(context, tab, &hub)?;
        }
    }
    context.run(&tabs[1], "T.workers.at(-1).port.postMessage([99])")?;
    for tab in &tabs {
        context.run(tab, "await T.state('client', 'closed')")?;
        let reason = context.run(tab, "T.get('client').status.reason")?;
        let told = reason.as_str().is_some_and(|text| text.contains("cannot be started again"));
        equal("told", told, true)?;
    }
    server.wait_for_connections(0, SOON)?;
    Ok(())
}

fn open_tabs(context: &mut Context<'_>, server: &LinkServer) -> Result<Vec<Tab>> {
    let tabs = context.tabs(4)?;
    connect_all(context, server, &tabs)?;
    for tab in &tabs {
        open_echo(context, server, tab, "echo")?;
    }
    one_link(server, tabs.len())?;
    Ok(tabs)
}

/// Each tab's client waits for the next attempt. Its virtual socket is not lost yet: only a server
/// that comes back can tell that it does not know the session any more.
fn expect_cut(context: &mut Context<'_>, tabs: &[Tab]) -> Outcome {
    for tab in tabs {
        context.run(tab, "await T.state('client', 'backoff')")?;
        equal("readyState", context.run(tab, "T.get('echo').readyState")?, json!(1))?;
    }
    Ok(())
}

fn expect_closed(context: &mut Context<'_>, tabs: &[Tab]) -> Outcome {
    for tab in tabs {
        let closed = context.run(tab, "await T.until('echo', 'close')")?;
        let wanted = json!([{ "type": "close", "code": 1006, "reason": "", "wasClean": false }]);
        equal("close", closed, wanted)?;
        equal("readyState", context.run(tab, "T.get('echo').readyState")?, json!(3))?;
    }
    Ok(())
}

fn expect_recovery(context: &mut Context<'_>, server: &LinkServer, tabs: &[Tab]) -> Outcome {
    for tab in tabs {
        context.run(tab, "await T.state('client', 'connected')")?;
        check_states(&context.run(tab, "T.states('client')")?)?;
    }
    expect_working(context, server, tabs)
}

/// A new virtual socket works in each tab, and all share one link again.
fn expect_working(context: &mut Context<'_>, server: &LinkServer, tabs: &[Tab]) -> Outcome {
    for tab in tabs {
        open_echo(context, server, tab, "again")?;
        ask(context, tab, "again", "are you back")?;
    }
    server.wait_for_connections(1, Duration::from_secs(2))?;
    one_link(server, tabs.len())?;
    Ok(())
}

/// From the first `connected`: any number of attempts, each after a wait, then `connected`.
fn check_states(states: &Value) -> Result<()> {
    let all = states.as_array().into_iter().flatten().filter_map(Value::as_str);
    let seen: Vec<&str> = all.skip_while(|state| *state != "connected").collect();
    let attempts = seen.strip_prefix(&["connected"]).and_then(|s| s.strip_suffix(&["connected"]));
    let in_order = attempts.is_some_and(|attempts| {
        !attempts.is_empty() && attempts.chunks(2).all(|pair| pair == ["backoff", "connecting"])
    });
    if in_order { Ok(()) } else { Err(format!("the states {states} are out of order")) }
}
