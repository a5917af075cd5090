//! Mirror mode in front of a WebSocket server that knows nothing of tabmux.

use serde_json::{Value, json};
use tabmux_e2e::{
    Result, browser::Tab, context::Context, plain::PlainServer, runner::Test, wait::equal,
};

use crate::steps::Outcome;

/// Messages of one stream, one a millisecond.
const STREAM: u32 = 1000;

pub(crate) const TESTS: &[Test] = &[
    Test::new("mirror mode: every view gets every frame", every_frame),
    Test::new("mirror mode: a page that awaits each message of a burst hears all of them", awaits),
    Test::new("mirror mode: sends go out in order", sends),
    Test::new("mirror mode: a late view opens at once", late_view),
    Test::new("mirror mode: one view closes, the others stay", close_one),
    Test::new("mirror mode: all that was sent arrives before the close", sends_and_closes),
    Test::new("mirror mode: the server's close reaches every view", server_closes),
    Test::new("mirror mode: a cut connection reaches every view", cut),
    Test::new("mirror mode: a page leaves under messages, comes back and misses none", comes_back),
];

fn every_frame(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tabs = open_views(context, &server, 5)?;
    server.command(&json!({ "send": "text" }))?;
    server.command(&json!({ "sendBinary": [0, 1, 254, 255] }))?;
    server.command(&json!({ "send": "" }))?;
    server.command(&json!({ "send": "last" }))?;
    let wanted = json!(["text", "ArrayBuffer [0 1 254 255]", "", "last"]);
    for messages in context.run_all(&tabs, "await T.messages('view', 4)")? {
        equal("messages", messages, wanted.clone())?;
    }
    equal("connections", server.wait_for("open", 1)?.len(), 1)?;
    Ok(())
}

/// Who listens anew after each message would miss those that follow in the same task.
fn awaits(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tabs = open_views(context, &server, 3)?;
    for tab in &tabs {
        let listen = "void (() => {
            const view = T.get('view');
            const next = () => new Promise((resolve) =>
                view.addEventListener('message', ({ data }) => resolve(data), { once: true }));
            const later = async (hops) => hops && later(hops - 1);
            T.heard = (async () => {
                const heard = [];
                while (heard.length < 500) {
                    heard.push(await next());
                    await later(20);
                }
                return heard;
            })();
        })()";
        context.run(tab, listen)?;
    }
    for number in 0..500 {
        server.command(&json!({ "send": number.to_string() }))?;
    }
    let wanted: Vec<Value> = (0..500).map(|number| json!(number.to_string())).collect();
    for heard in context.run_all(&tabs, "await T.heard")? {
        equal("messages", heard, json!(wanted))?;
    }
    Ok(())
}

fn sends(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tabs = open_views(context, &server, 3)?;
    for (index, tab) in tabs.iter().enumerate() {
        let send = format!(
            "(() => {{
                const socket = T.get('view');
                for (let n = 0; n < 20; n += 1) socket.send('{index} ' + n);
                socket.send(new Blob([new Uint8Array([{index}])]));
                socket.send(new Uint8Array([{index}, 1]));
                socket.send('{index} end');
            }})()"
        );
        context.run(tab, send)?;
    }
    let received = server.wait_for("message", 23 * tabs.len())?;
    for index in 0..tabs.len() {
        let mut wanted: Vec<Value> = (0..20).map(|n| json!(format!("{index} {n}"))).collect();
        wanted.extend([json!([index]), json!([index, 1]), json!(format!("{index} end"))]);
        let own: Vec<Value> = received
            .iter()
            .map(|message| message["data"].clone())
            .filter(|data| sender(data) == Some(index as u64))
            .collect();
        equal("frames of one tab", own, wanted)?;
    }
    equal("connections", server.wait_for("open", 1)?.len(), 1)?;
    Ok(())
}

fn late_view(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let url = server.url("/protocol");
    for _ in 0..2 {
        let tab = context.tab()?;
        let open = format!("T.shared('view', '{url}', ['one', 'two']), T.get('view').readyState");
        equal("readyState", context.run(&tab, open)?, json!(0))?;
        context.run(&tab, "await T.until('view', 'open')")?;
        equal("protocol", context.run(&tab, "T.get('view').protocol")?, json!("two"))?;
        equal("events", context.run(&tab, "T.events('view')")?, json!([{ "type": "open" }]))?;
    }
    equal("connections", server.wait_for("open", 1)?.len(), 1)?;
    Ok(())
}

