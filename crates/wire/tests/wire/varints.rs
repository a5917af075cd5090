//! Varints, seen through the nonce of PING (64 bits), a socket (32) and a close code (16).

use tabmux_wire::{DecodeError, HubFrame};

fn ping(varint: &[u8]) -> Result<u64, DecodeError> {
    let bytes = [&[0x07], varint].concat();
    match HubFrame::decode(&bytes)? {
        HubFrame::Ping { nonce } => Ok(nonce),
        other => panic!("{other:?}"),
    }
}

/// CLOSE of tab 1, count 1, with these varints for the socket and the code.
fn close(socket: &[u8], code: &[u8]) -> Result<(u32, u16), DecodeError> {
    let bytes = [&[0x93, 1, 1], socket, code].concat();
    match HubFrame::decode(&bytes)? {
        HubFrame::Close { socket, code, .. } => Ok((socket.0, code)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_byte_holds_up_to_127() {
    assert_eq!((ping(&[0]), ping(&[0x7f])), (Ok(0), Ok(127)));
}

#[test]
fn two_bytes_hold_128_up_to_16383() {
    assert_eq!((ping(&[0x80, 1]), ping(&[0xff, 0x7f])), (Ok(128), Ok(16_383)));
}

#[test]
fn ten_bytes_hold_the_largest_number() {
    let largest = [&[0xff; 9][..], &[0x01]].concat();
    assert_eq!(ping(&largest), Ok(u64::MAX));
}

#[test]
fn every_length_has_its_least_and_its_largest_number() {
    for bytes in 1..=9 {
        for number in [1_u64 << (7 * (bytes - 1)), (1 << (7 * bytes)) - 1] {
            let encoded = HubFrame::Ping { nonce: number }.to_bytes();
            assert_eq!(encoded.len(), 1 + bytes, "{number}");
            assert_eq!(ping(&encoded[1..]), Ok(number));
        }
    }
}

#[test]
fn a_longer_form_than_needed_is_refused() {
    for longer in [&[0x80, 0][..], &[0xff, 0], &[0x80, 0x80, 0], &[0x81, 0x80, 0]] {
        assert_eq!(ping(longer), Err(DecodeError::BadVarint), "{longer:x?}");
    }
}

#[test]
fn a_tenth_byte_beyond_64_bits_is_refused() {
    let beyond = [&[0xff; 9][..], &[0x02]].concat();
    assert_eq!(ping(&beyond), Err(DecodeError::BadVarint));
}

#[test]
fn an_eleventh_byte_is_refused() {
    let eleven = [&[0xff; 10][..], &[0x01]].concat();
    assert_eq!(ping(&eleven), Err(DecodeError::BadVarint));
}

#[test]
fn a_tenth_byte_that_says_more_follow_is_refused() {
    let more = [&[0x80; 9][..], &[0x81]].concat();
    assert_eq!(ping(&more), Err(DecodeError::BadVarint));
}

#[test]
fn a_varint_that_ends_early_is_truncated() {
    assert_eq!(ping(&[]), Err(DecodeError::Truncated));
    assert_eq!(ping(&[0xff; 9]), Err(DecodeError::Truncated));
}

#[test]
fn a_field_of_32_bits_holds_its_largest_number() {
    let largest = [0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(close(&largest, &[0]), Ok((u32::MAX, 0)));
}

#[test]
fn a_field_of_32_bits_refuses_a_larger_number() {
    let beyond = [0x80, 0x80, 0x80, 0x80, 0x10];
    assert_eq!(close(&beyond, &[0]), Err(DecodeError::BadVarint));
}

#[test]
fn a_field_of_16_bits_holds_its_largest_number() {
    assert_eq!(close(&[1], &[0xff, 0xff, 0x03]), Ok((1, u16::MAX)));
}

#[test]
fn a_field_of_16_bits_refuses_a_larger_number() {
    let beyond = [0x80, 0x80, 0x04];
    assert_eq!(close(&[1], &beyond), Err(DecodeError::BadVarint));
}
