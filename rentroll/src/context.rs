//! Opens what a verb needs, once and with errors that say what was being opened.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rentroll_collector::http::config::TlsConfig;
use rentroll_engines::log::embedded::{EmbeddedConfig, EmbeddedLog};
use rentroll_engines::log::kafka::{KafkaConfig, KafkaLog};
use rentroll_engines::log::late::LateLog;
use rentroll_engines::log::{LogError, SharedLog};
use rentroll_engines::store::{Store, StoreConfig};
use rentroll_schemas::catalogue::Catalogue;
use rentroll_schemas::costs::Costs;
use rentroll_schemas::meter::Meters;
use rentroll_schemas::migrations::MIGRATIONS;
use rentroll_schemas::tenant::Tenants;
use rentroll_schemas::token::{self, Tokens};

use crate::config::{Config, ConfigError, LogKind};

/// How long Kafka may take to answer before the parts begin without it.
const KAFKA_PATIENCE: Duration = Duration::from_secs(3);

/// The configuration, and the doors it names.
#[derive(Debug)]
pub struct Context {
    config_path: Option<PathBuf>,
}

impl Context {
    /// With the file the user named, if any.
    pub fn new(config_path: Option<PathBuf>) -> Self {
        Context { config_path }
    }

    /// The file the user named, if any.
    pub fn config_path(&self) -> Option<&PathBuf> {
        self.config_path.as_ref()
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// [`ConfigError`] names key, file and line.
    pub fn config(&self) -> Result<Config, ConfigError> {
        crate::config::load(self.config_path.as_deref())
    }
}

/// Reads the meters that the configuration names.
///
/// # Errors
/// Names file, field and reason.
pub fn meters(config: &Config) -> anyhow::Result<Meters> {
    Ok(Meters::read(&config.path(&config.files.meters))?)
}

/// The meters in force: those that the store keeps, or those of the file if no aggregator has run yet.
///
/// # Errors
/// The store's, or as [`meters`].
pub async fn meters_in_force(config: &Config, store: &Store) -> anyhow::Result<Meters> {
    let kept = rentroll_aggregator::meters::load(store).await?;
    match kept.meters.is_empty() {
        true => meters(config),
        false => Ok(kept),
    }
}

/// Reads the catalogue that the configuration names.
///
/// # Errors
/// Names file, field and reason.
pub fn catalogue(config: &Config, meters: &Meters) -> anyhow::Result<Catalogue> {
    Ok(Catalogue::read(&config.path(&config.files.catalogue), meters)?)
}

/// The catalogue, if there is one: usage is worth looking at before there are prices.
///
/// # Errors
/// One that has a mistake is not passed over.
pub fn catalogue_if_any(config: &Config, meters: &Meters) -> anyhow::Result<Option<Catalogue>> {
    match config.path(&config.files.catalogue).exists() {
        true => catalogue(config, meters).map(Some),
        false => Ok(None),
    }
}

/// Reads the tenants' names and tiers that the configuration names, if there is a file of them.
///
/// # Errors
/// Names file, entry, field and reason.
pub fn tenants_if_any(config: &Config) -> anyhow::Result<Option<Tenants>> {
    let path = config.path(&config.files.tenants);
    match path.exists() {
        true => Ok(Some(Tenants::read(&path)?)),
        false => Ok(None),
    }
}

/// Reads the cost pools that the configuration names.
///
/// # Errors
/// Names file, field and reason.
pub fn costs(config: &Config, meters: &Meters) -> anyhow::Result<Costs> {
    Ok(Costs::read(&config.path(&config.files.costs), meters)?)
}

/// Reads the tokens that the configuration names; no file is no tokens.
///
/// # Errors
/// Names file, entry, field and reason.
pub fn tokens(config: &Config) -> anyhow::Result<Tokens> {
    Ok(token::file::read(&config.path(&config.files.tokens))?)
}

/// The certificates of ingest over HTTP, with paths from here.
pub fn ingest_tls(config: &Config) -> Option<TlsConfig> {
    let mut tls = config.collector.http.tls.clone()?;
    tls.cert = config.path(&tls.cert);
    tls.key = config.path(&tls.key);
    tls.client_ca = tls.client_ca.as_ref().map(|path| config.path(path));
    Some(tls)
}

/// What the configuration says of Kafka.
pub fn kafka_config(config: &Config) -> KafkaConfig {
    KafkaConfig {
        brokers: config.log.kafka.brokers.clone(),
        prefix: config.log.kafka.prefix.clone(),
        partitions: config.log.partitions,
        group_protocol: config.log.kafka.group_protocol,
        compression: config.log.kafka.compression,
        queue_bytes_max: config.log.kafka.queue_bytes_max,
        client: config.log.kafka.client.clone(),
    }
}

/// Opens the event log that the configuration names. Blocking.
///
/// # Errors
/// See [`rentroll_engines::log::LogError`].
pub fn event_log(config: &Config) -> anyhow::Result<SharedLog> {
    match config.log.kind {
        LogKind::Embedded => embedded_log(config),
        LogKind::Kafka => kafka_opener(config)().context("cannot open the event log in Kafka"),
    }
}

/// As [`event_log`], but a Kafka that does not answer for [`KAFKA_PATIENCE`] is opened later. Until then events go to the
/// spool where there is one, files are not read on, and the aggregator waits.
///
/// # Errors
/// What somebody has to mend, as far as it shows in that time.
pub fn event_log_when_there(config: &Config) -> anyhow::Result<SharedLog> {
    match config.log.kind {
        LogKind::Embedded => embedded_log(config),
        LogKind::Kafka => LateLog::open(config.log.partitions, KAFKA_PATIENCE, kafka_opener(config))
            .context("cannot open the event log in Kafka"),
    }
}

fn embedded_log(config: &Config) -> anyhow::Result<SharedLog> {
    let embedded = EmbeddedConfig {
        dir: config.data_dir().join("log"),
        partitions: config.log.partitions,
        bytes_max: config.log.bytes_max,
        ..EmbeddedConfig::new("")
    };
    let log = EmbeddedLog::open(embedded).context("cannot open the embedded event log")?;
    Ok(Arc::new(log))
}

fn kafka_opener(config: &Config) -> impl Fn() -> Result<SharedLog, LogError> + Send + 'static {
    let kafka = kafka_config(config);
    move || Ok(Arc::new(KafkaLog::open(kafka.clone())?))
}

/// What the configuration says of the store.
pub fn store_config(config: &Config) -> StoreConfig {
    StoreConfig {
        url: config.store.url.clone(),
        user: config.store.user.clone(),
        password: config.store.password.clone(),
        database: config.store.database.clone(),
        data_dir: config.data_dir(),
        listen: config.store.listen,
        library: config.store.library.as_ref().map(|path| config.path(path)),
        memory_bytes_max: config.store.memory_bytes_max,
    }
}

/// Opens the store as it is: its schema must be this binary's.
///
/// # Errors
/// See [`rentroll_engines::store::StoreError`].
pub async fn store(config: &Config) -> anyhow::Result<Store> {
    let store = Store::open(&store_config(config)).await?;
    store.check_schema(MIGRATIONS).await?;
    Ok(store)
}

/// Opens the store, and brings its schema up to this binary's.
///
/// # Errors
/// See [`rentroll_engines::store::StoreError`].
pub async fn migrated_store(config: &Config) -> anyhow::Result<Store> {
    let store = Store::open(&store_config(config)).await?;
    store.migrate(MIGRATIONS).await?;
    store.check_settings().await?;
    Ok(store)
}
