//! A log under test, and the steps that most tests are made of.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rentroll_engines::log::embedded::{EmbeddedConfig, EmbeddedLog};
use rentroll_engines::log::kafka::topics::{TopicSettings, create_topics};
use rentroll_engines::log::kafka::{KafkaConfig, KafkaLog};
use rentroll_engines::log::{EventLog, PartitionReader, Positioned, Record, Result, SharedLog, Subscription};
use rentroll_schemas::Identity;
use rentroll_schemas::topics::{Topic, headers};
use rentroll_testing::kafka::Broker;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Of each topic.
pub(crate) const PARTITIONS: u32 = 4;
/// Long enough for a loaded machine; a healthy one needs a tenth.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Arrivals begin here: Kafka's retention would delete records that arrived years ago in mid-test.
static START_MS: LazyLock<i64> = LazyLock::new(|| chrono::Utc::now().timestamp_millis());

/// Which of the two.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Embedded,
    Kafka,
}

/// What stands behind a log.
enum Ground {
    Embedded(TempDir),
    Kafka { config: Box<KafkaConfig>, broker: Option<Box<Broker>> },
}

/// A log under test.
pub(crate) struct World {
    runtime: Runtime,
    log: Option<SharedLog>,
    ground: Ground,
}

impl World {
    /// A log that other tests do not see.
    pub(crate) fn new(side: Side) -> World {
        match side {
            Side::Embedded => {
                let folder = TempDir::new().unwrap();
                World::on(Ground::Embedded(folder))
            }
            Side::Kafka => World::kafka(&Broker::shared(), None, &[]),
        }
    }

    /// A log that may be crashed.
    pub(crate) fn that_may_crash(side: Side) -> World {
        match side {
            Side::Embedded => World::new(side),
            Side::Kafka => World::kafka_alone(&[]),
        }
    }

    /// A log on a broker of its own, with those client settings.
    pub(crate) fn kafka_alone(client: &[(&str, &str)]) -> World {
        let broker = Broker::start().unwrap_or_else(|error| panic!("{error}"));
        let address = broker.address();
        World::kafka(&address, Some(broker), client)
    }

    /// A log on that broker, under a prefix of its own, with those client settings.
    pub(crate) fn kafka(address: &str, broker: Option<Broker>, client: &[(&str, &str)]) -> World {
        World::of_config(kafka_config(address, client), broker)
    }

    /// A log so configured, whose topics are made.
    pub(crate) fn of_config(config: KafkaConfig, broker: Option<Broker>) -> World {
        let settings =
            TopicSettings { partitions: PARTITIONS, replication: 1, retention: Duration::from_secs(3600) };
        Runtime::new().unwrap().block_on(create_topics(&config, &settings)).unwrap();
        World::on(Ground::Kafka { config: Box::new(config), broker: broker.map(Box::new) })
    }

    fn on(ground: Ground) -> World {
        let mut world = World { runtime: Runtime::new().unwrap(), log: None, ground };
        world.open();
        world
    }

    fn open(&mut self) {
        self.log = Some(match &self.ground {
            Ground::Embedded(folder) => {
                let config = EmbeddedConfig { partitions: PARTITIONS, ..EmbeddedConfig::new(folder.path()) };
                Arc::new(EmbeddedLog::open(config).unwrap())
            }
            Ground::Kafka { config, .. } => Arc::new(KafkaLog::open(KafkaConfig::clone(config)).unwrap()),
        });
    }

    pub(crate) fn log(&self) -> &dyn EventLog {
        self.log.as_deref().unwrap()
    }

