//! What a server behind the gateway sees of the browser, beside what it sees of a `WebSocket` that
//! the browser opens at the same moment.

use std::rc::Rc;

use serde_json::json;
use tabmux_e2e::{
    Result, Stop,
    browser::Tab,
    context::{Context, SOON},
    engine::Engine,
    plain::PlainServer,
    runner::Test,
    server::LinkServer,
    wait::{self, equal},
};

use super::steps::Outcome;

pub(crate) const TESTS: &[Test] = &[
    Test::new("gateway: a cookie of the socket's path reaches the server behind", path),
    Test::new("gateway: a cookie that changed since the link opened is the new one", renewed),
    Test::new("gateway: a socket that another user would open is that user's", another_user),
    Test::new("gateway: a link of another user opens no socket", another_user_with_a_key),
    Test::new("gateway: a route says what becomes of a page in the back/forward cache", parked),
];

/// A gateway, and the server behind it, which knows nothing of tabmux.
struct Stage {
    gateway: Rc<LinkServer>,
    plain: Rc<PlainServer>,
}

impl Stage {
    fn set(context: &mut Context<'_>, judges: bool) -> Result<Self> {
        let plain = context.plain_server()?;
        Ok(Self { gateway: context.gateway_server(plain.port(), judges)?, plain })
    }

    /// Opens a socket through the gateway, under the name of the pages' host.
    fn open(&self, context: &mut Context<'_>, tab: &Tab, name: &str, options: &str) -> Result<()> {
        self.open_at(context, tab, name, ("/whose", options))
    }

    /// Opens a socket at another path.
    fn open_at(
        &self,
        context: &mut Context<'_>,
        tab: &Tab,
        name: &str,
        (path, options): (&str, &str),
    ) -> Result<()> {
        let url = format!("ws://localhost:{}{path}", self.gateway.port());
        context.run(tab, format!("T.mux('{name}', '{url}', {options})")).map(drop)
    }

    /// Opens a socket and one of the browser, and asks both for their user.
    fn both(&self, context: &mut Context<'_>, tab: &Tab, name: &str, user: &str) -> Result<()> {
        let native = format!("native {name}");
        let url = self.plain.url("/whose").replace("127.0.0.1", "localhost");
        self.open(context, tab, name, "{}")?;
        context.run(tab, format!("T.native('{native}', '{url}')"))?;
        for name in [name, &native] {
            context.run(tab, format!("await T.until('{name}', 'open')"))?;
            self.whose(context, tab, name, user)?;
        }
        Ok(())
    }

    fn whose(&self, context: &mut Context<'_>, tab: &Tab, name: &str, user: &str) -> Result<()> {
        let asked = format!(
            "(T.get('{name}').send('whose?'), (await T.messages('{name}', \
             T.count('{name}', 'message') + 1)).at(-1))"
        );
        equal(&format!("whose {name} is"), context.run(tab, asked)?, json!(user))
    }
}

/// Sets the cookie `user`, and none at other paths. An empty name: nobody.
fn log_in(context: &mut Context<'_>, tab: &Tab, user: &str, at: &str) -> Result<()> {
    for path in ["/", "/whose"] {
        let (value, age) = if path == at { (user, "") } else { ("", "; max-age=0") };
        let age = if value.is_empty() { "; max-age=0" } else { age };
        let cookie = format!("user={value}; path={path}{age}");
        context.run(tab, format!("void (document.cookie = '{cookie}')"))?;
    }
    Ok(())
}

fn path(context: &mut Context<'_>) -> Outcome {
    let stage = Stage::set(context, false)?;
    let tab = context.tab()?;
    log_in(context, &tab, "ann", "/whose")?;
    stage.both(context, &tab, "scoped", "ann")?;
    log_in(context, &tab, "", "/")?;
    Ok(())
}

