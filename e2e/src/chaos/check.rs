//! What must hold, seen when everything is at rest.

use std::time::Duration;

use serde_json::Value;

use crate::{Result, chaos::world::World, context::SOON, wait};

/// Everything that was seen to be wrong: one text each.
pub(super) type Faults = Vec<String>;

/// What was counted over a run: a run in which nothing was sent proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Messages of the server that pages got.
    pub down: u64,
    /// Messages of pages that the server got.
    pub up: u64,
    /// Publications that pages got.
    pub publications: u64,
    /// Gaps in topics, all told.
    pub gaps: u64,
    /// Sockets that were closed.
    pub sockets: u64,
}

/// Longer than the hub's longest wait between two attempts, and than a heartbeat's time-out.
const REST: Duration = Duration::from_secs(45);

impl World {
    /// Heals everything, waits until nothing moves, looks at every page and at the server.
    pub(super) fn check(&mut self, direct: bool, counts: &mut Counts) -> Result<Faults> {
        self.heal()?;
        let here = self.here();
        for index in &here {
            self.run(*index, "C.end()")?;
        }
        let mut faults = Faults::new();
        for index in &here {
            let settled = wait::until("every socket to be open or closed", REST, || {
                let report = self.run(*index, "C.report()")?;
                let open = unsettled(&report);
                if open.is_empty() { Ok(()) } else { Err(open.join(", ")) }
            });
            if let Err(error) = settled {
                faults.push(format!("{}: {error}", self.name_of(*index)));
            }
        }
        if !faults.is_empty() {
            faults.extend(self.links(&here));
        }
        for index in &here {
            let report = self.run(*index, "C.take()")?;
            let of_page = look(&report, self.server_since, counts);
            let name = self.name_of(*index);
            faults.extend(of_page.into_iter().map(|fault| format!("{name}: {fault}")));
            self.run(*index, "C.go()")?;
        }
        let wanted = if direct { here.len() } else { 1 };
        faults.extend(self.server.wait_for_connections(wanted, REST).err());
        let (links, tabs) = (wanted as u64, here.len() as u64);
        faults.extend(self.server.wait_for_rest(links, tabs, REST).err());
        let settled =
            wait::until("links", SOON, || self.proxy.history(|history| history.settled(wanted)));
        faults.extend(settled.err());
        faults.extend(self.proxy.history(|history| history.faults().to_vec()));
        faults.extend(self.server.log().into_iter().filter(|line| line.starts_with("fault:")));
        Ok(faults)
    }

    /// What each page says of its hub's link, to understand a fault.
    fn links(&mut self, here: &[usize]) -> Faults {
        let mut links = Faults::new();
        for index in here {
            let report = self.run(*index, "C.report()").unwrap_or_default();
            let heard =
                report["history"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let heard: String = heard.map(|line| format!("\n    {line}")).collect();
            links.push(format!("{} heard of its hub:{heard}", self.name_of(*index)));
        }
        links.extend(self.server.metrics("refused").unwrap_or_default());
        links
    }
}

/// The sockets that are neither open with both counts told, nor closed.
fn unsettled(report: &Value) -> Vec<String> {
    let streams = report["streams"].as_array().into_iter().flatten();
    let open = streams.filter(|stream| stream["settled"] != true);
    open.map(|stream| {
        let (name, state) = (&stream["name"], &stream["readyState"]);
        let (sent, received) = (&stream["sent"], &stream["received"]);
        format!("{name} in state {state} has sent {sent} and received {received}")
    })
    .collect()
}

fn look(report: &Value, server_since: u64, counts: &mut Counts) -> Faults {
    let faults = report["faults"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut faults: Faults = faults.map(String::from).collect();
    for stream in report["streams"].as_array().into_iter().flatten() {
        if let Some(code) = stream["closed"]["code"].as_u64() {
            faults.extend(unfounded_close(stream, code, server_since));
            counts.sockets += 1;
        }
    }
    let count = |name: &str| report["counts"][name].as_u64().unwrap_or_default();
    counts.down += count("down");
    counts.up += count("up");
    counts.publications += count("publications");
    counts.gaps += count("gaps");
    faults
}

/// A socket that was open closes because its page wished it, or because the server has gone.
fn unfounded_close(stream: &Value, code: u64, server_since: u64) -> Option<String> {
    let asked = stream["asked"] == true;
    let was_open = stream["opened"] == true;
    let server_went = stream["born"].as_u64().is_some_and(|born| born < server_since);
    let founded = match code {
        3000 => asked,
        // The link failed while the page wished it or before the server had answered.
        1006 => asked || !was_open || server_went,
        // The server says that it goes.
        1001 | 1012 => server_went,
        _ => false,
    };
    let (name, closed) = (&stream["name"], &stream["closed"]);
    (!founded).then(|| format!("{name} was closed without need: {closed}"))
}
