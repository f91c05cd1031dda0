//! All partitions of this member: a worker for each, for as long as the log leaves it here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rentroll_engines::health::Health;
use rentroll_engines::health::lag::LagRule;
use rentroll_engines::log::{LogError, PartitionReader, SharedLog};
use rentroll_engines::store::Store;
use rentroll_schemas::meter::LiveMeters;
use rentroll_schemas::topics::Topic;

use crate::activity::Activity;
use crate::meters::watch::Watching;
use crate::metrics::Metrics;
use crate::repair::keeper;
use crate::watch::Watch;
use crate::worker::{BatchLimits, Ended, Held, Shared, Worker, WorkerError};

/// A worker that ended with an error is started again after this long.
const RESTART_AFTER: Duration = Duration::from_secs(5);

/// What an aggregator is given.
#[derive(Clone)]
pub struct Setup {
    /// Where records come from.
    pub log: SharedLog,
    /// Where rows go.
    pub store: Store,
    /// How events become usage.
    pub meters: LiveMeters,
    /// The consumer group.
    pub group: String,
    /// How batches are cut.
    pub limits: BatchLimits,
    /// What is counted.
    pub metrics: Metrics,
    /// Who is active.
    pub activity: Arc<Activity>,
    /// When lag means *not ready*.
    pub lag_rule: LagRule,
    /// How long after its end an hour's rollups are checked.
    pub proof_after: Duration,
    /// Where it tells how it is.
    pub health: Health,
    /// Set to end it.
    pub stop: Arc<AtomicBool>,
}

/// One worker per (kind of topic, partition): rejects have workers of their own.
type Key = (bool, u32);

struct Running {
    thread: JoinHandle<Ended>,
    lanes: Sender<Box<dyn PartitionReader>>,
    /// The topics that it has.
    held: Held,
}

/// Readers whose worker still has an older reader of the same partition. That one was revoked, and the worker lets it go
/// as soon as it touches it; a second one beside it would be taken for the first.
type Waiting = Vec<Box<dyn PartitionReader>>;

