//! Processes of the browser die. Last, because an engine may not come out of it unharmed.

use std::time::Duration;

use tabmux_e2e::{
    Result,
    browser::Tab,
    context::{Context, SOON},
    runner::Test,
};

use crate::steps::{Outcome, another_hub, ask, connect_all, hub_of, one_link, open_echo};

pub(crate) const TESTS: &[Test] = &[
    Test::crashing("a tab whose process is killed leaves the registry", killed_tab),
    Test::crashing("the process of the worker is killed", killed_worker),
];

fn killed_tab(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(5)?;
    connect_all(context, &server, &tabs)?;
    let hub = hub_of(context, &tabs[0])?;
    // The worker runs in the process of the first tab.
    let (host, others) = by_process(context, &tabs, 0)?;
    let victim = others.last().ok_or("all tabs share one process")?.clone();
    let victim_index = tabs.iter().position(|tab| *tab == victim).unwrap_or_default();
    let (_, survivors) = by_process(context, &tabs, victim_index)?;
    context.browser.crash(&victim)?;
    server.wait_for_tabs(survivors.len() as u64, Duration::from_secs(2))?;
    one_link(&server, survivors.len())?;
    if hub_of(context, &host[0])? != hub {
        return Err("the hub is another one although its process lives".into());
    }
    Ok(())
}

fn killed_worker(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(5)?;
    connect_all(context, &server, &tabs)?;
    let hub = hub_of(context, &tabs[0])?;
    let (_, survivors) = by_process(context, &tabs, 0)?;
    if survivors.is_empty() {
        return Err("all tabs share one process".into());
    }
    context.browser.crash(&tabs[0])?;
    for tab in &survivors {
        another_hub(context, tab, &hub)?;
        open_echo(context, &server, tab, "after")?;
        ask(context, tab, "after", "still here")?;
    }
    server.wait_for_connections(1, SOON)?;
    one_link(&server, survivors.len())?;
    Ok(())
}

/// Splits `tabs` into those that die together with the tab at `index`, and the rest.
fn by_process(
    context: &mut Context<'_>,
    tabs: &[Tab],
    index: usize,
) -> Result<(Vec<Tab>, Vec<Tab>)> {
    let process = context.browser.process(&tabs[index])?;
    let mut together = Vec::new();
    let mut rest = Vec::new();
    for tab in tabs {
        let same = match context.browser.process(tab)? {
            Some(number) => Some(number) == process,
            None => *tab == tabs[index],
        };
        if same { together.push(tab.clone()) } else { rest.push(tab.clone()) }
    }
    Ok((together, rest))
}
