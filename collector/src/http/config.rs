//! `[collector.http]`: where to listen, what a success means, and the limits.

use std::net::SocketAddr;
use std::path::PathBuf;

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
        match self.reserved_sources.iter().find(|name| !rentroll_schemas::token::is_source(name)) {
            Some(name) => Err(("reserved_sources".to_owned(), format!("`{name}` cannot be a source's name"))),
            None => match &self.tls {
                Some(tls) if tls.client_cert_required && tls.client_ca.is_none() => {
                    Err(("tls.client_cert_required".to_owned(), "needs `client_ca`".to_owned()))
                }
                _ => Ok(()),
            },
        }
    }
}
