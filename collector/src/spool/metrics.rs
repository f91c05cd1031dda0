//! What the spool counts.

use prometheus::{IntGauge, Registry};

use super::Spool;

/// Its metrics, set from time to time.
#[derive(Clone, Debug)]
pub struct SpoolMetrics {
    bytes: IntGauge,
    records: IntGauge,
    oldest_age_seconds: IntGauge,
    damaged: IntGauge,
    taken_over: IntGauge,
}

impl SpoolMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// If they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        Ok(SpoolMetrics {
            bytes: gauge("rentroll_collector_spool_bytes", "Bytes of the spool on disk")?,
            records: gauge("rentroll_collector_spool_records", "Records waiting in the spool")?,
            oldest_age_seconds: gauge(
                "rentroll_collector_spool_oldest_age_seconds",
                "Age of the oldest record waiting in the spool, 0 if none waits",
            )?,
            damaged: gauge(
                "rentroll_collector_spool_damaged_records",
                "Records lost to damage of the spool on disk, since the start",
            )?,
            taken_over: gauge(
                "rentroll_collector_spool_taken_over",
                "1 while events go to the spool because the event log takes none",
            )?,
        })
    }

    /// Sets them. Blocking: reads positions from disk.
    pub fn set(&self, spool: &Spool, now_ms: i64) {
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.bytes.set(whole(spool.bytes()));
        if let Ok(waiting) = spool.waiting() {
            self.records.set(whole(waiting));
        }
        self.oldest_age_seconds.set(spool.oldest_ms().map_or(0, |oldest| (now_ms - oldest).max(0) / 1000));
        self.damaged.set(whole(spool.damaged()));
        self.taken_over.set(i64::from(spool.has_taken_over()));
    }
}
