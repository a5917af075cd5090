//! What a hub says to a tab, in the one shape in which it is posted.

use tabmux_wire::{Position, SocketId, message_cost};

use super::{AskId, HubMessage, LinkState, SubscriptionId};
use crate::OwnedPayload;

/// What a message to a tab is. `HubKind` of `packages/tabmux/src/protocol.ts` says of each what its
/// numbers and its data are; `cargo xtask tidy` compares names and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "protocol.ts describes them for both sides")]
#[repr(u8)]
pub enum HubKind {
    Opened,
    Message,
    Closed,
    Credit,
    Joined,
    Ended,
    Error,
    Subscribed,
    Publication,
    Gap,
    Unsubscribed,
    Attached,
    State,
    Mirror,
    Browser,
    Direct,
    BrowserGap,
    Resume,
    Renew,
    Lost,
    Check,
    Sent,
    Seen,
    Resync,
    Failed,
    Ask,
    Wait,
    Elsewhere,
    User,
}

/// A message to a tab as it crosses the port: the kind, the numbers in their order, then the data
/// if the kind has any. The shell adds the hub's id.
#[derive(Clone, Debug, PartialEq)]
pub struct PortMessage {
    /// Which message it is.
    pub kind: HubKind,
    /// Its numbers.
    pub numbers: Numbers,
    /// Its text or bytes.
    pub data: Option<OwnedPayload>,
}

/// The numbers of a message, at most four.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbers {
    all: [f64; 4],
    len: usize,
}

impl Numbers {
    /// In their order.
    pub fn as_slice(&self) -> &[f64] {
        &self.all[..self.len]
    }
}

impl From<HubMessage> for PortMessage {
    fn from(message: HubMessage) -> Self {
        use HubKind as Kind;
        use HubMessage as M;
        match message {
            M::Opened { socket, count, credit: Some(credit), protocol, extensions, .. } => {
                let numbers = [id(socket), float(count), float(credit)];
                with_text(Kind::Opened, &numbers, answer(protocol, &extensions))
            }
            M::Opened { socket, reused, credit: None, protocol, extensions, .. } => {
                let numbers = [id(socket), flag(reused)];
                with_text(Kind::Joined, &numbers, answer(protocol, &extensions))
            }
            M::Message { socket, count, payload } => {
                // What it costs of the socket's credit.
                let cost = float(message_cost(payload.len()));
                with(Kind::Message, &[id(socket), float(count), cost], payload)
            }
            M::Closed { socket, count: 0, code, clean, reason } => {
                with_text(Kind::Ended, &[id(socket), f64::from(code), flag(clean)], reason)
            }
            M::Closed { socket, count, code, clean, reason } => {
                let numbers = [id(socket), float(count), f64::from(code), flag(clean)];
                with_text(Kind::Closed, &numbers, reason)
            }
            M::Credit { socket, count, bytes } => {
                plain(Kind::Credit, &[id(socket), float(count), float(bytes)])
            }
            M::Error { socket, message } => with_text(Kind::Error, &[id(socket)], message),
            M::Subscribed { subscription, position, recovered: _ } => {
                plain(Kind::Subscribed, &place(subscription, position))
            }
            M::Publication { subscription, position, payload } => {
                with(Kind::Publication, &place(subscription, position), payload)
            }
            M::Gap { subscription, position } => plain(Kind::Gap, &place(subscription, position)),
            M::Unsubscribed { subscription, message } => {
                with_text(Kind::Unsubscribed, &[f64::from(subscription.0)], message)
            }
            M::Ask { id: AskId(id), what } => {
                plain(Kind::Ask, &[f64::from(id), f64::from(what as u8)])
            }
            M::Wait { reason } => with_text(Kind::Wait, &[], reason),
            M::Elsewhere { user } => with_text(Kind::Elsewhere, &[], user),
            M::User { answers, user } => with_text(Kind::User, &[flag(answers)], user),
            M::Attached { state, tabs } => plain(Kind::Attached, &link(state, tabs)),
            M::State { state, tabs, reason } => with_text(Kind::State, &link(state, tabs), reason),
            M::Mirror { payload } => with(Kind::Mirror, &[], payload),
            M::Browser { count0, payload } => with(Kind::Browser, &[float(count0)], payload),
            M::Direct { count, payload } => with(Kind::Direct, &[float(count)], payload),
            M::BrowserGap => plain(Kind::BrowserGap, &[]),
            M::Resume { n_seen, continues: true, claim, .. } => {
                with_text(Kind::Resume, &[float(n_seen)], claim)
            }
            M::Resume { n_seen, continues: false, count0, claim } => {
                with_text(Kind::Renew, &[float(n_seen), float(count0)], claim)
            }
            M::Lost { reason } => with_text(Kind::Lost, &[], reason),
            M::Check { count0, count } => plain(Kind::Check, &[float(count0), float(count)]),
            M::Sent { n } => plain(Kind::Sent, &[float(n)]),
            M::Seen { n } => plain(Kind::Seen, &[float(n)]),
            M::Resync => plain(Kind::Resync, &[]),
            M::Refused { message } => with_text(Kind::Failed, &[], message),
        }
    }
}

