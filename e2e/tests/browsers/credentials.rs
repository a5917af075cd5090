//! Tokens that pages show on the link, and users who are sent away.

use std::time::Duration;

use serde_json::{Value, json};
use tabmux_e2e::{
    Result,
    browser::Tab,
    context::Context,
    engine::Engine,
    runner::Test,
    server::LinkServer,
    wait::{equal, patient, until},
};

use super::steps::Outcome;

pub(crate) const TESTS: &[Test] = &[
    Test::new("credentials: a token that pages show names the user, in no address", named),
    Test::new("credentials: the same where a tab leads", named_where_a_tab_leads),
    Test::new("credentials: a token is renewed on the link that is open", renewed),
    Test::new("credentials: a token of another user is refused and changes nothing", another_user),
    Test::new("credentials: another token is noticed after a final refusal", another_token),
    Test::new("disconnect: every tab of a user hears it within a second", disconnected),
    Test::new("disconnect: a frozen tab hears it when it goes on", disconnected_while_frozen),
    Test::new("disconnect: a page out of the cache hears it", disconnected_while_cached),
];

/// The address under the name of the pages' host, so that their cookies go there.
fn url(server: &LinkServer, path: &str) -> String {
    server.url(path).replace("127.0.0.1", "localhost")
}

/// A page whose client and socket show `window.token` on a link of their own.
fn tab_with(
    context: &mut Context<'_>,
    server: &LinkServer,
    token: &str,
    more: &str,
) -> Result<Tab> {
    let tab = context.tab()?;
    context.run(&tab, "void (document.cookie = 'user=; max-age=0; path=/')")?;
    context.run(&tab, format!("void (window.token = '{token}')"))?;
    let endpoint = url(server, "/tabmux/ws?credentials");
    let options = format!(
        "{{ endpoint: '{endpoint}', key: 'a user', credentials: async () => window.token, {more} }}"
    );
    context.run(&tab, format!("T.client('client', '{}', {options})", url(server, "/")))?;
    context.run(&tab, format!("T.mux('user', '{}', {options})", url(server, "/user")))?;
    Ok(tab)
}

/// Whose the socket of a tab is.
fn whose(context: &mut Context<'_>, tab: &Tab, question: usize) -> Result<Value> {
    context.run(tab, "T.get('user').send('whose?')")?;
    let messages = context.run(tab, format!("await T.messages('user', {question})"))?;
    Ok(messages[question - 1].clone())
}

fn named(context: &mut Context<'_>) -> Outcome {
    named_in(context, "")
}

fn named_where_a_tab_leads(context: &mut Context<'_>) -> Outcome {
    named_in(context, "tiers: ['leader']")
}

fn named_in(context: &mut Context<'_>, more: &str) -> Outcome {
    let server = context.judged_server()?;
    for _ in 0..2 {
        let tab = tab_with(context, &server, "ann for 600", more)?;
        context.run(&tab, "await T.until('user', 'open')")?;
        equal("whose the socket is", whose(context, &tab, 1)?, json!("ann"))?;
        let address = context.run(&tab, "T.get('user').url")?;
        equal("the address", address, json!(url(&server, "/user")))?;
    }
    equal("links", server.connections()?, 1)?;
    let heard = server.log().iter().any(|line| line.contains("ann for"));
    equal("the token in the server's log", heard, false)?;
    Ok(())
}

fn renewed(context: &mut Context<'_>) -> Outcome {
    let server = context.judged_server()?;
    let tab = tab_with(context, &server, "ann for 4", "")?;
    context.run(&tab, "await T.until('user', 'open')")?;
    // Each token is another one, as those of a login service are.
    context.run(&tab, "void setInterval(() => { window.token += ' '; }, 100)")?;
    let renewed = || equal("three renewals", server.stat("credentials_renewed")? >= 3, true);
    until("the renewals", Duration::from_secs(30), renewed)?;
    equal("whose the socket is", whose(context, &tab, 1)?, json!("ann"))?;
    equal("links that expired", server.stat("credentials_expired")?, 0)?;
    equal("links that were dialled again", server.stat("resumed")?, 0)?;
    equal("states", context.run(&tab, "T.states('client').at(-1)")?, json!("connected"))?;
    equal("closed", context.run(&tab, "T.count('user', 'close')")?, json!(0))?;
    Ok(())
}

fn another_user(context: &mut Context<'_>) -> Outcome {
    let server = context.judged_server()?;
    let tab = tab_with(context, &server, "ann for 600", "")?;
    context.run(&tab, "await T.until('user', 'open')")?;
    context.run(&tab, "void (window.token = 'bob for 600')")?;
    context.run(&tab, "T.get('client').renew()")?;
    let refused = "await (async () => { for (;;) { const { reason } = T.get('client').status; \
        if (reason) return reason; await new Promise((go) => setTimeout(go, 20)); } })()";
    let reason = context.run(&tab, refused)?;
    let text = "refused the credentials: these credentials are of another user";
    equal("the reason", reason.as_str().is_some_and(|reason| reason.ends_with(text)), true)?;
    equal("whose the socket is", whose(context, &tab, 1)?, json!("ann"))?;
    equal("closed", context.run(&tab, "T.count('user', 'close')")?, json!(0))?;
    Ok(())
}

