//! One topic's partition: records on their way into a batch.
//!
//! A batch grows from whatever the log has at hand, without waiting for it, until it is full or old enough. So one
//! worker can let the batches of two lanes grow side by side, and carry through the one that is due.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike as _, Months, NaiveDate, NaiveTime, Utc};
use rentroll_engines::log::{LogError, PartitionReader, Positioned};

use crate::batch;
use crate::worker::BatchLimits;

/// Records taken from the log in one read: the granularity at which a batch can be cut.
const READ_RECORDS_MAX: usize = 8192;
/// A batch is also cut at so many bytes: what it holds of records, rows and blocks is some three times as much.
const BATCH_BYTES_MAX: usize = 64 << 20;
/// A lane that is behind waits so many times longer for its batch to fill.
const BEHIND_WAITS: u32 = 8;

/// A topic's partition.
pub(crate) struct Lane {
    pub(crate) reader: Box<dyn PartitionReader>,
    /// Read, but not in a batch.
    pub(crate) ahead: VecDeque<Positioned>,
    /// A position that the log could not be told.
    pub(crate) uncommitted: Option<u64>,
    growing: Option<Growing>,
}

/// A batch that is not due yet.
struct Growing {
    records: Vec<Positioned>,
    /// The month of arrival: an insert is atomic only within one partition of the table.
    month_ms: Range<i64>,
    events: usize,
    bytes: usize,
    due_at: Instant,
    /// If it is behind even then.
    late_at: Instant,
}

impl Growing {
    /// What is late already gains more from fewer and larger batches than from an earlier one.
    fn due_at(&self, limits: BatchLimits) -> Instant {
        let behind = self.records.last().is_some_and(|last| is_behind(last, limits.wait));
        if behind { self.late_at } else { self.due_at }
    }

    fn is_full(&self, limits: BatchLimits) -> bool {
        self.events >= limits.records_max || self.bytes >= BATCH_BYTES_MAX
    }
}

impl Lane {
    pub(crate) fn new(reader: Box<dyn PartitionReader>) -> Self {
        Lane { reader, ahead: VecDeque::new(), uncommitted: None, growing: None }
    }

    /// Reads on, if all that was read is in a batch.
    pub(crate) fn fill(&mut self, wait: Duration) -> Result<(), LogError> {
        if self.ahead.is_empty() {
            self.ahead = self.reader.read(READ_RECORDS_MAX, wait)?.into();
        }
        Ok(())
    }

    /// Lets the batch grow by what is at hand; says whether it is due.
    pub(crate) fn grow(&mut self, limits: BatchLimits, now: Instant) -> Result<bool, LogError> {
        loop {
            while let Some(next) = self.ahead.front() {
                let arrived_at_ms = next.record.arrived_at_ms;
                let growing = self.growing.get_or_insert_with(|| Growing {
                    records: Vec::with_capacity(READ_RECORDS_MAX),
                    month_ms: month_of(arrived_at_ms),
                    events: 0,
                    bytes: 0,
                    due_at: now + limits.wait,
                    late_at: now + limits.wait * BEHIND_WAITS,
                });
                if growing.is_full(limits) || !growing.month_ms.contains(&arrived_at_ms) {
                    return Ok(true);
                }
                growing.events += batch::events_in(&next.record);
                growing.bytes += next.record.value.len();
                growing.records.extend(self.ahead.pop_front());
            }
            if self.growing.as_ref().is_some_and(|growing| growing.is_full(limits)) {
                return Ok(true);
            }
            self.fill(Duration::ZERO)?;
            if self.ahead.is_empty() {
                return Ok(self.growing.as_ref().is_some_and(|growing| now >= growing.due_at(limits)));
            }
        }
    }

    /// When the batch is due at the latest, if there is one.
    pub(crate) fn due_at(&self, limits: BatchLimits) -> Option<Instant> {
        self.growing.as_ref().map(|growing| growing.due_at(limits))
    }

    /// Whether a batch has begun.
    pub(crate) fn has_some(&self) -> bool {
        self.growing.is_some()
    }

    /// The batch as it is now; empty if there is none.
    pub(crate) fn take(&mut self) -> Vec<Positioned> {
        self.growing.take().map(|growing| growing.records).unwrap_or_default()
    }
}

