//! Mirror mode: one link to any WebSocket server, and a view of it for each socket of each tab.

mod dial;
mod names;
mod outage;
mod replay;

use std::time::Duration;

use tabmux_wire::{Payload, TabId, close as code};

use self::{
    names::{Names, Owner},
    outage::Outage,
    replay::Replay,
};
use super::{
    base::{Base, Close, Has, Machine, Said, SocketKey, Subscription},
    io::{Ask, Event, HubMessage, LinkState, Rules, SubscriptionId, WakeReason},
    map::Map,
    resume::Held,
    text::text,
};
use crate::{OwnedPayload, Timestamp};

#[derive(Debug, Default)]
pub(super) struct Mirror {
    link: Link,
    views: Map<SocketKey, View>,
    /// How many messages of each tab came. `None` until the tab says that it heard that it begins
    /// anew: word of that may have gone to a port that the tab has closed.
    seen: Map<TabId, Option<u64>>,
    rules: Rules,
    names: Names,
    replay: Replay,
    /// From when an open link broke until the next one is open. Its views stay open.
    outage: Option<Outage>,
    /// When the link closes that has no view, or no tab that is present.
    linger_until: Option<Timestamp>,
}

#[derive(Debug, Default)]
enum Link {
    /// There is no view.
    #[default]
    Idle,
    /// Another hub, a dying one perhaps, still owns the link.
    WaitingForLock,
    /// A tab is asked where the link goes.
    Asking,
    /// Being opened; given up at `until`.
    Dialling {
        until: Timestamp,
    },
    Open {
        protocol: String,
        extensions: String,
    },
    /// It broke, and is dialled again then.
    Broken {
        until: Timestamp,
    },
    /// The closing handshake is under way. `last` hears how it ended; views that open meanwhile
    /// wait for the next link.
    Closing {
        last: Option<SocketKey>,
        was_open: bool,
    },
}

/// The longest time that a link outlives its last view.
const MAX_LINGER: u64 = 86_400_000;

/// Close codes by which a server says that it goes away, or that it is in trouble: an outage.
const OUTAGES: [u16; 5] = [1001, 1011, 1012, 1013, 1014];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Connecting,
    Open,
}

impl Mirror {
    /// The link closes, and its end is heard.
    fn close_link(
        &mut self,
        now: Timestamp,
        base: &mut Base,
        last: Option<SocketKey>,
        close: Close<'_>,
    ) {
        let was_open = matches!(self.link, Link::Open { .. });
        base.close_link(now, close.code, close.reason);
        self.link = Link::Closing { last, was_open };
    }

    /// The link that nobody looks at stays for a while, if it is to. True if so.
    fn linger(&mut self, now: Timestamp) -> bool {
        let ms = self.rules.linger_ms.min(MAX_LINGER);
        let stays = ms > 0 && matches!(self.link, Link::Open { .. });
        if stays {
            self.linger_until.get_or_insert(now + Duration::from_millis(ms));
        }
        stays
    }

    /// An outage goes on: waits, and dials again. False if there were dials enough.
    fn retry(&mut self, now: Timestamp, base: &mut Base) -> bool {
        let wait = self.outage.as_mut().and_then(|outage| outage.next(&mut base.rng));
        match wait {
            Some(wait) => self.link = Link::Broken { until: now + wait },
            None => self.outage = None,
        }
        wait.is_some()
    }

    /// The tab's only view is a late one: tells it the last messages.
    fn replay_to(&self, base: &mut Base, tab: TabId) {
        if self.views.keys_where(|(owner, _), _| owner == tab).len() == 1 {
            for payload in self.replay.iter() {
                base.post(tab, HubMessage::Mirror { payload: payload.clone() });
            }
        }
    }

    /// The link is gone, or cannot be: says so to every view that it had.
    fn fail_views(&mut self, base: &mut Base, was_open: bool, close: Close<'_>, error: &str) {
        for (key, view) in self.views.take() {
            match view {
                View::Open => end(base, key, close),
                // It came while the old link was closing and waits for the next one.
                View::Connecting if was_open => self.views.insert(key, view),
                View::Connecting => base.fail(key, Some(error)),
            }
        }
    }

