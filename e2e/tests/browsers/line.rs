//! Lines that are slow, and lines that swallow what they are given.

use std::time::Duration;

use serde_json::json;
use tabmux_e2e::{
    Result,
    browser::Tab,
    context::Context,
    proxy::{Proxy, Weather},
    runner::Test,
    wait::{self, equal},
};

use crate::steps::{Outcome, ask};

pub(crate) const TESTS: &[Test] = &[
    Test::long("a mebibyte goes up and down a line of 16 kB/s on one link", slow),
    Test::new("a line that swallows bytes is given up ten seconds after something waits", swallows),
    Test::new("a tab that is back makes the hub ask, and a dead link is given up at once", doubt),
];

/// An open echo socket behind a proxy.
fn open(context: &mut Context<'_>) -> Result<(Proxy, Tab)> {
    let server = context.server()?;
    let proxy = Proxy::start(server.port())?;
    let tab = context.tab()?;
    let url = format!("ws://127.0.0.1:{}/echo", proxy.port());
    context.run(&tab, format!("T.mux('echo', '{url}')"))?;
    context.run(&tab, "await T.until('echo', 'open')")?;
    ask(context, &tab, "echo", "before")?;
    Ok((proxy, tab))
}

/// Waits for the second answer.
fn answer(context: &mut Context<'_>, tab: &Tab, within: Duration) -> Result<()> {
    wait::until("the answer", within, || {
        equal("messages", context.run(tab, "T.count('echo', 'message')")?, json!(2))
    })
}

fn slow(context: &mut Context<'_>) -> Outcome {
    let (proxy, tab) = open(context)?;
    proxy.set(Weather::Slow(16_000));
    // The server takes a mebibyte with the header of the frame.
    context.run(&tab, "T.get('echo').send('x'.repeat((1 << 20) - 64))")?;
    answer(context, &tab, Duration::from_secs(280))?;
    equal("connections", proxy.accepted(), 1)?;
    equal("errors", context.run(&tab, "T.count('echo', 'close')")?, json!(0))?;
    Ok(())
}

/// Without the question after three seconds the PING that is due in 25 s would be the first.
fn swallows(context: &mut Context<'_>) -> Outcome {
    let (proxy, tab) = open(context)?;
    proxy.set(Weather::HalfOpen);
    context.run(&tab, "T.get('echo').send('into the void')")?;
    wait::until("the byte that is lost", Duration::from_secs(5), || {
        if proxy.lost() { Ok(()) } else { Err("none".to_owned()) }
    })?;
    proxy.set(Weather::Fair);
    answer(context, &tab, Duration::from_secs(20))?;
    equal("connections", proxy.accepted(), 2)?;
    Ok(())
}

/// Nothing waits, so that the hub would ask in 25 s only.
fn doubt(context: &mut Context<'_>) -> Outcome {
    let (proxy, tab) = open(context)?;
    proxy.set(Weather::HalfOpen);
    context.run(&tab, "dispatchEvent(new Event('pageshow'))")?;
    wait::until("the byte that is lost", Duration::from_secs(5), || {
        if proxy.lost() { Ok(()) } else { Err("none".to_owned()) }
    })?;
    proxy.set(Weather::Fair);
    wait::until("another link", Duration::from_secs(15), || {
        equal("connections", proxy.accepted(), 2)
    })?;
    ask_again(context, &tab)?;
    Ok(())
}

fn ask_again(context: &mut Context<'_>, tab: &Tab) -> Result<()> {
    context.run(tab, "T.get('echo').send('after')")?;
    answer(context, tab, Duration::from_secs(15))
}
