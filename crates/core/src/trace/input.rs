//! Inputs to bytes and back. All have one shape, five numbers and two texts, of which most need
//! few: so the code, which every browser loads, is small.

use tabmux_wire::{DecodeError, Payload, Position, Put, Reader, SocketId, TabId};

use super::without_query;
use crate::{
    Timestamp,
    hub::{AskId, AttemptId, Input, Rules, SubscriptionId, TabMessage},
};

const ATTACH: u8 = 2;
const PARK: u8 = 3;
const BYE: u8 = 4;
const OPEN: u8 = 5;
const SEND: u8 = 6;
const CLOSE: u8 = 7;
const SUBSCRIBE: u8 = 8;
const UNSUBSCRIBE: u8 = 9;
const GOT: u8 = 10;
const TAB_LOCK_GRANTED: u8 = 11;
const LINK_LOCK_GRANTED: u8 = 12;
const LINK_OPENED: u8 = 13;
const LINK_MESSAGE: u8 = 14;
const LINK_CLOSED: u8 = 15;
const LINK_BUFFERED: u8 = 16;
const NETWORK_CHANGED: u8 = 17;
const CREDIT: u8 = 18;
const RULES: u8 = 19;
const LINK_MESSAGE_TO: u8 = 20;
const RESET: u8 = 21;
const RECONNECT: u8 = 22;
const VISIBLE: u8 = 23;
const ANSWER: u8 = 24;
const WHO: u8 = 25;
const TAG_TAKEN: u8 = 26;
const WHOSE: u8 = 27;
const LOGOUT: u8 = 28;
const RENEW: u8 = 29;

/// What an input consists of, besides its kind.
type Fields<'a> = ([u64; 5], [&'a [u8]; 2]);

/// What an input has in another form than the trace.
#[derive(Default)]
struct Made {
    path: String,
    names: Vec<u8>,
}

pub(super) fn write(bytes: &mut Vec<u8>, now: Timestamp, input: &Input<'_>) {
    let mut made = Made::default();
    let (kind, (numbers, texts)) = match input {
        Input::TabMessage { tab: TabId(tab), message } => said(*tab, message, &mut made),
        Input::TabLockGranted { tab } => (TAB_LOCK_GRANTED, number(tab.0)),
        Input::LinkLockGranted => (LINK_LOCK_GRANTED, number(0)),
        Input::LinkOpened { attempt, protocol, extensions } => {
            let texts = [protocol.as_bytes(), extensions.as_bytes()];
            (LINK_OPENED, ([attempt.0.into(), 0, 0, 0, 0], texts))
        }
        Input::LinkMessage { attempt, payload } => {
            let numbers = [attempt.0.into(), is_text(payload), 0, 0, 0];
            (LINK_MESSAGE, (numbers, [payload.as_bytes(), &[]]))
        }
        Input::LinkClosed { attempt, code, reason, clean, failed } => {
            let flags = [(*clean).into(), (*failed).into()];
            let numbers = [attempt.0.into(), (*code).into(), flags[0], flags[1], 0];
            (LINK_CLOSED, (numbers, [reason.as_bytes(), &[]]))
        }
        Input::LinkBuffered { attempt, bytes } => {
            (LINK_BUFFERED, ([attempt.0.into(), *bytes, 0, 0, 0], NONE))
        }
        Input::NetworkChanged { online } => (NETWORK_CHANGED, number((*online).into())),
        Input::Rules(Rules { replay_last, linger_ms, min_ms, max_ms, attempts }) => {
            (RULES, ([*replay_last, *linger_ms, *min_ms, *max_ms, *attempts], NONE))
        }
        Input::LinkMessageTo { attempt, name, text } => {
            let texts = [text.as_bytes(), name.as_bytes()];
            (LINK_MESSAGE_TO, ([attempt.0.into(), 0, 0, 0, 0], texts))
        }
        Input::Reset => (RESET, number(0)),
        Input::TagTaken => (TAG_TAKEN, number(0)),
        Input::Who { text } => (WHO, ([0; 5], [text.as_bytes(), &[]])),
    };
    bytes.push(kind);
    bytes.put_u64(now.as_micros());
    numbers.into_iter().for_each(|number| bytes.put_u64(number));
    texts.into_iter().for_each(|text| bytes.put_bytes(text));
}

