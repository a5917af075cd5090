//! The library in workers of the application.

use std::time::Duration;

use serde_json::{Value, json};
use tabmux_e2e::{
    Result, browser::Tab, context::Context, engine::Engine, plain::PlainServer, runner::Test, wait,
    wait::equal,
};

use crate::steps::Outcome;

pub(crate) const TESTS: &[Test] = &[
    Test::new("workers: a dedicated worker joins the hub of the pages", joins),
    Test::new("workers: a dedicated worker leads where no page does, and pages join it", leads),
    Test::new("workers: a page with a dedicated worker is in the back/forward cache", cached),
    Test::new("workers: a SharedWorker of the application has sockets of its own", shared),
    Test::new("workers: a service worker has sockets of its own", service),
];

const DEDICATED: &str = "T.worker = new Worker('in-worker-module.js', { type: 'module' })";
const SHARED: &str = "T.worker = new SharedWorker('in-worker.js').port";
const SERVICE: &str = "await (async () => { \
    const { port1, port2 } = new MessageChannel(); \
    const registration = await navigator.serviceWorker.register('in-worker.js'); \
    const worker = registration.installing ?? registration.waiting ?? registration.active; \
    await new Promise((done) => { \
      const look = () => worker.state === 'activated' && done(); \
      worker.addEventListener('statechange', look); look(); }); \
    T.worker = { set onmessage(hear) { port1.onmessage = hear }, \
      postMessage: (what) => worker.postMessage(what, [port2]) }; })()";

/// Starts a worker, and has it open a socket and a client.
fn begin(
    context: &mut Context<'_>,
    tab: &Tab,
    worker: &str,
    feed: &PlainServer,
    mode: &str,
) -> Result<()> {
    let link = context.server()?.url("/");
    context.run(tab, format!("void ({worker})"))?;
    let listen = "T.news = []; T.waiting = []; T.worker.onmessage = ({ data }) => { \
        T.news.push(data); T.waiting = T.waiting.filter((look) => !look()); }; \
        T.hear = (wants) => new Promise((done) => { \
          const look = () => { const found = T.news.find(wants); \
            if (found) done(found); return found; }; \
          if (!look()) T.waiting.push(look); })";
    context.run(tab, format!("void (() => {{ {listen} }})()"))?;
    let plan = json!({ "feed": feed.url("/echo"), "link": link, "mode": mode });
    context.run(tab, format!("T.worker.postMessage({plan})"))?;
    Ok(())
}

fn hear(context: &mut Context<'_>, tab: &Tab, wants: &str) -> Result<Value> {
    context.run(tab, format!("await T.hear((news) => {wants})"))
}

fn joins(context: &mut Context<'_>) -> Outcome {
    let feed = context.plain_server()?;
    let tab = context.tab()?;
    let url = feed.url("/echo");
    context.run(&tab, format!("T.shared('view', '{url}', [], {{ key: 'workers' }})"))?;
    context.run(&tab, "await T.until('view', 'open')")?;
    begin(context, &tab, DEDICATED, &feed, "mirror")?;
    let open = hear(context, &tab, "news.tier")?;
    equal("tier", &open["tier"], &json!("leader"))?;
    equal(
        "the client",
        hear(context, &tab, "news.state === 'connected'")?["reason"].clone(),
        json!(""),
    )?;
    feed.command(&json!({ "send": "hello" }))?;
    equal("the worker", hear(context, &tab, "news.data")?["data"].clone(), json!("hello"))?;
    equal("the page", context.run(&tab, "await T.messages('view')")?, json!(["hello"]))?;
    equal("connections", feed.events("open").len(), 1)?;
    // A worker that ends is a tab that is closed.
    context.run(&tab, "T.worker.terminate()")?;
    wait::until("the hub to notice", Duration::from_secs(5), || {
        let tabs = context.run(&tab, "T.get('view').shared.tabs")?;
        if tabs == json!(1) { Ok(()) } else { Err(format!("{tabs} tabs")) }
    })?;
    context.run(&tab, "T.get('view').close(3001)")?;
    equal("code", feed.wait_for("close", 1)?[0]["code"].clone(), json!(3001))?;
    Ok(())
}

