//! Whose a link is, for the limit of links per user, and for sessions.

use std::{fmt, net::IpAddr};

/// A request that would open a link.
#[derive(Clone, Copy)]
pub struct LinkRequest<'a> {
    pub(crate) headers: &'a [(&'a str, &'a [u8])],
    pub(crate) client: Option<IpAddr>,
    /// It came through a trusted proxy.
    pub(crate) proxied: bool,
}

/// Names the user of a request, if it has one.
pub(crate) type UserOf = Box<dyn Fn(&LinkRequest<'_>) -> Option<String> + Send + Sync>;

impl<'a> LinkRequest<'a> {
    /// The first header of a name in any case, such as `cookie`, if it is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        let value = std::str::from_utf8(found.1).ok()?.trim();
        value.is_ascii().then_some(value)
    }

    /// The client's address, behind `trusted_proxies`; `None` in an app that does not tell it.
    pub const fn client(&self) -> Option<IpAddr> {
        self.client
    }
}

impl fmt::Debug for LinkRequest<'_> {
    // Headers hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkRequest").field("client", &self.client).finish_non_exhaustive()
    }
}

/// Users by a header that a trusted proxy sets.
pub(crate) fn by_header(name: String) -> UserOf {
    Box::new(move |request| {
        // Else every client could use up the links of any user.
        let user = request.header(&name).filter(|_| request.proxied)?;
        (!user.is_empty()).then(|| user.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_a_trusted_proxy_sets_names_the_user() {
        let user = |value: &[u8], proxied| {
            let headers = [("host", &b"a"[..]), ("x-User", value)];
            by_header("X-USER".to_owned())(&LinkRequest {
                headers: &headers,
                client: None,
                proxied,
            })
        };
        assert_eq!(user(b" ann ", true).as_deref(), Some("ann"));
        assert_eq!(user(b" ann ", false), None);
        for value in [&b""[..], b"\xff", "ä".as_bytes()] {
            assert_eq!(user(value, true), None);
        }
    }
}
