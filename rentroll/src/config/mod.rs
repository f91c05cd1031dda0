//! `rentroll.toml`: one file, every key documented in [`TEMPLATE`], the environment over it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rentroll_aggregator::api::ApiConfig;
use rentroll_collector::http::config::HttpConfig;
use rentroll_collector::outgoing::Encoding;
use rentroll_collector::overflow::OverflowConfig;
use rentroll_collector::source::SourceConfig;
use rentroll_collector::spool::SpoolConfig;
use rentroll_collector::spool::intake::Ack;
use rentroll_engines::log::LogError;
use rentroll_engines::log::kafka::{Compression, GroupProtocol, KafkaConfig};
use serde::{Deserialize, Serialize};

mod load;

pub use load::{ConfigError, load, parse};

/// What `rentroll config init` writes: every key with its default and its meaning.
pub const TEMPLATE: &str = include_str!("rentroll.toml");

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where data is kept.
    pub data: Data,
    /// Meters, catalogue, costs, tokens, tenants.
    pub files: Files,
    /// The event log.
    pub log: Log,
    /// ClickHouse.
    pub store: Store,
    /// Console, API, health and metrics.
    pub http: Http,
    /// What the API lets a query take.
    pub api: ApiConfig,
    /// The sidecar.
    pub collector: Collector,
    /// Event log to ClickHouse.
    pub aggregator: Aggregator,
    /// Folder of the file; relative paths begin here.
    #[serde(skip)]
    pub base: PathBuf,
}

/// `[data]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// The data folder.
    pub dir: PathBuf,
}

/// `[files]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// Meters.
    pub meters: PathBuf,
    /// Plans, prices, seller.
    pub catalogue: PathBuf,
    /// Cost pools and drivers.
    pub costs: PathBuf,
    /// Who may send events.
    pub tokens: PathBuf,
    /// Who the tenants are.
    pub tenants: PathBuf,
}

/// Which event log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// Segments on disk, in this process.
    #[default]
    Embedded,
    /// Apache Kafka.
    Kafka,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Which one.
    pub kind: LogKind,
    /// Partitions of each topic.
    pub partitions: u32,
    /// The embedded log refuses more than this.
    pub bytes_max: u64,
    /// The cluster.
    pub kafka: Kafka,
}

/// `[log.kafka]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    /// Bootstrap brokers.
    pub brokers: String,
    /// Before each topic's name.
    pub prefix: String,
    /// The aggregators' consumer group.
    pub group: String,
    /// How its members come to their partitions.
    pub group_protocol: GroupProtocol,
    /// How records are compressed.
    pub compression: Compression,
    /// What may wait in memory to be acknowledged, bytes.
    pub queue_bytes_max: u64,
    /// Any librdkafka setting.
    pub client: BTreeMap<String, String>,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// A ClickHouse server; none means the embedded engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// User.
    pub user: String,
    /// Password; the embedded engine makes its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Database.
    pub database: String,
    /// Where the embedded engine's HTTP face listens.
    pub listen: SocketAddr,
    /// The engine's library, if it is not found by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<PathBuf>,
    /// Memory of the embedded engine.
    pub memory_bytes_max: u64,
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Where console, API, health and metrics listen.
    pub listen: SocketAddr,
}

/// `[collector]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Collector {
    /// How events travel to the aggregator.
    pub encoding: Encoding,
    /// `[[collector.sources]]`
    pub sources: Vec<SourceConfig>,
    /// `[collector.overflow]`
    pub overflow: OverflowConfig,
    /// `[collector.http]`
    pub http: HttpConfig,
    /// `[collector.spool]`
    pub spool: SpoolConfig,
}

/// `[aggregator]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Aggregator {
    /// A batch is inserted at this many records…
    pub batch_records_max: usize,
    /// …or this long after its first one.
    pub batch_wait_ms: u64,
    /// Minutes after its end that an hour's rollups are checked against the events.
    pub proof_after_minutes: u64,
    /// Not ready if events wait and no position moves for this long, in seconds.
    pub stall_seconds: u64,
    /// Not ready if lag grows and the oldest event waits for longer than this, in seconds.
    pub lag_seconds_max: u64,
}

impl Default for Data {
    fn default() -> Self {
        Data { dir: "rentroll-data".into() }
    }
}

