//! What a tab asked for, made safe to be sent to an upstream.

use std::fmt;

/// Path and query of a socket, as they go to an upstream. The path begins with `/`, and has no dot
/// segments. Both are visible ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    path: String,
    query: Option<String>,
}

/// Why a target goes to no upstream. The page's programmer is at fault, or somebody who speaks the
/// protocol by hand: the URLs of browsers have none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadTarget {
    /// It does not begin with `/`.
    NoPath,
    /// It has this byte, which a URL has percent-encoded.
    Byte(u8),
    /// It has dot segments that some servers see and others do not.
    Dots,
}

impl Target {
    /// Reads the target of an OPEN as the path and query of a URL. Dot segments are resolved, also
    /// where they are percent-encoded.
    ///
    /// # Errors
    /// When it could mean something else to an upstream than it does here.
    pub fn parse(text: &str) -> Result<Self, BadTarget> {
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        let rest = path.strip_prefix('/').ok_or(BadTarget::NoPath)?;
        let bad = |byte: &u8| !is_plain(*byte) || b"`{}".contains(byte);
        if let Some(byte) = path.bytes().find(bad) {
            return Err(BadTarget::Byte(byte));
        }
        if let Some(byte) = query.unwrap_or("").bytes().find(|byte| !is_plain(*byte)) {
            return Err(BadTarget::Byte(byte));
        }
        Ok(Self { path: resolve(rest)?, query: query.map(str::to_owned) })
    }

    /// Returns the path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the path and the query as an upstream is sent them. `replaced` is the length of the
    /// part of the path that `base` takes the place of.
    pub(super) fn behind(&self, base: &str, replaced: usize) -> String {
        let rest = self.path.get(replaced..).unwrap_or("");
        let slash =
            if base.ends_with('/') || rest.starts_with('/') || rest.is_empty() { "" } else { "/" };
        let rest = if base.ends_with('/') { rest.trim_start_matches('/') } else { rest };
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{base}{slash}{rest}{query}")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.behind("", 0))
    }
}

impl fmt::Display for BadTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPath => f.write_str("the path of the socket does not begin with /"),
            Self::Byte(byte) => {
                let byte = char::from(*byte).escape_default();
                write!(f, "the address of the socket has {byte:?}, which must be percent-encoded")
            }
            Self::Dots => f.write_str("the path of the socket has hidden dot segments"),
        }
    }
}

/// Whether a URL may have a byte in its path or query as it is. A backslash counts as a slash in
/// some places and not in others, and `#` would end what is sent.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\' | b'"' | b'<' | b'>')
}

/// Resolves the dot segments of a path, which comes without its first slash.
fn resolve(path: &str) -> Result<String, BadTarget> {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match dots(segment) {
            Some(count) => {
                if count == 2 {
                    kept.pop();
                }
                // A folder: `/a/.` is `/a/`.
                if is_last {
                    kept.push("");
                }
            }
            None if hides_dots(segment) => return Err(BadTarget::Dots),
            None => kept.push(segment),
        }
    }
    Ok(format!("/{}", kept.join("/")))
}

/// Returns how many dots a segment is made of, if it is a dot segment of a URL.
fn dots(segment: &str) -> Option<usize> {
    match plain(segment).as_str() {
        "." => Some(1),
        ".." => Some(2),
        _ => None,
    }
}

/// Whether a segment has a dot segment for a server that decodes more than a URL parser does:
/// encoded slashes and backslashes, or parameters behind `;`.
fn hides_dots(segment: &str) -> bool {
    let decoded = plain(segment).replace("%2f", "/").replace("%5c", "/").replace("%3b", ";");
    let stems = decoded.split('/').map(|part| part.split(';').next().unwrap_or(part));
    decoded.contains(['/', ';']) && stems.into_iter().any(|stem| matches!(stem, "." | ".."))
}

/// Returns a segment in lower case with its dots decoded.
fn plain(segment: &str) -> String {
    segment.to_ascii_lowercase().replace("%2e", ".")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sent(text: &str) -> String {
        Target::parse(text).unwrap().to_string()
    }

    #[test]
    fn what_browsers_send_goes_through_as_it_is() {
        for text in [
            "/",
            "/chat",
            "/chat/",
            "/chat//x",
            "/a%20b/%C3%A4?q=%zz&x=[1]{2}|'`^",
            "/cable?token=a/../b",
            "/.well-known/...",
            "/a;v=1/b",
            "/a%2Fb",
        ] {
            assert_eq!(sent(text), text);
        }
    }

    #[test]
    fn dot_segments_are_resolved_as_in_a_url() {
        for (text, wanted) in [
            ("/chat/../admin", "/admin"),
            ("/chat/%2e%2E/admin?x", "/admin?x"),
            ("/chat/.%2e/..", "/"),
            ("/../../a", "/a"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/a/%2e", "/a/"),
        ] {
            assert_eq!(sent(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_servers_read_in_two_ways_is_refused() {
        for (text, wanted) in [
            ("", BadTarget::NoPath),
            ("chat", BadTarget::NoPath),
            ("?x", BadTarget::NoPath),
            ("http://a/", BadTarget::NoPath),
            ("/a b", BadTarget::Byte(b' ')),
            ("/a?b c", BadTarget::Byte(b' ')),
            ("/a\r\nHost: b", BadTarget::Byte(b'\r')),
            ("/a?\n", BadTarget::Byte(b'\n')),
            ("/a#b", BadTarget::Byte(b'#')),
            ("/a\\..\\b", BadTarget::Byte(b'\\')),
            ("/ä", BadTarget::Byte(0xc3)),
            ("/a\0", BadTarget::Byte(0)),
            ("/a/..%2fadmin", BadTarget::Dots),
            ("/a/%2e%2e%5Cadmin", BadTarget::Dots),
            ("/a%2f..%2fb", BadTarget::Dots),
            ("/a/..;/admin", BadTarget::Dots),
            ("/a/..%3bx/admin", BadTarget::Dots),
        ] {
            assert_eq!(Target::parse(text), Err(wanted), "{text}");
        }
    }

    #[test]
    fn the_base_of_an_upstream_takes_the_place_of_the_prefix() {
        let target = Target::parse("/chat/room?x=1").unwrap();
        for (base, replaced, wanted) in [
            ("", 0, "/chat/room?x=1"),
            ("/", "/chat/".len(), "/room?x=1"),
            ("/", "/chat".len(), "/room?x=1"),
            ("/v1", "/chat/".len(), "/v1/room?x=1"),
            ("/v1/", "/chat/".len(), "/v1/room?x=1"),
            ("/v1", "/chat/room".len(), "/v1?x=1"),
        ] {
            assert_eq!(target.behind(base, replaced), wanted);
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_is_one_word_of_visible_bytes_without_dot_segments(
            text in "(/|%2[eEfF]|[.]|%5c|;|[ -~]|\\PC){0,40}"
        ) {
            if let Ok(target) = Target::parse(&format!("/{text}")) {
                let sent = target.to_string();
                prop_assert!(sent.starts_with('/'));
                prop_assert!(sent.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(target.path().split('/').all(|part| dots(part).is_none()));
                // It is read as it is sent.
                prop_assert_eq!(Target::parse(&sent).unwrap(), target);
            }
        }
    }
}
