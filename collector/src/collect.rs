//! The loop: lines from a source's files, a verdict on each, batches to the event log, then the place moves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rentroll_engines::health::{Health, Part};
use rentroll_engines::log::{LogError, Record, SharedLog};
use rentroll_schemas::topics::Topic;
use tokio::sync::mpsc;

use crate::follow::{Follower, Pace};
use crate::format::LineFormat;
use crate::metrics::Metrics;
use crate::outgoing::Packer;
use crate::places::{OpenError, Places};
use crate::reading::{Batch, Lines, Reading};
use crate::sight::{Look, Sight};
use crate::source::SourceConfig;

/// Batches between reading and appending.
const BATCHES_AHEAD: usize = 2;
/// A rotated file that has not grown for this long is finished. Servers write to their old file until they are
/// told to open the new one, which logrotate does within seconds.
const QUIET: Duration = Duration::from_secs(60);

/// What a collector is given.
#[derive(Clone)]
pub struct Setup {
    /// Where the lines go.
    pub log: SharedLog,
    /// Folder for the places.
    pub state_dir: PathBuf,
    /// Relative paths of sources begin here.
    pub base: PathBuf,
    /// How events travel.
    pub packer: Packer,
    /// What it counts.
    pub metrics: Metrics,
    /// Where it tells how it is.
    pub health: Health,
    /// Set to end the loop.
    pub stop: Arc<AtomicBool>,
    /// What has been read so far.
    pub progress: Arc<Progress>,
}

/// How to follow a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// End when the files have been read, instead of waiting for more.
    pub once: bool,
    /// Forget the places: read the files from their beginnings. What was read before comes out as duplicates.
    pub from_start: bool,
}

/// Running totals, for those who watch.
#[derive(Debug, Default)]
pub struct Progress {
    /// Lines appended as events.
    pub accepted: AtomicU64,
    /// Lines appended as rejects.
    pub rejected: AtomicU64,
    /// Bytes of all lines read.
    pub bytes: AtomicU64,
    /// Bytes of all files at the time they were opened.
    pub bytes_total: AtomicU64,
}

