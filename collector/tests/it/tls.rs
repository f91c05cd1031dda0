//! TLS, client certificates, and certificates that change.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rentroll_collector::http::config::{HttpConfig, TlsConfig};
use rentroll_schemas::token::{Grant, Token, Tokens};
use rentroll_schemas::topics::Topic;
use rentroll_testing::http::{Answer, request};
use rentroll_testing::wait_until;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};

use crate::rig::{JSON, Rig, event};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn root(name: &str) -> Issuer {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key for `name`, PEM.
fn issue(issuer: &Issuer, name: &str, usage: ExtendedKeyUsagePurpose) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn serve(dir: &Path, issuer: &Issuer) {
    let (cert, key) = issue(issuer, "localhost", ExtendedKeyUsagePurpose::ServerAuth);
    std::fs::write(dir.join("server.key"), key).unwrap();
    std::fs::write(dir.join("server.pem"), cert).unwrap();
}

fn rig(server: &Issuer, clients: Option<(&Issuer, bool)>) -> Rig {
    rig_for(server, clients, None)
}

/// With the sources that certificates may speak for.
fn rig_for(server: &Issuer, clients: Option<(&Issuer, bool)>, sources: Option<&[&str]>) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    serve(dir.path(), server);
    if let Some((issuer, _)) = clients {
        std::fs::write(dir.path().join("clients.pem"), issuer.pem()).unwrap();
    }
    let tls = TlsConfig {
        cert: dir.path().join("server.pem"),
        key: dir.path().join("server.key"),
        client_ca: clients.map(|_| dir.path().join("clients.pem")),
        client_cert_required: clients.is_some_and(|(_, required)| required),
        sources: sources.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
    };
    let log = crate::rig::open_log(&dir.path().join("log"));
    let config = HttpConfig { tls: Some(tls), head_timeout_ms: 1_000, ..HttpConfig::default() };
    Rig::with(dir, config, log, None)
}

