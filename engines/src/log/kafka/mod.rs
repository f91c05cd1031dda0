//! The event log in Apache Kafka.
//!
//! - **Append**: one idempotent producer, `acks=all`, compressed; the partition is stated, by
//!   [`Identity::partition`](rentroll_schemas::Identity::partition), so both logs and every version of the
//!   client agree on it. A full queue is back-pressure: the append waits for room, then fails as
//!   [`LogError::Unavailable`] and the caller keeps the records.
//! - **Read**: a consumer group with the `range` assignor, so that one member has partition *n* of both
//!   lanes; by the classic protocol (the first member assigns) or the newer one of KIP-848 (the broker assigns,
//!   and only what moves is taken away). Positions are Kafka's offsets. A commit is answered by the group's coordinator before it returns.
//! - **Topics** are never made by the way: [`topics::create_topics`] makes them, and
//!   opening the log fails where they are missing or differ in partitions.
//!
//! Limits: a record of a foreign producer whose key is not 16 bytes is given an identity of its place; header
//! text that is not UTF-8 is mended. Changing the number of partitions is a planned operation: it moves
//! identities to other partitions, and with them the dedup window.

mod client;
mod commit;
mod config;
pub mod features;
mod member;
mod peek;
mod producer;
mod queue;
mod reader;
pub(crate) mod record;
pub mod topics;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rentroll_schemas::topics::Topic;

use self::client::{ANSWER_WAIT, Voice, failed, lock, once_led};
pub use self::config::{Compression, GroupProtocol, KafkaConfig, is_secret};
use self::member::KafkaSubscription;
use self::peek::Peek;
use self::producer::Producer;
use super::{BoxFuture, EventLog, Lag, LogError, Record, Result, Subscription};

/// The event log in Apache Kafka.
pub struct KafkaLog {
    config: KafkaConfig,
    producer: Producer,
    /// One client per group whose lag was asked for: making one costs connections and threads.
    observers: Mutex<HashMap<String, Arc<Observer>>>,
    /// By group, for the same reason. One question at a time.
    peeks: Mutex<HashMap<String, Peek>>,
}

impl KafkaLog {
    /// Connects, and checks that the topics are there with the stated partitions. Blocking.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] if no broker answers within 10 s; [`LogError::Topics`] if topics are missing
    /// or have other partitions; [`LogError::Setting`] for a setting that cannot be used.
    pub fn open(config: KafkaConfig) -> Result<Self> {
        config.check()?;
        let producer = Producer::new(&config)?;
        let found = config.observer(None)?.partitions()?;
        topics_hold(&config, &found)?;
        Ok(KafkaLog { config, producer, observers: Mutex::default(), peeks: Mutex::default() })
    }

    fn observer(&self, group: &str) -> Result<Arc<Observer>> {
        let mut observers = lock(&self.observers);
        if let Some(observer) = observers.get(group) {
            return Ok(Arc::clone(observer));
        }
        let observer = Arc::new(self.config.observer(Some(group))?);
        observers.insert(group.to_owned(), Arc::clone(&observer));
        Ok(observer)
    }
}

impl EventLog for KafkaLog {
    fn partitions(&self) -> u32 {
        self.config.partitions
    }

    fn append(&self, topic: Topic, records: Vec<Record>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.producer.append(&self.config.topic(topic), self.config.partitions, records).await
        })
    }

    fn subscribe(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Subscription>> {
        let names = topics.iter().map(|topic| (self.config.topic(*topic), *topic)).collect();
        Ok(Box::new(KafkaSubscription::join(&self.config, group, names)?))
    }

    fn lag(&self, group: &str, topic: Topic) -> Result<Vec<Lag>> {
        self.observer(group)?.lag(&self.config.topic(topic), self.config.partitions)
    }

    fn arrivals(&self, group: &str, topic: Topic, places: &[(u32, u64)]) -> Result<Vec<Option<i64>>> {
        let mut peeks = lock(&self.peeks);
        let peek = match peeks.entry(group.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Peek::new(&self.config, group)?),
        };
        peek.arrivals(&self.config.topic(topic), places)
    }
}

/// The topics are there, and with the stated partitions; else an error that names each fault.
fn topics_hold(config: &KafkaConfig, found: &BTreeMap<Topic, u32>) -> Result<()> {
    let faults: Vec<String> = Topic::ALL
        .into_iter()
        .filter_map(|topic| match found.get(&topic) {
            None => Some(format!("topic {} is missing", config.topic(topic))),
            Some(partitions) if *partitions != config.partitions => Some(format!(
                "topic {} has {partitions} partitions instead of {}",
                config.topic(topic),
                config.partitions
            )),
            Some(_) => None,
        })
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    let remedy = if found.len() < Topic::ALL.len() {
        "`rentroll topics create` makes what is missing"
    } else {
        "set the number of partitions that the topics have; changing theirs is a planned operation"
    };
    Err(LogError::Topics(format!("kafka at {}: {}; {remedy}", config.brokers, faults.join(", "))))
}

