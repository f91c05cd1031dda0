//! One engine for all tests of this process, a database and a log for each.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rentroll_aggregator::activity::Activity;
use rentroll_aggregator::metrics::Metrics;
use rentroll_aggregator::run::{Setup, aggregate};
use rentroll_aggregator::worker::BatchLimits;
use rentroll_engines::health::Health;
use rentroll_engines::health::lag::LagRule;
use rentroll_engines::log::embedded::{EmbeddedConfig, EmbeddedLog};
use rentroll_engines::log::{EventLog, Record, SharedLog};
use rentroll_engines::store::{Store, StoreConfig};
use rentroll_schemas::meter::Meters;
use rentroll_schemas::migrations::MIGRATIONS;
use rentroll_schemas::topics::{Topic, headers};
use rentroll_schemas::{Event, yaml};

/// The data directory of this process' engine: emptied at first use.
fn data_dir() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp/aggregator");
        if let Err(error) = std::fs::remove_dir_all(&path) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
        path
    })
    .clone()
}

pub(crate) fn meters() -> Meters {
    let text = "meters:
- {name: requests, unit: request, event_type: http.request, aggregation: count, group_by: [method]}
- {name: egress_bytes, unit: byte, event_type: http.request, aggregation: sum, value: bytes}
- {name: largest, unit: byte, event_type: http.request, aggregation: max, value: bytes}
- {name: smallest, unit: byte, event_type: http.request, aggregation: min, value: bytes}
";
    yaml::parse(text, Path::new("meters.yaml")).unwrap()
}

/// A log, a store, and the aggregator between them, run for as long as there is work.
pub(crate) struct Pipeline {
    pub(crate) store: Store,
    pub(crate) meters: Meters,
    log_dir: tempfile::TempDir,
}

impl Pipeline {
    /// With a migrated database of that name.
    pub(crate) async fn new(database: &str) -> Pipeline {
        // Keeps the engine open between tests.
        static FIRST: tokio::sync::OnceCell<Store> = tokio::sync::OnceCell::const_new();
        let config = |database: &str| StoreConfig {
            database: format!("test_{database}"),
            // One engine has the databases of all tests.
            memory_bytes_max: 8 << 30,
            ..StoreConfig::embedded(data_dir())
        };
        FIRST.get_or_init(|| async { Store::open(&config("first")).await.unwrap() }).await;
        let store = Store::open(&config(database)).await.unwrap();
        store.migrate(MIGRATIONS).await.unwrap();
        Pipeline { store, meters: meters(), log_dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn log(&self) -> EmbeddedLog {
        let config = EmbeddedConfig { partitions: 2, ..EmbeddedConfig::new(self.log_dir.path()) };
        EmbeddedLog::open(config).unwrap()
    }

    /// The log is lost; the next one begins at 0.
    pub(crate) fn lose_log(&mut self) {
        self.log_dir = tempfile::tempdir().unwrap();
    }

    /// Appends, and aggregates all that the log has.
    pub(crate) async fn send(&self, events: &[Sent<'_>]) {
        self.send_records(events.iter().map(Sent::record).collect()).await;
    }

    pub(crate) async fn send_records(&self, records: Vec<Record>) {
        let log = Arc::new(self.log());
        log.append(Topic::Usage, records).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let setup = self.setup(log.clone(), &stop);
        let runtime = tokio::runtime::Handle::current();
        let running = tokio::task::spawn_blocking(move || aggregate(&setup, &runtime));
        let deadline = Instant::now() + Duration::from_secs(60);
        while Topic::ALL
            .iter()
            .flat_map(|topic| log.lag("test", *topic).unwrap())
            .any(|lag| lag.committed < lag.end)
        {
            assert!(Instant::now() < deadline, "the aggregator did not get through");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.store(true, Ordering::Relaxed);
        running.await.unwrap().unwrap();
    }

    pub(crate) fn setup(&self, log: SharedLog, stop: &Arc<AtomicBool>) -> Setup {
        Setup {
            log,
            store: self.store.clone(),
            meters: self.meters.clone().into(),
            group: "test".to_owned(),
            limits: BatchLimits { records_max: 100, wait: Duration::from_millis(5) },
            metrics: Metrics::register(&prometheus::Registry::new()).unwrap(),
            activity: Arc::new(Activity::default()),
            lag_rule: LagRule::default(),
            proof_after: Duration::from_secs(600),
            health: Health::default(),
            stop: stop.clone(),
        }
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.store.client().query_raw(sql).execute().await.unwrap();
    }
}

/// An event to send.
#[derive(Clone, Copy)]
pub(crate) struct Sent<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) id: &'a str,
    pub(crate) time: &'a str,
    pub(crate) bytes: u64,
    pub(crate) method: &'a str,
}

impl Sent<'_> {
    pub(crate) fn record(&self) -> Record {
        let Sent { tenant, id, time, bytes, method } = self;
        let json = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"web","type":"http.request","subject":"{tenant}","time":"{time}","data":{{"bytes":{bytes},"method":"{method}"}}}}"#
        );
        record(&json, Utc::now())
    }
}

/// The record of a backfilled event.
pub(crate) fn record(json: &str, arrived_at: DateTime<Utc>) -> Record {
    let event = Event::from_json(json.as_bytes()).unwrap();
    Record {
        key: event.identity(),
        headers: [(headers::TENANT, event.tenant.as_ref()), (headers::BACKFILL, "1")].into_iter().collect(),
        value: json.to_owned().into(),
        arrived_at_ms: arrived_at.timestamp_millis(),
    }
}
