//! What an aggregator counts.

use prometheus::{
    CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry,
};

/// The aggregator's metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Records by verdict.
    pub events: IntCounterVec,
    /// Rejects by reason.
    pub rejects: IntCounterVec,
    /// Stored events that no meter matched.
    pub unmatched: IntCounter,
    /// Duplicates with other content than the event that they repeat.
    pub conflicts: IntCounter,
    /// Events of a meter without its value, by meter.
    pub without_value: IntCounterVec,
    /// Cells of rollups that were put right, by table and why they were looked at.
    pub repairs: IntCounterVec,
    /// Batches done.
    pub batches: IntCounter,
    /// Records between the committed position and the log's end.
    pub lag_records: IntGaugeVec,
    /// The events in them, by what the last batches held.
    pub lag_events: IntGaugeVec,
    /// Committed positions.
    pub position: IntGaugeVec,
    /// How long the record at the committed position has waited, in seconds.
    pub lag_seconds: GaugeVec,
    /// Batches that are planned and not done, at or behind the committed positions.
    pub unfinished: IntGauge,
    /// How long the oldest of them has stood, in seconds.
    pub unfinished_seconds: Gauge,
    /// When a batch was last done.
    pub last_progress: Gauge,
    /// Bytes of the dedup filters, by partition.
    pub dedup_bytes: IntGaugeVec,
    /// Whether the store took the last insert.
    pub store_up: Gauge,
    /// Of each insert.
    pub insert_seconds: Histogram,
    /// CPU time of the workers' threads, by step.
    pub step_cpu_seconds: CounterVec,
    /// Events per minute of the busiest tenants.
    pub tenant_rate: GaugeVec,
    /// Their share of all events.
    pub tenant_share: GaugeVec,
    /// Tenants that sent something in the last five minutes.
    pub tenants_active: Gauge,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// If they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counters =
            |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let gauges = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["tenant"]);
        // From a millisecond to half a minute: an insert of one row and one into a store that is struggling.
        let buckets = prometheus::exponential_buckets(0.001, 2.0, 16)?;
        let insert = HistogramOpts::new("rentroll_store_insert_duration_seconds", "Duration of inserts")
            .buckets(buckets);
        let metrics = Metrics {
            events: counters("rentroll_aggregator_events_total", "Records by verdict", "verdict")?,
            rejects: counters("rentroll_aggregator_rejects_total", "Rejects by reason", "reason")?,
            unmatched: IntCounter::new(
                "rentroll_aggregator_unmatched_total",
                "Stored events that no meter matched",
            )?,
            conflicts: IntCounter::new(
                "rentroll_aggregator_conflicts_total",
                "Duplicates with other content than the event that they repeat",
            )?,
            without_value: counters(
                "rentroll_aggregator_without_value_total",
                "Events of a meter whose value was missing or not a number",
                "meter",
            )?,
            repairs: IntCounterVec::new(
                Opts::new(
                    "rentroll_aggregator_rollup_repairs_total",
                    "Cells of rollups that differed from what they are made of, and were put right",
                ),
                &["table", "why"],
            )?,
            batches: IntCounter::new("rentroll_aggregator_batches_total", "Batches done")?,
            lag_records: IntGaugeVec::new(
                Opts::new(
                    "rentroll_aggregator_lag_records",
                    "Records between the committed position and the log's end; a record carries one event or many",
                ),
                &["topic", "partition"],
            )?,
            lag_events: IntGaugeVec::new(
                Opts::new(
                    "rentroll_aggregator_lag_events",
                    "Events that wait: lag_records by the events per record of the topic's last batches in this \
                     process; exact where a record carries one event, and as many as records before the first batch",
                ),
                &["topic", "partition"],
            )?,
            position: IntGaugeVec::new(
                Opts::new("rentroll_aggregator_committed_position", "Where the group would resume"),
                &["topic", "partition"],
            )?,
            lag_seconds: GaugeVec::new(
                Opts::new(
                    "rentroll_aggregator_lag_seconds",
                    "How long the record at the committed position has waited; 0 if none waits",
                ),
                &["topic", "partition"],
            )?,
            unfinished: IntGauge::new(
                "rentroll_aggregator_unfinished_batches",
                "Batches that are planned and not done",
            )?,
            unfinished_seconds: Gauge::new(
                "rentroll_aggregator_unfinished_batch_age_seconds",
                "How long the oldest batch that is planned and not done has stood; 0 if there is none",
            )?,
            last_progress: Gauge::new(
                "rentroll_aggregator_last_progress_timestamp_seconds",
                "When a batch was last done",
            )?,
            dedup_bytes: IntGaugeVec::new(
                Opts::new("rentroll_aggregator_dedup_bytes", "Bytes of the dedup filters"),
                &["partition"],
            )?,
            store_up: Gauge::new("rentroll_store_up", "1 if the store took the last insert")?,
            insert_seconds: Histogram::with_opts(insert)?,
            step_cpu_seconds: CounterVec::new(
                Opts::new(
                    "rentroll_aggregator_step_cpu_seconds_total",
                    "CPU time of the workers' threads, by step",
                ),
                &["step"],
            )?,
            tenant_rate: gauges(
                "rentroll_tenant_events_per_minute",
                "Events per minute over the last five minutes of arrival, busiest tenants and __other__",
            )?,
            tenant_share: gauges(
                "rentroll_tenant_share_ratio",
                "Share of all events over the last five minutes",
            )?,
            tenants_active: Gauge::new(
                "rentroll_tenants_active",
                "Tenants with events in the last five minutes",
            )?,
        };
        registry.register(Box::new(metrics.events.clone()))?;
        registry.register(Box::new(metrics.rejects.clone()))?;
        registry.register(Box::new(metrics.unmatched.clone()))?;
        registry.register(Box::new(metrics.conflicts.clone()))?;
        registry.register(Box::new(metrics.without_value.clone()))?;
        registry.register(Box::new(metrics.repairs.clone()))?;
        registry.register(Box::new(metrics.batches.clone()))?;
        registry.register(Box::new(metrics.lag_records.clone()))?;
        registry.register(Box::new(metrics.lag_events.clone()))?;
        registry.register(Box::new(metrics.position.clone()))?;
        registry.register(Box::new(metrics.lag_seconds.clone()))?;
        registry.register(Box::new(metrics.unfinished.clone()))?;
        registry.register(Box::new(metrics.unfinished_seconds.clone()))?;
        registry.register(Box::new(metrics.last_progress.clone()))?;
        registry.register(Box::new(metrics.dedup_bytes.clone()))?;
        registry.register(Box::new(metrics.store_up.clone()))?;
        registry.register(Box::new(metrics.insert_seconds.clone()))?;
        registry.register(Box::new(metrics.step_cpu_seconds.clone()))?;
        registry.register(Box::new(metrics.tenant_rate.clone()))?;
        registry.register(Box::new(metrics.tenant_share.clone()))?;
        registry.register(Box::new(metrics.tenants_active.clone()))?;
        for verdict in ["stored", "duplicate", "rejected"] {
            metrics.events.with_label_values(&[verdict]);
        }
        Ok(metrics)
    }
}