fn leads(context: &mut Context<'_>) -> Outcome {
    let feed = context.plain_server()?;
    let tab = context.tab()?;
    begin(context, &tab, DEDICATED, &feed, "mirror")?;
    hear(context, &tab, "news.tier === 'leader'")?;
    let url = feed.url("/echo");
    context.run(&tab, format!("T.shared('view', '{url}', [], {{ key: 'workers' }})"))?;
    context.run(&tab, "await T.until('view', 'open')")?;
    feed.command(&json!({ "send": "hello" }))?;
    equal("the worker", hear(context, &tab, "news.data")?["data"].clone(), json!("hello"))?;
    equal("the page", context.run(&tab, "await T.messages('view')")?, json!(["hello"]))?;
    equal("connections", feed.events("open").len(), 1)?;
    Ok(())
}

/// Goes to another page and back, and has the feed say something meanwhile: whether the page was
/// kept.
fn go_and_return(context: &mut Context<'_>, tab: &Tab, feed: &PlainServer) -> Result<bool> {
    context.run(tab, "window.wasHere = true")?;
    let elsewhere = context.pages.url("blank.html");
    context.browser.navigate(tab, &elsewhere)?;
    feed.command(&json!({ "send": "meanwhile" }))?;
    context.browser.back(tab)?;
    Ok(context.run(tab, "window.wasHere === true")? == json!(true))
}

/// What a worker costs its page in the back/forward cache: no more than any other worker does.
fn cached(context: &mut Context<'_>) -> Outcome {
    let feed = context.plain_server()?;
    let url = feed.url("/echo");
    for with in ["no worker", "an idle worker", "a WebSocket", "a leader", "a follower"] {
        let tab = context.tab()?;
        match with {
            "no worker" => {}
            "an idle worker" => drop(context.run(&tab, format!("void ({DEDICATED})"))?),
            "a WebSocket" => {
                begin(context, &tab, DEDICATED, &feed, "native")?;
                hear(context, &tab, "news.tier === 'native'")?;
            }
            _ => {
                if with == "a follower" {
                    let options = "{ key: 'workers' }";
                    context.run(&tab, format!("T.shared('view', '{url}', [], {options})"))?;
                    context.run(&tab, "await T.until('view', 'open')")?;
                }
                begin(context, &tab, DEDICATED, &feed, "mirror")?;
                hear(context, &tab, "news.tier === 'leader'")?;
            }
        }
        let is_kept = go_and_return(context, &tab, &feed)?;
        // Firefox keeps no page that has a dedicated worker, whatever the worker does.
        let wanted = context.engine != Engine::Firefox || with == "no worker";
        equal(&format!("kept with {with}"), is_kept, wanted)?;
        if is_kept && with == "a leader" {
            feed.command(&json!({ "send": "afterwards" }))?;
            let news = match context.engine {
                // It ends each WebSocket of a page that it keeps, and of the page's workers.
                Engine::Chromium => "news.error",
                Engine::Firefox | Engine::WebKit => "news.data === 'afterwards'",
            };
            hear(context, &tab, news)?;
        }
        context.browser.close(&tab)?;
    }
    Ok(())
}

/// The sockets work, and the client says in one sentence why it cannot.
fn alone(context: &mut Context<'_>, worker: &str) -> Outcome {
    let feed = context.plain_server()?;
    let tab = context.tab()?;
    for mode in ["mirror", "exclusive"] {
        begin(context, &tab, worker, &feed, mode)?;
        equal("tier", &hear(context, &tab, "news.tier")?["tier"], &json!("page"))?;
        feed.command(&json!({ "send": mode }))?;
        hear(context, &tab, &format!("news.data === '{mode}'"))?;
        let closed = hear(context, &tab, "news.state")?;
        let reason = "tabmux: no Worker: connect() needs a page, or a dedicated worker";
        equal("status", closed, json!({ "state": "closed", "reason": reason }))?;
    }
    Ok(())
}

fn shared(context: &mut Context<'_>) -> Outcome {
    alone(context, SHARED)
}

fn service(context: &mut Context<'_>) -> Outcome {
    alone(context, SERVICE)
}
