//! The tools of a test: the browser, pages on a fresh origin, and servers.

use std::{rc::Rc, time::Duration};

use serde_json::Value;

use crate::{
    Result, Stop,
    browser::{Browser, Kind, Tab},
    engine::Engine,
    pages::{self, PageServer},
    paths,
    plain::PlainServer,
    server::{LinkServer, Program},
};

/// One run of one test in one engine.
#[derive(Debug)]
pub struct Context<'a> {
    /// The engine of the browser.
    pub engine: Engine,
    /// The browser, with no tab open but home.
    pub browser: &'a mut Browser,
    /// Serves the test page on an origin that no other test uses.
    pub pages: PageServer,
    // The servers run until the test is over, so that the log of a tab does not end with the end of
    // its server.
    servers: Vec<Rc<LinkServer>>,
    plain_servers: Vec<Rc<PlainServer>>,
}

impl<'a> Context<'a> {
    /// Starts the server of the test's pages.
    pub fn new(engine: Engine, browser: &'a mut Browser) -> Result<Self> {
        let pages = PageServer::start(paths::assets()?)?;
        Ok(Self { engine, browser, pages, servers: Vec::new(), plain_servers: Vec::new() })
    }

    /// Starts the real server. Pages of this test may open links to it.
    pub fn server(&mut self) -> Result<Rc<LinkServer>> {
        self.start(Program::Demo)
    }

    /// Starts the server that takes the user's name from a proxy: see
    /// [`Proxy::naming`](crate::proxy::Proxy::naming).
    pub fn users_server(&mut self) -> Result<Rc<LinkServer>> {
        self.start(Program::Users)
    }

    /// Starts the server that has room for two tabs of a browser.
    pub fn two_tabs_server(&mut self) -> Result<Rc<LinkServer>> {
        self.start(Program::TwoTabs)
    }

    /// Starts the server that keeps what is published, and no session without a link.
    pub fn history_server(&mut self) -> Result<Rc<LinkServer>> {
        self.start(Program::History)
    }

    /// Starts the server whose judge admits browsers with the cookie `user`.
    pub fn judged_server(&mut self) -> Result<Rc<LinkServer>> {
        self.start(Program::Judged)
    }

    /// Starts the same server with a judge that also admits guests, as nobody.
    pub fn guests_server(&mut self) -> Result<Rc<LinkServer>> {
        self.start(Program::Guests)
    }

    /// Starts the server that numbers its messages, and publishes to the topic `chaos:0`.
    pub fn numbers_server(&mut self) -> Result<Rc<LinkServer>> {
        self.start(Program::Numbers { topics: 1, plain: None, upstream: None })
    }

    /// Starts a server whose gateway passes sockets of the path `/whose` on to a plain server.
    pub fn gateway_server(&mut self, upstream: u16, judges: bool) -> Result<Rc<LinkServer>> {
        self.start(Program::Gateway { upstream, judges })
    }

    /// Starts the server of protocol version 1.
    pub fn version_1_server(&mut self) -> std::result::Result<Rc<LinkServer>, Stop> {
        if paths::version_1_binary().is_none() {
            return Err(Stop::Skipped("TABMUX_VERSION_1_BIN is not set".to_owned()));
        }
        Ok(self.start(Program::Version1)?)
    }

    /// Gives pages of this test the page library of protocol version 1. It must be called before
    /// any server is started, because it changes the origin of the pages.
    pub fn use_version_1(&mut self) -> Result<()> {
        self.pages = PageServer::start(paths::version_1_assets())?;
        Ok(())
    }

    fn start(&mut self, program: Program) -> Result<Rc<LinkServer>> {
        let origins = [self.pages.origin(), self.pages.insecure_origin()];
        let server = Rc::new(LinkServer::start(program, &origins)?);
        self.servers.push(Rc::clone(&server));
        Ok(server)
    }

    /// Starts a WebSocket server that knows nothing of tabmux.
    pub fn plain_server(&mut self) -> Result<Rc<PlainServer>> {
        let server = Rc::new(PlainServer::start()?);
        self.plain_servers.push(Rc::clone(&server));
        Ok(server)
    }

    /// Opens the test page in a new tab and waits for its script.
    pub fn tab(&mut self) -> Result<Tab> {
        self.page(Kind::Tab, "page.html")
    }

    /// Opens the test page `count` times, every third time in a window of its own.
    pub fn tabs(&mut self, count: usize) -> Result<Vec<Tab>> {
        let kinds = [Kind::Tab, Kind::Tab, Kind::Window];
        (0..count).map(|index| self.page(kinds[index % kinds.len()], "page.html")).collect()
    }

    /// Opens a page, with or without a query, and waits for its script.
    pub fn page(&mut self, kind: Kind, page: &str) -> Result<Tab> {
        let url = self.pages.url(page);
        self.address(kind, &url)
    }

    /// Does the same for a page that is no secure context, and therefore has no Web Locks.
    pub fn insecure_page(&mut self, kind: Kind, page: &str) -> std::result::Result<Tab, Stop> {
        if self.engine == Engine::WebKit && pages::known_host().is_none() {
            let host = pages::INSECURE_HOST;
            return Err(Stop::Skipped(format!("/etc/hosts has no line `127.0.0.1 {host}`")));
        }
        let url = format!("{}/{page}", self.pages.insecure_origin());
        Ok(self.address(kind, &url)?)
    }

    fn address(&mut self, kind: Kind, url: &str) -> Result<Tab> {
        let tab = self.browser.open(kind, url)?;
        self.browser.run(&tab, "await ready")?;
        Ok(tab)
    }

    /// Evaluates an expression in a tab: see [`Browser::run`].
    pub fn run(&mut self, tab: &Tab, expression: impl AsRef<str>) -> Result<Value> {
        self.browser.run(tab, expression.as_ref())
    }

    /// Evaluates the same expression in each tab, one after another.
    pub fn run_all(&mut self, tabs: &[Tab], expression: impl AsRef<str>) -> Result<Vec<Value>> {
        tabs.iter().map(|tab| self.run(tab, expression.as_ref())).collect()
    }

    /// Returns what helps to understand a failure: the log of each tab and the end of each server's
    /// log.
    pub fn evidence(&mut self) -> Vec<String> {
        let mut evidence = Vec::new();
        for (index, tab) in self.browser.tabs().unwrap_or_default().iter().enumerate() {
            let log = self.browser.run(tab, EVIDENCE);
            let lines = match &log {
                Ok(log) => strings(log),
                Err(error) => vec![error.clone()],
            };
            evidence.extend(lines.iter().map(|line| format!("tab {}: {line}", index + 1)));
        }
        for server in &self.servers {
            let lines = server.log();
            let last = &lines[lines.len().saturating_sub(20)..];
            evidence.extend(last.iter().map(|line| format!("server: {line}")));
        }
        for server in &self.plain_servers {
            evidence.extend(server.all_events().iter().map(|event| format!("plain: {event}")));
        }
        evidence
    }
}

/// Longest time for something that happens at once on an idle machine.
pub const SOON: Duration = Duration::from_secs(5);

/// Longest time for a new link after a cut, including the hub's backoff.
pub const RECONNECT: Duration = Duration::from_secs(15);

/// The expression that returns the log of a page, in the tests and in the chaos run.
const EVIDENCE: &str = "window.T ? T.log.slice(-12)
    : window.C ? [JSON.stringify(C.report())] : [document.title]";

fn strings(value: &Value) -> Vec<String> {
    let lines = value.as_array().into_iter().flatten();
    lines.map(|line| line.as_str().unwrap_or_default().to_owned()).collect()
}
