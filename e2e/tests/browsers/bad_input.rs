//! What is wrong is said, where it can be understood, and harms nobody else.

use std::{
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};
use tabmux_e2e::{
    Result,
    browser::{Kind, Tab},
    context::{Context, SOON},
    runner::Test,
    server::LinkServer,
    wait::{self, equal},
};
use tungstenite::{
    Message, WebSocket, client::IntoClientRequest, protocol::frame::coding::CloseCode,
};

use crate::steps::{Outcome, ask, connect, ignored, one_link, open_echo};

pub(crate) const TESTS: &[Test] = &[
    Test::new("a missing worker script is named in an error event", missing_worker),
    Test::new("a worker blocked by the page's policy is named in an error event", blocked),
    Test::new("a worker of another build says so", other_build),
    Test::new("a worker whose policy refuses wasm says so", no_wasm),
    Test::new("a worker whose policy forbids the server says so at once", no_link),
    Test::new("mux mode: a server that says something else is no tabmux server", talkative_server),
    Test::new("mux mode: a server that says nothing is no tabmux server", silent_server),
    Test::new("mux mode: a message that is too large fails its socket alone", too_large),
    Test::new("mux mode: a message of 400 MB costs no tab its hub", huge),
    Test::new("mux mode: a huge text fails its socket, not that of another tab", huge_text),
    Test::new("messages without meaning on the worker's port are counted and harm nobody", garbage),
    Test::new("a claim in localStorage that is none keeps no page away", bad_claim),
    Test::new("a frame the server cannot decode closes that link alone", bad_frame),
    Test::new("a text frame closes that link alone", text_frame),
];

fn missing_worker(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.tab()?;
    let worker = "{ worker: '/tabmux/missing.js' }";
    context.run(&tab, format!("T.mux('socket', '{}', {worker})", server.url("/echo")))?;
    expect_error(context, &tab, &["/tabmux/missing.js"])?;
    Ok(())
}

fn blocked(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.page(Kind::Tab, "page.html?no-workers")?;
    context.run(&tab, format!("T.mux('socket', '{}')", server.url("/echo")))?;
    expect_error(context, &tab, &["/tabmux/worker.js"])?;
    Ok(())
}

/// As after a deploy: the address of the script is the same, and the name of the worker another.
fn other_build(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    for tiers in ["shared-worker", "leader", "direct"] {
        let tab = context.tab()?;
        let options = format!("{{ worker: '/next/worker.js', tiers: ['{tiers}'] }}");
        context.run(&tab, format!("T.mux('socket', '{}', {options})", server.url("/echo")))?;
        expect_error(context, &tab, &["tabmux was updated: reload this page"])?;
    }
    Ok(())
}

fn no_wasm(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.tab()?;
    let worker = "{ worker: '/tabmux/worker.js?no-wasm' }";
    context.run(&tab, format!("T.mux('socket', '{}', {worker})", server.url("/echo")))?;
    expect_error(context, &tab, &["WebAssembly", "'wasm-unsafe-eval'"])?;
    Ok(())
}

fn no_link(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let worker = "worker: '/tabmux/worker.js?no-link'";
    for mode in ["mux", "mirror", "exclusive"] {
        let tab = context.tab()?;
        let url = server.url("/echo");
        let open = format!("T.shared('socket', '{url}', [], {{ mode: '{mode}', {worker} }})");
        context.run(&tab, open)?;
        expect_error(context, &tab, &["worker.js", "connect-src"])?;
        let message = context.run(&tab, "T.events('socket')[0].message")?.to_string();
        equal("other causes", message.contains("the server is"), false)?;
    }
    Ok(())
}

fn talkative_server(context: &mut Context<'_>) -> Outcome {
    no_tabmux(context, "/hello")
}

fn silent_server(context: &mut Context<'_>) -> Outcome {
    no_tabmux(context, "/silent")
}

fn no_tabmux(context: &mut Context<'_>, path: &str) -> Outcome {
    let server = context.plain_server()?;
    let tab = context.tab()?;
    let link = server.url(path);
    let open = format!("T.mux('socket', '{}', {{ endpoint: '{link}' }})", server.url("/"));
    context.run(&tab, open)?;
    expect_error(context, &tab, &["no tabmux server", &link])?;
    Ok(())
}

