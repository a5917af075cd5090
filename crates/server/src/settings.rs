//! What of the configuration can change while the server runs.

use crate::{Config, Error, api::ApiKeys, hosts::Hosts, origin::Origins, proxies::Proxies};

/// Settings that a reload replaces, all together.
pub(crate) struct Settings {
    pub(crate) origins: Origins,
    pub(crate) proxies: Proxies,
    pub(crate) hosts: Hosts,
    pub(crate) api_keys: ApiKeys,
    /// Certificates, if listeners speak TLS.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<std::sync::Arc<rustls::ServerConfig>>,
}

impl Settings {
    /// Takes the settings out of a configuration.
    ///
    /// # Errors
    /// When one of them has no meaning.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        #[cfg(not(feature = "tls"))]
        if !config.tls.is_empty() {
            return Err(Error::Config(
                "tls: this program was built without the feature tls".to_owned(),
            ));
        }
        Ok(Self {
            origins: Origins::new(&config.allow_origins)?,
            proxies: Proxies::new(&config.trusted_proxies)?,
            hosts: Hosts::new(&config.hosts)?,
            api_keys: ApiKeys::new(config)?,
            #[cfg(feature = "tls")]
            tls: crate::tls::configuration(config)?,
        })
    }
}
