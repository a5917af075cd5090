//! Who may open a link, as the application decides it.

mod breaker;
mod cache;
mod room;
mod turns;

use std::{
    fmt,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::http::{HeaderName, HeaderValue, request::Parts};
use tabmux_core::session::{Secret, Visitor};

pub(crate) use self::room::{Answer, NoVerdict, Room};

/// A request that would open a link, complete and checked: its origin may open links, and its
/// address has room.
#[derive(Clone)]
#[non_exhaustive]
pub struct Handshake {
    /// The method, the URI, the headers, and, in an app of yours, the extensions that its layers
    /// have set.
    pub parts: Parts,
    /// The client's address, behind `trusted_proxies`; `None` in an app that does not tell it.
    pub client: Option<IpAddr>,
    /// True if the request came through a trusted proxy.
    pub is_proxied: bool,
    /// What the page shows, once its hub has said HELLO.
    credentials: Option<Secret>,
}

/// The answer of a judge that lets a link in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    user: Option<String>,
    kept: Vec<HeaderName>,
    granted: Vec<String>,
    until: Option<SystemTime>,
    needs_credentials: bool,
}

/// The answer of a judge that lets nobody in. The page reads the text, in `status` of its client
/// and in the `error` event of its sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    retry: Option<Duration>,
    message: String,
}

/// What a judge answers.
pub type Verdict = Result<Admitted, Refusal>;

/// Asks the application.
pub(crate) type Hook =
    Arc<dyn Fn(Handshake) -> Pin<Box<dyn Future<Output = Verdict> + Send>> + Send + Sync>;

/// Names what makes two requests the same to a judge.
pub(crate) type KeyOf = Box<dyn Fn(&Handshake) -> Option<String> + Send + Sync>;

impl Handshake {
    /// Makes a request as a judge sees it, for tests of a judge. The server makes its own.
    ///
    /// ```
    /// use axum::http::Request;
    /// use tabmux_server::Handshake;
    ///
    /// let request = Request::get("/tabmux/ws").header("cookie", "session=abc");
    /// let (parts, ()) = request.body(()).unwrap().into_parts();
    /// let handshake = Handshake::new(parts, None, false);
    /// assert_eq!(handshake.cookie("session"), Some("abc"));
    /// ```
    pub const fn new(parts: Parts, client: Option<IpAddr>, is_proxied: bool) -> Self {
        Self { parts, client, is_proxied, credentials: None }
    }

    /// The same request with credentials. They are empty if the page shows none.
    #[must_use]
    pub fn with_credentials(mut self, credentials: &str) -> Self {
        self.credentials = Some(Secret(credentials.into()));
        self
    }

    /// Returns the credentials that the hub shows, in HELLO or later. A judge sees them when it is
    /// asked again, after the link is open. At first there are none. They are empty if the judge
    /// wanted some ([`Admitted::needs_credentials`]) and the page shows none.
    pub fn credentials(&self) -> Option<&str> {
        self.credentials.as_ref().map(|secret| &*secret.0)
    }

    /// Makes the request of a link whose own is not kept any more: it has the headers that were
    /// kept ([`Admitted::keep`]).
    pub(crate) fn of(visitor: Option<&Visitor>) -> Self {
        let (mut parts, ()) = axum::http::Request::new(()).into_parts();
        if let Some(Visitor::Admitted(known)) = visitor {
            for (name, value) in &known.headers {
                if let Ok(name) = HeaderName::from_bytes(name.as_bytes())
                    && let Ok(value) = HeaderValue::from_bytes(value)
                {
                    parts.headers.append(name, value);
                }
            }
        }
        Self::new(parts, None, false)
    }

    /// Returns the value of a header that came once, in any case of its name, if it is visible
    /// ASCII. A header that came twice counts as none: one of the two may be the client's.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.parts.headers.get_all(name).iter();
        let value = values.next()?;
        if values.next().is_some() { None } else { value.to_str().ok() }
    }

    /// Returns the value of a parameter of the link's address, as it stands there.
    pub fn query(&self, name: &str) -> Option<&str> {
        let mut pairs = self.parts.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Returns the value of a cookie, if it is UTF-8. Other cookies may hold any bytes: browsers
    /// send what scripts and other hosts of the site have set.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let values = self.parts.headers.get_all("cookie").iter();
        let mut pairs = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
        pairs.find_map(|pair| {
            let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            std::str::from_utf8(value).ok()
        })
    }
}

impl fmt::Debug for Handshake {
    // Headers hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Handshake");
        debug.field("path", &self.parts.uri.path()).field("client", &self.client);
        debug.finish_non_exhaustive()
    }
}

impl Admitted {
    /// Lets a link in that is nobody's.
    pub const fn nobody() -> Self {
        Self {
            user: None,
            kept: Vec::new(),
            granted: Vec::new(),
            until: None,
            needs_credentials: false,
        }
    }

