//! Many tabs, one link; and who gets what.

use std::rc::Rc;

use serde_json::{Value, json};
use tabmux_e2e::{
    Result,
    browser::{Kind, Tab},
    context::{Context, SOON},
    proxy::Proxy,
    runner::Test,
    server::LinkServer,
    wait::equal,
};

use crate::steps::{Outcome, ask, connect, connect_all, hub_of, one_link, open_echo};

pub(crate) const TESTS: &[Test] = &[
    Test::new("fifteen tabs and windows have one connection", fifteen_tabs),
    Test::new("a reply reaches only the tab that asked", reply),
    Test::new("a broadcast reaches all fifteen tabs", broadcast),
    Test::new("a late tab has its state at once", late_tab),
    Test::new("mux mode: two paths are one connection", two_paths),
    Test::new("mirror mode: two URLs are two connections", two_urls),
    Test::new("mirror mode: two keys are two connections", two_keys),
    Test::new("mux mode: two users with a key each share nothing", two_users),
    Test::new("mux mode: a session is not for the user who logs in next", next_user),
    Test::new("mode exclusive: each tab has a connection of its own", exclusive),
];

fn fifteen_tabs(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    for index in 0..15 {
        let kind = if index % 3 == 2 { Kind::Window } else { Kind::Tab };
        let tab = context.page(kind, "page.html")?;
        connect(context, &server, &tab)?;
        open_echo(context, &server, &tab, "echo")?;
        // Not even for a moment may there be a second one.
        equal("connections", server.connections()?, 1)?;
    }
    one_link(&server, 15)?;
    equal("virtual sockets", server.stat("sockets")?, 15)?;
    Ok(())
}

fn reply(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(15)?;
    for tab in &tabs {
        open_echo(context, &server, tab, "echo")?;
    }
    ask(context, &tabs[7], "echo", "question")?;
    // Whatever had gone astray would be in front of the tab's own second answer.
    for (index, tab) in tabs.iter().enumerate() {
        context.run(tab, "T.get('echo').send('own')")?;
        let wanted = if index == 7 { vec!["question", "own"] } else { vec!["own"] };
        let messages = format!("await T.messages('echo', {})", wanted.len());
        equal("messages", context.run(tab, messages)?, Value::from(wanted))?;
    }
    one_link(&server, 15)?;
    Ok(())
}

fn broadcast(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(15)?;
    connect_all(context, &server, &tabs)?;
    context.run(&tabs[4], format!("T.mux('notify', '{}')", server.url("/demo/notify")))?;
    context.run(&tabs[4], "await T.until('notify', 'open')")?;
    context.run(&tabs[4], "T.get('notify').send('to everyone')")?;
    for tab in &tabs {
        let messages = context.run(tab, "await T.messages('client')")?;
        let text = messages[0].as_str().unwrap_or_default();
        if !text.contains("to everyone") {
            return Err(format!("{messages} instead of the broadcast").into());
        }
    }
    Ok(())
}

fn late_tab(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tabs = context.tabs(3)?;
    connect_all(context, &server, &tabs)?;
    let hub = hub_of(context, &tabs[0])?;
    let late = context.tab()?;
    let begin = context.run(&late, "performance.now()")?;
    connect(context, &server, &late)?;
    equal("hub", hub_of(context, &late)?, hub)?;
    equal("tabs", context.run(&late, "T.get('client').status.tabs")?, json!(4))?;
    // The hub's first word to the tab is its state: no dialling, no retry in between.
    let took = context.run(&late, format!("performance.now() - {begin}"))?;
    if took.as_f64().is_none_or(|ms| ms > 1000.0) {
        return Err(format!("the late tab was connected after {took} ms").into());
    }
    open_echo(context, &server, &late, "echo")?;
    equal("reused", context.run(&late, "T.get('echo').shared.reused")?, json!(true))?;
    one_link(&server, 4)?;
    Ok(())
}

fn two_paths(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.tab()?;
    for (name, path) in [("echo", "/echo"), ("game", "/demo/game")] {
        context.run(&tab, format!("T.mux('{name}', '{}')", server.url(path)))?;
        context.run(&tab, format!("await T.until('{name}', 'open')"))?;
    }
    one_link(&server, 1)?;
    equal("virtual sockets", server.stat("sockets")?, 2)?;
    Ok(())
}

