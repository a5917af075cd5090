//! Whose the sockets of a browser are while people log in and out, as docs/lifecycle.md has it row
//! by row. Beside each of our sockets a `WebSocket` of the browser is opened at the same moment.

use std::rc::Rc;

use serde_json::{Value, json};
use tabmux_e2e::{
    Result, Stop,
    browser::Tab,
    context::{Context, RECONNECT, SOON},
    engine::Engine,
    plain::PlainServer,
    proxy::Proxy,
    runner::Test,
    server::LinkServer,
    wait::{self, equal},
};

use super::steps::Outcome;

pub(crate) const TESTS: &[Test] = &[
    Test::new("users: who logs in without a page load has sockets of their own", |context| {
        log_in_without_a_load(context, SHARED)
    }),
    Test::new("users: who logs in without a page load, where a tab leads", |context| {
        log_in_without_a_load(context, LEADER)
    }),
    Test::new("users: a page of another user has a hub and a link of its own", |context| {
        another_user(context, SHARED)
    }),
    Test::new("users: a page of another user, where a tab leads", |context| {
        another_user(context, LEADER)
    }),
    Test::new("users: a link of another user ends the sockets of the one before", |context| {
        another_link(context, SHARED)
    }),
    Test::new("users: a link of another user, where a tab leads", |context| {
        another_link(context, LEADER)
    }),
    Test::new("users: a log-out ends what the application ends", |context| {
        log_out(context, SHARED)
    }),
    Test::new("users: a log-out, where a tab leads", |context| log_out(context, LEADER)),
    Test::new("users: a cookie that expires is noticed at the next dial", |context| {
        expired(context, SHARED)
    }),
    Test::new("users: a cookie that expires, where a tab leads", |context| {
        expired(context, LEADER)
    }),
    Test::new("users: a page from the cache hears nothing of who came after", |context| {
        away(context, SHARED, Away::Cached)
    }),
    Test::new("users: a page from the cache, where a tab leads", |context| {
        away(context, LEADER, Away::Cached)
    }),
    Test::new("users: a page from the cache opens a socket as it returns", |context| {
        opened_on_return(context, SHARED)
    }),
    Test::new("users: a page from the cache opens a socket, where a tab leads", |context| {
        opened_on_return(context, LEADER)
    }),
    Test::new("users: a page that thaws hears nothing of who came after", |context| {
        away(context, SHARED, Away::Frozen)
    }),
    Test::new("users: a page that thaws, where a tab leads", |context| {
        away(context, LEADER, Away::Frozen)
    }),
    Test::new("users: a page of an earlier user is told so for good", |context| {
        page_of_another(context, SHARED)
    }),
    Test::new("users: a page of an earlier user, where a tab leads", |context| {
        page_of_another(context, LEADER)
    }),
    Test::new("users: a tag of an earlier secret goes on", |context| {
        another_secret(context, SHARED)
    }),
    Test::new("users: a tag of an earlier secret, where a tab leads", |context| {
        another_secret(context, LEADER)
    }),
    Test::new("users: logout() ends the session in all tabs", |context| {
        end_of_session(context, SHARED)
    }),
    Test::new("users: logout(), where a tab leads", |context| end_of_session(context, LEADER)),
];

const SHARED: &str = "{ tiers: ['shared-worker'] }";
const LEADER: &str = "{ tiers: ['leader'] }";

/// A server that names users by a cookie, a proxy before it, and a server that knows nothing of
/// tabmux.
struct Stage {
    server: Rc<LinkServer>,
    proxy: Proxy,
    plain: Rc<PlainServer>,
    /// Of all sockets and clients.
    options: &'static str,
}

impl Stage {
    fn set(context: &mut Context<'_>, options: &'static str) -> Result<Self> {
        let (server, plain) = (context.guests_server()?, context.plain_server()?);
        let proxy = Proxy::start(server.port())?;
        Ok(Self { server, proxy, plain, options })
    }

