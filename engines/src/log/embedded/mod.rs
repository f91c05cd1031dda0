//! The event log on one machine: segments on disk, in this process.
//!
//! # Layout
//! ```text
//! <dir>/LOCK                                   held by the one process that has the log open
//! <dir>/meta.json                              format version, number of partitions
//! <dir>/<topic>/<partition>/<first position>.seg
//! <dir>/groups/<group>/<topic>/<partition>     the position that a group committed
//! ```
//! A segment is a 16-byte header and frames (see [`frame`]); a new one begins at 64 MiB. Positions are
//! ordinals: the first record of a partition is 0, and there are no holes but those of damaged frames.
//!
//! # Guarantees
//! - [`append`](super::EventLog::append) returns after `fdatasync`. Appends that wait at the same time share
//!   one sync per partition (group commit).
//! - Readers see a record only once it is durable.
//! - At open, an unfinished tail is cut off; a damaged frame with good ones behind it is skipped and counted.
//!   A position that a group has passed is never given to another record.
//! - A full disk refuses the append and takes back what was half written; a failed sync closes the log for
//!   writing until it is opened again, since nothing can be known about the pages then.
//! - Whole segments that every group has committed are deleted.
//!
//! # Limits
//! One process, one member per group. Order is kept within a partition only.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rentroll_schemas::topics::Topic;
use serde::{Deserialize, Serialize};

use super::{BoxFuture, EventLog, Lag, LogError, PartitionReader, Record, Result, Subscription};

pub mod door;
pub mod frame;
mod partition;
mod peek;
mod reader;
mod writer;

use partition::Partition;

/// Version of the layout above.
const FORMAT: u32 = 1;

/// How the embedded log is kept.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// Its folder; made if missing.
    pub dir: PathBuf,
    /// Partitions of each topic. Fixed when the log is made: a change would part resends from their originals.
    pub partitions: u32,
    /// Appends are refused while the segments hold more than this.
    pub bytes_max: u64,
    /// A segment is closed at this size. Smaller ones free their space sooner but cost a directory sync
    /// each; larger ones make a seek scan longer.
    pub segment_bytes_max: u64,
}

impl EmbeddedConfig {
    /// The defaults, in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        EmbeddedConfig { dir: dir.into(), partitions: 4, bytes_max: 16 << 30, segment_bytes_max: 64 << 20 }
    }
}

/// An open log.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    writer: writer::Writer,
}

/// What the writer, the readers and the handle have in common.
struct Shared {
    config: EmbeddedConfig,
    /// By topic, then partition.
    partitions: Vec<Vec<Arc<Partition>>>,
    /// Bytes in all segments.
    bytes: AtomicU64,
    /// Groups with a member.
    members: Mutex<HashSet<String>>,
    /// Held while the log is open; the lock goes with it.
    _lock: File,
}

impl Shared {
    fn partition(&self, topic: Topic, partition: u32) -> &Arc<Partition> {
        &self.partitions[topic_index(topic)][partition as usize]
    }
}

fn topic_index(topic: Topic) -> usize {
    match topic {
        Topic::Usage => 0,
        Topic::Overflow => 1,
        Topic::Rejects => 2,
    }
}

#[derive(Serialize, Deserialize)]
struct Meta {
    format: u32,
    partitions: u32,
}

impl EmbeddedLog {
    /// Opens the log in `config.dir`, or makes it. Blocking.
    ///
    /// # Errors
    /// [`LogError::InUse`] if another process has it; [`LogError::Topics`] if it was made with another number
    /// of partitions or by a newer binary.
    pub fn open(config: EmbeddedConfig) -> Result<Self> {
        let dir = &config.dir;
        make_dir(dir)?;
        let lock = lock(dir)?;
        check_meta(&config)?;
        let bytes = AtomicU64::new(0);
        let mut partitions = Vec::new();
        for topic in Topic::ALL {
            let mut of_topic = Vec::new();
            for partition in 0..config.partitions {
                let path = dir.join(topic.name()).join(partition.to_string());
                make_dir(&path)?;
                let committed = reader::committed_by_all(dir, topic, partition)?.into_iter().max();
                let committed = committed.unwrap_or_default();
                of_topic.push(Arc::new(Partition::open(topic, partition, path, &bytes, committed)?));
            }
            partitions.push(of_topic);
        }
        let shared = Arc::new(Shared { partitions, bytes, members: Mutex::default(), config, _lock: lock });
        let writer = writer::Writer::start(shared.clone())?;
        Ok(EmbeddedLog { shared, writer })
    }

