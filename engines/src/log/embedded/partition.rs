//! One partition's segments: what is on disk, and how much of it is durable.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use rentroll_schemas::topics::Topic;

use super::frame::{self, Decoded};
use super::peek::Peek;
use super::{Result, io_error, sync_dir};

/// Marks a segment; the last byte is the format's version.
pub(super) const SEGMENT_MAGIC: [u8; 8] = *b"RENTLOG\x01";
/// Magic and first position.
pub(super) const SEGMENT_HEAD_BYTES: u64 = 16;

/// One file of frames.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) path: PathBuf,
    /// Readers go no further than this.
    pub(super) durable_bytes: AtomicU64,
}

/// The segments of a partition, oldest first.
pub(super) struct Partition {
    pub(super) topic: Topic,
    pub(super) index: u32,
    pub(super) dir: PathBuf,
    pub(super) damaged: u64,
    state: Mutex<State>,
    grown: Condvar,
    peek: Mutex<Peek>,
}

struct State {
    segments: Vec<Arc<Segment>>,
    /// Position after the last durable record.
    end: u64,
}

impl Partition {
    /// Reads what is there and mends the tail. `bytes` is increased by the sizes found. The next record comes at
    /// `committed` at least, which a group has passed: a record there would never be read.
    pub(super) fn open(
        topic: Topic,
        index: u32,
        dir: PathBuf,
        bytes: &AtomicU64,
        committed: u64,
    ) -> Result<Self> {
        let mut firsts: Vec<u64> = Vec::new();
        for entry in fs::read_dir(&dir).map_err(|source| io_error("read folder", &dir, source))? {
            let entry = entry.map_err(|source| io_error("read folder", &dir, source))?;
            let name = entry.file_name();
            if let Some(first) = name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse().ok()) {
                firsts.push(first);
            }
        }
        firsts.sort_unstable();
        let (mut segments, mut end, mut damaged) = (Vec::new(), 0, 0);
        let last = firsts.last().copied();
        for first in firsts {
            let path = segment_path(&dir, first);
            let length = fs::metadata(&path).map_err(|source| io_error("read", &path, source))?.len();
            let mut durable = length;
            if Some(first) == last {
                let found = recover(&path, first)?;
                (durable, end, damaged) = (found.bytes, found.end, found.damaged);
            }
            bytes.fetch_add(durable, Ordering::Relaxed);
            segments.push(Arc::new(Segment { first, path, durable_bytes: AtomicU64::new(durable) }));
        }
        if committed > end {
            if end > 0 {
                tracing::error!(%topic, partition = index, end, committed, "records that were read are gone from the log's end");
            }
            end = committed;
        }
        Ok(Partition {
            topic,
            index,
            dir,
            damaged,
            state: Mutex::new(State { segments, end }),
            grown: Condvar::new(),
            peek: Mutex::default(),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is only ever replaced whole, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Position after the last durable record.
    pub(super) fn durable_end(&self) -> u64 {
        self.state().end
    }

    /// The first position that is still kept.
    pub(super) fn first_position(&self) -> u64 {
        self.state().segments.first().map_or(0, |segment| segment.first)
    }

    pub(super) fn last_segment(&self) -> Option<Arc<Segment>> {
        self.state().segments.last().cloned()
    }

    /// The segment that holds `position`, or the oldest one kept.
    pub(super) fn segment_of(&self, position: u64) -> Option<Arc<Segment>> {
        let state = self.state();
        let after = state.segments.partition_point(|segment| segment.first <= position);
        state.segments.get(after.saturating_sub(1)).cloned()
    }

    /// The segment behind the one that begins at `first`.
    pub(super) fn segment_after(&self, first: u64) -> Option<Arc<Segment>> {
        let state = self.state();
        let after = state.segments.partition_point(|segment| segment.first <= first);
        state.segments.get(after).cloned()
    }

    /// Announces a new, still empty segment.
    pub(super) fn add_segment(&self, segment: Arc<Segment>) {
        self.state().segments.push(segment);
    }

    /// Announces that everything before `end`, in `bytes` of `segment`, is durable.
    pub(super) fn publish(&self, segment: &Segment, bytes: u64, end: u64) {
        segment.durable_bytes.store(bytes, Ordering::Release);
        self.state().end = end;
        self.grown.notify_all();
    }

    /// Waits until there is something at or after `position`, or `wait` is over, or `left` is set and
    /// [`wake`](Self::wake) called.
    pub(super) fn wait_for(&self, position: u64, wait: Duration, left: &AtomicBool) {
        let idle = |state: &mut State| state.end <= position && !left.load(Ordering::Acquire);
        drop(self.grown.wait_timeout_while(self.state(), wait, idle));
    }

    /// Has those who wait look again.
    pub(super) fn wake(&self) {
        // The lock, so that nobody is between looking and waiting.
        drop(self.state());
        self.grown.notify_all();
    }

    /// When the first durable record at or after `position` arrived.
    pub(super) fn arrival(&self, position: u64) -> Result<Option<i64>> {
        if position >= self.durable_end() {
            return Ok(None);
        }
        self.peek.lock().unwrap_or_else(PoisonError::into_inner).arrival(self, position)
    }

    /// Deletes the segments that lie wholly before `position`; returns the bytes freed.
    pub(super) fn drop_before(&self, position: u64) -> Result<u64> {
        let mut state = self.state();
        let mut freed = 0;
        while state.segments.len() > 1 && state.segments[1].first <= position {
            let segment = state.segments.remove(0);
            fs::remove_file(&segment.path).map_err(|source| io_error("delete", &segment.path, source))?;
            freed += segment.durable_bytes.load(Ordering::Relaxed);
        }
        Ok(freed)
    }
}

pub(super) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.seg"))
}

struct Recovered {
    bytes: u64,
    end: u64,
    damaged: u64,
}

/// Finds the end of the newest segment, cuts off what was not finished, and counts damaged frames.
fn recover(path: &Path, first: u64) -> Result<Recovered> {
    let content = Bytes::from(fs::read(path).map_err(|source| io_error("read", path, source))?);
    let (mut end, mut damaged) = (first, 0);
    let head_bytes = SEGMENT_HEAD_BYTES as usize;
    let mut at = head_bytes.min(content.len());
    // Even behind a damaged head there may be good frames.
    let mut good_until = at;
    while at < content.len() {
        match frame::decode(&content.slice(at..)) {
            Decoded::Frame(record, length) => {
                at += length;
                good_until = at;
                end = record.position + 1;
            }
            Decoded::Incomplete | Decoded::Damaged => match next_frame(&content, at + 1, end) {
                Some(next) => {
                    damaged += 1;
                    tracing::warn!(path = %path.display(), offset = at, "skipping a damaged frame");
                    at = next;
                }
                None => break,
            },
        }
    }
    let head_is_good = has_head(&content, first);
    if good_until < content.len() || !head_is_good {
        let cut = content.len() - good_until;
        tracing::warn!(path = %path.display(), bytes = cut, head_is_good, "mending an unfinished segment");
        good_until = good_until.max(head_bytes);
        let file = File::options().write(true).open(path).map_err(|source| io_error("open", path, source))?;
        let mend = || -> std::io::Result<()> {
            use std::os::unix::fs::FileExt;
            file.write_all_at(&segment_head(first), 0)?;
            file.set_len(good_until as u64)?;
            file.sync_all()
        };
        mend().map_err(|source| io_error("mend", path, source))?;
    }
    Ok(Recovered { bytes: good_until as u64, end, damaged })
}

/// The offset of the first good frame at or after `from` that continues the sequence.
pub(super) fn next_frame(content: &Bytes, from: usize, at_least: u64) -> Option<usize> {
    let magic = frame::MAGIC.to_le_bytes();
    let mut at = from;
    while let Some(found) = content.get(at..)?.windows(4).position(|window| window == magic) {
        at += found;
        if let Decoded::Frame(record, _) = frame::decode(&content.slice(at..))
            && record.position >= at_least
        {
            return Some(at);
        }
        at += 1;
    }
    None
}

pub(super) fn segment_head(first: u64) -> [u8; SEGMENT_HEAD_BYTES as usize] {
    let mut head = [0; SEGMENT_HEAD_BYTES as usize];
    head[..8].copy_from_slice(&SEGMENT_MAGIC);
    head[8..].copy_from_slice(&first.to_le_bytes());
    head
}

fn has_head(content: &Bytes, first: u64) -> bool {
    content.get(..SEGMENT_HEAD_BYTES as usize).is_some_and(|mut head| {
        let magic_fits = head[..8] == SEGMENT_MAGIC;
        head.advance(8);
        magic_fits && head.get_u64_le() == first
    })
}

/// Makes the file of a new segment, durably.
pub(super) fn create_segment(dir: &Path, first: u64) -> Result<(Arc<Segment>, File)> {
    let path = segment_path(dir, first);
    let make = || -> std::io::Result<File> {
        use std::os::unix::fs::FileExt;
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
        file.write_all_at(&segment_head(first), 0)?;
        file.sync_all()?;
        sync_dir(dir)?;
        Ok(file)
    };
    let file = make().map_err(|source| io_error("create", &path, source))?;
    Ok((Arc::new(Segment { first, path, durable_bytes: AtomicU64::new(SEGMENT_HEAD_BYTES) }), file))
}
