//! Keeps the rollups right beside the workers, from a thread of its own.
//!
//! Of several aggregators the one that reads partition 0 of the main lane does it; two at once, for the moment of a
//! rebalance, do no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rentroll_engines::health::Part;
use rentroll_engines::store::Store;
use rentroll_schemas::meter::LiveMeters;

use super::check::{Outcome, Proof, Span};
use super::corrections::{self, CORRECTION};
use super::{RepairError, Table, dirty};
use crate::meters::backfill;
use crate::metrics::Metrics;
use crate::run::Setup;
use crate::watch::Watch;

/// Between two passes: how late a correction shows in the rollups.
pub const EVERY: Duration = Duration::from_secs(10);
/// How often one that has no part in it looks whether it has.
const STANDBY_EVERY: Duration = Duration::from_secs(1);
/// How late a stop is noticed between two passes.
const STOP_WAIT: Duration = Duration::from_millis(50);
/// Hours checked in one pass: the rest follows in the next, at once, so that a stop does not wait for long.
const HOURS_AT_ONCE: usize = 100;
/// After an outage the hours of so many days are checked.
const CAUGHT_UP_DAYS: i64 = 2;

/// Events that are read at once. Hours with fewer are checked together: each check is dozens of statements, however
/// little there is to read. More would hold up the workers that share the engine.
pub const EVENTS_AT_ONCE: u64 = 2_000_000;
/// Why hours are marked that nobody doubts.
const ENDED: &str = "ended";

/// What the keeper is given.
#[derive(Debug)]
pub struct Keeper {
    /// The store.
    pub store: Store,
    /// What usage is made by.
    pub meters: LiveMeters,
    /// How long after its end an hour is checked.
    pub after: TimeDelta,
    /// What it counts; `None` where nobody asks.
    pub metrics: Option<Metrics>,
}

/// What came of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Hours that were checked to the end.
    pub checked: usize,
    /// Cells that were put right.
    pub repaired: usize,
    /// Hours that are left for later, because they are being written or there was too much to do.
    pub left: usize,
    /// There was too much to do: the next pass need not wait.
    pub has_more: bool,
}

/// What is checked: hours against events, or days against hours.
#[derive(Clone, Copy)]
enum Level {
    Hours,
    Days,
}

/// Hours that are to be checked for one reason, with their marks.
type Open = BTreeMap<Span, Vec<dirty::Mark>>;

impl Keeper {
    /// One pass: hours that have ended, hours of corrections, hours that are marked.
    ///
    /// # Errors
    /// The store's. What is open stays open.
    pub async fn pass(&self, now: DateTime<Utc>) -> Result<Pass, RepairError> {
        self.mark_ended(now).await?;
        self.settle().await
    }

    /// Sees to corrections and marked hours alone.
    ///
    /// # Errors
    /// The store's.
    pub async fn settle(&self) -> Result<Pass, RepairError> {
        corrections::mark_hours(&self.store).await?;
        let mut open: Vec<_> = dirty::open(&self.store).await?.into_iter().collect();
        let left = open.len().saturating_sub(HOURS_AT_ONCE);
        let mut pass = Pass { left, has_more: left > 0, ..Pass::default() };
        // What a correction changed is wrong for certain; what a repeated batch touched, hardly ever.
        open.sort_by_key(|(_, marks)| marks.iter().all(|mark| mark.why != CORRECTION));
        open.truncate(HOURS_AT_ONCE);
        let mut by_reason: BTreeMap<String, Open> = BTreeMap::new();
        for (hour, marks) in open {
            // What a new meter is felt in differs for certain, whatever else it was marked for.
            let of_meter = marks.iter().find(|mark| mark.why == backfill::WHY);
            let why = of_meter.or(marks.first()).map_or("", |mark| mark.why.as_str());
            by_reason.entry(why.to_owned()).or_default().insert(Span::hour(hour), marks);
        }
        for (why, hours) in by_reason {
            self.settle_hours(&why, &hours, &mut pass).await?;
        }
        Ok(pass)
    }

    /// Checks `hours`, then their days: a day is what its hours are, once they are right.
    async fn settle_hours(&self, why: &str, hours: &Open, pass: &mut Pass) -> Result<(), RepairError> {
        let mut found = Vec::new();
        let spans: Vec<Span> = hours.keys().copied().collect();
        let mut settled = self.run(Level::Hours, &spans, why, &mut found).await?;
        let needs_day = |hour: &&Span| {
            let is_last = hour.to == Span::day_of(hour.from).to;
            !found.is_empty() || is_last || why != ENDED
        };
        let days: BTreeSet<Span> =
            settled.iter().filter(needs_day).map(|hour| Span::day_of(hour.from)).collect();
        let days: Vec<Span> = days.into_iter().collect();
        let settled_days = self.run(Level::Days, &days, why, &mut found).await?;
        settled.retain(|hour| {
            let day = Span::day_of(hour.from);
            settled_days.contains(&day) || !days.contains(&day)
        });
        // What a new meter makes of older events is no fault.
        if let Some(metrics) = self.metrics.as_ref().filter(|_| why != backfill::WHY) {
            for table in Table::ALL {
                let count = found.iter().filter(|one| **one == table).count() as u64;
                metrics.repairs.with_label_values(&[table.name(), why]).inc_by(count);
            }
        }
        let marks: Vec<dirty::Mark> =
            settled.iter().filter_map(|hour| hours.get(hour)).flatten().cloned().collect();
        dirty::close(&self.store, &marks).await?;
        pass.checked += settled.len();
        pass.repaired += found.len();
        pass.left += hours.len() - settled.len();
        Ok(())
    }

