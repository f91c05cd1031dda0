//! The long-running parts, started together or apart, and stopped in the order in which data flows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rentroll_aggregator::activity::Activity;
use rentroll_aggregator::meters::watch::seeded;
use rentroll_aggregator::repair::keeper::Keeper;
use rentroll_aggregator::run as aggregator;
use rentroll_aggregator::worker::BatchLimits;
use rentroll_collector::collect::{self, CollectError, Mode, Progress};
use rentroll_collector::outgoing::Packer;
use rentroll_collector::overflow::Lanes;
use rentroll_engines::health::Health;
use rentroll_engines::health::lag::LagRule;
use rentroll_engines::log::embedded::door;
use rentroll_engines::log::{LogError, SharedLog};
use rentroll_engines::store::Store;
use rentroll_schemas::meter::LiveMeters;
use rentroll_schemas::topics::Topic;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::config::{Config, LogKind};
use crate::context;

pub mod http;
pub mod ingest;
pub mod limits;
pub mod progress;
pub mod store;

/// Passes over the hours that corrections change before `--once` leaves them to the next run.
const SETTLE_PASSES_MAX: usize = 50;

/// Which parts to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts {
    /// Sources to event log.
    pub collector: bool,
    /// Event log to ClickHouse.
    pub aggregator: bool,
    /// Console; health and metrics are served by every part.
    pub console: bool,
}

impl Parts {
    /// Everything on one machine.
    pub const ALL: Parts = Parts { collector: true, aggregator: true, console: true };

    fn needs_log(self) -> bool {
        self.collector || self.aggregator
    }

    fn needs_store(self) -> bool {
        self.aggregator || self.console
    }
}

/// What runs.
pub struct System {
    /// The store, if a part needs it.
    pub store: Option<Store>,
    /// How the collectors get on.
    pub progress: Arc<Progress>,
    /// Where health, metrics and the console are.
    pub address: std::net::SocketAddr,
    meters: LiveMeters,
    /// Into the embedded log, for commands that have something to append while this process holds it.
    door: Option<JoinHandle<()>>,
    log: Option<SharedLog>,
    group: String,
    stop_collectors: Arc<AtomicBool>,
    stop_aggregator: Arc<AtomicBool>,
    stop_http: Arc<tokio::sync::Notify>,
    collectors: Vec<JoinHandle<Result<(), CollectError>>>,
    ingest: ingest::Ingesting,
    aggregator: Option<JoinHandle<Result<(), LogError>>>,
    limits: Option<JoinHandle<()>>,
    /// Takes up changes of the meters where no aggregator of this process does.
    following: Option<JoinHandle<()>>,
    http: JoinHandle<std::io::Result<()>>,
}