/// Copied into the wasm module it would take the module's memory, and the hub with it.
fn huge(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.tab()?;
    open_echo(context, &server, &tab, "socket")?;
    open_echo(context, &server, &tab, "other")?;
    let hub = context.run(&tab, "T.get('other').shared.hubId")?;
    context.run(&tab, "T.get('socket').send(new Uint8Array(400_000_000))")?;
    context.run(&tab, "await T.until('socket', 'close')")?;
    let message = context.run(&tab, "T.events('socket')[1].message")?;
    let wanted = json!("tabmux: over 16 MiB unsent");
    equal("message", message, wanted)?;
    ask(context, &tab, "other", "unharmed")?;
    equal("hub", context.run(&tab, "T.get('other').shared.hubId")?, hub)?;
    Ok(())
}

/// In UTF-16 it has fewer units than the limit has bytes; in UTF-8 it has more bytes.
fn huge_text(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(2)?;
    open_echo(context, &server, &tabs[0], "socket")?;
    open_echo(context, &server, &tabs[1], "other")?;
    let hub = context.run(&tabs[1], "T.get('other').shared.hubId")?;
    context.run(&tabs[0], "T.get('socket').send('é'.repeat(10 << 20))")?;
    context.run(&tabs[0], "await T.until('socket', 'close')")?;
    let message = context.run(&tabs[0], "T.events('socket')[1].message")?;
    equal("message", message, json!("tabmux: over 16 MiB unsent"))?;
    ask(context, &tabs[1], "other", "unharmed")?;
    equal("hub", context.run(&tabs[1], "T.get('other').shared.hubId")?, hub)?;
    Ok(())
}

/// On the port of a tab that is attached, and on one of a stranger.
fn garbage(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(2)?;
    open_echo(context, &server, &tabs[0], "socket")?;
    open_echo(context, &server, &tabs[1], "other")?;
    let hub = context.run(&tabs[1], "T.get('other').shared.hubId")?;
    equal("ignored", ignored(context, &tabs[1])?, json!([0]))?;
    let post = "(() => {
        const garbage = [
            null, undefined, 0, 1n, 'retire', '', {}, [], ['x', true], [0n], [77], [0], [0, 1n],
            [0, 1n, {}, '', 0, 0], [3, 1, 1, '/', [{}]], [4, 1, 1, {}], [5, 1], [[1n], [0]],
            new Uint8Array(3), new Map(), new Error('x'), 'x'.repeat(1e6),
            ...Array.from({ length: 1000 }, (_, n) => [5, n]),
        ];
        const known = T.workers.at(-1);
        const ports = [known.port, new SharedWorker(...known.options).port];
        for (const message of garbage) ports.forEach((port) => port.postMessage(message));
        return ports.length * garbage.length;
    })()";
    let posted = context.run(&tabs[0], post)?;
    equal("posted", posted.as_u64().is_some_and(|count| count > 2000), true)?;
    wait::until("all of it to be counted", SOON, || {
        equal("ignored", ignored(context, &tabs[1])?, json!([posted]))
    })?;
    ask(context, &tabs[1], "other", "unharmed")?;
    ask(context, &tabs[0], "socket", "unharmed as well")?;
    equal("hub", context.run(&tabs[1], "T.get('other').shared.hubId")?, hub)?;
    one_link(&server, 2)?;
    Ok(())
}

/// Any script of the origin can write there.
fn bad_claim(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(3)?;
    connect(context, &server, &tabs[0])?;
    for (tab, claim) in tabs.iter().zip(["'none'", "'x'.repeat(1 << 20)"]) {
        let spoil = format!(
            "Object.keys(localStorage).filter((key) => key.startsWith('tabmux:socket:'))
               .map((key) => (localStorage[key] = {claim}, key)).length"
        );
        wait::until("a claim to spoil", SOON, || {
            equal("claims", context.run(tab, spoil.as_str())?.as_u64() > Some(0), true)
        })?;
        let next = tabs.iter().skip_while(|it| *it != tab).nth(1).ok_or("no tab is left")?;
        connect(context, &server, next)?;
        let tier = context.run(next, "T.get('client').status.tier")?;
        equal("tier", tier, json!("shared-worker"))?;
    }
    Ok(())
}