fn close_one(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tabs = open_views(context, &server, 3)?;
    let wanted = json!([{ "type": "close", "code": 3001, "reason": "bye", "wasClean": true }]);
    for tab in &tabs[..2] {
        context.run(tab, "T.get('view').close(3001, 'bye')")?;
        equal("close", context.run(tab, "await T.until('view', 'close')")?, wanted.clone())?;
    }
    equal("closes at the server", server.events("close").len(), 0)?;
    server.command(&json!({ "send": "for the last view" }))?;
    let messages = context.run(&tabs[2], "await T.messages('view')")?;
    equal("messages", messages, json!(["for the last view"]))?;
    equal(
        "messages of a closed view",
        context.run(&tabs[0], "T.count('view', 'message')")?,
        json!(0),
    )?;
    context.run(&tabs[2], "T.get('view').close(4321, 'the last')")?;
    let closed = server.wait_for("close", 1)?;
    equal("code", closed[0]["code"].clone(), json!(4321))?;
    equal("reason", closed[0]["reason"].clone(), json!("the last"))?;
    let wanted = json!([{ "type": "close", "code": 4321, "reason": "the last", "wasClean": true }]);
    equal("close", context.run(&tabs[2], "await T.until('view', 'close')")?, wanted)?;
    Ok(())
}

fn sends_and_closes(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tabs = open_views(context, &server, 1)?;
    let send = "(() => {
        const socket = T.get('view');
        for (let n = 0; n < 5; n += 1) socket.send('x'.repeat(700000));
        socket.close(1000);
    })()";
    context.run(&tabs[0], send)?;
    let closed = server.wait_for("close", 1)?;
    equal("code", closed[0]["code"].clone(), json!(1000))?;
    let sizes: Vec<usize> = server
        .events("message")
        .iter()
        .map(|message| message["data"].as_str().unwrap_or_default().len())
        .collect();
    equal("sizes", sizes, vec![700_000; 5])?;
    Ok(())
}

fn server_closes(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tabs = open_views(context, &server, 3)?;
    server.command(&json!({ "close": 4001, "reason": "enough" }))?;
    let wanted = json!([{ "type": "close", "code": 4001, "reason": "enough", "wasClean": true }]);
    for closed in context.run_all(&tabs, "await T.until('view', 'close')")? {
        equal("close", closed, wanted.clone())?;
    }
    for errors in context.run_all(&tabs, "T.count('view', 'error')")? {
        equal("errors", errors, json!(0))?;
    }
    // Like a WebSocket, a view does not come back by itself; another one dials anew.
    let again = server.url("/");
    context.run(&tabs[0], format!("T.shared('again', '{again}')"))?;
    context.run(&tabs[0], "await T.until('again', 'open')")?;
    equal("connections", server.wait_for("open", 2)?.len(), 2)?;
    Ok(())
}

fn cut(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tabs = open_views(context, &server, 3)?;
    server.command(&json!({ "drop": true }))?;
    let wanted = json!([{ "type": "close", "code": 1006, "reason": "", "wasClean": false }]);
    for closed in context.run_all(&tabs, "await T.until('view', 'close')")? {
        equal("close", closed, wanted.clone())?;
    }
    Ok(())
}

/// Opens a view of the same URL in `count` tabs.
/// What is on its way to a page that enters the back/forward cache is not lost, in any engine.
fn comes_back(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tabs = open_views(context, &server, 2)?;
    server.command(&json!({ "stream": STREAM }))?;
    context.run(&tabs[1], "await T.messages('view', 20)")?;
    context.browser.navigate(&tabs[1], &context.pages.url("blank.html"))?;
    context.run(&tabs[0], format!("(await T.messages('view', {STREAM})).length"))?;
    context.browser.back(&tabs[1])?;
    context.run(&tabs[1], "await ready")?;
    // A page that was not kept is loaded again.
    if context.run(&tabs[1], "T.has('view')")? == json!(true) {
        let heard = format!("await T.messages('view', {STREAM})");
        let wanted = (1..=STREAM).map(|n| n.to_string()).collect::<Vec<_>>();
        equal("messages", context.run(&tabs[1], heard)?, json!(wanted))?;
    }
    Ok(())
}

fn open_views(context: &mut Context<'_>, server: &PlainServer, count: usize) -> Result<Vec<Tab>> {
    let tabs = context.tabs(count)?;
    for tab in &tabs {
        context.run(tab, format!("T.shared('view', '{}')", server.url("/")))?;
        context.run(tab, "await T.until('view', 'open')")?;
    }
    Ok(tabs)
}

/// The tab that sent a frame: the first number in it.
fn sender(data: &Value) -> Option<u64> {
    match data {
        Value::Array(bytes) => bytes.first()?.as_u64(),
        Value::String(text) => text.split(' ').next()?.parse().ok(),
        _ => None,
    }
}
