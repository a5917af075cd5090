//! One link of a fleet: what it sends, and how it handles what it receives.

use std::io::{self, ErrorKind, Write};

use mio::net::TcpStream;
use tabmux_core::wire::{
    Denied, Hello, HubFrame, HubId, LaneCount, NEWEST_VERSION, OLDEST_VERSION, Payload, Position,
    RefusedReason, ServerFrame, TabId,
};

use super::{
    fleet::{Plan, Speech},
    stamp::Clock,
    tally::{Tally, count},
};

#[derive(Debug)]
pub(super) struct Link {
    pub(super) stream: TcpStream,
    pub(super) state: State,
    /// The beginning of a head or a frame whose rest has not arrived.
    partial: Vec<u8>,
    /// Bytes that the kernel has not accepted yet.
    unsent: Vec<u8>,
    heard: Heard,
    received: Received,
}

/// Received frames of lane 0, which a hub acknowledges.
#[derive(Debug, Default)]
struct Received {
    count: u64,
    acknowledged: u64,
    /// Bytes that were received since the last acknowledgement.
    bytes: usize,
}

/// A link acknowledges as a hub does: so many frames or bytes at once, and the rest with the next
/// PING.
const ACK_FRAMES: u64 = 128;
const ACK_BYTES: usize = 32 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Upgrading,
    /// The server has not answered all ATTACH and SUBSCRIBE frames yet.
    Greeting {
        answers: usize,
    },
    Ready,
}

/// The last publications that the link has received.
#[derive(Debug)]
enum Heard {
    /// The number of the last publication. It is 0 before the first.
    Plain(u64),
    /// For each subscription: the number of its topic, its index in the plan, and its last
    /// position.
    Topics(Vec<(u64, usize, Position)>),
}

/// The reason why a link ends.
#[derive(Debug)]
pub(super) struct End {
    pub(super) why: String,
    /// Milliseconds after which to try again, if the server told them.
    pub(super) retry_ms: Option<u64>,
}

/// What a link tells its fleet after it has handled messages.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    /// True if the link has just become ready.
    pub(super) ready: bool,
    /// The heartbeat interval of WELCOME, if one arrived.
    pub(super) heartbeat_ms: Option<u64>,
}

/// What a link needs of its fleet while it works.
pub(super) struct Scene<'a> {
    pub(super) plan: &'a Plan,
    pub(super) clock: &'a Clock,
    pub(super) tally: &'a mut Tally,
    pub(super) number: usize,
}

impl Link {
    pub(super) fn new(stream: TcpStream, plan: &Plan) -> Self {
        let heard = match plan.speech {
            Speech::Plain => Heard::Plain(0),
            Speech::Tabmux { .. } => Heard::Topics(Vec::new()),
        };
        let (partial, unsent, received) = (Vec::new(), Vec::new(), Received::default());
        Self { stream, state: State::Connecting, partial, unsent, heard, received }
    }

