//! Appending: one idempotent producer, one counter of outstanding records per append.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use tokio::sync::oneshot;

use super::client::{Side, Voice, failed, lock, not_made, settings};
use super::{KafkaConfig, features};
use crate::log::{LogError, Record, Result};

const DEFAULTS: [(&str, &str); 6] = [
    ("acks", "all"),
    ("enable.idempotence", "true"),
    // Small appends wait this long for company. Doubled, a lone append takes that much longer; at 0, many
    // lone appends make a request each.
    ("linger.ms", "5"),
    // A quarter of a broker's default limit for a batch (1 MiB), as compression is not promised to shrink anything.
    ("batch.size", "262144"),
    // An append that no broker took within this is an error, and the caller keeps the records. Longer than a
    // leader's election (5.6 s measured) and than a lost connection's retry; shorter than a caller's patience.
    ("message.timeout.ms", "30000"),
    // The producer never asks for topics that it was not told to exist.
    ("allow.auto.create.topics", "false"),
];

/// How long an append waits for room in a full queue that nothing leaves. Longer, a caller learns late that
/// Kafka is away; shorter, one slow request of a healthy broker becomes an error.
const QUEUE_WAIT: Duration = Duration::from_secs(5);
/// How often a waiting append looks for room: a full queue of small records drains in some 200 ms.
const QUEUE_LOOK: Duration = Duration::from_millis(2);
/// Records queued between two chances for other tasks: at 2 µs each, 1,024 hold a thread for 2 ms.
const YIELD_EVERY: usize = 1024;
/// The client library's own default; a topic's default limit is 1,048,588 bytes for a whole batch.
const RECORD_BYTES_MAX: usize = 1_000_000;
/// What Kafka adds to a record beside key, value and headers, generously.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// What the client library keeps of a record beside its bytes, about: its own fields, and each header as a
/// list's element. The bound in bytes leaves it out, so the bound in records stands for it.
const QUEUED_OVERHEAD_BYTES: u64 = 1024;
/// The library refuses a batch of more records than its queue may hold; and small queues only cost speed.
const QUEUED_RECORDS_MIN: u64 = 1000;

type Client = ThreadedProducer<Deliveries>;

/// The producer's settings: what waits in memory is bounded in bytes and in records.
pub(super) fn of_producer(config: &KafkaConfig) -> Result<ClientConfig> {
    features::check("compression", "compression.type", config.compression.name())?;
    let records_max = (config.queue_bytes_max / QUEUED_OVERHEAD_BYTES).max(QUEUED_RECORDS_MIN).to_string();
    let kbytes_max = (config.queue_bytes_max / 1024).to_string();
    let of_config = [
        ("compression.type", config.compression.name()),
        ("queue.buffering.max.messages", &records_max),
        ("queue.buffering.max.kbytes", &kbytes_max),
    ];
    settings(config, Side::Producer, &[&DEFAULTS[..], &of_config[..]].concat())
}

/// Appends records to topics.
pub(super) struct Producer {
    config: KafkaConfig,
    client: RwLock<Arc<Client>>,
    voice: Voice,
    record_bytes_max: usize,
}

impl Producer {
    pub(super) fn new(config: &KafkaConfig) -> Result<Self> {
        let voice = Voice::default();
        let client = make(config, &voice)?;
        let limit = of_producer(config)?;
        let record_bytes_max =
            limit.get("message.max.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(RECORD_BYTES_MAX);
        Ok(Producer {
            config: config.clone(),
            client: RwLock::new(Arc::new(client)),
            voice,
            record_bytes_max,
        })
    }

    /// Resolves when all in-sync replicas have all of `records`.
    pub(super) async fn append(&self, topic: &str, partitions: u32, records: Vec<Record>) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        for record in &records {
            let bytes = size(record);
            if bytes > self.record_bytes_max {
                return Err(LogError::TooLarge { bytes, limit: self.record_bytes_max });
            }
        }
        let client = Arc::clone(&self.client.read().unwrap_or_else(PoisonError::into_inner));
        let (append, settled) = Append::of(records.len());
        if let Err(error) = queue(&client, topic, partitions, records, &append).await {
            return Err(self.failed(&client, topic, error));
        }
        match settled.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.failed(&client, topic, error)),
            Err(_) => Err(self.failed(&client, topic, KafkaError::Canceled)),
        }
    }

    fn failed(&self, client: &Arc<Client>, topic: &str, error: KafkaError) -> LogError {
        if let Some((code, reason)) = client.client().fatal_error() {
            self.replace(client, &format!("{code}: {reason}"));
        }
        let what = match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::InvalidTimestamp
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::InvalidDifferentRecord,
            ) => format!(
                "append to {topic} (was this clock ahead of Kafka's? The topic's message.timestamp.after.max.ms \
                 says by how much it may be)"
            ),
            _ => format!("append to {topic}"),
        };
        failed(&self.config, &what, error, self.voice.take())
    }

    /// A producer with a fatal error refuses all that follows; the next append gets a new one.
    fn replace(&self, broken: &Arc<Client>, reason: &str) {
        let mut current = self.client.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, broken) {
            return;
        }
        tracing::error!(reason, "the kafka producer failed for good and is replaced");
        match make(&self.config, &self.voice) {
            Ok(client) => *current = Arc::new(client),
            Err(error) => {
                tracing::error!(%error, "cannot make a new kafka producer; the next append tries again")
            }
        }
    }
}

