//! One topic's partition: records on their way into a batch.
//!
//! A batch grows from whatever the log has at hand, without waiting for it, until it is full or old enough. So one
//! worker can let the batches of two lanes grow side by side, and carry through the one that is due.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike as _, Months, NaiveDate, NaiveTime, Utc};
use rentroll_engines::log::{LogError, PartitionReader, Positioned};

use crate::batch::{self, Intake};
use crate::plan::{Draft, Plan};
use crate::steps;
use crate::worker::BatchLimits;

/// Records taken from the log in one read, and judged while they are in the processor's cache.
const READ_RECORDS_MAX: usize = 1024;
/// A batch is also cut at so many bytes: what it holds of records, rows and blocks is some three times as much.
const BATCH_BYTES_MAX: usize = 64 << 20;
/// A lane that is behind waits so many times longer for its batch to fill.
const BEHIND_WAITS: u32 = 8;

/// A topic's partition.
pub(crate) struct Lane {
    pub(crate) reader: Box<dyn PartitionReader>,
    /// How many partitions the topic has.
    partitions: u32,
    /// Read, but not in a batch.
    ahead: VecDeque<Positioned>,
    /// A position that the log could not be told.
    pub(crate) uncommitted: Option<u64>,
    growing: Option<Growing>,
    /// Memory of former batches: taken anew for each, its pages would be made and zeroed each time.
    spare: Option<Intake>,
    /// This thread's CPU time for verdicts since it was asked last.
    judging: Duration,
}

/// A batch that is not due yet. Records are judged as they come, while they are still in the processor's cache, and
/// let go of.
struct Growing {
    draft: Draft,
    intake: Intake,
    /// The month of arrival: an insert is atomic only within one partition of the table.
    month_ms: Range<i64>,
    last_arrived_at_ms: i64,
    events: usize,
    bytes: usize,
    due_at: Instant,
    /// If it is behind even then.
    late_at: Instant,
}

impl Growing {
    /// What is late already gains more from fewer and larger batches than from an earlier one.
    fn due_at(&self, limits: BatchLimits) -> Instant {
        if is_behind(self.last_arrived_at_ms, limits.wait) { self.late_at } else { self.due_at }
    }

    fn is_full(&self, limits: BatchLimits) -> bool {
        self.events >= limits.records_max || self.bytes >= BATCH_BYTES_MAX
    }
}

impl Lane {
    pub(crate) fn new(reader: Box<dyn PartitionReader>, partitions: u32) -> Self {
        Lane {
            reader,
            partitions,
            ahead: VecDeque::new(),
            uncommitted: None,
            growing: None,
            spare: None,
            judging: Duration::ZERO,
        }
    }

