//! Reading partitions and committing positions.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rentroll_schemas::topics::Topic;

use super::frame::{self, Decoded};
use super::partition::{self, Partition, Segment};
use super::{LogError, Result, Shared, io_error};
use crate::log::{PartitionReader, Positioned};

/// Bytes taken from a segment at once: large enough that the system calls do not show, small enough that a
/// reader per partition stays cheap.
const CHUNK_BYTES: u64 = 1 << 20;

/// The one member of a group.
pub(super) struct Member {
    shared: Arc<Shared>,
    group: String,
    topics: Vec<Topic>,
    /// Set when the member leaves; its readers can do nothing from then on.
    left: Arc<AtomicBool>,
}

impl Member {
    pub(super) fn new(shared: Arc<Shared>, group: String, topics: Vec<Topic>) -> Self {
        Member { shared, group, topics, left: Arc::default() }
    }

    /// All partitions, the first time; nothing afterwards.
    pub(super) fn take(&mut self) -> Vec<Box<dyn PartitionReader>> {
        let mut readers: Vec<Box<dyn PartitionReader>> = Vec::new();
        for topic in std::mem::take(&mut self.topics) {
            for index in 0..self.shared.config.partitions {
                readers.push(Box::new(Reader {
                    partition: self.shared.partition(topic, index).clone(),
                    shared: self.shared.clone(),
                    group: self.group.clone(),
                    left: self.left.clone(),
                    position: 0,
                    cursor: None,
                }));
            }
        }
        readers
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Release);
        // A reader that waits is told at once.
        self.shared.partitions.iter().flatten().for_each(|partition| partition.wake());
        self.shared.members.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.group);
    }
}

struct Reader {
    shared: Arc<Shared>,
    partition: Arc<Partition>,
    group: String,
    left: Arc<AtomicBool>,
    /// Of the next record to hand out.
    position: u64,
    cursor: Option<Cursor>,
}

/// A place in a segment.
struct Cursor {
    segment: Arc<Segment>,
    file: File,
    /// Where the next chunk begins.
    offset: u64,
    /// Read, not yet decoded.
    chunk: Bytes,
}

impl Cursor {
    fn open(segment: Arc<Segment>) -> Result<Self> {
        let file = File::open(&segment.path).map_err(|source| io_error("open", &segment.path, source))?;
        Ok(Cursor { segment, file, offset: partition::SEGMENT_HEAD_BYTES, chunk: Bytes::new() })
    }

    /// Reads on behind the undecoded rest, up to what is durable. False if there is nothing more.
    fn fill(&mut self) -> Result<bool> {
        let durable = self.segment.durable_bytes.load(Ordering::Acquire);
        let mut wanted = durable.saturating_sub(self.offset).min(CHUNK_BYTES);
        // A frame larger than a chunk must still fit.
        if self.chunk.len() as u64 >= CHUNK_BYTES {
            wanted = durable.saturating_sub(self.offset).min(frame::BODY_BYTES_MAX as u64 + CHUNK_BYTES);
        }
        if wanted == 0 {
            return Ok(false);
        }
        let rest = self.chunk.len();
        let mut buffer = BytesMut::zeroed(rest + wanted as usize);
        buffer[..rest].copy_from_slice(&self.chunk);
        self.file
            .read_exact_at(&mut buffer[rest..], self.offset)
            .map_err(|source| io_error("read", &self.segment.path, source))?;
        self.offset += wanted;
        self.chunk = buffer.freeze();
        Ok(true)
    }

    /// The next record at or after `position` in this segment.
    fn next(&mut self, position: u64) -> Result<Option<Positioned>> {
        loop {
            match frame::decode(&self.chunk) {
                Decoded::Frame(record, length) => {
                    self.chunk = self.chunk.slice(length..);
                    if record.position >= position {
                        return Ok(Some(record));
                    }
                }
                Decoded::Incomplete => {
                    if self.fill()? {
                        continue;
                    }
                    if self.chunk.is_empty() {
                        return Ok(None);
                    }
                    // What is durable ends with a whole frame: this one's length is damaged.
                    self.skip_damage(position)?;
                }
                Decoded::Damaged => self.skip_damage(position)?,
            }
        }
    }

    /// Goes on at the next good frame; the open log counted and reported the damage in the newest segment,
    /// this reports it in older ones.
    fn skip_damage(&mut self, position: u64) -> Result<()> {
        let place = self.offset - self.chunk.len() as u64;
        tracing::error!(path = %self.segment.path.display(), offset = place, "skipping a damaged frame");
        let mut from = 1;
        loop {
            if let Some(next) = partition::next_frame(&self.chunk, from, position) {
                self.chunk = self.chunk.slice(next..);
                return Ok(());
            }
            // A frame may begin in what is here and end behind it; what is longer than any frame is done with.
            let keep = self.chunk.len().min(frame::HEAD_BYTES + frame::BODY_BYTES_MAX);
            self.chunk = self.chunk.slice(self.chunk.len() - keep..);
            from = 0;
            if !self.fill()? {
                self.chunk = Bytes::new();
                return Ok(());
            }
        }
    }
}

impl Reader {
    fn next(&mut self) -> Result<Option<Positioned>> {
        loop {
            if self.position >= self.partition.durable_end() {
                return Ok(None);
            }
            let cursor = match &mut self.cursor {
                Some(cursor) => cursor,
                None => match self.partition.segment_of(self.position) {
                    Some(segment) => self.cursor.insert(Cursor::open(segment)?),
                    None => return Ok(None),
                },
            };
            if let Some(record) = cursor.next(self.position)? {
                self.position = record.position + 1;
                return Ok(Some(record));
            }
            match self.partition.segment_after(cursor.segment.first) {
                Some(segment) => self.cursor = Some(Cursor::open(segment)?),
                None => return Ok(None),
            }
        }
    }
}