/// Aggregates until it is stopped. Blocking; call it from a thread that may wait.
///
/// # Errors
/// If the log cannot be joined until something is mended. A log that is away is waited for; a worker's failure ends its membership: the partition is taken up again from
/// the committed position, and is reported as not ready meanwhile.
pub fn aggregate(setup: &Setup, runtime: &tokio::runtime::Handle) -> Result<(), LogError> {
    let part = setup.health.part("aggregator");
    let watch = Watch::start(setup, runtime);
    let _meters = Watching::start(setup, runtime);
    let _keeper = keeper::Keeping::start(setup, runtime, &watch);
    while !setup.stop.load(Ordering::Relaxed) {
        // What moves are the workers, each with a health of its own; this part only fails.
        part.idle();
        match member(setup, runtime, &watch) {
            Ok(()) => return Ok(()),
            Err(MemberError::Log(error)) if error.needs_mending() => return Err(error),
            Err(MemberError::Log(error)) => {
                tracing::error!(%error, "the event log is away; joining again in {} s", RESTART_AFTER.as_secs());
                part.failing(error.to_string());
            }
            Err(MemberError::Worker(error)) => {
                tracing::error!(%error, "a partition cannot go on; taking all up again in {} s", RESTART_AFTER.as_secs());
                part.failing(error.to_string());
            }
        }
        let until = Instant::now() + RESTART_AFTER;
        while Instant::now() < until && !setup.stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

enum MemberError {
    Log(LogError),
    Worker(WorkerError),
}

/// One membership in the group.
fn member(setup: &Setup, runtime: &tokio::runtime::Handle, watch: &Watch) -> Result<(), MemberError> {
    let stop = Arc::new(AtomicBool::new(false));
    let shared = Arc::new(Shared {
        store: setup.store.clone(),
        meters: setup.meters.clone(),
        limits: setup.limits,
        partitions: setup.log.partitions(),
        metrics: setup.metrics.clone(),
        activity: setup.activity.clone(),
        density: watch.density(),
        stop: stop.clone(),
        runtime: runtime.clone(),
    });
    let mut subscription = setup.log.subscribe(&setup.group, &Topic::ALL).map_err(MemberError::Log)?;
    let mut running: BTreeMap<Key, Running> = BTreeMap::new();
    let mut waiting = Waiting::new();
    let mut failure = None;
    while failure.is_none() && !setup.stop.load(Ordering::Relaxed) {
        match subscription.gained(Duration::from_millis(100)) {
            Ok(readers) => {
                // Those that wait came first, and the others of their partition must not overtake them.
                for reader in std::mem::take(&mut waiting).into_iter().chain(readers) {
                    if must_wait(&running, &waiting, reader.as_ref()) {
                        waiting.push(reader);
                    } else {
                        hand_over(setup, &shared, &mut running, &mut waiting, reader);
                    }
                }
            }
            Err(error) => failure = Some(MemberError::Log(error)),
        }
        for key in running.keys().copied().collect::<Vec<_>>() {
            if running[&key].thread.is_finished()
                && let Some(ended) = running.remove(&key)
            {
                failure = failure.or(join(ended, &mut waiting).err().map(MemberError::Worker));
            }
        }
        watch.owns(owned(&running));
    }
    stop.store(true, Ordering::Relaxed);
    watch.owns(BTreeSet::new());
    for ended in running.into_values() {
        let result = join(ended, &mut waiting);
        failure = failure.or(result.err().map(MemberError::Worker));
    }
    match failure {
        // A worker that was stopped while the store was away is no failure of ours.
        Some(MemberError::Worker(error)) if setup.stop.load(Ordering::Relaxed) => {
            tracing::warn!(%error, "stopped with a batch unfinished; it will be repeated");
            Ok(())
        }
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn key(reader: &dyn PartitionReader) -> Key {
    (reader.topic() == Topic::Rejects, reader.partition())
}

fn must_wait(running: &BTreeMap<Key, Running>, waiting: &Waiting, reader: &dyn PartitionReader) -> bool {
    let key_of = key(reader);
    running.get(&key_of).is_some_and(|worker| worker.held.topics().contains(&reader.topic()))
        || waiting.iter().any(|other| key(other.as_ref()) == key_of)
}

/// The partitions that this member works on.
fn owned(running: &BTreeMap<Key, Running>) -> BTreeSet<(Topic, u32)> {
    let of_one = |(key, worker): (&Key, &Running)| {
        let partition = key.1;
        worker.held.topics().into_iter().map(move |topic| (topic, partition))
    };
    running.iter().flat_map(of_one).collect()
}

/// What came of a worker. Lanes that it was given as it ended wait for the next one.
fn join(ended: Running, waiting: &mut Waiting) -> Result<(), WorkerError> {
    drop(ended.lanes);
    match ended.thread.join() {
        Ok(Ended { result, untaken }) => {
            waiting.extend(untaken.try_iter());
            result
        }
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn hand_over(
    setup: &Setup,
    shared: &Arc<Shared>,
    running: &mut BTreeMap<Key, Running>,
    waiting: &mut Waiting,
    reader: Box<dyn PartitionReader>,
) {
    let (topic, partition) = (reader.topic(), reader.partition());
    let key = key(reader.as_ref());
    let reader = match running.get(&key) {
        None => reader,
        Some(worker) => {
            worker.held.add(topic);
            match worker.lanes.send(reader) {
                Ok(()) => return,
                // Its worker has just ended, because the partition had moved away before it came back.
                Err(unsent) => unsent.0,
            }
        }
    };
    if let Some(former) = running.remove(&key)
        && let Err(error) = join(former, waiting)
    {
        tracing::error!(%error, partition, "a former worker of this partition had failed");
    }
    let (lanes, more) = channel();
    // The worker cannot have ended: it has not been started.
    let _ = lanes.send(reader);
    let held = Held::default();
    held.add(topic);
    let name = format!("aggregator/{}/{partition}", if key.0 { "rejects" } else { "usage" });
    let part = setup.health.part(name.clone());
    let worker = Worker::new(shared.clone(), partition, more, held.clone(), part);
    match std::thread::Builder::new().name(name.replace("aggregator/", "agg-")).spawn(move || worker.run()) {
        Ok(thread) => drop(running.insert(key, Running { thread, lanes, held })),
        Err(error) => {
            tracing::error!(%error, partition, "cannot start a worker thread; the partition stands still")
        }
    }
}