fn renewed(context: &mut Context<'_>) -> Outcome {
    let stage = Stage::set(context, false)?;
    let tab = context.tab()?;
    log_in(context, &tab, "old", "/")?;
    stage.both(context, &tab, "before", "old")?;
    log_in(context, &tab, "new", "/")?;
    stage.both(context, &tab, "after", "new")?;
    equal("links", stage.gateway.stat("links")?, 1)?;
    // What is open stays what it was.
    stage.whose(context, &tab, "before", "old")?;
    log_in(context, &tab, "", "/")?;
    Ok(())
}

fn another_user(context: &mut Context<'_>) -> Outcome {
    let stage = Stage::set(context, true)?;
    let tab = context.tab()?;
    log_in(context, &tab, "ann", "/")?;
    stage.both(context, &tab, "first", "ann")?;
    log_in(context, &tab, "bob", "/")?;
    stage.both(context, &tab, "second", "bob")?;
    stage.whose(context, &tab, "first", "ann")?;
    log_in(context, &tab, "", "/")?;
    Ok(())
}

/// A page that gives a key is asked nothing of its user, so its link may be of another one.
fn another_user_with_a_key(context: &mut Context<'_>) -> Outcome {
    let stage = Stage::set(context, true)?;
    let tab = context.tab()?;
    log_in(context, &tab, "ann", "/")?;
    stage.open(context, &tab, "first", "{ key: 'one' }")?;
    context.run(&tab, "await T.until('first', 'open')")?;
    log_in(context, &tab, "bob", "/")?;
    stage.open(context, &tab, "second", "{ key: 'one' }")?;
    let end = "await T.until('second', 'close').then(([{ code }]) =>
       [...T.events('second').map(({ type }) => type), code])";
    equal("end", context.run(&tab, end)?, json!(["error", "close", 1006]))?;
    stage.whose(context, &tab, "first", "ann")?;
    wait::until("the refusal to be counted, each way", SOON, || {
        equal("numbers", stage.gateway.metrics("other_user")?.len(), 3)
    })?;
    log_in(context, &tab, "", "/")?;
    Ok(())
}

/// A page that a route gives up, at once or after a while, sees at its return what it would of a
/// connection of its own. Another route keeps the connection, and what comes meanwhile.
fn parked(context: &mut Context<'_>) -> Outcome {
    let stage = Stage::set(context, false)?;
    let tab = context.tab()?;
    let options = match context.engine {
        Engine::WebKit => {
            let why = "it freezes a worker whose only page goes into the back/forward cache";
            return Err(Stop::Skipped(why.to_owned()));
        }
        Engine::Chromium => "{}",
        // It caches no page that has to do with a lock.
        Engine::Firefox => "{ bfcache: 'prefer' }",
    };
    for name in ["keep", "close", "500"] {
        stage.open_at(context, &tab, name, (&format!("/parked/{name}"), options))?;
        context.run(&tab, format!("await T.until('{name}', 'open')"))?;
    }
    context.browser.navigate(&tab, &context.pages.url("blank.html"))?;
    for closed in stage.plain.wait_for("close", 2)? {
        equal("code at the server", closed["code"].clone(), json!(1001))?;
    }
    stage.plain.command(&json!({ "send": "meanwhile" }))?;
    context.browser.back(&tab)?;
    context.run(&tab, "await ready")?;
    let is_restored = context.run(&tab, "T.has('keep')")? == json!(true);
    if context.engine == Engine::Chromium {
        equal("out of the cache", is_restored, true)?;
    }
    if is_restored {
        for name in ["close", "500"] {
            let code = format!("await T.until('{name}', 'close').then(([{{ code }}]) => code)");
            equal("code in the page", context.run(&tab, code)?, json!(1006))?;
        }
        let heard = context.run(&tab, "await T.messages('keep', 1)")?;
        equal("messages", heard, json!(["meanwhile"]))?;
        equal("closes", context.run(&tab, "T.count('keep', 'close')")?, json!(0))?;
    }
    Ok(())
}
