//! What a hub says to a tab, in the one shape in which it is posted.

use tabmux_wire::{Position, message_cost};

use super::HubMessage;
use crate::OwnedPayload;

/// A message to a tab as it crosses the port: `HubMessage` of `packages/tabmux/src/protocol.ts`.
#[derive(Clone, Debug, PartialEq)]
pub struct PortMessage {
    /// `HubKind` there, which says what the rest means.
    pub kind: u8,
    /// The socket or the subscription; 0 for none.
    pub number: u32,
    /// The first number.
    pub a: f64,
    /// The second number.
    pub b: f64,
    /// Text or bytes.
    pub data: OwnedPayload,
}

impl From<HubMessage> for PortMessage {
    fn from(message: HubMessage) -> Self {
        let nothing = OwnedPayload::Text(String::new());
        let text = OwnedPayload::Text;
        let (kind, number, [a, b], data) = match message {
            HubMessage::Attached { state, tabs } => {
                (0, 0, [f64::from(state as u8), f64::from(tabs)], nothing)
            }
            HubMessage::State { state, tabs, reason } => {
                (1, 0, [f64::from(state as u8), f64::from(tabs)], text(reason))
            }
            HubMessage::Opened { socket, count, reused, protocol, extensions, credit } => {
                let data = protocol + "\n" + &extensions;
                let b = match credit {
                    Some(credit) => float(credit),
                    None => -f64::from(u8::from(reused)),
                };
                (2, socket.0, [float(count), b], text(data))
            }
            HubMessage::Message { socket, count, payload } => {
                // What it costs of the socket's credit.
                let cost = message_cost(payload.len());
                (3, socket.0, [float(count), float(cost)], payload)
            }
            HubMessage::Mirror { payload } => (4, 0, [0.0; 2], payload),
            HubMessage::Closed { socket, count, code, clean, reason } => {
                // Codes have four digits: clean ones are told beyond them.
                let code = f64::from(code) + if clean { 10_000.0 } else { 0.0 };
                (5, socket.0, [float(count), code], text(reason))
            }
            HubMessage::Error { socket, message } => (6, socket.0, [0.0; 2], text(message)),
            HubMessage::Sent { n } => (7, 0, [float(n), 0.0], nothing),
            HubMessage::Browser { count0, payload } => (8, 0, [float(count0), 0.0], payload),
            HubMessage::Resync => (9, 0, [0.0; 2], nothing),
            HubMessage::Refused { message } => (10, 0, [0.0; 2], text(message)),
            HubMessage::Subscribed { subscription, position, recovered } => {
                let data = if recovered { "recovered" } else { "" };
                (11, subscription.0, floats(position), text(data.to_owned()))
            }
            HubMessage::Publication { subscription, position, payload } => {
                (12, subscription.0, floats(position), payload)
            }
            HubMessage::Gap { subscription, position } => {
                (13, subscription.0, floats(position), nothing)
            }
            HubMessage::Unsubscribed { subscription, message } => {
                (14, subscription.0, [0.0; 2], text(message))
            }
            HubMessage::Resume { n_seen, continues, count0, claim } => {
                let count0 = if continues { -1.0 } else { float(count0) };
                (15, 0, [float(n_seen), count0], text(claim))
            }
            HubMessage::Lost { reason } => (16, 0, [0.0; 2], text(reason)),
            HubMessage::Check { count0, count } => (17, 0, [float(count0), float(count)], nothing),
            HubMessage::Seen { n } => (18, 0, [float(n), 0.0], nothing),
            HubMessage::BrowserGap => (19, 0, [0.0; 2], nothing),
            HubMessage::Credit { socket, count, bytes } => {
                (20, socket.0, [float(count), float(bytes)], nothing)
            }
        };
        Self { kind, number, a, b, data }
    }
}

/// Epoch and offset. Servers keep both below 2^53 (PROTOCOL.md), so that this is exact.
fn floats(position: Position) -> [f64; 2] {
    [float(position.epoch), float(position.offset)]
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^53")]
const fn float(count: u64) -> f64 {
    count as f64
}
