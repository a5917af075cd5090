//! Where no hub can be had, sockets in mirror and exclusive mode are the page's own.

use std::time::Duration;

use serde_json::json;
use tabmux_e2e::{
    browser::{Kind, Tab},
    context::Context,
    runner::Test,
    wait::{self, equal},
};

use crate::steps::Outcome;

pub(crate) const TESTS: &[Test] = &[
    Test::new("last resort: a page that may start no worker has sockets of its own", no_worker),
    Test::new("last resort: a sandboxed page has sockets of its own", sandboxed),
    Test::new("last resort: a SharedWorker that is silent is given up", silent),
    Test::new("exclusive: a connection is dialled again where its page asks", redialled),
    Test::new("exclusive: the sockets of a page share a worker, and a trap touches none", trap),
    Test::new("worker.js as a plain script answers no foreign frame, and dials nothing", plain),
];

/// Opens a socket of each mode that needs no hub, and has one message come back on each.
fn talks(context: &mut Context<'_>, tab: &Tab, tier: &str) -> Outcome {
    let feed = context.plain_server()?;
    for mode in ["mirror", "exclusive"] {
        let url = feed.url("/echo");
        context.run(tab, format!("T.shared('{mode}', '{url}', [], {{ mode: '{mode}' }})"))?;
        context.run(tab, format!("await T.until('{mode}', 'open')"))?;
        let actual = context.run(tab, format!("T.get('{mode}').tier"))?;
        equal("tier", actual, json!(tier))?;
        context.run(tab, format!("T.get('{mode}').send('hello')"))?;
        let answer = context.run(tab, format!("await T.messages('{mode}')"))?;
        equal("answer", answer, json!(["hello"]))?;
        context.run(tab, format!("T.get('{mode}').close(3001, 'bye')"))?;
        let closed = context.run(tab, format!("(await T.until('{mode}', 'close'))[0].code"))?;
        equal("code", closed, json!(3001))?;
    }
    Ok(())
}

fn no_worker(context: &mut Context<'_>) -> Outcome {
    let tab = context.page(Kind::Tab, "page.html?no-workers")?;
    talks(context, &tab, "page")
}

fn sandboxed(context: &mut Context<'_>) -> Outcome {
    let tab = context.page(Kind::Tab, "page.html?sandboxed")?;
    talks(context, &tab, "page")
}

/// The page cannot know whether the script is still on its way, so it takes its time.
fn silent(context: &mut Context<'_>) -> Outcome {
    let (server, feed) = (context.server()?, context.plain_server()?);
    let tab = context.page(Kind::Tab, "page.html?silent")?;
    context.run(&tab, format!("T.client('client', '{}', {{}})", server.url("/")))?;
    context.run(&tab, format!("T.shared('socket', '{}', [], {{}})", feed.url("/")))?;
    wait::until("a connection of the page's own", Duration::from_secs(45), || {
        context.run(&tab, "await T.until('socket', 'open')")
    })?;
    let tier = context.run(&tab, "T.get('socket').tier")?;
    equal("tier", &tier, &json!("page"))?;
    let status = context.run(&tab, "await T.state('client', 'backoff')")?;
    let is_told = status.to_string().contains("worker.js did not come");
    if is_told { Ok(()) } else { Err(format!("{status} does not say why").into()) }
}

/// Also where the connection is the page's own.
fn redialled(context: &mut Context<'_>) -> Outcome {
    let feed = context.plain_server()?;
    let url = feed.url("/echo");
    let mut opened = 0;
    for (page, mode) in [
        ("page.html", "exclusive"),
        ("page.html?no-workers", "exclusive"),
        ("page.html?no-workers", "mirror"),
    ] {
        let tab = context.page(Kind::Tab, page)?;
        context.run(&tab, format!("T.shared('own', '{url}', [], {{ mode: '{mode}' }})"))?;
        context.run(&tab, "await T.until('own', 'open')")?;
        feed.wait_for("open", opened + 1)?;
        context.run(
            &tab,
            "void await new Promise((again) => { const own = T.get('own'); \
             own.addEventListener('reconnect', again); own.reconnect(); own.send('hello') })",
        )?;
        let answer = context.run(&tab, "await T.messages('own')")?;
        equal("answer", answer, json!(["hello"]))?;
        opened += 2;
        equal("connections", feed.wait_for("open", opened)?.len(), opened)?;
        equal("ends", context.run(&tab, "T.count('own', 'close')")?, json!(0))?;
        context.run(&tab, "T.get('own').close(3001, 'bye')")?;
        let code = context.run(&tab, "(await T.until('own', 'close'))[0].code")?;
        equal("code", code, json!(3001))?;
    }
    Ok(())
}

