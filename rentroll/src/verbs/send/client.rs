//! A client of a collector: one connection, kept open, made again when it breaks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// Largest answer read: a verdict on each of 10,000 events is about 2 MB.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// What `Retry-After` says.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Bytes,
}

/// PEM files of a client.
#[derive(Clone, Debug, Default)]
pub struct Certificates<'a> {
    /// Roots to trust instead of the system's.
    pub ca: Option<&'a Path>,
    /// The client's own certificate and key.
    pub own: Option<(&'a Path, &'a Path)>,
}

/// Sends batches to one address.
pub struct Client {
    uri: Uri,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    tls: Option<TlsConnector>,
    timeout: Duration,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// For `url`, with `token` if any. Connects with the first batch.
    ///
    /// # Errors
    /// Names what is wrong with the address, the token or the certificates.
    pub fn new(
        url: &str,
        token: Option<&str>,
        certificates: &Certificates<'_>,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("`{url}` is not an address"))?;
        let authority = uri.authority().with_context(|| format!("`{url}` names no host"))?;
        let host = HeaderValue::from_str(authority.as_str()).context("the host cannot be sent")?;
        let authorization = token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).context("not a token")?;
            value.set_sensitive(true);
            anyhow::Ok(value)
        });
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => Some(connector(certificates)?),
            _ => anyhow::bail!("`{url}` does not begin with http:// or https://"),
        };
        Ok(Client { host, authorization: authorization.transpose()?, tls, timeout, connection: None, uri })
    }

    /// Sends `events`, a JSON array. An error is one of the connection, or a time-out: the events may have been
    /// taken, and to send them again is harmless.
    ///
    /// # Errors
    /// As said.
    pub async fn send(&mut self, events: Bytes) -> anyhow::Result<Reply> {
        let timeout = self.timeout;
        let exchange = async {
            let mut connection = match self.connection.take().filter(SendRequest::is_ready) {
                Some(open) => open,
                None => self.connect().await?,
            };
            let mut request = Request::post(self.uri.path_and_query().map_or("/", |path| path.as_str()))
                .header(HOST, &self.host)
                .header(CONTENT_TYPE, "application/json");
            if let Some(authorization) = &self.authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
            let answer = connection.send_request(request.body(Full::new(events))?).await?;
            let status = answer.status();
            let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after = retry_after.and_then(|value| value.parse().ok()).map(Duration::from_secs);
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes();
            // Between two requests the connection is as good as it was; it notices when it is closed.
            let _ = connection.ready().await;
            self.connection = Some(connection);
            Ok(Reply { status, retry_after, body })
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(reply) => reply,
            Err(_) => anyhow::bail!("no answer within {} s", timeout.as_secs()),
        }
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.uri.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await;
        let stream = stream.with_context(|| format!("cannot connect to {host}:{port}"))?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => handshake(stream).await,
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned()).context("not a name for TLS")?;
                let stream = tls.connect(name, stream).await;
                handshake(stream.with_context(|| format!("TLS with {host}:{port} failed"))?).await
            }
        }
    }
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Its error is told to the request in work, too.
        let _ = connection.await;
    });
    Ok(sender)
}

fn connector(certificates: &Certificates<'_>) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    match certificates.ca {
        Some(path) => {
            for root in pem(path)? {
                roots.add(root).with_context(|| path.display().to_string())?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            anyhow::ensure!(!roots.is_empty(), "the system has no root certificates; name some with --ca");
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match certificates.own {
        None => config.with_no_client_auth(),
        Some((cert, key)) => {
            let key = PrivateKeyDer::from_pem_file(key).with_context(|| key.display().to_string())?;
            config.with_client_auth_cert(pem(cert)?, key)?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn pem(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    read().with_context(|| path.display().to_string())
}
