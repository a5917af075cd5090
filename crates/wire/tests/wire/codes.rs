use tabmux_wire::{
    Audience, ErrorCode, Feature, GoAwayReason, RefusedReason, ServerFrame, UnsubscribedReason,
};

use crate::frame::assert_accepted;

#[test]
fn named_codes_count_from_1() {
    let codes = [
        ErrorCode::ALL.iter().map(|code| code.byte()).collect(),
        RefusedReason::ALL.iter().map(|code| code.byte()).collect(),
        Audience::ALL.iter().map(|code| code.byte()).collect(),
        Feature::ALL.iter().map(|code| code.byte()).collect(),
        GoAwayReason::ALL.iter().map(|code| code.byte()).collect(),
        UnsubscribedReason::ALL.iter().map(|code| code.byte()).collect::<Vec<_>>(),
    ];
    for codes in codes {
        assert!(codes.iter().copied().eq(1..=codes.len() as u8), "{codes:?}");
    }
}

#[test]
fn an_error_with_a_code_of_a_later_release_is_a_frame() {
    for byte in [0, 12, 0xff] {
        assert_accepted(ServerFrame::Error {
            code: ErrorCode::Other(byte),
            tab: None,
            socket: None,
            message: "",
        });
    }
}

#[test]
fn a_named_code_is_decoded_by_its_name() {
    let frame = ServerFrame::decode(&[0x4a, 1, 0, 0]);
    let expected =
        ServerFrame::Error { code: ErrorCode::NoRoute, tab: None, socket: None, message: "" };
    assert_eq!(frame, Ok(expected));
}