    /// The next record read is the first at or after `position`.
    pub(crate) fn seek(&mut self, position: u64) -> Result<(), LogError> {
        self.ahead.clear();
        self.growing = None;
        self.reader.seek(position)
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
            let closed = match self.ahead.is_empty() {
                true => false,
                false => {
                    let before = steps::thread_cpu();
                    let closed = self.take_in(limits, now);
                    self.judging += steps::thread_cpu().saturating_sub(before);
                    closed
                }
            };
            if closed || self.growing.as_ref().is_some_and(|growing| growing.is_full(limits)) {
                return Ok(true);
            }
            self.fill(Duration::ZERO)?;
            if self.ahead.is_empty() {
                return Ok(self.growing.as_ref().is_some_and(|growing| now >= growing.due_at(limits)));
            }
        }
    }

    /// Takes what was read into the batch; whether there is something that the batch must not take.
    fn take_in(&mut self, limits: BatchLimits, now: Instant) -> bool {
        while let Some(next) = self.ahead.front() {
            let arrived_at_ms = next.record.arrived_at_ms;
            let growing = self.growing.get_or_insert_with(|| {
                let (topic, partition) = (self.reader.topic(), self.reader.partition());
                let spare = self.spare.take();
                Growing {
                    draft: Draft::new(topic, partition),
                    intake: spare.unwrap_or_else(|| Intake::new(topic, partition, self.partitions)),
                    month_ms: month_of(arrived_at_ms),
                    last_arrived_at_ms: arrived_at_ms,
                    events: 0,
                    bytes: 0,
                    due_at: now + limits.wait,
                    late_at: now + limits.wait * BEHIND_WAITS,
                }
            });
            if growing.is_full(limits) || !growing.month_ms.contains(&arrived_at_ms) {
                return true;
            }
            growing.last_arrived_at_ms = arrived_at_ms;
            growing.events += batch::events_in(&next.record);
            growing.bytes += next.record.value.len();
            growing.draft.add(next);
            growing.intake.add(next);
            self.ahead.pop_front();
        }
        false
    }

    /// Exactly the records of `plan`; `None` if the log holds others, and then they come again.
    pub(crate) fn read_planned(
        &mut self,
        plan: &Plan,
        wait_max: Duration,
        wait: Duration,
    ) -> Result<Option<Intake>, LogError> {
        let mut draft = Draft::new(plan.topic, plan.partition);
        let mut intake = Intake::new(plan.topic, plan.partition, self.partitions);
        let deadline = Instant::now() + wait_max;
        loop {
            self.fill(wait)?;
            while let Some(record) = self.ahead.front().filter(|record| record.position < plan.next) {
                draft.add(record);
                intake.add(record);
                self.ahead.pop_front();
            }
            let complete = !self.ahead.is_empty() || draft.next() == Some(plan.next);
            if complete || Instant::now() > deadline {
                break;
            }
        }
        if draft.finish().is_some_and(|found| found.digest == plan.digest) {
            return Ok(Some(intake));
        }
        self.seek(plan.first)?;
        Ok(None)
    }

    /// When the batch is due at the latest, if there is one.
    pub(crate) fn due_at(&self, limits: BatchLimits) -> Option<Instant> {
        self.growing.as_ref().map(|growing| growing.due_at(limits))
    }

    /// Whether a batch has begun.
    pub(crate) fn has_some(&self) -> bool {
        self.growing.is_some()
    }

    /// The batch as it is now, if there is one.
    pub(crate) fn take(&mut self) -> Option<(Plan, Intake)> {
        let growing = self.growing.take()?;
        Some((growing.draft.finish()?, growing.intake))
    }

    /// Gives the memory of a batch back for the next one.
    pub(crate) fn reuse(&mut self, mut intake: Intake) {
        intake.clear();
        self.spare = Some(intake);
    }

    /// What verdicts have cost since this was asked last.
    pub(crate) fn take_judging(&mut self) -> Duration {
        std::mem::take(&mut self.judging)
    }

    /// Nothing comes: lets go of memory that is kept for more.
    pub(crate) fn rest(&mut self) {
        self.spare = None;
    }
}

/// Whether the record has waited in the log for longer than a batch may take to fill.
fn is_behind(arrived_at_ms: i64, wait: Duration) -> bool {
    let waited_ms = Utc::now().timestamp_millis().saturating_sub(arrived_at_ms);
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
            Rig { _subscription: subscription, _dir: dir, log, lane: Lane::new(reader, 1), sent: 0 }
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
        assert!(rig.lane.due_at(limits).is_none() && rig.lane.take().is_none());

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
        let range = |lane: &mut Lane| {
            let (plan, intake) = lane.take().unwrap();
            // Not one of them is an event.
            assert_eq!(intake.rejects.len() as u64, plan.records);
            plan.first..plan.next
        };
        assert_eq!(range(&mut rig.lane), 0..100);

        rig.append(10, MARCH_MS);
        assert!(rig.grow(limits, now), "another month waits");
        assert_eq!(range(&mut rig.lane), 100..130);
        assert!(!rig.grow(limits, now));
        assert_eq!(range(&mut rig.lane), 130..140);
    }
}
