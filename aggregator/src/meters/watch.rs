//! A running aggregator looks for changes of the meters, takes them up, and marks the hours that they are felt in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::Utc;
use rentroll_engines::health::Part;
use rentroll_engines::store::Store;
use rentroll_schemas::meter::{LiveMeters, Meters};

use super::registry::{self, MeterError};
use super::{backfill, history, load};
use crate::run::Setup;

/// How often it looks: a change that says nothing else begins at the next minute, on average far later.
const EVERY: Duration = Duration::from_secs(2);
/// How late a stop is noticed.
const STOP_WAIT: Duration = Duration::from_millis(50);

/// The thread that looks; it ends when this is dropped.
pub(crate) struct Watching {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watching {
    /// Begins to look.
    pub(crate) fn start(setup: &Setup, runtime: &tokio::runtime::Handle) -> Watching {
        let stop = Arc::new(AtomicBool::new(false));
        let (store, meters, runtime) = (setup.store.clone(), setup.meters.clone(), runtime.clone());
        let (part, stopped) = (setup.health.part("aggregator/meters"), stop.clone());
        let run = move || watch(&store, &meters, &runtime, &part, &stopped);
        let thread = std::thread::Builder::new().name("agg-meters".to_owned()).spawn(run);
        let thread = thread
            .inspect_err(
                |error| tracing::error!(%error, "cannot start the thread that looks for changes of meters"),
            )
            .ok();
        Watching { stop, thread }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there was told where it happened.
            let _ = thread.join();
        }
    }
}

fn watch(
    store: &Store,
    meters: &LiveMeters,
    runtime: &tokio::runtime::Handle,
    part: &Part,
    stop: &AtomicBool,
) {
    let mut has_begun = false;
    while !stop.load(Ordering::Relaxed) {
        let looked = match has_begun {
            false => runtime.block_on(catch_up(store, &meters.now())),
            true => take_up(store, meters, runtime, stop),
        };
        match looked {
            Ok(()) => {
                has_begun = true;
                part.waiting(format!("{} meters in force", meters.now().newest().count()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot look for changes of meters; trying again");
                part.failing(format!("cannot look for changes of meters: {error}"));
            }
        }
        let until = Instant::now() + EVERY;
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(STOP_WAIT);
        }
    }
}

/// Marks what was changed while nobody was there to mark it.
///
/// # Errors
/// The store's.
pub async fn catch_up(store: &Store, meters: &Meters) -> Result<(), MeterError> {
    if registry::stored(store).await?.is_empty() {
        // Who counts by other meters than the store's sees to them.
        return Ok(());
    }
    let now = Utc::now();
    let settled = backfill::settled(store, meters, now).await?;
    let concerned = backfill::concerned(&settled, meters);
    if concerned.is_empty() {
        return Ok(());
    }
    let mut hours = backfill::mark(store, &concerned).await?;
    if settled.meters.is_empty() {
        hours += backfill::mark_unmatched(store).await?;
    }
    let is_new = |meter: &&rentroll_schemas::meter::Meter| {
        !settled.meters.iter().any(|one| (&one.name, one.version) == (&meter.name, meter.version))
    };
    let new = Meters { meters: meters.meters.iter().filter(is_new).cloned().collect() };
    backfill::note(store, &new, hours, now).await?;
    if hours > 0 {
        tracing::info!(
            hours,
            meters = new.meters.len(),
            "meters are new: what came before is counted by them"
        );
    }
    Ok(())
}

/// Takes up the meters of the store if they are others than `meters`.
fn take_up(
    store: &Store,
    meters: &LiveMeters,
    runtime: &tokio::runtime::Handle,
    stop: &AtomicBool,
) -> Result<(), MeterError> {
    let rows = runtime.block_on(registry::stored(store))?;
    let found = history::versions(&rows);
    let before = meters.now();
    if rows.is_empty() || *before == found {
        return Ok(());
    }
    let concerned = backfill::concerned(&before, &found);
    let changed =
        Meters { meters: found.meters.iter().filter(|one| !before.meters.contains(one)).cloned().collect() };
    drop(before);
    let former = meters.replace(found);
    tracing::info!(meters = changed.meters.len(), "the meters have changed");
    // What is being counted by the former ones is stored first; marks that come too early would not see it.
    while former.strong_count() > 0 && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(STOP_WAIT);
    }
    // Should this fail, or the process end: the versions are not written down as marked, and the next look at the
    // start finds them.
    let hours = runtime.block_on(backfill::mark(store, &concerned))?;
    runtime.block_on(backfill::note(store, &changed, hours, Utc::now()))?;
    Ok(())
}

/// The meters of the store; what is in `file` is put there first.
///
/// # Errors
/// See [`registry::seed`].
pub async fn seeded(store: &Store, file: &Meters) -> Result<Meters, MeterError> {
    for change in registry::seed(store, file, Utc::now()).await? {
        tracing::info!(?change, "a meter of the file was changed");
    }
    load(store).await
}
