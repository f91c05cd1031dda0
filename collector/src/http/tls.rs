//! Certificates: the server's own, and those of clients that are trusted sources by them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rentroll_schemas::token::is_source;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ServerConnection, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use super::auth::Speaker;
use super::config::TlsConfig;

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not what it should be.
    #[error("collector.http.tls.{key}: {path}: {reason}")]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The files do not belong together, or cannot be used.
    #[error("collector.http.tls: {0}")]
    Unusable(String),
}

/// The certificates in force.
pub struct Tls {
    config: TlsConfig,
    inner: RwLock<(Vec<Option<SystemTime>>, TlsAcceptor)>,
}

impl Tls {
    /// Reads the files that `config` names.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(config: TlsConfig) -> Result<Self, TlsError> {
        let stamps = stamps(&config);
        let acceptor = read(&config)?;
        Ok(Tls { config, inner: RwLock::new((stamps, acceptor)) })
    }

    /// Reads them again if one of them changed; whether it did.
    ///
    /// # Errors
    /// [`TlsError`]; the certificates read before stay in force.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let stamps = stamps(&self.config);
        if stamps == self.inner.read().unwrap_or_else(PoisonError::into_inner).0 {
            return Ok(false);
        }
        let acceptor = read(&self.config).inspect_err(|_| {
            // Told once, and tried again when a file changes.
            self.inner.write().unwrap_or_else(PoisonError::into_inner).0.clone_from(&stamps);
        })?;
        *self.inner.write().unwrap_or_else(PoisonError::into_inner) = (stamps, acceptor);
        Ok(true)
    }

    /// What accepts a connection now.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

fn stamps(config: &TlsConfig) -> Vec<Option<SystemTime>> {
    let paths = [Some(&config.cert), Some(&config.key), config.client_ca.as_ref()];
    let stamp = |path: &PathBuf| std::fs::metadata(path).and_then(|found| found.modified()).ok();
    paths.into_iter().flatten().map(stamp).collect()
}

fn read(config: &TlsConfig) -> Result<TlsAcceptor, TlsError> {
    let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable(error.to_string());
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates("client_ca", path)? {
                roots.add(root).map_err(|error| wrong("client_ca", path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier =
                if config.client_cert_required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| unusable(&error))?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|error| wrong("key", &config.key, &error))?;
    let mut server = builder
        .with_single_cert(certificates("cert", &config.cert)?, key)
        .map_err(|error| unusable(&error))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| wrong(key, path, &error))?.collect();
    match found.map_err(|error| wrong(key, path, &error))? {
        found if found.is_empty() => Err(wrong(key, path, &"no certificate in it")),
        found => Ok(found),
    }
}

fn wrong(key: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { key, path: path.to_owned(), reason: reason.to_string() }
}

/// Whom a client's certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certified {
    /// Nobody: there is none, or it has no name that can be a source's.
    Nobody,
    /// A trusted source.
    Source(Speaker),
    /// A name that `collector.http.tls.sources` does not have.
    Unlisted(String),
}

impl Tls {
    /// The trusted source that the client's certificate names: its first DNS name that can be one. The handshake has
    /// proved the certificate and its key already.
    pub fn certified(&self, connection: &ServerConnection) -> Certified {
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.and_then(|found| webpki::EndEntityCert::try_from(found).ok());
        let name =
            certificate.as_ref().and_then(|found| found.valid_dns_names().find(|name| is_source(name)));
        match (name, &self.config.sources) {
            (None, _) => Certified::Nobody,
            (Some(name), Some(listed)) if !listed.iter().any(|source| source == name) => {
                Certified::Unlisted(name.to_owned())
            }
            (Some(name), _) => Certified::Source(Speaker::of_certificate(name)),
        }
    }
}