fn trap(context: &mut Context<'_>) -> Outcome {
    let (server, feed) = (context.server()?, context.plain_server()?);
    let tab = context.tab()?;
    context.run(&tab, "T.names = []")?;
    context.run(
        &tab,
        // In the page's own world, which in Firefox is not that of a driver.
        "void document.head.append(Object.assign(document.createElement('script'), { textContent: \
         `SharedWorker = class extends SharedWorker { constructor(url, options) { \
         super(url, options); T.names.push(options.name); \
         T.ports = { ...T.ports, [options.name.split(':')[1]]: this.port }; } }` }))",
    )?;
    for name in ["one", "two"] {
        let url = feed.url("/echo");
        context.run(&tab, format!("T.shared('{name}', '{url}', [], {{ mode: 'exclusive' }})"))?;
        context.run(&tab, format!("await T.until('{name}', 'open')"))?;
    }
    context.run(&tab, format!("T.mux('mux', '{}')", server.url("/echo")))?;
    context.run(&tab, "await T.until('mux', 'open')")?;
    let names = context.run(&tab, "T.names.map((name) => name.split(':')[1]).join()")?;
    equal("workers", names, json!("exclusive,mux"))?;
    let before = context.run(&tab, "T.get('mux').shared.hubId")?;
    for mode in ["mux", "exclusive"] {
        context.run(&tab, format!("T.ports.{mode}.postMessage([99])"))?;
    }
    wait::until("another hub", Duration::from_secs(10), || {
        let now = context.run(&tab, "T.get('mux').shared.hubId")?;
        if now == before || now == json!("") { Err("the same hub".to_owned()) } else { Ok(()) }
    })?;
    for name in ["one", "two"] {
        context.run(&tab, format!("T.get('{name}').send('still here')"))?;
        let answer = context.run(&tab, format!("await T.messages('{name}')"))?;
        equal("answer", answer, json!(["still here"]))?;
    }
    Ok(())
}

/// A frame of another origin says all that tabs and pages say to workers.
fn plain(context: &mut Context<'_>) -> Outcome {
    let feed = context.plain_server()?;
    let tab = context.tab()?;
    context.run(&tab, "T.before = [onmessage, name, String(close), location.href].join()")?;
    let load = "await new Promise((done) => { const script = document.createElement('script'); \
                script.src = '/tabmux/worker.js'; script.onload = script.onerror = done; \
                document.head.append(script); })";
    context.run(&tab, load)?;
    let url = feed.url("/");
    let config = format!(
        "{{ build: T.build, mode: 'mirror', module: '', url: '{url}', protocols: [], lock: 'l', \
         locks: false }}"
    );
    context.run(
        &tab,
        "T.build = (await (await fetch('/tabmux/client.js')).text())\
                       .match(/mux\\.([0-9a-f]{8})\\.wasm/)[1]",
    )?;
    context.run(
        &tab,
        format!(
            "T.said = [['', false], [1n], [1n, [0, 1n, {config}, '', 0, 0]], \
        [0, 1n, {config}, '', 0, 0], [1n, [3, 1, 1, '', []]], [3, 1, 1, '{url}', []], \
        [1n, [4, 2, 1, 'x']], [98], [99], [1n, [99]], 'retire', null]"
        ),
    )?;
    // An answer to any of it would come before that to the last question.
    let heard = context.run(
        &tab,
        "await new Promise((done) => { \
         const frame = document.createElement('iframe'); frame.sandbox = 'allow-scripts'; \
         addEventListener('message', ({ data, source }) => { \
           if (data?.question) source.postMessage({ answer: true }, '*'); \
           if (data?.heard) done(data.heard.join()); \
         }); \
         frame.srcdoc = `<script>const heard = ['nothing']; onmessage = ({ data, source }) => { \
           if (data?.said) { \
             for (const message of data.said) source.postMessage(message, '*'); \
             source.postMessage({ question: true }, '*'); \
           } else if (data?.answer) source.postMessage({ heard }, '*'); \
           else heard.push(String(data)); \
         };</script>`; \
         frame.onload = () => frame.contentWindow.postMessage({ said: T.said }, '*'); \
         document.body.append(frame); })",
    )?;
    equal("answers", heard, json!("nothing"))?;
    let after = context.run(&tab, "[onmessage, name, String(close), location.href].join()")?;
    let before = context.run(&tab, "T.before")?;
    equal("the page", after, before)?;
    // What was dialled before would be heard of before.
    context.run(&tab, format!("T.native('own', '{url}')"))?;
    context.run(&tab, "await T.until('own', 'open')")?;
    equal("dials", feed.wait_for("open", 1)?.len(), 1)?;
    Ok(())
}
