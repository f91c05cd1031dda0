//! Watches the lag, from a thread of its own: a broker that does not answer must hold up no membership.
//!
//! Every two seconds the lag of all partitions, in records, in events and in seconds, becomes metrics, the health of
//! the part `aggregator/lag`, and what `/readyz` tells. Every ten, so do the batches that stand unfinished.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::Utc;
use rentroll_engines::health::lag::{LagWatch, Measured, Verdict};
use rentroll_engines::health::{Part, TopicLag};
use rentroll_engines::log::LogError;
use rentroll_engines::store::StoreError;
use rentroll_schemas::topics::Topic;

use crate::density::Density;
use crate::run::Setup;

/// How often lag is measured.
const LAG_EVERY: Duration = Duration::from_secs(2);
/// How often unfinished batches are looked for.
const UNFINISHED_EVERY: Duration = Duration::from_secs(10);
/// How late a stop is noticed.
const STOP_WAIT: Duration = Duration::from_millis(50);

/// The watch; it ends when it is dropped.
pub(crate) struct Watch {
    own: Arc<Mutex<BTreeSet<(Topic, u32)>>>,
    density: Arc<Density>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to watch.
    pub(crate) fn start(setup: &Setup, runtime: &tokio::runtime::Handle) -> Watch {
        let own: Arc<Mutex<BTreeSet<(Topic, u32)>>> = Arc::default();
        let density = Arc::<Density>::default();
        let stop = Arc::new(AtomicBool::new(false));
        let round = Round {
            setup: setup.clone(),
            runtime: runtime.clone(),
            own: own.clone(),
            density: density.clone(),
            part: setup.health.part("aggregator/lag"),
            arrivals: BTreeMap::new(),
            watch: LagWatch::new(setup.lag_rule),
            failing_since: None,
        };
        let stopped = stop.clone();
        let thread =
            std::thread::Builder::new().name("agg-lag".to_owned()).spawn(move || round.run(&stopped));
        // Without it the aggregator works as well; only its lag is not told.
        let thread =
            thread.inspect_err(|error| tracing::error!(%error, "cannot start the lag's thread")).ok();
        Watch { own, density, stop, thread }
    }

    /// Where workers say what their batches held.
    pub(crate) fn density(&self) -> Arc<Density> {
        self.density.clone()
    }

    /// This member reads these partitions now, and no others.
    pub(crate) fn owns(&self, partitions: BTreeSet<(Topic, u32)>) {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = partitions;
    }

    /// Asks whether this member reads partition 0 of the main lane: of all members one does.
    pub(crate) fn is_first(&self) -> impl Fn() -> bool + Send + 'static {
        let own = self.own.clone();
        move || own.lock().unwrap_or_else(PoisonError::into_inner).contains(&(Topic::Usage, 0))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there was told where it happened.
            let _ = thread.join();
        }
    }
}

struct Round {
    setup: Setup,
    runtime: tokio::runtime::Handle,
    own: Arc<Mutex<BTreeSet<(Topic, u32)>>>,
    density: Arc<Density>,
    part: Part,
    /// For each partition the record that was looked at last, and when it arrived.
    arrivals: BTreeMap<(Topic, u32), (u64, i64)>,
    watch: LagWatch,
    failing_since: Option<Instant>,
}

