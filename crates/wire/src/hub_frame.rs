//! Frames that a hub sends to a server.

use crate::{
    Alias, DecodeError, Hello, LaneCount, Payload, Position, Present, Publish, Recover, Request,
    SocketId, TabId,
    codec::{Put, Reader},
    frame_type::{RELIABLE, Sender, hub as code, may_be_from},
    limit::{
        MAX_ACK_ENTRIES, MAX_CREDENTIALS, MAX_PATH, MAX_PROTOCOL, MAX_PROTOCOLS, MAX_REASON,
        MAX_TICKET,
    },
};

/// A frame that a hub sends to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubFrame<'a> {
    /// HELLO, the first frame of a link.
    Hello(Hello<'a>),
    /// ATTACH: a tab is there.
    Attach {
        /// The id of the tab.
        tab: TabId,
        /// Number of frames of its lane that the tab has received.
        last: u64,
    },
    /// PARK: a tab is in the back/forward cache. Nothing may be posted to it until it attaches
    /// again.
    Park {
        /// The id of the tab.
        tab: TabId,
    },
    /// GONE: a tab has ended.
    Gone {
        /// The id of the tab.
        tab: TabId,
    },
    /// SUSPEND: every tab is parked, so the hub may freeze at any moment. The server closes the
    /// link after a while unless another frame arrives.
    Suspend,
    /// ACK: reliable frames that the hub's tabs have received.
    Ack {
        /// The lanes whose count changed, each with its count.
        lanes: Vec<LaneCount>,
        /// Tabs without which lane 0 was acknowledged.
        aside: Vec<Alias>,
    },
    /// PING: the server answers it with PONG and the same nonce.
    Ping {
        /// Any number. PONG repeats it.
        nonce: u64,
    },
    /// SUBSCRIBE: the browser wants the publications of a topic.
    Subscribe {
        /// Names this request in its answer. It is never 0, and a hub never uses one twice on a
        /// link.
        request: u64,
        /// The last position that the hub has. `None` means that it wants publications from now on.
        position: Option<Position>,
        /// The name of the topic. It is never empty.
        topic: &'a str,
    },
    /// UNSUBSCRIBE: the browser no longer wants a topic.
    Unsubscribe {
        /// The name of the topic. It is never empty.
        topic: &'a str,
    },
    /// CREDENTIALS: other credentials for an open link. Since version 2.
    Credentials {
        /// Names these credentials in the answer. It is never 0, and a hub never uses one twice on
        /// a link.
        request: u64,
        /// Credentials of the user, in a form that the application chose.
        credentials: &'a str,
    },
    /// PRESENCE: the browser joins or leaves the presence of a topic, or changes what it told.
    /// Since version 2.
    Presence {
        /// The name of the topic. It is never empty.
        topic: &'a str,
        /// Whether the browser is present, and what it tells of itself.
        present: Present<'a>,
    },
    /// END: the server ends the session at once, with all its tabs and sockets. Since version 2.
    End,
    /// OPEN or OPEN_TICKET: a tab opens a virtual socket.
    Open {
        /// The tab's alias and the frame's number.
        up: Upstream,
        /// The number that the tab chose for the new socket.
        socket: SocketId,
        /// Credit: the server may send data of this cost before it gets more by CREDIT. See
        /// [`message_cost`](crate::message_cost).
        credit: u64,
        /// The path with its query.
        path: &'a str,
        /// The sub-protocols that the tab offers, best first.
        protocols: Vec<&'a str>,
        /// A ticket that the server gave the browser for this one OPEN. It is empty if there is
        /// none. Since version 2.
        ticket: &'a str,
    },
    /// DATA: a message of a virtual socket.
    Data {
        /// The tab's alias and the frame's number.
        up: Upstream,
        /// The number of the virtual socket.
        socket: SocketId,
        /// The message of the application, untouched.
        payload: Payload<'a>,
    },
    /// CLOSE: a tab closes a virtual socket.
    Close {
        /// The tab's alias and the frame's number.
        up: Upstream,
        /// The number of the virtual socket.
        socket: SocketId,
        /// The close code. It is 0 if the tab gave none.
        code: u16,
        /// The reason that the tab gave, or an empty text.
        reason: &'a str,
    },
    /// CREDIT: the server may send more on a virtual socket.
    Credit {
        /// The tab's alias and the frame's number.
        up: Upstream,
        /// The number of the virtual socket or the question.
        socket: SocketId,
        /// Credit to add, in the unit of [`message_cost`](crate::message_cost).
        bytes: u64,
    },
    /// REQUEST: a tab asks for one or more replies. Since version 2.
    Request(Request<'a>),
    /// CANCEL: a tab takes a question back. Since version 2.
    Cancel {
        /// The tab's alias and the frame's number.
        up: Upstream,
        /// The number that the tab chose for the question.
        socket: SocketId,
    },
    /// PUBLISH: a tab publishes a message. Since version 2.
    Publish(Publish<'a>),
    /// RECOVER: a tab asks for the publications of a topic that it has missed. Since version 2.
    Recover(Recover<'a>),
    /// A frame of a later version. The receiver ignores it, but counts it if it is reliable.
    Unknown {
        /// The type byte of the frame.
        code: u8,
        /// The tab's alias and the frame's number, if the frame is reliable.
        up: Option<Upstream>,
        /// All bytes that follow.
        body: &'a [u8],
    },
}

/// The lane header of every reliable frame from a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The alias of the tab that sends the frame.
    pub tab: Alias,
    /// The number of the frame among the tab's reliable frames. It begins at 1 and grows by 1.
    pub n: u64,
}

impl<'a> HubFrame<'a> {
    /// Decodes one whole message.
    ///
    /// # Errors
    /// Returns an error if the bytes are not exactly one frame of a hub.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let frame = Self::read(&mut reader)?;
        reader.end()?;
        Ok(frame)
    }

    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let code = r.u8()?;
        let up = if code & RELIABLE == 0 {
            None
        } else if may_be_from(code, Sender::Hub) {
            Some(Upstream { tab: r.alias()?, n: r.ordinal("n")? })
        } else {
            return Err(DecodeError::BadType(code));
        };
        match up {
            None => Self::read_control(code, r),
            Some(up) => Self::read_reliable(code, up, r),
        }
    }

    fn read_control(code: u8, r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match code {
            code::HELLO => Self::Hello(Hello::read(r)?),
            code::ATTACH => Self::Attach { tab: r.tab()?, last: r.u64()? },
            code::PARK => Self::Park { tab: r.tab()? },
            code::GONE => Self::Gone { tab: r.tab()? },
            code::SUSPEND => Self::Suspend,
            code::ACK => {
                let lanes = r.lane_counts()?;
                let len = r.len(MAX_ACK_ENTRIES, "aside")?;
                Self::Ack { lanes, aside: (0..len).map(|_| r.alias()).collect::<Result<_, _>>()? }
            }
            code::PING => Self::Ping { nonce: r.u64()? },
            code::SUBSCRIBE => Self::Subscribe {
                request: r.ordinal("request")?,
                position: r.optional("position", Reader::position)?,
                topic: r.rest_topic_name()?,
            },
            code::UNSUBSCRIBE => Self::Unsubscribe { topic: r.rest_topic_name()? },
            code::CREDENTIALS => Self::Credentials {
                request: r.ordinal("request")?,
                credentials: r.rest_str(MAX_CREDENTIALS, "credentials")?,
            },
            code::PRESENCE => Self::Presence { topic: r.topic_name()?, present: Present::read(r)? },
            code::END => Self::End,
            code if may_be_from(code, Sender::Hub) => {
                Self::Unknown { code, up: None, body: r.rest() }
            }
            code => return Err(DecodeError::BadType(code)),
        })
    }

    fn read_reliable(code: u8, up: Upstream, r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match code {
            code::OPEN | code::OPEN_TICKET => {
                let ticket = match code {
                    code::OPEN_TICKET => r.name(MAX_TICKET, "ticket")?,
                    _ => "",
                };
                let (socket, credit) = (r.socket()?, r.u64()?);
                let path = r.str(MAX_PATH, "path")?;
                let len = r.len(MAX_PROTOCOLS, "protocols")?;
                let protocols =
                    (0..len).map(|_| r.str(MAX_PROTOCOL, "protocol")).collect::<Result<_, _>>()?;
                Self::Open { up, socket, credit, path, protocols, ticket }
            }
            code::DATA_TEXT | code::DATA_BINARY => {
                Self::Data { up, socket: r.socket()?, payload: r.payload(code == code::DATA_TEXT)? }
            }
            code::CLOSE => Self::Close {
                up,
                socket: r.socket()?,
                code: r.u16()?,
                reason: r.rest_str(MAX_REASON, "reason")?,
            },
            code::CREDIT => Self::Credit { up, socket: r.socket()?, bytes: r.u64()? },
            code::REQUEST_TEXT | code::REQUEST_BINARY => {
                Self::Request(Request::read(r, up, code == code::REQUEST_TEXT)?)
            }
            code::CANCEL => Self::Cancel { up, socket: r.socket()? },
            code::PUBLISH_TEXT | code::PUBLISH_BINARY => {
                Self::Publish(Publish::read(r, up, code == code::PUBLISH_TEXT)?)
            }
            code::RECOVER => Self::Recover(Recover::read(r, up)?),
            code => Self::Unknown { code, up: Some(up), body: r.rest() },
        })
    }

    /// Appends the frame to `out`.
    ///
    /// The caller keeps the limits of the format, and sends on a link only frames of its version. A
    /// frame beyond the limits is encoded, and the peer refuses it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.code());
        if let Some(Upstream { tab, n }) = self.upstream() {
            out.put_u64(u64::from(tab.0));
            out.put_u64(n);
        }
        self.write_control(out);
        self.write_reliable(out);
    }

    /// Writes the fields of a known frame that is not reliable. Writes nothing for any other frame.
    fn write_control(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => hello.write(out),
            Self::Attach { tab, last } => {
                out.extend_from_slice(&tab.0.to_be_bytes());
                out.put_u64(*last);
            }
            Self::Park { tab } | Self::Gone { tab } => {
                out.extend_from_slice(&tab.0.to_be_bytes());
            }
            Self::Suspend | Self::End => {}
            Self::Ack { lanes, aside } => {
                out.put_lane_counts(lanes);
                out.put_u64(aside.len() as u64);
                aside.iter().for_each(|alias| out.put_u64(u64::from(alias.0)));
            }
            Self::Ping { nonce } => out.put_u64(*nonce),
            Self::Subscribe { request, position, topic } => {
                out.put_u64(*request);
                out.put_optional_position(*position);
                out.extend_from_slice(topic.as_bytes());
            }
            Self::Unsubscribe { topic } => out.extend_from_slice(topic.as_bytes()),
            Self::Credentials { request, credentials } => {
                out.put_u64(*request);
                out.extend_from_slice(credentials.as_bytes());
            }
            Self::Presence { topic, present } => {
                out.put_bytes(topic.as_bytes());
                present.write(out);
            }
            Self::Open { .. }
            | Self::Data { .. }
            | Self::Close { .. }
            | Self::Credit { .. }
            | Self::Request(_)
            | Self::Cancel { .. }
            | Self::Publish(_)
            | Self::Recover(_)
            | Self::Unknown { .. } => {}
        }
    }

    /// Writes the fields of a reliable frame after its header, or the body of an unknown frame.
    /// Writes nothing for any other frame.
    fn write_reliable(&self, out: &mut Vec<u8>) {
        match self {
            Self::Open { socket, credit, path, protocols, ticket, .. } => {
                if !ticket.is_empty() {
                    out.put_bytes(ticket.as_bytes());
                }
                out.put_u64(u64::from(socket.0));
                out.put_u64(*credit);
                out.put_bytes(path.as_bytes());
                out.put_u64(protocols.len() as u64);
                protocols.iter().for_each(|name| out.put_bytes(name.as_bytes()));
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
            Self::Request(request) => request.write(out),
            Self::Cancel { socket, .. } => out.put_u64(u64::from(socket.0)),
            Self::Publish(publish) => publish.write(out),
            Self::Recover(recover) => recover.write(out),
            Self::Unknown { body, .. } => out.extend_from_slice(body),
            Self::Hello(_)
            | Self::Attach { .. }
            | Self::Park { .. }
            | Self::Gone { .. }
            | Self::Suspend
            | Self::Ack { .. }
            | Self::Ping { .. }
            | Self::Subscribe { .. }
            | Self::Unsubscribe { .. }
            | Self::Credentials { .. }
            | Self::Presence { .. }
            | Self::End => {}
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
            Self::Hello(_) => code::HELLO,
            Self::Attach { .. } => code::ATTACH,
            Self::Park { .. } => code::PARK,
            Self::Gone { .. } => code::GONE,
            Self::Suspend => code::SUSPEND,
            Self::Ack { .. } => code::ACK,
            Self::Ping { .. } => code::PING,
            Self::Subscribe { .. } => code::SUBSCRIBE,
            Self::Unsubscribe { .. } => code::UNSUBSCRIBE,
            Self::Credentials { .. } => code::CREDENTIALS,
            Self::Presence { .. } => code::PRESENCE,
            Self::End => code::END,
            Self::Open { ticket, .. } if ticket.is_empty() => code::OPEN,
            Self::Open { .. } => code::OPEN_TICKET,
            Self::Data { payload: Payload::Text(_), .. } => code::DATA_TEXT,
            Self::Data { payload: Payload::Binary(_), .. } => code::DATA_BINARY,
            Self::Close { .. } => code::CLOSE,
            Self::Credit { .. } => code::CREDIT,
            Self::Request(Request { payload: Payload::Text(_), .. }) => code::REQUEST_TEXT,
            Self::Request(Request { payload: Payload::Binary(_), .. }) => code::REQUEST_BINARY,
            Self::Cancel { .. } => code::CANCEL,
            Self::Publish(Publish { payload: Payload::Text(_), .. }) => code::PUBLISH_TEXT,
            Self::Publish(Publish { payload: Payload::Binary(_), .. }) => code::PUBLISH_BINARY,
            Self::Recover(_) => code::RECOVER,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// Returns the tab's alias and the frame's number if the frame is reliable, and `None`
    /// otherwise.
    pub const fn upstream(&self) -> Option<Upstream> {
        match self {
            Self::Open { up, .. }
            | Self::Data { up, .. }
            | Self::Close { up, .. }
            | Self::Credit { up, .. }
            | Self::Request(Request { up, .. })
            | Self::Cancel { up, .. }
            | Self::Publish(Publish { up, .. })
            | Self::Recover(Recover { up, .. }) => Some(*up),
            Self::Unknown { up, .. } => *up,
            Self::Hello(_)
            | Self::Attach { .. }
            | Self::Park { .. }
            | Self::Gone { .. }
            | Self::Suspend
            | Self::Ack { .. }
            | Self::Ping { .. }
            | Self::Subscribe { .. }
            | Self::Unsubscribe { .. }
            | Self::Credentials { .. }
            | Self::Presence { .. }
            | Self::End => None,
        }
    }
}
