//! Frames that count: pushed into a lane, written, acknowledged, written again.

use std::sync::Arc;

use tabmux_wire::{
    Alias, ErrorCode, LaneCount, MAX_ACK_ENTRIES, ServerFrame, SessionId, SocketId, TabId,
};

use super::{
    LinkId, Output, PeerMisbehaved, Registry, SendError, SocketRef,
    lane::{Kept, NoSuchFrame},
    state::{Presence, Share, Slow, Stage, Tab},
};

/// How many times a session may be filled by messages that come from elsewhere and cannot wait
/// there.
pub(super) const RUSH: usize = 4;

/// A hub is told at once of so many frames of one tab, or of so many bytes; else when it asks
/// whether the server lives.
const TELL_FRAMES: u64 = 64;
const TELL_BYTES: usize = 64 << 10;

impl Registry {
    /// Sends a frame of a tab's lane.
    pub(super) fn send_lane(&mut self, id: SessionId, alias: Alias, frame: &ServerFrame<'_>) {
        let bytes = frame.to_bytes().into();
        self.push_lane(id, alias, bytes);
    }

    /// Sends an application's message in a tab's lane, or in lane 0, if the limits allow it. What
    /// nobody could hold back may fill a session `rush` times.
    pub(super) fn send_message(
        &mut self,
        id: SessionId,
        tab: Option<Alias>,
        frame: &ServerFrame<'_>,
        len: usize,
        rush: usize,
    ) -> Result<(), SendError> {
        let too_large = |len| len > self.config.message_bytes;
        if too_large(len) {
            self.stats.too_large += 1;
            return Err(SendError::TooLarge);
        }
        let session = self.sessions.by_id(id).ok_or(SendError::Closed)?;
        let (in_lane, share) = match tab {
            Some(alias) => {
                let tab = session.tabs.get(&alias).ok_or(SendError::Closed)?;
                (tab.kept(), tab.share())
            }
            None => (session.lane0.bytes(), Share::Present),
        };
        // What an absent tab gets is not written now.
        let (limit, unwritten) = match share {
            Share::Present => (self.config.session_bytes, session.unwritten),
            Share::Absent => (self.config.absent_bytes, 0),
        };
        // A lane takes messages until it is full, whatever their size: else one that is larger
        // than what is left would have to wait for all before it, and some could never be sent.
        let lane_limit = if rush > 1 { usize::MAX } else { self.config.lane_bytes };
        let has_room = in_lane < lane_limit
            && (unwritten == 0 || unwritten + len <= self.config.queue_bytes)
            && (session.kept == 0 || self.stats.held_bytes() <= self.config.total_queue_bytes);
        if !has_room || session.keeps(share, limit.saturating_mul(rush)) {
            let of_absent = has_room && share == Share::Absent;
            self.stats.absent_full += u64::from(of_absent);
            self.stats.queue_full += u64::from(!of_absent);
            return Err(SendError::Full);
        }
        let bytes: Arc<[u8]> = frame.to_bytes().into();
        if too_large(bytes.len()) {
            self.stats.too_large += 1;
            return Err(SendError::TooLarge);
        }
        self.stats.messages_out += 1;
        match tab {
            Some(alias) => self.push_lane(id, alias, bytes),
            None => self.push_lane0(id, bytes),
        }
        Ok(())
    }

    /// A frame of lane 0 that is of one session alone.
    pub(super) fn push_lane0(&mut self, id: SessionId, bytes: Arc<[u8]>) {
        let Some(session) = self.sessions.by_id_mut(id) else {
            return;
        };
        session.lane0.push(Arc::clone(&bytes));
        let link = session.link();
        self.keep(id, bytes.len());
        if let Some(link) = link {
            self.send_bytes(link, bytes);
        }
    }

    fn push_lane(&mut self, id: SessionId, alias: Alias, bytes: Arc<[u8]>) {
        let Some(session) = self.sessions.by_id_mut(id) else {
            return;
        };
        let link = session.link();
        let Some(tab) = session.tabs.get_mut(&alias) else {
            return;
        };
        tab.lane_mut().push(Arc::clone(&bytes));
        let link = link.filter(|_| tab.presence == Presence::Attached);
        self.keep(id, bytes.len());
        if let Some(link) = link {
            self.send_bytes(link, bytes);
        }
    }

