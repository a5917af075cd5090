//! Steps that many tests share.

use serde_json::Value;
use tabmux_e2e::{
    Result, Stop,
    browser::Tab,
    context::{Context, SOON},
    paths,
    server::LinkServer,
    wait::{self, equal},
};

/// What a test returns.
pub(crate) type Outcome = std::result::Result<(), Stop>;

/// Connects a client called `client` in each tab, and waits until each is connected.
pub(crate) fn connect_all(
    context: &mut Context<'_>,
    server: &LinkServer,
    tabs: &[Tab],
) -> Result<()> {
    tabs.iter().try_for_each(|tab| connect(context, server, tab))
}

/// Connects a client called `client` in `tab`, and waits until it is connected.
pub(crate) fn connect(context: &mut Context<'_>, server: &LinkServer, tab: &Tab) -> Result<()> {
    context.run(tab, format!("T.client('client', '{}')", server.url("/")))?;
    context.run(tab, "await T.state('client', 'connected')").map(drop)
}

/// Opens a virtual socket called `name` in `tab` that sends everything back.
pub(crate) fn open_echo(
    context: &mut Context<'_>,
    server: &LinkServer,
    tab: &Tab,
    name: &str,
) -> Result<()> {
    context.run(tab, format!("T.mux('{name}', '{}')", server.url("/echo")))?;
    context.run(tab, format!("await T.until('{name}', 'open')")).map(drop)
}

/// Sends `text` on the echo socket `name`, and waits for it to come back as the first message.
pub(crate) fn ask(context: &mut Context<'_>, tab: &Tab, name: &str, text: &str) -> Result<()> {
    context.run(tab, format!("T.get('{name}').send('{text}')"))?;
    let answers = context.run(tab, format!("await T.messages('{name}')"))?;
    equal("answers", answers, Value::from(vec![text]))
}

/// Checks that `tabs` tabs share one link, by the server's numbers and by the kernel's.
pub(crate) fn one_link(server: &LinkServer, tabs: usize) -> Result<()> {
    // A worker may have died with the tab that made it: then a link is on its way.
    server.wait_for_rest(1, tabs as u64, SOON)?;
    equal("connections on the link's port", server.connections()?, 1)
}

/// The lock of the link to `server`, as an expression in JavaScript.
pub(crate) fn link_lock(server: &LinkServer) -> Result<String> {
    let build = paths::build(&paths::assets()?)?;
    let link = server.url("/tabmux/ws");
    Ok(format!("'tabmux:socket:mux:{build}:' + JSON.stringify(['{link}', ''])"))
}

/// The hub that the client of `tab` is attached to.
pub(crate) fn hub_of(context: &mut Context<'_>, tab: &Tab) -> Result<String> {
    let hub = context.run(tab, "T.get('client').status.hubId")?;
    hub.as_str().map(String::from).ok_or_else(|| format!("{hub} is no hub id"))
}

/// How many messages each worker of the origin has ignored.
pub(crate) fn ignored(context: &mut Context<'_>, tab: &Tab) -> Result<Value> {
    context.run(tab, "await (await import('/tabmux/debug.js')).ignored(300)")
}

/// Waits until `tab` is attached to another hub than `hub`, which is connected.
pub(crate) fn another_hub(context: &mut Context<'_>, tab: &Tab, hub: &str) -> Result<()> {
    wait::until("another hub", SOON, || {
        let now = hub_of(context, tab)?;
        if now == hub { Err(format!("still {now}")) } else { Ok(()) }
    })?;
    context.run(tab, "await T.state('client', 'connected')").map(drop)
}
