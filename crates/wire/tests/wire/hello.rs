//! How HELLO and WELCOME are told from those of another protocol or version.

use tabmux_wire::{DecodeError, HubFrame, MAGIC, ServerFrame};

/// Returns the reason why a HELLO of these versions is refused, whatever follows them.
fn hello(min: u8, max: u8) -> DecodeError {
    let bytes = [&[0x01][..], &MAGIC, &[min, max], &[0xee; 3]].concat();
    HubFrame::decode(&bytes).unwrap_err()
}

#[test]
fn hello_without_the_magic_bytes_is_of_no_tabmux_hub() {
    let refused = HubFrame::decode(b"\x01tabmax\x01\x01");
    assert_eq!(refused, Err(DecodeError::NotTabmux));
}

#[test]
fn welcome_without_the_magic_bytes_is_of_no_tabmux_server() {
    let refused = ServerFrame::decode(b"\x41tabmax\x01");
    assert_eq!(refused, Err(DecodeError::NotTabmux));
}

#[test]
fn hello_of_later_versions_says_so_whatever_follows() {
    let why = DecodeError::UnsupportedVersion { min: 3, max: 4 };
    assert_eq!(hello(3, 4), why);
}

#[test]
fn hello_of_earlier_versions_says_so_whatever_follows() {
    let why = DecodeError::UnsupportedVersion { min: 0, max: 0 };
    assert_eq!(hello(0, 0), why);
}

#[test]
fn both_ends_speak_the_newest_version_that_both_know() {
    for (oldest, newest, version) in [(1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 9, 2), (0, 1, 1)] {
        let bytes = [&[0x01][..], &MAGIC, &[oldest, newest], &[0; 9]].concat();
        let Ok(HubFrame::Hello(hello)) = HubFrame::decode(&bytes) else {
            panic!("{oldest} to {newest} is refused");
        };
        assert_eq!(hello.version(), version, "{oldest} to {newest}");
    }
}

#[test]
fn hello_whose_versions_run_backwards_is_of_no_version() {
    let why = DecodeError::UnsupportedVersion { min: 2, max: 1 };
    assert_eq!(hello(2, 1), why);
}

#[test]
fn welcome_of_another_version_says_so_whatever_follows() {
    let welcome = [&[0x41][..], &MAGIC, &[3], &[0xee; 3]].concat();
    let why = DecodeError::UnsupportedVersion { min: 3, max: 3 };
    assert_eq!(ServerFrame::decode(&welcome), Err(why));
}

#[test]
fn a_listed_tab_has_no_other_state_than_parked_and_aside() {
    let fixed = [&[0x41][..], &MAGIC, &[1], &[0; 32], &[1, 1, 1, 1]].concat();
    let limits = [0; 7];
    let tab = [&[1][..], &[0; 8], &[1, 4]].concat();
    let bytes = [fixed, limits.to_vec(), tab].concat();
    let refused = ServerFrame::decode(&bytes);
    assert_eq!(refused, Err(DecodeError::BadValue("tab state")));
}

#[test]
fn a_token_is_not_printed() {
    let token = tabmux_wire::Token(*b"token---16-bytes");
    assert_eq!(format!("{token:?}"), "Token(…)");
}
