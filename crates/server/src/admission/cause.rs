//! Why connections are not served.

/// Why a connection was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Draining,
    Links,
    LinksPerIp,
    LinksPerUser,
    Rate,
    /// Too many of its address came in a second.
    RatePerIp,
    /// It was the oldest of too many that had not said what they want.
    Handshakes,
    /// It did not say in time what it wants.
    Silent,
    Http,
    HttpPerIp,
    /// It called the server by a name that is not the server's.
    Host,
    /// Its handshake of TLS failed.
    Tls,
    Origin,
    /// It asked for what is no WebSocket.
    Malformed,
    /// It named its user twice.
    UserHeader,
    /// The application refused it.
    Judged,
    /// Too many waited to be judged.
    Judging,
    /// The application did not judge it in time.
    JudgeTimeout,
    /// The application failed when it judged.
    JudgeFailed,
}

impl Cause {
    pub(crate) const ALL: [Self; 19] = [
        Self::Draining,
        Self::Links,
        Self::LinksPerIp,
        Self::LinksPerUser,
        Self::Rate,
        Self::RatePerIp,
        Self::Handshakes,
        Self::Silent,
        Self::Http,
        Self::HttpPerIp,
        Self::Host,
        Self::Tls,
        Self::Origin,
        Self::Malformed,
        Self::UserHeader,
        Self::Judged,
        Self::Judging,
        Self::JudgeTimeout,
        Self::JudgeFailed,
    ];

    /// Its name in metrics: that of the limit, if there is one.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Links => "links",
            Self::LinksPerIp => "links_per_ip",
            Self::LinksPerUser => "links_per_user",
            Self::Rate => "handshakes_per_s",
            Self::RatePerIp => "handshakes_per_s_per_ip",
            Self::Handshakes => "handshakes",
            Self::Silent => "handshake_timeout",
            Self::Http => "http_connections",
            Self::HttpPerIp => "http_per_ip",
            Self::Host => "host",
            Self::Tls => "tls",
            Self::Origin => "origin",
            Self::Malformed => "malformed",
            Self::UserHeader => "user_header",
            Self::Judged => "judged",
            Self::Judging => "judging_queue",
            Self::JudgeTimeout => "judge_timeout",
            Self::JudgeFailed => "judge_failed",
        }
    }

    /// What the operator is told; `None` where there is nothing to do, or where it is told with
    /// the details elsewhere.
    pub(super) const fn advice(self) -> Option<&'static str> {
        match self {
            Self::Links => Some("limits.links is reached, or the limit of open files (ulimit -n)"),
            Self::LinksPerIp => Some(
                "limits.links_per_ip is reached; if the address is your proxy's, name it in \
                 trusted_proxies",
            ),
            Self::LinksPerUser => Some("limits.links_per_user is reached"),
            Self::Rate => Some("limits.handshakes_per_s is reached"),
            Self::RatePerIp => Some(
                "limits.handshakes_per_s_per_ip is reached; if the address is your proxy's, name \
                 it in trusted_proxies",
            ),
            Self::Handshakes => {
                Some("limits.handshakes is reached, and the oldest that have not said anything go")
            }
            Self::Http => Some("limits.http_connections is reached"),
            Self::HttpPerIp => Some(
                "limits.http_per_ip is reached; if the address is your proxy's, name it in \
                 trusted_proxies",
            ),
            Self::UserHeader => Some(
                "a request through a trusted proxy has the header of user_header twice; the proxy \
                 must replace what the client sends, and not append to it",
            ),
            Self::Judging => Some("limits.judging_queue is reached: the judge is too slow"),
            Self::JudgeTimeout => Some("the judge did not answer within judge_timeout_ms"),
            Self::JudgeFailed => {
                Some("the judge panicked, or has failed so often that it is not asked for now")
            }
            Self::Draining
            | Self::Silent
            | Self::Host
            | Self::Tls
            | Self::Origin
            | Self::Malformed
            | Self::Judged => None,
        }
    }
}