/// A client that nobody polls has a handful of lines to tell.
const EVENTS_AT_ONCE: usize = 32;

/// Asks about topics and groups without being a member of any.
struct Observer {
    config: KafkaConfig,
    consumer: BaseConsumer<Voice>,
}

impl Observer {
    fn failed(&self, what: &str, error: KafkaError) -> LogError {
        self.serve();
        failed(&self.config, what, error, self.consumer.context().take())
    }

    /// Takes the client's log lines and complaints, among them why it cannot connect. Nobody else does: they
    /// would pile up.
    fn serve(&self) {
        for _ in 0..EVENTS_AT_ONCE {
            let _ = self.consumer.poll(Duration::ZERO);
        }
    }

    /// The partitions of those of our topics that exist. Blocking.
    fn partitions(&self) -> Result<BTreeMap<Topic, u32>> {
        Ok(self.replicas()?.into_iter().map(|(topic, replicas)| (topic, replicas.len() as u32)).collect())
    }

    /// For each of our topics that exist: the number of replicas of each partition. Blocking.
    fn replicas(&self) -> Result<BTreeMap<Topic, Vec<usize>>> {
        let mut found = BTreeMap::new();
        for topic in Topic::ALL {
            let name = self.config.topic(topic);
            let what = format!("look for topic {name}");
            let metadata = self
                .consumer
                .fetch_metadata(Some(&name), ANSWER_WAIT)
                .map_err(|error| self.failed(&what, error))?;
            for answer in metadata.topics().iter().filter(|answer| answer.name() == name) {
                match answer.error().map(RDKafkaErrorCode::from) {
                    None if !answer.partitions().is_empty() => {
                        let replicas = answer.partitions().iter().map(|one| one.replicas().len()).collect();
                        found.insert(topic, replicas);
                    }
                    None | Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {}
                    Some(code) => return Err(self.failed(&what, KafkaError::MetadataFetch(code))),
                }
            }
        }
        Ok(found)
    }

    fn lag(&self, name: &str, partitions: u32) -> Result<Vec<Lag>> {
        self.serve();
        let what = format!("ask for the positions of {name}");
        let fail = |error| self.failed(&what, error);
        let all = |offset: Offset| {
            let mut list = TopicPartitionList::with_capacity(partitions as usize);
            list.add_partition_range(name, 0, partitions as i32 - 1);
            list.set_all_offsets(offset).map(|()| list)
        };
        // As a "time", beginning and end mean the first position kept and the one after the last.
        let times = |offset: Offset| {
            once_led(|| whole(self.consumer.offsets_for_times(all(offset)?, ANSWER_WAIT)?)).map_err(fail)
        };
        let (firsts, ends) = (times(Offset::Beginning)?, times(Offset::End)?);
        let committed =
            once_led(|| whole(self.consumer.committed_offsets(all(Offset::Invalid)?, ANSWER_WAIT)?));
        let committed = committed.map_err(fail)?;
        let position = |list: &TopicPartitionList, partition: u32| match list
            .find_partition(name, partition as i32)?
            .offset()
        {
            Offset::Offset(offset) => Some(offset as u64),
            _ => None,
        };
        let lags = (0..partitions).map(|partition| {
            let first = position(&firsts, partition).unwrap_or(0);
            let end = position(&ends, partition).unwrap_or(first);
            Lag { partition, committed: position(&committed, partition).unwrap_or(first), end }
        });
        Ok(lags.collect())
    }
}

/// The answer, if it holds no partition's error.
fn whole(list: TopicPartitionList) -> KafkaResult<TopicPartitionList> {
    list.elements().iter().try_for_each(|element| element.error()).map(|()| list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> KafkaConfig {
        KafkaConfig { brokers: "b:9092".into(), prefix: "t.".into(), partitions: 4, ..KafkaConfig::default() }
    }

    #[test]
    fn names_each_topic_at_fault_and_the_command() {
        let found = [(Topic::Usage, 4), (Topic::Overflow, 2)].into();
        let message = topics_hold(&config(), &found).unwrap_err().to_string();
        assert_eq!(
            message,
            "kafka at b:9092: topic t.usage.overflow has 2 partitions instead of 4, topic t.usage.rejects is \
             missing; `rentroll topics create` makes what is missing"
        );
        let found = Topic::ALL.map(|topic| (topic, 4)).into();
        assert!(topics_hold(&config(), &found).is_ok());
    }
}