    /// After the link is gone: another one for the views that wait, or none.
    fn next(&mut self, now: Timestamp, base: &mut Base) {
        self.link = Link::Idle;
        if self.views.is_empty() || !base.tabs.any_present() {
            base.release_lock();
        } else {
            self.dial(now, base);
        }
    }

    /// Every tab that is left is parked. The worker may freeze right after this task, and a server
    /// that speaks no tabmux cannot be told, so the link must close now, as a page's own WebSocket
    /// would.
    fn nobody_present(&mut self, now: Timestamp, base: &mut Base) {
        if self.linger(now) {
            return;
        }
        match self.link {
            Link::Dialling { .. } | Link::Open { .. } => {
                self.close_link(now, base, None, Close::new(0, "", true));
            }
            Link::WaitingForLock | Link::Asking => self.link = Link::Idle,
            Link::Broken { .. } => {
                self.link = Link::Idle;
                self.fail_views(base, false, Close::new(code::ABNORMAL, "", false), "");
            }
            Link::Idle | Link::Closing { .. } => {}
        }
        self.outage = None;
        base.release_lock();
    }

    /// A view is gone. The link goes with the last one.
    fn view_removed(&mut self, now: Timestamp, base: &mut Base, key: SocketKey, close: Close<'_>) {
        if !self.views.is_empty() || self.linger(now) {
            if base.tabs.contains(key.0) {
                let code = if close.code == 0 { code::NO_STATUS } else { close.code };
                base.closed(key, Close { code, ..close });
            }
            return;
        }
        match self.link {
            Link::Dialling { .. } | Link::Open { .. } => {
                self.close_link(now, base, Some(key), close);
            }
            Link::Broken { .. } | Link::WaitingForLock | Link::Asking => {
                base.release_lock();
                self.link = Link::Idle;
                base.fail(key, None);
            }
            Link::Idle | Link::Closing { .. } => base.fail(key, None),
        }
        self.outage = None;
    }

    /// More is missing to a tab than is kept for it.
    fn lose_views(&mut self, now: Timestamp, base: &mut Base, tab: TabId) {
        for key in self.views.keys_where(|(owner, _), _| owner == tab) {
            self.views.remove(key);
            if base.tabs.is_attached(tab) {
                base.post(tab, lost_view(key.1));
            } else {
                base.tabs.hold(tab, lost_view(key.1));
            }
            if self.views.is_empty() {
                self.view_removed(now, base, key, Close::new(0, "", true));
            }
        }
    }

    fn open(&mut self, now: Timestamp, base: &mut Base, key: SocketKey) {
        if self.views.contains(key) {
            base.event(Event::BadTabMessage(key.0));
            return;
        }
        if self.views.keys_where(|(tab, _), _| tab == key.0).len() >= base.config.sockets {
            let error = text!("tabmux: a tab has ", base.config.sockets, " sockets at most");
            base.fail(key, Some(&error));
            return;
        }
        self.linger_until = None;
        if let Link::Open { protocol, extensions } = &self.link {
            self.views.insert(key, View::Open);
            base.post(key.0, opened(key, true, protocol, extensions));
            self.replay_to(base, key.0);
            return;
        }
        self.views.insert(key, View::Connecting);
        if matches!(self.link, Link::Idle) {
            self.dial(now, base);
        }
    }

    fn send(
        &mut self,
        now: Timestamp,
        base: &mut Base,
        n: u64,
        key: SocketKey,
        payload: Payload<'_>,
    ) {
        if self.views.get(key) != Some(&View::Open) {
            return;
        }
        if let Some(outage) = &mut self.outage {
            outage.keep(key, n, payload.into());
            return;
        }
        if !matches!(self.link, Link::Open { .. }) {
            return;
        }
        if !base.send(OwnedPayload::from(payload), key.0, n, payload.len()) {
            self.views.remove(key);
            base.event(Event::Overflow(key.0));
            let limit = base.config.outbox_bytes;
            base.fail(key, Some(&text!("tabmux: more than ", limit, " bytes wait to be sent")));
            if self.views.is_empty() {
                self.view_removed(now, base, key, Close::new(0, "", false));
            }
        }
    }

