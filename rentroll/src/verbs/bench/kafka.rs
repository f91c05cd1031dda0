//! The Kafka cluster of a benchmark: one that was named, or a broker of its own, and topics filled with events.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use rentroll_collector::outgoing::{Encoding, Packer};
use rentroll_collector::overflow::{Lanes, OverflowConfig};
use rentroll_engines::log::kafka::topics::{TopicSettings, create_topics};
use rentroll_engines::log::kafka::{KafkaConfig, KafkaLog};
use rentroll_engines::log::{EventLog as _, Record};
use rentroll_schemas::Event;
use rentroll_schemas::topics::Topic;
use rentroll_testing::kafka::Broker;

use super::events::{Generator, Shape};

/// Appends at the same time: enough to keep the producer's queue from running dry.
const APPENDS: usize = 4;
/// A benchmark's topics are of no use the day after.
const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// A cluster.
pub(super) struct Cluster {
    /// Bootstrap brokers.
    pub(super) brokers: String,
    /// What it is, for tables.
    pub(super) about: String,
    own: Option<Broker>,
}

impl Cluster {
    /// The named one, or a broker from the jars that the tests use.
    pub(super) fn of(brokers: Option<&str>) -> anyhow::Result<Self> {
        if let Some(brokers) = brokers {
            return Ok(Cluster { brokers: brokers.to_owned(), about: brokers.to_owned(), own: None });
        }
        eprintln!("starting a Kafka broker…");
        let broker = Broker::start()?;
        let about = format!("Apache Kafka {}, one node", rentroll_testing::kafka::VERSION);
        Ok(Cluster { brokers: broker.address(), about, own: Some(broker) })
    }

    /// CPU time that a broker of its own has taken.
    pub(super) fn cpu(&self) -> Option<Duration> {
        super::process::cpu_of(self.own.as_ref()?.process()?)
    }

    /// Makes the topics under a prefix, and opens them.
    pub(super) async fn log(&self, prefix: &str, partitions: u32) -> anyhow::Result<Arc<KafkaLog>> {
        let config = KafkaConfig {
            brokers: self.brokers.clone(),
            prefix: prefix.to_owned(),
            partitions,
            ..KafkaConfig::default()
        };
        create_topics(&config, &TopicSettings { partitions, replication: 1, retention: RETENTION }).await?;
        let log = tokio::task::spawn_blocking(move || KafkaLog::open(config)).await??;
        Ok(Arc::new(log))
    }
}

/// What a topic was filled with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filled {
    /// Records…
    pub(super) records: u64,
    /// …and the bytes of their values.
    pub(super) bytes: u64,
}

/// Appends all events of a shape to the usage topic, in records as the collector makes them of `together` events
/// that come at once.
pub(super) async fn fill(
    log: &Arc<KafkaLog>,
    shape: &Shape,
    encoding: Encoding,
    together: usize,
) -> anyhow::Result<Filled> {
    let lanes = OverflowConfig { enabled: false, ..OverflowConfig::default() };
    let lanes = Lanes::new(&lanes, prometheus::IntCounter::new("overflow", "none")?);
    let packer = Packer { lanes, encoding, partitions: log.partitions() };
    let mut generator = Generator::new(shape);
    let mut filled = Filled::default();
    let mut appends = tokio::task::JoinSet::new();
    loop {
        let mut texts: Vec<Vec<u8>> = Vec::with_capacity(together);
        while texts.len() < together {
            let mut json = Vec::with_capacity(320);
            if generator.next(&mut json).is_none() {
                break;
            }
            texts.push(json);
        }
        if texts.is_empty() {
            break;
        }
        let records = pack(&packer, &texts)?;
        filled.records += records.len() as u64;
        filled.bytes += records.iter().map(|record| record.value.len() as u64).sum::<u64>();
        while appends.len() >= APPENDS {
            appends.join_next().await.context("an append vanished")???;
        }
        let log = Arc::clone(log);
        appends.spawn(async move { log.append(Topic::Usage, records).await });
    }
    while let Some(append) = appends.join_next().await {
        append??;
    }
    Ok(filled)
}

fn pack(packer: &Packer, texts: &[Vec<u8>]) -> anyhow::Result<Vec<Record>> {
    let events: Result<Vec<Event<'_>>, _> = texts.iter().map(|json| Event::from_json(json)).collect();
    let events = events.context("a made event is not one")?;
    let arrived_at_ms = chrono::Utc::now().timestamp_millis();
    let mut load = packer.load(&events, arrived_at_ms, false);
    let (_, mut records) = load.pop().context("events without a record")?;
    if packer.encoding == Encoding::Json {
        // As they were sent: what the collector writes anew is a little longer.
        for (record, json) in records.iter_mut().zip(texts) {
            record.value = Bytes::copy_from_slice(json);
        }
    }
    Ok(records)
}
