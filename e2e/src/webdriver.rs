//! The W3C WebDriver protocol: JSON over HTTP, one connection for each command.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use crate::{
    Result, Stop,
    browser::{Command, NAVIGATE, Transport},
    http,
};

/// What a driver can do to crash a tab.
#[derive(Debug)]
pub enum Crash {
    /// Loading this address crashes the tab's process, and the session goes on.
    Page(&'static str),
    /// The driver cannot crash a tab. The text says why.
    Impossible(&'static str),
}

/// A session of chromedriver or WebKitWebDriver.
#[derive(Debug)]
pub struct WebDriver {
    driver: SocketAddr,
    session: String,
    crash: Crash,
}

impl WebDriver {
    /// Begins a session with the wanted `capabilities`.
    pub fn connect(driver: SocketAddr, capabilities: &Value, crash: Crash) -> Result<Self> {
        let body = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let value = exchange(driver, "POST", "/session", Some(&body))?;
        let id = value["sessionId"].as_str().ok_or("the driver gave no session")?;
        Ok(Self { driver, session: format!("/session/{id}"), crash })
    }
}

impl WebDriver {
    /// Runs a command of Chromium's own protocol.
    fn devtools(&self, command: &str, parameters: Value) -> std::result::Result<Value, Stop> {
        if let Crash::Impossible(_) = self.crash {
            return Err(Stop::Skipped(format!("only chromedriver has a command for {command}")));
        }
        let path = format!("{}/goog/cdp/execute", self.session);
        let body = json!({ "cmd": command, "params": parameters });
        Ok(exchange(self.driver, "POST", &path, Some(&body))?)
    }
}

impl Transport for WebDriver {
    fn call(&mut self, command: Command, parameters: Value) -> Result<Value> {
        let path = format!("{}{}", self.session, command.path);
        let body = (command.method == "POST").then_some(&parameters);
        exchange(self.driver, command.method, &path, body)
    }

    fn crash(&mut self) -> std::result::Result<(), Stop> {
        match self.crash {
            Crash::Page(url) => {
                // If loading succeeded, the page would not have crashed.
                match self.call(NAVIGATE, json!({ "url": url })) {
                    Ok(_) => Err(Stop::Failed(format!("{url} did not crash the tab"))),
                    Err(_) => Ok(()),
                }
            }
            Crash::Impossible(reason) => Err(Stop::Skipped(reason.into())),
        }
    }

    fn process(&mut self) -> Result<Option<i64>> {
        Ok(None)
    }

    fn freeze(&mut self, frozen: bool) -> std::result::Result<(), Stop> {
        let state = if frozen { "frozen" } else { "active" };
        self.devtools("Page.setWebLifecycleState", json!({ "state": state })).map(drop)
    }

    fn end_workers(&mut self) -> std::result::Result<usize, Stop> {
        let targets = self.devtools("Target.getTargets", json!({}))?;
        let targets = targets["targetInfos"].as_array().into_iter().flatten();
        let workers: Vec<&Value> =
            targets.filter(|target| target["type"] == "shared_worker").collect();
        for worker in &workers {
            self.devtools("Target.closeTarget", json!({ "targetId": worker["targetId"] }))?;
        }
        Ok(workers.len())
    }
}

/// Longest time for an answer. It is longer than any time-out inside the driver, so that the
/// driver's own error comes first.
const TIMEOUT: Duration = Duration::from_secs(40);

fn exchange(driver: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let answer = http::request(driver, method, path, body, TIMEOUT)?;
    let mut answer_body = answer.json()?;
    let value = answer_body["value"].take();
    if answer.status >= 400 {
        return Err(format!("{}: {}", value["error"], value["message"]));
    }
    Ok(value)
}
