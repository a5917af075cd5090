//! Looks at every link that passes through a proxy, and whether two ever had one term.
//!
//! PROTOCOL.md, "Sessions and terms", says when a server may grant a link a session that another
//! link has: to the same hub, which dials again (the term stays), or to another one that shows the
//! current term (the term grows by one). From then on the older link is done with. So:
//!
//! 1. Links that were granted one term of one session are of one hub.
//! 2. What began a session is the only link that was told that it is new.
//! 3. Of two links of one session the newer has the higher term, or the same and was opened later
//!    (a hub dials one link at a time). Once the server has written WELCOME to the newer, it
//!    writes nothing more to the older but FENCED and the closing frame.
//! 4. It does write that, or ends the connection: [`History::settled`].
//!
//! 3 is exact and knows no time: when WELCOME is read, what is still to be read of the older
//! link was written before, and is counted. What a look at the bytes cannot tell, whether the
//! server *acts* on what an older link says, shows in the numbers of the messages.

use std::collections::{BTreeMap, BTreeSet};

use tabmux_wire::{HubFrame, HubId, ServerFrame, SessionId, Term, Welcome};

use crate::{
    Result,
    tap::{Item, Tap},
};

/// All links so far, each named by its index, in the order in which they were opened.
#[derive(Debug, Default)]
pub struct History {
    links: Vec<Link>,
    faults: Vec<String>,
}

/// Numbers of what was seen. A test checks them, because a check of nothing proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Links that were granted a session.
    pub links: usize,
    /// Number of sessions that were seen.
    pub sessions: usize,
    /// Number of terms of all sessions.
    pub terms: usize,
    /// Number of links that were told that another hub has their session now.
    pub fenced: usize,
}

#[derive(Debug, Default)]
struct Link {
    up: Tap,
    down: Tap,
    stage: Stage,
    hub: Option<HubId>,
    /// When a newer link was granted the session: how many bytes the server had written on this
    /// one.
    written: Option<u64>,
    /// True if the server sent FENCED on this link.
    fenced: bool,
    /// True if the server has sent its last message on this link.
    over: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// The server has not granted the link a session yet.
    #[default]
    Asking,
    /// The server refused the link, or the link was not understood, which is a fault.
    Refused,
    /// No link, but a short connection that shows a ticket.
    Ticket,
    Granted(Grant),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    session: SessionId,
    term: Term,
}

impl Link {
    /// Returns true for what is no link.
    const fn is_none(&self) -> bool {
        matches!(self.stage, Stage::Refused | Stage::Ticket)
    }
}

impl History {
    /// Called when a connection was opened. Returns the number of its link.
    pub fn begin(&mut self) -> usize {
        self.links.push(Link::default());
        self.links.len() - 1
    }

    /// Called when the browser wrote these bytes.
    pub fn up(&mut self, link: usize, bytes: &[u8]) {
        // Bytes after HELLO are not needed.
        if self.links[link].hub.is_some() || self.links[link].is_none() {
            return;
        }
        self.links[link].up.hear(bytes);
        if let Err(error) = self.read_up(link) {
            self.links[link].stage = Stage::Refused;
            self.faults.push(format!("link {link}: what the browser wrote is {error}"));
        }
    }

    /// Called when the server wrote these bytes. `unread` returns for another link how many bytes
    /// the server has written there that this history has not read.
    pub fn down(&mut self, link: usize, bytes: &[u8], unread: &dyn Fn(usize) -> u64) {
        if self.links[link].is_none() {
            return;
        }
        self.links[link].down.hear(bytes);
        if let Err(error) = self.read_down(link, unread) {
            self.links[link].stage = Stage::Refused;
            self.faults.push(format!("link {link}: what the server wrote is {error}"));
        }
    }

    /// Called when the server writes no more on this link.
    pub fn end(&mut self, link: usize) {
        self.links[link].over = true;
    }

