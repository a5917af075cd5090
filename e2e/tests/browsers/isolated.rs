//! Pages under strict policies: isolated from other origins, with the scripts as the server sends
//! them; and held to the policies of docs/csp.md.

use serde_json::json;
use tabmux_e2e::{
    browser::Kind,
    context::{Context, SOON},
    runner::Test,
    wait::equal,
};

use crate::{
    steps::{Outcome, ask},
    tiers,
};

pub(crate) const TESTS: &[Test] = &[
    Test::new("isolated: two pages have one connection by a SharedWorker", shared_worker),
    Test::new("isolated: two pages have one connection by a tab that leads", leader),
    Test::new("isolated: a page has a connection of its own", direct),
    Test::new("the policies of docs/csp.md: two pages share one connection", documented),
];

fn shared_worker(context: &mut Context<'_>) -> Outcome {
    isolated(context, 2, "shared-worker")
}

fn leader(context: &mut Context<'_>) -> Outcome {
    isolated(context, 2, "leader")
}

fn direct(context: &mut Context<'_>) -> Outcome {
    isolated(context, 1, "direct")
}

fn isolated(context: &mut Context<'_>, count: usize, tier: &str) -> Outcome {
    let server = context.server()?;
    context.pages.pass_scripts_to(server.port());
    for _ in 0..count {
        let tab = context.page(Kind::Tab, "page.html?isolated")?;
        equal("isolated", context.run(&tab, "crossOriginIsolated")?, json!(true))?;
        tiers::connect(context, &server, &tab, &tiers::forced(tier))?;
        tiers::expect_tier(context, &tab, tier)?;
        ask(context, &tab, "echo", "are you there")?;
    }
    server.wait_for_rest(1, count as u64, SOON)?;
    server.wait_for_connections(1, SOON)?;
    Ok(())
}

/// With Trusted Types, where the engine has them: then no text starts a worker.
fn documented(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    for tier in ["shared-worker", "leader"] {
        let mut tabs = Vec::new();
        for _ in 0..2 {
            let tab = context.page(Kind::Tab, "page.html?strict")?;
            let options = format!(
                "{{ worker: '/tabmux/worker.js?strict-worker', tiers: ['{tier}'], key: '{tier}' }}"
            );
            tiers::connect(context, &server, &tab, &options)?;
            tiers::expect_tier(context, &tab, tier)?;
            ask(context, &tab, "echo", "are you there")?;
            tabs.push(tab);
        }
        server.wait_for_rest(1, 2, SOON)?;
        server.wait_for_connections(1, SOON)?;
        for tab in tabs {
            context.browser.close(&tab)?;
        }
        server.wait_for_connections(0, SOON)?;
    }
    Ok(())
}