impl HubMessage {
    /// Returns the bytes that it holds on to while it waits for a parked tab: its payload and a
    /// fixed part.
    pub(crate) const fn cost(&self) -> usize {
        64 + match self {
            Self::Message { payload, .. }
            | Self::Mirror { payload }
            | Self::Browser { payload, .. }
            | Self::Direct { payload, .. }
            | Self::Publication { payload, .. } => payload.len(),
            Self::Closed { reason, .. } => reason.len(),
            Self::Error { message, .. } | Self::Unsubscribed { message, .. } => message.len(),
            Self::Opened { protocol, extensions, .. } => protocol.len() + extensions.len(),
            Self::State { reason, .. } => reason.len(),
            Self::Refused { message } => message.len(),
            Self::Wait { reason } => reason.len(),
            Self::Elsewhere { user } | Self::User { user, .. } => user.len(),
            Self::Resume { claim, .. } => claim.len(),
            Self::Lost { reason } => reason.len(),
            Self::Attached { .. }
            | Self::Check { .. }
            | Self::Seen { .. }
            | Self::Sent { .. }
            | Self::BrowserGap
            | Self::Credit { .. }
            | Self::Subscribed { .. }
            | Self::Gap { .. }
            | Self::Ask { .. }
            | Self::Resync => 0,
        }
    }
}

fn plain(kind: HubKind, numbers: &[f64]) -> PortMessage {
    let mut all = [0.0; 4];
    all[..numbers.len()].copy_from_slice(numbers);
    PortMessage { kind, numbers: Numbers { all, len: numbers.len() }, data: None }
}

fn with(kind: HubKind, numbers: &[f64], data: OwnedPayload) -> PortMessage {
    PortMessage { data: Some(data), ..plain(kind, numbers) }
}

fn with_text(kind: HubKind, numbers: &[f64], text: String) -> PortMessage {
    with(kind, numbers, OwnedPayload::Text(text))
}

/// What a server chose: neither can contain the separator.
fn answer(protocol: String, extensions: &str) -> String {
    protocol + "\n" + extensions
}

fn id(socket: SocketId) -> f64 {
    f64::from(socket.0)
}

fn link(state: LinkState, tabs: u32) -> [f64; 2] {
    [f64::from(state as u8), f64::from(tabs)]
}

/// Servers keep epoch and offset below 2^53 (PROTOCOL.md), so that this is exact.
fn place(subscription: SubscriptionId, position: Position) -> [f64; 3] {
    [f64::from(subscription.0), float(position.epoch), float(position.offset)]
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^53")]
const fn float(count: u64) -> f64 {
    count as f64
}
