//! The page of the example app `examples/rooms`.

use serde_json::{Value, json};
use tabmux_e2e::{
    Result,
    browser::{Kind, Tab},
    context::{Context, RECONNECT, SOON},
    rooms::Rooms,
    runner::Test,
    wait::{self, equal},
};

use super::steps::Outcome;

pub(crate) const TESTS: &[Test] = &[
    Test::new("rooms: a note of one tab is shown once in both, over one link", notes),
    Test::new("rooms: a page that is opened while another writes misses no note", busy),
    Test::new("rooms: a page goes on when the app ends by SIGTERM and is started again", restarted),
];

fn notes(context: &mut Context<'_>) -> Outcome {
    let rooms = Rooms::start()?;
    let first = context.browser.open(Kind::Tab, &rooms.url())?;
    shown(context, &first, "document.querySelector('p').textContent", |text| {
        text.as_str().is_some_and(|text| text.ends_with("log in first"))
    })?;
    log_in(context, &first, "ann")?;
    write(context, &first, "milk")?;
    list(context, &first, &["ann: milk"])?;
    // The second one is told by the room what was written, and by the topic what is written
    // meanwhile.
    let second = context.browser.open(Kind::Tab, &rooms.url())?;
    write(context, &first, "bread")?;
    write(context, &second, "<b>eggs</b>")?;
    let all = ["ann: milk", "ann: bread", "ann: <b>eggs</b>"];
    for tab in [&first, &second] {
        list(context, tab, &all)?;
    }
    equal("links", rooms.stat("links")?, 1)?;
    equal("tabs", rooms.stat("tabs")?, 2)?;
    // Who logs out in one tab is out in both.
    submit(context, &second, "/logout")?;
    shown(context, &first, "document.querySelector('p').textContent", |text| {
        text.as_str().is_some_and(|text| text.contains("refused: log in"))
    })?;
    // A refusal is told over a link that ends right after it.
    Ok(wait::until("no link is left", SOON, || equal("links", rooms.stat("links")?, 0))?)
}

/// Windows, since browsers slow down the timers of tabs that nobody sees.
fn busy(context: &mut Context<'_>) -> Outcome {
    let rooms = Rooms::start()?;
    let writer = context.browser.open(Kind::Window, &rooms.url())?;
    log_in(context, &writer, "ann")?;
    write(context, &writer, "0")?;
    let begin = "void (window.timer = setInterval(() => {
        const form = document.querySelector('#write');
        form.note.value ||= window.count = (window.count ?? 0) + 1;
        form.requestSubmit();
    }, 20))";
    for _ in 0..3 {
        context.run(&writer, begin)?;
        let page = context.browser.open(Kind::Window, &rooms.url())?;
        shown(context, &page, "document.querySelectorAll('li').length", |count| {
            count.as_u64() > Some(5)
        })?;
        context.run(&writer, "clearInterval(window.timer)")?;
        shown(context, &writer, WRITTEN, |all| *all == true)?;
        let last = context.run(&writer, "window.count")?;
        shown(context, &page, &format!("{NUMBERS}.at(-1)"), |it| *it == last)?;
        let numbers = context.run(&page, NUMBERS)?;
        let numbers = numbers.as_array().into_iter().flatten().filter_map(Value::as_u64);
        let numbers = numbers.collect::<Vec<_>>();
        let wanted = numbers.first().map_or(0..0, |first| *first..*first + numbers.len() as u64);
        equal("the notes", numbers, wanted.collect())?;
        context.browser.close(&page)?;
    }
    Ok(())
}

/// What the notes say after their author.
const NUMBERS: &str =
    "[...document.querySelectorAll('li')].map((item) => Number(item.textContent.slice(5)))";

/// True if the page shows all that it has written.
const WRITTEN: &str = "document.querySelector('#write').note.value === ''
    && document.querySelector('li:last-child').textContent === `ann: ${window.count}`";

fn restarted(context: &mut Context<'_>) -> Outcome {
    let rooms = Rooms::start()?;
    let tab = context.browser.open(Kind::Tab, &rooms.url())?;
    log_in(context, &tab, "ann")?;
    write(context, &tab, "before")?;
    list(context, &tab, &["ann: before"])?;
    let status = rooms.terminate(SOON)?;
    equal("the end is no failure", status.success(), true)?;
    rooms.restart()?;
    let other = context.browser.open(Kind::Tab, &rooms.url())?;
    write(context, &other, "after")?;
    for tab in [&tab, &other] {
        list(context, tab, &["ann: before", "ann: after"])?;
    }
    write(context, &tab, "and here")?;
    list(context, &other, &["ann: before", "ann: after", "ann: and here"])?;
    Ok(())
}

fn log_in(context: &mut Context<'_>, tab: &Tab, name: &str) -> Result<()> {
    let fill = format!("document.querySelector('[name=name]').value = {}", json!(name));
    context.run(tab, fill)?;
    submit(context, tab, "/login")?;
    // The page is loaded again.
    shown(context, tab, "document.querySelector('[name=name]')?.value", |text| text == "")
}

/// Submits a form that leads to another page.
fn submit(context: &mut Context<'_>, tab: &Tab, action: &str) -> Result<()> {
    let form = format!("document.querySelector('[action=\"{action}\"]')");
    context.run(tab, format!("void setTimeout(() => {form}.requestSubmit())")).map(drop)
}

/// Writes a note. The page keeps it in its field until the room is there.
fn write(context: &mut Context<'_>, tab: &Tab, note: &str) -> Result<()> {
    let form = "document.querySelector('#write')";
    context.run(tab, format!("void ({form}.note.value = {})", json!(note)))?;
    shown(context, tab, &format!("({form}.requestSubmit(), {form}.note.value)"), |text| text == "")
}

/// Waits until the page shows these notes and no other.
fn list(context: &mut Context<'_>, tab: &Tab, notes: &[&str]) -> Result<()> {
    let notes = json!(notes);
    let list = "[...document.querySelectorAll('li')].map((item) => item.textContent)";
    shown(context, tab, list, |list| *list == notes)
}

/// Waits until an expression has a good value.
fn shown(
    context: &mut Context<'_>,
    tab: &Tab,
    expression: &str,
    is_good: impl Fn(&Value) -> bool,
) -> Result<()> {
    wait::until(&format!("a good {expression}"), RECONNECT, || {
        let value = context.run(tab, expression)?;
        if is_good(&value) { Ok(()) } else { Err(format!("it is {value}")) }
    })
}
