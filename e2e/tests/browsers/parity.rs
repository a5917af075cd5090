//! `SharedWebSocket` against the browser's own `WebSocket`: same inputs, same outcome. The tables
//! are in `pages/parity.js`.

use serde_json::{Value, json};
use tabmux_e2e::{Result, context::Context, engine::Engine, ports, runner::Test, wait::equal};

use crate::steps::Outcome;

pub(crate) const TESTS: &[Test] = &[
    Test::new("parity: the constructor takes and refuses the same URLs", urls),
    Test::new("parity: the constructor takes and refuses the same protocols", protocols),
    Test::new("parity: send before open", early_send),
    Test::new("parity: close takes and refuses the same codes and reasons", closes),
    Test::new("parity: constants, attributes and handlers", surface),
    Test::new("parity: the socket as an object", object),
    Test::new("parity: the class has its name, also minified", name),
    Test::new("parity: a server that takes none of the sub-protocols", ignored),
    Test::new("parity: a connection's events", events),
    Test::new("parity: a connection on which the server breaks the protocol", broken),
];

fn urls(context: &mut Context<'_>) -> Outcome {
    compare(context, "urls", &json!({ "port": ports::free()? }))
}

fn protocols(context: &mut Context<'_>) -> Outcome {
    compare(context, "protocols", &json!({ "port": ports::free()? }))
}

fn early_send(context: &mut Context<'_>) -> Outcome {
    compare(context, "sends", &json!({ "port": ports::free()? }))
}

fn closes(context: &mut Context<'_>) -> Outcome {
    compare(context, "closes", &json!({ "port": ports::free()? }))
}

fn surface(context: &mut Context<'_>) -> Outcome {
    compare(context, "surface", &json!({ "port": ports::free()? }))
}

fn events(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    compare(context, "events", &json!({ "port": ports::free()?, "plain": server.port() }))
}

fn broken(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    compare(context, "broken", &json!({ "plain": server.port() }))
}

fn object(context: &mut Context<'_>) -> Outcome {
    compare(context, "object", &json!({ "port": ports::free()? }))
}

fn ignored(context: &mut Context<'_>) -> Outcome {
    let (server, plain) = (context.server()?, context.plain_server()?);
    let tab = context.tab()?;
    let setting = json!({ "plain": plain.port(), "mux": server.url("/demo/notify") });
    let outcome = context.run(&tab, format!("(await import('/parity.js')).ignored({setting})"))?;
    let event =
        |kind, state| json!({ "type": kind, "readyState": state, "protocol": "", "close": null });
    let closed = |code: u16, clean| {
        let mut event = event("close", 3);
        event["close"] = json!([code, "", clean]);
        event
    };
    let failed = json!([event("error", 3), closed(1006, false)]);
    equal("mux", outcome["mux"].clone(), failed.clone())?;
    equal(
        "without sub-protocols",
        outcome["none"].clone(),
        json!([event("open", 1), closed(1005, true)]),
    )?;
    // Firefox and WebKitGTK open it, against the standard.
    if context.engine == Engine::Chromium {
        equal("native", outcome["native"].clone(), failed)?;
    }
    Ok(())
}

fn name(context: &mut Context<'_>) -> Outcome {
    let tab = context.tab()?;
    equal("name", context.run(&tab, "T.SharedWebSocket.name")?, json!("SharedWebSocket"))?;
    Ok(())
}

/// Runs a table of `parity.js` in the page; it gives a line for each difference.
fn compare(context: &mut Context<'_>, table: &str, setting: &Value) -> Outcome {
    let tab = context.tab()?;
    let outcome = context.run(&tab, format!("(await import('/parity.js')).{table}({setting})"))?;
    let differences = lines(&outcome["differences"])?;
    if outcome["compared"].as_u64().unwrap_or_default() == 0 {
        return Err(format!("nothing was compared: {outcome}").into());
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(differences.join("\n    ").into())
}

fn lines(value: &Value) -> Result<Vec<String>> {
    let lines = value.as_array().ok_or_else(|| format!("{value} is no list"))?;
    Ok(lines.iter().map(|line| line.as_str().unwrap_or_default().to_owned()).collect())
}