/// The same of what a tab said. `names` is where its sub-protocols are put.
fn said<'a>(tab: u64, message: &TabMessage<'a>, made: &'a mut Made) -> (u8, Fields<'a>) {
    match message {
        TabMessage::Attach { claim, last0, last } => {
            (ATTACH, ([tab, *last0, *last, 0, 0], [claim.as_bytes(), &[]]))
        }
        TabMessage::Park => (PARK, number(tab)),
        TabMessage::Bye => (BYE, number(tab)),
        TabMessage::Reconnect => (RECONNECT, number(tab)),
        TabMessage::Whose => (WHOSE, number(tab)),
        TabMessage::Logout => (LOGOUT, number(tab)),
        TabMessage::Renew => (RENEW, number(tab)),
        TabMessage::Open { n, socket, path, protocols } => {
            let Made { path: shown, names } = made;
            *shown = without_query(path).into_owned();
            protocols.iter().for_each(|name| names.put_bytes(name.as_bytes()));
            let numbers = [tab, *n, socket.0.into(), 0, 0];
            (OPEN, (numbers, [shown.as_bytes(), names.as_slice()]))
        }
        TabMessage::Send { n, socket, payload } => {
            let numbers = [tab, *n, socket.0.into(), is_text(payload), 0];
            (SEND, (numbers, [payload.as_bytes(), &[]]))
        }
        TabMessage::Close { n, socket, code, reason } => {
            let numbers = [tab, *n, socket.0.into(), (*code).into(), 0];
            (CLOSE, (numbers, [reason.as_bytes(), &[]]))
        }
        TabMessage::Credit { n, socket, bytes } => {
            (CREDIT, ([tab, *n, socket.0.into(), *bytes, 0], NONE))
        }
        TabMessage::Subscribe { subscription, name, since } => {
            let Position { epoch, offset } = since.unwrap_or(NOWHERE);
            let numbers = [tab, subscription.0.into(), since.is_some().into(), epoch, offset];
            (SUBSCRIBE, (numbers, [name.as_bytes(), &[]]))
        }
        TabMessage::Unsubscribe { subscription } => {
            (UNSUBSCRIBE, ([tab, subscription.0.into(), 0, 0, 0], NONE))
        }
        TabMessage::Visible { online } => (VISIBLE, ([tab, (*online).into(), 0, 0, 0], NONE)),
        TabMessage::Answer { id, answer } => {
            let (failed, why) = (answer.is_err(), answer.err().unwrap_or_default());
            let fresh = u64::from(*answer == Ok(true));
            let numbers = [tab, id.0.into(), failed.into(), fresh, 0];
            (ANSWER, (numbers, [why.as_bytes(), &[]]))
        }
        TabMessage::Got { count0, count } => (GOT, ([tab, *count0, *count, 0, 0], NONE)),
    }
}

const NONE: [&[u8]; 2] = [&[], &[]];
const NOWHERE: Position = Position { epoch: 0, offset: 0 };

const fn number(number: u64) -> Fields<'static> {
    ([number, 0, 0, 0, 0], NONE)
}

const fn is_text(payload: &Payload<'_>) -> u64 {
    matches!(payload, Payload::Text(_)) as u64
}

