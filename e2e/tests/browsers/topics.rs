//! Topics: one subscription for the browser, delivered to the tabs that asked.

use serde_json::json;
use tabmux_e2e::{
    Result,
    browser::Tab,
    context::{Context, RECONNECT, SOON},
    proxy::{Proxy, Weather},
    runner::Test,
    server::LinkServer,
    wait::equal,
};

use crate::steps::{Outcome, another_hub, connect, connect_all, hub_of, one_link};

pub(crate) const TESTS: &[Test] = &[
    Test::new("topics: the tabs that asked get what is published, over one link", two_of_three),
    Test::new("topics: the last tab that listens ends the subscription", last_listener),
    Test::new("topics: the server is started again, and what was missed is a gap", restarted),
    Test::new("topics: what is published while the link is cut comes, with no gap", missed),
    Test::new("topics: a page goes on from where it was rendered", rendered),
    Test::new("topics: a trap of the hub is followed from where the tab left off", trapped),
    Test::new("topics: a tab that was in the back/forward cache goes on", cached),
    Test::new("topics: a name that is too long is refused, and costs nobody else", refused),
];

/// Subscribes a client, and waits until it is.
fn subscribe(context: &mut Context<'_>, tab: &Tab, name: &str, topic: &str) -> Result<()> {
    context.run(tab, format!("T.topic('{name}', 'client', '{topic}')"))?;
    context.run(tab, format!("await T.until('{name}', 'ready')")).map(drop)
}

/// Waits for the first messages of a subscription; there are no others so far.
fn expect(context: &mut Context<'_>, tab: &Tab, name: &str, messages: &[&str]) -> Result<()> {
    let got = context.run(tab, format!("await T.messages('{name}', {})", messages.len()))?;
    equal("messages", got, json!(messages))?;
    let count = context.run(tab, format!("T.count('{name}', 'message')"))?;
    equal("count", count, json!(messages.len()))
}

fn two_of_three(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(3)?;
    connect_all(context, &server, &tabs)?;
    for tab in &tabs[..2] {
        subscribe(context, tab, "prices", "prices")?;
    }
    subscribe(context, &tabs[0], "again", "prices")?;
    subscribe(context, &tabs[2], "news", "news")?;
    equal("subscriptions", server.stat("subscriptions")?, 2)?;
    server.publish("prices", "42")?;
    server.publish("nothing", "to nobody")?;
    server.publish("prices", "ä€😀")?;
    for (tab, name) in [(0, "prices"), (0, "again"), (1, "prices")] {
        expect(context, &tabs[tab], name, &["42", "ä€😀"])?;
    }
    server.publish("news", "extra")?;
    expect(context, &tabs[2], "news", &["extra"])?;
    equal("deliveries", server.stat("deliveries")?, 3)?;
    one_link(&server, 3)?;
    Ok(())
}

fn last_listener(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(3)?;
    connect_all(context, &server, &tabs)?;
    for tab in &tabs[..2] {
        subscribe(context, tab, "prices", "prices")?;
    }
    context.run(&tabs[0], "T.get('prices').close()")?;
    server.publish("prices", "1")?;
    expect(context, &tabs[1], "prices", &["1"])?;
    equal("messages", context.run(&tabs[0], "T.count('prices', 'message')")?, json!(0))?;
    context.browser.close(&tabs[1])?;
    server.wait_for_subscriptions(0, SOON)?;
    one_link(&server, 2)?;
    Ok(())
}

fn restarted(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(2)?;
    connect_all(context, &server, &tabs)?;
    for tab in &tabs {
        subscribe(context, tab, "prices", "prices")?;
    }
    server.publish("prices", "before")?;
    for tab in &tabs {
        expect(context, tab, "prices", &["before"])?;
        subscribe(context, tab, "quiet", "quiet")?;
    }
    server.kill();
    server.restart()?;
    server.wait_for_subscriptions(2, RECONNECT)?;
    for topic in ["prices", "quiet"] {
        server.publish(topic, "after")?;
    }
    for tab in &tabs {
        context.run(tab, "await T.until('prices', 'gap')")?;
        expect(context, tab, "prices", &["before", "after"])?;
        // Nothing was published there before.
        expect(context, tab, "quiet", &["after"])?;
        equal("gaps", context.run(tab, "T.count('quiet', 'gap')")?, json!(0))?;
    }
    one_link(&server, 2)?;
    Ok(())
}

