//! A plain WebSocket server that knows nothing of tabmux: the npm package `ws` in Node.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{Result, paths, process::Group, wait};

/// The running server. It reports every connection, frame and close, and obeys commands.
#[derive(Debug)]
pub struct PlainServer {
    port: u16,
    commands: ChildStdin,
    events: Arc<Mutex<Vec<Value>>>,
    _process: Group,
}

impl PlainServer {
    /// Starts the server on a free port.
    pub fn start() -> Result<Self> {
        Self::start_script(&paths::plain_server())
    }

    /// Starts another script that has the same commands.
    pub fn start_script(script: &Path) -> Result<Self> {
        let mut command = Command::new("node");
        command
            .arg(script)
            .current_dir(paths::package())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Group::spawn(&mut command)?;
        let child = process.leader();
        let commands = child.stdin.take().ok_or("node has no input")?;
        let output = child.stdout.take().ok_or("node has no output")?;
        let events: Arc<Mutex<Vec<Value>>> = Arc::default();
        let sink = Arc::clone(&events);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        });
        let mut server = Self { port: 0, commands, events, _process: process };
        server.port = wait::until("node's ws to listen", Duration::from_secs(10), || {
            let listening = server.events("listening");
            let port = listening.first().and_then(|event| event["port"].as_u64());
            let port = port.and_then(|port| u16::try_from(port).ok());
            port.ok_or_else(|| format!("{:?}", server.all_events()))
        })?;
        Ok(server)
    }

    /// Returns the port on which the server listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the address of a path on this server.
    pub fn url(&self, path: &str) -> String {
        format!("ws://127.0.0.1:{}{path}", self.port)
    }

    /// Sends a command to the server: see `plain-server.mjs`.
    pub fn command(&self, command: &Value) -> Result<()> {
        self.line(&command.to_string())
    }

    /// Sends a line to the server.
    pub fn line(&self, line: &str) -> Result<()> {
        writeln!(&self.commands, "{line}")
            .map_err(|error| format!("the plain server takes no command: {error}"))
    }

    /// Returns the events of one type so far, in order.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let events = self.all_events();
        events.into_iter().filter(|event| event["type"] == kind).collect()
    }

    /// Waits until there are `count` events of a type, and returns all of that type.
    pub fn wait_for(&self, kind: &str, count: usize) -> Result<Vec<Value>> {
        let what = format!("{count} events {kind:?} of the plain server");
        wait::until(&what, Duration::from_secs(5), || {
            let events = self.events(kind);
            if events.len() >= count {
                return Ok(events);
            }
            Err(format!("{:?}", self.all_events()))
        })
    }

    /// Returns all events so far, in order.
    pub fn all_events(&self) -> Vec<Value> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