/// Whether the record has waited in the log for longer than a batch may take to fill.
fn is_behind(record: &Positioned, wait: Duration) -> bool {
    let waited_ms = Utc::now().timestamp_millis().saturating_sub(record.record.arrived_at_ms);
    u128::try_from(waited_ms).is_ok_and(|waited_ms| waited_ms > 2 * wait.as_millis())
}

/// The month that a moment lies in, milliseconds since the epoch; the moment alone where no calendar holds it.
fn month_of(moment_ms: i64) -> Range<i64> {
    let start = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc().timestamp_millis();
    let first = DateTime::from_timestamp_millis(moment_ms).and_then(|moment| moment.date_naive().with_day(1));
    match first.and_then(|first| Some((first, first.checked_add_months(Months::new(1))?))) {
        Some((first, next)) => start(first)..start(next),
        None => moment_ms..moment_ms.saturating_add(1),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rentroll_engines::log::embedded::{EmbeddedConfig, EmbeddedLog};
    use rentroll_engines::log::{EventLog as _, Headers, Record, Subscription};
    use rentroll_schemas::Identity;
    use rentroll_schemas::topics::Topic;

    use super::*;

    const MARCH_MS: i64 = 1_772_323_200_000;

    /// A lane over a real log of one partition.
    struct Rig {
        _subscription: Box<dyn Subscription>,
        _dir: tempfile::TempDir,
        log: Arc<EmbeddedLog>,
        lane: Lane,
        sent: usize,
    }

    impl Rig {
        fn new() -> Rig {
            let dir = tempfile::tempdir().unwrap();
            let config = EmbeddedConfig { partitions: 1, ..EmbeddedConfig::new(dir.path()) };
            let log = Arc::new(EmbeddedLog::open(config).unwrap());
            let mut subscription = log.subscribe("g", &[Topic::Overflow]).unwrap();
            let mut reader = subscription.gained(Duration::from_secs(1)).unwrap().remove(0);
            reader.seek(0).unwrap();
            Rig { _subscription: subscription, _dir: dir, log, lane: Lane::new(reader), sent: 0 }
        }

        fn append(&mut self, count: usize, arrived_at_ms: i64) {
            let record = |n: usize| Record {
                key: Identity::of("t", "s", &n.to_string()),
                headers: Headers::default(),
                value: "{}".into(),
                arrived_at_ms,
            };
            let records = (self.sent..self.sent + count).map(record).collect();
            self.sent += count;
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(self.log.append(Topic::Overflow, records)).unwrap();
        }

        /// Grows until nothing more is at hand: the log tells its readers a moment after the append.
        fn grow(&mut self, limits: BatchLimits, now: Instant) -> bool {
            let until = Instant::now() + Duration::from_millis(500);
            loop {
                match self.lane.grow(limits, now).unwrap() {
                    false if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                    due => return due,
                }
            }
        }
    }

    #[test]
    fn a_batch_is_due_when_it_is_full_or_old_or_the_month_ends() {
        let limits = BatchLimits { records_max: 100, wait: Duration::from_secs(60) };
        let (mut rig, now) = (Rig::new(), Instant::now());
        assert!(!rig.lane.grow(limits, now).unwrap());
        assert_eq!((rig.lane.due_at(limits), rig.lane.take().len()), (None, 0));

        rig.append(30, MARCH_MS - 1);
        assert!(!rig.grow(limits, now), "young");
        // The records came long ago, so that waiting for more costs little.
        assert_eq!(rig.lane.due_at(limits), Some(now + limits.wait * BEHIND_WAITS));
        assert!(!rig.grow(limits, now + limits.wait), "not so old");
        assert!(rig.grow(limits, now + limits.wait * BEHIND_WAITS), "old");
        let patient = BatchLimits { wait: Duration::from_secs(1 << 31), ..limits };
        assert_eq!(rig.lane.due_at(patient), Some(now + limits.wait), "not behind by that measure");
        rig.append(100, MARCH_MS - 1);
        assert!(rig.grow(limits, now), "full");
        let batch = rig.lane.take();
        assert_eq!((batch.len(), batch[0].position, batch[99].position), (100, 0, 99));

        rig.append(10, MARCH_MS);
        assert!(rig.grow(limits, now), "another month waits");
        let batch = rig.lane.take();
        assert_eq!((batch.len(), batch[29].position), (30, 129));
        assert!(!rig.grow(limits, now));
        assert_eq!(rig.lane.take().len(), 10);
    }
}
