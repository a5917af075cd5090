//! Connections that have just come: a request for a link is answered here.

use std::{mem, sync::Arc};

use mio::Token;
use tabmux_core::{Timestamp, session::LinkId};

use super::{
    super::{
        knock::{Knock, Porter, Said, Waiting},
        link::{Link, Phase},
        slab::place,
        stream::Stream,
    },
    EventLoop, Service,
};
use crate::{accept::First, admission::Ticket, logs::rarely};

/// Connections whose order is remembered at least, before those that are over are sorted out.
const REMEMBERED: usize = 64;

/// A request that was answered, and what was read behind it.
struct Answered {
    ticket: Ticket,
    inflates: bool,
    early: Vec<u8>,
}

impl<S: Service> EventLoop<S> {
    pub(super) fn is_knocking(&self, id: LinkId) -> bool {
        self.links.get(id).is_some_and(|link| link.phase == Phase::Knocking)
    }

    /// Takes a connection. What it has said already is looked at before it is watched.
    pub(super) fn on_knock(&mut self, now: Timestamp, knock: Knock) {
        let Knock { stream, waiting } = knock;
        let mut link = Link::new(Stream::fresh(stream), false);
        link.phase = Phase::Knocking;
        let mut link = Some(link);
        let Some(id) = self.links.insert_with(|_| link.take()) else {
            self.mailbox().stream_went();
            return;
        };
        let patience = waiting.place.0.patience().saturating_sub(waiting.caller.began.elapsed());
        self.knocks.insert(id, waiting);
        if self.knocked.len() >= REMEMBERED.max(2 * self.knocks.len()) {
            let knocks = &self.knocks;
            self.knocked.retain(|(_, id)| knocks.contains_key(id));
        }
        self.knocked.push_back((now + patience, id));
        self.hear_knock(now, id);
        let registry = self.poll.registry();
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        if let Err(error) = link.stream.register(registry, Token(place(id) as usize)) {
            rarely!(error, "a connection cannot be watched: {error}");
            self.lose(now, id);
        }
    }

    /// Reads what a connection says, and answers if it asks for a link.
    pub(super) fn hear_knock(&mut self, now: Timestamp, id: LinkId) {
        let mut buffer = mem::take(&mut self.buffer);
        let answered = self.answer(id, &mut buffer);
        self.buffer = buffer;
        let Some(Answered { mut ticket, inflates, early }) = answered else {
            return;
        };
        let handshake = ticket.take_handshake();
        if let Some(link) = self.links.get_mut(id) {
            link.stream.take_place(ticket);
            (link.phase, link.inflates) = (Phase::Open, inflates);
            self.board.stream_came();
            self.begin(now, id, None, handshake, early);
        }
    }

    /// Reads a connection until it has said what it is for. Returns what makes it a link.
    fn answer(&mut self, id: LinkId, buffer: &mut [u8]) -> Option<Answered> {
        let (link, waiting) = (self.links.get_mut(id)?, self.knocks.get_mut(&id)?);
        loop {
            let len = match link.read(buffer) {
                Ok(None) => return None,
                Ok(Some(len @ 1..)) => len,
                Ok(Some(_)) | Err(_) => {
                    self.drop_link(id);
                    return None;
                }
            };
            let seen = waiting.bytes.len();
            let (caller, porter) = (waiting.caller, &waiting.place.0);
            let said = if seen == 0 {
                porter.look(caller, &buffer[..len], 0)
            } else {
                waiting.bytes.extend_from_slice(&buffer[..len]);
                porter.look(caller, &waiting.bytes, seen)
            };
            let bytes = if seen == 0 { &buffer[..len] } else { &waiting.bytes[..] };
            match said {
                Said::Little if seen == 0 => waiting.bytes = bytes.to_vec(),
                Said::Little => {}
                Said::Link { response, ticket, inflates, len } => {
                    let early = bytes[len..].to_vec();
                    // The first bytes that are written to a stream fit.
                    let is_taken = match link.stream.write(response.as_bytes()) {
                        Ok(written) => written == response.len(),
                        Err(_) => false,
                    };
                    if !is_taken {
                        self.drop_link(id);
                        return None;
                    }
                    porter.opened(caller);
                    self.knocks.remove(&id);
                    return Some(Answered { ticket, inflates, early });
                }
                Said::Other(first) => {
                    let bytes = bytes.to_vec();
                    self.give_back(id, bytes, first);
                    return None;
                }
            }
        }
    }

    /// Gives a connection to its porter, with what was read of it.
    fn give_back(&mut self, id: LinkId, bytes: Vec<u8>, first: First) {
        let (Some(mut link), Some(waiting)) = (self.links.remove(id), self.knocks.remove(&id))
        else {
            return;
        };
        self.mailbox().stream_went();
        // One that said all at once was not watched.
        let _ = link.stream.deregister(self.poll.registry());
        let Waiting { caller, place, bytes: _ } = waiting;
        if let Some(stream) = link.stream.into_fresh() {
            place.0.take_over(stream, caller, bytes, first);
        }
    }

    /// When the next connection has been silent for too long.
    pub(super) fn patience(&self) -> Option<Timestamp> {
        self.knocked.front().map(|(at, _)| *at)
    }

    /// Ends the connections that were silent for too long, and tells which is the oldest.
    pub(super) fn end_silent(&mut self, now: Timestamp) {
        while let Some((_, id)) = self.oldest_knock().filter(|(at, _)| *at <= now) {
            if let Some(Waiting { caller, place, .. }) = self.knocks.get(&id) {
                place.0.silent(*caller);
            }
            self.drop_link(id);
        }
        let oldest = self.knocked.front().map(|(_, id)| *id);
        if self.told_oldest.as_ref().map(|(id, _)| *id) == oldest {
            return;
        }
        let waiting = oldest.and_then(|id| Some((id, self.knocks.get(&id)?)));
        let told = waiting.map(|(id, waiting)| (id, waiting.caller, Arc::clone(&waiting.place.0)));
        match (&told, &self.told_oldest) {
            (Some((_, caller, porter)), _) => porter.oldest_is(self.index, Some(*caller)),
            (None, Some((_, porter))) => porter.oldest_is(self.index, None),
            (None, None) => {}
        }
        self.told_oldest = told.map(|(id, _, porter)| (id, porter));
    }

    /// Ends the connection that has been silent for the longest time.
    pub(super) fn evict(&mut self, porter: &dyn Porter) {
        if let Some((_, id)) = self.oldest_knock() {
            self.drop_link(id);
        }
        porter.evicted();
    }

    /// Ends all connections that have not said what they are for.
    pub(super) fn end_knocks(&mut self) {
        while let Some((_, id)) = self.oldest_knock() {
            self.drop_link(id);
        }
    }

    /// Returns the oldest connection that is silent, and when it ends.
    fn oldest_knock(&mut self) -> Option<(Timestamp, LinkId)> {
        while let Some((_, id)) = self.knocked.front()
            && !self.knocks.contains_key(id)
        {
            self.knocked.pop_front();
        }
        self.knocked.front().copied()
    }
}
