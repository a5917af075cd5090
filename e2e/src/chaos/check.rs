//! Checks of what must hold when everything is at rest.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{Result, chaos::world::World, context::SOON, wait};

/// The faults that were found, one text each.
pub(super) type Faults = Vec<String>;

/// Numbers of a whole run. A run in which nothing was sent proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Messages of the server that pages received.
    pub down: u64,
    /// Messages of pages that the server received.
    pub up: u64,
    /// Publications that pages received.
    pub publications: u64,
    /// Gaps in topics that pages were told of.
    pub gaps: u64,
    /// Sockets that were closed.
    pub sockets: u64,
}

/// What pages have reported. Each page is asked before it goes, because nobody can ask it later.
#[derive(Default)]
pub(super) struct Told {
    pub(super) counts: Counts,
    faults: Faults,
    /// Sockets that their page closed, each with the number of messages that it had sent.
    closed: Vec<(String, u64)>,
    /// Number of open sockets of the pages that were asked last.
    open: u64,
}

/// A time that is longer than the hub's longest wait between two attempts, and than the time-out of
/// a heartbeat.
const REST: Duration = Duration::from_secs(45);

impl World {
    /// Ends all faults, waits until nothing moves, and checks every page and the server. `may_gap`
    /// is true if an action may have cost publications.
    pub(super) fn check(&mut self, direct: bool, may_gap: bool) -> Result<Faults> {
        let gaps = self.told.counts.gaps;
        self.heal()?;
        let here = self.here();
        let mut faults = self.settle(&here)?;
        if !faults.is_empty() {
            faults.extend(self.links(&here));
        }
        self.told.open = 0;
        for index in &here {
            self.hear(*index)?;
        }
        faults.append(&mut self.told.faults);
        let gaps = self.told.counts.gaps - gaps;
        if gaps > 0 && !may_gap {
            faults.push(format!("{gaps} gaps were told, and nobody was away"));
            faults.extend(self.links(&here));
        }
        let wanted = if direct { here.len() } else { 1 };
        faults.extend(self.server.wait_for_connections(wanted, REST).err());
        let (links, tabs) = (wanted as u64, here.len() as u64);
        faults.extend(self.server.wait_for_rest(links, tabs, REST).err());
        let settled =
            wait::until("links", SOON, || self.proxy.history(|history| history.settled(wanted)));
        faults.extend(settled.err());
        faults.extend(self.proxy.history(|history| history.faults().to_vec()));
        faults.extend(self.sockets_of_server().err());
        faults.extend(self.server.log().into_iter().filter(|line| line.starts_with("fault:")));
        for index in here {
            self.run(index, "C.go()")?;
            self.fill(index)?;
        }
        Ok(faults)
    }

    /// Checks that everything moves, asks it to end, and checks that it ends.
    fn settle(&mut self, here: &[usize]) -> Result<Faults> {
        let mut faults = Faults::new();
        for index in here {
            self.run(*index, "C.mark()")?;
        }
        for index in here {
            let moves = wait::until("every socket and topic to move", REST, || {
                let still = self.run(*index, "C.still()")?;
                if still == json!([]) { Ok(()) } else { Err(format!("{still} did not")) }
            });
            faults.extend(moves.err().map(|error| format!("{}: {error}", self.name_of(*index))));
        }
        for index in here {
            self.run(*index, "C.end()")?;
        }
        for index in here {
            let settled = wait::until("every socket to be open or closed", REST, || {
                let report = self.run(*index, "C.report()")?;
                let open = unsettled(&report);
                if open.is_empty() { Ok(()) } else { Err(open.join(", ")) }
            });
            faults.extend(settled.err().map(|error| format!("{}: {error}", self.name_of(*index))));
        }
        Ok(faults)
    }

    /// Records what a page has to report. The page forgets it then.
    pub(super) fn hear(&mut self, index: usize) -> Result<()> {
        let report = self.run(index, "C.take()")?;
        let (name, since) = (self.name_of(index), self.server_since);
        self.told.look(&name, &report, since);
        Ok(())
    }

    /// Checks that the server has received everything that was sent on a socket before its page
    /// closed it, and that it holds no socket without a page.
    fn sockets_of_server(&mut self) -> Result<()> {
        let closed = std::mem::take(&mut self.told.closed);
        wait::until("the server to have closed what pages closed", SOON, || {
            let log = self.server.log();
            closed.iter().try_for_each(|(name, sent)| heard_all(&log, name, *sent))
        })?;
        // Other pages may have sockets too: those in the back/forward cache, those that died there
        // without the server's knowledge, and those of sessions that wait for a link.
        if self.server.stat("parked")? + self.server.stat("detached")? > 0 {
            return Ok(());
        }
        wait::until("as many sockets as pages have", SOON, || {
            wait::equal("sockets", self.server.stat("sockets")?, self.told.open)
        })
    }

