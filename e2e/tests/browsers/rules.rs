//! Mirror mode: what a page may say of the connection that it shares.

use serde_json::json;
use tabmux_e2e::{
    Result, browser::Tab, context::Context, plain::PlainServer, runner::Test, wait::equal,
};

use crate::steps::Outcome;

pub(crate) const TESTS: &[Test] = &[
    Test::new("rules: views stay open while the connection is dialled again", reconnect),
    Test::new("rules: views close when the dials of an outage are used up", gives_up),
    Test::new("rules: a connection lingers after its last view", linger),
    Test::new("rules: each dial asks a tab for a URL whose token expires", expiring_token),
    Test::new("rules: a tab asks for a new connection, once for all tabs", reconnect_all),
    Test::new("rules: a reset ends the connection in all tabs", reset),
    Test::new("rules: the key of a user may come late", late_key),
    Test::new("rules: a tab that joins a connection with a state is warned once", warned),
];

fn reconnect(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tabs = views(context, &server, 3, "{ reconnect: { minMs: 200, maxMs: 400 } }")?;
    for tab in &tabs {
        let listen = "T.again = new Promise((resolve) => \
            T.get('view').addEventListener('reconnect', ({ type }) => resolve(type)))";
        context.run(tab, format!("({listen}, 0)"))?;
    }
    server.command(&json!({ "drop": true }))?;
    server.wait_for("close", 1)?;
    context.run(&tabs[1], "T.get('view').send('kept')")?;
    for tab in &tabs {
        equal("event", context.run(tab, "await T.again")?, json!("reconnect"))?;
        equal("readyState", context.run(tab, "T.get('view').readyState")?, json!(1))?;
        equal("events", context.run(tab, "T.events('view').length")?, json!(1))?;
    }
    equal("message", server.wait_for("message", 1)?[0]["data"].clone(), json!("kept"))?;
    server.command(&json!({ "send": "hello" }))?;
    for tab in &tabs {
        equal("messages", context.run(tab, "await T.messages('view')")?, json!(["hello"]))?;
    }
    equal("connections", server.events("open").len(), 2)?;
    Ok(())
}

fn gives_up(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let options = "{ reconnect: { minMs: 50, maxMs: 100, attempts: 2 } }";
    let tabs = views(context, &server, 2, options)?;
    server.command(&json!({ "stop": true }))?;
    for tab in &tabs {
        let closed = context.run(tab, "await T.until('view', 'close')")?;
        equal("code", closed[0]["code"].clone(), json!(1006))?;
    }
    Ok(())
}

fn linger(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tab = views(context, &server, 1, "{ linger: 60000 }")?.remove(0);
    context.run(&tab, "T.get('view').close(3001)")?;
    let closed = context.run(&tab, "await T.until('view', 'close')")?;
    equal("code", closed[0]["code"].clone(), json!(3001))?;
    let url = server.url("/");
    context.run(&tab, format!("T.shared('next', '{url}', [], {{ linger: 60000 }})"))?;
    context.run(&tab, "await T.until('next', 'open')")?;
    equal("reused", context.run(&tab, "T.get('next').shared.reused")?, json!(true))?;
    equal("connections", server.events("open").len(), 1)?;
    equal("closed connections", server.events("close").len(), 0)?;
    Ok(())
}

fn expiring_token(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tabs = context.tabs(3)?;
    let url = server.url("/once?token=");
    let options = "{ shareBy: 'feed', reconnect: { minMs: 200, maxMs: 400 } }";
    for tab in &tabs {
        let fresh = format!("async () => '{url}' + Math.random()");
        context.run(tab, format!("T.shared('view', {fresh}, [], {options})"))?;
        context.run(tab, "await T.until('view', 'open')")?;
    }
    // A new connection needs another token than the first.
    server.command(&json!({ "drop": true }))?;
    let opened = server.wait_for("open", 2)?;
    if opened[0]["url"] == opened[1]["url"] {
        return Err(format!("the same token twice: {opened:?}").into());
    }
    server.command(&json!({ "send": "hello" }))?;
    for tab in &tabs {
        equal("messages", context.run(tab, "await T.messages('view')")?, json!(["hello"]))?;
    }
    equal("connections", server.events("open").len(), 2)?;
    let names = "navigator.locks ? JSON.stringify(await navigator.locks.query()) : ''";
    let names = context.run(&tabs[0], names)?.to_string();
    equal("tokens in the names of locks", names.contains("token"), false)?;
    Ok(())
}

