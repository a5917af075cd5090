//! What is agreed on permessage-deflate (RFC 7692): no context is taken over, either way.

use std::str::from_utf8;

/// What a link agreed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Agreed {
    /// No message is deflated.
    #[default]
    Nothing,
    /// Messages may be deflated.
    Deflate,
    /// The same, by an offer that named the full window, which the answer must name too.
    FullWindow,
}

impl Agreed {
    /// Takes the first offer that can be met, of the values of all Sec-WebSocket-Extensions.
    pub(super) fn of<'a>(headers: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let texts = headers.into_iter().filter_map(|header| from_utf8(header).ok());
        texts.flat_map(|text| split(text, ',')).find_map(meet).unwrap_or_default()
    }

    /// The same, if the server wants it.
    pub(crate) fn only_if(self, wanted: bool) -> Self {
        if wanted { self } else { Self::Nothing }
    }

    /// Whether messages may be deflated.
    pub(crate) const fn is_on(self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// The answer's Sec-WebSocket-Extensions.
    pub(crate) const fn header(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Deflate => {
                Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
            }
            Self::FullWindow => Some(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=15",
            ),
        }
    }
}

/// What an offer comes to, if it can be met. One that wants a smaller window than the compressor
/// has cannot: it would need a compressor of its own.
fn meet(offer: &str) -> Option<Agreed> {
    let mut parts = split(offer, ';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
        return None;
    }
    let (mut agreed, mut seen) = (Agreed::Deflate, Vec::new());
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(unquote(value.trim_start()))),
            None => (part, None),
        };
        let name = name.to_ascii_lowercase();
        if seen.contains(&name) {
            return None;
        }
        match (name.as_str(), value) {
            // Both are done, whether the client asks for them or not. What window it has for its
            // own messages is of no matter: it is never larger than that of the inflater.
            ("server_no_context_takeover" | "client_no_context_takeover", None)
            | ("client_max_window_bits", None) => {}
            ("client_max_window_bits", Some(value)) if is_window(value) => {}
            ("server_max_window_bits", Some("15")) => agreed = Agreed::FullWindow,
            _ => return None,
        }
        seen.push(name);
    }
    Some(agreed)
}

/// 8 to 15, without a leading zero.
fn is_window(value: &str) -> bool {
    matches!(value, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15")
}

fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// The parts between separators, but for those within quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |found| {
        match found {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            _ => return found == separator && !quoted,
        }
        false
    })
}
