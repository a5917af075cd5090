//! Tabs come and go, and the server knows.

use std::time::Duration;

use serde_json::json;
use tabmux_e2e::{
    Stop,
    context::{Context, SOON},
    engine::Engine,
    runner::Test,
    wait::equal,
};

use crate::steps::{Outcome, ask, connect, connect_all, one_link, open_echo};

pub(crate) const TESTS: &[Test] = &[
    Test::new("a closed tab leaves the registry within a second", closed_tab),
    Test::new("the tabs close from the first on, the others go on", first_tabs),
    Test::new("the last tab gone, the connection closes within three seconds", last_tab),
    Test::new("a reload of the only tab works", reload),
    Test::new("the only tab goes to another page and leaves the registry", parked_alone),
    Test::new("the only tab goes to another page and back", back_alone),
    Test::new("one of two tabs goes to another page and back", back_beside),
];

fn closed_tab(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(4)?;
    connect_all(context, &server, &tabs)?;
    open_echo(context, &server, &tabs[1], "echo")?;
    one_link(&server, 4)?;
    context.browser.close(&tabs[1])?;
    server.wait_for_tabs(3, Duration::from_secs(1))?;
    equal("virtual sockets", server.stat("sockets")?, 0)?;
    context.run(&tabs[0], "await T.tabs('client', 3)")?;
    one_link(&server, 3)?;
    Ok(())
}

/// The worker may live in the process of the tab that closes; then it has to live on elsewhere.
fn first_tabs(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let mut tabs = context.tabs(5)?;
    connect_all(context, &server, &tabs)?;
    for round in 0..4 {
        context.browser.close(&tabs.remove(0))?;
        server.wait_for_tabs(tabs.len() as u64, SOON)?;
        for tab in &tabs {
            context.run(tab, format!("await T.tabs('client', {})", tabs.len()))?;
            context.run(tab, "await T.state('client', 'connected')")?;
            open_echo(context, &server, tab, &format!("echo{round}"))?;
        }
        one_link(&server, tabs.len())?;
    }
    Ok(())
}

fn last_tab(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(3)?;
    connect_all(context, &server, &tabs)?;
    one_link(&server, 3)?;
    for tab in &tabs {
        context.browser.close(tab)?;
    }
    server.wait_for_connections(0, Duration::from_secs(3))?;
    server.wait_for_tabs(0, SOON)?;
    Ok(())
}

fn reload(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.tab()?;
    connect(context, &server, &tab)?;
    open_echo(context, &server, &tab, "echo")?;
    for round in 0..3 {
        context.browser.reload(&tab)?;
        context.run(&tab, "await ready")?;
        connect(context, &server, &tab)?;
        open_echo(context, &server, &tab, "echo")?;
        ask(context, &tab, "echo", &format!("round {round}"))?;
        server.wait_for_connections(1, SOON)?;
        one_link(&server, 1)?;
    }
    Ok(())
}

fn parked_alone(context: &mut Context<'_>) -> Outcome {
    if context.engine == Engine::WebKit {
        let why = "it freezes a worker whose only page goes into the back/forward cache before the \
            page's last message reaches it";
        return Err(Stop::Skipped(why.into()));
    }
    let server = context.server()?;
    let tab = context.tab()?;
    connect(context, &server, &tab)?;
    one_link(&server, 1)?;
    let elsewhere = context.pages.url("blank.html");
    context.browser.navigate(&tab, &elsewhere)?;
    server.wait_for_tabs(0, Duration::from_secs(1))?;
    Ok(())
}

fn back_alone(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.tab()?;
    connect(context, &server, &tab)?;
    one_link(&server, 1)?;
    let elsewhere = context.pages.url("blank.html");
    context.browser.navigate(&tab, &elsewhere)?;
    come_back(context, &server, &tab)?;
    server.wait_for_connections(1, SOON)?;
    one_link(&server, 1)?;
    Ok(())
}

fn back_beside(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(2)?;
    connect_all(context, &server, &tabs)?;
    let elsewhere = context.pages.url("blank.html");
    context.browser.navigate(&tabs[1], &elsewhere)?;
    server.wait_for_tabs(1, Duration::from_secs(1))?;
    context.run(&tabs[0], "await T.tabs('client', 1)")?;
    come_back(context, &server, &tabs[1])?;
    context.run(&tabs[0], "await T.tabs('client', 2)")?;
    one_link(&server, 2)?;
    Ok(())
}

/// Goes back. The page may come out of the back/forward cache, with its client, or be loaded
/// again; either way it must work.
fn come_back(
    context: &mut Context<'_>,
    server: &tabmux_e2e::server::LinkServer,
    tab: &tabmux_e2e::browser::Tab,
) -> Outcome {
    context.browser.back(tab)?;
    context.run(tab, "await ready")?;
    if context.run(tab, "T.has('client')")? == json!(true) {
        context.run(tab, "await T.state('client', 'connected')")?;
    } else {
        connect(context, server, tab)?;
    }
    open_echo(context, server, tab, "after")?;
    ask(context, tab, "after", "here again")?;
    Ok(())
}