fn reconnect_all(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tabs = views(context, &server, 3, "{}")?;
    for tab in &tabs {
        let listen = "T.again = new Promise((resolve) => \
            T.get('view').addEventListener('reconnect', ({ type }) => resolve(type)))";
        context.run(tab, format!("({listen}, 0)"))?;
    }
    for tab in &tabs[1..] {
        context.run(tab, "T.get('view').reconnect()")?;
    }
    for tab in &tabs {
        equal("event", context.run(tab, "await T.again")?, json!("reconnect"))?;
        equal("readyState", context.run(tab, "T.get('view').readyState")?, json!(1))?;
    }
    equal("the old connection", server.wait_for("close", 1)?[0]["code"].clone(), json!(1000))?;
    equal("connections", server.events("open").len(), 2)?;
    Ok(())
}

fn reset(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tabs = views(context, &server, 3, "{ key: 'a', reconnect: {} }")?;
    context
        .run(&tabs[0], format!("T.shared('other', '{}', [], {{ key: 'b' }})", server.url("/")))?;
    context.run(&tabs[0], "await T.until('other', 'open')")?;
    let url = server.url("/");
    context.run(&tabs[2], format!("T.SharedWebSocket.reset({{ url: '{url}', key: 'a' }})"))?;
    let wanted = json!([{ "type": "close", "code": 1000, "reason": "reset", "wasClean": true }]);
    for tab in &tabs {
        equal("close", context.run(tab, "await T.until('view', 'close')")?, wanted.clone())?;
    }
    equal("code", server.wait_for("close", 1)?[0]["code"].clone(), json!(1000))?;
    equal("other key", context.run(&tabs[0], "T.get('other').readyState")?, json!(1))?;
    Ok(())
}

fn late_key(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let keys = ["'a'", "async () => 'a'", "() => 'b'"];
    for key in keys {
        views(context, &server, 1, &format!("{{ key: {key} }}"))?;
    }
    equal("connections", server.events("open").len(), 2)?;
    Ok(())
}

fn warned(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let url = server.url("/protocol");
    let lines = "(window.warnings = [], console.warn = (line) => warnings.push(line), 0)";
    let tabs = context.tabs(2)?;
    for tab in &tabs {
        context.run(tab, lines)?;
        context.run(tab, format!("T.shared('view', '{url}', ['graphql-transport-ws'])"))?;
        context.run(tab, "await T.until('view', 'open')")?;
    }
    let warned = "await new Promise((resolve) => {
        const look = () => warnings.length ? resolve(warnings) : setTimeout(look, 20);
        look();
    })";
    let warnings = context.run(&tabs[1], warned)?.to_string();
    for word in ["graphql-transport-ws", "mux", "exclusive"] {
        if !warnings.contains(word) {
            return Err(format!("no {word} in {warnings}").into());
        }
    }
    equal("first tab", context.run(&tabs[0], "warnings")?, json!([]))?;
    Ok(())
}

/// Opens a view with these options in each of so many tabs.
fn views(
    context: &mut Context<'_>,
    server: &PlainServer,
    count: usize,
    options: &str,
) -> Result<Vec<Tab>> {
    let tabs = context.tabs(count)?;
    for tab in &tabs {
        context.run(tab, format!("T.shared('view', '{}', [], {options})", server.url("/")))?;
        context.run(tab, "await T.until('view', 'open')")?;
    }
    Ok(tabs)
}