    /// The address under the name of the pages' host, so that their cookies go there.
    fn url(&self, path: &str) -> String {
        format!("ws://localhost:{}{path}", self.proxy.port())
    }

    /// Opens a page whose client is connected.
    fn tab(&self, context: &mut Context<'_>) -> Result<Tab> {
        let tab = context.tab()?;
        context.run(&tab, format!("T.client('client', '{}', {})", self.url("/"), self.options))?;
        context.run(&tab, "await T.state('client', 'connected')")?;
        Ok(tab)
    }

    /// Opens a socket and one of the browser, which are both of this user.
    fn open(&self, context: &mut Context<'_>, tab: &Tab, name: &str, user: &str) -> Result<()> {
        let (ours, plain) = (self.url("/user"), self.plain.url("/whose"));
        let plain = plain.replace("127.0.0.1", "localhost");
        context.run(tab, format!("T.mux('{name}', '{ours}', {})", self.options))?;
        context.run(tab, format!("T.native('native {name}', '{plain}')"))?;
        for name in [name, &format!("native {name}")] {
            context.run(tab, format!("await T.until('{name}', 'open')"))?;
        }
        self.whose(context, tab, name, user)
    }

    /// Asks a socket and that of the browser whose they are.
    fn whose(&self, context: &mut Context<'_>, tab: &Tab, name: &str, user: &str) -> Result<()> {
        for name in [&format!("native {name}"), name] {
            let asked = format!(
                "(T.get('{name}').send('whose?'), (await T.messages('{name}', \
                 T.count('{name}', 'message') + 1)).at(-1))"
            );
            equal(&format!("whose {name} is"), context.run(tab, asked)?, json!(user))?;
        }
        Ok(())
    }

    /// Says something to all tabs that share a socket's link.
    fn say(&self, context: &mut Context<'_>, tab: &Tab, name: &str, text: &str) -> Result<()> {
        context.run(tab, format!("T.get('{name}').send('all:{text}')")).map(drop)
    }

    /// All links and all connections of the browser's own sockets break.
    fn cut(&self) -> Result<()> {
        self.plain.command(&json!({ "drop": true }))?;
        if self.proxy.cut() == 0 { Err("there was no link to cut".into()) } else { Ok(()) }
    }

    /// Waits until the server has so many links.
    fn links(&self, links: u64) -> Result<()> {
        wait::until(&format!("{links} links"), RECONNECT, || {
            equal("links", self.server.stat("links")?, links)
        })
    }
}

/// Logs in as this user, or out with the empty name.
fn log_in(context: &mut Context<'_>, tab: &Tab, user: &str) -> Result<()> {
    let age = if user.is_empty() { "; max-age=0" } else { "" };
    context.run(tab, format!("void (document.cookie = 'user={user}; path=/{age}')")).map(drop)
}

/// A page of a fresh browser as far as log-ins go: a test before this one may have left a cookie.
fn fresh(context: &mut Context<'_>, user: &str) -> Result<Tab> {
    let tab = context.tab()?;
    log_in(context, &tab, user)?;
    Ok(tab)
}

/// The tag of the user whose the client of a page is.
fn user_of(context: &mut Context<'_>, tab: &Tab) -> Result<Value> {
    context.run(tab, "T.get('client').status.user ?? null")
}

/// Waits until the client of a page is of another user than that.
fn another(context: &mut Context<'_>, tab: &Tab, before: &Value) -> Result<Value> {
    wait::until("another user", RECONNECT, || {
        let now = user_of(context, tab)?;
        if now == *before { Err(format!("still {now}")) } else { Ok(now) }
    })
}

/// How a socket ended, once it has: the types of its last two events, and the code.
fn end_of(context: &mut Context<'_>, tab: &Tab, name: &str) -> Result<Value> {
    let end = format!(
        "await T.until('{name}', 'close').then(([{{ code }}]) =>
           [...T.events('{name}').slice(-2).map(({{ type }}) => type), code])"
    );
    context.run(tab, end)
}