fn another_token(context: &mut Context<'_>) -> Outcome {
    let server = context.judged_server()?;
    let tab = tab_with(context, &server, "", "")?;
    context.run(&tab, "await T.state('client', 'closed')")?;
    let reason = context.run(&tab, "T.get('client').status.reason")?;
    let ends = reason.as_str().is_some_and(|reason| reason.ends_with("refused: log in first"));
    equal("the reason", ends, true)?;
    // The same token as before is no news.
    context.run(&tab, "T.get('client').renew()")?;
    context.run(&tab, "new Promise((go) => setTimeout(go, 1500))")?;
    equal("state", context.run(&tab, "T.get('client').status.state")?, json!("closed"))?;
    context.run(&tab, "void (window.token = 'ann for 600')")?;
    context.run(&tab, "T.get('client').renew()")?;
    context.run(&tab, "await T.state('client', 'connected')")?;
    Ok(())
}

/// A tab of Ann, who is named by her cookie.
fn tab_of_ann(context: &mut Context<'_>, server: &LinkServer, options: &str) -> Result<Tab> {
    let tab = context.tab()?;
    context.run(&tab, "void (document.cookie = 'user=ann; path=/')")?;
    context.run(&tab, format!("T.client('client', '{}', {options})", url(server, "/")))?;
    context.run(&tab, format!("T.mux('user', '{}', {options})", url(server, "/user")))?;
    context.run(&tab, "await T.until('user', 'open')")?;
    context.run(&tab, "await T.state('client', 'connected')")?;
    Ok(tab)
}

/// What a tab has heard that was sent away: why, and how its socket ended.
fn sent_away(context: &mut Context<'_>, tab: &Tab) -> Outcome {
    let status = context.run(tab, "await T.state('client', 'closed')")?;
    let reason = status["reason"].as_str().unwrap_or_default();
    equal("the reason", reason.ends_with("refused: you logged out"), true)?;
    let ends = "T.events('user').filter(({ type }) => type === 'error' || type === 'close')\
        .map(({ message, code }) => message ?? code)";
    context.run(tab, "await T.until('user', 'close')")?;
    equal("how the socket ended", context.run(tab, ends)?, json!([reason, 1006]))?;
    Ok(())
}

fn disconnected(context: &mut Context<'_>) -> Outcome {
    let server = context.judged_server()?;
    let mut tabs = Vec::new();
    for _ in 0..4 {
        tabs.push(tab_of_ann(context, &server, "{}")?);
    }
    for tab in &tabs {
        context.run(
            tab,
            "void T.get('client').on('status', ({ state }) => {
              if (state === 'closed') window.closedAt = Date.now();
            })",
        )?;
    }
    let before = context.run(&tabs[0], "(T.get('user').send('log out'), Date.now())")?;
    for tab in &tabs {
        sent_away(context, tab)?;
    }
    let took = context.run_all(&tabs, "window.closedAt")?;
    let before = before.as_f64().unwrap_or_default();
    let within = 1_000.0 * patient(Duration::from_secs(1)).as_secs_f64();
    for at in took {
        let took = at.as_f64().unwrap_or(f64::INFINITY) - before;
        equal(&format!("heard within a second ({took} ms)"), took < within, true)?;
    }
    equal("links", server.connections()?, 0)?;
    Ok(())
}

fn disconnected_while_frozen(context: &mut Context<'_>) -> Outcome {
    let server = context.judged_server()?;
    let ann = tab_of_ann(context, &server, "{}")?;
    let frozen = tab_of_ann(context, &server, "{}")?;
    context.browser.freeze(&frozen)?;
    context.run(&ann, "T.get('user').send('all:before')")?;
    context.run(&ann, "await T.messages('client', 1)")?;
    context.run(&ann, "T.get('user').send('log out')")?;
    sent_away(context, &ann)?;
    context.browser.thaw(&frozen)?;
    sent_away(context, &frozen)?;
    // What was sent before may come first.
    let heard = context.run(&frozen, "await T.messages('client', 1)")?;
    equal("messages", heard, json!(["before"]))?;
    Ok(())
}

fn disconnected_while_cached(context: &mut Context<'_>) -> Outcome {
    let options = match context.engine {
        Engine::Chromium => "{}",
        // It keeps no page with locks.
        Engine::Firefox => "{ bfcache: 'prefer' }",
        // It freezes the worker with its last page.
        Engine::WebKit => "{ tiers: ['storage'] }",
    };
    for _ in 0..8 {
        let server = context.judged_server()?;
        let ann = tab_of_ann(context, &server, options)?;
        let cached = tab_of_ann(context, &server, options)?;
        let elsewhere = context.pages.url("blank.html");
        context.browser.navigate(&cached, &elsewhere)?;
        context.run(&ann, "T.get('user').send('log out')")?;
        sent_away(context, &ann)?;
        context.browser.back(&cached)?;
        context.run(&cached, "await ready")?;
        if context.run(&cached, "T.has('client')")? == json!(true) {
            sent_away(context, &cached)?;
            equal("messages", context.run(&cached, "T.count('client', 'message')")?, json!(0))?;
            return Ok(());
        }
        context.browser.close_all()?;
    }
    Err("the page was dropped each time".into())
}
