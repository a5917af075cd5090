//! Frames that a server sends to a hub.

use crate::{
    Alias, Audience, CaughtUp, DecodeError, Denied, Dismissed, ErrorCode, GoAwayReason, LaneCount,
    Payload, Position, Presence, Recovered, RefusedReason, Rejected, Reply, SocketId, Standing,
    Subscribed, TabId, Term, TopicId, Unsubscribed, Welcome,
    codec::{Put, Reader},
    frame_type::{RELIABLE, Sender, may_be_from, server as code},
    limit::{MAX_MESSAGE_TEXT, MAX_PATH, MAX_PROTOCOL, MAX_REASON, MAX_TARGET, MAX_TICKET},
};

/// A frame that a server sends to a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFrame<'a> {
    /// WELCOME, the answer to HELLO.
    Welcome(Welcome),
    /// ATTACHED, the answer to ATTACH.
    Attached {
        /// The id of the tab.
        tab: TabId,
        /// The alias of the tab from now on.
        alias: Alias,
        /// The number of the next frame of the tab's lane.
        next: u64,
        /// Number of reliable frames of the tab that the server has received.
        n_seen: u64,
        /// True if lane 0 went on without this tab. The tab has missed messages and must
        /// resynchronise.
        aside: bool,
    },
    /// FENCED: another hub took the session over. The server reads nothing more from this link.
    Fenced {
        /// The term of the hub that has the session now.
        term: Term,
    },
    /// REFUSED: the server refuses the HELLO and closes the link.
    Refused {
        /// The reason for the refusal.
        reason: RefusedReason,
        /// The session's current term. 0 means that the server tells none.
        term: Term,
        /// Milliseconds after which the hub may try again. 0 means that trying again soon is of no
        /// use.
        retry_ms: u64,
        /// A text for the programmer.
        message: &'a str,
    },
    /// GO_AWAY or GO_AWAY_TO: the server asks the hub to reconnect.
    GoAway {
        /// The reason why the hub should reconnect.
        reason: GoAwayReason,
        /// Milliseconds that the hub waits at least.
        after_ms: u64,
        /// Largest random time that the hub adds to the wait, in milliseconds.
        spread_ms: u64,
        /// The node that the hub should go to. It is empty if any node will do. Since version 2.
        target: &'a str,
    },
    /// ACK: reliable frames of tabs that the server has received.
    Ack {
        /// The count of each tab that changed, by alias. There is no lane 0 upstream.
        lanes: Vec<LaneCount>,
    },
    /// PONG, the answer to PING.
    Pong {
        /// The nonce of the PING that this answers.
        nonce: u64,
    },
    /// SUBSCRIBED: the browser is subscribed to a topic.
    Subscribed(Subscribed<'a>),
    /// UNSUBSCRIBED: the server refuses a subscription, or ends it.
    Unsubscribed(Unsubscribed<'a>),
    /// ERROR: something failed for one tab or socket. The link goes on.
    Error {
        /// A code for what failed.
        code: ErrorCode,
        /// The tab that the error is about, if it is about one. It is the id, because a refused tab
        /// has no alias.
        tab: Option<TabId>,
        /// The virtual socket of that tab that the error is about, if it is about one.
        socket: Option<SocketId>,
        /// A text for the programmer.
        message: &'a str,
    },
    /// DENIED: the server refuses the HELLO or ends the session, then closes the link. Since
    /// version 2.
    Denied(Denied<'a>),
    /// CREDENTIALS: whether the hub's credentials are accepted, and until when. Since version 2.
    Credentials(Standing<'a>),
    /// DISMISSED: the application ended a tab. Since version 2.
    Dismissed(Dismissed<'a>),
    /// COMING: the next frame is long. The hub hears nothing until it has arrived whole. Since
    /// version 2.
    Coming {
        /// Size of the frame that follows, in bytes.
        bytes: u64,
    },
    /// TICKET: the hub must show a ticket beside the link, at a socket's path. Since version 2.
    Ticket {
        /// The text that the hub shows.
        ticket: &'a str,
        /// Path and query of the socket.
        path: &'a str,
    },
    /// OPENED: a virtual socket is open.
    Opened {
        /// The alias of the tab, whose lane carries the frame.
        tab: Alias,
        /// The number of the virtual socket.
        socket: SocketId,
        /// Credit: the tab may send data of this cost before it gets more by CREDIT. See
        /// [`message_cost`](crate::message_cost).
        credit: u64,
        /// The sub-protocol that the server chose. It is empty if it chose none.
        protocol: &'a str,
    },
    /// DATA: a message of a virtual socket.
    Data {
        /// The alias of the tab, whose lane carries the frame.
        tab: Alias,
        /// The number of the virtual socket.
        socket: SocketId,
        /// The message of the application, untouched.
        payload: Payload<'a>,
    },
    /// CLOSE: a virtual socket is closed.
    Close {
        /// The alias of the tab, whose lane carries the frame.
        tab: Alias,
        /// The number of the virtual socket.
        socket: SocketId,
        /// The close code: 1005 if there was none, 1006 if the close was not clean.
        code: u16,
        /// The reason that the server gave, or an empty text.
        reason: &'a str,
    },
    /// CREDIT: the tab may send more on a virtual socket.
    Credit {
        /// The alias of the tab, whose lane carries the frame.
        tab: Alias,
        /// The number of the virtual socket.
        socket: SocketId,
        /// Credit to add, in the unit of [`message_cost`](crate::message_cost).
        bytes: u64,
    },
    /// MESSAGE: a message to all tabs of the browser. It travels in lane 0.
    Message {
        /// The message of the application, untouched.
        payload: Payload<'a>,
    },
    /// PUBLICATION: a publication of a topic. It travels in lane 0.
    Publication {
        /// The number of the topic.
        topic: TopicId,
        /// The publication's position in the topic.
        position: Position,
        /// The offset of the publication before it.
        previous: u64,
        /// The published message, untouched.
        payload: Payload<'a>,
    },
    /// GAP: publications of a topic are missing here, or messages to all tabs. It travels in lane
    /// 0.
    Gap {
        /// The number of the topic. 0 stands for the messages to all tabs.
        topic: TopicId,
        /// The position where the topic goes on.
        position: Position,
    },
    /// REJECTED: the server refuses an OPEN or a question of a tab, or ends a question without an
    /// answer. Since version 2.
    Rejected(Rejected<'a>),
    /// REPLY: one reply to a REQUEST. Since version 2.
    Reply(Reply<'a>),
    /// PUBLISHED: the server has published a tab's message. Since version 2.
    Published {
        /// The alias of the tab, whose lane carries the frame.
        tab: Alias,
        /// The number that the tab chose for its PUBLISH.
        socket: SocketId,
        /// The publication's position in the topic, if the broker tells it.
        position: Option<Position>,
    },
    /// RECOVERED: a publication that a tab had missed. Since version 2.
    Recovered(Recovered<'a>),
    /// CAUGHT_UP: the end of the answer to RECOVER. Since version 2.
    CaughtUp(CaughtUp),
    /// PRESENCE: the members of a topic, or changes of them. It travels in lane 0. Since version 2.
    Presence(Presence<'a>),
    /// DIRECT: a message to a user, a browser or a tab. Since version 2.
    Direct {
        /// The lane: 0, or the lane of the tab that the message is for.
        lane: u32,
        /// The recipients: a user, a browser or a tab.
        audience: Audience,
        /// The message of the application, untouched.
        payload: Payload<'a>,
    },
    /// A frame of a later version. The receiver ignores it, but counts it if it is reliable.
    Unknown {
        /// The type byte of the frame.
        code: u8,
        /// The lane, if the frame is reliable.
        lane: Option<u32>,
        /// All bytes that follow.
        body: &'a [u8],
    },
}

impl<'a> ServerFrame<'a> {
    /// Decodes one whole message.
    ///
    /// # Errors
    /// Returns an error if the bytes are not exactly one frame of a server.
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
            code::TICKET => Self::Ticket {
                ticket: r.name(MAX_TICKET, "ticket")?,
                path: r.rest_str(MAX_PATH, "path")?,
            },
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
    /// The caller keeps the limits of the format, and sends on a link only frames of its version. A
    /// frame beyond the limits is encoded, and the peer refuses it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.code());
        if let Some(lane) = self.lane() {
            out.put_u64(u64::from(lane));
        }
        self.write_control(out);
        self.write_reliable(out);
    }

    /// Writes the fields of a frame that is not reliable. Writes nothing for any other frame.
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
            Self::Ticket { ticket, path } => {
                out.put_bytes(ticket.as_bytes());
                out.extend_from_slice(path.as_bytes());
            }
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

    /// Writes the fields of a reliable frame after its lane, or the body of an unknown frame.
    /// Writes nothing for any other frame.
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
            | Self::Coming { .. }
            | Self::Ticket { .. } => {}
        }
    }

    /// Returns the frame as one message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Returns the type byte of the frame.
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
            Self::Ticket { .. } => code::TICKET,
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

    /// Returns the lane of a reliable frame: 0 for all tabs, otherwise a tab's alias. Returns
    /// `None` if the frame is not reliable.
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
            | Self::Coming { .. }
            | Self::Ticket { .. } => None,
        }
    }
}

const fn lane_of_tab(lane: u32) -> Result<Alias, DecodeError> {
    if lane == 0 { Err(DecodeError::BadValue("lane")) } else { Ok(Alias(lane)) }
}

const fn lane_of_all(lane: u32) -> Result<(), DecodeError> {
    if lane == 0 { Ok(()) } else { Err(DecodeError::BadValue("lane")) }
}