    pub(crate) fn shared_log(&self) -> SharedLog {
        Arc::clone(self.log.as_ref().unwrap())
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn config(&self) -> &KafkaConfig {
        match &self.ground {
            Ground::Kafka { config, .. } => config,
            Ground::Embedded(_) => panic!("only Kafka has this"),
        }
    }

    pub(crate) fn broker(&mut self) -> &mut Broker {
        match &mut self.ground {
            Ground::Kafka { broker: Some(broker), .. } => broker,
            _ => panic!("this test has no broker of its own"),
        }
    }

    /// The embedded log is closed and opened again; Kafka's broker is killed with -9 and started again, under
    /// the clients' feet.
    pub(crate) fn crash(&mut self) {
        if matches!(self.ground, Ground::Embedded(_)) {
            self.log = None;
            self.open();
        } else {
            self.broker().kill();
            self.broker().restart().unwrap();
        }
    }

    pub(crate) fn try_append(&self, topic: Topic, records: Vec<Record>) -> Result<()> {
        self.runtime.block_on(self.log().append(topic, records))
    }

    /// Appends the records of those numbers.
    pub(crate) fn append(&self, topic: Topic, numbers: std::ops::Range<u64>) {
        self.try_append(topic, numbers.map(record).collect()).unwrap();
    }

    /// Joins `group`, and waits for every partition of `topics`.
    pub(crate) fn join(&self, group: &str, topics: &[Topic]) -> Joined {
        let mut subscription = self.log().subscribe(group, topics).unwrap();
        let mut readers = Vec::new();
        gain(&mut subscription, &mut readers, PARTITIONS as usize * topics.len());
        Joined { subscription, readers }
    }

    /// Every record of `topic`, by partition, read by a group that nobody else uses.
    pub(crate) fn all(&self, topic: Topic, expected: usize) -> BTreeMap<u32, Vec<Positioned>> {
        static GROUP: AtomicU32 = AtomicU32::new(0);
        let group = format!("all-{}", GROUP.fetch_add(1, Ordering::Relaxed));
        self.join(&group, &[topic]).read_all(expected)
    }
}

/// A configuration with a prefix that no other test has.
pub(crate) fn kafka_config(address: &str, client: &[(&str, &str)]) -> KafkaConfig {
    static PREFIX: AtomicU32 = AtomicU32::new(0);
    KafkaConfig {
        brokers: address.to_owned(),
        prefix: format!("t{}.", PREFIX.fetch_add(1, Ordering::Relaxed)),
        partitions: PARTITIONS,
        client: client.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..KafkaConfig::default()
    }
}

/// A member with its readers, each at the position that the group committed.
pub(crate) struct Joined {
    pub(crate) subscription: Box<dyn Subscription>,
    pub(crate) readers: Vec<Box<dyn PartitionReader>>,
}

impl Joined {
    /// Reads `expected` records, no more and no fewer, and gives them by partition.
    pub(crate) fn read_all(&mut self, expected: usize) -> BTreeMap<u32, Vec<Positioned>> {
        let mut all: BTreeMap<u32, Vec<Positioned>> = BTreeMap::new();
        let mut found = 0;
        let deadline = Instant::now() + PATIENCE;
        let mut silent_rounds = 0;
        // Two more rounds after the last one expected, in which nothing may come.
        while silent_rounds < 2 {
            assert!(Instant::now() < deadline, "read {found} records of {expected}");
            let mut came = 0;
            for reader in &mut self.readers {
                let records = reader.read(1000, Duration::from_millis(50)).unwrap();
                came += records.len();
                all.entry(reader.partition()).or_default().extend(records);
            }
            found += came;
            assert!(found <= expected, "read {found} records, expected {expected}");
            silent_rounds = if came == 0 && found == expected { silent_rounds + 1 } else { 0 };
        }
        all
    }

    pub(crate) fn reader(&mut self, topic: Topic, partition: u32) -> &mut dyn PartitionReader {
        let reader = self
            .readers
            .iter_mut()
            .find(|reader| reader.topic() == topic && reader.partition() == partition)
            .unwrap();
        &mut **reader
    }
}

/// Waits until `readers` are `wanted`, each sought to what its group committed.
pub(crate) fn gain(
    subscription: &mut Box<dyn Subscription>,
    readers: &mut Vec<Box<dyn PartitionReader>>,
    wanted: usize,
) {
    let deadline = Instant::now() + PATIENCE;
    while readers.len() < wanted {
        assert!(Instant::now() < deadline, "gained {} partitions of {wanted}", readers.len());
        for mut reader in subscription.gained(Duration::from_millis(200)).unwrap() {
            let position = reader.committed().unwrap();
            reader.seek(position).unwrap();
            readers.push(reader);
        }
    }
    assert_eq!(readers.len(), wanted);
}

/// The record of that number: two of the same number are equal.
pub(crate) fn record(number: u64) -> Record {
    Record {
        key: Identity::of("acme", "test", &number.to_string()),
        headers: [(headers::TENANT, "acme"), (headers::TYPE, "http.request")].into_iter().collect(),
        value: Bytes::from(format!(r#"{{"number":{number}}}"#)),
        arrived_at_ms: *START_MS + number as i64,
    }
}

/// A record in that partition.
pub(crate) fn record_in(partition: u32, number: u64) -> Record {
    (number * 1_000..).map(record).find(|record| record.key.partition(PARTITIONS) == partition).unwrap()
}

/// What a read-back must show: the records of each partition in the order of their append.
pub(crate) fn by_partition(records: impl IntoIterator<Item = Record>) -> BTreeMap<u32, Vec<Record>> {
    let mut expected: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
    for record in records {
        expected.entry(record.key.partition(PARTITIONS)).or_default().push(record);
    }
    expected
}

/// The records without their positions; partitions without any are left out.
pub(crate) fn records(read: &BTreeMap<u32, Vec<Positioned>>) -> BTreeMap<u32, Vec<Record>> {
    read.iter()
        .filter(|(_, positioned)| !positioned.is_empty())
        .map(|(partition, positioned)| {
            (*partition, positioned.iter().map(|one| one.record.clone()).collect())
        })
        .collect()
}
