//! The side that reads: lines from a source's files, a verdict on each, batches for the log.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rentroll_engines::health::Part;
use rentroll_schemas::reject::{Reject, reason};
use rentroll_schemas::topics::Topic;
use rentroll_schemas::{Event, window};
use tokio::sync::mpsc;

use crate::collect::{CollectError, Mode, Setup};
use crate::follow::Follower;
use crate::followed::{End, Followed};
use crate::format::{LineFormat, Refusal};
use crate::lines::{LINE_BYTES_MAX, Line, ReadError};
use crate::outgoing::{self, Load};
use crate::places::Change;
use crate::source::SourceConfig;

/// Lines that go to the log together: large enough that the sync does not show, small enough that four batches
/// (being read, waiting twice, being appended) fit in a few megabytes.
const BATCH_LINES_MAX: usize = 2048;
/// …and their bytes: lines may be long.
const BATCH_BYTES_MAX: u64 = 1 << 20;
/// How long to wait before looking for new lines.
const POLL: Duration = Duration::from_millis(200);
/// How often to look for other files: new ones, rotated ones. A log that is truncated is noticed at once.
const SCAN_EVERY: Duration = Duration::from_secs(1);

/// A batch on its way to the log.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) load: Load,
    /// Lines that are events.
    pub(crate) accepted: u64,
    /// Lines that are not.
    pub(crate) rejected: u64,
    /// Of all lines.
    pub(crate) bytes: u64,
    /// What is known once the batch is durable.
    pub(crate) changes: Vec<Change>,
}

/// Lines one behind the other, so that a batch of them is judged together and costs no allocation for each.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    ids: String,
    lines: Vec<Kept>,
}

/// A line of [`Lines`], whose bytes and id end here.
#[derive(Debug)]
struct Kept {
    bytes_end: usize,
    id_end: usize,
    number: u64,
    too_long: Option<u64>,
}

/// A [`Line`] that lives as long as its batch.
#[derive(Clone, Copy)]
struct Taken<'a> {
    number: u64,
    id: &'a str,
    bytes: &'a [u8],
    too_long: Option<u64>,
}

impl Lines {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ids.clear();
        self.lines.clear();
        // A batch of long lines must not keep its room for ever.
        self.bytes.shrink_to(BATCH_BYTES_MAX as usize);
    }

    fn push(&mut self, line: Line<'_>) {
        self.bytes.extend_from_slice(line.bytes);
        self.ids.push_str(&line.id);
        self.lines.push(Kept {
            bytes_end: self.bytes.len(),
            id_end: self.ids.len(),
            number: line.number,
            too_long: line.too_long,
        });
    }

    fn count(&self) -> usize {
        self.lines.len()
    }

    fn iter(&self) -> impl Iterator<Item = Taken<'_>> {
        let (mut bytes_start, mut id_start) = (0, 0);
        self.lines.iter().map(move |kept| {
            let line = Taken {
                number: kept.number,
                id: &self.ids[id_start..kept.id_end],
                bytes: &self.bytes[bytes_start..kept.bytes_end],
                too_long: kept.too_long,
            };
            (bytes_start, id_start) = (kept.bytes_end, kept.id_end);
            line
        })
    }
}

/// The side that reads. Runs on a thread of its own.
pub(crate) struct Reading {
    pub(crate) setup: Setup,
    pub(crate) source: SourceConfig,
    pub(crate) format: LineFormat,
    pub(crate) mode: Mode,
    /// The lines in hand; kept for its memory.
    pub(crate) lines: Lines,
    /// Whether its files can be read.
    pub(crate) files: Part,
}

impl Reading {
    /// Reads the files in turn, a batch of each, over and over.
    pub(crate) fn run(
        mut self,
        mut follower: Follower,
        batches: &mpsc::Sender<Batch>,
    ) -> Result<(), CollectError> {
        let (mut scan_at, mut told, mut announced, mut bytes_read) = (Instant::now(), Vec::new(), 0, 0);
        let stop = self.setup.stop.clone();
        let stopped = || stop.load(Ordering::Relaxed) || batches.is_closed();
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
    fn read_batch(&mut self, base: &Path, file: &mut Followed, at_end: bool) -> (Batch, End) {
        let mut batch = Batch::default();
        let Some(reader) = file.reader() else { return (batch, End::Drained) };
        let before = reader.offset();
        self.lines.clear();
        let end = loop {
            if self.lines.count() >= BATCH_LINES_MAX || reader.offset() - before >= BATCH_BYTES_MAX {
                break End::Full;
            }
            match reader.next_line(at_end) {
                Ok(Some(line)) if line.bytes.is_empty() => {}
                Ok(Some(line)) => self.lines.push(line),
                Ok(None) => break End::Drained,
                Err(error) => break End::Broken(error),
            }
        };
        batch.bytes = reader.offset() - before;
        if batch.bytes > 0 {
            file.moved(Instant::now());
            batch.changes.push(file.change(base));
            self.judge(base, &mut batch);
        }
        (batch, end)
    }

    /// A verdict on each line taken.
    fn judge(&self, log: &Path, batch: &mut Batch) {
        let arrived_at = Utc::now();
        let (mut events, mut rejects) = (Vec::with_capacity(self.lines.count()), Vec::new());
        for line in self.lines.iter() {
            match judge(&self.source, &self.format, line, arrived_at) {
                Ok(event) => events.push(event),
                Err(refusal) => {
                    rejects.push(outgoing::reject(&reject(&self.source, log, line, refusal, arrived_at)));
                }
            }
        }
        (batch.accepted, batch.rejected) = (events.len() as u64, rejects.len() as u64);
        let arrived_at_ms = arrived_at.timestamp_millis();
        batch.load = self.setup.packer.load(&events, arrived_at_ms, self.source.backfill);
        if !rejects.is_empty() {
            batch.load.push((Topic::Rejects, rejects));
        }
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

/// The event of a line, or why it is none.
fn judge<'a>(
    source: &SourceConfig,
    format: &'a LineFormat,
    line: Taken<'a>,
    arrived_at: DateTime<Utc>,
) -> Result<Event<'a>, Refusal> {
    if let Some(length) = line.too_long {
        return Err(Refusal {
            reason: reason::TOO_LARGE,
            field: String::new(),
            detail: format!("{length} bytes, more than {LINE_BYTES_MAX}; only its beginning is kept here"),
        });
    }
    let event = format.read(line.bytes, line.id)?;
    window::check(event.time, arrived_at, source.backfill).map_err(|(reason, detail)| Refusal {
        reason,
        field: "time".to_owned(),
        detail,
    })?;
    Ok(event)
}

fn reject(
    source: &SourceConfig,
    log: &Path,
    line: Taken<'_>,
    refusal: Refusal,
    rejected_at: DateTime<Utc>,
) -> Reject {
    // The log's own name: a line that is read again after a rotation is the same reject.
    let name = log.file_name().map_or_else(|| log.to_string_lossy(), |name| name.to_string_lossy());
    Reject {
        source: source.name.clone(),
        // The id holds the digest of the file up to here: two files of one name are told apart.
        place: format!("{name}:{} (byte {})", line.number, line.id),
        tenant: String::new(),
        reason: refusal.reason.to_owned(),
        field: refusal.field,
        detail: refusal.detail,
        rejected_at,
        backfill: source.backfill,
        bytes: line.bytes.to_vec(),
    }
}
