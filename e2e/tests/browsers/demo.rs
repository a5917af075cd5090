//! The demo page, as `cargo demo` serves it.

use serde_json::{Value, json};
use tabmux_e2e::{
    Result, Stop,
    browser::{Kind, Tab},
    context::{Context, SOON},
    engine::Engine,
    runner::Test,
    wait::{self, equal},
};

use crate::steps::Outcome;

pub(crate) const TESTS: &[Test] = &[Test::new("the demo works in three tabs", demo)];

/// Last, as those of `crash`.
pub(crate) const CRASHES: &[Test] =
    &[Test::crashing("the demo counts no tab that crashed", crashed_tab)];

fn demo(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let url = format!("http://localhost:{}/", server.port());
    let mut tabs = Vec::new();
    for kind in [Kind::Tab, Kind::Tab, Kind::Window] {
        tabs.push(context.browser.open(kind, &url)?);
    }
    for tab in &tabs {
        for (field, wanted) in
            [("tabs-count", "3"), ("connections-count", "1"), ("saved-count", "2")]
        {
            wait_for_text(context, tab, field, |text| number(text) == wanted)?;
        }
        wait_for_text(context, tab, "tier", |text| text.contains("shared-worker"))?;
        wait_for_text(context, tab, "hub-id", |text| !text.is_empty())?;
        wait_for_text(context, tab, "tab-name", |text| !text.is_empty())?;
    }
    server.wait_for_tabs(3, SOON)?;
    equal("links", server.stat("links")?, 1)?;
    play(context, &tabs)?;
    notify(context, &tabs)
}

/// Pages of two origins, so that the second does not go on with the session of the first.
fn crashed_tab(context: &mut Context<'_>) -> Outcome {
    if context.engine == Engine::WebKit {
        let why = "where a process is killed it is driven by a script that the demo does not have";
        return Err(Stop::Skipped(why.into()));
    }
    let server = context.server()?;
    let url = |host: &str| format!("http://{host}:{}/", server.port());
    let gone = context.browser.open(Kind::Tab, &url("localhost"))?;
    wait_for_text(context, &gone, "tabs-count", |text| number(text) == "1")?;
    context.browser.crash(&gone)?;
    server.wait_for_rest(0, 0, SOON)?;
    equal("sessions that wait for their browser", server.stat("detached")?, 1)?;
    let tab = context.browser.open(Kind::Tab, &url("127.0.0.1"))?;
    wait_for_text(context, &tab, "tabs-count", |text| number(text) == "1")?;
    Ok(())
}

/// The game answers only the tab that asked.
fn play(context: &mut Context<'_>, tabs: &[Tab]) -> Outcome {
    let before: Vec<Value> = context.run_all(tabs, text_of("game-log"))?;
    submit(context, &tabs[1], "game-input", "game-send", "7")?;
    wait::until("the game's answer", SOON, || {
        let text = context.run(&tabs[1], text_of("game-log"))?;
        if text == before[1] { Err(format!("still {text}")) } else { Ok(()) }
    })?;
    // A broadcast that is sent after it comes after it: see `notify`, which looks again.
    for index in [0, 2] {
        equal(
            "another tab's game",
            context.run(&tabs[index], text_of("game-log"))?,
            before[index].clone(),
        )?;
    }
    Ok(())
}

/// A notification reaches every tab and shows in its title.
fn notify(context: &mut Context<'_>, tabs: &[Tab]) -> Outcome {
    let games: Vec<Value> = context.run_all(tabs, text_of("game-log"))?;
    let titles: Vec<Value> = context.run_all(tabs, "document.title")?;
    submit(context, &tabs[0], "notify-input", "notify-send", "dinner is ready")?;
    for (index, tab) in tabs.iter().enumerate() {
        wait_for_text(context, tab, "notify-log", |text| text.contains("dinner is ready"))?;
        let title = context.run(tab, "document.title")?;
        if title == titles[index] {
            return Err(format!("the title is still {title}").into());
        }
        equal("the game", context.run(tab, text_of("game-log"))?, games[index].clone())?;
    }
    Ok(())
}

fn submit(
    context: &mut Context<'_>,
    tab: &Tab,
    input: &str,
    button: &str,
    text: &str,
) -> Result<()> {
    let act = format!(
        "(() => {{
            const find = (id) => document.querySelector(`[data-testid=${{id}}]`);
            find('{input}').value = {};
            find('{input}').dispatchEvent(new Event('input', {{ bubbles: true }}));
            find('{button}').click();
        }})()",
        json!(text)
    );
    context.run(tab, act).map(drop)
}

fn wait_for_text(
    context: &mut Context<'_>,
    tab: &Tab,
    field: &str,
    fits: impl Fn(&str) -> bool,
) -> Result<()> {
    wait::until(&format!("a good {field}"), SOON, || {
        let text = context.run(tab, text_of(field))?;
        if text.as_str().is_some_and(&fits) { Ok(()) } else { Err(format!("it says {text}")) }
    })
}

fn text_of(field: &str) -> String {
    format!("document.querySelector('[data-testid={field}]').textContent.trim()")
}

/// The digits at the start of a text.
fn number(text: &str) -> &str {
    text.split(|character: char| !character.is_ascii_digit()).next().unwrap_or_default()
}
