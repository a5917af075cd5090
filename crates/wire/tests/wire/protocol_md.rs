//! The examples in PROTOCOL.md are golden vectors.

use std::collections::BTreeSet;

use crate::golden_file::{committed, unhex};

const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../PROTOCOL.md"));

/// Blocks fenced by "```hex hub-OPEN", by what follows `hex` and with their bytes.
fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let blocks = DOCUMENT.split("\n```hex ").skip(1);
    blocks
        .map(|block| {
            let (file, rest) = block.split_once('\n').unwrap();
            (file, unhex(rest.split("```").next().unwrap()))
        })
        .collect()
}

#[test]
fn every_example_is_a_golden_vector() {
    for (file, bytes) in examples() {
        let found = committed().iter().any(|((of, _), vector)| of == file && *vector == bytes);
        assert!(found, "PROTOCOL.md: {bytes:02x?} is not in {file}.hex");
    }
}

#[test]
fn every_golden_file_has_an_example() {
    let shown: BTreeSet<_> = examples().iter().map(|(file, _)| *file).collect();
    for (file, _) in committed().keys() {
        assert!(shown.contains(file.as_str()), "PROTOCOL.md shows no {file}");
    }
}
