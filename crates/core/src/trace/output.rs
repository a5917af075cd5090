//! Outputs to bytes, for the digest.

use tabmux_wire::{HubFrame, Put, TabId};

use super::without_query;
use crate::{
    OwnedPayload,
    hub::{Event, HubMessage, Output, PortMessage},
};

pub(super) fn write(bytes: &mut Vec<u8>, output: &Output) {
    match output {
        Output::RequestLinkLock => bytes.push(0),
        Output::ReleaseLinkLock => bytes.push(1),
        Output::OpenLink { attempt } => put(bytes, 2, attempt.0.into()),
        Output::SendLink { attempt, payload } => {
            put(bytes, 3, attempt.0.into());
            put_payload(bytes, without_secrets(payload).as_ref().unwrap_or(payload));
        }
        Output::CloseLink { attempt, code, reason } => {
            put(bytes, 4, attempt.0.into());
            bytes.put_u64(u64::from(*code));
            bytes.put_bytes(reason.as_bytes());
        }
        Output::PostToTab { tab, message } => put_post(bytes, &[*tab], message),
        Output::PostToTabs { tabs, message } => put_post(bytes, tabs, message),
        Output::WatchTab { tab } => put(bytes, 6, tab.0),
        Output::DropTab { tab } => put(bytes, 7, tab.0),
        Output::AskWho => bytes.push(9),
        Output::TakeTag { tag } => {
            bytes.push(10);
            bytes.put_bytes(tag.as_bytes());
        }
        Output::ShowCredentials(attempt, frame) => {
            put(bytes, 11, attempt.0.into());
            bytes.put_bytes(frame);
        }
        Output::ShowTicket { ticket, path } => {
            bytes.push(12);
            bytes.put_bytes(ticket.as_bytes());
            bytes.put_bytes(path.as_bytes());
        }
        // The others are for tests and metrics: a shell throws them away.
        Output::Event(Event::LinkDown(why)) => {
            bytes.push(8);
            bytes.put_bytes(why.as_bytes());
        }
        Output::Event(_) => {}
    }
}

fn put(bytes: &mut Vec<u8>, kind: u8, number: u64) {
    bytes.push(kind);
    bytes.put_u64(number);
}

/// The message as it crosses the port.
fn put_post(bytes: &mut Vec<u8>, tabs: &[TabId], message: &HubMessage) {
    put(bytes, 5, tabs.len() as u64);
    for tab in tabs {
        bytes.put_u64(tab.0);
    }
    let PortMessage { kind, numbers, data } = message.clone().into();
    bytes.push(kind as u8);
    for number in numbers.as_slice() {
        bytes.put_u64(number.to_bits());
    }
    if let Some(data) = data {
        put_payload(bytes, &data);
    }
}

/// Returns a frame that opens a socket as the trace has its path, so that the digest is that of a
/// replay. `None` for all others.
fn without_secrets(payload: &OwnedPayload) -> Option<OwnedPayload> {
    let OwnedPayload::Binary(frame) = payload else { return None };
    match HubFrame::decode(frame) {
        Ok(HubFrame::Open { up, socket, credit, path, protocols, ticket }) => {
            let path = &without_query(path);
            let frame = HubFrame::Open { up, socket, credit, path, protocols, ticket };
            Some(OwnedPayload::Binary(frame.to_bytes()))
        }
        _ => None,
    }
}

fn put_payload(bytes: &mut Vec<u8>, payload: &OwnedPayload) {
    let (is_text, data) = match payload {
        OwnedPayload::Text(text) => (1, text.as_bytes()),
        OwnedPayload::Binary(data) => (0, data.as_slice()),
    };
    bytes.push(is_text);
    bytes.put_bytes(data);
}