fn log_in_without_a_load(context: &mut Context<'_>, options: &'static str) -> Outcome {
    fresh(context, "")?;
    let stage = Stage::set(context, options)?;
    let tab = stage.tab(context)?;
    stage.open(context, &tab, "first", "nobody")?;
    equal("user", user_of(context, &tab)?, json!(null))?;
    log_in(context, &tab, "ann")?;
    stage.open(context, &tab, "second", "ann")?;
    stage.whose(context, &tab, "first", "nobody")?;
    stage.open(context, &tab, "third", "ann")?;
    // What is open and the client stay with the hub of nobody, and both hubs have their own tabs.
    equal("user", user_of(context, &tab)?, json!(null))?;
    equal("links", stage.server.stat("links")?, 2)?;
    let later = stage.tab(context)?;
    stage.open(context, &later, "fourth", "ann")?;
    equal("links", stage.server.stat("links")?, 2)?;
    stage.say(context, &tab, "first", "for nobody")?;
    stage.say(context, &tab, "second", "for ann")?;
    for (tab, text) in [(&tab, "for nobody"), (&later, "for ann")] {
        equal("messages", context.run(tab, "await T.messages('client')")?, json!([text]))?;
    }
    Ok(())
}

fn another_user(context: &mut Context<'_>, options: &'static str) -> Outcome {
    let home = fresh(context, "ann")?;
    let stage = Stage::set(context, options)?;
    let ann = [stage.tab(context)?, stage.tab(context)?];
    stage.open(context, &ann[0], "socket", "ann")?;
    equal("links of one user", stage.server.stat("links")?, 1)?;
    log_in(context, &home, "bob")?;
    let bob = [stage.tab(context)?, stage.tab(context)?];
    stage.open(context, &bob[0], "socket", "bob")?;
    equal("links of two users", stage.server.stat("links")?, 2)?;
    stage.whose(context, &ann[0], "socket", "ann")?;
    for (tabs, text) in [(&ann, "for ann"), (&bob, "for bob")] {
        stage.say(context, &tabs[0], "socket", text)?;
    }
    for (tabs, text) in [(&ann, "for ann"), (&bob, "for bob")] {
        for tab in tabs {
            // What had come for somebody else would be the first message of one of them.
            equal("messages", context.run(tab, "await T.messages('client')")?, json!([text]))?;
        }
        let users = [user_of(context, &tabs[0])?, user_of(context, &tabs[1])?];
        equal("user of the second tab", &users[1], &users[0])?;
    }
    Ok(())
}

fn another_link(context: &mut Context<'_>, options: &'static str) -> Outcome {
    let home = fresh(context, "ann")?;
    let stage = Stage::set(context, options)?;
    let tabs = [stage.tab(context)?, stage.tab(context)?];
    for tab in &tabs {
        stage.open(context, tab, "before", "ann")?;
        context.run(tab, "T.topic('topic', 'client', 'news')")?;
        context.run(tab, "await T.until('topic', 'ready')")?;
    }
    let ann = user_of(context, &tabs[0])?;
    log_in(context, &home, "bob")?;
    let new = stage.tab(context)?;
    stage.open(context, &new, "socket", "bob")?;
    let bob = user_of(context, &new)?;
    stage.whose(context, &tabs[0], "before", "ann")?;
    stage.cut()?;
    for tab in &tabs {
        equal("end", end_of(context, tab, "before")?, json!(["error", "close", 1006]))?;
        equal(
            "end of the native one",
            end_of(context, tab, "native before")?[2].clone(),
            json!(1006),
        )?;
        equal("user", another(context, tab, &ann)?, bob.clone())?;
        context.run(tab, "await T.until('topic', 'gap')")?;
        context.run(tab, "await T.state('client', 'connected')")?;
        stage.open(context, tab, "after", "bob")?;
    }
    // Each hub shows the tag that it knows.
    for tag in [&ann, &bob] {
        let shown = format!(": true {}", tag.as_str().unwrap_or_default());
        if !stage.server.log().iter().any(|line| line.ends_with(&shown)) {
            return Err(format!("no request shows {tag}").into());
        }
    }
    // One link for each user at rest.
    stage.links(1)?;
    stage.say(context, &tabs[0], "after", "for bob")?;
    for tab in tabs.iter().chain([&new]) {
        equal("messages", context.run(tab, "await T.messages('client')")?, json!(["for bob"]))?;
    }
    equal(
        "sockets of Bob that closed",
        context.run(&new, "T.count('socket', 'close')")?,
        json!(0),
    )?;
    Ok(())
}