    /// Sends the handshake of the WebSocket, once the connection is established.
    pub(super) fn connected(&mut self, plan: &Plan) -> Result<(), End> {
        if self.state != State::Connecting {
            return Ok(());
        }
        match self.stream.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Err(End::of(&error)),
        }
        match self.stream.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
            Err(error) => return Err(End::of(&error)),
        }
        self.state = State::Upgrading;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             User-Agent: tabmux-bench\r\n\r\n",
            plan.path, plan.address
        );
        self.say(request.as_bytes())
    }

    /// Writes the bytes that the kernel did not accept before.
    pub(super) fn writable(&mut self) -> Result<(), End> {
        let unsent = std::mem::take(&mut self.unsent);
        self.say(&unsent)
    }

    pub(super) fn ping(&mut self) -> Result<(), End> {
        self.acknowledge()?;
        self.say(&masked(0x82, &HubFrame::Ping { nonce: 1 }.to_bytes()))
    }

    fn acknowledge(&mut self) -> Result<(), End> {
        let Received { count, acknowledged, bytes } = &mut self.received;
        if count == acknowledged {
            return Ok(());
        }
        (*acknowledged, *bytes) = (*count, 0);
        let lanes = vec![LaneCount { lane: 0, count: *count }];
        self.say(&masked(0x82, &HubFrame::Ack { lanes, aside: Vec::new() }.to_bytes()))
    }

    /// Handles bytes that were read.
    pub(super) fn take(&mut self, bytes: &[u8], scene: &mut Scene<'_>) -> Result<News, End> {
        let mut news = News { ready: false, heartbeat_ms: None };
        if self.partial.is_empty() {
            let used = self.take_whole(bytes, scene, &mut news)?;
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut held = std::mem::take(&mut self.partial);
            held.extend_from_slice(bytes);
            let used = self.take_whole(&held, scene, &mut news)?;
            // `split_off` frees the buffer when nothing is left.
            self.partial = held.split_off(used);
        }
        Ok(news)
    }

    /// Handles all frames that are whole. Returns how many bytes they have.
    fn take_whole(
        &mut self,
        bytes: &[u8],
        scene: &mut Scene<'_>,
        news: &mut News,
    ) -> Result<usize, End> {
        let mut used = 0;
        if self.state == State::Upgrading {
            match self.upgraded(bytes, scene, news)? {
                None => return Ok(0),
                Some(len) => used = len,
            }
        }
        while let Some((opcode, payload, len)) = frame(&bytes[used..])? {
            match opcode {
                0x1 | 0x2 => self.message(payload, len, scene, news)?,
                0x8 => return Err(End::of_close(payload)),
                0x9 => self.say(&masked(0x8a, payload))?,
                _ => {}
            }
            used += len;
        }
        Ok(used)
    }

    /// Reads the answer to the handshake. Returns its length once it is whole.
    fn upgraded(
        &mut self,
        bytes: &[u8],
        scene: &mut Scene<'_>,
        news: &mut News,
    ) -> Result<Option<usize>, End> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let head = match response.parse(bytes) {
            Ok(httparse::Status::Complete(head)) => head,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(End::new(format!("the answer is no HTTP: {error}"))),
        };
        if response.code != Some(101) {
            let body = String::from_utf8_lossy(&bytes[head..]);
            let line = body.lines().next().unwrap_or_default();
            let mut headers = response.headers.iter();
            let retry = headers.find(|header| header.name.eq_ignore_ascii_case("retry-after"));
            let seconds = retry.and_then(|header| std::str::from_utf8(header.value).ok());
            return Err(End {
                why: format!("HTTP {}: {line}", response.code.unwrap_or(0)),
                retry_ms: seconds
                    .and_then(|text| text.trim().parse::<u64>().ok())
                    .map(|s| s * 1000),
            });
        }
        match &scene.plan.speech {
            Speech::Plain => self.become_ready(news),
            Speech::Tabmux { tabs, topics } => {
                let mut flight = Vec::new();
                let hub = HubId(scene.number as u64);
                let (min_version, max_version) = (OLDEST_VERSION, NEWEST_VERSION);
                let hello = Hello { min_version, max_version, hub, resume: None, credentials: "" };
                put(&mut flight, &HubFrame::Hello(hello));
                for tab in 1..=u64::from(*tabs) {
                    put(&mut flight, &HubFrame::Attach { tab: TabId(tab), last: 0 });
                }
                let mut answers = 1 + *tabs as usize;
                for place in topics.of(scene.number) {
                    let (request, topic) = (place as u64 + 1, topics.name(place));
                    put(&mut flight, &HubFrame::Subscribe { request, position: None, topic });
                    answers += 1;
                }
                self.state = State::Greeting { answers };
                self.say(&flight)?;
            }
        }
        Ok(Some(head))
    }

    fn message(
        &mut self,
        payload: &[u8],
        len: usize,
        scene: &mut Scene<'_>,
        news: &mut News,
    ) -> Result<(), End> {
        match &mut self.heard {
            Heard::Plain(last) => {
                let Some((number, age)) = scene.clock.read(payload) else {
                    return Ok(());
                };
                scene.tally.deliver(len, age);
                if *last != 0 && number <= *last {
                    scene.tally.repeated += 1;
                } else if *last != 0 && number != *last + 1 {
                    scene.tally.skipped += 1;
                }
                *last = number;
                Ok(())
            }
            Heard::Topics(_) => {
                let frame = ServerFrame::decode(payload)
                    .map_err(|error| End::new(format!("no frame of tabmux: {error}")))?;
                self.frame(&frame, len, scene, news)?;
                if frame.lane() != Some(0) {
                    return Ok(());
                }
                let received = &mut self.received;
                (received.count, received.bytes) = (received.count + 1, received.bytes + len);
                let frames = received.count - received.acknowledged;
                if frames >= ACK_FRAMES || received.bytes >= ACK_BYTES {
                    self.acknowledge()?;
                }
                Ok(())
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "few frames concern a benchmark")]
    fn frame(
        &mut self,
        frame: &ServerFrame<'_>,
        len: usize,
        scene: &mut Scene<'_>,
        news: &mut News,
    ) -> Result<(), End> {
        match frame {
            ServerFrame::Publication { topic, position, previous, payload } => {
                self.publication((topic.0, *position, *previous), *payload, len, scene);
            }
            ServerFrame::Gap { topic, position } => {
                scene.tally.gaps += 1;
                if let Some(known) = self.known(topic.0) {
                    known.2 = *position;
                }
            }
            ServerFrame::Welcome(welcome) => {
                news.heartbeat_ms = Some(welcome.heartbeat_ms);
                self.answered(news);
            }
            ServerFrame::Attached { .. } => self.answered(news),
            ServerFrame::Subscribed(subscribed) => {
                let place = usize::try_from(subscribed.request).unwrap_or(0).saturating_sub(1);
                if let Some(subscribers) = scene.tally.subscribers.get_mut(place) {
                    *subscribers += 1;
                }
                if let Heard::Topics(topics) = &mut self.heard {
                    topics.push((subscribed.topic.0, place, subscribed.position));
                }
                self.answered(news);
            }
            ServerFrame::Unsubscribed(ended) => {
                let why = format!("{:?} {}", ended.reason, ended.message);
                count(&mut scene.tally.unsubscribed, why.trim());
                self.answered(news);
            }
            ServerFrame::Error { code, message, .. } => {
                count(&mut scene.tally.refused, format!("of a tab, {code:?}: {message}"));
                self.answered(news);
            }
            ServerFrame::Refused { reason, retry_ms, message, .. } => {
                return Err(End {
                    why: format!("REFUSED {}: {message}", refused_name(*reason)),
                    retry_ms: Some(*retry_ms).filter(|&ms| ms > 0),
                });
            }
            ServerFrame::Denied(Denied { code, retry_ms, message, .. }) => {
                let why = format!("DENIED {}: {message}", refused_name(*code));
                return Err(End { why, retry_ms: *retry_ms });
            }
            _ => {}
        }
        Ok(())
    }

    fn publication(
        &mut self,
        (topic, position, previous): (u64, Position, u64),
        payload: Payload<'_>,
        len: usize,
        scene: &mut Scene<'_>,
    ) {
        if let Some((_, age)) = scene.clock.read(payload.as_bytes()) {
            scene.tally.deliver(len, age);
        }
        // A publication of a topic that the link did not subscribe to counts as an error.
        let Some(known) = self.known(topic) else {
            scene.tally.skipped += 1;
            return;
        };
        let last = std::mem::replace(&mut known.2, position);
        if position.epoch == last.epoch && position.offset <= last.offset {
            scene.tally.repeated += 1;
        } else if position.epoch != last.epoch || previous != last.offset {
            scene.tally.skipped += 1;
        }
    }

    fn known(&mut self, topic: u64) -> Option<&mut (u64, usize, Position)> {
        match &mut self.heard {
            Heard::Plain(_) => None,
            Heard::Topics(topics) => topics.iter_mut().find(|known| known.0 == topic),
        }
    }

    fn answered(&mut self, news: &mut News) {
        match &mut self.state {
            State::Greeting { answers: 1 } => self.become_ready(news),
            State::Greeting { answers } => *answers -= 1,
            State::Connecting | State::Upgrading | State::Ready => {}
        }
    }

    const fn become_ready(&mut self, news: &mut News) {
        self.state = State::Ready;
        news.ready = true;
    }

    fn say(&mut self, mut bytes: &[u8]) -> Result<(), End> {
        while self.unsent.is_empty() && !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(End::of(&error)),
            }
        }
        self.unsent.extend_from_slice(bytes);
        Ok(())
    }
}

