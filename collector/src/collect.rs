//! The loop: lines from a source's files, a verdict on each, batches to the event log, then the place moves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::Utc;
use rentroll_engines::health::{Health, Part};
use rentroll_engines::log::{LogError, Record, SharedLog};
use rentroll_schemas::reject::{Reject, reason};
use rentroll_schemas::topics::{CLOUDEVENTS_JSON, SCHEMA_VERSION, Topic, headers};
use rentroll_schemas::{Event, window};
use tokio::sync::mpsc;

use crate::format::{self, Refusal};
use crate::lines::{Line, LineReader, Place};
use crate::metrics::Metrics;
use crate::overflow::Lanes;
use crate::places::Places;
use crate::source::SourceConfig;

/// Lines that go to the log together: large enough that the sync does not show, small enough that the memory
/// of two batches stays below 10 MB.
const BATCH_LINES_MAX: usize = 8192;
/// How long to wait before looking for new lines.
const POLL: Duration = Duration::from_millis(200);

/// What a collector is given.
#[derive(Clone)]
pub struct Setup {
    /// Where the lines go.
    pub log: SharedLog,
    /// Folder for the places.
    pub state_dir: PathBuf,
    /// Relative paths of sources begin here.
    pub base: PathBuf,
    /// Which lane an event takes.
    pub lanes: Lanes,
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
    /// The log refuses for good.
    #[error("source `{name}`: {error}")]
    Log {
        /// The source.
        name: String,
        /// What the log said.
        error: Box<LogError>,
    },
}

/// A batch on its way to the log.
struct Batch {
    path: PathBuf,
    events: Vec<Record>,
    overflow: Vec<Record>,
    rejects: Vec<Record>,
    bytes: u64,
    place: Place,
}

