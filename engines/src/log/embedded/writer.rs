//! The one thread that writes: group commit.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use bytes::BytesMut;
use rentroll_schemas::topics::Topic;
use tokio::sync::oneshot;

use super::partition::{self, Partition, Segment};
use super::{LogError, Record, Result, Shared, frame, io_error};

/// Appends that may wait for the next sync. At 1,000 events each this is some 300 MB at the most; past it
/// callers are told to come again.
const QUEUE_APPENDS_MAX: usize = 1024;
/// One group commit takes no more than this, so that a flood does not delay the acks of those first in it.
const GROUP_BYTES_MAX: usize = 8 << 20;

struct Append {
    topic: Topic,
    records: Vec<Record>,
    bytes: usize,
    done: oneshot::Sender<Result<()>>,
}

pub(super) struct Writer {
    queue: Option<SyncSender<Append>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Writer {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self> {
        let (queue, appends) = sync_channel(QUEUE_APPENDS_MAX);
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || {
                GroupCommit { shared: of_thread, open: BTreeMap::new(), closed: None }.run(&appends)
            })
            .map_err(|source| LogError::Io {
                what: "cannot start the log's writer thread".to_owned(),
                source,
            })?;
        Ok(Writer { queue: Some(queue), thread: Some(thread), shared })
    }

