//! What both machines stand on: the tabs, the lock, the link's number and its outbox.

use std::{collections::VecDeque, time::Duration};

use tabmux_wire::{HubFrame, Payload, Position, SocketId, TabId};

use super::{
    ask::Asking,
    config::HubConfig,
    io::{Ask, AttemptId, Event, HubMessage, LinkState, Output, Rules, SubscriptionId, WakeReason},
    link::{Entry, Heartbeat, Outbox, Pulse},
    map::Map,
    posted::Posted,
    resume::Held,
    rng::Rng,
    tabs::{Delivery, TabRegistry},
};
use crate::{OwnedPayload, Timestamp};

/// How soon a hub looks again how much the link has sent.
const OUTBOX_INTERVAL: Duration = Duration::from_millis(25);
/// How long word of what was sent may wait, so that one message serves for many. A browser's own
/// WebSocket takes 1 to 3 ms.
const REPORT_DELAY: Duration = Duration::from_millis(1);

/// Why a hub dials nothing.
pub(super) const OFFLINE: &str = "tabmux: the browser is offline";

/// A socket, by tab and the tab's number for it.
pub(super) type SocketKey = (TabId, SocketId);

/// What differs between mirror and mux mode. Each call may queue orders in `base`.
///
/// Not `Debug`: through the vtable all of its formatting would end up in the wasm module.
pub(super) trait Machine: Send {
    /// Returns true if a tab that the hub does not know may attach. Else it was told what to do.
    fn admits(&mut self, _: Timestamp, _: &mut Base, _: TabId, _: &Has<'_>) -> bool {
        true
    }
    /// Returns true for a tab that was told to wait before it attaches.
    fn is_waiting(&self, _: TabId) -> bool {
        false
    }
    /// Called when a tab that is attached wants to know whose the browser is.
    fn asks_whose(&mut self, _: Timestamp, _: &mut Base, _: TabId) {}
    /// Called when a page ends the session for all tabs.
    fn logout(&mut self, _: Timestamp, _: &mut Base) {}
    /// Called when another hub has the lock of this hub's key and tag.
    fn tag_taken(&mut self, _: Timestamp, _: &mut Base) {}
    /// Called when the server said whose the browser is, or did not.
    fn who_answered(&mut self, _: Timestamp, _: &mut Base, _: &str) {}
    fn tab_attached(&mut self, now: Timestamp, base: &mut Base, tab: TabId, has: Has<'_>);
    /// Called after `tab_attached`, when `Attached` is posted: posts what the tab missed. `held` is
    /// what was kept for it while it was parked.
    fn tab_returned(&mut self, now: Timestamp, base: &mut Base, tab: TabId, last0: u64, held: Held);
    fn tab_parked(&mut self, now: Timestamp, base: &mut Base, tab: TabId);
    fn tab_gone(&mut self, now: Timestamp, base: &mut Base, tab: TabId);
    /// Called when more waits for a parked tab than may. That is dropped, and the tab must be told.
    fn tab_overflowed(&mut self, now: Timestamp, base: &mut Base, tab: TabId);
    /// Called for the `n`th message of a tab.
    fn said(&mut self, now: Timestamp, base: &mut Base, n: u64, socket: SocketKey, said: Said<'_>);
    fn got(&mut self, now: Timestamp, base: &mut Base, tab: TabId, counts: [u64; 2]);
    fn subscribe(&mut self, base: &mut Base, wish: Subscription<'_>);
    fn unsubscribe(&mut self, base: &mut Base, tab: TabId, number: SubscriptionId);
    fn lock_granted(&mut self, now: Timestamp, base: &mut Base);
    /// Called when a tab answered what this machine had asked, or when none could and why.
    fn answered(&mut self, now: Timestamp, base: &mut Base, what: Ask, answer: Result<bool, &str>);
    /// Called when the page asks for its credentials to be renewed.
    fn renew(&mut self, _: Timestamp, _: &mut Base) {}
    fn link_opened(&mut self, now: Timestamp, base: &mut Base, protocol: &str, extensions: &str);
    fn link_message(&mut self, now: Timestamp, base: &mut Base, payload: Payload<'_>);
    fn link_closed(&mut self, now: Timestamp, base: &mut Base, close: Close<'_>);
    /// Called before anything else, in mirror mode.
    fn rules(&mut self, base: &mut Base, rules: Rules);
    /// Called for a text that names a tab.
    fn link_message_to(&mut self, now: Timestamp, base: &mut Base, name: &str, text: &str);
    /// Called when a tab asks for a new link, at most once a second.
    fn reconnect(&mut self, now: Timestamp, base: &mut Base, tab: TabId);
    /// Called when the connection is to end for all tabs.
    fn reset(&mut self, now: Timestamp, base: &mut Base);
    fn network_changed(&mut self, now: Timestamp, base: &mut Base, online: bool);
    fn handle_timeout(&mut self, now: Timestamp, base: &mut Base);
    fn poll_timeout(&self, base: &Base) -> Option<(Timestamp, WakeReason)>;
    /// The link's state, and why it is so.
    fn state(&self) -> (LinkState, &str);
    /// Returns what a tab is told of the link that the server has no room for, or that the
    /// application ended. Returns `None` for a tab that has its place, or may get it.
    fn left_out(&self, tab: TabId) -> Option<(LinkState, &str)>;
}

/// What a tab has of a session, as it says in Attach. In mirror mode `last0` is one more than the
/// number of messages that it heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Has<'a> {
    pub(super) claim: &'a str,
    pub(super) last0: u64,
    pub(super) last: u64,
}

/// What a tab says on a socket.
#[derive(Clone, Debug)]
pub(super) enum Said<'a> {
    Open { path: &'a str, protocols: Vec<&'a str> },
    Send(Payload<'a>),
    Close { code: u16, reason: &'a str },
    Credit(u64),
}

/// What a tab asked for in Subscribe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscription<'a> {
    pub(super) tab: TabId,
    pub(super) number: SubscriptionId,
    pub(super) name: &'a str,
    pub(super) since: Option<Position>,
}

/// How something was closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Close<'a> {
    pub(super) code: u16,
    pub(super) reason: &'a str,
    pub(super) clean: bool,
    /// True if the shell said that the link failed.
    pub(super) failed: bool,
}

impl<'a> Close<'a> {
    /// Returns how something closes that the hub itself closes.
    pub(super) const fn new(code: u16, reason: &'a str, clean: bool) -> Self {
        Self { code, reason, clean, failed: false }
    }
}

#[derive(Debug)]
pub(super) struct Base {
    pub(super) config: HubConfig,
    pub(super) rng: Rng,
    pub(super) tabs: TabRegistry,
    /// What is asked of the tabs.
    pub(super) asking: Asking,
    outputs: VecDeque<Output>,
    outbox: Outbox,
    lock: Lock,
    /// The lock of the key and tag was asked for.
    has_tag: bool,
    attempts: u32,
    link: Option<AttemptId>,
    /// Whether the link lives, once a tabmux server has welcomed the hub.
    pub(super) heartbeat: Option<Heartbeat>,
    /// Whether the browser has a network, as far as is known.
    pub(super) is_online: bool,
    /// Tabs whose queue overflowed, to be told to the machine when it is done.
    overflowed: Vec<TabId>,
    sent: Map<TabId, Sent>,
    /// What was posted, in mirror mode. In mux mode counts of lanes tell what a tab has.
    posted: Option<Posted>,
    outbox_at: Option<Timestamp>,
    report_at: Option<Timestamp>,
}

/// Messages of a tab that the link was given, and of how many the tab knows.
#[derive(Debug, Default)]
struct Sent {
    handed: u64,
    reported: u64,
}

/// The lock that only the owner of the link may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    Free,
    Requested,
    Held,
}

impl Base {
    pub(super) fn new(config: HubConfig, seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            tabs: TabRegistry::default(),
            asking: Asking::default(),
            outputs: VecDeque::new(),
            outbox: Outbox::new(config.outbox_bytes, config.link_bytes),
            lock: Lock::Free,
            has_tag: false,
            attempts: 0,
            link: None,
            heartbeat: None,
            is_online: true,
            overflowed: Vec::new(),
            sent: Map::default(),
            posted: None,
            outbox_at: None,
            report_at: None,
            config,
        }
    }

    /// Returns the number of tabs that are not parked, as tabs are told it.
    pub(super) fn tab_count(&self) -> u32 {
        u32::try_from(self.tabs.present().len()).unwrap_or(u32::MAX)
    }

    pub(super) fn order(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn event(&mut self, event: Event) {
        self.order(Output::Event(event));
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Posts to one tab, or keeps the message until the tab is back.
    pub(super) fn post(&mut self, tab: TabId, message: HubMessage) {
        match self.tabs.deliver(tab, &message, self.config.held_bytes) {
            Delivery::Post => {
                self.count(&[tab], &message);
                self.order(Output::PostToTab { tab, message });
            }
            Delivery::Overflow => self.overflowed.push(tab),
            Delivery::Held | Delivery::Nobody => {}
        }
    }

    /// Posts the same to several tabs, or keeps it for those that are away.
    pub(super) fn post_all(&mut self, tabs: Vec<TabId>, message: &HubMessage) {
        let mut present = Vec::with_capacity(tabs.len());
        for tab in tabs {
            match self.tabs.deliver(tab, message, self.config.held_bytes) {
                Delivery::Post => present.push(tab),
                Delivery::Overflow => self.overflowed.push(tab),
                Delivery::Held | Delivery::Nobody => {}
            }
        }
        if !present.is_empty() {
            self.count(&present, message);
            self.order(Output::PostToTabs { tabs: present, message: message.clone() });
        }
    }

    /// Keeps what is posted from now on, for tabs that did not hear it.
    pub(super) fn keep_posted(&mut self) {
        self.posted = Some(Posted::default());
    }

    fn count(&mut self, tabs: &[TabId], message: &HubMessage) {
        if let Some(posted) = &mut self.posted {
            posted.add(tabs, message, self.config.held_bytes);
        }
    }

    /// Returns what a tab that heard so many messages was posted since, if all of it is kept.
    pub(super) fn missed(&mut self, tab: TabId, heard: u64) -> Option<Vec<HubMessage>> {
        self.posted.as_mut().map_or(Some(Vec::new()), |posted| posted.missed(tab, heard))
    }

    /// The next tab whose queue overflowed.
    pub(super) fn pop_overflowed(&mut self) -> Option<TabId> {
        self.overflowed.pop()
    }

    /// Tells a tab that a socket failed: why, if it was not open yet, then that it is closed.
    pub(super) fn fail(&mut self, (tab, socket): SocketKey, error: Option<&str>) {
        if let Some(error) = error {
            self.post(tab, HubMessage::Error { socket, message: error.to_owned() });
        }
        let close = Close::new(tabmux_wire::close::ABNORMAL, "", false);
        self.closed((tab, socket), close);
    }

    /// Tells a tab that a socket is closed.
    pub(super) fn closed(&mut self, (tab, socket): SocketKey, close: Close<'_>) {
        let Close { code, reason, clean, failed: _ } = close;
        let (count, reason) = (0, reason.to_owned());
        self.post(tab, HubMessage::Closed { socket, count, code, clean, reason });
    }

    /// Posts a message to a tab, unless the tab is away: it is of no use later.
    pub(super) fn post_now(&mut self, tab: TabId, message: HubMessage) {
        if self.tabs.is_attached(tab) {
            self.order(Output::PostToTab { tab, message });
        }
    }

    /// Called when the messages of a tab count anew, or when the tab is no more.
    pub(super) fn forget_sent(&mut self, tab: TabId) {
        self.sent.remove(tab);
    }

    /// Called when a tab is no more.
    pub(super) fn forget_posted(&mut self, tab: TabId) {
        if let Some(posted) = &mut self.posted {
            posted.forget(tab);
        }
    }

    /// Returns true if the hub holds the lock. Asks for it if not.
    pub(super) fn has_lock(&mut self) -> bool {
        if self.lock == Lock::Free {
            self.lock = Lock::Requested;
            self.order(Output::RequestLinkLock);
        }
        self.lock == Lock::Held
    }

    /// Called when the lock is granted. Returns true if the hub had asked for it.
    pub(super) fn lock_granted(&mut self) -> bool {
        let wanted = self.lock == Lock::Requested;
        if wanted {
            self.lock = Lock::Held;
        }
        wanted
    }

    /// Asks for the lock of the key and this tag, unless it has been asked for.
    pub(super) fn take_tag(&mut self, tag: String) {
        if !self.has_tag {
            self.has_tag = true;
            self.order(Output::TakeTag { tag });
        }
    }

    pub(super) fn release_lock(&mut self) {
        self.stop_asking();
        self.has_tag = false;
        if self.lock != Lock::Free {
            self.lock = Lock::Free;
            self.order(Output::ReleaseLinkLock);
        }
    }

    pub(super) fn open_link(&mut self) {
        self.attempts += 1;
        let attempt = AttemptId(self.attempts);
        self.link = Some(attempt);
        self.outbox.clear();
        self.order(Output::OpenLink { attempt });
        self.event(Event::Dialled(attempt));
    }

    pub(super) fn is_link(&self, attempt: AttemptId) -> bool {
        self.link == Some(attempt)
    }

    /// The link is no more: nothing it says counts, nothing waits for it.
    pub(super) fn drop_link(&mut self) {
        self.link = None;
        self.heartbeat = None;
        self.outbox.clear();
        self.outbox_at = None;
    }

    /// Asks the link to close, once all that is queued has been handed to it; its `LinkClosed` is
    /// still heard.
    pub(super) fn close_link(&mut self, now: Timestamp, code: u16, reason: &str) {
        self.flush_all(now);
        if let Some(attempt) = self.link {
            self.order(Output::CloseLink { attempt, code, reason: reason.to_owned() });
        }
    }

    /// Asks the link to close, and forgets it with all that is queued.
    pub(super) fn abandon_link(&mut self, code: u16, reason: &str) {
        if let Some(attempt) = self.link {
            self.order(Output::CloseLink { attempt, code, reason: reason.to_owned() });
        }
        self.drop_link();
    }

    /// Queues the `n`th message of a tab for the link. False when the queue is full.
    pub(super) fn send(&mut self, payload: OwnedPayload, tab: TabId, n: u64, len: usize) -> bool {
        let owner = Some((tab, n, len));
        self.outbox.push(Entry { payload, owner, awaits: true }).is_ok()
    }

    /// Queues a frame of the hub's own.
    pub(super) fn send_control(&mut self, frame: Vec<u8>) {
        self.push_control(frame, true);
    }

    /// Sends a frame whose credentials the shell knows. It goes before all that waits.
    pub(super) fn show_credentials(&mut self, frame: Vec<u8>) {
        if let Some(attempt) = self.link {
            self.order(Output::ShowCredentials(attempt, frame));
        }
    }

    /// Queues a frame of which the hub need not know that it arrived.
    pub(super) fn send_note(&mut self, frame: Vec<u8>) {
        self.push_control(frame, false);
    }

    fn push_control(&mut self, frame: Vec<u8>, awaits: bool) {
        let payload = OwnedPayload::Binary(frame);
        let pushed = self.outbox.push(Entry { payload, owner: None, awaits });
        debug_assert!(pushed.is_ok(), "only a tab's own messages have a limit");
    }

    /// Puts a PING before all that waits, so that a slow link is not taken for a dead one.
    pub(super) fn send_ping(&mut self, nonce: u64) {
        self.send_first(HubFrame::Ping { nonce }.to_bytes());
    }

    /// Puts a frame of the hub's own before all that waits, and behind others like it.
    pub(super) fn send_first(&mut self, frame: Vec<u8>) {
        self.outbox.push_first(OwnedPayload::Binary(frame));
    }

    /// Returns true if anything waits to be handed to the link.
    pub(super) fn is_behind(&self) -> bool {
        !self.outbox.is_empty()
    }

    pub(super) const fn set_buffered(&mut self, bytes: u64) {
        self.outbox.set_buffered(bytes);
    }

    /// Called when the server answered a PING. The link holds nothing that is acknowledged.
    pub(super) fn answered(&mut self, now: Timestamp, nonce: u64) {
        if let Some(heartbeat) = &mut self.heartbeat {
            let unacknowledged = heartbeat.answered(now, nonce);
            self.outbox.holds_at_most(unacknowledged);
        }
    }

    /// Asks the server whether it lives, if there is a link.
    pub(super) fn probe(&mut self, now: Timestamp) {
        if let Some(Pulse::Ping { nonce }) = self.heartbeat.as_mut().map(|beat| beat.probe(now)) {
            self.send_ping(nonce);
        }
    }

    /// Gives the link what it may be given now.
    pub(super) fn flush(&mut self, now: Timestamp) {
        while let Some(entry) = self.link.and_then(|_| self.outbox.pop(self.is_full())) {
            self.hand_over(now, entry);
        }
        // If it is the server that is behind, its PONG is awaited.
        let waits = self.link.is_some() && !self.outbox.is_empty() && self.outbox.is_over_mark();
        self.outbox_at = waits.then(|| now + OUTBOX_INTERVAL);
    }

    /// Gives the link all there is, because no other time will come.
    pub(super) fn flush_all(&mut self, now: Timestamp) {
        while let Some(entry) = self.link.and_then(|_| self.outbox.pop_anyway()) {
            self.hand_over(now, entry);
        }
    }

    fn is_full(&self) -> bool {
        self.heartbeat.as_ref().is_some_and(Heartbeat::is_full)
    }

    fn hand_over(&mut self, now: Timestamp, Entry { payload, owner, awaits }: Entry) {
        let Some(attempt) = self.link else { return };
        if let Some((tab, n, _)) = owner {
            self.sent.entry(tab, Sent::default).handed = n;
            self.report_at.get_or_insert(now + REPORT_DELAY);
        }
        let bytes = payload.len() as u64;
        self.order(Output::SendLink { attempt, payload });
        let pulse = self.heartbeat.as_mut().map(|beat| beat.handed(now, bytes, awaits));
        if let Some(Pulse::Ping { nonce }) = pulse {
            let payload = OwnedPayload::Binary(HubFrame::Ping { nonce }.to_bytes());
            self.order(Output::SendLink { attempt, payload });
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        if self.report_at.is_some_and(|at| at <= now) {
            self.report();
        }
    }

    /// Tells tabs what was handed to the link, if they do not know. Called before anything that the
    /// link says is posted, too: no tab hears an answer before it knows that its question left.
    pub(super) fn report(&mut self) {
        if self.report_at.take().is_none() {
            return;
        }
        for tab in self.sent.keys_where(|_, sent| sent.reported != sent.handed) {
            let Some(sent) = self.sent.get_mut(tab) else {
                continue;
            };
            sent.reported = sent.handed;
            let n = sent.handed;
            self.post_now(tab, HubMessage::Sent { n });
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        let outbox = self.outbox_at.map(|at| (at, WakeReason::Outbox));
        let report = self.report_at.map(|at| (at, WakeReason::Report));
        [outbox, report, self.ask_timeout(), self.tabs.poll_timeout()].into_iter().flatten().min()
    }
}