    /// Returns what each page says of its hub's link, which helps to understand a fault.
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

/// Checks that the server has closed this socket, after as many messages as its page had sent.
fn heard_all(log: &[String], name: &str, sent: u64) -> Result<()> {
    let line = log.iter().find(|line| line.starts_with(&format!("closed: stream {name} ")));
    let line = line.ok_or_else(|| format!("{name} is not closed"))?;
    if line.ends_with(&format!(" and {sent} up")) {
        return Ok(());
    }
    Err(format!("the page of {name} had sent {sent}, and the server says {line}"))
}

/// Returns the sockets that are neither open with both counts, nor closed.
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

impl Told {
    fn look(&mut self, page: &str, report: &Value, server_since: u64) {
        let faults = report["faults"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut faults: Faults = faults.map(String::from).collect();
        for stream in report["streams"].as_array().into_iter().flatten() {
            let closed = &stream["closed"];
            let Some(code) = closed["code"].as_u64() else {
                self.open += u64::from(stream["readyState"] == 1);
                continue;
            };
            faults.extend(unfounded_close(stream, code, server_since));
            self.counts.sockets += 1;
            // Messages of a server that was killed may be lost.
            let is_recent = closed["at"].as_u64().is_some_and(|at| at > server_since);
            if code == 3000 && is_recent {
                let name = stream["name"].as_str().unwrap_or_default().to_owned();
                self.closed.push((name, stream["sent"].as_u64().unwrap_or_default()));
            }
        }
        let count = |name: &str| report["counts"][name].as_u64().unwrap_or_default();
        self.counts.down += count("down");
        self.counts.up += count("up");
        self.counts.publications += count("publications");
        self.counts.gaps += count("gaps");
        self.faults.extend(faults.into_iter().map(|fault| format!("{page}: {fault}")));
    }
}

/// Returns a fault if an open socket closed without its page's wish and without an end of the
/// server.
fn unfounded_close(stream: &Value, code: u64, server_since: u64) -> Option<String> {
    let asked = stream["asked"] == true;
    let was_open = stream["opened"] == true;
    let server_went = stream["born"].as_u64().is_some_and(|born| born < server_since);
    let founded = match code {
        3000 => asked,
        // The link failed after the page closed the socket, or before the server had answered.
        1006 => asked || !was_open || server_went,
        // The server says that it goes away.
        1001 | 1012 => server_went,
        _ => false,
    };
    let (name, closed) = (&stream["name"], &stream["closed"]);
    (!founded).then(|| format!("{name} was closed without need: {closed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER_SINCE: u64 = 1000;

    fn told(stream: Value) -> Told {
        let mut told = Told::default();
        told.look("page", &json!({ "counts": { "up": 3 }, "streams": [stream] }), SERVER_SINCE);
        told
    }

    fn closed(code: u16, asked: bool, opened: bool, born: u64) -> Value {
        let closed = json!({ "code": code, "at": 2000 });
        json!({
            "name": "s1", "asked": asked, "opened": opened, "born": born, "sent": 3,
            "readyState": 3, "closed": closed,
        })
    }

    #[test]
    fn a_socket_that_closes_without_need_is_a_fault() {
        let (before, after) = (SERVER_SINCE - 1, SERVER_SINCE + 1);
        let founded = [
            closed(3000, true, true, after),
            closed(1006, false, false, after),
            closed(1006, false, true, before),
            closed(1001, false, true, before),
        ];
        for stream in founded {
            assert_eq!(told(stream.clone()).faults, [""; 0], "{stream}");
        }
        for code in [1000, 1001, 1006, 1008, 3000] {
            let stream = closed(code, false, true, after);
            assert_eq!(told(stream.clone()).faults.len(), 1, "{stream}");
        }
    }

    #[test]
    fn messages_sent_before_a_page_closed_a_socket_must_have_arrived() {
        let told = told(closed(3000, true, true, SERVER_SINCE + 1));
        assert_eq!(told.closed, [("s1".to_owned(), 3)]);
        let log = |line: &str| vec!["closed: stream s11 after 1 down and 3 up".into(), line.into()];
        let heard = |line| heard_all(&log(line), "s1", 3);
        assert_eq!(heard("closed: stream s1 after 9 down and 3 up"), Ok(()));
        assert!(heard("closed: stream s1 after 9 down and 2 up").is_err());
        assert!(heard("closed: stream s1 after 3 down and 13 up").is_err());
        assert!(heard("").is_err());
    }

    #[test]
    fn faults_that_a_page_found_are_kept_after_its_end() {
        let mut told = Told::default();
        let report = json!({ "counts": { "gaps": 2 }, "faults": ["12:00 s1: 5 came again"] });
        told.look("page a", &report, SERVER_SINCE);
        told.look("page b", &json!({ "counts": { "gaps": 1 } }), SERVER_SINCE);
        assert_eq!(told.faults, ["page a: 12:00 s1: 5 came again"]);
        assert_eq!(told.counts.gaps, 3);
    }
}
