//! Marionette, the protocol that geckodriver speaks to Firefox. It has one TCP connection with
//! frames of the form `LENGTH:[type, id, command, parameters]`.
//!
//! The harness speaks it itself. That saves a driver that is in no distribution package, and a
//! killed content process does not end the browser as it does under geckodriver.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    Result, Stop,
    browser::{Command, EXECUTE_ASYNC, Transport},
    process::{self},
    wait,
};

/// A session with a Firefox that was started with `--marionette`.
#[derive(Debug)]
pub struct Marionette {
    stream: TcpStream,
    last_id: u64,
}

impl Marionette {
    /// Waits until the browser listens, and begins a session.
    pub fn connect(address: SocketAddr, start: Duration) -> Result<Self> {
        let stream = wait::until("Firefox to listen for Marionette", start, || {
            TcpStream::connect(address).map_err(|error| error.to_string())
        })?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(|error| error.to_string())?;
        let mut session = Self { stream, last_id: 0 };
        wait::equal(
            "Marionette protocol",
            session.receive()?["marionetteProtocol"].as_u64(),
            Some(3),
        )?;
        session.command("WebDriver:NewSession", &json!({}))?;
        Ok(session)
    }

    fn command(&mut self, name: &str, parameters: &Value) -> Result<Value> {
        self.last_id += 1;
        let message = json!([REQUEST, self.last_id, name, parameters]).to_string();
        // The frame is written in one piece. With Nagle's algorithm a second piece would wait 40
        // ms.
        self.stream
            .write_all(format!("{}:{message}", message.len()).as_bytes())
            .map_err(|error| format!("{name}: {error}"))?;
        let answer = self.receive().map_err(|error| format!("{name}: {error}"))?;
        let error = &answer[2];
        if !error.is_null() {
            return Err(format!("{}: {}", error["error"], error["message"]));
        }
        // Some commands wrap their value, and some do not.
        let value = &answer[3];
        Ok(value.get("value").unwrap_or(value).clone())
    }

    fn receive(&mut self) -> Result<Value> {
        let frame = self.read_frame().map_err(|error| format!("Marionette: {error}"))?;
        serde_json::from_slice(&frame).map_err(|error| format!("Marionette: {error}"))
    }

    fn read_frame(&mut self) -> std::io::Result<Vec<u8>> {
        let mut length = 0;
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            match byte[0] {
                b':' => break,
                digit => length = length * 10 + usize::from(digit.wrapping_sub(b'0')),
            }
        }
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }
}

impl Transport for Marionette {
    fn call(&mut self, command: Command, mut parameters: Value) -> Result<Value> {
        if command.marionette == EXECUTE_ASYNC.marionette {
            // The script runs in the page's own world, not in a sandbox without the page's globals.
            parameters["sandbox"] = Value::Null;
        }
        self.command(command.marionette, &parameters)
    }

    fn crash(&mut self) -> std::result::Result<(), Stop> {
        let id = self.process()?.ok_or("no process number")?;
        process::kill_one(id)?;
        Ok(())
    }

    fn process(&mut self) -> Result<Option<i64>> {
        self.command("Marionette:SetContext", &json!({ "value": "chrome" }))?;
        let script = "return gBrowser.selectedBrowser.browsingContext.currentWindowGlobal.osPid";
        let id = self.command("WebDriver:ExecuteScript", &json!({ "script": script, "args": [] }));
        self.command("Marionette:SetContext", &json!({ "value": "content" }))?;
        Ok(id?.as_i64())
    }

    fn freeze(&mut self, _: bool) -> std::result::Result<(), Stop> {
        Err(Stop::Skipped("Firefox has no command that freezes a tab".into()))
    }

    fn end_workers(&mut self) -> std::result::Result<usize, Stop> {
        Err(Stop::Skipped("Firefox has no command that ends a worker and no tab".into()))
    }
}

/// The message type of a request.
const REQUEST: u8 = 0;

/// Longest time for an answer, which is longer than any time-out inside the browser.
const TIMEOUT: Duration = Duration::from_secs(40);
