//! A socket that cannot be opened says why, though browsers hide it.

use std::net::TcpListener;

use serde_json::json;
use tabmux_e2e::{Result, browser::Tab, context::Context, runner::Test, wait::equal};

use crate::steps::Outcome;

pub(crate) const TESTS: &[Test] = &[
    Test::new("causes: a server that is not there", down),
    Test::new("causes: a server that refuses the WebSocket", refuses),
    Test::new("causes: an address where nothing is", nothing),
];

/// The address of a port on which nobody listens.
fn nobody() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    Ok(format!("ws://127.0.0.1:{port}/feed"))
}

/// Opens what cannot be opened, in all modes and as a client, and looks for the words in what each
/// says.
fn says(context: &mut Context<'_>, tab: &Tab, url: &str, words: &str) -> Outcome {
    context.run(tab, "void (T.lines = [], console.error = (line) => T.lines.push(line))")?;
    for mode in ["mirror", "exclusive", "mux"] {
        let options = format!("{{ mode: '{mode}', endpoint: '{url}' }}");
        context.run(tab, format!("T.shared('{mode}', '{url}', [], {options})"))?;
        let closed = context.run(tab, format!("await T.until('{mode}', 'close')"))?;
        equal("code", closed[0]["code"].clone(), json!(1006))?;
        let error = context.run(tab, format!("(await T.until('{mode}', 'error'))[0].message"))?;
        if !error.to_string().contains(words) {
            return Err(format!("mode {mode}: no '{words}' in {error}").into());
        }
    }
    context.run(tab, format!("T.client('client', '{url}', {{ endpoint: '{url}' }})"))?;
    let status = context.run(tab, "await T.state('client', 'backoff')")?;
    if !status["reason"].to_string().contains(words) {
        return Err(format!("client: no '{words}' in {status}").into());
    }
    // Each once, as the browser does for its own.
    let lines = format!("T.lines.filter((line) => line.includes({})).length", json!(words));
    equal("lines in the console", context.run(tab, lines)?, json!(3))?;
    Ok(())
}

fn down(context: &mut Context<'_>) -> Outcome {
    let tab = context.tab()?;
    says(context, &tab, &nobody()?, "the server is not there")
}

fn refuses(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tab = context.tab()?;
    says(context, &tab, &server.url("/refuse"), "the server is there, and refused the WebSocket")
}

fn nothing(context: &mut Context<'_>) -> Outcome {
    let tab = context.tab()?;
    let url = context.run(&tab, "location.origin.replace('http', 'ws') + '/nothing'")?;
    let url = url.as_str().unwrap_or_default().to_owned();
    says(context, &tab, &url, "there is nothing at this address (status 404)")
}
