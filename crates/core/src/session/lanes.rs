//! Frames that count: pushed into a lane, written, acknowledged, written again.

use std::sync::Arc;

use tabmux_wire::{Alias, ErrorCode, LaneCount, MAX_ACK_ENTRIES, ServerFrame, SocketId, TabId};

use super::{
    LinkId, Output, PeerMisbehaved, SendError,
    effects::Effects,
    lane::{Burst, Kept, NoSuchFrame},
    ledger::Charge,
    state::{Session, Slow, Stage},
    tab::{Presence, Share, Socket, Tab},
};

/// How many times a session may be filled by messages that come from elsewhere and cannot wait
/// there.
pub(super) const RUSH: usize = 4;

/// A hub is told at once of so many frames of one tab, or of so many bytes; else when it asks
/// whether the server lives.
const TELL_FRAMES: u64 = 64;
const TELL_BYTES: usize = 64 << 10;

/// A hub is told before a frame that is longer, since it hears nothing before all of it has come.
pub const LONG_FRAME: usize = 64 << 10;

impl Session {
    /// Sends a frame that does not count. Without a link nothing is sent.
    pub(super) fn send_frame(&mut self, fx: &mut Effects, frame: &ServerFrame<'_>) {
        self.send_bytes(fx, frame.to_bytes().into());
    }

    fn send_bytes(&mut self, fx: &mut Effects, bytes: Arc<[u8]>) {
        let Some(link) = self.link() else {
            return;
        };
        if bytes.len() > LONG_FRAME && self.version > 1 {
            let coming = ServerFrame::Coming { bytes: bytes.len() as u64 };
            self.send_bytes(fx, coming.to_bytes().into());
        }
        let limit = fx.config.queue_bytes.saturating_add(fx.config.control_bytes);
        self.unwritten += bytes.len();
        fx.stats.memory.queued_bytes += bytes.len();
        // What is kept may all have to be sent again at once.
        if self.unwritten > limit.saturating_add(self.kept) {
            fx.overflow(link);
        }
        fx.order(Output::Send { link, bytes });
    }

    /// Sends an application's message in a tab's lane, or in lane 0, if the limits allow it. What
    /// nobody could hold back may fill a session `rush` times.
    pub(super) fn send_message(
        &mut self,
        fx: &mut Effects,
        tab: Option<Alias>,
        frame: &ServerFrame<'_>,
        len: usize,
        rush: usize,
    ) -> Result<(), SendError> {
        let max = fx.config.message_bytes;
        if len > max {
            fx.stats.messages.too_large += 1;
            return Err(SendError::TooLarge);
        }
        let (in_lane, share) = match tab {
            Some(alias) => {
                let tab = self.tabs.get(alias).ok_or(SendError::Closed)?;
                (tab.kept(), tab.share())
            }
            None => (self.lane0.bytes(), Share::Present),
        };
        // What an absent tab gets is not written now.
        let (limit, unwritten) = match share {
            Share::Present => (fx.config.session_bytes, self.unwritten),
            Share::Absent => (fx.config.absent_bytes, 0),
        };
        // A lane takes messages until it is full, whatever their size: else one that is larger
        // than what is left would have to wait for all before it, and some could never be sent.
        let lane_limit = if rush > 1 { usize::MAX } else { fx.config.lane_bytes };
        let has_room =
            in_lane < lane_limit && (unwritten == 0 || unwritten + len <= fx.config.queue_bytes);
        if has_room && self.kept > 0 && fx.refuses(self) {
            fx.stats.messages.no_memory += 1;
            return Err(SendError::Full);
        }
        if !has_room || self.keeps(share, limit.saturating_mul(rush)) {
            let of_absent = has_room && share == Share::Absent;
            fx.stats.messages.absent_full += u64::from(of_absent);
            fx.stats.messages.queue_full += u64::from(!of_absent);
            return Err(SendError::Full);
        }
        let bytes: Arc<[u8]> = frame.to_bytes().into();
        if bytes.len() > max {
            fx.stats.messages.too_large += 1;
            return Err(SendError::TooLarge);
        }
        fx.stats.messages.sent += 1;
        match tab {
            Some(alias) => self.push_lane(fx, alias, bytes),
            None => self.push_lane0(fx, bytes),
        }
        Ok(())
    }

    /// Sends a frame of a tab's lane.
    pub(super) fn send_lane(&mut self, fx: &mut Effects, tab: Alias, frame: &ServerFrame<'_>) {
        self.push_lane(fx, tab, frame.to_bytes().into());
    }

    /// Sends a frame of lane 0 that is of this session alone.
    pub(super) fn push_lane0(&mut self, fx: &mut Effects, bytes: Arc<[u8]>) {
        let taken = self.lane0.push(Arc::clone(&bytes));
        self.ledger.charge(fx, Charge::Lanes, 0, taken);
        self.keep(fx, bytes.len());
        self.send_bytes(fx, bytes);
    }

