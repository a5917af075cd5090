//! What no tab may be worse off for than with a plain `WebSocket`: a server without room for it, a
//! browser that refuses a feature, and hubs that must find each other or wait for each other.

use tabmux_e2e::{
    browser::Kind,
    context::{Context, SOON},
    runner::Test,
    wait::equal,
};

use crate::steps::{Outcome, one_link};

pub(crate) const TESTS: &[Test] = &[
    Test::new("elections: a tab without room at the server gets its place when there is", room),
    Test::new("elections: site data is cleared under open tabs, and new ones work", cleared),
];

fn room(context: &mut Context<'_>) -> Outcome {
    let server = context.two_tabs_server()?;
    let tabs = context.tabs(2)?;
    for tab in &tabs {
        context.run(tab, format!("T.client('client', '{}')", server.url("/")))?;
        context.run(tab, "await T.state('client', 'connected')")?;
    }
    let third = context.page(Kind::Tab, "page.html")?;
    // It asks for the socket and the topic before it knows, and for another socket after.
    context.run(&third, format!("T.client('client', '{}')", server.url("/")))?;
    context.run(&third, "T.topic('prices', 'client', 'prices')")?;
    context.run(&third, format!("T.mux('early', '{}')", server.url("/echo")))?;
    let told = context.run(&third, "await T.state('client', 'backoff')")?;
    let reason = told["reason"].as_str().unwrap_or_default();
    equal("the reason names the limit", reason.contains("may have 2 tabs"), true)?;
    context.run(&third, format!("T.mux('late', '{}')", server.url("/echo")))?;
    for name in ["early", "late"] {
        let error = context.run(&third, format!("await T.until('{name}', 'error')"))?;
        let message = error[0]["message"].as_str().unwrap_or_default();
        equal("the error names the limit", message.contains("may have 2 tabs"), true)?;
        let close = context.run(&third, format!("await T.until('{name}', 'close')"))?;
        equal("code", close[0]["code"].as_u64(), Some(1006))?;
    }
    context.browser.close(&tabs[0])?;
    context.run(&third, "await T.state('client', 'connected')")?;
    context.run(&third, "await T.until('prices', 'ready')")?;
    server.publish("prices", "42")?;
    context.run(&third, "await T.messages('prices')")?;
    context.run(&third, format!("T.mux('echo', '{}')", server.url("/echo")))?;
    context.run(&third, "await T.until('echo', 'open')")?;
    server.wait_for_tabs(2, SOON)?;
    one_link(&server, 2)?;
    Ok(())
}

/// From then on old tabs and new ones have two lock managers, in some engines.
fn cleared(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let mut tabs = context.tabs(2)?;
    for tab in &tabs {
        context.run(tab, format!("T.client('client', '{}')", server.url("/")))?;
        context.run(tab, "await T.state('client', 'connected')")?;
        context.run(tab, format!("T.mux('echo', '{}')", server.url("/echo")))?;
        context.run(tab, "await T.until('echo', 'open')")?;
    }
    context.run(&tabs[0], "(await fetch('page.html?clear-storage')).status")?;
    tabs.extend(context.tabs(2)?);
    for tab in &tabs[2..] {
        context.run(tab, format!("T.client('client', '{}')", server.url("/")))?;
        context.run(tab, "await T.state('client', 'connected')")?;
        context.run(tab, format!("T.mux('echo', '{}')", server.url("/echo")))?;
        context.run(tab, "await T.until('echo', 'open')")?;
    }
    // Each says more than one message, so that a hub that is replaced again and again is seen.
    for n in 1..=3 {
        for tab in &tabs {
            context.run(tab, format!("T.get('echo').send('{n}')"))?;
            context.run(tab, format!("await T.messages('echo', {n})"))?;
        }
    }
    for tab in &tabs {
        equal("closed sockets", context.run(tab, "T.count('echo', 'close')")?, 0.into())?;
        let connects = "T.states('client').filter((state) => state === 'connecting').length <= 3";
        equal("few hubs", context.run(tab, connects)?, true.into())?;
    }
    let links = server.connections()?;
    if links > 2 {
        return Err(format!("{links} links").into());
    }
    Ok(())
}
