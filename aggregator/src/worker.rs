//! One partition: takes batches of both lanes, one at a time, and carries each through to the end.
//!
//! Both lanes of a partition share one worker, because an event and its resend may come by different lanes and
//! must be judged by the same memory. Their batches grow side by side; the main lane's goes first when it is due.
//! The overflow lane's batches are small, so that one that has begun holds the main lane up for moments only, and
//! get their turn after [`MAIN_TURNS_MAX`] batches of the main lane in any case.
//!
//! A group may take one lane away and leave the other, for a moment or for long: the worker keeps what it has. Another
//! member then stores events that this one's filters do not know, so they are dropped with the lane, and every identity
//! is looked up in the store until both lanes are here again. Two that look up the same identity at the same moment
//! would both find nothing: the `range` assignor, which never parts the lanes, is what keeps that from happening.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use rentroll_engines::health::Part;
use rentroll_engines::log::{LogError, PartitionReader};
use rentroll_engines::store::{Store, StoreError};
use rentroll_schemas::Identity;
use rentroll_schemas::meter::LiveMeters;
use rentroll_schemas::topics::Topic;
use tokio::runtime::Handle;

use crate::activity::Activity;
use crate::batch::{self, Batch, Intake, Tally};
use crate::block::Block;
use crate::dedup::{self, Seen};
use crate::density::Density;
use crate::lane::Lane;
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::repair::dirty;
use crate::rows::Rows;
use crate::steps::{self, Step};

/// The lanes of a partition of usage.
const BOTH_LANES: [Topic; 2] = [Topic::Usage, Topic::Overflow];
/// How long a read waits when nothing is there; bounds how late a stop is noticed.
const READ_WAIT: Duration = Duration::from_millis(100);
/// How long the overflow lane is waited for while the main one is empty: as late are the main lane's records noticed.
const OVERFLOW_WAIT: Duration = Duration::from_millis(20);
/// Batches of the main lane before the overflow lane gets one although the main lane has more.
const MAIN_TURNS_MAX: u32 = 8;
/// Between attempts at what the store refused: someone has to mend something first.
const REFUSED_WAIT: Duration = Duration::from_secs(30);
/// The overflow lane's batches are so much smaller than the main lane's. Larger ones are cheaper by the event, and
/// hold the main lane up for longer: a batch of 25,000 for a tenth of a second.
const OVERFLOW_DIVISOR: usize = 8;
/// A plan whose tokens may be further back than this is not repeated on their word alone. The store remembers
/// 100,000 blocks a table; one batch may take several, since each partition of the table is a block of its own.
const TOKENS_SURE: u64 = 5_000;
/// How long a plan's records may take to come from the log again before they are taken to be gone.
const REPLAY_WAIT: Duration = Duration::from_secs(10);

/// How batches are cut.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// At this many records…
    pub records_max: usize,
    /// …or this long after the first one.
    pub wait: Duration,
}

/// What all workers share.
pub struct Shared {
    /// Where rows go.
    pub store: Store,
    /// How events become usage.
    pub meters: LiveMeters,
    /// How batches are cut.
    pub limits: BatchLimits,
    /// How many partitions the topics have.
    pub partitions: u32,
    /// What is counted.
    pub metrics: Metrics,
    /// Who is active.
    pub activity: Arc<Activity>,
    /// How many events records carry.
    pub(crate) density: Arc<Density>,
    /// Set to end the workers after the batch in hand.
    pub stop: Arc<AtomicBool>,
    /// To wait for the store from a worker's thread.
    pub runtime: Handle,
}

/// Why a worker ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store had not taken the batch when the worker was stopped.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The lanes that a worker has, or was given and has not taken yet. It strikes out those that it lost; who gives it
/// lanes looks here first.
#[derive(Clone, Debug, Default)]
pub struct Held(Arc<Mutex<BTreeSet<Topic>>>);

impl Held {
    /// The topics.
    pub fn topics(&self) -> BTreeSet<Topic> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The worker is given this one.
    pub fn add(&self, topic: Topic) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(topic);
    }

    fn remove(&self, topic: Topic) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&topic);
    }
}