fn two_urls(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tabs = context.tabs(2)?;
    for tab in &tabs {
        for name in ["one", "two"] {
            context
                .run(tab, format!("T.shared('{name}', '{}')", server.url(&format!("/{name}"))))?;
            context.run(tab, format!("await T.until('{name}', 'open')"))?;
        }
    }
    let mut urls: Vec<Value> =
        server.wait_for("open", 2)?.iter().map(|open| open["url"].clone()).collect();
    urls.sort_by_key(Value::to_string);
    equal("connections", urls, vec![json!("/one"), json!("/two")])?;
    Ok(())
}

fn two_keys(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    for key in ["anna", "bert", "anna"] {
        let tab = context.tab()?;
        let url = server.url("/");
        context.run(&tab, format!("T.shared('view', '{url}', [], {{ key: '{key}' }})"))?;
        context.run(&tab, "await T.until('view', 'open')")?;
    }
    equal("connections", server.wait_for("open", 2)?.len(), 2)?;
    Ok(())
}

/// Tabs of Anna and of Bert, who logged in later in the same browser, and who gave keys.
struct Users {
    server: Rc<LinkServer>,
    proxy: Proxy,
    anna: Tab,
    bert: [Tab; 2],
}

impl Users {
    fn begin(context: &mut Context<'_>) -> Result<Self> {
        let server = context.users_server()?;
        let proxy = Proxy::naming(server.port(), "anna")?;
        let anna = Self::open(context, &proxy, "anna")?;
        proxy.log_in("bert");
        let bert = [Self::open(context, &proxy, "bert")?, Self::open(context, &proxy, "bert")?];
        Ok(Self { server, proxy, anna, bert })
    }

    fn open(context: &mut Context<'_>, proxy: &Proxy, user: &str) -> Result<Tab> {
        let url = |path: &str| format!("ws://127.0.0.1:{}{path}", proxy.port());
        let (tab, key) = (context.tab()?, json!({ "key": user }));
        context.run(&tab, format!("T.client('client', '{}', {key})", url("/")))?;
        context.run(&tab, "await T.state('client', 'connected')")?;
        context.run(&tab, format!("T.mux('notify', '{}', {key})", url("/demo/notify")))?;
        context.run(&tab, "await T.until('notify', 'open')")?;
        Ok(tab)
    }
}

fn two_users(context: &mut Context<'_>) -> Outcome {
    let Users { server, proxy: _proxy, anna, bert: [bert, again] } = Users::begin(context)?;
    server.wait_for_rest(2, 3, SOON)?;
    equal("hub of Bert's second tab", hub_of(context, &again)?, hub_of(context, &bert)?)?;
    // What had gone astray would be in front of what each hears of its own user.
    for (tab, text) in [(&anna, "of Anna"), (&bert, "of Bert")] {
        context.run(tab, format!("T.get('notify').send('{text}')"))?;
    }
    for (tab, wanted) in [(&anna, "of Anna"), (&bert, "of Bert"), (&again, "of Bert")] {
        let messages = context.run(tab, "await T.messages('client')")?;
        if !messages[0].as_str().unwrap_or_default().contains(wanted) {
            return Err(format!("{messages} instead of what is said to all tabs {wanted}").into());
        }
    }
    Ok(())
}

fn next_user(context: &mut Context<'_>) -> Outcome {
    let Users { server, proxy, anna, bert: [bert, _again] } = Users::begin(context)?;
    equal("links cut", proxy.cut(), 2)?;
    let close = context.run(&anna, "(await T.until('notify', 'close'))[0].code")?;
    equal("close of Anna's socket", close, json!(1006))?;
    context.run(&bert, "T.get('notify').send('of Bert')")?;
    context.run(&bert, "await T.messages('client')")?;
    equal(
        "Bert's sockets that closed",
        context.run(&bert, "T.count('notify', 'close')")?,
        json!(0),
    )?;
    equal("claims of another user", server.stat("foreign")?, 1)?;
    Ok(())
}

fn exclusive(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    for _ in 0..2 {
        let tab = context.tab()?;
        let url = server.url("/");
        context.run(&tab, format!("T.shared('view', '{url}', [], {{ mode: 'exclusive' }})"))?;
        context.run(&tab, "await T.until('view', 'open')")?;
    }
    equal("connections", server.wait_for("open", 2)?.len(), 2)?;
    Ok(())
}
