//! The handshake of a WebSocket: what a request must have, and what is answered.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};

use super::Agreed;

/// What RFC 6455 has a server append to the client's key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The longest head that is read.
pub(crate) const MAX_HEAD: usize = 8 << 10;
const MAX_HEADERS: usize = 64;

/// Headers of every answer that is no upgrade: browsers guess no type, and give the answer to no
/// page of another site.
pub(crate) const NOSNIFF: (&str, &str) = ("x-content-type-options", "nosniff");
pub(crate) const CORP: (&str, &str) = ("cross-origin-resource-policy", "same-origin");

const NO_UPGRADE: &str = "this address speaks the tabmux protocol over a WebSocket; open it with \
                          the tabmux page library";

/// A request that may be answered with [`Offer::response`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Offer<'a> {
    /// What the answer's `Sec-WebSocket-Accept` says.
    pub(crate) accept: String,
    pub(crate) host: &'a [u8],
    pub(crate) origin: Option<&'a [u8]>,
    /// What the server and this client can agree on.
    pub(crate) deflate: Agreed,
    /// The values of `X-Forwarded-For`, in order.
    pub(crate) forwarded: Vec<&'a [u8]>,
    /// All headers.
    pub(crate) headers: Vec<(&'a str, &'a [u8])>,
    /// The path with its query, as `parse` found it; empty from `check`.
    pub(crate) target: &'a str,
}

/// Why there is no upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// For the programmer at the other end.
    pub(crate) text: String,
    /// Seconds until it is worth trying again.
    pub(crate) retry_after: Option<u32>,
}

/// Reads a request's head; `None` until all of it is there, which is looked for from `seen` on.
/// With the offer comes the length of the head: what follows belongs to the WebSocket.
pub(crate) fn parse(bytes: &[u8], seen: usize) -> Option<Result<(Offer<'_>, usize), Refusal>> {
    let from = seen.saturating_sub(3);
    let news = &bytes[from.min(bytes.len())..];
    let ended =
        news.windows(2).any(|end| end == b"\n\n") || news.windows(3).any(|end| end == b"\n\r\n");
    if !ended {
        return (bytes.len() >= MAX_HEAD).then(|| Err(too_long()));
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => {
            let (method, minor) = (request.method.unwrap_or(""), request.version.unwrap_or(0));
            let target = request.path.unwrap_or("");
            let headers = headers.iter().map(|header| (header.name, header.value));
            let headers = headers.take_while(|(name, _)| !name.is_empty());
            let offer = check(method, minor >= 1, headers);
            Some(offer.map(|offer| (Offer { target, ..offer }, len)))
        }
        Ok(httparse::Status::Partial) => None,
        Err(httparse::Error::TooManyHeaders) => Some(Err(too_many())),
        Err(error) => Some(Err(Refusal::new(400, &format!("the request is no HTTP: {error}")))),
    }
}

fn too_long() -> Refusal {
    Refusal::new(431, "the request's head is longer than 8 KiB")
}

fn too_many() -> Refusal {
    Refusal::new(431, "the request has more than 64 headers")
}

/// Whether a request asks for a WebSocket as RFC 6455 section 4.2.1 wants it. A head that another
/// server has read may be as long as one that [`parse`] reads, and no longer: parts of it may be
/// kept for as long as the session lives.
pub(crate) fn check<'a>(
    method: &str,
    http11: bool,
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<Offer<'a>, Refusal> {
    let headers = headers.collect::<Vec<_>>();
    if headers.len() > MAX_HEADERS {
        return Err(too_many());
    }
    let lines = headers.iter().map(|(name, value)| name.len() + value.len() + ": \r\n".len());
    if lines.sum::<usize>() > MAX_HEAD {
        return Err(too_long());
    }
    let seen = Seen::collect(headers.iter().copied())?;
    if method != "GET" {
        return Err(Refusal::new(405, NO_UPGRADE));
    }
    if !http11 {
        return Err(Refusal::new(400, "a WebSocket needs HTTP/1.1"));
    }
    if !seen.upgrade || !seen.connection {
        return Err(Refusal::new(426, NO_UPGRADE));
    }
    if seen.version != Some(b"13") {
        return Err(Refusal::new(426, "Sec-WebSocket-Version must be 13"));
    }
    if seen.body {
        return Err(Refusal::new(400, "an upgrade must not have a body"));
    }
    let host = seen.host.ok_or_else(|| Refusal::new(400, "the header Host is missing"))?;
    let key =
        seen.key.ok_or_else(|| Refusal::new(400, "the header Sec-WebSocket-Key is missing"))?;
    if !STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        return Err(Refusal::new(400, "Sec-WebSocket-Key must be 16 bytes in base64"));
    }
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let (origin, forwarded) = (seen.origin, seen.forwarded);
    let (accept, deflate) = (STANDARD.encode(digest), Agreed::of(seen.extensions));
    Ok(Offer { accept, host, origin, deflate, forwarded, headers, target: "" })
}

