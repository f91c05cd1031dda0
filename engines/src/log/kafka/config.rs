//! Where Kafka is, and how to speak to it.

use std::collections::BTreeMap;
use std::fmt;

use rentroll_schemas::topics::Topic;
use serde::{Deserialize, Serialize};

use super::Observer;
use super::client::{Side, Voice, not_made, settings};
use crate::log::Result;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_secrets() {
        let mut config = KafkaConfig::default();
        config.client.insert("sasl.password".into(), "hunter2".into());
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
