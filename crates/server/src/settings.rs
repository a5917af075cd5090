//! What of the configuration can change while the server runs.

use crate::{ApiKey, Config, Error, origin::Origins, proxies::Proxies};

/// Settings that a reload replaces, all together.
pub(crate) struct Settings {
    pub(crate) origins: Origins,
    pub(crate) proxies: Proxies,
    pub(crate) api_key: Option<ApiKey>,
}

impl Settings {
    /// Takes the settings out of a configuration.
    ///
    /// # Errors
    /// When one of them has no meaning.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        Ok(Self {
            origins: Origins::new(&config.allow_origins)?,
            proxies: Proxies::new(&config.trusted_proxies)?,
            api_key: config.api_key.clone(),
        })
    }
}
