//! From the spool to the log: a thread per topic, oldest first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rentroll_engines::health::{Health, Part};
use rentroll_engines::log::{
    EventLog as _, LogError, PartitionReader, Positioned, Record, SharedLog, Subscription,
};
use rentroll_schemas::topics::Topic;
use tokio::runtime::Handle;

use super::{GROUP, Spool};

/// Records in one step, and their bytes. More, and memory and what a crash sends twice grow; fewer, and each step
/// pays for a round trip.
const STEP_RECORDS: usize = 4096;
const STEP_BYTES: usize = 4 << 20;
/// Records read at once: a record may hold many events, and be almost a megabyte.
const READ_RECORDS: usize = 32;
/// How long to look for records before looking whether to stop.
const LOOK: Duration = Duration::from_millis(100);
/// Waits between tries while the log is away: short first, as most absences are.
const TRY_AGAIN: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(2);

/// The threads that drain.
pub struct Drain {
    stop: Arc<AtomicBool>,
    threads: Vec<tokio::task::JoinHandle<Result<(), LogError>>>,
    spool: Arc<Spool>,
}

impl Drain {
    /// Starts draining `spool` into `log`.
    ///
    /// # Errors
    /// If something drains it already.
    pub fn start(spool: Arc<Spool>, log: SharedLog, health: &Health) -> Result<Self, LogError> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut member = spool.queue.subscribe(GROUP, &Topic::ALL)?;
        let readers = member.gained(Duration::ZERO)?;
        let member = Arc::new(std::sync::Mutex::new(member));
        let runtime = Handle::current();
        let threads = readers
            .into_iter()
            .map(|reader| {
                let one = One {
                    topic: reader.topic(),
                    part: health.part(format!("collector/spool/{}", reader.topic())),
                    reader,
                    spool: spool.clone(),
                    log: log.clone(),
                    stop: stop.clone(),
                    runtime: runtime.clone(),
                    _member: member.clone(),
                };
                tokio::task::spawn_blocking(move || one.run())
            })
            .collect();
        Ok(Drain { stop, threads, spool })
    }

    /// Whether a thread ended, which none does by itself but on an error that waiting cannot mend.
    pub fn has_ended(&self) -> bool {
        self.threads.iter().any(tokio::task::JoinHandle::is_finished)
    }

    /// Waits until nothing waits in the spool.
    ///
    /// # Errors
    /// What ended a thread, or the spool's.
    pub async fn finish(&mut self) -> Result<(), LogError> {
        while self.spool.waiting()? > 0 {
            if self.has_ended() {
                return self.join().await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Stops; what is not drained is drained the next time.
    ///
    /// # Errors
    /// What ended a thread before.
    pub async fn stop(mut self) -> Result<(), LogError> {
        self.join().await
    }

    async fn join(&mut self) -> Result<(), LogError> {
        self.stop.store(true, Ordering::Relaxed);
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            match thread.await {
                Ok(ended) => result = result.and(ended),
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
        result
    }
}

impl Drop for Drain {
    /// Threads do not outlive what started them.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct One {
    topic: Topic,
    reader: Box<dyn PartitionReader>,
    spool: Arc<Spool>,
    log: SharedLog,
    part: Part,
    stop: Arc<AtomicBool>,
    runtime: Handle,
    /// The group's membership ends with its last reader.
    _member: Arc<std::sync::Mutex<Box<dyn Subscription>>>,
}

impl One {
    fn run(mut self) -> Result<(), LogError> {
        let mut position = self.reader.committed()?;
        self.reader.seek(position)?;
        while !self.stop.load(Ordering::Relaxed) {
            let (step, is_short) = self.step()?;
            let Some(last) = step.last() else {
                self.caught_up();
                self.part.idle();
                continue;
            };
            let next = last.position + 1;
            self.count_damage(position, next, step.len());
            if !self.deliver(step)? {
                break;
            }
            position = next;
            self.spool.drained[self.index()].store(next, Ordering::Release);
            match self.reader.commit(next) {
                Ok(()) => self.part.progress(),
                // On a full disk: what is drained again after a restart is recognised as duplicate.
                Err(error) => {
                    tracing::warn!(topic = %self.topic, %error, "cannot keep how far the spool is drained");
                    self.part.failing(format!("cannot keep how far the spool is drained: {error}"));
                }
            }
            if is_short {
                self.caught_up();
            }
        }
        Ok(())
    }

    /// The next records, and whether they are all that wait.
    fn step(&mut self) -> Result<(Vec<Positioned>, bool), LogError> {
        let mut step = self.reader.read(READ_RECORDS, LOOK)?;
        let (mut bytes, mut read) = (bytes_of(&step), step.len());
        while read == READ_RECORDS && step.len() < STEP_RECORDS && bytes < STEP_BYTES {
            let more = self.reader.read(READ_RECORDS, Duration::ZERO)?;
            bytes += bytes_of(&more);
            read = more.len();
            step.extend(more);
        }
        Ok((step, read < READ_RECORDS))
    }

    /// The direct way is open again, unless another topic is still at it. With nothing left here the next request
    /// tries the log by itself, and comes back if it is still away.
    fn caught_up(&self) {
        self.oldest(0);
        if self.spool.oldest_ms().is_none() && self.spool.log_is_away.swap(false, Ordering::AcqRel) {
            tracing::info!("the spool is drained; events go to the event log directly again");
        }
    }

    fn index(&self) -> usize {
        Topic::ALL.iter().position(|topic| *topic == self.topic).unwrap_or(0)
    }

    fn oldest(&self, arrived_at_ms: i64) {
        self.spool.oldest_ms[self.index()].store(arrived_at_ms, Ordering::Release);
    }

    /// Positions have no holes but those of damaged frames.
    fn count_damage(&self, from: u64, to: u64, read: usize) {
        let lost = (to - from).saturating_sub(read as u64);
        if lost > 0 {
            self.spool.damaged.fetch_add(lost, Ordering::Relaxed);
            tracing::error!(topic = %self.topic, lost, "records of the spool were damaged on disk and are lost");
        }
    }

    /// Appends until the log takes it; false if told to stop before.
    fn deliver(&self, step: Vec<Positioned>) -> Result<bool, LogError> {
        let records: Vec<Record> = step.into_iter().map(|positioned| positioned.record).collect();
        self.oldest(records.first().map_or(0, |record| record.arrived_at_ms));
        let mut wait = *TRY_AGAIN.start();
        loop {
            let appended = self.runtime.block_on(async {
                tokio::select! {
                    appended = self.log.append(self.topic, records.clone()) => Some(appended),
                    () = self.stopped() => None,
                }
            });
            match appended {
                None => return Ok(false),
                Some(Ok(())) => return Ok(true),
                // Cannot come about: what is larger than a record may be is refused at the door.
                Some(Err(error @ LogError::TooLarge { .. })) => {
                    self.part.failing(format!("a record can never be drained: {error}"));
                    return Err(error);
                }
                Some(Err(error)) => {
                    tracing::warn!(topic = %self.topic, %error, "the event log takes nothing from the spool yet");
                    self.part.failing(format!("the event log takes nothing: {error}"));
                }
            }
            let until = Instant::now() + wait;
            while Instant::now() < until && !self.stop.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK.min(wait));
            }
            wait = (wait * 2).min(*TRY_AGAIN.end());
        }
    }

    async fn stopped(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn bytes_of(records: &[Positioned]) -> usize {
    records.iter().map(|positioned| positioned.record.value.len()).sum()
}