impl Default for Files {
    fn default() -> Self {
        Files {
            meters: "meters.yaml".into(),
            catalogue: "catalogue.yaml".into(),
            costs: "costs.yaml".into(),
            tokens: "tokens.toml".into(),
            tenants: "tenants.yaml".into(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { kind: LogKind::Embedded, partitions: 4, bytes_max: 16 << 30, kafka: Kafka::default() }
    }
}

impl Default for Kafka {
    fn default() -> Self {
        Kafka {
            brokers: "127.0.0.1:9092".into(),
            prefix: String::new(),
            group: "rentroll-aggregator".into(),
            group_protocol: GroupProtocol::default(),
            compression: Compression::default(),
            queue_bytes_max: KafkaConfig::QUEUE_BYTES,
            client: BTreeMap::new(),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Store {
            url: None,
            user: "rentroll".into(),
            password: None,
            database: "rentroll".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8401)),
            library: None,
            memory_bytes_max: 2 << 30,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Http { listen: SocketAddr::from(([127, 0, 0, 1], 8400)) }
    }
}

impl Default for Aggregator {
    fn default() -> Self {
        Aggregator {
            batch_records_max: 200_000,
            batch_wait_ms: 500,
            proof_after_minutes: 10,
            stall_seconds: 60,
            lag_seconds_max: 300,
        }
    }
}

impl Config {
    /// `path`, taken from the configuration file's folder if it is relative.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.path(&self.data.dir)
    }

    /// Whether events are received over HTTP: where it is asked for, or there is somebody who may send.
    pub fn ingest_is_on(&self) -> bool {
        let http = &self.collector.http;
        let has_client_ca = http.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        http.listen.is_some() || has_client_ca || self.path(&self.files.tokens).exists()
    }

    /// Whether events wait in a spool while the log takes none.
    pub fn spool_is_on(&self) -> bool {
        let with_kafka = self.log.kind == LogKind::Kafka;
        self.collector.http.ack == Ack::Spool || self.collector.spool.enabled.unwrap_or(with_kafka)
    }

    /// The rules that the shape alone cannot express; the error is (key, reason).
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), (String, String)> {
        let fail = |key: &str, reason: &str| Err((key.to_owned(), reason.to_owned()));
        if !(1..=1024).contains(&self.log.partitions) {
            return fail("log.partitions", "must be from 1 to 1024");
        }
        if self.log.kind == LogKind::Kafka {
            match crate::context::kafka_config(self).check() {
                Ok(()) => {}
                Err(LogError::Setting { key, reason }) => return Err((format!("log.kafka.{key}"), reason)),
                Err(error) => return Err(("log.kafka".to_owned(), error.to_string())),
            }
        }
        if !rentroll_schemas::meter::is_name(&self.store.database) {
            return fail("store.database", "only a-z, 0-9 and _, beginning with a letter");
        }
        if self.store.url.is_none() && !self.store.listen.ip().is_loopback() {
            return fail(
                "store.listen",
                "must be a loopback address: the embedded engine has no users and no sandbox",
            );
        }
        if self.store.memory_bytes_max < 256 << 20 {
            return fail("store.memory_bytes_max", "must be at least 268435456 (256 MiB)");
        }
        if !(1..=1_000_000).contains(&self.aggregator.batch_records_max) {
            return fail(
                "aggregator.batch_records_max",
                "must be from 1 to 1000000: a larger insert is not atomic",
            );
        }
        if self.aggregator.batch_wait_ms == 0 {
            return fail("aggregator.batch_wait_ms", "must be at least 1");
        }
        if let Err((field, reason)) = self.collector.overflow.check() {
            return Err((format!("collector.overflow.{field}"), reason));
        }
        for (key, value) in [
            ("aggregator.stall_seconds", self.aggregator.stall_seconds),
            ("aggregator.lag_seconds_max", self.aggregator.lag_seconds_max),
        ] {
            if !(1..=86_400).contains(&value) {
                return fail(key, "must be from 1 to 86400");
            }
        }
        if !(1..=1_440).contains(&self.aggregator.proof_after_minutes) {
            return fail("aggregator.proof_after_minutes", "must be from 1 to 1440");
        }
        if let Err((field, reason)) = self.api.check() {
            return Err((format!("api.{field}"), reason));
        }
        if let Err((field, reason)) = self.collector.http.check() {
            return Err((format!("collector.http.{field}"), reason));
        }
        if let Err((field, reason)) = self.collector.spool.check() {
            return Err((format!("collector.spool.{field}"), reason));
        }
        if self.collector.http.ack == Ack::Spool && self.collector.spool.enabled == Some(false) {
            return fail("collector.http.ack", "\"spool\" needs collector.spool.enabled");
        }
        let mut names = std::collections::BTreeSet::new();
        for (index, source) in self.collector.sources.iter().enumerate() {
            if let Err((field, reason)) = source.check() {
                return Err((format!("collector.sources[{index}].{field}"), reason));
            }
            if !names.insert(&source.name) {
                return Err((
                    format!("collector.sources[{index}].name"),
                    format!("`{}` is used twice", source.name),
                ));
            }
        }
        Ok(())
    }
}