/// The headers that matter.
#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    key: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    extensions: Vec<&'a [u8]>,
    forwarded: Vec<&'a [u8]>,
    upgrade: bool,
    connection: bool,
    body: bool,
}

impl<'a> Seen<'a> {
    fn collect(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Self, Refusal> {
        let mut seen = Self::default();
        for (name, value) in headers {
            let value = value.trim_ascii();
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            let single = match name.len() {
                4 if is("host") => &mut seen.host,
                6 if is("origin") => &mut seen.origin,
                17 if is("sec-websocket-key") => &mut seen.key,
                21 if is("sec-websocket-version") => &mut seen.version,
                7..=24 => {
                    seen.collect_list(name, value);
                    continue;
                }
                _ => continue,
            };
            if single.replace(value).is_some() {
                return Err(Refusal::new(400, &format!("the header {name} came twice")));
            }
        }
        Ok(seen)
    }

    /// Notes a header that is a list, which may come in several headers, or that tells of a body.
    fn collect_list(&mut self, name: &str, value: &'a [u8]) {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("upgrade") {
            self.upgrade |= has_token(value, "websocket");
        } else if is("sec-websocket-extensions") {
            self.extensions.push(value);
        } else if is("x-forwarded-for") {
            self.forwarded.push(value);
        } else if is("connection") {
            self.connection |= has_token(value, "upgrade");
        } else if is("content-length") {
            self.body |= value != b"0";
        } else if is("transfer-encoding") {
            self.body = true;
        }
    }
}

fn has_token(list: &[u8], token: &str) -> bool {
    list.split(|&byte| byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

impl Offer<'_> {
    /// The answer that opens the WebSocket.
    pub(crate) fn response(&self) -> String {
        let mut head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n",
            self.accept
        );
        if let Some(extensions) = self.deflate.header() {
            // Writing to a string cannot fail.
            let _ = write!(head, "Sec-WebSocket-Extensions: {extensions}\r\n");
        }
        head + "\r\n"
    }
}

impl Refusal {
    pub(crate) fn new(status: u16, text: &str) -> Self {
        Self { status, text: format!("{text}\n"), retry_after: None }
    }

    /// The headers that this status owes.
    pub(crate) const fn headers(&self) -> &'static [(&'static str, &'static str)] {
        match self.status {
            405 => &[("allow", "GET")],
            426 => &[("upgrade", "websocket"), ("sec-websocket-version", "13")],
            _ => &[],
        }
    }

    /// The answer, after which the connection closes.
    pub(crate) fn response(&self) -> String {
        let name = match self.status {
            403 => "Forbidden",
            405 => "Method Not Allowed",
            421 => "Misdirected Request",
            426 => "Upgrade Required",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Bad Request",
        };
        let mut head = format!(
            "HTTP/1.1 {} {name}\r\ncontent-type: text/plain; charset=utf-8\r\n\
             content-length: {}\r\nconnection: close\r\n",
            self.status,
            self.text.len()
        );
        for (name, value) in [NOSNIFF, CORP].iter().chain(self.headers()) {
            // Writing to a string cannot fail.
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if let Some(seconds) = self.retry_after {
            let _ = write!(head, "retry-after: {seconds}\r\n");
        }
        head + "\r\n" + &self.text
    }
}
