//! How much a server lets in.

use crate::config::Limits;

/// What the door lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) links: usize,
    /// Open files that links and upstream connections share.
    pub(crate) files: usize,
    /// 0 for no limit.
    pub(crate) links_per_ip: u32,
    /// 0 for no limit.
    pub(crate) links_per_user: u32,
    /// 0 for no limit.
    pub(crate) per_second: u32,
    /// The same of one address; 0 for no limit.
    pub(crate) per_ip_per_second: u32,
    pub(crate) handshakes: usize,
    pub(crate) http: usize,
    /// 0 for no limit.
    pub(crate) http_per_ip: u32,
}

impl Quota {
    pub(crate) const fn new(limits: &Limits) -> Self {
        Self {
            links: limits.links,
            files: usize::MAX,
            links_per_ip: limits.links_per_ip,
            links_per_user: limits.links_per_user,
            per_second: limits.handshakes_per_s,
            per_ip_per_second: limits.handshakes_per_s_per_ip,
            handshakes: limits.handshakes,
            http: limits.http_connections,
            http_per_ip: limits.http_per_ip,
        }
    }

    /// As much of it as there are file descriptors for, `reserved` of which are the server's own.
    /// The few that handshakes and HTTP get keep links from locking out `/healthz`.
    #[must_use]
    pub(crate) fn within(self, descriptors: u64, reserved: usize) -> Self {
        let spare = usize::try_from(descriptors).unwrap_or(usize::MAX).saturating_sub(reserved);
        // In a storm many are in their handshakes at once; for HTTP a few do.
        let handshakes = self.handshakes.min((spare / 8).max(2));
        let http = self.http.min((spare / 32).max(2));
        let files = spare.saturating_sub(handshakes + http).max(1);
        Self { links: self.links.min(files), files, handshakes, http, ..self }
    }

    /// As much of it as leaves three of four open files to upstream connections.
    #[must_use]
    pub(crate) fn beside_upstreams(self) -> Self {
        Self { links: self.links.min((self.files / 4).max(1)), ..self }
    }
}
