//! Opens what a verb needs, once and with errors that say what was being opened.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use rentroll_engines::log::SharedLog;
use rentroll_engines::log::embedded::{EmbeddedConfig, EmbeddedLog};
use rentroll_schemas::meter::Meters;

use crate::config::{Config, ConfigError, LogKind};

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

/// Opens the event log that the configuration names.
///
/// # Errors
/// See [`rentroll_engines::log::LogError`].
pub fn event_log(config: &Config) -> anyhow::Result<SharedLog> {
    match config.log.kind {
        LogKind::Embedded => {
            let embedded = EmbeddedConfig {
                dir: config.data_dir().join("log"),
                partitions: config.log.partitions,
                bytes_max: config.log.bytes_max,
                ..EmbeddedConfig::new("")
            };
            let log = EmbeddedLog::open(embedded).context("cannot open the embedded event log")?;
            Ok(Arc::new(log))
        }
        LogKind::Kafka => anyhow::bail!("kafka: being wired"),
    }
}
