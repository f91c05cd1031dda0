//! Events over HTTP, and the spool they wait in.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use chrono::Utc;
use rentroll_collector::collect::{self, Mode};
use rentroll_collector::http::door::IngestDoor;
use rentroll_collector::http::metrics::HttpMetrics;
use rentroll_collector::http::{Ingest, Setup};
use rentroll_collector::source::SourceConfig;
use rentroll_collector::spool::Spool;
use rentroll_collector::spool::drain::Drain;
use rentroll_collector::spool::intake::Intake;
use rentroll_collector::spool::metrics::SpoolMetrics;
use rentroll_engines::log::SharedLog;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::context;

/// How often the spool's metrics are set.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// What runs of it: all, some or nothing.
#[derive(Default)]
pub struct Ingesting {
    http: Option<Ingest>,
    /// Into it, for requests that the API receives; empty until it listens.
    door: Arc<RwLock<Option<IngestDoor>>>,
    spool: Option<Arc<Spool>>,
    drain: Option<Drain>,
    measuring: Option<JoinHandle<()>>,
    later: Option<Later>,
}

/// What it takes to begin once there is somebody who may send.
struct Later {
    config: Config,
    log: SharedLog,
    collector: collect::Setup,
    registry: prometheus::Registry,
}

impl Ingesting {
    /// Starts what the configuration asks for. With `mode.once` nobody is listened to, but what waits in the
    /// spool is drained. Else, without anybody who may send, it begins as soon as there is somebody
    /// ([`Ingesting::look`]).
    ///
    /// # Errors
    /// Says which part, and why.
    pub async fn start(
        config: &Config,
        log: &SharedLog,
        collector: &collect::Setup,
        registry: &prometheus::Registry,
        mode: Mode,
    ) -> anyhow::Result<Self> {
        let mut ingesting = Ingesting::default();
        let later = Later {
            config: config.clone(),
            log: log.clone(),
            collector: collector.clone(),
            registry: registry.clone(),
        };
        // One that is there may have something in it, whatever the settings are now.
        if spool_dir(config).exists() {
            ingesting.open_spool(&later).await?;
        }
        match (mode.once, config.ingest_is_on()) {
            (true, _) => {}
            (false, true) => ingesting.listen(&later).await?,
            (false, false) => ingesting.later = Some(later),
        }
        Ok(ingesting)
    }

    /// Begins to listen if somebody may send by now: a token was made. Returns whether it has just begun.
    ///
    /// # Errors
    /// Says which part cannot start, and why.
    pub async fn look(&mut self) -> anyhow::Result<bool> {
        let Some(later) = self.later.take_if(|later| later.config.ingest_is_on()) else { return Ok(false) };
        self.listen(&later).await?;
        Ok(true)
    }

    async fn open_spool(&mut self, with: &Later) -> anyhow::Result<()> {
        let (dir, bytes_max) = (spool_dir(&with.config), with.config.collector.spool.bytes_max);
        let opened = tokio::task::spawn_blocking(move || Spool::open(dir, bytes_max)).await?;
        let opened = opened.context("cannot open the spool")?;
        let drain = Drain::start(opened.clone(), with.log.clone(), &with.collector.health);
        self.drain = Some(drain.context("cannot drain the spool")?);
        let metrics = SpoolMetrics::register(&with.registry)?;
        self.measuring = Some(tokio::spawn(measure(opened.clone(), metrics)));
        self.spool = Some(opened);
        Ok(())
    }

    async fn listen(&mut self, with: &Later) -> anyhow::Result<()> {
        let config = &with.config;
        if config.spool_is_on() && self.spool.is_none() {
            self.open_spool(with).await?;
        }
        let spool = self.spool.clone().filter(|_| config.spool_is_on());
        let mut http = config.collector.http.clone();
        http.tls = context::ingest_tls(config);
        let takeover = Duration::from_millis(config.collector.spool.takeover_ms);
        let setup = Setup {
            intake: Intake::new(with.log.clone(), spool, http.ack, takeover),
            config: http,
            tokens: config.path(&config.files.tokens),
            sources: config.collector.sources.iter().flat_map(SourceConfig::names).cloned().collect(),
            packer: with.collector.packer.clone(),
            metrics: HttpMetrics::register(&with.registry)?,
            records: with.collector.metrics.records.clone(),
            health: with.collector.health.clone(),
        };
        let http = Ingest::start(setup).await?;
        *self.door.write().unwrap_or_else(PoisonError::into_inner) = Some(http.door());
        self.http = Some(http);
        Ok(())
    }

    /// Into it, for requests that another server of this process receives; nothing as long as it does not listen.
    pub fn door(&self) -> impl Fn() -> Option<IngestDoor> + Send + Sync + 'static {
        let door = self.door.clone();
        move || door.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The address for clients.
    pub fn url(&self) -> Option<String> {
        self.http.as_ref().map(Ingest::url)
    }

    /// Waits until nothing waits in the spool.
    ///
    /// # Errors
    /// The spool's.
    pub async fn finish(&mut self) -> anyhow::Result<()> {
        match &mut self.drain {
            Some(drain) => drain.finish().await.context("cannot drain the spool"),
            None => Ok(()),
        }
    }

    /// # Errors
    /// If a part ended that should not have.
    pub fn fail_if_ended(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.http.as_ref().is_some_and(Ingest::has_ended), "ingest over HTTP ended");
        anyhow::ensure!(
            !self.drain.as_ref().is_some_and(Drain::has_ended),
            "the spool can no longer be drained"
        );
        Ok(())
    }

    /// Answers what is in work, then stops draining.
    ///
    /// # Errors
    /// The spool's.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(http) = self.http.take() {
            http.stop().await;
        }
        if let Some(measuring) = self.measuring.take() {
            measuring.abort();
            let _ = measuring.await;
        }
        match self.drain.take() {
            Some(drain) => drain.stop().await.context("cannot drain the spool"),
            None => Ok(()),
        }
    }
}

fn spool_dir(config: &Config) -> PathBuf {
    config.data_dir().join("spool")
}

async fn measure(spool: Arc<Spool>, metrics: SpoolMetrics) {
    loop {
        let (spool, metrics) = (spool.clone(), metrics.clone());
        let set = move || metrics.set(&spool, Utc::now().timestamp_millis());
        // A panic in it would come again the next time.
        let _ = tokio::task::spawn_blocking(set).await;
        tokio::time::sleep(MEASURE_EVERY).await;
    }
}
