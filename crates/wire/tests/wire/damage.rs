//! Every damage of one place to every golden vector: an error, or one frame; never a panic.

use crate::{frame::assert_consistent, golden_file::committed};

#[test]
fn every_truncation_is_an_error_or_one_frame() {
    for bytes in committed().values() {
        for len in 0..bytes.len() {
            assert_consistent(&bytes[..len]);
        }
    }
}

#[test]
fn every_flipped_bit_is_an_error_or_one_frame() {
    for bytes in committed().values() {
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_consistent(&bytes);
        }
    }
}

#[test]
fn every_replaced_byte_is_an_error_or_one_frame() {
    for bytes in committed().values() {
        for index in 0..bytes.len() {
            let mut bytes = bytes.clone();
            for byte in 0..=u8::MAX {
                bytes[index] = byte;
                assert_consistent(&bytes);
            }
        }
    }
}

#[test]
fn every_inserted_byte_is_an_error_or_one_frame() {
    for bytes in committed().values() {
        for index in 0..=bytes.len() {
            let mut bytes = bytes.clone();
            bytes.insert(index, 0);
            for byte in 0..=u8::MAX {
                bytes[index] = byte;
                assert_consistent(&bytes);
            }
        }
    }
}