    /// Returns the faults so far.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Checks a history in which nothing moves any more. `wanted` links must live, each with a
    /// session of its own, and all others must be over.
    pub fn settled(&self, wanted: usize) -> Result<()> {
        let alive = |link: &&Link| !link.over && link.stage != Stage::Ticket;
        let grant = |link: &Link| match link.stage {
            Stage::Granted(grant) => Some(grant.session),
            Stage::Asking | Stage::Refused | Stage::Ticket => None,
        };
        let alive: Vec<_> = self.links.iter().filter(alive).map(grant).collect();
        let sessions: BTreeSet<_> = alive.iter().flatten().collect();
        if (alive.len(), sessions.len()) == (wanted, wanted) {
            return Ok(());
        }
        let (alive, sessions) = (alive.len(), sessions.len());
        Err(format!("{alive} links are alive with {sessions} sessions, instead of {wanted}"))
    }

    /// Returns what was seen so far.
    pub fn seen(&self) -> Seen {
        let grants = self.grants();
        Seen {
            links: grants.len(),
            sessions: grants.values().map(|grant| grant.session).collect::<BTreeSet<_>>().len(),
            terms: grants.values().collect::<BTreeSet<_>>().len(),
            fenced: self.links.iter().filter(|link| link.fenced).count(),
        }
    }

    fn grants(&self) -> BTreeMap<usize, Grant> {
        let links = self.links.iter().enumerate();
        links
            .filter_map(|(index, link)| match link.stage {
                Stage::Granted(grant) => Some((index, grant)),
                Stage::Asking | Stage::Refused | Stage::Ticket => None,
            })
            .collect()
    }

