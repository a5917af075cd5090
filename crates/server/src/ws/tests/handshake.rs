//! The head of a request, right and wrong.

use crate::ws::upgrade::{self, MAX_HEAD};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn head(lines: &[&str]) -> String {
    format!("GET /tabmux/ws HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"))
}

/// The status of the answer.
fn status(text: &str) -> u16 {
    match upgrade::parse(text.as_bytes(), 0) {
        Some(Ok(_)) => 101,
        Some(Err(refusal)) => refusal.status,
        None => panic!("not whole: {text:?}"),
    }
}

/// The headers that a handshake needs.
fn full() -> Vec<String> {
    let lines = ["Host: a", "Upgrade: websocket", "Connection: Upgrade"].map(str::to_owned);
    let mut lines = lines.to_vec();
    lines.push(format!("Sec-WebSocket-Key: {KEY}"));
    lines.push("Sec-WebSocket-Version: 13".to_owned());
    lines
}

fn with(change: impl FnOnce(&mut Vec<String>)) -> u16 {
    let mut lines = full();
    change(&mut lines);
    status(&head(&lines.iter().map(String::as_str).collect::<Vec<_>>()))
}

#[test]
fn the_example_of_the_rfc() {
    let lines = full();
    let text = head(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let bytes = [text.as_bytes(), b"pipelined"].concat();
    let (offer, len) = upgrade::parse(&bytes, 0).unwrap().unwrap();
    assert_eq!(offer.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(&bytes[len..], b"pipelined");
    for seen in 0..text.len() {
        assert_eq!(upgrade::parse(&bytes[..seen], seen.saturating_sub(1)), None);
    }
}

#[test]
fn names_in_any_case_and_lists_in_any_number() {
    assert_eq!(with(|lines| lines.iter_mut().for_each(|line| line.make_ascii_uppercase())), 101);
    let lower = |line: &mut String| {
        let (name, value) = line.split_once(':').unwrap();
        *line = format!("{}:{value}", name.to_ascii_lowercase());
    };
    assert_eq!(with(|lines| lines.iter_mut().for_each(lower)), 101);
    assert_eq!(with(|lines| lines[2] = "Connection: keep-alive, Upgrade".to_owned()), 101);
    assert_eq!(with(|lines| lines.push("Connection: keep-alive".to_owned())), 101);
    assert_eq!(with(|lines| lines[1] = "Upgrade: h2c, WebSocket".to_owned()), 101);
    assert_eq!(with(|lines| lines.push("Content-Length: 0".to_owned())), 101);
}

#[test]
fn what_is_missing_doubled_or_wrong_is_told() {
    for (missing, expected) in [(0, 400), (1, 426), (2, 426), (3, 400), (4, 426)] {
        assert_eq!(with(|lines| drop(lines.remove(missing))), expected, "{}", full()[missing]);
    }
    for doubled in [0, 3, 4] {
        assert_eq!(with(|lines| lines.push(lines[doubled].clone())), 400, "{}", full()[doubled]);
    }
    assert_eq!(with(|lines| lines.extend(["Origin: a".to_owned(), "Origin: a".to_owned()])), 400);
    assert_eq!(with(|lines| lines[3] = "Sec-WebSocket-Key: c2hvcnQ=".to_owned()), 400);
    assert_eq!(with(|lines| lines[4] = "Sec-WebSocket-Version: 8".to_owned()), 426);
    assert_eq!(with(|lines| lines.push("Content-Length: 5".to_owned())), 400);
    assert_eq!(with(|lines| lines.push("Transfer-Encoding: chunked".to_owned())), 400);
    assert_eq!(with(|lines| lines.push("no header".to_owned())), 400);
    assert_eq!(with(|lines| lines.extend((0..64).map(|n| format!("X-{n}: 1")))), 431);
    let lines = full();
    let text = head(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(status(&text.replace("HTTP/1.1", "HTTP/1.0")), 400);
    assert_eq!(status(&text.replace("GET", "POST")), 405);
    let endless = format!("GET /tabmux/ws HTTP/1.1\r\nCookie: {}", "x".repeat(9_000));
    assert_eq!(status(&endless), 431);
}

#[test]
fn values_in_any_case_with_any_white_space() {
    assert_eq!(with(|lines| lines[1] = "upgrade:\tWeBsOcKeT \t".to_owned()), 101);
    assert_eq!(with(|lines| lines[2] = "CONNECTION:keep-alive\t,\tUPGRADE".to_owned()), 101);
    assert_eq!(with(|lines| lines[3] = format!("sec-websocket-key:{KEY}   ")), 101);
    assert_eq!(with(|lines| lines[4] = "Sec-Websocket-Version:   13".to_owned()), 101);
    assert_eq!(with(|lines| lines[2] = "Connection: ,, upgrade ,".to_owned()), 101);
    // Parts of words do not count, nor does another name.
    assert_eq!(with(|lines| lines[1] = "Upgrade: websockets".to_owned()), 426);
    assert_eq!(with(|lines| lines[1] = "Upgrade: websocket/13".to_owned()), 426);
    assert_eq!(with(|lines| lines[2] = "Connection: upgraded".to_owned()), 426);
    assert_eq!(with(|lines| lines[2] = "Proxy-Connection: Upgrade".to_owned()), 426);
    assert_eq!(with(|lines| lines[4] = "Sec-WebSocket-Version: 013".to_owned()), 426);
    assert_eq!(with(|lines| lines[4] = "Sec-WebSocket-Version: 13, 8".to_owned()), 426);
}

#[test]
fn what_a_key_may_be() {
    let key = |key: &str| with(|lines| lines[3] = format!("Sec-WebSocket-Key: {key}"));
    assert_eq!(key("AAAAAAAAAAAAAAAAAAAAAA=="), 101);
    for wrong in ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAAA=", "%%%%"] {
        assert_eq!(key(wrong), 400, "{wrong}");
    }
    let longer = "A".repeat(24);
    assert_eq!(key(&longer), 400);
}

#[test]
fn what_is_no_head_is_refused() {
    let lines = full();
    let text = head(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let folded = text.replace("Upgrade: websocket", "Upgrade:\r\n websocket");
    assert_eq!(status(&folded), 400, "a folded line");
    assert_eq!(status(&text.replace("Host: a", "Host : a")), 400, "a space before the colon");
    assert_eq!(status(&text.replace("Host: a", "Host: a\0")), 400, "a zero byte");
    assert_eq!(status(&text.replace("Host: a", ": a")), 400, "no name");
    assert_eq!(status(&text.replace("Host: a", "Ho\u{e9}st: a")), 400, "a name that is no token");
    assert_eq!(status(&text.replace("Host: a\r\n", "Host: a\r")), 400, "half an end of line");
    assert_eq!(status(&text.replace("HTTP/1.1", "HTTP/2.0")), 400, "another version");
    assert_eq!(status(&text.replace("HTTP/1.1", "HTCPCP/1.0")), 400, "another protocol");
    assert_eq!(status(&text.replace(" HTTP/1.1", "")), 400, "no version");
    // Bare line feeds are what the RFC lets a server take, and axum does.
    assert_eq!(status(&text.replace("\r\n", "\n")), 101, "bare line feeds");
}

#[test]
fn a_body_is_refused_however_it_is_said() {
    assert_eq!(with(|lines| lines.push("content-length: 1".to_owned())), 400);
    assert_eq!(with(|lines| lines.push("Content-Length: 00".to_owned())), 400);
    assert_eq!(with(|lines| lines.push("Content-Length: x".to_owned())), 400);
    assert_eq!(with(|lines| lines.push("transfer-encoding: identity".to_owned())), 400);
    let both = ["Content-Length: 0".to_owned(), "Transfer-Encoding: chunked".to_owned()];
    assert_eq!(with(|lines| lines.extend(both)), 400);
}

#[test]
fn a_head_may_be_8_kib_and_have_64_headers() {
    let lines = full();
    let text = head(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let padded = |len: usize| {
        let pad = len - text.len() - "Cookie: \r\n".len();
        text.replace("Host: a\r\n", &format!("Host: a\r\nCookie: {}\r\n", "x".repeat(pad)))
    };
    assert_eq!(padded(MAX_HEAD).len(), MAX_HEAD);
    assert_eq!(status(&padded(MAX_HEAD)), 101);
    assert_eq!(status(&padded(MAX_HEAD + 1)[..MAX_HEAD]), 431);
    assert_eq!(with(|lines| lines.extend((0..59).map(|n| format!("X-{n}: 1")))), 101);
    assert_eq!(with(|lines| lines.extend((0..60).map(|n| format!("X-{n}: 1")))), 431);
}
