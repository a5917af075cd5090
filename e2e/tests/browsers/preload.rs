//! A page may fetch the worker's module early.

use serde_json::json;
use tabmux_e2e::{Stop, context::Context, engine::Engine, runner::Test, wait::equal};

use crate::steps::Outcome;

pub(crate) const TESTS: &[Test] =
    &[Test::new("preload: a module that the page has fetched is not fetched again", preload)];

fn preload(context: &mut Context<'_>) -> Outcome {
    if context.engine == Engine::WebKit {
        return Err(Stop::Skipped("its worker downloads the module again".into()));
    }
    let (server, feed) = (context.server()?, context.plain_server()?);
    context.pages.pass_scripts_to(server.port());
    let tab = context.tab()?;
    for (mode, url) in [("mirror", feed.url("/echo")), ("mux", server.url("/echo"))] {
        let module = format!("/tabmux/{mode}.{}.wasm", context.pages.build()?);
        // As docs/bundlers.md has it.
        let link = format!(
            "void await new Promise((onload, onerror) => document.head.append(Object.assign(\
             document.createElement('link'), {{ rel: 'preload', as: 'fetch', \
             crossOrigin: 'anonymous', href: '{module}', onload, onerror }})))"
        );
        context.run(&tab, link)?;
        equal("early", context.pages.asked_for(&module), 1)?;
        context.run(&tab, format!("T.shared('{mode}', '{url}', [], {{ mode: '{mode}' }})"))?;
        context.run(&tab, format!("await T.until('{mode}', 'open')"))?;
        let tier = context.run(&tab, format!("T.get('{mode}').tier"))?;
        equal(mode, tier, json!("shared-worker"))?;
        equal("in all", context.pages.asked_for(&module), 1)?;
    }
    Ok(())
}
