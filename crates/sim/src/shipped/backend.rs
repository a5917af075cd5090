//! The server in its world: what reaches it, what it orders, and how it stops.

use std::time::Duration;

use tabmux_core::{
    session,
    session::{Ask, Event, LinkId, SocketRef},
    wire::{SessionId, TabId},
};

use super::{
    browser::Life,
    hubs::key,
    links::Peer,
    tickets::GATED,
    workers::PARKED,
    world::{Delivery, World},
};
use crate::{
    credit::cost,
    invariant::{
        Checked,
        Invariant::{DeadTabsLeave, NoError, NoSpinning, NothingLost, OneUser},
    },
    rng::Rng,
    server::{Question, Wanted, text},
};

/// Longest time for which a link stalls. News that a frozen page goes on, and of what it has read,
/// may reach the server this much later.
const STALL: Duration = Duration::from_secs(41);
/// Time that a slow application takes to deal with a message.
const LATER: Duration = Duration::from_millis(1200);

impl World {
    pub(crate) fn server_timer(&mut self) -> Checked {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        if server.wake_at.is_none_or(|wake| wake > self.now) {
            return Ok(());
        }
        server.wake_at = None;
        server.timer(self.now, &mut self.reference)?;
        if let Some((next, why)) = server.registry.poll_timeout().filter(|it| it.0 <= self.now) {
            return NoSpinning.broken(format!("the registry wants {next:?} for {why:?}"));
        }
        self.drain_server()
    }

    pub(crate) fn server_input(&mut self, input: session::Input<'_>) -> Checked {
        if let Some(server) = &mut self.server {
            server.registry.handle_input(self.now, input);
        }
        self.drain_server()
    }

    /// Carries out the registry's orders, until the application has nothing more to send.
    pub(crate) fn drain_server(&mut self) -> Checked {
        while let Some(output) = self.server.as_mut().and_then(|it| it.registry.poll_output()) {
            self.log(&output);
            self.server_output(output)?;
        }
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        server.judge(&mut self.reference)?;
        server.forget_blank(self.now, &mut self.reference);
        server.agrees()?;
        server.see(&mut self.seen);
        self.serial = server.serial();
        let (unshown, wake) = (server.take_unshown(), server.next_wake());
        let wake = wake.map(|wake| wake.max(self.now));
        if server.wake_at != wake {
            server.wake_at = wake;
            if let Some(wake) = wake {
                self.put(wake, Delivery::ServerTimer);
            }
        }
        unshown.iter().try_for_each(|it| self.may_be_unshown(it))
    }

    fn server_output(&mut self, output: session::Output) -> Checked {
        let (now, reference) = (self.now, &mut self.reference);
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        match output {
            session::Output::Send { link, bytes } => self.send_down(link.0, bytes.to_vec())?,
            session::Output::CloseLink { link, code, .. } => self.server_closes(link, code),
            session::Output::Ask { ask, what: Ask::Open { socket, tab, path, .. } } => {
                let Some(number) = path.rsplit('/').next().and_then(|it| it.parse().ok()) else {
                    return NoError.broken(format!("{tab} wants a socket at {path}"));
                };
                let (at, tab, asked) = (socket, key(tab), now);
                let question = Question { ask, at, tab, number, asked };
                if path.starts_with(GATED) {
                    let owner = self.owners.get(&at.session).copied().flatten();
                    server.want_ticket(now, question, &path, owner.map(|it| it.0.get()))?;
                } else {
                    server.open(now, reference, question)?;
                }
            }
            session::Output::SocketMessage { socket, payload } => {
                server.message(now, reference, socket, text(&payload))?;
                self.deal_with(socket, cost(text(&payload)));
            }
            session::Output::SocketWritable { socket } => server.say(now, reference, socket, 0)?,
            session::Output::SocketClosed { socket, clean, .. } => {
                server.closed(reference, socket, clean)?;
            }
            session::Output::Ask { ask, what: Ask::Join { topic } } => {
                server.want(now, reference, ask, Wanted::Join(topic))?;
            }
            session::Output::Ask { ask, what: Ask::Recall { topic, since, bytes } } => {
                server.want(now, reference, ask, Wanted::Recall(topic, since, bytes))?;
            }
            session::Output::Ask { ask, what: Ask::Subscribe { session, .. } } => {
                server.want(now, reference, ask, Wanted::Subscription(session))?;
            }
            session::Output::Ask { what: Ask::Connect { .. }, .. } => {
                return NoError.broken("no page shows credentials");
            }
            session::Output::Ask { what: Ask::Request { .. }, .. } => {
                return NoError.broken("no page can ask for requests");
            }
            session::Output::Withdrawn(ask) => server.withdrawn(now, reference, ask)?,
            session::Output::LinkDown { link, cause } => {
                server.link_down(now, reference, link, cause)?;
            }
            session::Output::TopicUnwanted { topic } => server.leave(topic),
            session::Output::Publish { frames, links } => {
                for link in links {
                    for frame in &frames {
                        self.send_down(link.0, frame.bytes(false).to_vec())?;
                    }
                }
            }
            session::Output::Event(event) => self.server_event(&event)?,
        }
        Ok(())
    }

    /// Lets the application deal with a message at once, or on some sockets later.
    fn deal_with(&mut self, socket: SocketRef, cost: u64) {
        if socket.socket.0.is_multiple_of(3) {
            return self.put(self.now + LATER, Delivery::DealtWith { socket, cost });
        }
        if let Some(server) = &mut self.server {
            server.registry.give_back(self.now, socket, cost);
        }
    }

