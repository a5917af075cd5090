use std::collections::BTreeSet;

use tabmux_wire::{FRAME_TYPES, Sender};

use crate::{
    frame::Frame,
    golden_file::{committed, expected},
};

#[test]
fn every_vector_decodes_to_its_frame() {
    for vector in expected() {
        let key = (vector.file(), vector.name.to_owned());
        let bytes = committed().get(&key);
        let bytes = bytes.unwrap_or_else(|| panic!("{key:?} is missing: run with UPDATE_GOLDEN=1"));
        let decoded = Frame::decode(vector.frame.sender(), bytes);
        assert_eq!(decoded.as_ref(), Ok(&vector.frame), "{key:?}");
    }
}

#[test]
fn every_frame_encodes_to_its_vector() {
    for vector in expected() {
        let key = (vector.file(), vector.name.to_owned());
        assert_eq!(Some(&vector.frame.to_bytes()), committed().get(&key), "{key:?}");
    }
}

#[test]
fn every_vector_has_its_frame() {
    let expected: BTreeSet<_> =
        expected().iter().map(|vector| (vector.file(), vector.name.to_owned())).collect();
    for key in committed().keys() {
        assert!(expected.contains(key), "{key:?} has no frame in the tests");
    }
}

#[test]
fn every_frame_type_has_a_vector() {
    let files: BTreeSet<_> = committed().keys().map(|(file, _)| file.as_str()).collect();
    for row in FRAME_TYPES {
        let side = match row.sender {
            Sender::Hub => "hub",
            Sender::Server => "server",
        };
        let file = format!("{side}-{}", row.name);
        assert!(files.contains(file.as_str()), "{file}.hex is missing");
    }
}
