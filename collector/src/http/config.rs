//! `[collector.http]`: where to listen, what a success means, and the limits.

use std::net::SocketAddr;
use std::path::PathBuf;

use rentroll_schemas::token::is_source;
use serde::{Deserialize, Serialize};

use crate::outgoing::VALUE_BYTES_MAX;
use crate::spool::intake::Ack;

/// Where to listen if nothing else is said.
pub const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1)), 8402);

/// The section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Where to listen; unset: at [`LISTEN`] if there is a file of tokens, else nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// What a success rests on.
    pub ack: Ack,
    /// Largest body, as sent.
    pub body_bytes_max: usize,
    /// Largest body, after decompression.
    pub decoded_bytes_max: usize,
    /// Largest event.
    pub event_bytes_max: usize,
    /// Most events in one request.
    pub batch_events_max: usize,
    /// How long a request's head may take to come, and a TLS handshake.
    pub head_timeout_ms: u64,
    /// How long a body may take to begin, and what it has in hand besides its rate.
    pub body_timeout_ms: u64,
    /// A body that comes more slowly than this is cut off.
    pub body_bytes_per_second_min: u64,
    /// How long a connection may stay open between requests.
    pub idle_timeout_ms: u64,
    /// Most connections.
    pub connections_max: usize,
    /// Most requests in work at the same time.
    pub requests_max: usize,
    /// Most bytes that requests hold in memory at the same time: bodies, what waits to be durable, answers.
    pub bytes_in_flight_max: usize,
    /// Sources that no tenant's token may use, beside those of source tokens and configured sources.
    pub reserved_sources: Vec<String>,
    /// Certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

/// `[collector.http.tls]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The server's certificate and those between it and the root, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Roots of client certificates, PEM. A client that shows one is the trusted source of the certificate's DNS
    /// name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Whether clients must show a certificate, even those with a token.
    #[serde(default)]
    pub client_cert_required: bool,
    /// The sources that certificates may speak for, which no tenant's token may use. Unset: whatever a certificate
    /// names, and nothing is kept from tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<String>>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            listen: None,
            ack: Ack::Log,
            body_bytes_max: 4 << 20,
            decoded_bytes_max: 16 << 20,
            event_bytes_max: 256 << 10,
            batch_events_max: 10_000,
            head_timeout_ms: 10_000,
            body_timeout_ms: 10_000,
            body_bytes_per_second_min: 16 << 10,
            idle_timeout_ms: 60_000,
            connections_max: 1024,
            requests_max: 256,
            bytes_in_flight_max: 64 << 20,
            reserved_sources: Vec::new(),
            tls: None,
        }
    }
}

impl HttpConfig {
    /// The rules that the shape alone cannot express; the error is (key, reason).
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), (String, String)> {
        // A reject keeps an event's bytes in hexadecimal, and must fit a record.
        let event_limit = VALUE_BYTES_MAX / 2 - (16 << 10);
        let ranges = [
            ("body_bytes_max", self.body_bytes_max, 1 << 10, 1 << 30),
            ("decoded_bytes_max", self.decoded_bytes_max, self.body_bytes_max, 1 << 30),
            ("event_bytes_max", self.event_bytes_max, 1 << 10, event_limit),
            ("batch_events_max", self.batch_events_max, 1, 1_000_000),
            ("connections_max", self.connections_max, 1, 1 << 20),
            ("requests_max", self.requests_max, 1, 1 << 20),
            ("bytes_in_flight_max", self.bytes_in_flight_max, self.decoded_bytes_max, 1 << 40),
            ("head_timeout_ms", self.head_timeout_ms as usize, 10, 3_600_000),
            ("body_timeout_ms", self.body_timeout_ms as usize, 10, 3_600_000),
            ("body_bytes_per_second_min", self.body_bytes_per_second_min as usize, 1, 1 << 30),
            ("idle_timeout_ms", self.idle_timeout_ms as usize, 10, 86_400_000),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err((key.to_owned(), format!("must be from {least} to {most}")));
            }
        }
        names("reserved_sources", &self.reserved_sources)?;
        self.tls.as_ref().map_or(Ok(()), TlsConfig::check)
    }

    /// The names that no tenant's token may use, beside those of source tokens and configured sources.
    pub fn reserved(&self) -> impl Iterator<Item = &String> {
        let of_certificates = self.tls.iter().filter_map(|tls| tls.sources.as_ref()).flatten();
        self.reserved_sources.iter().chain(of_certificates)
    }
}

impl TlsConfig {
    fn check(&self) -> Result<(), (String, String)> {
        if self.client_cert_required && self.client_ca.is_none() {
            return Err(("tls.client_cert_required".to_owned(), "needs `client_ca`".to_owned()));
        }
        let Some(sources) = &self.sources else { return Ok(()) };
        if self.client_ca.is_none() {
            return Err(("tls.sources".to_owned(), "needs `client_ca`".to_owned()));
        }
        names("tls.sources", sources)
    }
}

fn names(key: &str, names: &[String]) -> Result<(), (String, String)> {
    match names.iter().find(|name| !is_source(name)) {
        Some(name) => Err((key.to_owned(), format!("`{name}` cannot be a source's name"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sources_are_names_and_those_of_certificates_need_roots() {
        let tls = |client_ca: Option<&str>, sources: &[&str]| HttpConfig {
            tls: Some(TlsConfig {
                cert: "a".into(),
                key: "b".into(),
                client_ca: client_ca.map(PathBuf::from),
                client_cert_required: false,
                sources: Some(sources.iter().map(|name| (*name).to_owned()).collect()),
            }),
            reserved_sources: vec!["gateway".to_owned()],
            ..HttpConfig::default()
        };
        let good = tls(Some("c"), &["edge.example"]);
        good.check().unwrap();
        assert_eq!(good.reserved().collect::<Vec<_>>(), ["gateway", "edge.example"]);
        for wrong in [tls(None, &["edge.example"]), tls(Some("c"), &["edge/eu"])] {
            assert_eq!(wrong.check().unwrap_err().0, "tls.sources");
        }
        let wrong = HttpConfig { reserved_sources: vec!["a/b".to_owned()], ..HttpConfig::default() };
        assert_eq!(wrong.check().unwrap_err().0, "reserved_sources");
    }
}