/// What a worker leaves behind.
pub struct Ended {
    /// Why it ended.
    pub result: Result<(), WorkerError>,
    /// Lanes that it was given and never took: somebody else must.
    pub untaken: Receiver<Box<dyn PartitionReader>>,
}

/// Works on one partition.
pub struct Worker {
    shared: Arc<Shared>,
    partition: u32,
    lanes: Vec<Lane>,
    /// A lane that the log hands out later than the other.
    more: Receiver<Box<dyn PartitionReader>>,
    held: Held,
    /// What both lanes have stored; `None` while one of them is elsewhere. Rejects, which are few, are looked up
    /// without.
    seen: Option<Seen>,
    part: Part,
    main_turns: u32,
    /// This thread's CPU time when the last step ended.
    cpu_before: Duration,
}

impl Worker {
    /// A worker for `partition`, whose lanes come through `more` and are listed in `held`.
    pub fn new(
        shared: Arc<Shared>,
        partition: u32,
        more: Receiver<Box<dyn PartitionReader>>,
        held: Held,
        part: Part,
    ) -> Self {
        Worker {
            shared,
            partition,
            lanes: Vec::new(),
            more,
            held,
            seen: None,
            part,
            main_turns: 0,
            cpu_before: Duration::ZERO,
        }
    }

    /// Works until it is stopped or has lost its last lane. Blocking. After an error nothing was committed that is
    /// not in the store.
    pub fn run(mut self) -> Ended {
        let result = self.work();
        Ended { result, untaken: self.more }
    }