fn make(config: &KafkaConfig, voice: &Voice) -> Result<Client> {
    of_producer(config)?
        .create_with_context(Deliveries(voice.clone()))
        .map_err(|error| not_made("make a kafka producer", error))
}

/// Hands all records to the client, waiting for room where there is none.
async fn queue(
    client: &Client,
    topic: &str,
    partitions: u32,
    records: Vec<Record>,
    append: &Arc<Append>,
) -> std::result::Result<(), KafkaError> {
    let mut waits_until = Instant::now() + QUEUE_WAIT;
    for (index, record) in records.into_iter().enumerate() {
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value.as_bytes()) })
        });
        // `Identity::partition` is below `partitions`, which came from a Kafka partition count: an i32.
        let partition = record.key.partition(partitions) as i32;
        let mut message = BaseRecord::with_opaque_to(topic, Arc::clone(append))
            .key(&record.key.0[..])
            .payload(&record.value[..])
            .partition(partition)
            .timestamp(record.arrived_at_ms)
            .headers(headers);
        loop {
            match client.send(message) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused))
                    if Instant::now() < waits_until =>
                {
                    message = refused;
                    tokio::time::sleep(QUEUE_LOOK).await;
                }
                Err((error, _)) => return Err(error),
            }
        }
        if index % YIELD_EVERY == YIELD_EVERY - 1 {
            tokio::task::yield_now().await;
        }
        waits_until = Instant::now() + QUEUE_WAIT;
    }
    Ok(())
}

fn size(record: &Record) -> usize {
    let headers: usize = record.headers.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
    record.key.0.len() + record.value.len() + headers + RECORD_OVERHEAD_BYTES
}

/// What is still outstanding of one append. Every record holds a reference; there is no task per record.
struct Append {
    outstanding: AtomicUsize,
    done: Mutex<Option<oneshot::Sender<std::result::Result<(), KafkaError>>>>,
}

impl Append {
    fn of(records: usize) -> (Arc<Self>, oneshot::Receiver<std::result::Result<(), KafkaError>>) {
        let (done, settled) = oneshot::channel();
        (Arc::new(Append { outstanding: AtomicUsize::new(records), done: Mutex::new(Some(done)) }), settled)
    }

    /// One record was delivered or failed. The first failure settles the append.
    fn settle(&self, result: std::result::Result<(), KafkaError>) {
        let was_last = self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1;
        if (was_last || result.is_err())
            && let Some(done) = lock(&self.done).take()
        {
            // Nobody listens any more if the caller gave up.
            let _ = done.send(result);
        }
    }
}

struct Deliveries(Voice);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Append>;

    fn delivery(&self, result: &DeliveryResult<'_>, append: Arc<Append>) {
        append.settle(result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone()));
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::bindings::rd_kafka_test_fatal_error;
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::RDKafkaRespErr;

    use super::*;

    fn record(number: u64) -> Record {
        Record {
            key: rentroll_schemas::Identity::of("t", "s", &number.to_string()),
            headers: crate::log::Headers::default(),
            value: bytes::Bytes::from_static(b"{}"),
            arrived_at_ms: 1,
        }
    }

    /// The broker is the client library's own imitation: a real one cannot be made to break a producer.
    #[tokio::test]
    async fn a_producer_that_failed_for_good_is_replaced() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("usage", 2, 1).unwrap();
        let config =
            KafkaConfig { brokers: cluster.bootstrap_servers(), partitions: 2, ..KafkaConfig::default() };
        let producer = Producer::new(&config).unwrap();
        let append = |first| producer.append("usage", 2, (first..first + 10).map(record).collect());
        append(0).await.unwrap();
        let client = Arc::clone(&producer.client.read().unwrap());
        // SAFETY: the client is alive, and the reason is a C string.
        unsafe {
            rd_kafka_test_fatal_error(
                client.client().native_ptr(),
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
                c"as a test".as_ptr(),
            );
        }
        let error = append(10).await.unwrap_err();
        assert!(matches!(error, LogError::Unavailable(_)), "{error}");
        append(10).await.unwrap();
    }
}