fn log_out(context: &mut Context<'_>, options: &'static str) -> Outcome {
    fresh(context, "ann")?;
    let stage = Stage::set(context, options)?;
    let tabs = [stage.tab(context)?, stage.tab(context)?];
    for tab in &tabs {
        stage.open(context, tab, "socket", "ann")?;
    }
    log_in(context, &tabs[0], "")?;
    // Nobody has said anything, so nothing happens.
    stage.whose(context, &tabs[0], "socket", "ann")?;
    let new = stage.tab(context)?;
    stage.open(context, &new, "socket", "nobody")?;
    context.run(&tabs[0], "T.get('socket').send('log out')")?;
    for tab in &tabs {
        equal("end", end_of(context, tab, "socket")?, json!(["error", "close", 1006]))?;
        let status = context.run(tab, "await T.state('client', 'closed')")?;
        let reason = format!("tabmux: {} refused: you logged out", stage.url("/tabmux/ws"));
        equal("reason", &status["reason"], &json!(reason))?;
    }
    stage.whose(context, &new, "socket", "nobody")?;
    Ok(())
}

fn expired(context: &mut Context<'_>, options: &'static str) -> Outcome {
    let home = fresh(context, "ann")?;
    context.run(&home, "void (document.cookie = 'user=ann; path=/; max-age=3')")?;
    let stage = Stage::set(context, options)?;
    let tab = stage.tab(context)?;
    stage.open(context, &tab, "before", "ann")?;
    wait::until("the cookie to expire", SOON, || {
        let has = context.run(&tab, "document.cookie.includes('user=ann')")?;
        equal("cookie", has, json!(false))
    })?;
    stage.whose(context, &tab, "before", "ann")?;
    let ann = user_of(context, &tab)?;
    stage.cut()?;
    equal("end", end_of(context, &tab, "before")?, json!(["error", "close", 1006]))?;
    equal("user", another(context, &tab, &ann)?, json!(null))?;
    context.run(&tab, "await T.state('client', 'connected')")?;
    stage.open(context, &tab, "after", "nobody")?;
    Ok(())
}

/// How a page is away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Away {
    Cached,
    Frozen,
}