    /// Checks `spans`, in their order, as many at once as can be, and what lies between them with them. Returns those that
    /// were checked to the end; adds the tables of the cells that differed to `found`.
    async fn run(
        &self,
        level: Level,
        spans: &[Span],
        why: &str,
        found: &mut Vec<Table>,
    ) -> Result<Vec<Span>, RepairError> {
        let meters = self.meters.now();
        let proof = Proof { store: &self.store, meters: &meters, repairs: true, why };
        let mut settled = Vec::new();
        let mut parts = vec![spans];
        while let Some(part) = parts.pop() {
            let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
            let whole = Span { from: first.from, to: last.to };
            let is_many = part.len() > 1;
            let halves = || part.chunks(part.len().div_ceil(2)).rev();
            if is_many && proof.has_more_events(whole, EVENTS_AT_ONCE).await? {
                parts.extend(halves());
                continue;
            }
            let outcome = match level {
                Level::Hours => proof.hours(whole).await?,
                Level::Days => proof.days(whole).await?,
            };
            match outcome {
                Outcome::Settled(differences) => {
                    found.extend(differences.into_iter().map(|one| one.table));
                    settled.extend(part);
                }
                // One that is being written, or is past its time, must not keep the others back.
                Outcome::InMotion | Outcome::Expired if is_many => parts.extend(halves()),
                Outcome::Expired => settled.extend(part),
                Outcome::InMotion => {}
            }
        }
        Ok(settled)
    }

    /// Marks the hours that have ended since the last one that was marked so.
    async fn mark_ended(&self, now: DateTime<Utc>) -> Result<(), RepairError> {
        let sql = "SELECT max(hour), count() FROM dirty_hours WHERE why = {why:String}";
        let query = self.store.client().query(sql).param("why", ENDED);
        let (last, count): (u32, u64) = query.fetch_one().await.map_err(|error| self.store.error(error))?;
        let newest = dirty::hour_of(now - self.after) - TimeDelta::hours(1);
        let oldest = newest - TimeDelta::days(CAUGHT_UP_DAYS);
        let last = DateTime::from_timestamp(i64::from(last), 0).unwrap_or_default();
        // The first time there is nothing to catch up with.
        let mut hour = if count == 0 { newest } else { (last + TimeDelta::hours(1)).max(oldest) };
        let mut ended = Vec::new();
        while hour <= newest {
            ended.push(hour);
            hour += TimeDelta::hours(1);
        }
        Ok(dirty::mark(&self.store, ended, ENDED).await?)
    }
}

/// The keeper's thread; it ends when this is dropped.
pub(crate) struct Keeping {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeping {
    /// Begins to keep the rollups right, as long as `watch` has partition 0.
    pub(crate) fn start(setup: &Setup, runtime: &tokio::runtime::Handle, watch: &Watch) -> Keeping {
        let stop = Arc::new(AtomicBool::new(false));
        let keeper = Keeper {
            store: setup.store.clone(),
            meters: setup.meters.clone(),
            after: TimeDelta::from_std(setup.proof_after).unwrap_or(TimeDelta::MAX),
            metrics: Some(setup.metrics.clone()),
        };
        let (runtime, part) = (runtime.clone(), setup.health.part("aggregator/proof"));
        let (is_first, stopped) = (watch.is_first(), stop.clone());
        let run = move || keep(&keeper, &runtime, &part, &stopped, is_first);
        let thread = std::thread::Builder::new().name("agg-proof".to_owned()).spawn(run);
        // Without it the aggregator works as well; `rentroll books --rollups` checks what it would have.
        let thread = thread
            .inspect_err(|error| tracing::error!(%error, "cannot start the thread that checks rollups"))
            .ok();
        Keeping { stop, thread }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there was told where it happened.
            let _ = thread.join();
        }
    }
}

fn keep(
    keeper: &Keeper,
    runtime: &tokio::runtime::Handle,
    part: &Part,
    stop: &AtomicBool,
    is_first: impl Fn() -> bool,
) {
    while !stop.load(Ordering::Relaxed) {
        let mut has_more = false;
        if is_first() {
            match runtime.block_on(keeper.pass(Utc::now())) {
                Ok(Pass { left: 0, .. }) => part.waiting("rollups are what the events make them"),
                Ok(pass) => {
                    part.waiting(format!("{} hours are checked later", pass.left));
                    // One in which every hour was being written is no progress.
                    has_more = pass.has_more && pass.checked > 0;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot check the rollups; trying again");
                    part.failing(format!("cannot check the rollups: {error}"));
                }
            }
        } else {
            part.waiting("the aggregator that reads usage/0 checks the rollups");
        }
        let wait = match is_first() {
            true if has_more => Duration::ZERO,
            true => EVERY,
            false => STANDBY_EVERY,
        };
        let until = Instant::now() + wait;
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(STOP_WAIT);
        }
    }
}
