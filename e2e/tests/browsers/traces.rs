//! What a worker records, replayed at a desk.

use std::{fs, process::Command};

use serde_json::{Value, json};
use tabmux_e2e::{
    Result,
    browser::Tab,
    context::{Context, SOON},
    paths,
    runner::Test,
    server::LinkServer,
    wait::{self, equal},
};

use crate::steps::{Outcome, another_hub, ask, hub_of};

pub(crate) const TESTS: &[Test] = &[
    Test::new("what a worker records replays natively to the same orders", replays),
    Test::new("the worker of a tab that leads records a trace too", leader),
    Test::new("a hub that trapped leaves its trace", trapped),
    Test::new("a trace holds no cookie, no credentials and no query", secrets),
    Test::new("a trace ends at its limit and says so, and none is made unasked", limited),
];

const TRACE: &str = "{ worker: '/tabmux/worker.js?trace' }";

/// A trace, as `tabmux/debug` gives it.
struct Trace {
    hub: String,
    full: bool,
    bytes: Vec<u8>,
}

fn replays(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(2)?;
    for tab in &tabs {
        join(context, &server, tab, TRACE)?;
    }
    ask(context, &tabs[0], "echo", "a question")?;
    context.run(&tabs[1], "T.get('echo').send(new Uint8Array(100000).fill(7))")?;
    context.run(&tabs[1], "await T.messages('echo')")?;
    // All that a link can do: it breaks, others fail, and one goes on with a new session.
    server.kill();
    context.run(&tabs[0], "await T.state('client', 'backoff')")?;
    server.restart()?;
    for tab in &tabs {
        context.run(tab, "await T.state('client', 'connected')")?;
    }
    let hub = hub_of(context, &tabs[0])?;
    let [trace] = traces(context, &tabs[0])?;
    equal("hub", &trace.hub, &hub)?;
    equal("full", trace.full, false)?;
    let log = replay(&trace)?;
    for wanted in ["a question", "LinkClosed", "Backoff", "resumed: false", "Resume {"] {
        equal(wanted, log.contains(wanted), true)?;
    }
    Ok(())
}

fn leader(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.tab()?;
    let options = "{ worker: '/tabmux/worker.js?trace', tiers: ['leader'] }";
    join(context, &server, &tab, options)?;
    ask(context, &tab, "echo", "a question")?;
    let [trace] = traces(context, &tab)?;
    equal("hub", &trace.hub, &hub_of(context, &tab)?)?;
    equal("there", replay(&trace)?.contains("a question"), true)?;
    Ok(())
}

fn trapped(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.tab()?;
    join(context, &server, &tab, TRACE)?;
    let hub = hub_of(context, &tab)?;
    ask(context, &tab, "echo", "before the trap")?;
    context.run(&tab, "T.workers.at(-1).port.postMessage([99])")?;
    another_hub(context, &tab, &hub)?;
    context.run(&tab, "T.get('echo').send('after the trap')")?;
    context.run(&tab, "await T.messages('echo')")?;
    let [first, second] = traces(context, &tab)?;
    equal("the hub that trapped", &first.hub, &hub)?;
    let (first, second) = (replay(&first)?, replay(&second)?);
    equal("before", first.contains("before the trap"), true)?;
    equal("after", first.contains("after the trap"), false)?;
    equal("the other", second.contains("after the trap"), true)?;
    Ok(())
}

fn limited(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(2)?;
    join(context, &server, &tabs[0], "{}")?;
    // A kibibyte.
    let limit = "{ worker: '/tabmux/worker.js?trace=0.0009765625', key: 'another' }";
    join(context, &server, &tabs[1], limit)?;
    context.run(&tabs[1], "T.get('echo').send(new Uint8Array(1000))")?;
    context.run(&tabs[1], "await T.messages('echo')")?;
    let [trace] = traces(context, &tabs[0])?;
    equal("hub", &trace.hub, &hub_of(context, &tabs[1])?)?;
    equal("full", trace.full, true)?;
    equal("within its limit", trace.bytes.len() <= 1024, true)?;
    replay(&trace)?;
    Ok(())
}

