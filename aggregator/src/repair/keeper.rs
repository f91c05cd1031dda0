//! Keeps the rollups right beside the workers, from a thread of its own.
//!
//! Of several aggregators the one that reads partition 0 of the main lane does it; two at once, for the moment of a
//! rebalance, do no harm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rentroll_engines::health::Part;
use rentroll_engines::store::Store;
use rentroll_schemas::meter::Meters;

use super::check::{Outcome, Proof, Span};
use super::corrections::{self, CORRECTION};
use super::{RepairError, Table, dirty};
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
const HOURS_AT_ONCE: usize = 24;
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
    pub meters: Arc<Meters>,
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

/// An hour that is to be checked.
struct Open {
    from: DateTime<Utc>,
    marks: Vec<dirty::Mark>,
}

impl From<(DateTime<Utc>, Vec<dirty::Mark>)> for Open {
    fn from((from, marks): (DateTime<Utc>, Vec<dirty::Mark>)) -> Self {
        Open { from, marks }
    }
}

impl Open {
    fn why(&self) -> &str {
        self.marks.first().map_or("", |mark| mark.why.as_str())
    }

    /// How many of `hours`, which begin with this one, follow each other and are checked for the same reason.
    fn run(&self, hours: &[Open]) -> usize {
        let mut next = self.from;
        let follows = |hour: &&Open| {
            let follows = hour.from == next && hour.why() == self.why();
            next += TimeDelta::hours(1);
            follows
        };
        hours.iter().take_while(follows).count()
    }
}

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
        let open = dirty::open(&self.store).await?;
        let left = open.len().saturating_sub(HOURS_AT_ONCE);
        let mut pass = Pass { left, has_more: left > 0, ..Pass::default() };
        let mut open: Vec<Open> = open.into_iter().map(Open::from).collect();
        // What a correction changed is wrong for certain; what a repeated batch touched, hardly ever.
        open.sort_by_key(|hour| hour.marks.iter().all(|mark| mark.why != CORRECTION));
        open.truncate(HOURS_AT_ONCE);
        let mut days: BTreeMap<Span, Vec<Open>> = BTreeMap::new();
        for hour in open {
            days.entry(Span::day_of(hour.from)).or_default().push(hour);
        }
        for (day, mut hours) in days {
            hours.sort_by_key(|hour| hour.from);
            self.day(day, &hours, &mut pass).await?;
        }
        Ok(pass)
    }

    /// Checks `hours` of `day`, oldest first, then the day: it is what its hours are, once they are right.
    async fn day(&self, day: Span, hours: &[Open], pass: &mut Pass) -> Result<(), RepairError> {
        let mut settled: Vec<&Open> = Vec::new();
        let mut differences = Vec::new();
        let mut rest = hours;
        while let Some(first) = rest.first() {
            let (run, others) = rest.split_at(first.run(rest));
            rest = others;
            settled.extend(self.run(run, &mut differences).await?);
        }
        pass.left += hours.len() - settled.len();
        let Some(first) = settled.first() else { return Ok(()) };
        let is_last = |hour: &&Open| hour.from + TimeDelta::hours(1) == day.to;
        let is_doubtful = |hour: &&Open| hour.why() != ENDED;
        if !differences.is_empty() || settled.iter().any(|hour| is_last(hour) || is_doubtful(hour)) {
            match self.proof(first.why()).days(day).await? {
                Outcome::Settled(of_day) => {
                    differences.extend(of_day.into_iter().map(|one| (first.why(), one.table)));
                }
                Outcome::Expired => {}
                Outcome::InMotion => {
                    pass.left += settled.len();
                    return Ok(());
                }
            }
        }
        if let Some(metrics) = &self.metrics {
            for hour in &settled {
                // A table with nothing to repair shows as 0, and not as missing.
                for table in Table::ALL {
                    metrics.repairs.with_label_values(&[table.name(), hour.why()]).inc_by(0);
                }
            }
            for (why, table) in &differences {
                metrics.repairs.with_label_values(&[table.name(), why]).inc();
            }
        }
        for hour in &settled {
            dirty::close(&self.store, &hour.marks).await?;
        }
        pass.checked += settled.len();
        pass.repaired += differences.len();
        Ok(())
    }

    /// Checks hours that follow each other, as many at once as can be; returns those that were checked to the end.
    async fn run<'a>(
        &self,
        run: &'a [Open],
        differences: &mut Vec<(&'a str, Table)>,
    ) -> Result<Vec<&'a Open>, RepairError> {
        let mut settled = Vec::new();
        let mut parts = vec![run];
        while let Some(part) = parts.pop() {
            let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
            let span = Span { from: first.from, to: Span::hour(last.from).to };
            let proof = self.proof(first.why());
            if part.len() > 1 && proof.events(span).await? > EVENTS_AT_ONCE {
                parts.extend(part.chunks(part.len().div_ceil(2)).rev());
                continue;
            }
            match proof.hours(span).await? {
                Outcome::Settled(found) => {
                    differences.extend(found.into_iter().map(|one| (first.why(), one.table)));
                    settled.extend(part);
                }
                // One hour that is being written, or is past its time, must not keep the others back.
                Outcome::InMotion | Outcome::Expired if part.len() > 1 => parts.extend(part.chunks(1).rev()),
                Outcome::Expired => settled.extend(part),
                Outcome::InMotion => {}
            }
        }
        Ok(settled)
    }

    fn proof<'a>(&'a self, why: &'a str) -> Proof<'a> {
        Proof { store: &self.store, meters: &self.meters, repairs: true, why }
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