impl PartitionReader for Reader {
    fn topic(&self) -> Topic {
        self.partition.topic
    }

    fn partition(&self) -> u32 {
        self.partition.index
    }

    fn committed(&mut self) -> Result<u64> {
        self.check_member()?;
        let committed =
            read_committed(&self.shared.config.dir, &self.group, self.partition.topic, self.partition.index)?;
        Ok(committed.unwrap_or(0).max(self.partition.first_position()))
    }

    fn seek(&mut self, position: u64) -> Result<()> {
        self.check_member()?;
        let end = self.partition.durable_end();
        if position > end {
            return Err(LogError::Topics(format!(
                "position {position} of {}/{} does not exist: it ends at {end}; it lost records or was made anew",
                self.partition.topic, self.partition.index
            )));
        }
        self.position = position;
        self.cursor = None;
        Ok(())
    }

    fn read(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Positioned>> {
        self.check_member()?;
        self.partition.wait_for(self.position, wait, &self.left);
        self.check_member()?;
        let mut records = Vec::new();
        while records.len() < records_max
            && let Some(record) = self.next()?
        {
            records.push(record);
        }
        Ok(records)
    }

    fn commit(&mut self, position: u64) -> Result<()> {
        self.check_member()?;
        let path =
            committed_path(&self.shared.config.dir, &self.group, self.partition.topic, self.partition.index);
        let written = write_position(&path, position);
        // Also if it could not be written: what is deleted is done with, and may be the room that is missing. A
        // position before the first segment is read as that segment's.
        let all = self.slowest_group(position)?;
        let freed = self.partition.drop_before(all)?;
        self.shared.bytes.fetch_sub(freed, Ordering::Relaxed);
        if let Err(source) = written {
            write_position(&path, position).map_err(|_| io_error("write", &path, source))?;
        }
        Ok(())
    }
}

impl Reader {
    fn check_member(&self) -> Result<()> {
        match self.left.load(Ordering::Acquire) {
            false => Ok(()),
            true => Err(LogError::Revoked { topic: self.partition.topic, partition: self.partition.index }),
        }
    }

    /// The position that every group has passed which ever committed here.
    fn slowest_group(&self, own: u64) -> Result<u64> {
        let all = committed_by_all(&self.shared.config.dir, self.partition.topic, self.partition.index)?;
        Ok(all.into_iter().fold(own, u64::min))
    }
}

/// What each group committed that ever did.
pub(super) fn committed_by_all(dir: &Path, topic: Topic, partition: u32) -> Result<Vec<u64>> {
    let groups = dir.join("groups");
    let entries = match fs::read_dir(&groups) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(io_error("read folder", &groups, source)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| io_error("read folder", &groups, source))?;
        if let Some(group) = entry.file_name().to_str() {
            all.extend(read_committed(dir, group, topic, partition)?);
        }
    }
    Ok(all)
}

/// A position as it is kept, with a checksum: one that is read wrong would skip records.
fn committed_text(position: u64) -> String {
    format!("{position} {:08x}\n", crc32c::crc32c(position.to_string().as_bytes()))
}

fn parse_committed(text: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    let (position, checksum) = (words.next()?, words.next());
    let is_whole = checksum
        .is_none_or(|checksum| u32::from_str_radix(checksum, 16) == Ok(crc32c::crc32c(position.as_bytes())));
    position.parse().ok().filter(|_| is_whole && words.next().is_none())
}

/// Not synced: after a power cut an older position is as good, since the store knows what it has.
fn write_position(path: &Path, position: u64) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let temporary = path.with_extension("tmp");
    let text = committed_text(position);
    match fs::write(&temporary, &text).and_then(|()| fs::rename(&temporary, path)) {
        // On a full disk: over the old one, which has its room, and to the end of any old text. Cut short by a
        // crash it is no position, and the group begins at the first record kept.
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            let _ = fs::remove_file(&temporary);
            let over = File::options().write(true).open(path);
            over.and_then(|file| file.write_all_at(format!("{text:<32}").as_bytes(), 0)).map_err(|_| error)
        }
        replaced => replaced,
    }
}

fn committed_path(dir: &Path, group: &str, topic: Topic, partition: u32) -> PathBuf {
    dir.join("groups").join(group).join(topic.name()).join(partition.to_string())
}

/// The position that `group` committed, if it ever did.
pub(super) fn read_committed(dir: &Path, group: &str, topic: Topic, partition: u32) -> Result<Option<u64>> {
    let path = committed_path(dir, group, topic, partition);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(std::str::from_utf8(&bytes).ok().and_then(parse_committed).unwrap_or_else(|| {
            // Empty after a power cut, or damaged: whoever reads again from the start meets itself in the store.
            tracing::warn!(path = %path.display(), "not a position; the group begins at the first record kept");
            0
        }))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error("read", &path, source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_written_or_not_at_all() {
        for position in [0, 7, 1234, u64::MAX] {
            let text = committed_text(position);
            assert_eq!(parse_committed(&text), Some(position));
            let mut damaged = text.clone().into_bytes();
            for bit in 0..8 * (damaged.len() - 1) {
                damaged[bit / 8] ^= 1 << (bit % 8);
                let read = std::str::from_utf8(&damaged).ok().and_then(parse_committed);
                assert!(read.is_none_or(|read| read == position), "bit {bit} of {text:?}: {read:?}");
                damaged[bit / 8] ^= 1 << (bit % 8);
            }
        }
        // As earlier versions wrote it.
        assert_eq!(parse_committed("42"), Some(42));
        assert_eq!(parse_committed(""), None);
    }
}
