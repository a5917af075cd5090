//! One browser session: tabs, navigation and scripts, whatever protocol the driver speaks.

use std::fmt;

use serde_json::{Value, json};

use crate::{Result, Stop, process};

/// Carries commands to a browser. W3C WebDriver and Marionette have the same commands with the
/// same parameters; they differ in names and in framing.
pub trait Transport: fmt::Debug {
    /// Runs one command and returns its value.
    fn call(&mut self, command: Command, parameters: Value) -> Result<Value>;

    /// Kills the process that renders the current tab.
    fn crash(&mut self) -> std::result::Result<(), Stop>;

    /// The process that renders the current tab, where several tabs may share one.
    fn process(&mut self) -> Result<Option<i64>>;

    /// Freezes the current tab as a browser does that saves energy, or thaws it.
    fn freeze(&mut self, frozen: bool) -> std::result::Result<(), Stop>;

    /// Ends every shared worker and leaves the tabs alone. Returns how many workers it ended.
    fn end_workers(&mut self) -> std::result::Result<usize, Stop>;
}

/// One command in the words of both protocols.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// HTTP method in W3C WebDriver.
    pub method: &'static str,
    /// Path below the session in W3C WebDriver.
    pub path: &'static str,
    /// The name of the key in Marionette.
    pub marionette: &'static str,
}

/// How a new page is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A tab of the current window.
    Tab,
    /// A window of its own, in the same profile.
    Window,
}

/// One tab, by the driver's handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tab(String);

/// A running browser. One tab, *home*, stays open and blank for as long as the session lives:
/// a session without tabs would end.
#[derive(Debug)]
pub struct Browser {
    transport: Box<dyn Transport>,
    home: Tab,
    current: Option<Tab>,
    /// The process groups that the browser is made of.
    pub(crate) groups: Vec<i32>,
}

impl Browser {
    /// Takes over a new session with its one blank tab.
    pub fn new(mut transport: Box<dyn Transport>) -> Result<Self> {
        let timeouts = json!({ "script": SCRIPT_TIMEOUT_MS, "pageLoad": PAGE_TIMEOUT_MS });
        transport.call(SET_TIMEOUTS, timeouts)?;
        let home = Tab(text(&transport.call(GET_WINDOW, json!({}))?)?);
        Ok(Self { transport, current: Some(home.clone()), home, groups: Vec::new() })
    }

    /// Opens a new tab or window with the page at `url`.
    pub fn open(&mut self, kind: Kind, url: &str) -> Result<Tab> {
        // A new tab goes into the window of the current tab, which must still be there.
        self.switch(&self.home.clone())?;
        let kind = if kind == Kind::Tab { "tab" } else { "window" };
        let opened = self.transport.call(NEW_WINDOW, json!({ "type": kind, "focus": false }))?;
        let tab = Tab(text(&opened["handle"])?);
        self.navigate(&tab, url)?;
        Ok(tab)
    }

    /// Loads `url` in `tab` and waits for its `load` event.
    pub fn navigate(&mut self, tab: &Tab, url: &str) -> Result<()> {
        self.switch(tab)?;
        self.transport.call(NAVIGATE, json!({ "url": url })).map(drop)
    }

    /// Loads the page of `tab` again.
    pub fn reload(&mut self, tab: &Tab) -> Result<()> {
        self.switch(tab)?;
        self.transport.call(REFRESH, json!({})).map(drop)
    }

    /// Goes back by one page in the history of `tab`.
    pub fn back(&mut self, tab: &Tab) -> Result<()> {
        self.switch(tab)?;
        self.transport.call(BACK, json!({})).map(drop)
    }

    /// Closes the tab in the browser.
    pub fn close(&mut self, tab: &Tab) -> Result<()> {
        self.switch(tab)?;
        self.current = None;
        self.transport.call(CLOSE_WINDOW, json!({})).map(drop)
    }

    /// Closes every tab but home.
    pub fn close_all(&mut self) -> Result<()> {
        for tab in self.tabs()? {
            self.close(&tab)?;
        }
        self.switch(&self.home.clone())
    }

    /// All open tabs but home.
    pub fn tabs(&mut self) -> Result<Vec<Tab>> {
        let handles = self.transport.call(GET_WINDOWS, json!({}))?;
        let handles = handles.as_array().ok_or("the driver gave no list of tabs")?;
        let tabs: Result<Vec<Tab>> = handles.iter().map(|handle| text(handle).map(Tab)).collect();
        Ok(tabs?.into_iter().filter(|tab| *tab != self.home).collect())
    }

