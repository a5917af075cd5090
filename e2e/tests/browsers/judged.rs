//! What a page hears of a server's judge.

use serde_json::json;
use tabmux_e2e::{context::Context, runner::Test, wait::equal};

use super::steps::Outcome;

pub(crate) const TESTS: &[Test] = &[
    Test::new(
        "judge: a final refusal reaches the page, which tries again after a page load",
        refused_for_good,
    ),
    Test::new("judge: a page that was refused for good is let in when it asks", asks_again),
];

/// How often the judge was asked.
fn asked(server: &tabmux_e2e::server::LinkServer) -> usize {
    server.log().iter().filter(|line| line.starts_with("judged: ")).count()
}

/// The address under the name of the pages' host, so that their cookies go there.
fn url(server: &tabmux_e2e::server::LinkServer, path: &str) -> String {
    server.url(path).replace("127.0.0.1", "localhost")
}

fn refused_for_good(context: &mut Context<'_>) -> Outcome {
    let server = context.judged_server()?;
    let tab = context.tab()?;
    let ticks = url(&server, "/ticks");
    context.run(&tab, format!("T.mux('first', '{ticks}')"))?;
    let failed = "T.events(name).map(({ type, message, code }) => message ?? code ?? type)";
    let expected = format!("tabmux: {} refused: log in first", url(&server, "/tabmux/ws"));
    for name in ["first", "second"] {
        if name == "second" {
            // One that is opened later fails as well, and nobody asks the server again.
            context.run(&tab, format!("T.mux('second', '{ticks}')"))?;
        }
        context.run(&tab, format!("await T.until('{name}', 'close')"))?;
        let events = context.run(&tab, format!("((name) => {failed})('{name}')"))?;
        equal("events", events, json!([expected, 1006]))?;
    }
    context.run(&tab, format!("T.client('client', '{}')", url(&server, "/")))?;
    let status = context.run(&tab, "await T.state('client', 'closed')")?;
    equal("the reason", &status["reason"], &json!(expected))?;
    equal("questions to the judge", asked(&server), 1)?;
    // A page that is loaded after the log-in is let in, and the other one with it.
    context.run(&tab, "void (document.cookie = 'user=ann; path=/')")?;
    let loaded = context.tab()?;
    context.run(&loaded, format!("T.mux('third', '{ticks}')"))?;
    context.run(&loaded, "await T.messages('third')")?;
    context.run(&tab, "await T.state('client', 'connected')")?;
    context.run(&tab, format!("T.mux('fourth', '{ticks}')"))?;
    context.run(&tab, "await T.messages('fourth')")?;
    equal("questions to the judge", asked(&server), 2)?;
    Ok(())
}

fn asks_again(context: &mut Context<'_>) -> Outcome {
    let server = context.judged_server()?;
    let tab = context.tab()?;
    // Of a test before this one.
    context.run(&tab, "void (document.cookie = 'user=; max-age=0; path=/')")?;
    context.run(&tab, format!("T.client('client', '{}')", url(&server, "/")))?;
    context.run(&tab, "await T.state('client', 'closed')")?;
    // Logged in: no page is loaded, and nothing happens by itself.
    context.run(&tab, "void (document.cookie = 'user=ann; path=/')")?;
    equal("questions to the judge", asked(&server), 1)?;
    context.run(&tab, "T.get('client').reconnect()")?;
    context.run(&tab, "await T.state('client', 'connected')")?;
    context.run(&tab, format!("T.mux('socket', '{}')", url(&server, "/ticks")))?;
    context.run(&tab, "await T.messages('socket')")?;
    equal("questions to the judge", asked(&server), 2)?;
    Ok(())
}
