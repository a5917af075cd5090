use proptest::{collection::vec, prelude::*, sample::select};
use tabmux_wire::{FRAME_TYPES, MAGIC};

use crate::{
    arbitrary::{hub_frame, server_frame},
    frame::{assert_accepted, assert_consistent},
};

proptest! {
    #[test]
    fn any_frame_of_a_hub_survives_its_bytes(frame in hub_frame()) {
        assert_accepted(frame);
    }

    #[test]
    fn any_frame_of_a_server_survives_its_bytes(frame in server_frame()) {
        assert_accepted(frame);
    }

    #[test]
    fn any_bytes_are_an_error_or_one_frame(bytes in vec(any::<u8>(), 0..64)) {
        assert_consistent(&bytes);
    }

    #[test]
    fn any_bytes_after_a_type_are_an_error_or_one_frame(bytes in after_a_type()) {
        assert_consistent(&bytes);
    }

    #[test]
    fn any_damage_to_a_frame_of_a_hub_is_an_error_or_one_frame(
        frame in hub_frame(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        damaged(frame.to_bytes(), &damage);
    }

    #[test]
    fn any_damage_to_a_frame_of_a_server_is_an_error_or_one_frame(
        frame in server_frame(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        damaged(frame.to_bytes(), &damage);
    }
}

/// Returns a known type, the magic bytes if the frame has them, and small numbers. Decoding such
/// bytes gets far.
fn after_a_type() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => 0..4_u8, 1 => any::<u8>()];
    (select(FRAME_TYPES), vec(byte, 0..64)).prop_map(|(row, rest)| {
        let magic: &[u8] = match row.name {
            "HELLO" | "WELCOME" => &MAGIC,
            _ => &[],
        };
        [&[row.code], magic, &rest].concat()
    })
}

fn damaged(mut bytes: Vec<u8>, damage: &[(prop::sample::Index, u8)]) {
    for (index, byte) in damage {
        let index = index.index(bytes.len());
        bytes[index] = *byte;
    }
    assert_consistent(&bytes);
}