/// Posts over TLS, trusting `server`, with a certificate of its own if there is one.
fn post(
    rig: &Rig,
    server: &Issuer,
    own: Option<&(String, String)>,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<Answer> {
    let mut roots = RootCertStore::empty();
    roots.add(server.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => config.with_no_client_auth(),
        Some((cert, key)) => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(rig.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(&request("POST", "/v1/events", headers, body.as_bytes()))?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if answer.is_empty() => Err(error),
        _ => Answer::parse(&answer),
    }
}

#[test]
fn a_client_certificate_names_a_trusted_source() {
    let (server, clients, strangers) = (root("server-root"), root("client-root"), root("stranger-root"));
    let rig = rig(&server, Some((&clients, false)));
    let edge = issue(&clients, "edge.example", ExtendedKeyUsagePurpose::ClientAuth);
    let own = event("edge.example/eu", 1, "acme");
    assert_eq!(post(&rig, &server, Some(&edge), &[JSON], &own).unwrap().status, 204);
    assert_eq!(post(&rig, &server, Some(&edge), &[JSON], &event("other", 1, "acme")).unwrap().status, 403);
    // Nobody without a token or a certificate; nobody with a stranger's.
    assert_eq!(post(&rig, &server, None, &[JSON], &own).unwrap().status, 401);
    let stranger = issue(&strangers, "edge.example", ExtendedKeyUsagePurpose::ClientAuth);
    assert!(post(&rig, &server, Some(&stranger), &[JSON], &own).is_err());
    // A server's certificate is not a client's.
    let wrong = issue(&clients, "edge.example", ExtendedKeyUsagePurpose::ServerAuth);
    assert!(post(&rig, &server, Some(&wrong), &[JSON], &own).is_err());
    assert_eq!(rig.read(Topic::Usage).len(), 1);
    let place = String::from_utf8(rig.read(Topic::Rejects)[0].value.to_vec()).unwrap();
    assert!(place.contains("http:cert-edge.example:"), "{place}");
}

#[test]
fn certificates_speak_for_the_sources_that_are_listed_and_tenants_do_not() {
    let (server, clients) = (root("server-root"), root("client-root"));
    let rig = rig_for(&server, Some((&clients, false)), Some(&["edge.example"]));
    let grant = Grant::Tenant { tenant: "acme".into() };
    let (token, secret) = Token::make("t1".into(), &[7; 32], grant, String::new(), Utc::now(), None);
    std::fs::write(rig.dir.path().join("tokens.toml"), Tokens { tokens: vec![token] }.to_toml().unwrap())
        .unwrap();
    let edge = issue(&clients, "edge.example", ExtendedKeyUsagePurpose::ClientAuth);
    let other = issue(&clients, "other.example", ExtendedKeyUsagePurpose::ClientAuth);
    let own = event("edge.example", 1, "acme");
    assert_eq!(post(&rig, &server, Some(&edge), &[JSON], &own).unwrap().status, 204);
    let refused = post(&rig, &server, Some(&other), &[JSON], &event("other.example", 1, "acme")).unwrap();
    assert_eq!(refused.status, 401);
    for part in ["other.example", "collector.http.tls.sources"] {
        assert!(refused.body.contains(part), "{}", refused.body);
    }
    // A token goes before the certificate, and what the certificates speak for is closed to it.
    let bearer = format!("Bearer {secret}");
    let headers = [JSON, ("authorization", &bearer)];
    let by_token =
        |source: &str| post(&rig, &server, Some(&other), &headers, &event(source, 2, "acme")).unwrap();
    assert_eq!(
        wait_until(Duration::from_secs(5), || (by_token("api").status == 204).then_some(())),
        Some(())
    );
    let refused = by_token("edge.example/eu");
    assert_eq!((refused.status, refused.body.contains("trusted source")), (403, true), "{}", refused.body);
    assert_eq!(by_token("other.example").status, 204);
}

#[test]
fn where_certificates_are_required_nobody_speaks_without() {
    let (server, clients) = (root("server-root"), root("client-root"));
    let rig = rig(&server, Some((&clients, true)));
    let own = event("edge", 1, "acme");
    assert!(post(&rig, &server, None, &[JSON], &own).is_err());
    let edge = issue(&clients, "edge", ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(post(&rig, &server, Some(&edge), &[JSON], &own).unwrap().status, 204);
    // A token that is wrong is not mended by a certificate.
    let headers = [JSON, ("authorization", "Bearer rr_x")];
    assert_eq!(post(&rig, &server, Some(&edge), &headers, &own).unwrap().status, 401);
}

#[test]
fn a_new_certificate_is_served_without_a_restart() {
    let (old, new) = (root("old-root"), root("new-root"));
    let rig = rig(&old, None);
    let own = event("edge", 1, "acme");
    assert_eq!(post(&rig, &old, None, &[JSON], &own).unwrap().status, 401);
    assert!(post(&rig, &new, None, &[JSON], &own).is_err());
    serve(rig.dir.path(), &new);
    let served = wait_until(Duration::from_secs(5), || post(&rig, &new, None, &[JSON], &own).ok());
    assert_eq!(served.map(|answer| answer.status), Some(401));
    // One that cannot be used changes nothing.
    std::fs::write(rig.dir.path().join("server.pem"), "nonsense").unwrap();
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(post(&rig, &new, None, &[JSON], &own).unwrap().status, 401);
}

#[test]
fn who_speaks_no_tls_is_cut() {
    let server = root("server-root");
    let rig = rig(&server, None);
    let mut plain = TcpStream::connect(rig.address).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    plain.write_all(&request("POST", "/v1/events", &[JSON], b"{}")).unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    // And who says nothing, too.
    let mut silent = TcpStream::connect(rig.address).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(silent.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert!(begun.elapsed() < Duration::from_secs(3));
}
