//! Whatever a hub says in OPEN, an upstream is sent one request line of three words and the headers
//! of a WebSocket's handshake, or nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tabmux_server::gateway::{Target, request_head};

// The target ends at the first byte 0xff, and each sub-protocol at the next.
fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|byte| *byte == 0xff).map(String::from_utf8_lossy);
    let target = parts.next().unwrap_or_default();
    let protocols = parts.collect::<Vec<_>>();
    let protocols = protocols.iter().map(|it| &**it).collect::<Vec<_>>();
    let Some(head) = request_head(None, &target, &protocols) else {
        return;
    };
    let head = String::from_utf8(head).expect("a head of ASCII");
    let head = head.strip_suffix("\r\n\r\n").expect("a whole head");
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let words = first.split(' ').collect::<Vec<_>>();
    let ["GET", path, "HTTP/1.1"] = words[..] else { panic!("{first:?}") };
    assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()), "{path:?}");
    let parsed = Target::parse(path).expect("what is sent is a target");
    assert_eq!(parsed.to_string(), path, "it means what it says");
    assert!(!parsed.path().split('/').any(|part| part == ".." || part == "."), "{path:?}");
    let names = lines.map(|line| line.split_once(": ").expect("a header").0.to_ascii_lowercase());
    let mut names = names.collect::<Vec<_>>();
    names.sort_unstable();
    names.retain(|name| name != "sec-websocket-protocol");
    let wanted =
        ["connection", "host", "sec-websocket-key", "sec-websocket-version", "upgrade"];
    assert_eq!(names, wanted);
    assert!(head.bytes().all(|byte| byte.is_ascii_graphic() || b" \r\n".contains(&byte)));
});