    /// Counts what a lane keeps. A session in which even answers pile up is given up.
    fn keep(&mut self, id: SessionId, len: usize) {
        let Some(session) = self.sessions.by_id_mut(id) else {
            return;
        };
        session.kept += len;
        self.stats.kept_bytes += len;
        if let Stage::Detached { since } = session.stage {
            self.keeping.insert((since, id));
        }
        // Of both shares together: a tab that comes back moves what it has from one to the other.
        let both = self.config.session_bytes.saturating_add(self.config.absent_bytes);
        let limit = both.saturating_mul(RUSH);
        let answers = self.config.message_bytes.saturating_add(self.config.control_bytes);
        if session.kept > limit.saturating_add(answers) {
            self.swollen.push(id);
        }
    }

    /// Sends again what a hub does not have.
    pub(super) fn send_kept(&mut self, link: LinkId, frames: Vec<Kept>) {
        for frame in frames {
            match frame {
                Kept::Own(bytes) => self.send_bytes(link, bytes),
                Kept::Shared(frame) => {
                    if let Some(session) = self.session_of(link) {
                        session.unwritten += frame.len();
                        self.stats.queued_bytes += frame.len();
                    }
                    let (frames, links) = (vec![frame], vec![link]);
                    self.outputs.push_back(Output::Publish { frames, links });
                }
            }
        }
    }

    /// ACK of a hub.
    pub(super) fn on_ack(
        &mut self,
        place: u32,
        lanes: &[LaneCount],
        aside: &[Alias],
    ) -> Result<(), PeerMisbehaved> {
        for &LaneCount { lane, count } in lanes {
            self.acknowledge(place, Alias(lane), count)?;
        }
        let Some(session) = self.sessions.get_mut(place) else {
            return Ok(());
        };
        for alias in aside {
            if let Some(tab) = session.tabs.get_mut(alias)
                && !std::mem::replace(&mut tab.aside, true)
            {
                self.stats.set_aside += 1;
            }
        }
        self.release(place);
        self.wake_waiting(place);
        Ok(())
    }

    /// A hub has so many frames of a lane. A lane that is no more is ignored.
    pub(super) fn acknowledge(
        &mut self,
        place: u32,
        lane: Alias,
        count: u64,
    ) -> Result<(), PeerMisbehaved> {
        let Some(session) = self.sessions.get_mut(place) else {
            return Ok(());
        };
        let freed = match (lane, session.tabs.get_mut(&lane)) {
            (Alias(0), _) => session.lane0.acknowledge(count),
            (_, None) => Ok(0),
            (_, Some(tab)) if tab.lane().is_some() => tab.lane_mut().acknowledge(count),
            (_, Some(_)) if count > 0 => Err(NoSuchFrame),
            (_, Some(_)) => Ok(0),
        };
        let freed = freed.map_err(|NoSuchFrame| PeerMisbehaved::NoSuchFrame)?;
        session.kept -= freed;
        self.stats.kept_bytes -= freed;
        // What is left must go on in time too.
        let is_left = session.tabs.get(&lane).is_some_and(|tab| tab.kept() > 0);
        let now = self.now;
        if let Some(slow) = &mut session.slow
            && freed > 0
        {
            slow.stalled.retain(|(alias, _)| is_left || *alias != lane);
            let of_lane = slow.stalled.iter_mut().filter(|(alias, _)| *alias == lane);
            of_lane.for_each(|(_, since)| *since = now);
        }
        Ok(())
    }

