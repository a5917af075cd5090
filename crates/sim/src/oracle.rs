//! The invariants, and what little must be remembered to check them.

use std::collections::{BTreeMap, BTreeSet};

use tabmux_core::{
    hub::{Hub, HubMessage},
    wire::TabId,
};

use crate::{
    browser::{PAGE_CLOSE, PageMessage, Phase, SocketState, Tab, text},
    topics::{self, Feed},
};

/// `Err` says which invariant is broken.
pub type Checked<T = ()> = Result<T, String>;

/// What a hub was told of its tabs, and has to go by.
#[derive(Debug, Default)]
pub struct HubView(BTreeMap<TabId, bool>);

impl HubView {
    /// A page's message reached the hub.
    pub fn told(&mut self, tab: TabId, message: &PageMessage) {
        match message {
            PageMessage::Attach => {
                self.0.insert(tab, false);
            }
            PageMessage::Park => {
                self.0.entry(tab).and_modify(|parked| *parked = true);
            }
            _ => {}
        }
    }

    /// The hub dropped a tab.
    pub fn dropped(&mut self, tab: TabId) -> Checked {
        let known = self.0.remove(&tab).is_some();
        known.then_some(()).ok_or_else(|| format!("the hub dropped {tab}, which it had not"))
    }

    /// Whether the hub has the tab.
    pub fn knows(&self, tab: TabId) -> bool {
        self.0.contains_key(&tab)
    }

    /// A message may be posted to this tab.
    pub fn may_post(&self, tab: TabId, message: &HubMessage) -> Checked {
        match (self.0.get(&tab), message) {
            (None, HubMessage::Resync) | (Some(false), _) => Ok(()),
            (None, _) => Err(format!("posted to {tab}, which the hub has not: {message:?}")),
            (Some(true), _) => Err(format!("posted to {tab}, which is parked: {message:?}")),
        }
    }

    /// The hub counts what it was told.
    pub fn agrees(&self, hub: &Hub) -> Checked {
        let parked = self.0.values().filter(|parked| **parked).count();
        let told = (self.0.len() - parked, parked);
        let says = (hub.tabs(), hub.parked());
        let same = told == says;
        same.then_some(()).ok_or_else(|| format!("the hub was told of {told:?} tabs, has {says:?}"))
    }
}

/// A message reached a page. Returns what the page posts in answer.
///
/// `lossy` are sockets whose echoes the application could not send before they closed.
pub fn receive(
    id: TabId,
    tab: &mut Tab,
    message: &HubMessage,
    lossy: &BTreeSet<(TabId, u32)>,
    feed: &Feed,
) -> Checked<Vec<PageMessage>> {
    match message {
        HubMessage::Attached { .. } => tab.phase = Phase::Attached,
        HubMessage::Resync => return Ok(tab.resync()),
        HubMessage::State { .. } => {}
        HubMessage::Browser { payload } => browser_message(id, tab, text(payload))?,
        HubMessage::Subscribed { .. }
        | HubMessage::Publication { .. }
        | HubMessage::Gap { .. }
        | HubMessage::Unsubscribed { .. } => topics::receive(id, tab, feed, message)?,
        HubMessage::Mirror { .. } | HubMessage::Refused { .. } => {
            return Err(format!("{id} was told {message:?}"));
        }
        HubMessage::Opened { socket, .. } => {
            let socket = live(id, tab, socket.0, message)?;
            match tab.sockets.get_mut(&socket) {
                Some(it) if it.state == SocketState::Connecting => it.state = SocketState::Open,
                Some(it) if it.state == SocketState::Closing => {}
                _ => return Err(format!("{id} socket {socket} was opened twice")),
            }
        }
        HubMessage::Message { socket, payload } => {
            let socket = live(id, tab, socket.0, message)?;
            echoed(id, tab, socket, text(payload))?;
        }
        HubMessage::Closed { socket, code, clean, .. } => {
            let number = live(id, tab, socket.0, message)?;
            if let Some(it) = tab.sockets.get_mut(&number) {
                let complete = it.got == it.sent || lossy.contains(&(id, number));
                if *clean && *code == PAGE_CLOSE && !complete {
                    let (sent, got) = (it.sent, it.got);
                    return Err(format!("{id} socket {number} sent {sent}, got {got}, was closed"));
                }
                it.state = SocketState::Closed;
            }
        }
        HubMessage::Error { socket, .. } => {
            live(id, tab, socket.0, message)?;
        }
        HubMessage::Sent { .. } => {}
    }
    Ok(Vec::new())
}

/// The socket is the tab's, and not closed.
fn live(id: TabId, tab: &Tab, socket: u32, message: &HubMessage) -> Checked<u32> {
    match tab.sockets.get(&socket).map(|socket| socket.state) {
        None => Err(format!("{id} has no socket {socket}: {message:?}")),
        Some(SocketState::Closed) => Err(format!("{id} socket {socket} is closed: {message:?}")),
        Some(_) => Ok(socket),
    }
}

/// In order, none twice, none missing, and its own.
fn echoed(id: TabId, tab: &mut Tab, number: u32, text: &str) -> Checked {
    let Some(socket) = tab.sockets.get_mut(&number) else {
        return Ok(());
    };
    socket.got += 1;
    tab.echoes += 1;
    let expected = format!("{id} {number} {}", socket.got);
    let right = text == expected && socket.got <= socket.sent;
    right.then_some(()).ok_or_else(|| format!("{id} got {text:?} instead of {expected:?}"))
}

/// Within a session: in order, none twice, none missing since the first.
fn browser_message(id: TabId, tab: &mut Tab, text: &str) -> Checked {
    let number = |at| text.split(' ').nth(at).and_then(|word| word.parse::<u64>().ok());
    let (Some(session), Some(n)) = (number(0), number(1)) else {
        return Err(format!("{id} got a strange message to all tabs: {text:?}"));
    };
    let right = match tab.broadcast.replace((session, n)) {
        Some((before, last)) if before == session => n == last + 1,
        Some((before, _)) => before < session,
        None => true,
    };
    right.then_some(()).ok_or_else(|| format!("{id} got message to all tabs {session} {n}"))
}