    /// Takes publications of so many bytes into lane 0. Returns the link to write them to. The
    /// caller counts the bytes of all sessions together.
    pub(super) fn push_burst(
        &mut self,
        fx: &mut Effects,
        burst: &Arc<Burst>,
        len: usize,
    ) -> Option<LinkId> {
        // Most deliveries find room in the ring.
        let taken = self.lane0.push_burst(burst, len);
        if taken > 0 {
            self.ledger.charge(fx, Charge::Lanes, 0, taken);
        }
        self.kept += len;
        match self.stage {
            Stage::Attached(link) => {
                self.unwritten += len;
                Some(link)
            }
            Stage::Detached { .. } => None,
        }
    }

    fn push_lane(&mut self, fx: &mut Effects, alias: Alias, bytes: Arc<[u8]>) {
        let Some(tab) = self.tabs.get_mut(alias) else {
            return;
        };
        let goes_out = tab.presence == Presence::Attached;
        let tab_before = tab.cost();
        let taken = tab.lane_mut().push(Arc::clone(&bytes));
        self.ledger.charge(fx, Charge::Lanes, 0, taken);
        self.ledger.charge(fx, Charge::Sessions, tab_before, tab.cost());
        self.keep(fx, bytes.len());
        if goes_out {
            self.send_bytes(fx, bytes);
        }
    }

    /// Counts what a lane keeps. A session in which even answers pile up is given up.
    fn keep(&mut self, fx: &mut Effects, len: usize) {
        self.kept += len;
        fx.stats.memory.kept_bytes += len;
        // Of both shares together: a tab that comes back moves what it has from one to the other.
        let both = fx.config.session_bytes.saturating_add(fx.config.absent_bytes);
        let limit = both.saturating_mul(RUSH);
        let answers = fx.config.message_bytes.saturating_add(fx.config.control_bytes);
        if self.kept > limit.saturating_add(answers) {
            fx.swell(self.id);
        }
    }

    /// Sends again what a hub does not have.
    pub(super) fn send_kept(&mut self, fx: &mut Effects, frames: Vec<Kept>) {
        for frame in frames {
            match frame {
                Kept::Own(bytes) => self.send_bytes(fx, bytes),
                Kept::Shared(frame) => {
                    let Some(link) = self.link() else {
                        return;
                    };
                    self.unwritten += frame.len();
                    fx.stats.memory.queued_bytes += frame.len();
                    fx.order(Output::Publish { frames: vec![frame], links: vec![link] });
                }
            }
        }
    }

    /// Takes an ACK.
    pub(super) fn on_ack(
        &mut self,
        fx: &mut Effects,
        lanes: &[LaneCount],
        aside: &[Alias],
    ) -> Result<(), PeerMisbehaved> {
        for &LaneCount { lane, count } in lanes {
            self.acknowledge(fx, Alias(lane), count)?;
        }
        for alias in aside {
            if let Some(tab) = self.tabs.get_mut(*alias)
                && !std::mem::replace(&mut tab.aside, true)
            {
                fx.stats.tabs.set_aside += 1;
            }
        }
        Ok(())
    }

    /// Forgets the first frames of a lane, which the hub has. A lane that is no more is ignored.
    pub(super) fn acknowledge(
        &mut self,
        fx: &mut Effects,
        lane: Alias,
        count: u64,
    ) -> Result<(), PeerMisbehaved> {
        let acknowledged = match (lane, self.tabs.get_mut(lane)) {
            (Alias(0), _) => Some(&mut self.lane0),
            (_, None) => return Ok(()),
            (_, Some(tab)) if tab.lane().is_some() => Some(tab.lane_mut()),
            (_, Some(_)) => None,
        };
        let freed = match acknowledged {
            Some(lane) => {
                let before = lane.cost();
                let freed = lane.acknowledge(count);
                self.ledger.charge(fx, Charge::Lanes, before, lane.cost());
                freed
            }
            // The lane was never used.
            None if count > 0 => Err(NoSuchFrame),
            None => Ok(0),
        };
        let freed = freed.map_err(|NoSuchFrame| PeerMisbehaved::NoSuchFrame)?;
        self.kept -= freed;
        fx.stats.memory.kept_bytes -= freed;
        // What is left must go on in time too.
        let is_left = self.tabs.get(lane).is_some_and(|tab| tab.kept() > 0);
        if let Some(slow) = &mut self.slow
            && freed > 0
        {
            slow.stalled.retain(|(alias, _)| is_left || *alias != lane);
            let of_lane = slow.stalled.iter_mut().filter(|(alias, _)| *alias == lane);
            of_lane.for_each(|(_, since)| *since = fx.now);
        }
        Ok(())
    }