/// Follows one source until it is stopped or, in `once` mode, read to its end.
///
/// # Errors
/// [`CollectError`]. A log that is full or away is not an error: the collector waits, and keeps its place.
pub async fn follow(setup: Setup, source: SourceConfig, mode: Mode) -> Result<(), CollectError> {
    let part = setup.health.part(format!("collector/{}", source.name));
    let places_error =
        |error| CollectError::Places { name: source.name.clone(), dir: setup.state_dir.clone(), error };
    let mut places = Places::open(&setup.state_dir, &source.name).map_err(places_error)?;
    let (batches, mut received) = mpsc::channel::<Batch>(2);
    let starts: Vec<(PathBuf, Option<Place>)> = source
        .paths
        .iter()
        .map(|path| setup.base.join(path))
        .map(|path| {
            let place = if mode.from_start { None } else { places.get(&path).cloned() };
            (path, place)
        })
        .collect();
    let reading = {
        let (setup, source) = (setup.clone(), source.clone());
        tokio::task::spawn_blocking(move || read_files(&setup, &source, mode, starts, &batches))
    };
    while let Some(batch) = received.recv().await {
        let accepted = batch.events.len() + batch.overflow.len();
        let counts = [(accepted, "accepted"), (batch.rejects.len(), "rejected")];
        for (topic, records) in
            [(Topic::Usage, batch.events), (Topic::Overflow, batch.overflow), (Topic::Rejects, batch.rejects)]
        {
            if records.is_empty() {
                continue;
            }
            append(&setup, &part, topic, records)
                .await
                .map_err(|error| CollectError::Log { name: source.name.clone(), error: Box::new(error) })?;
        }
        places.set(&batch.path, batch.place).map_err(places_error)?;
        for (count, verdict) in counts {
            setup.metrics.records.with_label_values(&[source.name.as_str(), verdict]).inc_by(count as u64);
        }
        setup.metrics.bytes.with_label_values(&[&source.name]).inc_by(batch.bytes);
        setup.progress.accepted.fetch_add(counts[0].0 as u64, Ordering::Relaxed);
        setup.progress.rejected.fetch_add(counts[1].0 as u64, Ordering::Relaxed);
        setup.progress.bytes.fetch_add(batch.bytes, Ordering::Relaxed);
        if received.is_empty() { part.idle() } else { part.progress() }
    }
    match reading.await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
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

/// Reads the source's files in turn, over and over. Runs on a thread of its own.
fn read_files(
    setup: &Setup,
    source: &SourceConfig,
    mode: Mode,
    starts: Vec<(PathBuf, Option<Place>)>,
    batches: &mpsc::Sender<Batch>,
) -> Result<(), CollectError> {
    let file_error =
        |path: &Path, error| CollectError::File { name: source.name.clone(), path: path.to_owned(), error };
    let mut readers = Vec::new();
    for (path, place) in starts {
        let reader = LineReader::open(&path, place.as_ref()).map_err(|error| file_error(&path, error))?;
        let waiting = reader.remaining().map_err(|error| file_error(&path, error))?;
        setup.progress.bytes_total.fetch_add(waiting, Ordering::Relaxed);
        readers.push((path, reader));
    }
    loop {
        let mut lag_bytes = 0;
        let mut found_some = false;
        for (path, reader) in &mut readers {
            loop {
                let batch = read_batch(setup, source, path, reader, mode.once)
                    .map_err(|error| file_error(path, error))?;
                let Some(batch) = batch else { break };
                found_some = true;
                if setup.stop.load(Ordering::Relaxed) || batches.blocking_send(batch).is_err() {
                    return Ok(());
                }
            }
            lag_bytes += reader.remaining().map_err(|error| file_error(path, error))?;
            // The old file was read to its end just above: what was appended to it before the rotation is in.
            if !mode.once && reader.is_replaced().map_err(|error| file_error(path, error))? {
                tracing::info!(path = %path.display(), "the file was rotated or truncated; reading the new one");
                *reader = LineReader::open(path, None).map_err(|error| file_error(path, error))?;
                found_some = true;
            }
        }
        setup
            .metrics
            .lag_bytes
            .with_label_values(&[&source.name])
            .set(i64::try_from(lag_bytes).unwrap_or(i64::MAX));
        if mode.once || setup.stop.load(Ordering::Relaxed) || batches.is_closed() {
            return Ok(());
        }
        if !found_some {
            std::thread::sleep(POLL);
        }
    }
}

/// The next lines of one file, judged. `None` if there are none.
fn read_batch(
    setup: &Setup,
    source: &SourceConfig,
    path: &Path,
    reader: &mut LineReader,
    at_end: bool,
) -> std::io::Result<Option<Batch>> {
    let before = reader.place().offset;
    let (mut events, mut overflow, mut rejects) = (Vec::new(), Vec::new(), Vec::new());
    while events.len() + overflow.len() + rejects.len() < BATCH_LINES_MAX
        && let Some(line) = reader.next_line(at_end)?
    {
        if line.bytes.is_empty() {
            continue;
        }
        match judge(&setup.lanes, source, &line) {
            Ok((Topic::Overflow, record)) => overflow.push(record),
            Ok((_, record)) => events.push(record),
            Err(refusal) => rejects.push(reject_record(source, path, &line, refusal)),
        }
    }
    let place = reader.place();
    let bytes = place.offset - before;
    Ok((bytes > 0).then(|| Batch { path: path.to_owned(), events, overflow, rejects, bytes, place }))
}

/// An event's lane and record, or why the line is none.
fn judge(lanes: &Lanes, source: &SourceConfig, line: &Line<'_>) -> Result<(Topic, Record), Refusal> {
    if let Some(length) = line.too_long {
        return Err(Refusal {
            reason: reason::TOO_LARGE,
            field: String::new(),
            detail: format!(
                "{length} bytes, more than {}; only its beginning is kept here",
                crate::lines::LINE_BYTES_MAX
            ),
        });
    }
    let event = format::read(source, line.bytes, &line.id)?;
    let now = Utc::now();
    window::check(event.time, now, source.backfill).map_err(|(reason, detail)| Refusal {
        reason,
        field: "time".to_owned(),
        detail,
    })?;
    let lane = lanes.lane(&event.tenant, Instant::now(), 1);
    Ok((lane, event_record(&event, now.timestamp_millis(), source.backfill)))
}

/// The record that carries `event`.
pub fn event_record(event: &Event<'_>, arrived_at_ms: i64, backfill: bool) -> Record {
    let headers = [
        (headers::TENANT, event.tenant.as_ref()),
        (headers::TYPE, &event.kind),
        (headers::SCHEMA, SCHEMA_VERSION),
        (headers::CONTENT_TYPE, CLOUDEVENTS_JSON),
    ];
    let backfill = backfill.then_some((headers::BACKFILL, "1"));
    let headers = headers.into_iter().chain(backfill).collect();
    Record { key: event.identity(), headers, value: event.to_json().into(), arrived_at_ms }
}

fn reject_record(source: &SourceConfig, path: &Path, line: &Line<'_>, refusal: Refusal) -> Record {
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
    let reject = Reject {
        source: source.name.clone(),
        // The id holds the digest of the file up to here: two files of one name are told apart.
        place: format!("{name}:{} (byte {})", line.number, line.id),
        tenant: String::new(),
        reason: refusal.reason.to_owned(),
        field: refusal.field,
        detail: refusal.detail,
        rejected_at: Utc::now(),
        bytes: line.bytes.to_vec(),
    };
    let arrived_at_ms = reject.rejected_at.timestamp_millis();
    let headers = [(headers::SCHEMA, SCHEMA_VERSION)].into_iter().collect();
    // Serialising strings and times cannot fail.
    let value = serde_json::to_vec(&reject).unwrap_or_default();
    Record { key: reject.identity(), headers, value: value.into(), arrived_at_ms }
}