    pub(crate) fn dealt_with(&mut self, socket: SocketRef, cost: u64) -> Checked {
        if let Some(server) = &mut self.server {
            server.registry.give_back(self.now, socket, cost);
        }
        self.drain_server()
    }

    fn server_event(&mut self, event: &Event) -> Checked {
        let event = &named(event);
        if let Event::TabGone { session, tab } = *event {
            let why = if self.reference.gave_up(tab, session) {
                "its page began anew"
            } else {
                self.tab_may_go(tab)?
            };
            self.gone(session, tab, why);
        }
        if let Event::LinkUp { link, session, resumed, .. } = *event {
            self.may_have(link, session, resumed)?;
        }
        if let Event::TabAttached { session, tab } = *event {
            self.parts.insert((tab, session));
        }
        let hello = match event {
            Event::LinkUp { link: LinkId(link), .. } => {
                self.network.links.get(link).and_then(|link| link.hello)
            }
            _ => None,
        };
        match &mut self.server {
            Some(server) => server.event(self.now, &mut self.reference, event, hello),
            None => Ok(()),
        }
    }

    /// I15: a session goes on only for the user who began it.
    fn may_have(&mut self, LinkId(link): LinkId, session: SessionId, resumed: bool) -> Checked {
        let link = self.network.links.get(&link);
        if !resumed {
            self.owners.insert(session, link.and_then(|link| link.identity));
            return Ok(());
        }
        let Some(owner) = self.owners.get(&session) else {
            return OneUser.broken(format!("{session:?} goes on, and never began"));
        };
        OneUser.unless(link.is_some_and(|link| link.identity == *owner), || {
            format!("{session:?} of {owner:?} was given to {link:?}")
        })
    }

    fn gone(&mut self, session: SessionId, tab: TabId, why: &'static str) {
        if let Some(server) = &mut self.server {
            server.tab_gone(&mut self.reference, session, tab, why);
        }
    }

    /// Checks that the server forgets a tab only if a hub had a reason to give it up, or if the tab
    /// left messages unread.
    fn tab_may_go(&mut self, tab: TabId) -> Checked<&'static str> {
        let page = |it: &super::browser::Browser| it.page_of(tag(tab));
        let found = self.browsers.iter().enumerate();
        let Some((at, number)) = found.filter_map(|(at, it)| Some((at, page(it)?))).next() else {
            return Ok("the tab is dead");
        };
        if let Some(why) = self.given_up.remove(&tab) {
            return Ok(why);
        }
        let actor = &self.browsers[at].actors[&number];
        let awake = actor.life == Life::Awake
            && self.now.saturating_since(actor.runs_since) >= STALL
            && !self.browsers[at].asleep;
        if awake {
            return NothingLost.broken(format!("{tab} is gone for the server, and lives"));
        }
        Ok("it left what it was sent unread")
    }

    pub(crate) fn server_forgot(&mut self, tab: TabId) -> Checked {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        server.forget_blank(self.now, &mut self.reference);
        match server.knows(tab) {
            None => Ok(()),
            // The tab was there again, and its hub died with it and told nobody. The next hub keeps
            // it as long as any parked tab. At rest, none is left.
            Some(true) => {
                self.put(self.now + PARKED, Delivery::ServerForgot { tab });
                Ok(())
            }
            Some(false) => DeadTabsLeave.broken(format!("the server still has {tab}")),
        }
    }

    /// Stops the server, without a word or with closes. It is back after a while.
    pub(crate) fn server_down(&mut self, polite: bool) -> Checked {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        if polite {
            server.registry.shutdown(self.now);
            self.drain_server()?;
        }
        self.server = None;
        self.reference.server_lost();
        let mut rng = Rng::new(self.rng.next());
        for link in self.network.links.keys().copied().collect::<Vec<_>>() {
            let it = &self.network.links[&link];
            if it.server_open && it.to == Peer::Tabmux {
                self.cut(link, &mut rng);
                if let Some(link) = self.network.links.get_mut(&link) {
                    link.server_open = false;
                }
            }
        }
        let back = self.now + rng.millis(0, 10_000);
        self.put(back, Delivery::ServerUp);
        Ok(())
    }

    /// Makes the server send a part of its links away, and stops it a little later.
    pub(crate) fn drain(&mut self, rng: &mut Rng) -> Checked {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let (after, spread) = (Duration::from_secs(1), Duration::from_secs(2));
        server.registry.drain(self.now, 2, after, spread);
        server.draining = true;
        let stops = self.now + rng.millis(0, 5000);
        self.put(stops, Delivery::ServerDown);
        self.drain_server()
    }
}

/// Returns the tag of a page, by the name that the oracle has for its tab.
pub(super) fn tag(key: TabId) -> u32 {
    u32::try_from(key.0).unwrap_or(0)
}

/// Returns the event with the tab's name of the oracle.
fn named(event: &Event) -> Event {
    match event.clone() {
        Event::TabAttached { session, tab } => Event::TabAttached { session, tab: key(tab) },
        Event::TabGone { session, tab } => Event::TabGone { session, tab: key(tab) },
        Event::TabParked { session, tab } => Event::TabParked { session, tab: key(tab) },
        other => other,
    }
}