    /// Tells sockets that were told that there is no room, once there is enough again.
    pub(super) fn wake_waiting(&mut self, fx: &mut Effects) {
        let Some(Slow { crowded, crowded_absent, .. }) = self.slow.as_deref() else {
            return;
        };
        let half = |limit: usize| limit / 2;
        let keeps = |share, limit| self.keeps(share, half(limit) + 1);
        let crowded = *crowded
            && (self.unwritten > half(fx.config.queue_bytes)
                || keeps(Share::Present, fx.config.session_bytes));
        let crowded_absent = *crowded_absent && keeps(Share::Absent, fx.config.absent_bytes);
        let Some(slow) = &mut self.slow else {
            return;
        };
        (slow.crowded, slow.crowded_absent) = (crowded, crowded_absent);
        // By tab and not by socket: a hub may have thousands of sockets that wait.
        let has_room = |tab: &Alias| {
            self.tabs.get(*tab).is_none_or(|tab| {
                let is_crowded = match tab.share() {
                    Share::Present => crowded,
                    Share::Absent => crowded_absent,
                };
                !is_crowded && tab.kept() <= half(fx.config.lane_bytes)
            })
        };
        for tab in slow.waiting.tabs_for_room().filter(has_room).collect::<Vec<_>>() {
            for socket in slow.waiting.take_for_room(tab) {
                let socket = super::SocketRef { session: self.id, tab, socket };
                fx.order(Output::SocketWritable { socket });
            }
        }
        self.tidy_slow(fx);
    }

    /// Notes that a socket was told that there is no room.
    pub(super) fn wait(&mut self, fx: &mut Effects, alias: Alias, socket: SocketId) {
        let tab = self.tabs.get(alias);
        let has_credit = tab.and_then(|tab| tab.socket(socket)).is_some_and(Socket::has_credit);
        // One that gives no credit, or that has acknowledged all there was, leaves no lane full.
        let stalls = has_credit && tab.is_some_and(|tab| tab.kept() > 0);
        let is_own = tab.is_some_and(|tab| tab.kept() >= fx.config.lane_bytes || !has_credit);
        let share = tab.map_or(Share::Present, Tab::share);
        let slow = self.slow.get_or_insert_default();
        fx.stats.sockets.awaiting_credit -= slow.waiting.without_credit();
        slow.waiting.insert((alias, socket), has_credit);
        fx.stats.sockets.awaiting_credit += slow.waiting.without_credit();
        match share {
            Share::Present => slow.crowded |= !is_own,
            Share::Absent => slow.crowded_absent |= !is_own,
        }
        if stalls && !slow.stalled.iter().any(|(stalled, _)| *stalled == alias) {
            slow.stalled.push((alias, fx.now));
        }
        self.charge_waiting(fx);
    }

    /// Gives tabs that leave a full lane as it is all their time again. They may not have been able
    /// to acknowledge anything meanwhile: the machine slept, or nothing got through.
    pub(super) fn pardon(&mut self, fx: &Effects) {
        if let Some(slow) = &mut self.slow {
            slow.stalled.iter_mut().for_each(|(_, since)| *since = fx.now);
        }
    }

    /// Forgets tabs that have left a full lane as it is for too long. Their hub is told, and may
    /// attach them anew.
    pub(super) fn forget_stalled(&mut self, fx: &mut Effects) {
        // What has not left cannot be acknowledged: on a slow link that is no fault of any tab.
        if self.unwritten > fx.config.window_bytes {
            self.pardon(fx);
            return;
        }
        let Some(slow) = &self.slow else {
            return;
        };
        let late = |since| fx.now.saturating_since(since) >= fx.config.stall_timeout;
        let stalled = slow.stalled.iter().filter(|(_, since)| late(*since));
        // One that is not attached cannot acknowledge anything.
        let stalls = |it: &&Tab| it.kept() > 0 && it.presence == Presence::Attached;
        let name = |alias: Alias| self.tabs.get(alias).filter(stalls).map(|it| it.id);
        let tabs: Vec<TabId> = stalled.filter_map(|(alias, _)| name(*alias)).collect();
        for tab in tabs {
            fx.stats.tabs.stalled += 1;
            self.on_gone(fx, tab);
            let message = "the tab left its messages unread for too long";
            self.send_error(fx, ErrorCode::UnknownTab, Some(tab), None, message);
        }
    }

    /// Tells the hub what came of its tabs, if that is much; `all`: whatever it is.
    pub(super) fn report(&mut self, fx: &mut Effects, all: bool) {
        let (frames, bytes) = if all { (1, 1) } else { (TELL_FRAMES, TELL_BYTES) };
        let news = self.tabs.iter_mut().filter(|tab| tab.is_news(frames, bytes));
        let lanes: Vec<_> = news
            .map(|tab| LaneCount { lane: tab.alias.0, count: tab.report() })
            .take(MAX_ACK_ENTRIES)
            .collect();
        if !lanes.is_empty() {
            self.send_frame(fx, &ServerFrame::Ack { lanes });
        }
    }
}