/// The session ends with the link, so the history alone has what is published meanwhile.
fn missed(context: &mut Context<'_>) -> Outcome {
    let server = context.history_server()?;
    let proxy = Proxy::start(server.port())?;
    let tabs = context.tabs(2)?;
    for tab in &tabs {
        let url = format!("http://127.0.0.1:{}/", proxy.port());
        context.run(tab, format!("T.client('client', '{url}')"))?;
        subscribe(context, tab, "prices", "prices")?;
    }
    let texts = (0..100).map(|number| number.to_string()).collect::<Vec<_>>();
    server.publish("prices", &texts[0])?;
    for tab in &tabs {
        expect(context, tab, "prices", &[&texts[0]])?;
    }
    proxy.set(Weather::Refusing);
    equal("links cut", proxy.cut(), 1)?;
    for text in &texts[1..] {
        server.publish("prices", text)?;
    }
    proxy.set(Weather::Fair);
    let texts = texts.iter().map(String::as_str).collect::<Vec<_>>();
    for tab in &tabs {
        expect(context, tab, "prices", &texts)?;
        equal("gaps", context.run(tab, "T.count('prices', 'gap')")?, json!(0))?;
    }
    equal("recovered", server.stat("publications_recovered")?, 99)?;
    Ok(())
}

/// The second tab comes late: its browser's hub has all since the first one came.
fn rendered(context: &mut Context<'_>) -> Outcome {
    let server = context.history_server()?;
    let tabs = context.tabs(2)?;
    let since = server.position("prices")?;
    server.publish("prices", "1")?;
    server.publish("prices", "2")?;
    connect_all(context, &server, &tabs)?;
    for tab in &tabs {
        context.run(tab, format!("T.topic('prices', 'client', 'prices', {{ since: {since} }})"))?;
        expect(context, tab, "prices", &["1", "2"])?;
        equal("gaps", context.run(tab, "T.count('prices', 'gap')")?, json!(0))?;
    }
    equal("recovered", server.stat("publications_recovered")?, 2)?;
    Ok(())
}

/// A new hub asks the same server from where the tabs left the topic: nothing is missing.
fn trapped(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(2)?;
    connect_all(context, &server, &tabs)?;
    for tab in &tabs {
        subscribe(context, tab, "prices", "prices")?;
    }
    server.publish("prices", "before")?;
    for tab in &tabs {
        expect(context, tab, "prices", &["before"])?;
    }
    let hub = hub_of(context, &tabs[0])?;
    context.run(&tabs[1], "T.workers.at(-1).port.postMessage([99])")?;
    for tab in &tabs {
        another_hub(context, tab, &hub)?;
    }
    server.wait_for_connections(1, SOON)?;
    server.wait_for_subscriptions(1, SOON)?;
    server.publish("prices", "after")?;
    for tab in &tabs {
        expect(context, tab, "prices", &["before", "after"])?;
        equal("gaps", context.run(tab, "T.count('prices', 'gap')")?, json!(0))?;
    }
    Ok(())
}

fn cached(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(2)?;
    connect_all(context, &server, &tabs)?;
    for tab in &tabs {
        subscribe(context, tab, "prices", "prices")?;
    }
    let elsewhere = context.pages.url("blank.html");
    context.browser.navigate(&tabs[1], &elsewhere)?;
    server.wait_for_tabs(1, SOON)?;
    server.publish("prices", "meanwhile")?;
    expect(context, &tabs[0], "prices", &["meanwhile"])?;
    context.browser.back(&tabs[1])?;
    context.run(&tabs[1], "await ready")?;
    // The page comes out of the cache, or is loaded again: either way it goes on.
    if context.run(&tabs[1], "T.has('prices')")? == json!(true) {
        context.run(&tabs[1], "await T.until('prices', 'gap')")?;
    } else {
        connect(context, &server, &tabs[1])?;
        subscribe(context, &tabs[1], "prices", "prices")?;
    }
    server.publish("prices", "after")?;
    expect(context, &tabs[1], "prices", &["after"])?;
    expect(context, &tabs[0], "prices", &["meanwhile", "after"])?;
    one_link(&server, 2)?;
    Ok(())
}

fn refused(context: &mut Context<'_>) -> Outcome {
    let server: std::rc::Rc<LinkServer> = context.server()?;
    let tab = context.tab()?;
    connect(context, &server, &tab)?;
    subscribe(context, &tab, "prices", "prices")?;
    context.run(&tab, "T.topic('long', 'client', 'x'.repeat(257))")?;
    let error = context.run(&tab, "await T.until('long', 'error')")?;
    let message = "tabmux: the name of a topic has 1 to 256 bytes";
    equal("error", error, json!([{ "type": "error", "message": message }]))?;
    server.publish("prices", "still here")?;
    expect(context, &tab, "prices", &["still here"])?;
    one_link(&server, 1)?;
    Ok(())
}
