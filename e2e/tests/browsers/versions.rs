//! Page libraries and servers of different versions of the protocol.

use serde_json::json;
use tabmux_e2e::{
    Result,
    context::{Context, RECONNECT},
    proxy::Proxy,
    runner::Test,
    server::LinkServer,
    wait::equal,
};

use crate::steps::{Outcome, ask};

pub(crate) const TESTS: &[Test] = &[
    Test::new("versions: pages of version 1 work with the server of today", old_pages),
    Test::new("versions: pages of today work with a server of version 1", old_server),
];

fn old_pages(context: &mut Context<'_>) -> Outcome {
    context.use_version_1()?;
    let server = context.server()?;
    works(context, &server)?;
    Ok(())
}

fn old_server(context: &mut Context<'_>) -> Outcome {
    let server = context.version_1_server()?;
    works(context, &server)?;
    Ok(())
}

/// Virtual sockets, messages to all tabs and topics work over one link, also over the next one.
fn works(context: &mut Context<'_>, server: &LinkServer) -> Result<()> {
    let proxy = Proxy::start(server.port())?;
    let tabs = context.tabs(2)?;
    for tab in &tabs {
        context.run(tab, format!("T.client('client', 'ws://127.0.0.1:{}/')", proxy.port()))?;
        context.run(tab, "await T.state('client', 'connected')")?;
        let url = format!("ws://127.0.0.1:{}/echo", proxy.port());
        context.run(tab, format!("T.mux('echo', '{url}')"))?;
        context.run(tab, "await T.until('echo', 'open')")?;
        ask(context, tab, "echo", "first")?;
        context.run(tab, "T.topic('prices', 'client', 'prices')")?;
        context.run(tab, "await T.until('prices', 'ready')")?;
    }
    server.publish("prices", "42")?;
    for tab in &tabs {
        equal("topic", context.run(tab, "await T.messages('prices', 1)")?, json!(["42"]))?;
    }
    equal("connections cut", proxy.cut(), 1)?;
    server.publish("prices", "43")?;
    for tab in &tabs {
        context.run(tab, "T.get('echo').send('second')")?;
        let answers = context.run(tab, "await T.messages('echo', 2)")?;
        equal("answers", answers, json!(["first", "second"]))?;
        equal("topic", context.run(tab, "await T.messages('prices', 2)")?, json!(["42", "43"]))?;
    }
    server.wait_for_rest(1, 2, RECONNECT)
}
