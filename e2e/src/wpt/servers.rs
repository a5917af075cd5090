//! The servers that the tests talk to.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{Result, paths, process::Group};

/// The servers of pages and WebSockets. Each mode has a port of its own. They end on drop.
pub(super) struct Servers {
    ports: BTreeMap<String, u64>,
    _processes: [Group; 2],
}

impl Servers {
    /// Serves a folder that contains the tests and the folder `resources`.
    pub(super) fn start(root: &Path) -> Result<Self> {
        let (mux, port) = start(&mut Command::new(paths::wpt_binary()?))?;
        let mut node = Command::new("node");
        node.arg(paths::wpt().join("server.mjs"))
            .arg(root)
            .arg(paths::assets()?)
            .arg(port.trim())
            .current_dir(paths::package());
        let (node, ports) = start(&mut node)?;
        let ports = serde_json::from_str::<Value>(&ports).map_err(|error| error.to_string())?;
        let ports = ports.as_object().into_iter().flatten();
        let ports = ports.filter_map(|(mode, port)| Some((mode.clone(), port.as_u64()?)));
        Ok(Self { ports: ports.collect(), _processes: [mux, node] })
    }

    /// Returns the address of a page in a mode.
    pub(super) fn url(&self, mode: &str, page: &str) -> Result<String> {
        let port = self.ports.get(mode).filter(|_| mode != "ws");
        let port = port.ok_or_else(|| format!("there is no mode {mode}"))?;
        Ok(format!("http://localhost:{port}{page}"))
    }

    /// Returns a text in which the addresses of the pages of a mode have no port.
    pub(super) fn without_port(&self, mode: &str, text: &str) -> String {
        match self.ports.get(mode) {
            Some(port) => text.replace(&format!("localhost:{port}"), "localhost"),
            None => text.to_owned(),
        }
    }
}

/// Starts a program, and returns the first line that it writes.
fn start(command: &mut Command) -> Result<(Group, String)> {
    let mut process = Group::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let output = process.leader().stdout.take().ok_or("the program has no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
    if line.is_empty() {
        return Err("a server of the tests did not start".to_owned());
    }
    Ok((process, line))
}
