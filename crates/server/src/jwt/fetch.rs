//! Fetching a key set.

use std::{fs, path::Path, time::Duration};

use ureq::{
    Agent,
    http::Uri,
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use crate::Error;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// The longest key set, in bytes.
const LONGEST: u64 = 256 << 10;
const REDIRECTS: u32 = 3;

/// Where a key set is.
pub(super) struct Source {
    url: String,
    agent: Agent,
}

impl Source {
    /// # Errors
    /// When the address is none that keys may come from, or the file has no certificate.
    pub(super) fn new(url: &str, authorities: Option<&Path>) -> Result<Self, Error> {
        let is_local = is_local(url)?;
        let mut tls = TlsConfig::builder();
        if let Some(path) = authorities {
            tls = tls.root_certs(certificates(path)?);
        }
        let config = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .https_only(!is_local)
            // A redirect of this machine could lead to another one, in clear.
            .max_redirects(if is_local { 0 } else { REDIRECTS })
            .tls_config(tls.build());
        Ok(Self { url: url.to_owned(), agent: config.build().into() })
    }

    /// Fetches the set, on a thread that may block.
    pub(super) async fn fetch(&self) -> Result<Vec<u8>, String> {
        let (agent, url) = (self.agent.clone(), self.url.clone());
        let fetching = tokio::task::spawn_blocking(move || {
            let mut response = agent.get(&url).call().map_err(|error| error.to_string())?;
            let body = response.body_mut().with_config().limit(LONGEST);
            body.read_to_vec().map_err(|error| error.to_string())
        });
        fetching.await.unwrap_or_else(|_| Err("the server ends".to_owned()))
    }
}

/// Returns true for an address of this machine. Others must be encrypted, since whoever can change
/// the answer can be any user.
fn is_local(url: &str) -> Result<bool, Error> {
    let fault = |why: &str| Error::Config(format!("jwt.jwks_url: {url} {why}"));
    let uri = url.parse::<Uri>().map_err(|_| fault("is no address"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => Ok(false),
        (Some("http"), Some("localhost" | "127.0.0.1" | "[::1]")) => Ok(true),
        (Some("http"), Some(_)) => Err(fault("must be an https: address")),
        _ => Err(fault("is no https: address")),
    }
}

fn certificates(path: &Path) -> Result<RootCerts, Error> {
    let at = path.display();
    let fault = |why: String| Error::Config(format!("jwt.jwks_ca_file: {at}: {why}"));
    let pem = fs::read(path).map_err(|error| fault(error.to_string()))?;
    let items = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(it)) => Some(it),
        Ok(_) | Err(_) => None,
    });
    let certificates = items.collect::<Vec<Certificate<'static>>>();
    if certificates.is_empty() {
        return Err(fault("there is no certificate in PEM".to_owned()));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}