fn away(context: &mut Context<'_>, options: &'static str, how: Away) -> Outcome {
    if how == Away::Frozen && context.engine != Engine::Chromium {
        return Err(Stop::Skipped("only Chromium freezes a page when a test asks".into()));
    }
    if how == Away::Cached && context.engine == Engine::Firefox {
        return Err(Stop::Skipped("Firefox keeps no page that holds a lock".into()));
    }
    let home = fresh(context, "ann")?;
    let stage = Stage::set(context, options)?;
    // The first one leads, where a tab does.
    let stays = stage.tab(context)?;
    let tab = stage.tab(context)?;
    match how {
        // No engine keeps a page that has a socket of the browser.
        Away::Cached => {
            context.run(&tab, format!("T.mux('socket', '{}', {options})", stage.url("/user")))?;
            context.run(&tab, "await T.until('socket', 'open')")?;
        }
        Away::Frozen => stage.open(context, &tab, "socket", "ann")?,
    }
    let ann = user_of(context, &tab)?;
    match how {
        Away::Cached => context.browser.navigate(&tab, &context.pages.url("blank.html"))?,
        Away::Frozen => context.browser.freeze(&tab)?,
    }
    log_in(context, &home, "bob")?;
    let new = stage.tab(context)?;
    stage.open(context, &new, "socket", "bob")?;
    let bob = user_of(context, &new)?;
    stage.cut()?;
    equal("user", another(context, &stays, &ann)?, bob.clone())?;
    context.run(&new, "await T.state('client', 'connected')")?;
    stage.say(context, &new, "socket", "while it was away")?;
    equal(
        "messages",
        context.run(&stays, "await T.messages('client')")?,
        json!(["while it was away"]),
    )?;
    match how {
        Away::Cached => context.browser.back(&tab)?,
        Away::Frozen => context.browser.thaw(&tab)?,
    }
    if context.run(&tab, "!T.has('client')")? == json!(true) {
        return Err(Stop::Skipped("the engine did not keep the page".into()));
    }
    equal("end", end_of(context, &tab, "socket")?, json!(["error", "close", 1006]))?;
    if how == Away::Frozen {
        let native = end_of(context, &tab, "native socket")?[2].clone();
        equal("end of the native one", native, json!(1006))?;
    }
    equal("user", another(context, &tab, &ann)?, bob)?;
    context.run(&tab, "await T.state('client', 'connected')")?;
    stage.say(context, &new, "socket", "now")?;
    equal("messages", context.run(&tab, "await T.messages('client')")?, json!(["now"]))?;
    Ok(())
}

fn opened_on_return(context: &mut Context<'_>, options: &'static str) -> Outcome {
    if context.engine == Engine::Firefox {
        return Err(Stop::Skipped("Firefox keeps no page that holds a lock".into()));
    }
    let home = fresh(context, "ann")?;
    let stage = Stage::set(context, options)?;
    // The first one leads, where a tab does.
    let stays = stage.tab(context)?;
    let tab = stage.tab(context)?;
    let plain = stage.plain.url("/whose").replace("127.0.0.1", "localhost");
    let ours = stage.url("/user");
    context.run(
        &tab,
        format!(
            "void addEventListener('pageshow', () => {{
               T.mux('socket', '{ours}', {options});
               T.native('native socket', '{plain}');
             }})"
        ),
    )?;
    context.browser.navigate(&tab, &context.pages.url("blank.html"))?;
    log_in(context, &home, "bob")?;
    // WebKit tells its other processes of a cookie when the page that set it goes on.
    wait::until("the cookie of Bob", SOON, || {
        let has = context.run(&stays, "document.cookie.includes('user=bob')")?;
        equal("cookie", has, json!(true))
    })?;
    context.browser.back(&tab)?;
    if context.run(&tab, "!T.has('client')")? == json!(true) {
        return Err(Stop::Skipped("the engine did not keep the page".into()));
    }
    for name in ["socket", "native socket"] {
        context.run(&tab, format!("await T.until('{name}', 'open')"))?;
    }
    stage.whose(context, &tab, "socket", "bob")?;
    // What was there stays with the link of Ann.
    equal("user", user_of(context, &tab)?, user_of(context, &stays)?)?;
    stage.links(2)?;
    Ok(())
}