    fn read_up(&mut self, name: usize) -> Result<()> {
        let link = &mut self.links[name];
        while link.hub.is_none() {
            match link.up.next()? {
                None => return Ok(()),
                Some((_, Item::Head(head))) if head.starts_with("GET /tabmux/ws ") => {}
                Some((_, Item::Head(head))) if head.contains(": tabmux.ticket,") => {
                    link.stage = Stage::Ticket;
                    return Ok(());
                }
                // The browser closed the link before HELLO, because the tab was closed meanwhile.
                Some((_, Item::Close)) => return Ok(()),
                Some((_, Item::Head(head))) => {
                    return Err(format!("no request for a link: {head}"));
                }
                Some((_, Item::Message(bytes))) => match HubFrame::decode(&bytes) {
                    Ok(HubFrame::Hello(hello)) => link.hub = Some(hello.hub),
                    other => return Err(format!("{other:?} instead of HELLO")),
                },
            }
        }
        Ok(())
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "few frames concern a link's end")]
    fn read_down(&mut self, name: usize, unread: &dyn Fn(usize) -> u64) -> Result<()> {
        while let Some((at, item)) = self.links[name].down.next()? {
            let link = &mut self.links[name];
            match item {
                Item::Head(head) if head.starts_with("HTTP/1.1 101 ") => {}
                Item::Head(_) => {
                    link.stage = Stage::Refused;
                    return Ok(());
                }
                Item::Close => link.over = true,
                Item::Message(_) if link.over => return Err("more, after it closed".into()),
                Item::Message(bytes) => {
                    let frame = ServerFrame::decode(&bytes);
                    let frame = frame.map_err(|error| format!("no frame: {error}: {bytes:x?}"))?;
                    match frame {
                        ServerFrame::Welcome(welcome) => self.welcome(name, &welcome, unread)?,
                        ServerFrame::Fenced { .. } => link.fenced = true,
                        frame if link.written.is_some_and(|written| at >= written) => {
                            let fault = "after a newer link was granted its session";
                            self.faults.push(format!("link {name}: {frame:?} came {fault}"));
                        }
                        _ if link.fenced => return Err("more, after FENCED".into()),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn welcome(
        &mut self,
        name: usize,
        welcome: &Welcome,
        unread: &dyn Fn(usize) -> u64,
    ) -> Result<()> {
        let grant = Grant { session: welcome.session, term: welcome.term };
        let link = &mut self.links[name];
        let Some(hub) = link.hub else { return Err("WELCOME before a HELLO".into()) };
        if link.stage != Stage::Asking {
            return Err("a second WELCOME".into());
        }
        let others: Vec<_> = self.grants().into_iter().collect();
        self.links[name].stage = Stage::Granted(grant);
        for (other, theirs) in others.into_iter().filter(|(_, its)| its.session == grant.session) {
            if theirs.term == grant.term && self.links[other].hub != Some(hub) {
                let term = grant.term.0;
                let fault = format!("links {other} and {name}, of two hubs, both have term {term}");
                self.faults.push(fault);
            }
            if !welcome.resumed {
                self.faults.push(format!("link {name}: the session of link {other} is new again"));
            }
            // The link that is read first is not always the one that was written first.
            let older = if (theirs.term, other) < (grant.term, name) { other } else { name };
            let unread = if older == name { 0 } else { unread(older) };
            let link = &mut self.links[older];
            let written = link.down.heard() + unread;
            link.written = Some(link.written.map_or(written, |earlier| earlier.min(written)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tabmux_wire::{Hello, Limits, Token};

    use super::*;

    /// A history that is made up, frame by frame.
    #[derive(Default)]
    struct Forged(History);

    impl Forged {
        /// Adds a link that was granted this session and term.
        fn link(&mut self, hub: u64, session: u8, term: u64) -> usize {
            let link = self.asking(hub);
            self.welcome(link, session, term, term > 1);
            link
        }

        fn asking(&mut self, hub: u64) -> usize {
            let link = self.0.begin();
            self.0.up(link, b"GET /tabmux/ws HTTP/1.1\r\n\r\n");
            self.0.down(link, b"HTTP/1.1 101 Switching Protocols\r\n\r\n", &|_| 0);
            let hello = Hello {
                min_version: 1,
                max_version: 2,
                hub: HubId(hub),
                resume: None,
                credentials: "",
            };
            let mut bytes = Vec::new();
            HubFrame::Hello(hello).encode(&mut bytes);
            self.0.up(link, &message(&bytes));
            link
        }

        fn welcome(&mut self, link: usize, session: u8, term: u64, resumed: bool) {
            self.welcome_while(link, session, term, resumed, 0);
        }

        /// Adds a WELCOME, while this many bytes of each other link are not read yet.
        fn welcome_while(
            &mut self,
            link: usize,
            session: u8,
            term: u64,
            resumed: bool,
            unread: u64,
        ) {
            let limits = Limits {
                message_bytes: 1,
                lane_bytes: 1,
                session_bytes: 1,
                detached_ms: 1,
                parked_ms: 1,
                tabs: 1,
                sockets: 1,
            };
            let welcome = Welcome {
                session: SessionId([session; 16]),
                token: Token([0; 16]),
                term: Term(term),
                resumed,
                next0: 1,
                heartbeat_ms: 1,
                limits,
                tabs: Vec::new(),
                tail: None,
            };
            self.say_while(link, &ServerFrame::Welcome(welcome), unread);
        }

        fn say(&mut self, link: usize, frame: &ServerFrame<'_>) {
            self.say_while(link, frame, 0);
        }

        fn say_while(&mut self, link: usize, frame: &ServerFrame<'_>, unread: u64) {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            self.0.down(link, &message(&bytes), &|_| unread);
        }

        fn pong(&mut self, link: usize) {
            self.say(link, &ServerFrame::Pong { nonce: 1 });
        }

        /// Adds what a server sends on a link that another link replaced.
        fn fence(&mut self, link: usize) {
            self.say(link, &ServerFrame::Fenced { term: Term(9) });
            self.close(link);
        }

        fn close(&mut self, link: usize) {
            self.0.down(link, &[0x88, 0], &|_| 0);
        }

        fn fault(&self) -> &str {
            assert_eq!(self.0.faults().len(), 1, "{:?}", self.0.faults());
            &self.0.faults()[0]
        }
    }

    /// A mask of zeros leaves the payload unchanged.
    fn message(payload: &[u8]) -> Vec<u8> {
        assert!(payload.len() < 126);
        [&[0x82, payload.len() as u8], payload].concat()
    }

    #[test]
    fn a_takeover_and_a_reconnect_are_as_they_must_be() {
        let mut forged = Forged::default();
        let first = forged.link(7, 1, 1);
        forged.pong(first);
        let second = forged.link(8, 1, 2);
        forged.fence(first);
        forged.pong(second);
        // The same hub dials again, and the server has not noticed yet that the link was cut.
        let third = forged.link(8, 1, 2);
        forged.close(second);
        forged.pong(third);
        // This link has a session of its own.
        let other = forged.link(9, 2, 1);
        assert_eq!(forged.0.faults(), [""; 0]);
        assert_eq!(forged.0.settled(2), Ok(()));
        forged.0.end(other);
        assert_eq!(forged.0.settled(1), Ok(()));
        assert_eq!(forged.0.seen(), Seen { links: 4, sessions: 2, terms: 3, fenced: 1 });
    }

    #[test]
    fn two_hubs_in_one_term_are_found() {
        let mut forged = Forged::default();
        let first = forged.link(7, 1, 2);
        forged.fence(first);
        forged.link(8, 1, 2);
        assert_eq!(forged.fault(), "links 0 and 1, of two hubs, both have term 2");
    }

    #[test]
    fn a_link_that_goes_on_beside_a_newer_one_is_found() {
        for newer in [7, 8] {
            let mut forged = Forged::default();
            let first = forged.link(7, 1, 2);
            forged.link(newer, 1, newer - 5);
            forged.pong(first);
            assert!(forged.fault().starts_with("link 0: Pong"), "{}", forged.fault());
            forged.close(first);
        }
    }

    #[test]
    fn bytes_written_before_the_newer_link_was_granted_may_arrive_after_it() {
        // A PONG is two bytes, behind a header of two.
        for (unread, faults) in [(4, 0), (3, 0), (0, 1)] {
            let mut forged = Forged::default();
            let first = forged.link(7, 1, 1);
            let second = forged.asking(8);
            forged.welcome_while(second, 1, 2, true, unread);
            forged.pong(first);
            assert_eq!(forged.0.faults().len(), faults, "{unread}: {:?}", forged.0.faults());
            forged.pong(first);
            assert_eq!(forged.0.faults().len(), faults + 1, "the second came later");
        }
    }

    #[test]
    fn a_link_that_is_never_ended_is_found() {
        let mut forged = Forged::default();
        forged.link(7, 1, 1);
        forged.link(8, 1, 2);
        let error = forged.0.settled(1).unwrap_err();
        assert_eq!(error, "2 links are alive with 1 sessions, instead of 1");
    }

    #[test]
    fn a_term_that_goes_back_and_a_session_that_begins_twice_are_found() {
        let mut forged = Forged::default();
        forged.link(7, 1, 3);
        let late = forged.link(8, 1, 2);
        forged.pong(late);
        assert!(forged.fault().starts_with("link 1: Pong"), "{}", forged.fault());

        let mut forged = Forged::default();
        forged.link(7, 1, 1);
        let again = forged.asking(7);
        forged.welcome(again, 1, 1, false);
        assert_eq!(forged.fault(), "link 1: the session of link 0 is new again");
    }

    #[test]
    fn bytes_that_cannot_be_understood_are_a_fault() {
        let mut forged = Forged::default();
        let link = forged.asking(7);
        forged.0.down(link, &message(&[0x41, 1, 2]), &|_| 0);
        assert!(forged.fault().starts_with("link 0: what the server wrote is no frame"));
        // The link also counts as none with a session.
        assert!(forged.0.settled(1).is_err());

        let mut forged = Forged::default();
        let link = forged.0.begin();
        forged.0.up(link, b"GET /tabmux/ws HTTP/1.1\r\n\r\n");
        forged.0.up(link, &message(&[1, 2, 3]));
        assert!(forged.fault().contains("instead of HELLO"));
    }

    #[test]
    fn a_refused_link_has_no_session() {
        let mut forged = Forged::default();
        let link = forged.0.begin();
        forged.0.up(link, b"GET /tabmux/ws HTTP/1.1\r\n\r\n");
        forged.0.down(link, b"HTTP/1.1 503 Service Unavailable\r\n\r\nlater", &|_| 0);
        forged.0.end(link);
        assert_eq!(forged.0.faults(), [""; 0]);
        assert_eq!(forged.0.settled(0), Ok(()));
    }
}