fn secrets(context: &mut Context<'_>) -> Outcome {
    let server = context.judged_server()?;
    let plain = context.plain_server()?;
    let tab = context.tab()?;
    context.run(&tab, "void (document.cookie = 'user=s3cret-cookie; path=/')")?;
    let local = |url: String| url.replace("127.0.0.1", "localhost");
    let url = local(server.url("/user?token=s3cret-query"));
    let endpoint = local(server.url("/tabmux/ws?credentials&token=s3cret-address"));
    let worker = "worker: '/tabmux/worker.js?trace'";
    let by_cookie = format!("{{ {worker} }}");
    let shown = format!(
        "{{ {worker}, endpoint: '{endpoint}', key: 'a user',
           credentials: async () => 's3cret-credentials for 600' }}"
    );
    for (name, options) in [("cookie", by_cookie), ("shown", shown)] {
        context.run(&tab, format!("T.mux('{name}', '{url}', {options})"))?;
        context.run(&tab, format!("await T.until('{name}', 'open')"))?;
    }
    let mirrored = local(plain.url("/numbers?token=s3cret-mirror"));
    let options = format!("{{ mode: 'mirror', {worker} }}");
    context.run(&tab, format!("T.shared('mirror', '{mirrored}', [], {options})"))?;
    context.run(&tab, "await T.until('mirror', 'open')")?;
    let traces: [Trace; 3] = traces(context, &tab)?;
    for trace in &traces {
        equal("empty", trace.bytes.is_empty(), false)?;
        let text = String::from_utf8_lossy(&trace.bytes);
        if let Some(at) = text.find("s3cret") {
            let part: String = text[at..].chars().take(40).collect();
            return Err(format!("the trace of {} holds {part}", trace.hub).into());
        }
    }
    Ok(())
}

/// A client and an echo socket, at a worker with these options.
fn join(context: &mut Context<'_>, server: &LinkServer, tab: &Tab, options: &str) -> Result<()> {
    context.run(tab, format!("T.client('client', '{}', {options})", server.url("/")))?;
    context.run(tab, format!("T.mux('echo', '{}', {options})", server.url("/echo")))?;
    context.run(tab, "await T.until('echo', 'open')").map(drop)
}

/// The traces of all hubs of the origin, once there are so many, the oldest first.
fn traces<const N: usize>(context: &mut Context<'_>, tab: &Tab) -> Result<[Trace; N]> {
    let script = "(await import('/tabmux/debug.js')).traces(300).then((all) => all.map((one) =>
        ({ ...one, bytes: Array.from(one.bytes, (byte) => String.fromCharCode(byte + 256)).join('')
        })))";
    wait::until("the traces", SOON, || {
        let found = context.run(tab, format!("await {script}"))?;
        let found: Vec<Trace> = found.as_array().into_iter().flatten().map(trace).collect();
        let count = found.len();
        found.try_into().map_err(|_| format!("{count} traces"))
    })
}

fn trace(value: &Value) -> Trace {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    // Each byte is a character beyond all that JSON escapes.
    let bytes = text(&value["bytes"]).chars().map(|one| (u32::from(one) & 0xff) as u8).collect();
    Trace { hub: text(&value["hub"]), full: value["full"] == json!(true), bytes }
}

/// Replays a trace natively, which fails unless the orders are those of the browser's hub, and
/// returns what is printed of it.
fn replay(trace: &Trace) -> Result<String> {
    let file = std::env::temp_dir().join(format!("tabmux-{}-{}", std::process::id(), trace.hub));
    fs::write(&file, &trace.bytes).map_err(|error| error.to_string())?;
    let ran = Command::new(paths::trace_binary()?).arg("replay").arg(&file).output();
    let ran = ran.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    if !ran.status.success() {
        // It is left there, to be looked at.
        return Err(format!("{}: {said}", file.display()));
    }
    fs::remove_file(&file).map_err(|error| error.to_string())?;
    let log = String::from_utf8_lossy(&ran.stdout).into_owned();
    equal("compared", log.contains("the same as in the recording"), true)?;
    Ok(log)
}
