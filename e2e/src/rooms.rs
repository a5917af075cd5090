//! The example app `examples/rooms` as a process that tests end and start again.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{Result, http, paths, ports, process::Group, wait};

/// The app on a port of its own, with a database that lives as long as this value.
#[derive(Debug)]
pub struct Rooms {
    port: u16,
    database: PathBuf,
    process: RefCell<Option<Group>>,
}

impl Rooms {
    /// Starts the app and waits until it answers.
    pub fn start() -> Result<Self> {
        let port = ports::free()?;
        let name = format!("tabmux-rooms-{}-{port}.sqlite", std::process::id());
        let database = std::env::temp_dir().join(name);
        let rooms = Self { port, database, process: RefCell::new(None) };
        rooms.restart()?;
        Ok(rooms)
    }

    /// Returns the address of its page.
    pub fn url(&self) -> String {
        format!("http://localhost:{}/", self.port)
    }

    /// Asks the app to end by SIGTERM, and waits until it has.
    pub fn terminate(&self, within: Duration) -> Result<ExitStatus> {
        let mut process = self.process.take().ok_or("the app does not run")?;
        process.terminate(within)
    }

    /// Starts the app again on the same port, with the same database.
    pub fn restart(&self) -> Result<()> {
        let mut command = Command::new(paths::rooms_binary()?);
        command.arg(self.address().to_string()).arg(&self.database).arg(paths::assets()?);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.process.replace(Some(Group::spawn(&mut command)?));
        wait::until("the app to answer", Duration::from_secs(10), || self.stats().map(drop))
    }

    /// Returns a number of `/tabmux/stats`.
    pub fn stat(&self, name: &str) -> Result<u64> {
        let stats = self.stats()?;
        stats[name].as_u64().ok_or_else(|| format!("no number {name} in {stats}"))
    }

    fn stats(&self) -> Result<Value> {
        let timeout = Duration::from_secs(5);
        http::request(self.address(), "GET", "/tabmux/stats", None, timeout)?.json()
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

impl Drop for Rooms {
    fn drop(&mut self) {
        self.process.take();
        // It is in the folder for temporary files, where a leftover harms nobody.
        let _ = std::fs::remove_file(&self.database);
    }
}
