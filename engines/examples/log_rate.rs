//! How many records a second an event log takes and gives, with the calls that the collector and the
//! aggregator make.
//!
//! ```text
//! cargo run --release -p rentroll-engines --example log_rate -- embedded 2000000
//! cargo run --release -p rentroll-engines --example log_rate -- kafka 2000000 [host:port]
//! ```
//! Without an address it starts a broker of its own. The topics it makes have a prefix of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rentroll_engines::log::embedded::{EmbeddedConfig, EmbeddedLog};
use rentroll_engines::log::kafka::topics::{TopicSettings, create_topics};
use rentroll_engines::log::kafka::{KafkaConfig, KafkaLog};
use rentroll_engines::log::{EventLog, PartitionReader, Record};
use rentroll_schemas::Identity;
use rentroll_schemas::topics::{CLOUDEVENTS_JSON, SCHEMA_VERSION, Topic, headers};
use rentroll_testing::kafka::Broker;

const PARTITIONS: u32 = 4;
/// As many as a collector has batches under way.
const TASKS: u64 = 8;
const VALUE_BYTES: usize = 300;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let which = arguments.first().map(String::as_str).ok_or("which log: embedded or kafka?")?;
    let records: u64 = arguments.get(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let runtime = tokio::runtime::Runtime::new()?;
    match which {
        "embedded" => {
            let folder = tempfile::tempdir()?;
            let config = EmbeddedConfig { partitions: PARTITIONS, ..EmbeddedConfig::new(folder.path()) };
            measure(&runtime, Arc::new(EmbeddedLog::open(config)?), records)
        }
        "kafka" => {
            let own = if arguments.len() > 2 { None } else { Some(Broker::start()?) };
            let brokers = own.as_ref().map_or_else(|| arguments[2].clone(), Broker::address);
            let prefix = format!("rate-{}.", std::process::id());
            let config = KafkaConfig { brokers, prefix, partitions: PARTITIONS, ..KafkaConfig::default() };
            let retention = Duration::from_secs(3600);
            let settings = TopicSettings { partitions: PARTITIONS, replication: 1, retention };
            runtime.block_on(create_topics(&config, &settings))?;
            measure(&runtime, Arc::new(KafkaLog::open(config)?), records)
        }
        other => Err(format!("`{other}` is neither embedded nor kafka").into()),
    }
}

fn measure(runtime: &tokio::runtime::Runtime, log: Arc<dyn EventLog>, records: u64) -> Result<(), AnyError> {
    for batch in [100, 1_000, 10_000] {
        let began = Instant::now();
        let each = records / TASKS / batch;
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let log = Arc::clone(&log);
                runtime.spawn(async move {
                    for append in 0..each {
                        let first = (task * each + append) * batch;
                        log.append(Topic::Usage, (first..first + batch).map(record).collect()).await?;
                    }
                    Ok::<_, rentroll_engines::log::LogError>(())
                })
            })
            .collect();
        for task in tasks {
            runtime.block_on(task)??;
        }
        report(&format!("append, {TASKS} tasks, {batch} records each"), each * batch * TASKS, began);
    }
    let waiting: u64 = log.lag("rate", Topic::Usage)?.iter().map(|lag| lag.end - lag.committed).sum();
    let mut subscription = log.subscribe("rate", &[Topic::Usage])?;
    let mut readers: Vec<Box<dyn PartitionReader>> = Vec::new();
    while readers.len() < PARTITIONS as usize {
        readers.extend(subscription.gained(Duration::from_millis(100))?);
    }
    let read = AtomicU64::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for reader in &mut readers {
            scope.spawn(|| {
                while read.load(Ordering::Relaxed) < waiting {
                    match reader.read(10_000, Duration::from_millis(50)) {
                        Ok(records) => read.fetch_add(records.len() as u64, Ordering::Relaxed),
                        Err(error) => return eprintln!("{error}"),
                    };
                }
            });
        }
    });
    report(&format!("read, {PARTITIONS} partitions"), read.into_inner(), began);
    Ok(())
}

fn report(what: &str, records: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{what}: {records} records in {seconds:.2} s, {:.0} thousand/s",
        records as f64 / seconds / 1000.0
    );
}

fn record(number: u64) -> Record {
    let mut value =
        format!(r#"{{"number":{number},"path":"/api/v1/things/{}","pad":""#, number % 977).into_bytes();
    value.resize(VALUE_BYTES, b'x');
    Record {
        key: Identity::of("acme", "rate", &number.to_string()),
        headers: [
            (headers::TENANT, "acme"),
            (headers::TYPE, "http.request"),
            (headers::SCHEMA, SCHEMA_VERSION),
            (headers::CONTENT_TYPE, CLOUDEVENTS_JSON),
        ]
        .into_iter()
        .collect(),
        value: Bytes::from(value),
        arrived_at_ms: chrono::Utc::now().timestamp_millis(),
    }
}