    /// Lets the link open, and has the judge asked again as soon as the page has shown its
    /// credentials. Nothing else is read before that, and the link has no session. If the judge
    /// needs them then too, the link is refused for good.
    ///
    /// ```
    /// use tabmux_server::{Admitted, Refusal, Server};
    /// # async fn user_of(token: &str) -> Option<String> { None }
    ///
    /// let builder = Server::builder().judge(|request| async move {
    ///     match request.credentials() {
    ///         None => Ok(Admitted::needs_credentials()),
    ///         Some(token) => match user_of(token).await {
    ///             Some(user) => Ok(Admitted::user(user)),
    ///             None => Err(Refusal::never("log in first")),
    ///         },
    ///     }
    /// });
    /// # drop(builder);
    /// ```
    pub const fn needs_credentials() -> Self {
        Self {
            user: None,
            kept: Vec::new(),
            granted: Vec::new(),
            until: None,
            needs_credentials: true,
        }
    }

    /// Lets in a link of a user, of whom the name is known. Names are equal for one user, and
    /// differ for two. Only links of one user share a session. Anything but the empty name will do.
    pub fn user(name: impl Into<String>) -> Self {
        Self { user: Some(name.into()), ..Self::nobody() }
    }

    /// Has the server keep a header of the request, for [`Ctx::header`](crate::Ctx::header). It
    /// takes memory for as long as the session lives. A name that no header can have is ignored.
    #[must_use]
    pub fn keep(mut self, header: &str) -> Self {
        self.kept.extend(HeaderName::from_bytes(header.as_bytes()).ok());
        self
    }

    /// Lets the browser subscribe to topics whose names have a pattern, as in
    /// [`TopicRule::pattern`](crate::TopicRule::pattern), where their rule says
    /// [`Access::Granted`](crate::Access::Granted). `{user}` stands for any part here. A pattern
    /// without meaning grants nothing. Each takes memory for as long as the session lives.
    #[must_use]
    pub fn grant(mut self, pattern: impl Into<String>) -> Self {
        self.granted.push(pattern.into());
        self
    }

    /// Returns the patterns of the topics that it grants.
    pub(crate) fn granted(&self) -> Box<[Box<str>]> {
        self.granted.iter().map(|pattern| Box::from(&**pattern)).collect()
    }

    /// Ends the link at this moment, for example when a token expires. The hub dials again then,
    /// and is judged again. Its session waits for it, so a browser that shows newer credentials in
    /// time loses nothing. A moment that has passed refuses the link.
    #[must_use]
    pub const fn until(mut self, moment: SystemTime) -> Self {
        self.until = Some(moment);
        self
    }

    /// Returns how long the link may live; `None` for ever. It is zero if the moment has passed.
    pub(crate) fn lives(&self) -> Option<Duration> {
        let left = |until: SystemTime| until.duration_since(SystemTime::now()).unwrap_or_default();
        self.until.map(left)
    }

    /// Returns true if the page has to show credentials first.
    pub(crate) const fn is_undecided(&self) -> bool {
        self.needs_credentials
    }

    /// Refuses what is undecided although the page has shown what it has.
    pub(crate) fn decided(self) -> Verdict {
        if self.needs_credentials {
            Err(Refusal::never("credentials are needed"))
        } else {
            Ok(self)
        }
    }

    /// Refuses what has expired by now.
    pub(crate) fn unexpired(self) -> Verdict {
        match self.lives() {
            Some(Duration::ZERO) => Err(Refusal::never("the credentials have expired")),
            Some(_) | None => Ok(self),
        }
    }

    /// Returns the user's name.
    pub(crate) fn name(&self) -> Option<&str> {
        self.user.as_deref().filter(|name| !name.is_empty())
    }

    /// Returns whether a header is to be kept.
    pub(crate) fn keeps(&self, name: &str) -> bool {
        self.kept.iter().any(|it| it.as_str() == name)
    }

    /// Returns the headers of a request that are to be kept.
    pub(crate) fn headers(&self, parts: &Parts) -> Vec<(Box<str>, Box<[u8]>)> {
        let mut kept = Vec::new();
        for name in &self.kept {
            for value in parts.headers.get_all(name) {
                kept.push((name.as_str().into(), value.as_bytes().into()));
            }
        }
        kept.shrink_to_fit();
        kept
    }
}

impl Refusal {
    /// Refuses for good: the page does not try again before another page is loaded, or before it
    /// calls `reconnect()`. A session that the browser had is lost, with its sockets.
    pub fn never(message: impl Into<String>) -> Self {
        Self { retry: None, message: message.into() }
    }

    /// Refuses for now: the page tries again after this time, and a browser that had a session goes
    /// on with it then. Times are not more exact than a millisecond.
    pub fn retry_after(retry: Duration, message: impl Into<String>) -> Self {
        Self { retry: Some(retry), message: message.into() }
    }

    /// Returns when to try again; `None` for never.
    pub const fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Returns the text.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}
