//! What a collector counts.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

/// The collector's metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Lines and events, by source and verdict.
    pub records: IntCounterVec,
    /// Bytes taken, by source.
    pub bytes: IntCounterVec,
    /// Bytes waiting in the files, by source.
    pub lag_bytes: IntGaugeVec,
    /// Events marked for the overflow lane.
    pub overflow: IntCounter,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// If they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Metrics {
            records: IntCounterVec::new(
                Opts::new(
                    "rentroll_collector_records_total",
                    "Lines and events read, by what became of them",
                ),
                &["source", "verdict"],
            )?,
            bytes: IntCounterVec::new(
                Opts::new("rentroll_collector_bytes_total", "Bytes of the lines read"),
                &["source"],
            )?,
            lag_bytes: IntGaugeVec::new(
                Opts::new(
                    "rentroll_collector_source_lag_bytes",
                    "Bytes in the source's files that are still to be read",
                ),
                &["source"],
            )?,
            overflow: IntCounter::new(
                "rentroll_collector_overflow_events_total",
                "Events beyond their tenant's share, marked for the overflow lane",
            )?,
        };
        registry.register(Box::new(metrics.records.clone()))?;
        registry.register(Box::new(metrics.bytes.clone()))?;
        registry.register(Box::new(metrics.lag_bytes.clone()))?;
        registry.register(Box::new(metrics.overflow.clone()))?;
        Ok(metrics)
    }
}
