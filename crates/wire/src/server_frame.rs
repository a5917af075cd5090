//! What a server says to a hub.

use crate::{
    Alias, Audience, CaughtUp, DecodeError, Denied, Dismissed, ErrorCode, GoAwayReason, LaneCount,
    Payload, Position, Presence, Recovered, RefusedReason, Rejected, Reply, SocketId, Standing,
    Subscribed, TabId, Term, TopicId, Unsubscribed, Welcome,
    codec::{Put, Reader},
    frame_type::{RELIABLE, Sender, may_be_from, server as code},
    limit::{MAX_MESSAGE_TEXT, MAX_PROTOCOL, MAX_REASON, MAX_TARGET},
};

/// A frame from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFrame<'a> {
    /// The answer to HELLO.
    Welcome(Welcome),
    /// The answer to ATTACH.
    Attached {
        /// The tab.
        tab: TabId,
        /// Its short name from now on.
        alias: Alias,
        /// The number of the next frame of its lane.
        next: u64,
        /// Reliable frames of the tab that the server has received.
        n_seen: u64,
        /// Lane 0 went on without this tab: it must resynchronise.
        aside: bool,
    },
    /// Another hub took the session over; nothing more is read from this link.
    Fenced {
        /// The term of the hub that has it now.
        term: Term,
    },
    /// The HELLO is refused; the link closes.
    Refused {
        /// Why.
        reason: RefusedReason,
        /// The session's current term, 0 when there is none to tell.
        term: Term,
        /// When to try again, in milliseconds; 0 when trying again soon is of no use.
        retry_ms: u64,
        /// For the log of whoever reads it.
        message: &'a str,
    },
    /// The server wants the hub to reconnect: after `after_ms`, plus a random part of `spread_ms`.
    GoAway {
        /// Why.
        reason: GoAwayReason,
        /// Milliseconds to wait at least.
        after_ms: u64,
        /// Milliseconds over which to spread.
        spread_ms: u64,
        /// The node to go to; empty for any. Since version 2.
        target: &'a str,
    },
    /// Reliable frames of tabs that were received.
    Ack {
        /// The count of each tab that changed, by alias; there is no lane 0 upstream.
        lanes: Vec<LaneCount>,
    },
    /// The answer to PING.
    Pong {
        /// The nonce of the PING.
        nonce: u64,
    },
    /// A topic is subscribed.
    Subscribed(Subscribed<'a>),
    /// A subscription was refused, or ended.
    Unsubscribed(Unsubscribed<'a>),
    /// Something of one tab or socket failed; the link goes on.
    Error {
        /// What failed.
        code: ErrorCode,
        /// The tab it is about, if one. Its id, because a refused tab has no alias.
        tab: Option<TabId>,
        /// The virtual socket of that tab it is about, if one.
        socket: Option<SocketId>,
        /// For the programmer who reads it.
        message: &'a str,
    },
    /// The HELLO is refused, or the session is ended; the link closes. Since version 2.
    Denied(Denied<'a>),
    /// How the hub's credentials stand. Since version 2.
    Credentials(Standing<'a>),
    /// A tab is ended by the application. Since version 2.
    Dismissed(Dismissed<'a>),
    /// The next frame is a long one, of which nothing is heard before it is whole. Since version 2.
    Coming {
        /// Bytes of that frame.
        bytes: u64,
    },
    /// A virtual socket is open.
    Opened {
        /// The lane: the tab.
        tab: Alias,
        /// The socket.
        socket: SocketId,
        /// Bytes of data the tab may send before it is given more.
        credit: u64,
        /// The sub-protocol chosen, empty for none.
        protocol: &'a str,
    },
    /// A message of a virtual socket.
    Data {
        /// The lane: the tab.
        tab: Alias,
        /// The socket.
        socket: SocketId,
        /// The message.
        payload: Payload<'a>,
    },
    /// A virtual socket is closed.
    Close {
        /// The lane: the tab.
        tab: Alias,
        /// The socket.
        socket: SocketId,
        /// The close code; 1005 for none, 1006 when it was not clean.
        code: u16,
        /// The close reason.
        reason: &'a str,
    },
    /// The tab may send more on a virtual socket.
    Credit {
        /// The lane: the tab.
        tab: Alias,
        /// The socket.
        socket: SocketId,
        /// Bytes of data to add.
        bytes: u64,
    },
    /// A message to all tabs of the browser, in lane 0.
    Message {
        /// The message.
        payload: Payload<'a>,
    },
    /// A publication of a topic, in lane 0.
    Publication {
        /// The topic.
        topic: TopicId,
        /// Its place in the topic.
        position: Position,
        /// The offset of the publication before it.
        previous: u64,
        /// What was published.
        payload: Payload<'a>,
    },
    /// Publications, or with topic 0 messages to all tabs, are missing here; in lane 0.
    Gap {
        /// The topic.
        topic: TopicId,
        /// Where the topic goes on.
        position: Position,
    },
    /// An OPEN or a question of a tab is refused, or ends without an answer. Since version 2.
    Rejected(Rejected<'a>),
    /// One reply to a REQUEST. Since version 2.
    Reply(Reply<'a>),
    /// What a tab published is published. Since version 2.
    Published {
        /// The lane: the tab.
        tab: Alias,
        /// The tab's number for its PUBLISH.
        socket: SocketId,
        /// Its place in the topic, if the broker tells.
        position: Option<Position>,
    },
    /// A publication that a tab had missed. Since version 2.
    Recovered(Recovered<'a>),
    /// The end of what a tab had missed. Since version 2.
    CaughtUp(CaughtUp),
    /// News of the presence of a topic, in lane 0. Since version 2.
    Presence(Presence<'a>),
    /// A message to a user, a browser or a tab, that tells for whom it is. Since version 2.
    Direct {
        /// The lane: 0, or that of the one tab.
        lane: u32,
        /// For whom it is.
        audience: Audience,
        /// The message.
        payload: Payload<'a>,
    },
    /// A type of a later version. Ignored, but counted if it is reliable.
    Unknown {
        /// The type byte.
        code: u8,
        /// The lane, when the type byte has the reliable bit.
        lane: Option<u32>,
        /// All that follows.
        body: &'a [u8],
    },
}

impl<'a> ServerFrame<'a> {
    /// The frame that `bytes`, one whole message, holds.
    ///
    /// # Errors
    /// When the bytes are not exactly one frame of a server.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let code = reader.u8()?;
        if !may_be_from(code, Sender::Server) {
            return Err(DecodeError::BadType(code));
        }
        let frame = if code & RELIABLE == 0 {
            Self::read_control(code, &mut reader)?
        } else {
            Self::read_reliable(code, &mut reader)?
        };
        reader.end()?;
        Ok(frame)
    }

    fn read_control(code: u8, r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match code {
            code::WELCOME => Self::Welcome(Welcome::read(r)?),
            code::ATTACHED => Self::Attached {
                tab: r.tab()?,
                alias: r.alias()?,
                next: r.ordinal("next")?,
                n_seen: r.u64()?,
                aside: r.bool("aside")?,
            },
            code::FENCED => Self::Fenced { term: Term(r.u64()?) },
            code::REFUSED => Self::Refused {
                reason: RefusedReason::from_byte(r.u8()?),
                term: Term(r.u64()?),
                retry_ms: r.u64()?,
                message: r.rest_str(MAX_MESSAGE_TEXT, "message")?,
            },
            code::GO_AWAY | code::GO_AWAY_TO => Self::GoAway {
                reason: GoAwayReason::from_byte(r.u8()?),
                after_ms: r.u64()?,
                spread_ms: r.u64()?,
                target: match code {
                    code::GO_AWAY_TO => r.name(MAX_TARGET, "target")?,
                    _ => "",
                },
            },
            code::ACK => Self::Ack { lanes: r.lane_counts()? },
            code::PONG => Self::Pong { nonce: r.u64()? },
            code::SUBSCRIBED => Self::Subscribed(Subscribed::read(r)?),
            code::UNSUBSCRIBED => Self::Unsubscribed(Unsubscribed::read(r)?),
            code::ERROR => Self::Error {
                code: ErrorCode::from_byte(r.u8()?),
                tab: r.optional("tab", Reader::tab)?,
                socket: Some(r.u32()?).filter(|&n| n != 0).map(SocketId),
                message: r.rest_str(MAX_MESSAGE_TEXT, "message")?,
            },
            code::DENIED => Self::Denied(Denied::read(r)?),
            code::CREDENTIALS => Self::Credentials(Standing::read(r)?),
            code::DISMISSED => Self::Dismissed(Dismissed::read(r)?),
            code::COMING => Self::Coming { bytes: r.u64()? },
            code => Self::Unknown { code, lane: None, body: r.rest() },
        })
    }

    fn read_reliable(code: u8, r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let lane = r.u32()?;
        let (tab, all) = (lane_of_tab(lane), lane_of_all(lane));
        Ok(match code {
            code::OPENED => Self::Opened {
                tab: tab?,
                socket: r.socket()?,
                credit: r.u64()?,
                protocol: r.rest_str(MAX_PROTOCOL, "protocol")?,
            },
            code::DATA_TEXT | code::DATA_BINARY => Self::Data {
                tab: tab?,
                socket: r.socket()?,
                payload: r.payload(code == code::DATA_TEXT)?,
            },
            code::CLOSE => Self::Close {
                tab: tab?,
                socket: r.socket()?,
                code: r.u16()?,
                reason: r.rest_str(MAX_REASON, "reason")?,
            },
            code::CREDIT => Self::Credit { tab: tab?, socket: r.socket()?, bytes: r.u64()? },
            code::MESSAGE_TEXT | code::MESSAGE_BINARY => {
                all?;
                Self::Message { payload: r.payload(code == code::MESSAGE_TEXT)? }
            }
            code::PUBLICATION_TEXT | code::PUBLICATION_BINARY => {
                all?;
                Self::Publication {
                    topic: r.topic()?,
                    position: r.position()?,
                    previous: r.u64()?,
                    payload: r.payload(code == code::PUBLICATION_TEXT)?,
                }
            }
            code::GAP => {
                all?;
                Self::Gap { topic: TopicId(r.u64()?), position: r.position()? }
            }
            code::REJECTED => Self::Rejected(Rejected::read(r, tab?)?),
            code::REPLY_TEXT | code::REPLY_BINARY => {
                Self::Reply(Reply::read(r, tab?, code == code::REPLY_TEXT)?)
            }
            code::PUBLISHED => Self::Published {
                tab: tab?,
                socket: r.socket()?,
                position: r.optional("position", Reader::position)?,
            },
            code::RECOVERED_TEXT | code::RECOVERED_BINARY => {
                Self::Recovered(Recovered::read(r, tab?, code == code::RECOVERED_TEXT)?)
            }
            code::CAUGHT_UP => Self::CaughtUp(CaughtUp::read(r, tab?)?),
            code::PRESENCE => {
                all?;
                Self::Presence(Presence::read(r)?)
            }
            code::DIRECT_TEXT | code::DIRECT_BINARY => {
                let audience = Audience::from_byte(r.u8()?);
                match audience {
                    Audience::User | Audience::Browser => all?,
                    Audience::Tab => drop(tab?),
                    Audience::Other(_) => {}
                }
                let payload = r.payload(code == code::DIRECT_TEXT)?;
                Self::Direct { lane, audience, payload }
            }
            code => Self::Unknown { code, lane: Some(lane), body: r.rest() },
        })
    }

    /// Appends the frame to `out`.
    ///
    /// The caller keeps the limits of the format, and sends on each link only frames of its
    /// version. A frame beyond the limits encodes, and the peer refuses it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.code());
        if let Some(lane) = self.lane() {
            out.put_u64(u64::from(lane));
        }
        self.write_control(out);
        self.write_reliable(out);
    }

    /// The fields of a frame that is not reliable; nothing for any other.
    fn write_control(&self, out: &mut Vec<u8>) {
        match self {
            Self::Welcome(welcome) => welcome.write(out),
            Self::Attached { tab, alias, next, n_seen, aside } => {
                out.extend_from_slice(&tab.0.to_be_bytes());
                out.put_u64(u64::from(alias.0));
                out.put_u64(*next);
                out.put_u64(*n_seen);
                out.push(u8::from(*aside));
            }
            Self::Fenced { term } => out.put_u64(term.0),
            Self::Refused { reason, term, retry_ms, message } => {
                out.push(reason.byte());
                out.put_u64(term.0);
                out.put_u64(*retry_ms);
                out.extend_from_slice(message.as_bytes());
            }
            Self::GoAway { reason, after_ms, spread_ms, target } => {
                out.push(reason.byte());
                out.put_u64(*after_ms);
                out.put_u64(*spread_ms);
                if !target.is_empty() {
                    out.put_bytes(target.as_bytes());
                }
            }
            Self::Ack { lanes } => out.put_lane_counts(lanes),
            Self::Pong { nonce } => out.put_u64(*nonce),
            Self::Error { code, tab, socket, message } => {
                out.push(code.byte());
                out.push(u8::from(tab.is_some()));
                if let Some(tab) = tab {
                    out.extend_from_slice(&tab.0.to_be_bytes());
                }
                out.put_u64(socket.map_or(0, |socket| u64::from(socket.0)));
                out.extend_from_slice(message.as_bytes());
            }
            Self::Subscribed(subscribed) => subscribed.write(out),
            Self::Unsubscribed(unsubscribed) => unsubscribed.write(out),
            Self::Denied(denied) => denied.write(out),
            Self::Credentials(standing) => standing.write(out),
            Self::Dismissed(dismissed) => dismissed.write(out),
            Self::Coming { bytes } => out.put_u64(*bytes),
            Self::Opened { .. }
            | Self::Data { .. }
            | Self::Close { .. }
            | Self::Credit { .. }
            | Self::Message { .. }
            | Self::Publication { .. }
            | Self::Gap { .. }
            | Self::Rejected(_)
            | Self::Reply(_)
            | Self::Published { .. }
            | Self::Recovered(_)
            | Self::CaughtUp(_)
            | Self::Presence(_)
            | Self::Direct { .. }
            | Self::Unknown { .. } => {}
        }
    }

    /// The fields of a frame in a lane, after the lane; nothing for any other.
    fn write_reliable(&self, out: &mut Vec<u8>) {
        match self {
            Self::Opened { socket, credit, protocol, .. } => {
                out.put_u64(u64::from(socket.0));
                out.put_u64(*credit);
                out.extend_from_slice(protocol.as_bytes());
            }
            Self::Data { socket, payload, .. } => {
                out.put_u64(u64::from(socket.0));
                out.extend_from_slice(payload.as_bytes());
            }
            Self::Close { socket, code, reason, .. } => {
                out.put_u64(u64::from(socket.0));
                out.put_u64(u64::from(*code));
                out.extend_from_slice(reason.as_bytes());
            }
            Self::Credit { socket, bytes, .. } => {
                out.put_u64(u64::from(socket.0));
                out.put_u64(*bytes);
            }
            Self::Message { payload } => out.extend_from_slice(payload.as_bytes()),
            Self::Publication { topic, position, previous, payload } => {
                out.put_u64(topic.0);
                out.put_position(*position);
                out.put_u64(*previous);
                out.extend_from_slice(payload.as_bytes());
            }
            Self::Gap { topic, position } => {
                out.put_u64(topic.0);
                out.put_position(*position);
            }
            Self::Rejected(rejected) => rejected.write(out),
            Self::Reply(reply) => reply.write(out),
            Self::Published { socket, position, .. } => {
                out.put_u64(u64::from(socket.0));
                out.put_optional_position(*position);
            }
            Self::Recovered(recovered) => recovered.write(out),
            Self::CaughtUp(caught_up) => caught_up.write(out),
            Self::Presence(presence) => presence.write(out),
            Self::Direct { audience, payload, .. } => {
                out.push(audience.byte());
                out.extend_from_slice(payload.as_bytes());
            }
            Self::Unknown { body, .. } => out.extend_from_slice(body),
            Self::Welcome(_)
            | Self::Attached { .. }
            | Self::Fenced { .. }
            | Self::Refused { .. }
            | Self::GoAway { .. }
            | Self::Ack { .. }
            | Self::Pong { .. }
            | Self::Subscribed(_)
            | Self::Unsubscribed(_)
            | Self::Error { .. }
            | Self::Denied(_)
            | Self::Credentials(_)
            | Self::Dismissed(_)
            | Self::Coming { .. } => {}
        }
    }

    /// The frame as one message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// The type byte.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Welcome(_) => code::WELCOME,
            Self::Attached { .. } => code::ATTACHED,
            Self::Fenced { .. } => code::FENCED,
            Self::Refused { .. } => code::REFUSED,
            Self::GoAway { target, .. } if target.is_empty() => code::GO_AWAY,
            Self::GoAway { .. } => code::GO_AWAY_TO,
            Self::Ack { .. } => code::ACK,
            Self::Pong { .. } => code::PONG,
            Self::Subscribed(_) => code::SUBSCRIBED,
            Self::Unsubscribed(_) => code::UNSUBSCRIBED,
            Self::Error { .. } => code::ERROR,
            Self::Opened { .. } => code::OPENED,
            Self::Data { payload: Payload::Text(_), .. } => code::DATA_TEXT,
            Self::Data { payload: Payload::Binary(_), .. } => code::DATA_BINARY,
            Self::Close { .. } => code::CLOSE,
            Self::Credit { .. } => code::CREDIT,
            Self::Message { payload: Payload::Text(_) } => code::MESSAGE_TEXT,
            Self::Message { payload: Payload::Binary(_) } => code::MESSAGE_BINARY,
            Self::Publication { payload: Payload::Text(_), .. } => code::PUBLICATION_TEXT,
            Self::Publication { payload: Payload::Binary(_), .. } => code::PUBLICATION_BINARY,
            Self::Gap { .. } => code::GAP,
            Self::Denied(_) => code::DENIED,
            Self::Credentials(_) => code::CREDENTIALS,
            Self::Dismissed(_) => code::DISMISSED,
            Self::Coming { .. } => code::COMING,
            Self::Rejected(_) => code::REJECTED,
            Self::Reply(Reply { payload: Payload::Text(_), .. }) => code::REPLY_TEXT,
            Self::Reply(Reply { payload: Payload::Binary(_), .. }) => code::REPLY_BINARY,
            Self::Published { .. } => code::PUBLISHED,
            Self::Recovered(Recovered { payload: Payload::Text(_), .. }) => code::RECOVERED_TEXT,
            Self::Recovered(Recovered { payload: Payload::Binary(_), .. }) => {
                code::RECOVERED_BINARY
            }
            Self::CaughtUp(_) => code::CAUGHT_UP,
            Self::Presence(_) => code::PRESENCE,
            Self::Direct { payload: Payload::Text(_), .. } => code::DIRECT_TEXT,
            Self::Direct { payload: Payload::Binary(_), .. } => code::DIRECT_BINARY,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// The lane of a reliable frame: 0 for all tabs, else a tab's alias. `None` for any other.
    pub const fn lane(&self) -> Option<u32> {
        match self {
            Self::Opened { tab, .. }
            | Self::Data { tab, .. }
            | Self::Close { tab, .. }
            | Self::Credit { tab, .. }
            | Self::Rejected(Rejected { tab, .. })
            | Self::Reply(Reply { tab, .. })
            | Self::Published { tab, .. }
            | Self::Recovered(Recovered { tab, .. })
            | Self::CaughtUp(CaughtUp { tab, .. }) => Some(tab.0),
            Self::Message { .. }
            | Self::Publication { .. }
            | Self::Gap { .. }
            | Self::Presence(_) => Some(0),
            Self::Direct { lane, .. } => Some(*lane),
            Self::Unknown { lane, .. } => *lane,
            Self::Welcome(_)
            | Self::Attached { .. }
            | Self::Fenced { .. }
            | Self::Refused { .. }
            | Self::GoAway { .. }
            | Self::Ack { .. }
            | Self::Pong { .. }
            | Self::Subscribed(_)
            | Self::Unsubscribed(_)
            | Self::Error { .. }
            | Self::Denied(_)
            | Self::Credentials(_)
            | Self::Dismissed(_)
            | Self::Coming { .. } => None,
        }
    }
}

const fn lane_of_tab(lane: u32) -> Result<Alias, DecodeError> {
    if lane == 0 { Err(DecodeError::BadValue("lane")) } else { Ok(Alias(lane)) }
}

const fn lane_of_all(lane: u32) -> Result<(), DecodeError> {
    if lane == 0 { Ok(()) } else { Err(DecodeError::BadValue("lane")) }
}
