//! What a hub was born with.

use std::time::Duration;

use tabmux_wire::{DecodeError, HubId, Put, Reader};

use super::{MAGIC, VERSION};
use crate::hub::{HubConfig, Mode};

pub(super) fn write(config: &HubConfig, seed: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.push(VERSION);
    bytes.push((config.mode == Mode::Mux).into());
    bytes.push(config.asks.into());
    bytes.push(config.asks_who.into());
    bytes.put_bytes(config.tag.as_bytes());
    bytes.put_bytes(config.url.as_bytes());
    bytes.put_u64(config.hub.0);
    bytes.put_u64(seed);
    for number in numbers(config) {
        bytes.put_u64(number);
    }
    bytes
}

pub(super) fn read(bytes: &mut Reader<'_>) -> Result<(HubConfig, u64), DecodeError> {
    for byte in MAGIC {
        if bytes.u8()? != byte {
            return Err(DecodeError::BadValue("the beginning of the trace"));
        }
    }
    if bytes.u8()? != VERSION {
        return Err(DecodeError::BadValue("the version of the trace"));
    }
    let mode = if bytes.bool("mode")? { Mode::Mux } else { Mode::Mirror };
    let asks = bytes.bool("asks")?;
    let asks_who = bytes.bool("asks_who")?;
    let tag = bytes.str(usize::MAX, "tag")?.to_owned();
    let url = bytes.str(usize::MAX, "url")?.to_owned();
    let (hub, seed) = (HubId(bytes.u64()?), bytes.u64()?);
    let mut span = || bytes.u64().map(Duration::from_micros);
    // As `numbers` has them.
    let config = HubConfig {
        mode,
        hub,
        url,
        asks,
        asks_who,
        tag,
        ask_each: span()?,
        dial_timeout: span()?,
        handshake_timeout: span()?,
        pong_timeout: span()?,
        probe_timeout: span()?,
        backoff_first: span()?,
        backoff_last: span()?,
        backoff_reset: span()?,
        tab_grace: span()?,
        parked_ttl: span()?,
        linger: span()?,
        ack_delay: span()?,
        check_timeout: span()?,
        ack_frames: bytes.u64()?,
        ack_bytes: bytes.len(usize::MAX, "limit")?,
        tabs: bytes.len(usize::MAX, "limit")?,
        sockets: bytes.len(usize::MAX, "limit")?,
        topics: bytes.len(usize::MAX, "limit")?,
        held_bytes: bytes.len(usize::MAX, "limit")?,
        credit_bytes: bytes.u64()?,
        link_bytes: bytes.u64()?,
        outbox_bytes: bytes.len(usize::MAX, "limit")?,
    };
    Ok((config, seed))
}

/// The time spans of a configuration, and its limits.
fn numbers(config: &HubConfig) -> [u64; 22] {
    let micros = |span: Duration| span.as_secs() * 1_000_000 + u64::from(span.subsec_micros());
    [
        micros(config.ask_each),
        micros(config.dial_timeout),
        micros(config.handshake_timeout),
        micros(config.pong_timeout),
        micros(config.probe_timeout),
        micros(config.backoff_first),
        micros(config.backoff_last),
        micros(config.backoff_reset),
        micros(config.tab_grace),
        micros(config.parked_ttl),
        micros(config.linger),
        micros(config.ack_delay),
        micros(config.check_timeout),
        config.ack_frames,
        config.ack_bytes as u64,
        config.tabs as u64,
        config.sockets as u64,
        config.topics as u64,
        config.held_bytes as u64,
        config.credit_bytes,
        config.link_bytes,
        config.outbox_bytes as u64,
    ]
}
