//! Whose a link is, for the limit of links per user, and for sessions.

use std::{fmt, net::IpAddr};

use crate::ws::upgrade::Refusal;

/// A request that would open a link.
#[derive(Clone, Copy)]
pub struct LinkRequest<'a> {
    pub(crate) headers: &'a [(&'a str, &'a [u8])],
    pub(crate) client: Option<IpAddr>,
    /// It came through a trusted proxy.
    pub(crate) proxied: bool,
    /// It came over TLS of this server.
    pub(crate) is_encrypted: bool,
}

/// Names the user of a request, if it has one. A refusal if it names two.
pub(crate) type UserOf =
    Box<dyn Fn(&LinkRequest<'_>) -> Result<Option<String>, Refusal> + Send + Sync>;

impl<'a> LinkRequest<'a> {
    /// Returns the first header of a name in any case, such as `cookie`, if it is visible ASCII.
    ///
    /// A client can send a header twice. If your proxy appends its header to those of the client,
    /// the first one is the client's: look at [`values`](Self::values), and name no user if there
    /// are two.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let value = std::str::from_utf8(self.values(name).next()?).ok()?.trim();
        value.is_ascii().then_some(value)
    }

    /// Returns the values of all headers of a name in any case, in the order of the request.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let found = self.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| *value)
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
        if !request.proxied {
            return Ok(None);
        }
        // One of them is the client's: the proxy appends where it must replace.
        if request.values(&name).nth(1).is_some() {
            return Err(Refusal::new(400, &format!("the header {name} came twice")));
        }
        let user = request.header(&name);
        if user.is_none() && request.values(&name).next().is_some() {
            // As nobody it would share the link of everybody else of such a name.
            let fault = format!("the header {name} has bytes that are not ASCII");
            return Err(Refusal::new(400, &fault));
        }
        Ok(user.filter(|user| !user.is_empty()).map(str::to_owned))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_a_trusted_proxy_sets_names_the_user() {
        let user = |value: &[u8], proxied| {
            let headers = [("host", &b"a"[..]), ("x-User", value)];
            let request =
                LinkRequest { headers: &headers, client: None, proxied, is_encrypted: false };
            by_header("X-USER".to_owned())(&request).map_err(|refusal| refusal.status)
        };
        assert_eq!(user(b" ann ", true), Ok(Some("ann".to_owned())));
        assert_eq!(user(b" ann ", false), Ok(None));
        assert_eq!(user(b"", true), Ok(None));
        for value in [&b"\xff"[..], "ä".as_bytes()] {
            assert_eq!(user(value, true), Err(400));
            assert_eq!(user(value, false), Ok(None));
        }
    }

    #[test]
    fn all_values_of_a_header_are_there_in_order() {
        let headers = [("X-User", &b"ann"[..]), ("host", b"a"), ("x-user", b"\xff")];
        let request =
            LinkRequest { headers: &headers, client: None, proxied: true, is_encrypted: false };
        assert_eq!(request.values("x-USER").collect::<Vec<_>>(), [&b"ann"[..], b"\xff"]);
        assert_eq!(request.values("cookie").count(), 0);
    }
}
