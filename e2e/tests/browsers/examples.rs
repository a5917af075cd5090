//! Small programs in front of plain servers, as somebody would write them: `e2e/pages/examples`.

use serde_json::{Value, json};
use tabmux_e2e::{
    Result,
    browser::{Kind, Tab},
    context::{Context, SOON},
    plain::PlainServer,
    runner::Test,
    wait::{self, equal},
};

use crate::steps::Outcome;

pub(crate) const TESTS: &[Test] = &[
    Test::new("examples: three tabs ask, and each hears its own answers", ask),
    Test::new("examples: a late tab shows at once how many users there are", users),
    Test::new("examples: a game in one tab and notifications in all", game),
];

fn ask(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tabs = open(context, &server, "ask", 3)?;
    for round in 0..2 {
        for (index, tab) in tabs.iter().enumerate() {
            context.run(tab, format!("ask('{index} {round}')"))?;
        }
    }
    server.wait_for("message", 6)?;
    server.command(&json!({ "send": json!({ "text": "news" }).to_string() }))?;
    for (index, tab) in tabs.iter().enumerate() {
        let wanted =
            json!([format!("answer to {index} 0"), format!("answer to {index} 1"), "news"]);
        until(context, tab, "lines()", &wanted)?;
    }
    // A name that is one of another browser.
    let other = json!({ "from": "somebody", "text": "for another browser" }).to_string();
    server.command(&json!({ "send": other }))?;
    for tab in &tabs {
        until(context, tab, "lines().at(-1)", &json!("for another browser"))?;
        equal("lines", context.run(tab, "lines().length")?, json!(4))?;
    }
    equal("connections", server.events("open").len(), 1)?;
    Ok(())
}

fn users(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    // Each page is ready when it knows the number.
    for tab in open(context, &server, "users", 3)? {
        let shown = context.run(&tab, "document.querySelector('output').textContent")?;
        equal("shown", shown, json!("1 users"))?;
    }
    equal("connections", server.events("open").len(), 1)?;
    Ok(())
}

fn game(context: &mut Context<'_>) -> Outcome {
    let server = context.plain_server()?;
    let tabs = open(context, &server, "game", 3)?;
    for points in [3, 4] {
        context.run(&tabs[0], format!("move({points})"))?;
    }
    context.run(&tabs[1], "notify('one')")?;
    context.run(&tabs[2], "notify('two')")?;
    for tab in &tabs {
        until(context, tab, "document.title", &json!("(2) game"))?;
    }
    let score = "document.querySelector('output').textContent";
    until(context, &tabs[0], score, &json!("7"))?;
    for tab in &tabs[1..] {
        equal("score", context.run(tab, score)?, json!("0"))?;
    }
    equal("connections", server.events("open").len(), 1)?;
    Ok(())
}

/// Opens an example in several tabs.
fn open(
    context: &mut Context<'_>,
    server: &PlainServer,
    example: &str,
    count: usize,
) -> Result<Vec<Tab>> {
    let page = format!("examples/{example}.html?port={}", server.port());
    (0..count).map(|_| context.page(Kind::Tab, &page)).collect()
}

fn until(context: &mut Context<'_>, tab: &Tab, expression: &str, wanted: &Value) -> Result<()> {
    wait::until(expression, SOON, || {
        let value = context.run(tab, expression)?;
        if value == *wanted { Ok(()) } else { Err(format!("{value}, not {wanted}")) }
    })
}