    /// Evaluates a JavaScript expression, which may contain `await`, in `tab`.
    ///
    /// An exception and a rejected promise are errors.
    pub fn run(&mut self, tab: &Tab, expression: &str) -> Result<Value> {
        self.switch(tab)?;
        let script = format!(
            "const done = arguments[arguments.length - 1];
            (async () => ({expression}))().then(
              (value) => done({{ value: value === undefined ? null : value }}),
              (error) => done({{ error: String(error) }}));"
        );
        let answer = self
            .transport
            .call(EXECUTE_ASYNC, json!({ "script": script, "args": [] }))
            .map_err(|error| format!("{expression}: {error}"))?;
        match answer.get("error") {
            Some(error) => Err(format!("{expression}: {error}")),
            None => Ok(answer["value"].clone()),
        }
    }

    /// Kills the process that renders `tab`. It may render other tabs too: see [`Self::process`].
    pub fn crash(&mut self, tab: &Tab) -> std::result::Result<(), Stop> {
        self.switch(tab)?;
        self.current = None;
        self.transport.crash()
    }

    /// Returns the number of the process of `tab`, if tabs may share one. Returns `None` if each
    /// tab has its own.
    pub fn process(&mut self, tab: &Tab) -> Result<Option<i64>> {
        self.switch(tab)?;
        self.transport.process()
    }

    /// Freezes `tab` as a browser does that saves energy.
    pub fn freeze(&mut self, tab: &Tab) -> std::result::Result<(), Stop> {
        self.switch(tab)?;
        self.transport.freeze(true)
    }

    /// Ends what [`Self::freeze`] began.
    pub fn thaw(&mut self, tab: &Tab) -> std::result::Result<(), Stop> {
        self.switch(tab)?;
        self.transport.freeze(false)
    }

    /// Kills the process that runs the worker of pages. Returns those of `tabs` that lived in it
    /// and died with it, or `None` if no process runs a worker.
    pub fn crash_worker(&mut self, tabs: &[Tab]) -> Result<Option<Vec<Tab>>> {
        let Some(host) = process::worker_hosts(&self.groups).into_iter().next() else {
            return Ok(None);
        };
        let mut dead = Vec::new();
        let mut are_known = false;
        for tab in tabs {
            let process = self.process(tab)?;
            are_known |= process.is_some();
            if process == Some(host) {
                dead.push(tab.clone());
            }
        }
        process::kill_one(host)?;
        if !are_known {
            dead.extend(tabs.iter().filter(|tab| !self.is_alive(tab)).cloned());
        }
        Ok(Some(dead))
    }

    /// Ends every shared worker and leaves the tabs alone. Returns how many workers it ended.
    pub fn end_workers(&mut self) -> std::result::Result<usize, Stop> {
        self.switch(&self.home.clone())?;
        self.transport.end_workers()
    }

    /// Returns true if the process of `tab` lives and runs scripts.
    pub fn is_alive(&mut self, tab: &Tab) -> bool {
        let alive = self.run(tab, "1").is_ok();
        if !alive {
            self.current = None;
        }
        alive
    }

    fn switch(&mut self, tab: &Tab) -> Result<()> {
        if self.current.as_ref() != Some(tab) {
            self.transport.call(SWITCH_TO_WINDOW, json!({ "handle": tab.0 }))?;
            self.current = Some(tab.clone());
        }
        Ok(())
    }
}

/// Longest time for a page to settle a promise, in milliseconds. Above it, the test fails.
const SCRIPT_TIMEOUT_MS: u64 = 15_000;
const PAGE_TIMEOUT_MS: u64 = 20_000;

const SET_TIMEOUTS: Command = post("/timeouts", "WebDriver:SetTimeouts");
const GET_WINDOW: Command = get("/window", "WebDriver:GetWindowHandle");
const GET_WINDOWS: Command = get("/window/handles", "WebDriver:GetWindowHandles");
const NEW_WINDOW: Command = post("/window/new", "WebDriver:NewWindow");
const SWITCH_TO_WINDOW: Command = post("/window", "WebDriver:SwitchToWindow");
const CLOSE_WINDOW: Command =
    Command { method: "DELETE", path: "/window", marionette: "WebDriver:CloseWindow" };
pub(crate) const NAVIGATE: Command = post("/url", "WebDriver:Navigate");
const REFRESH: Command = post("/refresh", "WebDriver:Refresh");
const BACK: Command = post("/back", "WebDriver:Back");
pub(crate) const EXECUTE_ASYNC: Command = post("/execute/async", "WebDriver:ExecuteAsyncScript");

const fn post(path: &'static str, marionette: &'static str) -> Command {
    Command { method: "POST", path, marionette }
}

const fn get(path: &'static str, marionette: &'static str) -> Command {
    Command { method: "GET", path, marionette }
}

fn text(value: &Value) -> Result<String> {
    value
        .as_str()
        .map(String::from)
        .ok_or_else(|| format!("the driver answered {value} instead of a text"))
}
