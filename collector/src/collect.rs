//! The loop: lines from a source's files, a verdict on each, batches to the event log, then the place moves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rentroll_engines::health::{Health, Part};
use rentroll_engines::log::{LogError, Record, SharedLog};
use rentroll_schemas::reject::{Reject, reason};
use rentroll_schemas::topics::Topic;
use rentroll_schemas::window;
use tokio::sync::mpsc;

use crate::follow::{End, Followed, Follower, Pace};
use crate::format::{LineFormat, Refusal};
use crate::lines::{Line, ReadError};
use crate::metrics::Metrics;
use crate::outgoing;
use crate::overflow::Lanes;
use crate::places::{Change, Places};
use crate::sight::{Look, Sight};
use crate::source::SourceConfig;

/// Lines that go to the log together: large enough that the sync does not show, small enough that four batches
/// (being read, waiting twice, being appended) fit in a few megabytes.
const BATCH_LINES_MAX: usize = 2048;
/// …and their bytes: lines may be long.
const BATCH_BYTES_MAX: u64 = 1 << 20;
/// Batches between reading and appending.
const BATCHES_AHEAD: usize = 2;
/// How long to wait before looking for new lines.
const POLL: Duration = Duration::from_millis(200);
/// How often to look for other files: new ones, rotated ones. A log that is truncated is noticed at once.
const SCAN_EVERY: Duration = Duration::from_secs(1);
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

/// A batch on its way to the log.
#[derive(Default)]
struct Batch {
    events: Vec<Record>,
    overflow: Vec<Record>,
    rejects: Vec<Record>,
    bytes: u64,
    /// What is known once the batch is durable.
    changes: Vec<Change>,
}

/// Follows one source until it is stopped or, in `once` mode, read to its end.
///
/// # Errors
/// [`CollectError`]. A log that is full or away is not an error: the collector waits, and keeps its place. Nor is
/// a file that is missing or cannot be read, but in `once` mode: it is waited for.
pub async fn follow(setup: Setup, source: SourceConfig, mode: Mode) -> Result<(), CollectError> {
    let part = setup.health.part(format!("collector/{}", source.name));
    let places_error =
        |error| CollectError::Places { name: source.name.clone(), dir: setup.state_dir.clone(), error };
    let log_error = |error| CollectError::Log { name: source.name.clone(), error: Box::new(error) };
    let mut places = Places::open(&setup.state_dir, &source.name).map_err(places_error)?;
    if mode.from_start {
        places.clear();
    }
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
        let reading = Reading { setup: setup.clone(), source: source.clone(), format, mode, files };
        tokio::task::spawn_blocking(move || reading.run(follower, &batches))
    };
    while let Some(batch) = received.recv().await {
        let accepted = batch.events.len() + batch.overflow.len();
        let counts = [(accepted, "accepted"), (batch.rejects.len(), "rejected")];
        for (topic, records) in
            [(Topic::Usage, batch.events), (Topic::Overflow, batch.overflow), (Topic::Rejects, batch.rejects)]
        {
            if !records.is_empty() {
                append(&setup, &part, topic, records).await.map_err(log_error)?;
            }
        }
        places.apply(batch.changes).map_err(places_error)?;
        for (count, verdict) in counts {
            setup.metrics.records.with_label_values(&[source.name.as_str(), verdict]).inc_by(count as u64);
        }
        setup.metrics.bytes.with_label_values(&[&source.name]).inc_by(batch.bytes);
        setup.progress.accepted.fetch_add(counts[0].0 as u64, Ordering::Relaxed);
        setup.progress.rejected.fetch_add(counts[1].0 as u64, Ordering::Relaxed);
        setup.progress.bytes.fetch_add(batch.bytes, Ordering::Relaxed);
        if received.is_empty() {
            part.idle();
            places.save().map_err(places_error)?;
        } else {
            part.progress();
        }
    }
    places.save().map_err(places_error)?;
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

/// The side that reads. Runs on a thread of its own.
struct Reading {
    setup: Setup,
    source: SourceConfig,
    format: LineFormat,
    mode: Mode,
    /// Whether its files can be read.
    files: Part,
}

impl Reading {
    /// Reads the files in turn, a batch of each, over and over.
    fn run(&self, mut follower: Follower, batches: &mpsc::Sender<Batch>) -> Result<(), CollectError> {
        let (mut scan_at, mut told, mut announced, mut bytes_read) = (Instant::now(), Vec::new(), 0, 0);
        let stopped = || self.setup.stop.load(Ordering::Relaxed) || batches.is_closed();
        loop {
            let now = Instant::now();
            if now >= scan_at {
                scan_at = now + SCAN_EVERY;
                follower.scan(now);
                self.tell_problems(&follower, &mut told)?;
                let changes = follower.take_changes();
                if !changes.is_empty()
                    && batches.blocking_send(Batch { changes, ..Batch::default() }).is_err()
                {
                    return Ok(());
                }
            }
            let (mut lag_bytes, mut found_some) = (0, false);
            let pace = follower.pace();
            for (base, file) in follower.open_files() {
                let at_end = self.mode.once || file.is_quiet(pace, now);
                let (mut batch, end) = self.read_batch(base, file, at_end);
                bytes_read += batch.bytes;
                if let Some(error) = file.after(base, end, pace, now, &mut batch.changes) {
                    self.tell_broken(file, error)?;
                    scan_at = Instant::now();
                }
                lag_bytes += file.reader().and_then(|reader| reader.remaining().ok()).unwrap_or(0);
                found_some |= batch.bytes > 0;
                if stopped() {
                    return Ok(());
                }
                if !batch.changes.is_empty() && batches.blocking_send(batch).is_err() {
                    return Ok(());
                }
            }
            let lag = self.setup.metrics.lag_bytes.with_label_values(&[&self.source.name]);
            lag.set(i64::try_from(lag_bytes).unwrap_or(i64::MAX));
            let total = (bytes_read + lag_bytes).max(announced);
            self.setup.progress.bytes_total.fetch_add(total - announced, Ordering::Relaxed);
            announced = total;
            if stopped() || (self.mode.once && !found_some) {
                return Ok(());
            }
            if !found_some {
                std::thread::sleep(POLL);
            }
        }
    }