impl End {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), retry_ms: None }
    }

    pub(super) fn of(error: &io::Error) -> Self {
        // The number of the error is left out, since it says nothing to a reader.
        Self::new(error.kind().to_string())
    }

    fn of_close(payload: &[u8]) -> Self {
        match payload.split_first_chunk() {
            None => Self::new("closed by the server without a code"),
            Some((code, reason)) => Self::new(format!(
                "closed by the server, {}: {}",
                u16::from_be_bytes(*code),
                String::from_utf8_lossy(reason)
            )),
        }
    }
}

fn refused_name(reason: RefusedReason) -> String {
    format!("{reason:?}").to_lowercase()
}

fn put(out: &mut Vec<u8>, frame: &HubFrame<'_>) {
    out.extend(masked(0x82, &frame.to_bytes()));
}

/// Returns a frame of a client. Its mask is zero, so that the payload stays as it is.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..=125), _) => out.push(0x80 | short),
        (_, Ok(medium)) => {
            out.push(0x80 | 126);
            out.extend(medium.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend_from_slice(payload);
    out
}

/// Opcode and payload of a frame, and the length of the whole frame.
type Frame<'a> = (u8, &'a [u8], usize);

/// Returns the frame that `bytes` begins with, or `None` until it is whole.
fn frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, End> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    // Servers send whole messages in one frame each, and no extension was negotiated.
    if first & 0xf0 != 0x80 || first & 0x0f == 0 || second & 0x80 != 0 {
        return Err(End::new("a frame in parts, masked, or with an extension"));
    }
    let (len, header) = match second {
        126 => match rest.first_chunk() {
            None => return Ok(None),
            Some(len) => (u64::from(u16::from_be_bytes(*len)), 4),
        },
        127 => match rest.first_chunk() {
            None => return Ok(None),
            Some(len) => (u64::from_be_bytes(*len), 10),
        },
        len => (u64::from(len), 2),
    };
    let end = usize::try_from(len).unwrap_or(usize::MAX).saturating_add(header);
    Ok(bytes.get(header..end).map(|payload| (first & 0x0f, payload, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_whole_or_not_at_all() {
        for size in [0, 1, 125, 126, 65_535, 65_536] {
            let mut bytes = vec![0x82];
            match size {
                0..126 => bytes.push(u8::try_from(size).unwrap()),
                126..0x1_0000 => {
                    bytes.push(126);
                    bytes.extend(u16::try_from(size).unwrap().to_be_bytes());
                }
                _ => {
                    bytes.push(127);
                    bytes.extend(u64::try_from(size).unwrap().to_be_bytes());
                }
            }
            bytes.resize(bytes.len() + size, 7);
            let (opcode, payload, len) = frame(&bytes).unwrap().unwrap();
            assert_eq!((opcode, payload.len(), len), (2, size, bytes.len()));
            assert!(frame(&bytes[..bytes.len() - 1]).unwrap().is_none());
        }
        assert!(frame(&[0x82]).unwrap().is_none());
    }

    #[test]
    fn a_frame_that_no_server_of_ours_sends_ends_the_link() {
        for bytes in [[0x02, 0], [0x80, 0], [0xc2, 0], [0x82, 0x80]] {
            assert!(frame(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_masked_frame_has_its_length_in_the_shortest_form() {
        assert_eq!(masked(0x82, b"ab"), [0x82, 0x82, 0, 0, 0, 0, b'a', b'b']);
        assert_eq!(masked(0x82, &[0; 126])[..4], [0x82, 0xfe, 0, 126]);
    }
}