    fn close(&mut self, now: Timestamp, base: &mut Base, key: SocketKey, close: Close<'_>) {
        match self.views.remove(key) {
            Some(View::Connecting) if !self.views.is_empty() => {
                base.fail(key, Some("tabmux: the socket was closed before it was open"));
            }
            Some(_) => self.view_removed(now, base, key, close),
            None => {}
        }
    }
}

impl Machine for Mirror {
    fn tab_attached(&mut self, now: Timestamp, base: &mut Base, _: TabId, _: Has<'_>) {
        if !self.views.is_empty() {
            self.linger_until = None;
            if matches!(self.link, Link::Idle) {
                self.dial(now, base);
            }
        }
    }

    /// A tab that this hub knows goes on. All others have lost what they had, since no other hub
    /// can have left anything here.
    fn tab_returned(
        &mut self,
        now: Timestamp,
        base: &mut Base,
        tab: TabId,
        last0: u64,
        held: Held,
    ) {
        match base.missed(tab, last0.saturating_sub(1)) {
            Some(missed) => missed.into_iter().for_each(|it| base.post_now(tab, it)),
            None => self.lose_views(now, base, tab),
        }
        for message in held.into_messages() {
            base.post(tab, message);
        }
        let seen = *self.seen.entry(tab, || None);
        let (n_seen, continues) = (seen.unwrap_or(0), seen.is_some());
        let (count0, claim) = (1, String::new());
        base.post_now(tab, HubMessage::Resume { n_seen, continues, count0, claim });
    }

    fn tab_parked(&mut self, now: Timestamp, base: &mut Base, _: TabId) {
        if !base.tabs.any_present() {
            self.nobody_present(now, base);
        }
    }

    fn tab_gone(&mut self, now: Timestamp, base: &mut Base, tab: TabId) {
        self.seen.remove(tab);
        self.names.forget(now, tab);
        for key in self.views.keys_where(|(owner, _), _| owner == tab) {
            self.views.remove(key);
            self.view_removed(now, base, key, Close::new(0, "", true));
        }
        if base.tabs.len() > 0 && !base.tabs.any_present() {
            self.nobody_present(now, base);
        }
    }

    fn tab_overflowed(&mut self, now: Timestamp, base: &mut Base, tab: TabId) {
        self.lose_views(now, base, tab);
    }

    fn said(&mut self, now: Timestamp, base: &mut Base, n: u64, key: SocketKey, said: Said<'_>) {
        match self.seen.get_mut(key.0) {
            Some(Some(seen)) if n == *seen + 1 => *seen = n,
            // The tab says it again, in its turn, or has said it before, or to another hub.
            _ => return,
        }
        match said {
            Said::Open { path, .. } => {
                self.names.learn(key.0, path);
                self.open(now, base, key);
            }
            Said::Send(payload) => self.send(now, base, n, key, payload),
            Said::Close { code, reason } => {
                self.close(now, base, key, Close::new(code, reason, true));
            }
            // Nobody asked for it: no other end would understand.
            Said::Credit(_) => base.event(Event::BadTabMessage(key.0)),
        }
    }

    fn got(&mut self, _: Timestamp, _: &mut Base, tab: TabId, _: [u64; 2]) {
        // Nothing else has a count here: it heard that it begins anew.
        if let Some(seen @ None) = self.seen.get_mut(tab) {
            *seen = Some(0);
        }
    }

    fn subscribe(&mut self, base: &mut Base, wish: Subscription<'_>) {
        base.event(Event::BadTabMessage(wish.tab));
    }

    fn unsubscribe(&mut self, base: &mut Base, tab: TabId, _: SubscriptionId) {
        base.event(Event::BadTabMessage(tab));
    }

    fn lock_granted(&mut self, now: Timestamp, base: &mut Base) {
        if matches!(self.link, Link::WaitingForLock) {
            self.dial(now, base);
        }
    }

    fn answered(&mut self, now: Timestamp, base: &mut Base, _: Ask, answer: Result<bool, &str>) {
        match answer {
            _ if !matches!(self.link, Link::Asking) => {}
            Ok(_) => self.address_is_known(now, base),
            Err(why) => {
                let url = &base.config.url;
                let error = text!("tabmux: the page could not say where ", url, " is: ", why);
                self.not_opened(now, base, &error);
            }
        }
    }