impl Round {
    fn run(mut self, stop: &AtomicBool) {
        let mut unfinished_at: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            self.show_activity();
            match self.measure() {
                Ok(measured) => {
                    self.failing_since = None;
                    self.tell(&measured);
                    if unfinished_at.is_none_or(|at| at.elapsed() >= UNFINISHED_EVERY) {
                        unfinished_at = Some(Instant::now());
                        if let Err(error) = self.show_unfinished(&measured) {
                            tracing::debug!(%error, "cannot look for unfinished batches");
                        }
                    }
                }
                Err(error) => self.cannot_measure(&error),
            }
            while began.elapsed() < LAG_EVERY && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(STOP_WAIT);
            }
        }
    }

    fn measure(&mut self) -> Result<Vec<Measured>, LogError> {
        let mut measured = Vec::new();
        for topic in Topic::ALL {
            let lags = self.setup.log.lag(&self.setup.group, topic)?;
            let waiting = lags.iter().filter(|lag| lag.end > lag.committed);
            let places: Vec<(u32, u64)> = waiting.map(|lag| (lag.partition, lag.committed)).collect();
            self.look_at(topic, &places)?;
            let now_ms = Utc::now().timestamp_millis();
            for lag in lags {
                let is_waiting = lag.end > lag.committed;
                let arrived_at_ms =
                    self.arrival(topic, (lag.partition, lag.committed)).filter(|_| is_waiting);
                // A clock that was set back shows no negative age.
                let age_ms = arrived_at_ms.map_or(0, |arrived| (now_ms - arrived).max(0)) as u64;
                let records = lag.end.saturating_sub(lag.committed);
                measured.push(Measured {
                    topic,
                    partition: lag.partition,
                    committed: lag.committed,
                    records,
                    events: self.density.events(topic, records),
                    age: Duration::from_millis(age_ms),
                });
            }
        }
        Ok(measured)
    }

    /// Learns when the records at these places arrived. A batch takes longer than a round, and to look at one record
    /// Kafka reads some thousand: what is known is not asked again.
    fn look_at(&mut self, topic: Topic, places: &[(u32, u64)]) -> Result<(), LogError> {
        let unknown: Vec<(u32, u64)> =
            places.iter().copied().filter(|place| self.arrival(topic, *place).is_none()).collect();
        let arrivals = self.setup.log.arrivals(&self.setup.group, topic, &unknown)?;
        for ((partition, position), arrived_at_ms) in unknown.into_iter().zip(arrivals) {
            if let Some(arrived_at_ms) = arrived_at_ms {
                self.arrivals.insert((topic, partition), (position, arrived_at_ms));
            }
        }
        Ok(())
    }

    fn arrival(&self, topic: Topic, (partition, position): (u32, u64)) -> Option<i64> {
        let known = self.arrivals.get(&(topic, partition)).filter(|known| known.0 == position);
        known.map(|(_, arrived_at_ms)| *arrived_at_ms)
    }

    fn tell(&mut self, measured: &[Measured]) {
        let metrics = &self.setup.metrics;
        for one in measured {
            let labels = [one.topic.name(), &one.partition.to_string()];
            let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            metrics.lag_records.with_label_values(&labels).set(whole(one.records));
            metrics.lag_events.with_label_values(&labels).set(whole(one.events));
            metrics.position.with_label_values(&labels).set(whole(one.committed));
            metrics.lag_seconds.with_label_values(&labels).set(one.age.as_secs_f64());
        }
        let of_topic = |topic: Topic| {
            let of_topic = measured.iter().filter(move |one| one.topic == topic);
            let records = of_topic.clone().map(|one| one.records).sum();
            let events = of_topic.clone().map(|one| one.events).sum();
            let age = of_topic.map(|one| one.age).max().unwrap_or_default();
            TopicLag { topic: topic.name(), records, events, seconds: age.as_secs_f64() }
        };
        self.setup.health.set_lag(Topic::ALL.map(of_topic).into());
        let now = Instant::now();
        self.watch.observe(now, measured);
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.watch.verdict(now, &own) {
            Verdict::Keeps(detail) => self.part.well(detail),
            Verdict::Stuck(reason) => self.part.failing(reason),
        }
    }

    /// A broker that restarts is away for seconds; a part is not ready only when it stays away.
    fn cannot_measure(&mut self, error: &LogError) {
        tracing::warn!(%error, "cannot measure the lag");
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        match since.elapsed() > self.setup.lag_rule.window {
            true => self.part.failing(format!("cannot measure the lag: {error}")),
            false => self.part.well("the log does not tell its positions"),
        }
    }

    /// Batches at or behind the committed positions that are planned and not done. A plan and its end are one row, by
    /// FINAL: a clock that was set back in between would else make the end the older. What stands before them is
    /// for `rentroll books` to find: it was passed over.
    fn show_unfinished(&self, measured: &[Measured]) -> Result<(), StoreError> {
        let heads: Vec<String> = measured
            .iter()
            .map(|one| {
                format!(
                    "(topic = '{}' AND partition = {} AND first >= {})",
                    one.topic, one.partition, one.committed
                )
            })
            .collect();
        if heads.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "SELECT count(), toUnixTimestamp64Milli(min(planned_at)) FROM (\
               SELECT argMax(state, (written_at, state)) AS newest, max(written_at) AS planned_at FROM batches FINAL \
               WHERE {} GROUP BY topic, partition, first HAVING newest = 0)",
            heads.join(" OR ")
        );
        let store = &self.setup.store;
        let asked = self.runtime.block_on(store.client().query(&sql).fetch_one::<(u64, i64)>());
        let (count, planned_at_ms) = asked.map_err(|error| store.error(error))?;
        let age_ms = if count == 0 { 0 } else { (Utc::now().timestamp_millis() - planned_at_ms).max(0) };
        self.setup.metrics.unfinished.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.setup.metrics.unfinished_seconds.set(age_ms as f64 / 1_000.0);
        Ok(())
    }

    fn show_activity(&self) {
        let snapshot = self.setup.activity.snapshot(Utc::now().timestamp().div_euclid(60));
        let metrics = &self.setup.metrics;
        // Yesterday's busiest tenants must not stay for ever.
        metrics.tenant_rate.reset();
        metrics.tenant_share.reset();
        for share in &snapshot.shares {
            let label = [share.tenant.as_str()];
            metrics.tenant_rate.with_label_values(&label).set(share.events as f64 / 5.0);
            metrics
                .tenant_share
                .with_label_values(&label)
                .set(share.events as f64 / snapshot.total.max(1) as f64);
        }
        metrics.tenants_active.set(snapshot.active as f64);
    }
}
