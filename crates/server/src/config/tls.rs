//! Certificates.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

/// A certificate and its key, in PEM files. A reload reads them again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TlsConfig {
    /// The certificate, and those between it and the authority.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl TlsConfig {
    /// Returns a certificate with its key.
    pub fn new(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { cert: cert.into(), key: key.into() }
    }
}

/// One table, or a list of them.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TlsConfig>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Tables {
        One(TlsConfig),
        Many(Vec<TlsConfig>),
    }

    Ok(match Tables::deserialize(deserializer)? {
        Tables::One(one) => vec![one],
        Tables::Many(many) => many,
    })
}