    pub(super) async fn append(&self, topic: Topic, records: Vec<Record>) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut bytes = 0;
        for record in &records {
            let length = frame::encoded_len(record);
            if !frame::fits(record) {
                return Err(LogError::TooLarge { bytes: length, limit: frame::BODY_BYTES_MAX });
            }
            bytes += length;
        }
        let (held, limit) = (self.shared.bytes.load(Ordering::Relaxed), self.shared.config.bytes_max);
        if held + bytes as u64 > limit {
            return Err(LogError::Unavailable(format!(
                "it holds {held} bytes of at most {limit} (log.bytes_max)"
            )));
        }
        let (done, answer) = oneshot::channel();
        let closed = || LogError::Unavailable("it is closed".to_owned());
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        let mut append = Append { topic, records, bytes, done };
        // A full queue is a passing thing: wait a little before telling the caller to come again.
        for _ in 0..100 {
            append = match queue.try_send(append) {
                Ok(()) => return answer.await.map_err(|_| closed())?,
                Err(TrySendError::Disconnected(_)) => return Err(closed()),
                Err(TrySendError::Full(append)) => append,
            };
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        Err(LogError::Unavailable(format!("{QUEUE_APPENDS_MAX} appends are waiting already")))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Closing the queue ends the thread after what is queued.
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The segment being written in a partition.
struct Open {
    segment: Arc<Segment>,
    file: File,
    bytes: u64,
    end: u64,
}

struct GroupCommit {
    shared: Arc<Shared>,
    open: BTreeMap<(Topic, u32), Open>,
    /// Why nothing can be written any more.
    closed: Option<String>,
}

impl GroupCommit {
    fn run(&mut self, appends: &Receiver<Append>) {
        while let Ok(first) = appends.recv() {
            let mut bytes = first.bytes;
            let mut group = vec![first];
            while bytes < GROUP_BYTES_MAX
                && let Ok(next) = appends.try_recv()
            {
                bytes += next.bytes;
                group.push(next);
            }
            self.commit(group);
        }
    }

    fn commit(&mut self, group: Vec<Append>) {
        let outcome = self.write(&group);
        if let Err(error) = &outcome {
            tracing::error!(%error, "event log append failed");
        }
        for append in group {
            let answer = match &outcome {
                Ok(()) => Ok(()),
                Err(error) => Err(same_error(error)),
            };
            // A caller that went away does not undo the append: it will send again and meet itself.
            let _ = append.done.send(answer);
        }
    }

    fn write(&mut self, group: &[Append]) -> Result<()> {
        if let Some(reason) = &self.closed {
            return Err(LogError::Unavailable(reason.clone()));
        }
        let shared = self.shared.clone();
        let partitions = shared.config.partitions;
        let mut by_partition: BTreeMap<(Topic, u32), Vec<&Record>> = BTreeMap::new();
        for append in group {
            for record in &append.records {
                by_partition
                    .entry((append.topic, record.key.partition(partitions)))
                    .or_default()
                    .push(record);
            }
        }
        // Nothing is published before everything is synced: an error takes all of the group back.
        let mut written: Vec<((Topic, u32), u64, u64)> = Vec::new();
        for (place, records) in by_partition {
            match self.write_partition(shared.partition(place.0, place.1), &records) {
                Ok((bytes, end)) => written.push((place, bytes, end)),
                Err(error) => {
                    self.take_back();
                    return Err(error);
                }
            }
        }
        for (place, _, _) in &written {
            let Some(open) = self.open.get(place) else {
                continue;
            };
            if let Err(source) = open.file.sync_data() {
                let error = io_error("sync", &open.segment.path, source);
                self.closed = Some(format!("closed after a failed sync, open it again: {error}"));
                return Err(error);
            }
        }
        for (place, bytes, end) in written {
            let Some(open) = self.open.get_mut(&place) else {
                continue;
            };
            shared.bytes.fetch_add(bytes - open.bytes, Ordering::Relaxed);
            (open.bytes, open.end) = (bytes, end);
            shared.partition(place.0, place.1).publish(&open.segment, bytes, end);
        }
        Ok(())
    }

    /// Writes behind what is durable, without syncing; returns the file's length and the end position to be.
    fn write_partition(&mut self, partition: &Partition, records: &[&Record]) -> Result<(u64, u64)> {
        let segment_bytes_max = self.shared.config.segment_bytes_max;
        let open = self.open_segment(partition, segment_bytes_max)?;
        let mut buffer =
            BytesMut::with_capacity(records.iter().map(|record| frame::encoded_len(record)).sum());
        let mut end = open.end;
        for record in records {
            frame::encode(&mut buffer, end, record);
            end += 1;
        }
        open.file
            .write_all_at(&buffer, open.bytes)
            .map_err(|source| io_error("write", &open.segment.path, source))?;
        Ok((open.bytes + buffer.len() as u64, end))
    }

    fn open_segment(&mut self, partition: &Partition, segment_bytes_max: u64) -> Result<&mut Open> {
        let place = (partition.topic, partition.index);
        let (last, end) = match self.open.remove(&place) {
            Some(open) if open.bytes < segment_bytes_max => {
                return Ok(self.open.entry(place).or_insert(open));
            }
            Some(open) => (None, open.end),
            None => (partition.last_segment(), partition.durable_end()),
        };
        let open = match last {
            Some(segment) if segment.durable_bytes.load(Ordering::Relaxed) < segment_bytes_max => {
                let file = File::options()
                    .write(true)
                    .open(&segment.path)
                    .map_err(|source| io_error("open", &segment.path, source))?;
                Open { bytes: segment.durable_bytes.load(Ordering::Relaxed), file, segment, end }
            }
            _ => {
                let (segment, file) = partition::create_segment(&partition.dir, end)?;
                partition.add_segment(segment.clone());
                self.shared.bytes.fetch_add(partition::SEGMENT_HEAD_BYTES, Ordering::Relaxed);
                Open { bytes: partition::SEGMENT_HEAD_BYTES, file, segment, end }
            }
        };
        Ok(self.open.entry(place).or_insert(open))
    }

    /// Cuts every open segment back to what is durable.
    fn take_back(&mut self) {
        for open in self.open.values() {
            if let Err(error) = open.file.set_len(open.bytes) {
                self.closed = Some(format!("closed: cannot take back an unfinished write: {error}"));
            }
        }
    }
}

/// The same failure, told to each of a group.
fn same_error(error: &LogError) -> LogError {
    match error {
        LogError::Io { what, source } => {
            let copy = match source.raw_os_error() {
                Some(code) => std::io::Error::from_raw_os_error(code),
                None => std::io::Error::new(source.kind(), source.to_string()),
            };
            LogError::Io { what: what.clone(), source: copy }
        }
        other => LogError::Unavailable(other.to_string()),
    }
}
