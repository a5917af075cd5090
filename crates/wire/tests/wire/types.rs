use std::collections::BTreeSet;

use tabmux_wire::{
    Alias, DecodeError, FRAME_TYPES, HubFrame, RELIABLE, Sender, ServerFrame, Upstream,
};

use crate::frame::Frame;

#[test]
fn an_empty_message_is_truncated() {
    for sender in [Sender::Hub, Sender::Server] {
        assert_eq!(Frame::decode(sender, &[]), Err(DecodeError::Truncated));
    }
}

#[test]
fn no_two_frame_types_share_a_code() {
    let codes: BTreeSet<_> = FRAME_TYPES.iter().map(|row| row.code).collect();
    assert_eq!(codes.len(), FRAME_TYPES.len());
}

#[test]
fn the_direction_bit_tells_who_sends_a_type() {
    for row in FRAME_TYPES {
        let from_server = row.code & 0x40 != 0;
        assert_eq!(from_server, row.sender == Sender::Server, "{}", row.name);
    }
}

#[test]
fn every_code_of_the_other_direction_is_refused() {
    for code in 0..=u8::MAX {
        let wrong = if code & 0x40 == 0 { Sender::Server } else { Sender::Hub };
        let bytes = [code, 1, 1, 1, 1];
        let refused = Frame::decode(wrong, &bytes);
        assert_eq!(refused, Err(DecodeError::BadType(code)));
    }
}

#[test]
fn a_code_without_a_number_is_no_type() {
    for code in [0x00, 0x40, 0x80, 0xc0] {
        for sender in [Sender::Hub, Sender::Server] {
            let bytes = [code, 1, 1];
            let refused = Frame::decode(sender, &bytes);
            assert_eq!(refused, Err(DecodeError::BadType(code)));
        }
    }
}

/// Codes of a sender that version 1 gives no name.
fn unknown_codes(sender: Sender) -> impl Iterator<Item = u8> {
    (0..=u8::MAX).filter(move |code| {
        code & 0x3f != 0
            && (code & 0x40 != 0) == (sender == Sender::Server)
            && FRAME_TYPES.iter().all(|row| row.code != *code)
    })
}

#[test]
fn an_unknown_unreliable_type_of_a_hub_keeps_all_that_follows() {
    for code in unknown_codes(Sender::Hub).filter(|code| code & RELIABLE == 0) {
        let unknown = HubFrame::Unknown { code, up: None, body: &[0xff, 0] };
        assert_eq!(HubFrame::decode(&[code, 0xff, 0]), Ok(unknown));
    }
}

#[test]
fn an_unknown_reliable_type_of_a_hub_is_counted() {
    for code in unknown_codes(Sender::Hub).filter(|code| code & RELIABLE != 0) {
        let up = Some(Upstream { tab: Alias(2), n: 3 });
        let unknown = HubFrame::Unknown { code, up, body: &[0xff] };
        assert_eq!(HubFrame::decode(&[code, 2, 3, 0xff]), Ok(unknown));
    }
}

#[test]
fn an_unknown_unreliable_type_of_a_server_keeps_all_that_follows() {
    for code in unknown_codes(Sender::Server).filter(|code| code & RELIABLE == 0) {
        let unknown = ServerFrame::Unknown { code, lane: None, body: &[0xff, 0] };
        assert_eq!(ServerFrame::decode(&[code, 0xff, 0]), Ok(unknown));
    }
}

#[test]
fn an_unknown_reliable_type_of_a_server_is_counted_in_any_lane() {
    for code in unknown_codes(Sender::Server).filter(|code| code & RELIABLE != 0) {
        for lane in [0, 7] {
            let unknown = ServerFrame::Unknown { code, lane: Some(u32::from(lane)), body: &[0xff] };
            assert_eq!(ServerFrame::decode(&[code, lane, 0xff]), Ok(unknown));
        }
    }
}

#[test]
fn an_unknown_reliable_type_without_its_header_is_truncated() {
    assert_eq!(HubFrame::decode(&[0xbf, 1]), Err(DecodeError::Truncated));
    assert_eq!(ServerFrame::decode(&[0xff]), Err(DecodeError::Truncated));
}

#[test]
fn bytes_after_the_last_field_are_refused() {
    let ping = HubFrame::decode(&[0x07, 1, 0]);
    assert_eq!(ping, Err(DecodeError::TrailingBytes));
}
