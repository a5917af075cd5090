//! TLS in the process, by rustls: certificates, and which of them a client gets.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, DnsName, PrivateKeyDer, ServerName, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{Config, Error, config::TlsConfig};

/// What TLS speaks inside: no HTTP/2, which carries no WebSocket here.
const PROTOCOL: &[u8] = b"http/1.1";

/// Reads the certificates of a configuration. Returns nothing if it has none.
///
/// # Errors
/// When a file cannot be read, has no certificate or key, or a key is not that of its certificate.
pub(crate) fn configuration(config: &Config) -> Result<Option<Arc<ServerConfig>>, Error> {
    if config.tls.is_empty() {
        return Ok(None);
    }
    let keys = config.tls.iter().map(|tls| certified(tls).map(Arc::new));
    let certificates = Certificates(keys.collect::<Result<_, _>>()?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| Error::Config(format!("tls: {error}")))?;
    let mut server = builder.with_no_client_auth().with_cert_resolver(Arc::new(certificates));
    server.alpn_protocols = vec![PROTOCOL.to_vec()];
    // Nobody is answered before the handshake is done: what comes first could be played again.
    server.max_early_data_size = 0;
    Ok(Some(Arc::new(server)))
}

/// Certificates with their keys. Clients that name no host, or none of these, get the first.
struct Certificates(Vec<Arc<CertifiedKey>>);

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({})", self.0.len())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| DnsName::try_from(name).ok());
        let named = name.and_then(|name| {
            let name = ServerName::DnsName(name.to_owned());
            self.0.iter().find(|certified| is_for(certified, &name))
        });
        named.or_else(|| self.0.first()).map(Arc::clone)
    }
}

fn is_for(certified: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let first = certified.cert.first();
    let parsed = first.and_then(|first| webpki::EndEntityCert::try_from(first).ok());
    parsed.is_some_and(|parsed| parsed.verify_is_valid_for_subject_name(name).is_ok())
}

fn certified(tls: &TlsConfig) -> Result<CertifiedKey, Error> {
    let fault =
        |path: &Path, what: &str| Err(Error::Config(format!("tls: {}: {what}", path.display())));
    let chain =
        CertificateDer::pem_file_iter(&tls.cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = match chain {
        Ok(chain) if chain.is_empty() => return fault(&tls.cert, "there is no certificate in it"),
        Ok(chain) => chain,
        Err(error) => return fault(&tls.cert, &error.to_string()),
    };
    let key = match PrivateKeyDer::from_pem_file(&tls.key) {
        Ok(key) => key,
        Err(error) => return fault(&tls.key, &error.to_string()),
    };
    let provider = rustls::crypto::ring::default_provider();
    match CertifiedKey::from_der(chain, key, &provider) {
        Ok(certified) => Ok(certified),
        Err(error) => fault(&tls.key, &format!("it is no key of {}: {error}", tls.cert.display())),
    }
}
