//! TLS to upstreams.

#[cfg(feature = "wss")]
pub(super) use self::with::Tls;
#[cfg(not(feature = "wss"))]
pub(super) use self::without::Tls;

#[cfg(feature = "wss")]
mod with {
    use std::{io, path::Path, sync::Arc};

    use tokio::net::TcpStream;
    use tokio_rustls::{
        TlsConnector,
        rustls::{
            ClientConfig, RootCertStore,
            crypto::ring,
            pki_types::{CertificateDer, ServerName, pem::PemObject},
        },
    };

    use crate::{Route, gateway::dial::Stream};

    /// How a route speaks TLS to its upstreams.
    pub(in crate::gateway) struct Tls {
        connector: TlsConnector,
        /// The name of every certificate, in place of the host.
        name: Option<ServerName<'static>>,
    }

    impl Tls {
        /// Reads what a route says of TLS.
        ///
        /// # Errors
        /// The text says what cannot be read.
        pub(in crate::gateway) fn new(route: &Route) -> Result<Self, String> {
            let roots = match &route.ca_file {
                Some(path) => from_file(path)?,
                None => from_system(),
            };
            let provider = Arc::new(ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| format!("TLS: {error}"))?
                .with_root_certificates(roots)
                .with_no_client_auth();
            let name = route.server_name.clone().map(ServerName::try_from).transpose();
            let name = name.map_err(|_| "server_name is no name of a host".to_owned())?;
            Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
        }

        /// Begins TLS on a connection to a host.
        pub(in crate::gateway) async fn connect(
            &self,
            host: &str,
            stream: TcpStream,
        ) -> io::Result<Stream> {
            let of_host = || ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
            let name = self.name.clone().map_or_else(of_host, Ok).map_err(io::Error::other)?;
            let stream = self.connector.connect(name, stream).await?;
            Ok(Stream::Tls(Box::new(stream)))
        }
    }

    fn from_file(path: &Path) -> Result<RootCertStore, String> {
        let fault = |error: &dyn std::fmt::Display| format!("ca_file {}: {error}", path.display());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| fault(&error))? {
            let certificate = certificate.map_err(|error| fault(&error))?;
            roots.add(certificate).map_err(|error| fault(&error))?;
        }
        if roots.is_empty() { Err(fault(&"it has no certificate")) } else { Ok(roots) }
    }

    fn from_system() -> RootCertStore {
        let mut roots = RootCertStore::empty();
        // Where the system has none, no certificate counts, and the log says so at each dial.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    }
}

#[cfg(not(feature = "wss"))]
mod without {
    use std::{convert::Infallible, io};

    use tokio::net::TcpStream;

    use crate::{Route, gateway::dial::Stream};

    /// TLS that there is not.
    pub(in crate::gateway) struct Tls(Infallible);

    impl Tls {
        /// Says what is missing.
        pub(in crate::gateway) fn new(_: &Route) -> Result<Self, String> {
            Err("wss: this program was built without the feature wss".to_owned())
        }

        pub(in crate::gateway) async fn connect(
            &self,
            _: &str,
            _: TcpStream,
        ) -> io::Result<Stream> {
            match self.0 {}
        }
    }
}