impl System {
    /// Starts `parts`. Fails as a whole: nothing goes on running if one of them cannot start.
    ///
    /// # Errors
    /// Says which part, and why.
    pub async fn start(config: &Config, parts: Parts, mode: Mode) -> anyhow::Result<Self> {
        // A mistake in the file is found before anything is started.
        let file = context::meters(config)?;
        let tenants = context::tenants_if_any(config)?;
        // The port first: it is the commonest fault, and the cheapest to find.
        let listener = http::listen(config.http.listen, "http.listen").await?;
        let api_listener = match config.api.listen.filter(|_| parts.console) {
            Some(address) => Some(http::listen(address, "api.listen").await?),
            None => None,
        };
        let health = Health::default();
        let registry = prometheus::Registry::new();
        let store = match parts.needs_store() {
            // Who runs it once wants to know at once.
            true if mode.once => Some(context::migrated_store(config).await?),
            true => Some(store::when_there(config, &listener, &health).await?),
            false => None,
        };
        if let (true, Some(store), Some(tenants)) = (parts.aggregator, &store, &tenants) {
            rentroll_aggregator::tenants::seed(store, tenants, chrono::Utc::now()).await?;
        }
        let meters = match &store {
            Some(store) if parts.aggregator => LiveMeters::new(seeded(store, &file).await?),
            Some(store) => LiveMeters::new(context::meters_in_force(config, store).await?),
            None => LiveMeters::new(file),
        };
        let catalogue = match parts.needs_store() {
            true => context::catalogue_if_any(config, &meters.now())?.map(Arc::new),
            false => None,
        };
        let log = if parts.needs_log() {
            let for_opening = config.clone();
            let open = move || match mode.once {
                true => context::event_log(&for_opening),
                false => context::event_log_when_there(&for_opening),
            };
            Some(tokio::task::spawn_blocking(open).await??)
        } else {
            None
        };
        let progress = Arc::new(Progress::default());
        let (stop_collectors, stop_aggregator) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));

        let mut aggregator = None;
        let mut limits = None;
        if let (true, Some(log), Some(store)) = (parts.aggregator, &log, &store) {
            let setup =
                aggregator_setup(config, log, store, meters.clone(), &registry, &health, &stop_aggregator)?;
            if let Some(catalogue) = catalogue.clone() {
                let gauge = limits::Limits::register(&registry)?;
                limits = Some(tokio::spawn(gauge.keep(store.clone(), catalogue, setup.activity.clone())));
            }
            let runtime = tokio::runtime::Handle::current();
            aggregator = Some(tokio::task::spawn_blocking(move || aggregator::aggregate(&setup, &runtime)));
        }
        let mut collectors = Vec::new();
        let mut ingest = ingest::Ingesting::default();
        if let (true, Some(log)) = (parts.collector, &log) {
            let metrics = rentroll_collector::metrics::Metrics::register(&registry)?;
            let setup = collect::Setup {
                log: log.clone(),
                packer: Packer {
                    lanes: Lanes::new(&config.collector.overflow, metrics.overflow.clone()),
                    encoding: config.collector.encoding,
                    partitions: log.partitions(),
                },
                state_dir: config.data_dir().join("collector"),
                base: config.base.clone(),
                metrics,
                health: health.clone(),
                stop: stop_collectors.clone(),
                progress: progress.clone(),
            };
            ingest = ingest::Ingesting::start(config, log, &setup, &registry, mode).await?;
            for source in &config.collector.sources {
                collectors.push(tokio::spawn(collect::follow(setup.clone(), source.clone(), mode)));
            }
        }
        let address = listener.local_addr().context("cannot tell the address listened on")?;
        let (mut console, mut alone) = (None, None);
        if let (true, Some(store)) = (parts.console, &store) {
            let api = http::api(config, store, &meters, catalogue.clone(), ingest.door(), &registry)?;
            alone = api_listener.map(|listener| (listener, api.clone()));
            console = Some(api.merge(http::console(store, &meters, catalogue, &health)));
        }
        let following = match (&store, parts.aggregator) {
            (Some(store), false) => Some(tokio::spawn(follow_meters(store.clone(), meters.clone()))),
            _ => None,
        };
        let stop_http = Arc::new(tokio::sync::Notify::new());
        let http = tokio::spawn(http::serve(listener, registry, health, console, alone, stop_http.clone()));
        let door = log.as_ref().and_then(|log| open_door(config, log));
        Ok(System {
            store,
            meters,
            door,
            progress,
            address,
            log,
            group: config.log.kafka.group.clone(),
            stop_collectors,
            stop_aggregator,
            stop_http,
            collectors,
            ingest,
            aggregator,
            limits,
            following,
            http,
        })
    }

    /// Where events are received over HTTP, if they are.
    pub fn ingest_url(&self) -> Option<String> {
        self.ingest.url()
    }

    /// Waits until the collectors have read their files, the spool is empty, and the aggregator has done all of the log.
    ///
    /// # Errors
    /// A collector's.
    pub async fn drain(&mut self) -> anyhow::Result<()> {
        while !self.collectors.iter().all(JoinHandle::is_finished) {
            self.fail_if_aggregator_ended().await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for collector in self.collectors.drain(..) {
            collector.await.context("a collector broke off")??;
        }
        self.ingest.finish().await?;
        while self.aggregator.is_some() && self.has_work().await? {
            self.fail_if_aggregator_ended().await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.settle().await
    }

    /// Brings the rollups up to corrections that have come, as the aggregator does every few seconds while it runs.
    async fn settle(&self) -> anyhow::Result<()> {
        let Some(store) = self.store.as_ref().filter(|_| self.aggregator.is_some()) else { return Ok(()) };
        let (store, meters) = (store.clone(), self.meters.clone());
        // Who runs it once may have changed the meters before.
        rentroll_aggregator::meters::watch::catch_up(&store, &meters.now()).await?;
        let keeper = Keeper { store, meters, after: chrono::TimeDelta::zero(), metrics: None };
        for _ in 0..SETTLE_PASSES_MAX {
            if keeper.settle().await?.left == 0 {
                return Ok(());
            }
        }
        // Another aggregator is at work on those hours, and sees to them.
        tracing::info!("some hours are being written; their rollups are checked later");
        Ok(())
    }

    /// Whether the aggregator has something to do. A log that is away for a moment (a broker that has just
    /// started has no coordinator for the group yet) is waited for, as the aggregator itself does.
    async fn has_work(&self) -> anyhow::Result<bool> {
        match self.waiting().await {
            Ok(waiting) => Ok(waiting > 0),
            Err(error) if matches!(error.downcast_ref(), Some(LogError::Unavailable(_))) => {
                tracing::warn!(%error, "cannot ask for the lag; asking again");
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Records in the log that the aggregator has not done.
    ///
    /// # Errors
    /// The log's.
    pub async fn waiting(&self) -> anyhow::Result<u64> {
        let Some(log) = self.log.clone() else { return Ok(0) };
        let group = self.group.clone();
        let lag = tokio::task::spawn_blocking(move || -> Result<u64, LogError> {
            let mut sum = 0;
            for topic in Topic::ALL {
                sum += log
                    .lag(&group, topic)?
                    .iter()
                    .map(|lag| lag.end.saturating_sub(lag.committed))
                    .sum::<u64>();
            }
            Ok(sum)
        });
        Ok(lag.await??)
    }

    async fn fail_if_aggregator_ended(&mut self) -> anyhow::Result<()> {
        match self.aggregator.take_if(|aggregator| aggregator.is_finished()) {
            None => Ok(()),
            Some(ended) => {
                ended.await.context("the aggregator broke off")??;
                anyhow::bail!("the aggregator ended before its work was done")
            }
        }
    }

    /// Waits until a part fails, or for ever.
    ///
    /// # Errors
    /// The part's.
    pub async fn until_failure(&mut self) -> anyhow::Result<std::convert::Infallible> {
        loop {
            self.fail_if_aggregator_ended().await?;
            let mut still = Vec::new();
            for collector in self.collectors.drain(..) {
                if collector.is_finished() {
                    collector.await.context("a collector broke off")??;
                } else {
                    still.push(collector);
                }
            }
            self.collectors = still;
            self.ingest.fail_if_ended()?;
            if self.ingest.look().await? {
                crate::output::note(&format!("ingest:     {}", self.ingest.url().unwrap_or_default()));
            }
            if self.http.is_finished() {
                anyhow::bail!("the HTTP server ended");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Stops collectors, then the aggregator with the batch in hand, then the console, then the store.
    ///
    /// # Errors
    /// The first part's that did not end well; all are stopped in any case.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        // Senders first: what they were told is durable is in the log or in the spool.
        let mut result = std::mem::take(&mut self.ingest).stop().await;
        self.stop_collectors.store(true, Ordering::Relaxed);
        for collector in self.collectors.drain(..) {
            let ended = collector.await.context("a collector broke off").and_then(|ended| Ok(ended?));
            result = result.and(ended);
        }
        self.stop_aggregator.store(true, Ordering::Relaxed);
        if let Some(aggregator) = self.aggregator.take() {
            let ended = aggregator.await.context("the aggregator broke off").and_then(|ended| Ok(ended?));
            result = result.and(ended);
        }
        for task in [self.limits.take(), self.following.take()].into_iter().flatten() {
            task.abort();
            // It holds the store until it is gone.
            let _ = task.await;
        }
        if let Some(door) = self.door.take() {
            door.abort();
            // It holds the log until it is gone.
            let _ = door.await;
        }
        self.stop_http.notify_one();
        if tokio::time::timeout(Duration::from_secs(5), &mut self.http).await.is_err() {
            self.http.abort();
        }
        drop(self.log.take());
        if let Some(store) = self.store.take() {
            store.close().await;
        }
        result
    }
}

/// How often a process without an aggregator looks for changes of the meters.
const METERS_EVERY: Duration = Duration::from_secs(2);

/// Keeps `meters` as the store has them, for ever. Nothing is counted by them here, so that they can be replaced at any
/// time.
async fn follow_meters(store: Store, meters: LiveMeters) {
    loop {
        tokio::time::sleep(METERS_EVERY).await;
        match rentroll_aggregator::meters::load(&store).await {
            // None: no aggregator has run yet, and those of the file hold.
            Ok(found) if found.meters.is_empty() || found == *meters.now() => {}
            Ok(found) => drop(meters.replace(found)),
            Err(error) => tracing::warn!(%error, "cannot look for changes of the meters; looking again"),
        }
    }
}

/// Lets other commands append to the embedded log. Without it everything else works.
fn open_door(config: &Config, log: &SharedLog) -> Option<JoinHandle<()>> {
    let (LogKind::Embedded, log, dir) = (config.log.kind, log.clone(), config.data_dir().join("log")) else {
        return None;
    };
    Some(tokio::spawn(async move {
        if let Err(error) = door::serve(log, &dir).await {
            tracing::warn!(%error, "`rentroll rejects replay` will not reach this process");
        }
    }))
}

fn aggregator_setup(
    config: &Config,
    log: &SharedLog,
    store: &Store,
    meters: LiveMeters,
    registry: &prometheus::Registry,
    health: &Health,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<aggregator::Setup> {
    Ok(aggregator::Setup {
        log: log.clone(),
        store: store.clone(),
        meters,
        group: config.log.kafka.group.clone(),
        limits: BatchLimits {
            records_max: config.aggregator.batch_records_max,
            wait: Duration::from_millis(config.aggregator.batch_wait_ms),
        },
        proof_after: Duration::from_secs(60 * config.aggregator.proof_after_minutes),
        lag_rule: LagRule {
            window: Duration::from_secs(config.aggregator.stall_seconds),
            age_max: Duration::from_secs(config.aggregator.lag_seconds_max),
        },
        metrics: rentroll_aggregator::metrics::Metrics::register(registry)?,
        activity: Arc::new(Activity::default()),
        health: health.clone(),
        stop: stop.clone(),
    })
}

/// Listens for Ctrl-C and SIGTERM, from when it is made on: before that they end the process at once.
pub struct AskedToStop {
    interrupt: Signal,
    terminate: Signal,
}

impl AskedToStop {
    /// Begins to listen.
    ///
    /// # Errors
    /// If signals cannot be listened for.
    pub fn listen() -> std::io::Result<AskedToStop> {
        Ok(AskedToStop {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for one of them.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Waits for Ctrl-C or SIGTERM, from now on.
///
/// # Errors
/// If signals cannot be listened for.
pub async fn asked_to_stop() -> anyhow::Result<()> {
    AskedToStop::listen().context("cannot listen for signals")?.asked().await;
    Ok(())
}
