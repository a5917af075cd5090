//! What a browser has and refuses, or has and does not do, costs two seconds at most.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tabmux_e2e::{
    Stop,
    browser::Tab,
    context::Context,
    engine::Engine,
    runner::Test,
    wait::{self, equal},
};

use crate::steps::Outcome;

pub(crate) const TESTS: &[Test] = &[
    Test::new("deadlines: a page opens its sockets whatever is refused", refused),
    Test::new("deadlines: a client tells which tiers it has tried", tried),
    Test::new("deadlines: a browser that is offline says so", offline),
];

/// Names what is refused, the script that refuses it, and the tiers that it costs in mux mode.
const REFUSALS: &[(&str, &str, &[&str])] = &[
    ("locks do nothing", "LockManager.prototype.request = () => new Promise(() => undefined)", &[]),
    (
        "locks are refused",
        "LockManager.prototype.request = async () => { throw new DOMException('x') }",
        &[],
    ),
    ("there is no SharedWorker", "SharedWorker = undefined", &["shared-worker"]),
    (
        "SharedWorkers are silent",
        "SharedWorker = class extends EventTarget { \
         port = Object.assign(new MessageChannel().port1, { start() {} }); \
         constructor() { super(); \
         setTimeout(() => this.port.onmessage({ data: [95, ''] }), 50); } }",
        &["shared-worker"],
    ),
    (
        "all is refused but workers",
        "LockManager.prototype.request = async () => { throw new DOMException('x') }; \
         SharedWorker = BroadcastChannel = function () { throw new DOMException('x') }; \
         Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('x') } })",
        &["shared-worker", "leader", "storage"],
    ),
];

/// Runs a script in the page's own world, which in Firefox is not that of a driver.
fn run_inside(context: &mut Context<'_>, tab: &Tab, script: &str) -> Outcome {
    let append = format!(
        "void document.head.append(Object.assign(document.createElement('script'), \
         {{ textContent: {} }}))",
        json!(script)
    );
    context.run(tab, append)?;
    Ok(())
}

fn refused(context: &mut Context<'_>) -> Outcome {
    let (server, feed) = (context.server()?, context.plain_server()?);
    for (what, script, _) in REFUSALS {
        let tab = context.tab()?;
        run_inside(context, &tab, script)?;
        let (echo, url) = (server.url("/echo"), feed.url("/echo"));
        let began = Instant::now();
        context.run(&tab, format!("T.shared('mirror', '{url}', [], {{ key: '{what}' }})"))?;
        context.run(&tab, format!("T.shared('own', '{url}', [], {{ mode: 'exclusive' }})"))?;
        context.run(&tab, format!("T.mux('mux', '{echo}', [], {{ key: '{what}' }})"))?;
        for name in ["mirror", "own", "mux"] {
            context.run(&tab, format!("await T.until('{name}', 'open')"))?;
            context.run(&tab, format!("T.get('{name}').send('hello')"))?;
            let answer = context.run(&tab, format!("await T.messages('{name}')"))?;
            equal(what, answer, json!(["hello"]))?;
        }
        // Two seconds, the scripts, and a machine that does much else.
        if began.elapsed() > Duration::from_secs(8) {
            return Err(format!("{what}: it took {:?}", began.elapsed()).into());
        }
    }
    Ok(())
}

fn tried(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    for (what, script, tiers) in REFUSALS {
        let tab = context.tab()?;
        run_inside(context, &tab, script)?;
        let url = server.url("/");
        context.run(&tab, format!("T.client('client', '{url}', {{ key: '{what}' }})"))?;
        let status = context.run(&tab, "await T.state('client', 'connected')")?;
        let tried = status["tried"].as_array().cloned().unwrap_or_default();
        let names: Vec<&Value> = tried.iter().map(|skipped| &skipped["tier"]).collect();
        equal(what, json!(names), json!(tiers))?;
        let told =
            tried.iter().all(|skipped| skipped["reason"].as_str().is_some_and(|it| !it.is_empty()));
        equal(what, told, true)?;
    }
    Ok(())
}

fn offline(context: &mut Context<'_>) -> Outcome {
    if context.engine == Engine::WebKit {
        return Err(Stop::Skipped("its driver cannot say that it is offline".into()));
    }
    let tab = context.tab()?;
    // No server of this machine: that is dialled all the same.
    let away = "wss://tabmux.invalid/";
    let worker = "new URL('/tabmux/worker.js?offline', location.href).href";
    let offline = "Object.defineProperty(Navigator.prototype, 'onLine', { get: () => false })";
    run_inside(context, &tab, offline)?;
    // A tab that is visible tells its hub.
    context.run(&tab, format!("T.client('client', '{away}', {{ worker: {worker} }})"))?;
    let status = wait::until("a client that waits", Duration::from_secs(10), || {
        let status = context.run(&tab, "T.get('client').status")?;
        if status["reason"] == json!("tabmux: the browser is offline") {
            Ok(status)
        } else {
            Err(format!("{status}"))
        }
    })?;
    equal("state", status["state"].clone(), json!("backoff"))?;
    Ok(())
}
