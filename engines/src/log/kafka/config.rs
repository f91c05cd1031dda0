//! Where Kafka is, and how to speak to it.

use std::collections::BTreeMap;
use std::fmt;

use rentroll_schemas::topics::Topic;
use serde::{Deserialize, Serialize};

use super::Observer;
use super::client::{Side, Voice, not_made, settings};
use super::member::of_member;
use super::producer::of_producer;
use crate::log::{LogError, Result};

/// How members of a group come to their partitions. Both use a `range` assignor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupProtocol {
    /// The first member assigns, and at each change all stop for a moment. Every broker has it.
    #[default]
    Classic,
    /// KIP-848: the broker assigns, and only what moves is taken away. Brokers from 4.0 on have it.
    Consumer,
}

/// How the producer compresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    None,
    /// Cheap in CPU.
    #[default]
    Lz4,
    /// Smaller, at more CPU; in builds with the feature `kafka-tls`.
    Zstd,
}

impl Compression {
    /// The client library's name for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// Where Kafka is, and how to speak to it.
#[derive(Clone)]
pub struct KafkaConfig {
    /// `host:port`, several separated by commas; any of them that answers is enough to find the rest.
    pub brokers: String,
    /// Stands before the name of every topic and group, such as `prod.`: several installations can share a
    /// cluster. May be empty.
    pub prefix: String,
    /// How many partitions each topic must have.
    pub partitions: u32,
    /// How members come to their partitions.
    pub group_protocol: GroupProtocol,
    /// How records are compressed.
    pub compression: Compression,
    /// What may wait in memory for Kafka's acknowledgement, bytes. Past it an append waits, then fails as
    /// [`LogError::Unavailable`](crate::log::LogError::Unavailable).
    pub queue_bytes_max: u64,
    /// Settings of librdkafka, passed through: `security.protocol`, `sasl.username`, … A key that begins with
    /// `producer.` or `consumer.` goes to that side alone. Those on which the log's promises rest are refused.
    pub client: BTreeMap<String, String>,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        KafkaConfig {
            brokers: String::new(),
            prefix: String::new(),
            partitions: 0,
            group_protocol: GroupProtocol::default(),
            compression: Compression::default(),
            queue_bytes_max: KafkaConfig::QUEUE_BYTES,
            client: BTreeMap::new(),
        }
    }
}

impl KafkaConfig {
    /// The default of `queue_bytes_max`: at 50,000 events/s of 300 bytes half a second's worth. Doubled, a
    /// sidecar outgrows its 32 MiB while Kafka is slow; halved, a fast one waits for the acks in between.
    pub const QUEUE_BYTES: u64 = 8 << 20;

    /// Whether clients can be made of this; no broker is asked.
    ///
    /// # Errors
    /// [`LogError::Setting`]: the key, as below `log.kafka`, and what is wrong with it.
    pub fn check(&self) -> Result<()> {
        check_keys(self)?;
        for client in [of_producer(self)?, of_member(self)?] {
            client.create_native_config().map_err(|error| not_made("read the settings of kafka", error))?;
        }
        Ok(())
    }

    /// The topic's name in Kafka.
    pub fn topic(&self, topic: Topic) -> String {
        format!("{}{topic}", self.prefix)
    }

    pub(super) fn observer(&self, group: Option<&str>) -> Result<Observer> {
        let mut client = settings(self, Side::Consumer, &[("allow.auto.create.topics", "false")])?;
        if let Some(group) = group {
            client.set("group.id", format!("{}{group}", self.prefix));
            client.set("enable.auto.commit", "false");
        }
        let consumer = client
            .create_with_context(Voice::default())
            .map_err(|error| not_made("make a kafka client", error))?;
        Ok(Observer { config: self.clone(), consumer })
    }
}

impl fmt::Debug for KafkaConfig {
    /// Without the values passed through: there are passwords among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("prefix", &self.prefix)
            .field("partitions", &self.partitions)
            .field("group_protocol", &self.group_protocol)
            .field("compression", &self.compression)
            .field("queue_bytes_max", &self.queue_bytes_max)
            .field("client", &self.client.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// Whether the value of this client setting must not be shown.
pub fn is_secret(name: &str) -> bool {
    ["password", "secret", "key.pem", "oauthbearer.config"].iter().any(|part| name.contains(part))
}

/// A single record may have nearly that many bytes.
const QUEUE_BYTES_MIN: u64 = 1 << 20;
/// More than any process should hold unacknowledged.
const QUEUE_BYTES_LIMIT: u64 = 2 << 30;

/// Refuses what could not work, before a client is made of it.
fn check_keys(config: &KafkaConfig) -> Result<()> {
    let wrong = |key: &str, reason: &str| Err(LogError::Setting { key: key.into(), reason: reason.into() });
    if config.brokers.trim().is_empty() {
        return wrong("brokers", "names no broker");
    }
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    if !config.prefix.chars().all(allowed) || config.prefix.len() > 200 {
        return wrong("prefix", "a topic's name has letters, digits, `.`, `_`, `-`, and at most 249 of them");
    }
    if !(QUEUE_BYTES_MIN..=QUEUE_BYTES_LIMIT).contains(&config.queue_bytes_max) {
        return wrong("queue_bytes_max", "must be from 1048576 (1 MiB) to 2147483648 (2 GiB)");
    }
    if config.partitions == 0 || config.partitions > u32::from(u16::MAX) {
        return wrong("partitions", "must be from 1 to 65535");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_secrets() {
        let mut config = KafkaConfig::default();
        config.client.insert("sasl.password".into(), "hunter2".into());
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn unusable_settings_are_named() {
        for (change, key) in [
            (KafkaConfig { brokers: " ".into(), ..good() }, "brokers"),
            (KafkaConfig { prefix: "a/b".into(), ..good() }, "prefix"),
            (KafkaConfig { partitions: 0, ..good() }, "partitions"),
            (KafkaConfig { queue_bytes_max: 0, ..good() }, "queue_bytes_max"),
        ] {
            assert!(matches!(change.check(), Err(LogError::Setting { key: named, .. }) if named == key));
        }
    }

    #[test]
    fn what_the_library_does_not_know_is_named_without_a_broker() {
        for (key, value) in [("linger.minutes", "1"), ("consumer.fetch.wait.max.ms", "soon")] {
            let config = KafkaConfig { client: [(key.to_owned(), value.to_owned())].into(), ..good() };
            let message = config.check().unwrap_err().to_string();
            assert!(message.contains(key.trim_start_matches("consumer.")), "{message}");
        }
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        let secrets =
            ["sasl.password", "producer.ssl.key.password", "sasl.oauthbearer.client.secret", "ssl.key.pem"];
        assert!(secrets.into_iter().all(is_secret));
        assert!(!["sasl.username", "ssl.ca.pem", "ssl.key.location"].into_iter().any(is_secret));
    }

    fn good() -> KafkaConfig {
        KafkaConfig { brokers: "b:9092".into(), partitions: 4, ..KafkaConfig::default() }
    }
}
