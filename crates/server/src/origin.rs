//! Which pages may open a link. A browser sends cookies with a WebSocket handshake from any page,
//! so a server that does not look at the origin lets every site speak in its visitors' name.

use crate::{
    Error,
    logs::rarely,
    ws::upgrade::{Offer, Refusal},
};

/// The origins that are allowed besides the server's own.
pub(crate) struct Origins {
    exact: Vec<String>,
    /// Of `https://*.example.org`: the scheme, and `.example.org`.
    below: Vec<(String, String)>,
    all: bool,
}

impl Origins {
    pub(crate) fn new(allowed: &[String]) -> Result<Self, Error> {
        let (mut exact, mut below) = (Vec::new(), Vec::new());
        for origin in allowed.iter().filter(|origin| *origin != "*") {
            let fault = || {
                Error::Config(format!(
                    "allow_origins: {origin:?} is no origin; write it as https://example.org, or \
                     https://*.example.org for all names below one"
                ))
            };
            let parts = normal(&origin.replacen("://*.", "://", 1)).ok_or_else(fault)?;
            let (scheme, authority) = parts.split_once("://").ok_or_else(fault)?;
            if authority.contains('*') {
                return Err(fault());
            }
            if origin.contains("://*.") {
                below.push((scheme.to_owned(), format!(".{authority}")));
            } else {
                exact.push(parts);
            }
        }
        let all = allowed.iter().any(|origin| origin == "*");
        Ok(Self { exact, below, all })
    }

    /// Whether a handshake may open a link; if not, why, and what to do.
    pub(crate) fn check(&self, offer: &Offer<'_>) -> Result<(), Refusal> {
        self.judge(offer.origin, offer.host).map_err(|refusal| {
            // A wrong setting looks like this, but any page on the web can cause it.
            rarely!(warn, "handshake refused: {refusal}");
            Refusal::new(403, &refusal)
        })
    }

    /// Returns whether a page of this origin may use this host. Without an origin the peer is no
    /// browser, and may.
    pub(crate) fn allow(&self, origin: Option<&[u8]>, host: &[u8]) -> bool {
        self.judge(origin, host).is_ok()
    }

    /// Without an `Origin` the peer is no browser, and may.
    fn judge(&self, origin: Option<&[u8]>, host: &[u8]) -> Result<(), String> {
        let Some(origin) = origin else {
            return Ok(());
        };
        let origin = String::from_utf8_lossy(origin);
        let host = std::str::from_utf8(host).ok();
        if self.all || self.allows(&origin, host) {
            return Ok(());
        }
        Err(format!(
            "the origin {origin} may not open a link to {}; to allow it, start the server with \
             --allow-origin {origin}, or put it into allow_origins of the configuration",
            host.unwrap_or("this server"),
        ))
    }

    fn allows(&self, origin: &str, host: Option<&str>) -> bool {
        let Some(origin) = normal(origin) else {
            return false;
        };
        let same_host = host.is_some_and(|host| {
            let (scheme, authority) = origin.split_once("://").unwrap_or(("", &origin));
            authority == without_default_port(scheme, &host.to_ascii_lowercase())
        });
        same_host || self.exact.contains(&origin) || self.is_below(&origin)
    }

    fn is_below(&self, origin: &str) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else {
            return false;
        };
        self.below.iter().any(|(its, end)| {
            let front = authority.strip_suffix(end.as_str());
            its == scheme && front.is_some_and(|front| !front.is_empty())
        })
    }
}

/// An origin in lower case without a default port; `None` if it is none, such as `null`, or one of
/// another scheme than a website's.
fn normal(origin: &str) -> Option<String> {
    let origin = origin.to_ascii_lowercase();
    let (scheme, authority) = origin.split_once("://")?;
    if !["http", "https"].contains(&scheme)
        || authority.is_empty()
        || authority.contains(['/', '?', '#', '@', ' '])
    {
        return None;
    }
    Some(format!("{scheme}://{}", without_default_port(scheme, authority)))
}

fn without_default_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = if scheme == "https" { ":443" } else { ":80" };
    authority.strip_suffix(port).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: &[&str], origin: Option<&str>, host: &str) -> Result<(), String> {
        let allowed = allowed.iter().map(|&origin| origin.to_owned()).collect::<Vec<_>>();
        let origins = Origins::new(&allowed).unwrap();
        origins.judge(origin.map(str::as_bytes), host.as_bytes())
    }

    #[test]
    fn no_origin_is_no_browser() {
        assert_eq!(check(&[], None, "a.example"), Ok(()));
    }

    #[test]
    fn the_servers_own_host_may() {
        for (origin, host) in [
            ("https://a.example", "a.example"),
            ("https://a.example", "A.example:443"),
            ("http://a.example", "a.example:80"),
            ("http://localhost:3000", "localhost:3000"),
            ("http://[::1]:3000", "[::1]:3000"),
        ] {
            assert_eq!(check(&[], Some(origin), host), Ok(()), "{origin} {host}");
        }
    }

    #[test]
    fn another_host_port_or_none_may_not() {
        for (origin, host) in [
            ("https://b.example", "a.example"),
            ("http://localhost:3001", "localhost:3000"),
            ("https://a.example.b.example", "a.example"),
            ("http://a.example:443", "a.example"),
            ("null", "null"),
            ("https://a.example/path", "a.example/path"),
        ] {
            assert!(check(&[], Some(origin), host).is_err(), "{origin} {host}");
        }
    }

    #[test]
    fn a_refusal_names_the_option() {
        let refusal = check(&[], Some("https://b.example"), "a.example").unwrap_err();
        assert!(refusal.contains("--allow-origin https://b.example"), "{refusal}");
    }

    #[test]
    fn a_listed_origin_may() {
        assert_eq!(check(&["https://B.example:443"], Some("https://b.example"), "a"), Ok(()));
        assert!(check(&["https://b.example"], Some("http://b.example"), "a").is_err());
    }

    #[test]
    fn a_star_below_a_name_allows_the_names_below_it() {
        let allowed = ["https://*.a.example", "http://*.b.example:8080"];
        for (origin, may) in [
            ("https://x.a.example", true),
            ("https://X.y.a.example:443", true),
            ("https://a.example", false),
            ("https://.a.example", false),
            ("https://xa.example", false),
            ("https://x.a.example:8443", false),
            ("http://x.a.example", false),
            ("https://x.a.example.evil.example", false),
            ("http://x.b.example:8080", true),
            ("http://x.b.example", false),
        ] {
            assert_eq!(check(&allowed, Some(origin), "c").is_ok(), may, "{origin}");
        }
    }

    #[test]
    fn only_websites_are_of_the_servers_own_host() {
        for origin in ["ftp://a.example", "chrome-extension://a.example", "ws://a.example"] {
            assert!(check(&[], Some(origin), "a.example").is_err(), "{origin}");
        }
    }

    #[test]
    fn a_star_allows_all() {
        assert_eq!(check(&["*"], Some("null"), "a.example"), Ok(()));
    }

    #[test]
    fn what_is_no_origin_is_an_error() {
        let stars = ["https://*", "https://a.*.example", "https://*a.example", "*://a.example"];
        let more = ["https://*.", "https://*.*.a.example", "http://localhost:*", "ftp://a.example"];
        let plain = ["example.org", "https://", "https://a.example/", "null"];
        for origin in plain.into_iter().chain(stars).chain(more) {
            assert!(Origins::new(&[origin.to_owned()]).is_err(), "{origin}");
        }
    }
}
