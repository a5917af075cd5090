//! A browser, the servers, and the steps that all parts share.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Scale,
    progress::Progress,
    sheet::{Row, Sheet, Subject},
};
use crate::{
    Result,
    browser::{Kind, Tab},
    engine::{Engine, Session},
    pages::PageServer,
    paths,
    plain::PlainServer,
    server::{LinkServer, Program},
    wait,
};

/// The page of most parts.
const PAGE: &str = "figures/index.html";

/// What one engine is measured with.
pub(super) struct Rig {
    pub(super) engine: Engine,
    pub(super) session: Session,
    pub(super) pages: PageServer,
    pub(super) plain: PlainServer,
    pub(super) server: LinkServer,
    pub(super) scale: Scale,
    pub(super) sheet: Sheet,
    pub(super) progress: Progress,
}

impl Rig {
    pub(super) fn start(engine: Engine, scale: Scale, progress: Progress) -> Result<Self> {
        let server = LinkServer::start(Program::Figures, &["*".to_owned()])?;
        let mut rig = Self {
            engine,
            session: Session::start(engine)?,
            pages: PageServer::start(paths::assets()?)?,
            plain: PlainServer::start_script(&paths::figures_server())?,
            server,
            scale,
            sheet: Sheet::default(),
            progress,
        };
        rig.pages = rig.new_origin()?;
        Ok(rig)
    }

    /// Pages on an origin that no page was on before. The scripts of the package are compressed, as
    /// the server serves them.
    pub(super) fn new_origin(&self) -> Result<PageServer> {
        let pages = PageServer::start(paths::assets()?)?;
        pages.pass_scripts_to(self.server.port());
        Ok(pages)
    }

    /// Where sockets of this subject get an echo.
    pub(super) fn echo(&self, subject: Subject) -> String {
        match subject {
            Subject::Mux => self.server.url("/echo"),
            Subject::Native | Subject::Plain | Subject::Mirror | Subject::Exclusive => {
                self.plain.url("/echo")
            }
        }
    }

    /// A new tab with the page of most parts.
    pub(super) fn tab(&mut self) -> Result<Tab> {
        let url = self.pages.url(PAGE);
        let tab = self.session.browser.open(Kind::Tab, &url)?;
        self.run(&tab, "await ready")?;
        Ok(tab)
    }

    /// Evaluates an expression in a tab.
    pub(super) fn run(&mut self, tab: &Tab, expression: &str) -> Result<Value> {
        self.session.browser.run(tab, expression)
    }

    /// The same where the value is a number.
    pub(super) fn number(&mut self, tab: &Tab, expression: &str) -> Result<f64> {
        let value = self.run(tab, expression)?;
        value.as_f64().ok_or_else(|| format!("{expression}: {value} is no number"))
    }

    /// Closes what pages opened, and waits until the servers know.
    pub(super) fn close(&mut self, tabs: &[Tab]) -> Result<()> {
        for tab in tabs {
            self.run(tab, "B.close()")?;
        }
        let (plain, links) = (self.plain.port(), self.server.port());
        wait::until("all connections to go", Duration::from_secs(20), || {
            wait::equal("plain ones", crate::sockets::established(plain)?, 0)?;
            wait::equal("links", crate::sockets::established(links)?, 0)
        })
    }

    /// Ends workers that outlive their pages, and opens no more than the home tab.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.session.browser.close_all()?;
        if self.engine == Engine::Chromium {
            self.session.browser.end_workers().map_err(|stop| format!("{stop:?}"))?;
        }
        self.close(&[])
    }

    /// Has the feed of this subject begin; when it did, in milliseconds since 1970.
    pub(super) fn command(&mut self, subject: Subject, line: &str) -> Result<f64> {
        if subject == Subject::Mux {
            return self.server.obey(line);
        }
        let before = self.plain.events("began").len();
        self.plain.line(line)?;
        let events = self.plain.wait_for("began", before + 1)?;
        let at = events.last().and_then(|event| event["at"].as_f64());
        at.ok_or_else(|| "a feed that began at no time".to_owned())
    }

    /// Adds one sample to the sheet.
    pub(super) fn add(&mut self, row: &'static Row, subject: Subject, value: f64) {
        self.sheet.add(row, subject, value);
    }
}

/// A text of JavaScript.
pub(super) fn quoted(text: &str) -> Value {
    json!(text)
}
