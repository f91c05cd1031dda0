//! When the record at an offset arrived: the smallest read that tells it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::KafkaConfig;
use super::client::{Side, Voice, failed, not_made, settings};
use crate::log::Result;

/// How long to wait for the answers. They are worth little once they are late.
const ANSWERS_WAIT: Duration = Duration::from_secs(2);
/// A broker gives one batch of records however little is asked for, and that is enough.
const SETTINGS: [(&str, &str); 7] = [
    ("allow.auto.create.topics", "false"),
    ("enable.auto.commit", "false"),
    ("auto.offset.reset", "earliest"),
    ("fetch.message.max.bytes", "1024"),
    ("queued.min.messages", "1"),
    ("queued.max.messages.kbytes", "64"),
    // All partitions share a queue: one whose batch fills it must not make the others wait for long.
    ("fetch.queue.backoff.ms", "5"),
];

/// A client that is a member of no group and looks at single records.
pub(super) struct Peek {
    config: KafkaConfig,
    consumer: BaseConsumer<Voice>,
}

impl Peek {
    /// Asks under the group's name, since the library wants one; joins nothing.
    pub(super) fn new(config: &KafkaConfig, group: &str) -> Result<Self> {
        let mut client = settings(config, Side::Consumer, &SETTINGS)?;
        client.set("group.id", format!("{}{group}", config.prefix));
        let consumer = client
            .create_with_context(Voice::default())
            .map_err(|error| not_made("make a kafka client", error))?;
        Ok(Peek { config: config.clone(), consumer })
    }

    /// For each (partition, position): when its record arrived. Blocking.
    pub(super) fn arrivals(&self, name: &str, places: &[(u32, u64)]) -> Result<Vec<Option<i64>>> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let fail =
            |error| failed(&self.config, &format!("look into {name}"), error, self.consumer.context().take());
        let mut list = TopicPartitionList::with_capacity(places.len());
        for (partition, position) in places {
            // Kafka's offsets are below i64::MAX; what is above waits for ever and gives no answer.
            let offset = Offset::Offset(i64::try_from(*position).unwrap_or(i64::MAX - 1));
            list.add_partition_offset(name, *partition as i32, offset).map_err(fail)?;
        }
        self.consumer.assign(&list).map_err(fail)?;
        let mut found: BTreeMap<u32, i64> = BTreeMap::new();
        let deadline = Instant::now() + ANSWERS_WAIT;
        while found.len() < places.len() && Instant::now() < deadline {
            match self.consumer.poll(Duration::from_millis(50)) {
                Some(Ok(message)) => {
                    // What an earlier question had fetched ahead is before what this one asks for.
                    let place = (message.partition() as u32, message.offset() as u64);
                    let is_asked = places.iter().any(|asked| asked.0 == place.0 && asked.1 <= place.1);
                    if let (true, Some(arrived_at_ms)) = (is_asked, message.timestamp().to_millis()) {
                        found.entry(place.0).or_insert(arrived_at_ms);
                    }
                }
                Some(Err(error)) => tracing::debug!(%error, topic = name, "cannot look at a record"),
                None => {}
            }
        }
        self.consumer.unassign().map_err(fail)?;
        Ok(places.iter().map(|(partition, _)| found.get(partition).copied()).collect())
    }
}