/// Why a source cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A file cannot be read.
    #[error("source `{name}`: cannot read {path}: {error}")]
    File {
        /// The source.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The places cannot be kept.
    #[error("source `{name}`: cannot keep its places in {dir}: {error}")]
    Places {
        /// The source.
        name: String,
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The places that were kept cannot be read.
    #[error(
        "source `{name}`: {path} is damaged ({reason}). Put a copy of it back, or remove it: the files are then read \
         from their beginnings, as with --from-start. Lines that were taken within the last 35 days are recognised; \
         older ones are refused, but in a source with `backfill = true` they count again. Lines not yet taken from \
         rotated files are lost unless `paths` names those files"
    )]
    Damaged {
        /// The source.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting cannot be used.
    #[error("source `{name}`: {field}: {reason}")]
    Setting {
        /// The source.
        name: String,
        /// The key.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The log refuses for good.
    #[error("source `{name}`: {error}")]
    Log {
        /// The source.
        name: String,
        /// What the log said.
        error: Box<LogError>,
    },
}

/// Follows one source until it is stopped or, in `once` mode, read to its end.
///
/// # Errors
/// [`CollectError`]. A log that is full or away is not an error: the collector waits, and keeps its place. Nor is
/// a file that is missing or cannot be read, but in `once` mode: it is waited for. Nor, but in that mode, a disk that
/// has no room for the places: nothing more is taken before they are kept.
pub async fn follow(setup: Setup, source: SourceConfig, mode: Mode) -> Result<(), CollectError> {
    let part = setup.health.part(format!("collector/{}", source.name));
    let log_error = |error| CollectError::Log { name: source.name.clone(), error: Box::new(error) };
    let mut places = known(&setup, &source.name, mode)?;
    let sight = sight(&setup.base, &source)?;
    let format = LineFormat::new(&source).map_err(|(field, reason)| CollectError::Setting {
        name: source.name.clone(),
        field,
        reason,
    })?;
    let pace = Pace { settle: !mode.once, quiet: QUIET };
    let follower = Follower::new(sight, pace, places.families(), Instant::now());
    let (batches, mut received) = mpsc::channel::<Batch>(BATCHES_AHEAD);
    let reading = {
        let files = setup.health.part(format!("collector/{}/files", source.name));
        let reading = Reading {
            setup: setup.clone(),
            source: source.clone(),
            format,
            mode,
            lines: Lines::default(),
            files,
        };
        tokio::task::spawn_blocking(move || reading.run(follower, &batches))
    };
    loop {
        let batch = match places.due_in() {
            None => received.recv().await,
            Some(Duration::ZERO) => {
                keep(&setup, &source.name, mode, &part, &mut places).await?;
                continue;
            }
            Some(wait) => match tokio::time::timeout(wait, received.recv()).await {
                Ok(batch) => batch,
                Err(_) => continue,
            },
        };
        let Some(batch) = batch else { break };
        for (topic, records) in batch.load {
            append(&setup, &part, topic, records).await.map_err(log_error)?;
        }
        places.apply(batch.changes);
        for (count, verdict) in [(batch.accepted, "accepted"), (batch.rejected, "rejected")] {
            setup.metrics.records.with_label_values(&[source.name.as_str(), verdict]).inc_by(count);
        }
        setup.metrics.bytes.with_label_values(&[&source.name]).inc_by(batch.bytes);
        setup.progress.accepted.fetch_add(batch.accepted, Ordering::Relaxed);
        setup.progress.rejected.fetch_add(batch.rejected, Ordering::Relaxed);
        setup.progress.bytes.fetch_add(batch.bytes, Ordering::Relaxed);
        match received.is_empty() {
            true => part.idle(),
            false => part.progress(),
        }
    }
    keep(&setup, &source.name, mode, &part, &mut places).await?;
    match reading.await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// The files that `source` names at this moment, with their sizes, or why they cannot be read.
///
/// # Errors
/// If its paths cannot be understood.
pub fn files(
    base: &Path,
    source: &SourceConfig,
) -> Result<Vec<(PathBuf, std::io::Result<u64>)>, CollectError> {
    let Look { files, missing } = sight(base, source)?.look(&[], std::iter::empty());
    let size = |path: &Path| Ok(std::fs::File::open(path)?.metadata()?.len());
    let named = files.into_values().flatten().filter(|file| file.named);
    let found = named.map(|file| {
        let size = size(&file.path);
        (file.path, size)
    });
    Ok(found.chain(missing.into_iter().map(|(path, error)| (path, Err(error)))).collect())
}

fn sight(base: &Path, source: &SourceConfig) -> Result<Sight, CollectError> {
    Sight::new(base, &source.paths).map_err(|reason| CollectError::Setting {
        name: source.name.clone(),
        field: "paths".to_owned(),
        reason,
    })
}

/// What was read before.
fn known(setup: &Setup, source: &str, mode: Mode) -> Result<Places, CollectError> {
    let opened = match mode.from_start {
        true => Places::forgotten(&setup.state_dir, source).map_err(OpenError::from),
        false => Places::open(&setup.state_dir, source),
    };
    opened.map_err(|error| match error {
        OpenError::Io(error) => places_error(setup, source, error),
        OpenError::Damaged { file, reason } => {
            CollectError::Damaged { name: source.to_owned(), path: file, reason: reason.to_string() }
        }
    })
}

fn places_error(setup: &Setup, source: &str, error: std::io::Error) -> CollectError {
    CollectError::Places { name: source.to_owned(), dir: setup.state_dir.clone(), error }
}

/// Writes the places down. While that fails nothing more is taken: after a crash all of it would be taken again, and
/// what was rotated since a log was first seen would be left for older than that. Who runs once, or stops, is told at
/// once.
async fn keep(
    setup: &Setup,
    source: &str,
    mode: Mode,
    part: &Part,
    places: &mut Places,
) -> Result<(), CollectError> {
    let mut wait = Duration::from_millis(50);
    let mut failed = false;
    while let Err(error) = places.save().await {
        let error = places_error(setup, source, error);
        if mode.once || setup.stop.load(Ordering::Relaxed) {
            return Err(error);
        }
        tracing::warn!(%error, "no more lines are taken; trying again");
        part.failing(error.to_string());
        failed = true;
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
    if failed {
        part.idle();
    }
    Ok(())
}

/// Appends until the log takes it; only what can never be taken is an error.
async fn append(setup: &Setup, part: &Part, topic: Topic, records: Vec<Record>) -> Result<(), LogError> {
    let mut wait = Duration::from_millis(50);
    loop {
        match setup.log.append(topic, records.clone()).await {
            Ok(()) => return Ok(()),
            Err(error @ LogError::TooLarge { .. }) => return Err(error),
            Err(error) if error.needs_mending() => return Err(error),
            Err(error) if setup.stop.load(Ordering::Relaxed) => return Err(error),
            Err(error) => {
                tracing::warn!(%topic, %error, "the event log takes nothing; keeping the place and trying again");
                part.failing(format!("the event log takes nothing: {error}"));
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}