    /// Bytes in all segments.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Damaged frames that were skipped when the log was opened.
    pub fn damaged_frames(&self) -> u64 {
        self.shared.partitions.iter().flatten().map(|partition| partition.damaged).sum()
    }
}

impl EventLog for EmbeddedLog {
    fn partitions(&self) -> u32 {
        self.shared.config.partitions
    }

    fn append(&self, topic: Topic, records: Vec<Record>) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.writer.append(topic, records))
    }

    fn subscribe(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Subscription>> {
        let mut members = self.shared.members.lock().unwrap_or_else(PoisonError::into_inner);
        if !members.insert(group.to_owned()) {
            return Err(LogError::Unavailable(format!(
                "group `{group}` already has its one member in this process"
            )));
        }
        Ok(Box::new(reader::Member::new(self.shared.clone(), group.to_owned(), topics.to_vec())))
    }

    fn lag(&self, group: &str, topic: Topic) -> Result<Vec<Lag>> {
        (0..self.partitions())
            .map(|index| {
                let partition = self.shared.partition(topic, index);
                let committed = reader::read_committed(&self.shared.config.dir, group, topic, index)?;
                let committed = committed.unwrap_or(0).max(partition.first_position());
                Ok(Lag { partition: index, committed, end: partition.durable_end().max(committed) })
            })
            .collect()
    }

    fn arrivals(&self, _group: &str, topic: Topic, places: &[(u32, u64)]) -> Result<Vec<Option<i64>>> {
        places
            .iter()
            .map(|(index, position)| self.shared.partition(topic, *index).arrival(*position))
            .collect()
    }
}

/// A subscription that has all partitions from the start and never loses one.
impl Subscription for reader::Member {
    fn gained(&mut self, wait: Duration) -> Result<Vec<Box<dyn PartitionReader>>> {
        let readers = self.take();
        if readers.is_empty() {
            std::thread::sleep(wait);
        }
        Ok(readers)
    }
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("LOCK");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|source| io_error("open", &path, source))?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut owner = String::new();
        let _ = file.read_to_string(&mut owner);
        let owner = if owner.is_empty() { "another process".to_owned() } else { format!("process {owner}") };
        return Err(LogError::InUse { path: dir.display().to_string(), owner });
    }
    // The process id is for the error message above; the lock itself is what counts.
    file.set_len(0)
        .and_then(|()| write!(file, "{}", std::process::id()))
        .map_err(|source| io_error("write", &path, source))?;
    Ok(file)
}

fn check_meta(config: &EmbeddedConfig) -> Result<()> {
    let path = config.dir.join("meta.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let meta = Meta { format: FORMAT, partitions: config.partitions };
            let text = serde_json::to_vec(&meta)
                .map_err(|error| LogError::Topics(format!("cannot describe the log: {error}")))?;
            return write_durably(&path, &text);
        }
        Err(source) => return Err(io_error("read", &path, source)),
    };
    let meta: Meta = serde_json::from_slice(&text).map_err(|error| LogError::Corrupt {
        path: path.display().to_string(),
        offset: 0,
        reason: error.to_string(),
    })?;
    if meta.format > FORMAT {
        return Err(LogError::Topics(format!(
            "the log in {} has format {}, this binary knows {FORMAT}: use a newer rentroll",
            config.dir.display(),
            meta.format
        )));
    }
    if meta.partitions != config.partitions {
        return Err(LogError::Topics(format!(
            "the log in {} was made with {} partitions, the configuration says {} (log.partitions): changing it would \
             part resends from their originals, so set it back",
            config.dir.display(),
            meta.partitions,
            config.partitions
        )));
    }
    Ok(())
}

/// Writes a small file so that after a crash either the old or the new content is there.
fn write_durably(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_dir(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(|source| io_error("write", path, source))
}

/// A new or renamed file survives a power cut only once its folder is synced.
fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

fn make_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|source| io_error("create folder", dir, source))
}

fn io_error(what: &str, path: &Path, source: std::io::Error) -> LogError {
    LogError::Io { what: format!("cannot {what} {}", path.display()), source }
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
