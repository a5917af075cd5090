//! How tokens are checked, as the configuration says it.

use std::path::PathBuf;

use serde::Deserialize;

/// The section `[jwt]` of the configuration. Exactly one of `secret_file`, `public_key_file`,
/// `jwks_file` and `jwks_url` is set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct JwtConfig {
    /// A file with a secret of at least 32 bytes, for HS256. White space at its end is not part of
    /// the secret.
    pub secret_file: Option<PathBuf>,
    /// A file with a public key in PEM: RSA, P-256 or Ed25519.
    pub public_key_file: Option<PathBuf>,
    /// A file with a JSON Web Key Set (RFC 7517). It is read once.
    pub jwks_file: Option<PathBuf>,
    /// The `https:` address of a JSON Web Key Set. It is fetched when the first token comes, again
    /// every 5 minutes while tokens come, and at most once a minute for a key id that is not known.
    /// `http:` is for addresses of this machine alone.
    pub jwks_url: Option<String>,
    /// A file with certificates in PEM that `jwks_url` is checked against, in place of those that
    /// browsers trust.
    pub jwks_ca_file: Option<PathBuf>,
    /// How long the keys of the last good answer count while `jwks_url` gives none, in seconds.
    /// Default: 86,400, a day.
    pub jwks_keep_s: u64,
    /// What `iss` must be. Default: anything.
    pub issuer: Option<String>,
    /// What `aud` must name. Without it, tokens that have `aud` are refused.
    pub audience: Option<String>,
    /// How far clocks may differ, in seconds, for `exp` and `nbf`. Default: 60.
    pub leeway_s: u64,
    /// The claim that names the user. Default: `sub`.
    pub user_claim: String,
    /// The claim that lists patterns of topics, to which the user's browsers may subscribe where
    /// the rule of a topic says `subscribe = "granted"`: a text, or a list of texts. Default:
    /// none.
    pub topics_claim: Option<String>,
    /// The cookie that has the token. A token in `Authorization: Bearer` comes first. Default:
    /// none.
    pub cookie: Option<String>,
    /// The parameter of the link's address that has the token, for pages that cannot have it in a
    /// cookie: `connect(() => '/?token=' + token)`. It comes last. Default: none.
    pub query: Option<String>,
    /// Whether a link without a token may open, which is then nobody's. Default: `false`.
    pub anonymous: bool,
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            secret_file: None,
            public_key_file: None,
            jwks_file: None,
            jwks_url: None,
            jwks_ca_file: None,
            jwks_keep_s: 86_400,
            issuer: None,
            audience: None,
            leeway_s: 60,
            user_claim: "sub".to_owned(),
            topics_claim: None,
            cookie: None,
            query: None,
            anonymous: false,
        }
    }
}