    /// Tells sockets that were told that there is no room, once there is enough again.
    pub(super) fn wake_waiting(&mut self, place: u32) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let Some(Slow { crowded, crowded_absent, .. }) = session.slow.as_deref() else {
            return;
        };
        let half = |limit: usize| limit / 2;
        let keeps = |share, limit| session.keeps(share, half(limit) + 1);
        let crowded = *crowded
            && (session.unwritten > half(self.config.queue_bytes)
                || keeps(Share::Present, self.config.session_bytes));
        let crowded_absent = *crowded_absent && keeps(Share::Absent, self.config.absent_bytes);
        let Some(slow) = &mut session.slow else {
            return;
        };
        (slow.crowded, slow.crowded_absent) = (crowded, crowded_absent);
        let has_room = |(alias, socket): &(Alias, SocketId)| {
            let tab = session.tabs.get(alias);
            tab.is_none_or(|tab| {
                let open = tab.socket(*socket);
                let is_crowded = match tab.share() {
                    Share::Present => crowded,
                    Share::Absent => crowded_absent,
                };
                let in_lane = tab.kept() <= half(self.config.lane_bytes);
                !is_crowded && in_lane && open.is_none_or(|it| it.has_credit())
            })
        };
        let ready = slow.waiting.iter().filter(has_room).collect::<Vec<_>>();
        for (tab, socket) in ready {
            slow.waiting.remove((tab, socket));
            let socket = SocketRef { session: session.id, tab, socket };
            self.outputs.push_back(Output::SocketWritable { socket });
        }
        session.tidy_slow();
    }

    /// A socket was told that there is no room.
    pub(super) fn wait(&mut self, socket: SocketRef) {
        let now = self.now;
        let Some(session) = self.sessions.by_id_mut(socket.session) else {
            return;
        };
        let tab = session.tabs.get(&socket.tab);
        let open = tab.and_then(|tab| tab.socket(socket.socket));
        let has_credit = open.is_some_and(|it| it.has_credit());
        // One that gives no credit, or that has acknowledged all there was, leaves no lane full.
        let stalls = has_credit && tab.is_some_and(|tab| tab.kept() > 0);
        let is_own = tab.is_some_and(|tab| tab.kept() >= self.config.lane_bytes || !has_credit);
        let share = tab.map_or(Share::Present, Tab::share);
        let slow = session.slow.get_or_insert_default();
        self.stats.awaiting_credit -= slow.waiting.without_credit();
        slow.waiting.insert(super::place(socket), has_credit);
        self.stats.awaiting_credit += slow.waiting.without_credit();
        match share {
            Share::Present => slow.crowded |= !is_own,
            Share::Absent => slow.crowded_absent |= !is_own,
        }
        if stalls && !slow.stalled.iter().any(|(alias, _)| *alias == socket.tab) {
            slow.stalled.push((socket.tab, now));
        }
    }

    /// Who is there may not have been able to acknowledge anything meanwhile: the machine slept, or
    /// nothing got through.
    pub(super) fn pardon(&mut self, place: u32) {
        let now = self.now;
        if let Some(slow) = self.sessions.get_mut(place).and_then(|it| it.slow.as_mut()) {
            slow.stalled.iter_mut().for_each(|(_, since)| *since = now);
        }
    }

    /// Forgets tabs that have left a full lane as it is for too long. Their hub is told, and may
    /// attach them anew.
    pub(super) fn forget_stalled(&mut self, link: LinkId, place: u32) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        // What has not left cannot be acknowledged: on a slow link that is no fault of any tab.
        if session.unwritten > self.config.window_bytes {
            self.pardon(place);
            return;
        }
        let Some(slow) = &session.slow else {
            return;
        };
        let late = |since| self.now.saturating_since(since) >= self.config.stall_timeout;
        let stalled = slow.stalled.iter().filter(|(_, since)| late(*since));
        // One that is not attached cannot acknowledge anything.
        let stalls = |it: &&Tab| it.kept() > 0 && it.presence == Presence::Attached;
        let name = |alias: Alias| session.tabs.get(&alias).filter(stalls).map(|it| it.id);
        let tabs: Vec<TabId> = stalled.filter_map(|(alias, _)| name(*alias)).collect();
        let id = session.id;
        for tab in tabs {
            self.stats.stalled += 1;
            self.on_gone(id, tab);
            let message = "the tab left its messages unread for too long";
            self.send_error(link, ErrorCode::UnknownTab, Some(tab), None, message);
        }
    }

    /// Tells a hub what came of its tabs, if that is more than it need not know.
    pub(super) fn tell(&mut self, link: LinkId, place: u32, all: bool) {
        let (frames, bytes) = if all { (1, 1) } else { (TELL_FRAMES, TELL_BYTES) };
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let owed = session.tabs.iter_mut().filter(|(_, tab)| tab.owes(frames, bytes));
        let mut lanes = owed
            .map(|(Alias(lane), tab)| LaneCount { lane, count: tab.tell() })
            .take(MAX_ACK_ENTRIES)
            .peekable();
        if lanes.peek().is_some() {
            let lanes = lanes.collect();
            self.send_frame(link, &ServerFrame::Ack { lanes });
        }
    }
}