/// What follows the kind and the moment.
pub(super) fn read<'a>(bytes: &mut Reader<'a>, kind: u8) -> Result<Input<'a>, DecodeError> {
    let [a, b, c, d, e] = numbers(bytes)?;
    let texts = [bytes.bytes(usize::MAX, "text")?, bytes.bytes(usize::MAX, "text")?];
    let [first, second] = texts;
    let (tab, attempt) = (TabId(a), || small(a).map(AttemptId));
    let (socket, subscription) = (|| small(c).map(SocketId), || small(b).map(SubscriptionId));
    let message = match kind {
        ATTACH => TabMessage::Attach { claim: text(first)?, last0: b, last: c },
        PARK => TabMessage::Park,
        BYE => TabMessage::Bye,
        RECONNECT => TabMessage::Reconnect,
        WHOSE => TabMessage::Whose,
        LOGOUT => TabMessage::Logout,
        RENEW => TabMessage::Renew,
        OPEN => {
            let (mut names, mut protocols) = (Reader::new(second), Vec::new());
            while names.end().is_err() {
                protocols.push(names.str(usize::MAX, "protocol")?);
            }
            TabMessage::Open { n: b, socket: socket()?, path: text(first)?, protocols }
        }
        SEND => TabMessage::Send { n: b, socket: socket()?, payload: payload(d, first)? },
        CLOSE => {
            TabMessage::Close { n: b, socket: socket()?, code: code(d)?, reason: text(first)? }
        }
        CREDIT => TabMessage::Credit { n: b, socket: socket()?, bytes: d },
        SUBSCRIBE => {
            let since = (c != 0).then_some(Position { epoch: d, offset: e });
            TabMessage::Subscribe { subscription: subscription()?, name: text(first)?, since }
        }
        UNSUBSCRIBE => TabMessage::Unsubscribe { subscription: subscription()? },
        VISIBLE => TabMessage::Visible { online: b != 0 },
        ANSWER => {
            let answer = if c == 0 { Ok(d != 0) } else { Err(text(first)?) };
            TabMessage::Answer { id: AskId(small(b)?), answer }
        }
        GOT => TabMessage::Got { count0: b, count: c },
        TAB_LOCK_GRANTED => return Ok(Input::TabLockGranted { tab }),
        LINK_LOCK_GRANTED => return Ok(Input::LinkLockGranted),
        LINK_OPENED => {
            let (protocol, extensions) = (text(first)?, text(second)?);
            return Ok(Input::LinkOpened { attempt: attempt()?, protocol, extensions });
        }
        LINK_MESSAGE => {
            return Ok(Input::LinkMessage { attempt: attempt()?, payload: payload(b, first)? });
        }
        LINK_CLOSED => {
            let (code, reason, attempt) = (code(b)?, text(first)?, attempt()?);
            let (clean, failed) = (c != 0, d != 0);
            return Ok(Input::LinkClosed { attempt, code, reason, clean, failed });
        }
        LINK_BUFFERED => return Ok(Input::LinkBuffered { attempt: attempt()?, bytes: b }),
        RULES => {
            let (replay_last, linger_ms, min_ms, max_ms, attempts) = (a, b, c, d, e);
            let rules = Rules { replay_last, linger_ms, min_ms, max_ms, attempts };
            return Ok(Input::Rules(rules));
        }
        LINK_MESSAGE_TO => {
            let (text, name) = (text(first)?, text(second)?);
            return Ok(Input::LinkMessageTo { attempt: attempt()?, name, text });
        }
        RESET => return Ok(Input::Reset),
        TAG_TAKEN => return Ok(Input::TagTaken),
        WHO => return Ok(Input::Who { text: text(first)? }),
        NETWORK_CHANGED => return Ok(Input::NetworkChanged { online: a != 0 }),
        _ => return Err(DecodeError::BadType(kind)),
    };
    Ok(Input::TabMessage { tab, message })
}

fn numbers(bytes: &mut Reader<'_>) -> Result<[u64; 5], DecodeError> {
    let mut numbers = [0; 5];
    for number in &mut numbers {
        *number = bytes.u64()?;
    }
    Ok(numbers)
}

fn small(number: u64) -> Result<u32, DecodeError> {
    u32::try_from(number).map_err(|_| DecodeError::BadVarint)
}

fn code(number: u64) -> Result<u16, DecodeError> {
    u16::try_from(number).map_err(|_| DecodeError::BadVarint)
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::BadText)
}

fn payload(is_text: u64, bytes: &[u8]) -> Result<Payload<'_>, DecodeError> {
    Ok(if is_text == 0 { Payload::Binary(bytes) } else { Payload::Text(text(bytes)?) })
}