    /// The next lines of one file, judged.
    fn read_batch(&self, base: &Path, file: &mut Followed, at_end: bool) -> (Batch, End) {
        let mut batch = Batch::default();
        let Some(reader) = file.reader() else { return (batch, End::Drained) };
        let before = reader.offset();
        let now = Now { instant: Instant::now(), utc: Utc::now() };
        let mut lines = 0;
        let end = loop {
            if lines >= BATCH_LINES_MAX || reader.offset() - before >= BATCH_BYTES_MAX {
                break End::Full;
            }
            let line = match reader.next_line(at_end) {
                Ok(Some(line)) => line,
                Ok(None) => break End::Drained,
                Err(error) => break End::Broken(error),
            };
            lines += 1;
            if line.bytes.is_empty() {
                continue;
            }
            match judge(&self.setup.lanes, &self.source, &self.format, &line, now) {
                Ok((Topic::Overflow, record)) => batch.overflow.push(record),
                Ok((_, record)) => batch.events.push(record),
                Err(refusal) => batch.rejects.push(reject_record(&self.source, base, &line, refusal)),
            }
        };
        batch.bytes = reader.offset() - before;
        if batch.bytes > 0 {
            file.moved(now.instant);
            batch.changes.push(file.change(base));
        }
        (batch, end)
    }

    fn tell_broken(&self, file: &Followed, error: ReadError) -> Result<(), CollectError> {
        let path = file.path();
        match error {
            ReadError::Differs => {
                tracing::info!(path = %path.display(), "the file was truncated; reading it from its beginning");
            }
            ReadError::Io(error) if self.mode.once => {
                let path = path.to_owned();
                return Err(CollectError::File { name: self.source.name.clone(), path, error });
            }
            error => tracing::warn!(path = %path.display(), %error, "cannot read on; trying again"),
        }
        Ok(())
    }

    /// Files that cannot be read are told once, in the log and in the part's health. In `once` mode they end it.
    fn tell_problems(&self, follower: &Follower, told: &mut Vec<String>) -> Result<(), CollectError> {
        let problems = follower.problems();
        if self.mode.once
            && let Some((path, problem)) = problems.iter().next()
        {
            let error = std::io::Error::new(problem.error.kind(), problem.error.to_string());
            return Err(CollectError::File { name: self.source.name.clone(), path: path.clone(), error });
        }
        let mut now = Vec::new();
        for (path, problem) in problems {
            let sentence = match problem.waiting {
                true => format!("waiting for {}: {}", path.display(), problem.error),
                false => format!("cannot read {}: {}", path.display(), problem.error),
            };
            if !told.contains(&sentence) {
                tracing::warn!(source = self.source.name, "{sentence}");
            }
            now.push(sentence);
        }
        match (now.is_empty(), problems.values().all(|problem| problem.waiting)) {
            (true, _) => self.files.idle(),
            // A sidecar that is not ready because its application has not written yet would keep it from starting.
            (_, true) => self.files.waiting(now.join("; ")),
            (_, false) => self.files.failing(now.join("; ")),
        }
        *told = now;
        Ok(())
    }
}

/// The time, taken once a batch.
#[derive(Clone, Copy)]
struct Now {
    instant: Instant,
    utc: DateTime<Utc>,
}

/// An event's lane and record, or why the line is none.
fn judge(
    lanes: &Lanes,
    source: &SourceConfig,
    format: &LineFormat,
    line: &Line<'_>,
    now: Now,
) -> Result<(Topic, Record), Refusal> {
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
    let event = format.read(line.bytes, &line.id)?;
    window::check(event.time, now.utc, source.backfill).map_err(|(reason, detail)| Refusal {
        reason,
        field: "time".to_owned(),
        detail,
    })?;
    let lane = lanes.lane(&event.tenant, now.instant, 1);
    Ok((lane, outgoing::record(&event, now.utc.timestamp_millis(), source.backfill)))
}

fn reject_record(source: &SourceConfig, log: &Path, line: &Line<'_>, refusal: Refusal) -> Record {
    // The log's own name: a line that is read again after a rotation is the same reject.
    let name = log.file_name().map_or_else(|| log.to_string_lossy(), |name| name.to_string_lossy());
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
    outgoing::reject(&reject)
}
