//! Numbers that begin at 1, lanes, and fields that hold few values.

use tabmux_wire::{DecodeError, HubFrame, ServerFrame};

fn hub(bytes: &[u8]) -> DecodeError {
    HubFrame::decode(bytes).unwrap_err()
}

fn server(bytes: &[u8]) -> DecodeError {
    ServerFrame::decode(bytes).unwrap_err()
}

/// ATTACHED of tab 0 with what follows it.
fn attached(rest: &[u8]) -> Vec<u8> {
    [&[0x42][..], &[0; 8], rest].concat()
}

#[test]
fn an_upstream_frame_names_no_alias_0() {
    assert_eq!(hub(&[0x94, 0, 1, 1, 1]), DecodeError::BadValue("alias"));
}

#[test]
fn upstream_counts_begin_at_1() {
    assert_eq!(hub(&[0x94, 1, 0, 1, 1]), DecodeError::BadValue("n"));
}

#[test]
fn sockets_begin_at_1() {
    assert_eq!(hub(&[0x94, 1, 1, 0, 1]), DecodeError::BadValue("socket"));
    assert_eq!(server(&[0xd4, 1, 0, 1]), DecodeError::BadValue("socket"));
}

#[test]
fn a_frame_of_a_socket_is_not_in_lane_0() {
    for code in [0xd0, 0xd1, 0xd2, 0xd3, 0xd4] {
        let refused = server(&[code, 0, 1, 1]);
        assert_eq!(refused, DecodeError::BadValue("lane"), "{code:#x}");
    }
}

#[test]
fn a_frame_for_all_tabs_is_in_lane_0() {
    for code in [0xe0, 0xe1, 0xe2, 0xe3, 0xe4] {
        let refused = server(&[code, 1, 1, 1, 1, 1]);
        assert_eq!(refused, DecodeError::BadValue("lane"), "{code:#x}");
    }
}

#[test]
fn no_tab_is_attached_as_alias_0() {
    let refused = server(&attached(&[0, 1, 0, 0]));
    assert_eq!(refused, DecodeError::BadValue("alias"));
}

#[test]
fn the_next_frame_of_a_lane_is_at_least_1() {
    let refused = server(&attached(&[1, 0, 0, 0]));
    assert_eq!(refused, DecodeError::BadValue("next"));
}

#[test]
fn a_boolean_is_0_or_1() {
    let refused = server(&attached(&[1, 1, 0, 2]));
    assert_eq!(refused, DecodeError::BadValue("aside"));
}

#[test]
fn requests_begin_at_1() {
    let refused = hub(&[0x08, 0, 0, b't']);
    assert_eq!(refused, DecodeError::BadValue("request"));
}

#[test]
fn a_topic_to_subscribe_has_a_name() {
    assert_eq!(hub(&[0x08, 1, 0]), DecodeError::BadValue("topic"));
    assert_eq!(hub(&[0x09]), DecodeError::BadValue("topic"));
}

#[test]
fn a_subscribed_topic_has_a_name() {
    let refused = server(&[0x48, 1, 1, 0, 0, 0]);
    assert_eq!(refused, DecodeError::BadValue("topic"));
    let refused = server(&[0x49, 1, 1, 0, 0]);
    assert_eq!(refused, DecodeError::BadValue("topic"));
}

#[test]
fn a_publication_is_not_of_topic_0() {
    let refused = server(&[0xe2, 0, 0, 0, 0, 0]);
    assert_eq!(refused, DecodeError::BadValue("topic"));
}

#[test]
fn text_that_is_no_utf_8_is_refused() {
    assert_eq!(hub(&[0x91, 1, 1, 1, 0xff]), DecodeError::BadText);
    assert_eq!(server(&[0xd1, 1, 1, 0xff]), DecodeError::BadText);
}