fn page_of_another(context: &mut Context<'_>, options: &'static str) -> Outcome {
    let home = fresh(context, "ann")?;
    let stage = Stage::set(context, options)?;
    let ann = stage.tab(context)?;
    let tag = user_of(context, &ann)?;
    context.browser.close(&ann)?;
    stage.links(0)?;
    let options = options.replace('}', &format!(", identity: {tag} }}"));
    // A page with the tag of its user is let in, and nobody is asked about it.
    let asked = |server: &LinkServer| {
        let is_question =
            |line: &&String| ["judged: ", "asked: "].iter().any(|it| line.starts_with(it));
        server.log().iter().filter(is_question).count()
    };
    let before = asked(&stage.server);
    let mine = context.tab()?;
    context.run(&mine, format!("T.client('client', '{}', {options})", stage.url("/")))?;
    context.run(&mine, "await T.state('client', 'connected')")?;
    let also = context.tab()?;
    context.run(&also, format!("T.mux('socket', '{}', {options})", stage.url("/user")))?;
    context.run(&also, "await T.until('socket', 'open')")?;
    equal("user", user_of(context, &mine)?, tag)?;
    equal("questions to the judge", asked(&stage.server) - before, 1)?;
    context.browser.close(&mine)?;
    context.browser.close(&also)?;
    stage.links(0)?;
    // The HTML is of Ann, and the cookie of Bob.
    log_in(context, &home, "bob")?;
    let old = context.tab()?;
    context.run(&old, format!("T.client('client', '{}', {options})", stage.url("/")))?;
    context.run(&old, format!("T.mux('socket', '{}', {options})", stage.url("/user")))?;
    let status = context.run(&old, "await T.state('client', 'closed')")?;
    equal("reason", &status["reason"], &json!("tabmux: the user changed"))?;
    equal("end", end_of(context, &old, "socket")?, json!(["error", "close", 1006]))?;
    stage.links(0)?;
    Ok(())
}

fn another_secret(context: &mut Context<'_>, options: &'static str) -> Outcome {
    fresh(context, "ann")?;
    let stage = Stage::set(context, options)?;
    stage.server.restart_with_secrets(&[OLD_SECRET])?;
    let tab = stage.tab(context)?;
    let ann = user_of(context, &tab)?;
    stage.server.restart_with_secrets(&[NEW_SECRET, OLD_SECRET])?;
    let again = |context: &mut Context<'_>| -> Result<()> {
        context.run(&tab, "T.get('client').reconnect()")?;
        stage.links(1)?;
        context.run(&tab, "await T.state('client', 'connected')").map(drop)
    };
    again(context)?;
    equal("user of the old tag", user_of(context, &tab)?, ann.clone())?;
    // HTML of before has the old tag too.
    let old = context.tab()?;
    let options = options.replace('}', &format!(", identity: {ann} }}"));
    context.run(&old, format!("T.client('client', '{}', {options})", stage.url("/")))?;
    context.run(&old, "await T.state('client', 'connected')")?;
    equal("user of the old page", another(context, &old, &json!(null))?, ann.clone())?;
    context.browser.close(&old)?;
    stage.server.restart_with_secrets(&[NEW_SECRET])?;
    again(context)?;
    let new = another(context, &tab, &ann)?;
    equal("user of the new tag", new.is_string(), true)?;
    Ok(())
}

const OLD_SECRET: &str = "the earlier secret of the tags";
const NEW_SECRET: &str = "the later secret of the tags";

fn end_of_session(context: &mut Context<'_>, options: &'static str) -> Outcome {
    fresh(context, "ann")?;
    let stage = Stage::set(context, options)?;
    let tabs = [stage.tab(context)?, stage.tab(context)?];
    for tab in &tabs {
        stage.open(context, tab, "socket", "ann")?;
    }
    let claims = "Object.keys(localStorage).filter((name) =>
        name.startsWith('tabmux:socket:')).length";
    equal("claims", context.run(&tabs[0], claims)?, json!(1))?;
    log_in(context, &tabs[0], "")?;
    context.run(&tabs[0], "T.get('client').logout()")?;
    for tab in &tabs {
        equal("end", end_of(context, tab, "socket")?, json!(["error", "close", 1006]))?;
        let status = context.run(tab, "await T.state('client', 'closed')")?;
        equal("reason", &status["reason"], &json!("tabmux: logged out"))?;
    }
    equal("claims", context.run(&tabs[0], claims)?, json!(0))?;
    wait::until("the session to end", SOON, || {
        equal("sessions", stage.server.stat("sessions")?, 0)
    })?;
    // It is over until somebody asks.
    log_in(context, &tabs[0], "bob")?;
    context.run(&tabs[1], "T.get('client').reconnect()")?;
    for tab in &tabs {
        context.run(tab, "await T.state('client', 'connected')")?;
        stage.open(context, tab, "after", "bob")?;
    }
    stage.links(1)?;
    Ok(())
}
