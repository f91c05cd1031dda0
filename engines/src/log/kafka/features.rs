//! What this build of the client library can do: TLS and what stands on it comes with the cargo feature
//! `kafka-tls`, because it links OpenSSL.

use rdkafka::ClientConfig;

use crate::log::{LogError, Result};

/// Whether TLS, SASL SCRAM and OAUTHBEARER, and zstd are built in.
pub const HAS_TLS: bool = cfg!(feature = "kafka-tls");

/// Refuses what this build cannot do, naming what would. `key` is as the operator wrote it, `name` the client
/// library's.
///
/// The library's own words ("No such configuration property") send people to look for a typing error.
pub(super) fn check(key: &str, name: &str, value: &str) -> Result<()> {
    let names_kerberos = is_mechanism(name) && value.eq_ignore_ascii_case("GSSAPI");
    if names_kerberos || name.starts_with("sasl.kerberos.") {
        let reason =
            "this build has no Kerberos (GSSAPI); use PLAIN or SCRAM over TLS, or client certificates";
        return Err(LogError::Setting { key: key.to_owned(), reason: reason.to_owned() });
    }
    if HAS_TLS || !needs_tls(name, value) {
        return Ok(());
    }
    let reason = format!(
        "`{}` needs a rentroll built with OpenSSL: `cargo build --release --features kafka-tls` (Debian: libssl-dev, \
         pkg-config)",
        if name.starts_with("ssl.") || name.starts_with("enable.ssl.") { name } else { value }
    );
    Err(LogError::Setting { key: key.to_owned(), reason })
}

/// Refuses SASL without a mechanism: the library would take Kerberos, which it does not have.
pub(super) fn check_whole(client: &ClientConfig) -> Result<()> {
    let sasl =
        client.get("security.protocol").is_some_and(|value| value.to_ascii_lowercase().starts_with("sasl"));
    if !sasl || client.config_map().keys().any(|name| is_mechanism(name)) {
        return Ok(());
    }
    Err(LogError::Setting {
        key: "client.sasl.mechanism".to_owned(),
        reason: "is missing: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER".to_owned(),
    })
}

fn is_mechanism(name: &str) -> bool {
    name == "sasl.mechanism" || name == "sasl.mechanisms"
}

fn needs_tls(name: &str, value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    match name {
        "security.protocol" => value == "ssl" || value == "sasl_ssl",
        "sasl.mechanism" | "sasl.mechanisms" => value.starts_with("scram-") || value == "oauthbearer",
        "compression.type" => value == "zstd",
        _ => {
            name.starts_with("ssl.")
                || name.starts_with("enable.ssl.")
                || name.starts_with("sasl.oauthbearer.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS_TLS: [(&str, &str); 6] = [
        ("security.protocol", "SASL_SSL"),
        ("security.protocol", "ssl"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("ssl.ca.location", "/etc/ssl/ca.pem"),
        ("enable.ssl.certificate.verification", "true"),
        ("compression.type", "zstd"),
    ];

    #[test]
    fn what_needs_tls_is_refused_without_it_and_the_feature_named() {
        for (name, value) in NEEDS_TLS {
            let checked = check(&format!("client.{name}"), name, value);
            if HAS_TLS {
                assert!(checked.is_ok(), "{name}");
                continue;
            }
            let message = checked.unwrap_err().to_string();
            assert!(message.contains(&format!("client.{name}")), "{message}");
            assert!(message.contains("--features kafka-tls"), "{message}");
        }
    }

    #[test]
    fn what_needs_none_is_let_through() {
        for (name, value) in [
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "ssl.user"),
            ("compression.type", "lz4"),
        ] {
            assert!(check("k", name, value).is_ok(), "{name}");
        }
    }

    #[test]
    fn kerberos_is_in_no_build() {
        let message = check("client.sasl.mechanism", "sasl.mechanism", "GSSAPI").unwrap_err().to_string();
        assert!(message.contains("Kerberos"), "{message}");
    }

    #[test]
    fn sasl_needs_a_mechanism() {
        let mut client = ClientConfig::new();
        client.set("security.protocol", "SASL_PLAINTEXT");
        let message = check_whole(&client).unwrap_err().to_string();
        assert!(message.contains("sasl.mechanism") && message.contains("SCRAM-SHA-512"), "{message}");
        client.set("sasl.mechanisms", "PLAIN");
        assert!(check_whole(&client).is_ok());
    }
}