    fn work(&mut self) -> Result<(), WorkerError> {
        self.cpu_before = steps::thread_cpu();
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.keep_others(Self::turn)?;
            if self.held.topics().is_empty() {
                return Ok(());
            }
        }
        // What is in hand is carried through.
        for topic in Topic::ALL {
            self.keep_others(|worker| match worker.index(topic) {
                Some(index) => worker.process_due(index),
                None => Ok(()),
            })?;
        }
        Ok(())
    }

    /// Takes lanes on that have come, then carries one batch through or waits for records.
    fn turn(&mut self) -> Result<(), WorkerError> {
        while let Ok(reader) = self.more.try_recv() {
            self.add_lane(reader)?;
        }
        if self.seen.is_none() && BOTH_LANES.iter().all(|topic| self.index(*topic).is_some()) {
            self.build_filters()?;
        }
        match self.due()? {
            Some(lane) => self.process_due(lane),
            None => self.await_records(),
        }
    }

    /// Does `work`; a lane that turns out to be another member's now is let go, and the others stay.
    fn keep_others(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), WorkerError>,
    ) -> Result<(), WorkerError> {
        match work(self) {
            Err(WorkerError::Log(LogError::Revoked { topic, partition })) => {
                tracing::info!(%topic, partition, "the partition moved to another member");
                self.lanes.retain(|lane| lane.reader.topic() != topic);
                self.seen = None;
                self.show_memory();
                // Last: from now on the topic may be handed to this worker again.
                self.held.remove(topic);
                Ok(())
            }
            other => other,
        }
    }

    fn index(&self, topic: Topic) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.reader.topic() == topic)
    }

    fn build_filters(&mut self) -> Result<(), WorkerError> {
        let seen = self.patiently("rebuild the dedup filters", |worker| {
            let (store, partition) = (&worker.shared.store, worker.partition);
            worker.shared.runtime.block_on(Seen::rebuild(store, partition, Utc::now()))
        })?;
        self.seen = Some(seen);
        self.show_memory();
        Ok(())
    }

    /// Takes a lane on: first what a former owner planned beyond the committed position is finished.
    fn add_lane(&mut self, reader: Box<dyn PartitionReader>) -> Result<(), WorkerError> {
        let mut lane = Lane::new(reader, self.shared.partitions);
        let (topic, mut position) = (lane.reader.topic(), lane.reader.committed()?);
        lane.reader.seek(position)?;
        let plans = self.patiently("read the planned batches", |worker| {
            worker.shared.runtime.block_on(Plan::after(
                &worker.shared.store,
                topic,
                worker.partition,
                position,
            ))
        })?;
        self.lanes.push(lane);
        // Main before overflow, whichever came first.
        self.lanes.sort_by_key(|lane| lane.reader.topic());
        let index = self.index(topic).unwrap_or_default();
        for plan in plans {
            if plan.first == position && self.follow(index, &plan)? {
                position = plan.next;
            }
        }
        Ok(())
    }

    /// Carries through, or only steps over, a plan that is written down; `false` if the log holds other records.
    fn follow(&mut self, index: usize, plan: &Plan) -> Result<bool, WorkerError> {
        let Some(intake) = self.lanes[index].read_planned(plan, REPLAY_WAIT, READ_WAIT)? else {
            return Ok(false);
        };
        let (topic, partition, first, next) = (plan.topic, plan.partition, plan.first, plan.next);
        if plan.done {
            tracing::info!(%topic, partition, first, next, "batch was done");
            self.remember(&intake);
            self.commit(index, next)?;
        } else {
            tracing::info!(%topic, partition, first, next, "repeating an unfinished batch");
            self.process(index, plan, intake, true)?;
        }
        Ok(true)
    }

    /// What another owner stored is known from then on: the filters were built before it did.
    fn remember(&mut self, intake: &Intake) {
        let Some(seen) = &mut self.seen else { return };
        for row in &intake.columns.rows {
            let arrival = DateTime::from_timestamp_millis(row.arrived_at_ms).unwrap_or_default();
            seen.insert(&row.identity, arrival);
        }
    }

    /// Lets the lanes' batches grow; the one to be carried through now, if one is due.
    fn due(&mut self) -> Result<Option<usize>, WorkerError> {
        let now = Instant::now();
        let small = BatchLimits {
            records_max: (self.shared.limits.records_max / OVERFLOW_DIVISOR).max(1),
            ..self.shared.limits
        };
        let mut due = None;
        for (index, lane) in self.lanes.iter_mut().enumerate().rev() {
            let limits = if index == 0 { self.shared.limits } else { small };
            if lane.grow(limits, now)? {
                due = Some(index);
            }
        }
        let overflow_waits = self.lanes.get(1).is_some_and(Lane::has_some);
        if due == Some(0) && overflow_waits && self.main_turns >= MAIN_TURNS_MAX {
            due = Some(1);
        }
        match due {
            Some(0) if overflow_waits => self.main_turns += 1,
            Some(_) => self.main_turns = 0,
            None => {}
        }
        Ok(due)
    }

    fn process_due(&mut self, index: usize) -> Result<(), WorkerError> {
        let batch = self.lanes[index].take();
        let judging: Duration = self.lanes.iter_mut().map(Lane::take_judging).sum();
        self.step_took(Step::Judge, judging);
        self.step_done(Step::Consume);
        match batch {
            Some((plan, intake)) => self.process_new(index, plan, intake),
            None => Ok(()),
        }
    }

    /// Waits for records, no longer than until a batch is due.
    fn await_records(&mut self) -> Result<(), WorkerError> {
        let limits = self.shared.limits;
        let due_at = self.lanes.iter().filter_map(|lane| lane.due_at(limits)).min();
        let Some(due_at) = due_at else {
            self.commit_again()?;
            self.part.idle();
            match self.lanes.first_mut() {
                Some(lane) => {
                    lane.rest();
                    lane.fill(READ_WAIT)?;
                }
                None => std::thread::sleep(READ_WAIT),
            }
            return Ok(());
        };
        let left = due_at.saturating_duration_since(Instant::now()).min(READ_WAIT);
        // Only one lane can be waited for: the main one, and the other only while it is alone in moving.
        let alone = !self.lanes[0].has_some();
        match self.lanes.get_mut(1) {
            Some(overflow) if alone => overflow.fill(left.min(OVERFLOW_WAIT))?,
            _ => self.lanes[0].fill(left)?,
        }
        Ok(())
    }

    fn process_new(&mut self, index: usize, plan: Plan, intake: Intake) -> Result<(), WorkerError> {
        let topic = plan.topic;
        let claimed = self.patiently("plan a batch", |worker| {
            worker.shared.runtime.block_on(plan.claim(&worker.shared.store))
        })?;
        if claimed.is_same(&plan) && !claimed.done {
            return self.process(index, &plan, intake, false);
        }
        tracing::warn!(
            %topic, partition = self.partition, first = plan.first, next = claimed.next,
            "another owner of this partition has planned this batch; following its plan"
        );
        self.lanes[index].seek(plan.first)?;
        if self.follow(index, &claimed)? {
            return Ok(());
        }
        // The log no longer holds what was planned. What was stored of it is found by identity; the rollups of a
        // batch that was broken off are for the repair to prove.
        tracing::error!(
            %topic, partition = self.partition, first = plan.first, next = claimed.next,
            "the log does not hold the records of this unfinished batch any more; taking what it holds as a new one"
        );
        self.lanes[index].seek(plan.next)?;
        self.patiently("mark hours to be checked", |worker| {
            worker.shared.runtime.block_on(dirty::mark_batch(&worker.shared.store, &claimed, "abandoned"))
        })?;
        self.patiently("plan a batch anew", |worker| {
            worker.shared.runtime.block_on(plan.claim_anew(&worker.shared.store))
        })?;
        self.process(index, &plan, intake, false)
    }

    fn process(
        &mut self,
        index: usize,
        plan: &Plan,
        intake: Intake,
        repeated: bool,
    ) -> Result<(), WorkerError> {
        if let Some(seen) = &mut self.seen {
            seen.forget_before(Utc::now());
        }
        self.step_done(Step::Insert);
        // Before the store is asked for anything: while it is away, what waits is of most interest.
        self.shared.density.note(plan.topic, plan.records, intake.events());
        if repeated {
            self.doubt_hours(&intake)?;
        }
        // The window is counted back from the arrival, so that a repetition comes to the same verdicts.
        let arrived_at = intake.first_arrival().unwrap_or_else(Utc::now);
        let known_events = self.known_events(&intake, repeated.then_some(plan), arrived_at)?;
        let known_rejects = self.known_rejects(&intake, plan, arrived_at)?;
        self.step_done(Step::Dedup);
        // Held until the batch is stored: see `meters`.
        let meters = self.shared.meters.now();
        let mut batch = Batch::assemble(plan, &intake, &meters, &known_events, &known_rejects);
        if repeated && self.is_stored(plan, &intake)? {
            // The rollups were doubted before.
            batch.events = Block::default();
        }
        self.lanes[index].reuse(intake);
        self.step_done(Step::Encode);
        self.store_batch(plan, batch)?;
        drop(meters);
        self.commit(index, plan.next)?;
        self.step_done(Step::Consume);
        self.part.progress();
        tracing::debug!(topic = %plan.topic, partition = plan.partition, first = plan.first, next = plan.next, repeated, "batch done");
        Ok(())
    }

    /// Tells the log. Where it ended is in the store, so that a log that cannot be told now is told later; only a
    /// partition that has moved away ends the worker.
    fn commit(&mut self, index: usize, position: u64) -> Result<(), WorkerError> {
        let lane = &mut self.lanes[index];
        match lane.reader.commit(position) {
            Ok(()) => lane.uncommitted = None,
            Err(error @ LogError::Revoked { .. }) => return Err(error.into()),
            Err(error) if error.needs_mending() => return Err(error.into()),
            Err(error) => {
                let topic = lane.reader.topic();
                tracing::warn!(%topic, partition = self.partition, position, %error, "cannot commit the position; trying again later");
                lane.uncommitted = Some(position);
            }
        }
        Ok(())
    }

    fn commit_again(&mut self) -> Result<(), WorkerError> {
        for index in 0..self.lanes.len() {
            if let Some(position) = self.lanes[index].uncommitted {
                self.commit(index, position)?;
            }
        }
        Ok(())
    }

    /// Whether the events of a plan are in, asked where the store may have forgotten the plan's tokens.
    fn is_stored(&self, plan: &Plan, intake: &Intake) -> Result<bool, WorkerError> {
        let arrivals = || intake.columns.rows.iter().map(|row| row.arrived_at_ms);
        let (Some(from_ms), Some(to_ms)) = (arrivals().min(), arrivals().max()) else {
            return Ok(false);
        };
        self.patiently("look whether a batch is in", |worker| {
            let store = &worker.shared.store;
            worker.shared.runtime.block_on(async {
                Ok(plan.batches_since(store).await? > TOKENS_SURE
                    && plan.is_stored(store, from_ms, to_ms).await?)
            })
        })
    }

    /// What a repeated batch inserts again is dropped by its tokens, which the store remembers for so many blocks and no
    /// longer; and meters may have changed since. Its hours are checked.
    fn doubt_hours(&self, intake: &Intake) -> Result<(), WorkerError> {
        let times = intake.columns.rows.iter().filter_map(|row| DateTime::from_timestamp_micros(row.time_us));
        let hours: BTreeSet<DateTime<Utc>> = times.map(dirty::hour_of).collect();
        self.patiently("mark hours to be checked", |worker| {
            worker.shared.runtime.block_on(dirty::mark(
                &worker.shared.store,
                hours.iter().copied(),
                "repeated",
            ))
        })
    }

    fn known_events(
        &self,
        intake: &Intake,
        own: Option<&Plan>,
        arrived_at: DateTime<Utc>,
    ) -> Result<HashMap<Identity, u32>, WorkerError> {
        let identities = intake.columns.rows.iter().map(|row| row.identity);
        let candidates: Vec<Identity> = match (own, &self.seen) {
            (None, Some(seen)) => identities.filter(|identity| seen.maybe(identity)).collect(),
            // The filters of a former owner's successor may or may not hold what it stored of this batch, and with one
            // lane elsewhere there are none.
            _ => identities.collect(),
        };
        if candidates.is_empty() {
            return Ok(HashMap::new());
        }
        self.patiently("look up identities", |worker| {
            let store = &worker.shared.store;
            worker.shared.runtime.block_on(dedup::stored_events(store, &candidates, own, arrived_at))
        })
    }

    fn known_rejects(
        &self,
        intake: &Intake,
        plan: &Plan,
        arrived_at: DateTime<Utc>,
    ) -> Result<HashSet<Identity>, WorkerError> {
        if intake.rejects.is_empty() {
            return Ok(HashSet::new());
        }
        let candidates: Vec<Identity> = intake.rejects.iter().map(|(reject, _)| reject.identity()).collect();
        self.patiently("look up rejects", |worker| {
            let store = &worker.shared.store;
            worker.shared.runtime.block_on(dedup::stored_rejects(store, &candidates, plan, arrived_at))
        })
    }

    fn store_batch(&mut self, plan: &Plan, batch: Batch) -> Result<(), WorkerError> {
        let now = Utc::now();
        let (stored, tallies) = (batch.events.rows as u64, batch.tallies);
        self.insert_block(plan, "events", &batch.events)?;
        self.insert_rows(plan, "rejects", &batch::REJECT_COLUMNS, batch.rejects)?;
        self.insert_rows(plan, "conflicts", &batch::CONFLICT_COLUMNS, batch.conflicts)?;
        for (table, block) in &batch.rollups {
            self.insert_block(plan, table, block)?;
        }
        self.patiently("mark a batch as done", |worker| {
            worker.shared.runtime.block_on(plan.finish(&worker.shared.store, &tallies))
        })?;
        self.step_done(Step::Insert);
        if let Some(seen) = &mut self.seen {
            for (identity, arrived_at) in &batch.new {
                seen.insert(identity, *arrived_at);
            }
        }
        self.step_done(Step::Dedup);
        let metrics = &self.shared.metrics;
        let sum = |of: fn(&Tally) -> u64| tallies.values().map(of).sum::<u64>();
        metrics.events.with_label_values(&["stored"]).inc_by(stored);
        metrics.events.with_label_values(&["duplicate"]).inc_by(sum(|tally| tally.duplicate));
        metrics.events.with_label_values(&["rejected"]).inc_by(sum(|tally| tally.rejected));
        metrics.conflicts.inc_by(sum(|tally| tally.conflicts));
        metrics.unmatched.inc_by(batch.unmatched);
        metrics.batches.inc();
        metrics.last_progress.set(now.timestamp() as f64);
        for (reason, count) in batch.by_reason {
            metrics.rejects.with_label_values(&[&reason]).inc_by(count);
        }
        for (meter, count) in &batch.without_value {
            metrics.without_value.with_label_values(&[meter]).inc_by(*count);
        }
        let by_tenant = batch.by_tenant.iter().map(|(tenant, events)| (tenant.as_str(), *events));
        self.shared.activity.add(now.timestamp().div_euclid(60), by_tenant);
        self.show_memory();
        Ok(())
    }

    fn insert_block(&self, plan: &Plan, table: &str, block: &Block) -> Result<(), WorkerError> {
        match block.rows {
            0 => Ok(()),
            _ => self.insert(plan, table, &block.columns, "Native", &block.parts),
        }
    }

    fn insert_rows(&self, plan: &Plan, table: &str, columns: &[&str], rows: Rows) -> Result<(), WorkerError> {
        match rows.count() {
            0 => Ok(()),
            _ => self.insert(plan, table, columns, "RowBinary", &[rows.into_bytes()]),
        }
    }

    fn insert(
        &self,
        plan: &Plan,
        table: &str,
        columns: &[&str],
        format: &str,
        parts: &[Bytes],
    ) -> Result<(), WorkerError> {
        let token = plan.token(table);
        self.patiently(&format!("insert into {table}"), |worker| {
            let started = Instant::now();
            let insert =
                worker.shared.store.insert_parts(table, columns, format, parts.to_vec(), Some(&token));
            let result = worker.shared.runtime.block_on(insert);
            worker.shared.metrics.insert_seconds.observe(started.elapsed().as_secs_f64());
            worker.shared.metrics.store_up.set(f64::from(u8::from(result.is_ok())));
            result
        })
    }

    /// What this thread has taken since the last call goes to `step`.
    fn step_done(&mut self, step: Step) {
        let now = steps::thread_cpu();
        let took = now.saturating_sub(self.cpu_before);
        self.step_took(step, took);
        self.cpu_before = now;
    }

    /// So much of what this thread has taken since the last call of [`step_done`](Self::step_done) goes to `step`.
    fn step_took(&mut self, step: Step, took: Duration) {
        self.cpu_before += took;
        self.shared.metrics.step_cpu_seconds.with_label_values(&[step.name()]).inc_by(took.as_secs_f64());
    }

    fn show_memory(&self) {
        let label = self.partition.to_string();
        let bytes = self.seen.as_ref().map_or(0, Seen::bytes);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.shared.metrics.dedup_bytes.with_label_values(&[&label]).set(bytes);
    }

    /// Does something with the store until it succeeds, with the batch kept as it is. What the store refuses
    /// for good is tried again too, rarely: the partition stands still, visibly, rather than go on past a batch
    /// that is not in, and no other partition is held up. Only a stop ends it.
    fn patiently<T>(
        &self,
        what: &str,
        work: impl Fn(&Self) -> Result<T, StoreError>,
    ) -> Result<T, WorkerError> {
        let mut wait = Duration::from_millis(100);
        loop {
            let error = match work(self) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            self.part.failing(format!("cannot {what}: {error}"));
            self.shared.metrics.store_up.set(0.0);
            if error.is_retryable() {
                tracing::warn!(partition = self.partition, %error, "cannot {what}; trying again");
            } else {
                tracing::error!(partition = self.partition, %error, "cannot {what}; this partition stands still until it is mended");
                wait = REFUSED_WAIT;
            }
            let until = Instant::now() + wait;
            while Instant::now() < until {
                if self.shared.stop.load(Ordering::Relaxed) {
                    return Err(error.into());
                }
                std::thread::sleep(READ_WAIT);
            }
            wait = (wait * 2).min(Duration::from_secs(5));
        }
    }
}