    fn link_opened(&mut self, _: Timestamp, base: &mut Base, protocol: &str, extensions: &str) {
        if !matches!(self.link, Link::Dialling { .. }) {
            return;
        }
        self.link = Link::Open { protocol: protocol.to_owned(), extensions: extensions.to_owned() };
        self.replay.clear();
        for (index, (key, view)) in self.views.iter_mut().enumerate() {
            *view = View::Open;
            // To a view that was open already this says that the outage is over.
            base.post(key.0, opened(key, index > 0, protocol, extensions));
        }
        for (key, n, payload) in self.outage.take().iter_mut().flat_map(Outage::take) {
            let len = payload.len();
            // There is room: a link that is new holds nothing.
            let _ = base.send(payload, key.0, n, len);
        }
    }

    fn rules(&mut self, _: &mut Base, rules: Rules) {
        self.rules = rules;
    }

    fn link_message_to(&mut self, now: Timestamp, base: &mut Base, name: &str, text: &str) {
        match self.names.owner(now, name) {
            Owner::Unknown => self.link_message(now, base, Payload::Text(text)),
            Owner::Left => {}
            Owner::Tab(tab) => {
                let has_view = self.views.iter().any(|((owner, _), _)| owner == tab);
                if has_view && matches!(self.link, Link::Open { .. }) {
                    let payload = OwnedPayload::Text(text.to_owned());
                    base.post(tab, HubMessage::Mirror { payload });
                }
            }
        }
    }

    /// Views stay open, as in an outage, whatever the rules say of outages: the page asked for it.
    fn reconnect(&mut self, now: Timestamp, base: &mut Base, _: TabId) {
        match self.link {
            Link::Open { .. } if !self.views.is_empty() => {
                base.close_link(now, code::NORMAL, "");
                base.drop_link();
                self.outage = Some(Outage::asked_for(&self.rules));
                self.dial(now, base);
            }
            Link::Broken { .. } => self.dial(now, base),
            // There is no link to ask for, or it is on its way.
            Link::Idle
            | Link::WaitingForLock
            | Link::Asking
            | Link::Dialling { .. }
            | Link::Open { .. }
            | Link::Closing { .. } => {}
        }
    }

    fn reset(&mut self, now: Timestamp, base: &mut Base) {
        let close = Close::new(1000, "reset", true);
        for (key, _) in self.views.take() {
            base.closed(key, close);
        }
        self.outage = None;
        match self.link {
            Link::Dialling { .. } | Link::Open { .. } => self.close_link(now, base, None, close),
            Link::WaitingForLock | Link::Asking | Link::Broken { .. } => {
                self.link = Link::Idle;
                base.release_lock();
            }
            Link::Idle | Link::Closing { .. } => {}
        }
    }

    fn link_message(&mut self, _: Timestamp, base: &mut Base, payload: Payload<'_>) {
        if !matches!(self.link, Link::Open { .. }) {
            return;
        }
        if self.rules.replay_last > 0 {
            self.replay.push(payload.into(), self.rules.replay_last);
        }
        let mut tabs: Vec<TabId> = self.views.iter().map(|((tab, _), _)| tab).collect();
        tabs.dedup();
        let message = HubMessage::Mirror { payload: payload.into() };
        base.post_all(tabs, &message);
    }