fn too_large(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.tab()?;
    open_echo(context, &server, &tab, "socket")?;
    open_echo(context, &server, &tab, "other")?;
    context.run(&tab, "T.get('socket').send('x'.repeat(3_000_000))")?;
    context.run(&tab, "await T.until('socket', 'close')")?;
    let events = context.run(&tab, "T.events('socket').map(({ type }) => type)")?;
    equal("events", events, json!(["open", "error", "close"]))?;
    ask(context, &tab, "other", "unharmed")?;
    one_link(&server, 1)?;
    Ok(())
}

fn bad_frame(context: &mut Context<'_>) -> Outcome {
    reject(context, Message::binary(vec![0xff; 8]), CloseCode::Protocol)
}

fn text_frame(context: &mut Context<'_>) -> Outcome {
    reject(context, Message::text("hello?"), CloseCode::Unsupported)
}

/// Sends `message` on a raw link beside a browser's link; only the raw one is closed, with `code`.
fn reject(context: &mut Context<'_>, message: Message, code: CloseCode) -> Outcome {
    let server = context.server()?;
    let tab = context.tab()?;
    connect(context, &server, &tab)?;
    open_echo(context, &server, &tab, "echo")?;
    let lines_before = server.log().len();

    let mut raw = raw_link(&server, &context.pages.origin())?;
    raw.send(message).map_err(|error| error.to_string())?;
    equal("close code", close_code(&mut raw)?, Some(code))?;
    drop(raw);

    wait::until("a log line with the reason", SOON, || {
        let lines = server.log().split_off(lines_before);
        match lines.as_slice() {
            [line] if line.contains("WARN link closed, the hub broke the protocol: ") => Ok(()),
            _ => Err(format!("{lines:?}")),
        }
    })?;
    ask(context, &tab, "echo", "unharmed")?;
    let states = context.run(&tab, "T.states('client').filter((state) => state === 'backoff')")?;
    equal("cuts of the other link", states, json!([]))?;
    server.wait_for_connections(1, SOON)?;
    one_link(&server, 1)?;
    Ok(())
}

fn raw_link(server: &LinkServer, origin: &str) -> Result<WebSocket<TcpStream>> {
    let error = |error: String| format!("raw link: {error}");
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port()))
        .map_err(|failure| error(failure.to_string()))?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|e| error(e.to_string()))?;
    let mut request = server
        .url("/tabmux/ws")
        .into_client_request()
        .map_err(|failure| error(failure.to_string()))?;
    let origin = origin.parse().map_err(|_| error(format!("bad origin {origin}")))?;
    request.headers_mut().insert("origin", origin);
    let (socket, _) = tungstenite::client(request, stream).map_err(|e| error(e.to_string()))?;
    Ok(socket)
}

/// Reads until the server closes.
fn close_code(raw: &mut WebSocket<TcpStream>) -> Result<Option<CloseCode>> {
    loop {
        match raw.read() {
            Ok(Message::Close(frame)) => return Ok(frame.map(|frame| frame.code)),
            Ok(_) => {}
            Err(error) => return Err(format!("the link ended without a close frame: {error}")),
        }
    }
}

/// The socket gets one `error` event whose message contains all of `wanted`, then it closes.
fn expect_error(context: &mut Context<'_>, tab: &Tab, wanted: &[&str]) -> Result<()> {
    let closed = context.run(tab, "await T.until('socket', 'close')")?;
    equal("code", closed[0]["code"].clone(), json!(1006))?;
    let events = context.run(tab, "T.events('socket')")?;
    let types: Vec<&Value> = events.as_array().into_iter().flatten().map(|e| &e["type"]).collect();
    equal("events", types, vec![&json!("error"), &json!("close")])?;
    let message = events[0]["message"].as_str().unwrap_or_default();
    match wanted.iter().find(|part| !message.contains(**part)) {
        Some(part) => Err(format!("{message:?} does not contain {part:?}")),
        None => Ok(()),
    }
}