    fn link_closed(&mut self, now: Timestamp, base: &mut Base, close: Close<'_>) {
        let was_dialling = matches!(self.link, Link::Dialling { .. });
        base.event(Event::LinkDown(text!("closed with ", close.code, " ", close.reason)));
        let is_outage = !close.failed && (!close.clean || OUTAGES.contains(&close.code));
        if is_outage && matches!(self.link, Link::Open { .. }) && !self.views.is_empty() {
            self.outage = Outage::begin(&self.rules);
        }
        if (was_dialling || is_outage) && self.retry(now, base) {
            return;
        }
        self.linger_until = None;
        // A browser says that it failed a link which was closed while it was dialled, too.
        let (failed, was_open) = match self.link {
            Link::Closing { was_open, .. } => (close.failed && was_open, true),
            Link::Idle
            | Link::WaitingForLock
            | Link::Asking
            | Link::Dialling { .. }
            | Link::Open { .. }
            | Link::Broken { .. } => (close.failed && !was_dialling, !was_dialling),
        };
        let close = Close { failed, ..close };
        if let Link::Closing { last: Some(key), .. } = self.link {
            end(base, key, close);
        }
        let error = text!(
            "tabmux: the WebSocket to ",
            base.config.url,
            " could not be opened (code ",
            close.code,
            "): the server is not there, it refused this page's origin, or the connect-src of the \
             policy on worker.js's own response forbids it. Mode 'mux' is for virtual sockets of a \
             tabmux server",
        );
        self.fail_views(base, was_open, close, &error);
        self.next(now, base);
    }

    /// What was dialled without a network may never be answered: it is dialled again, since a view
    /// that opens now would wait for it.
    fn network_changed(&mut self, now: Timestamp, base: &mut Base, online: bool) {
        let was_online = std::mem::replace(&mut base.is_online, online);
        let dials = matches!(self.link, Link::Dialling { .. } | Link::Broken { .. });
        if online && !was_online && dials {
            base.abandon_link(0, "");
            self.dial(now, base);
        }
    }

    fn handle_timeout(&mut self, now: Timestamp, base: &mut Base) {
        if self.linger_until.is_some_and(|until| until <= now) {
            self.linger_until = None;
            self.close_link(now, base, None, Close::new(0, "", true));
            if !base.tabs.any_present() {
                base.release_lock();
            }
        }
        if let Link::Broken { until } = self.link
            && until <= now
            && base.is_online
        {
            self.dial(now, base);
        }
        if let Link::Dialling { until } = self.link
            && until <= now
        {
            base.abandon_link(0, "");
            let seconds = base.config.dial_timeout.as_secs();
            let error = text!("tabmux: ", base.config.url, " did not answer for ", seconds, " s");
            self.not_opened(now, base, &error);
        }
    }

    fn poll_timeout(&self, base: &Base) -> Option<(Timestamp, WakeReason)> {
        let linger = self.linger_until.map(|until| (until, WakeReason::Linger));
        let link = match self.link {
            Link::Dialling { until } => Some((until, WakeReason::Dial)),
            // Without a network the next dial waits for word of one.
            Link::Broken { until } => base.is_online.then_some((until, WakeReason::Backoff)),
            Link::Idle
            | Link::WaitingForLock
            | Link::Asking
            | Link::Open { .. }
            | Link::Closing { .. } => None,
        };
        [linger, link].into_iter().flatten().min()
    }

    fn state(&self) -> (LinkState, &str) {
        let state = match self.link {
            Link::Idle => LinkState::Idle,
            Link::WaitingForLock
            | Link::Asking
            | Link::Dialling { .. }
            | Link::Broken { .. }
            | Link::Closing { .. } => LinkState::Connecting,
            Link::Open { .. } => LinkState::Connected,
        };
        (state, "")
    }

    fn left_out(&self, _: TabId) -> Option<(LinkState, &str)> {
        None
    }
}

fn opened((_, socket): SocketKey, reused: bool, protocol: &str, extensions: &str) -> HubMessage {
    HubMessage::Opened {
        socket,
        count: 0,
        reused,
        protocol: protocol.to_owned(),
        extensions: extensions.to_owned(),
        credit: None,
    }
}

/// Tells a view that was open how its connection ended. As with `WebSocket`, an error comes first
/// if the browser failed the connection because of what the server sent.
fn end(base: &mut Base, key: SocketKey, close: Close<'_>) {
    if close.failed {
        let message = text!(
            "tabmux: the browser closed the connection to ",
            base.config.url,
            ": what the server sent is against the WebSocket protocol",
        );
        base.post(key.0, HubMessage::Error { socket: key.1, message });
    }
    base.closed(key, close);
}

fn lost_view(socket: tabmux_wire::SocketId) -> HubMessage {
    let reason = "the tab was away for too long".to_owned();
    HubMessage::Closed { socket, count: 0, code: code::ABNORMAL, clean: false, reason }
}
