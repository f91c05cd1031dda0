//! The event log: append, read from (partition, position), commit.
//!
//! Two implementations, one behaviour, one test suite over both (`tests/log.rs`):
//! [`embedded::EmbeddedLog`] keeps segments on disk for one process; [`kafka::KafkaLog`] speaks to a cluster.
//!
//! What both promise:
//! - [`EventLog::append`] returns when the records survive kill -9 and power loss, and not before;
//! - a record's partition follows its identity, so a resend always meets its original;
//! - within a partition, positions only grow and records are read in the order of their positions;
//! - a position is committed by the reader alone, and is only a hint of where to resume: the aggregator's
//!   truth is in the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
pub use headers::Headers;
use rentroll_schemas::Identity;
use rentroll_schemas::topics::Topic;

pub mod embedded;
mod headers;
pub mod kafka;
pub mod late;

/// One record, as appended and as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The identity of what it carries: the Kafka key, and what the partition follows.
    pub key: Identity,
    /// Their names are in [`rentroll_schemas::topics::headers`].
    pub headers: Headers,
    /// The event or reject.
    pub value: Bytes,
    /// Arrival, milliseconds since the epoch. Never the event's own time: retention looks at this one.
    pub arrived_at_ms: i64,
}

impl Record {
    /// The value of that header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}

/// A record and where it stands in its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positioned {
    /// Its position. Positions need not be contiguous (Kafka skips some).
    pub position: u64,
    /// The record.
    pub record: Record,
}

/// What can go wrong with an event log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log cannot take more now; the caller keeps the records and tries again.
    #[error("event log is full or away: {0}")]
    Unavailable(String),
    /// This reader's partition belongs to another member now; stop without committing.
    #[error("partition {partition} of {topic} was revoked")]
    Revoked {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: u32,
    },
    /// A record that this log cannot hold.
    #[error("record of {bytes} bytes is larger than the log's limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Another process holds the log.
    #[error(
        "event log in {path} is in use by process {owner}: on one machine one `rentroll up` runs all parts; several processes need Kafka"
    )]
    InUse {
        /// The log's folder.
        path: String,
        /// The process, if it could be found out.
        owner: String,
    },
    /// The topics are missing, or do not have the stated partitions.
    #[error("{0}")]
    Topics(String),
    /// A setting cannot be used.
    #[error("event log: {key}: {reason}")]
    Setting {
        /// The key at fault.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes on disk are not what was written.
    #[error("corrupt log: {path} at byte {offset}: {reason}")]
    Corrupt {
        /// The segment.
        path: String,
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The file system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the path.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Kafka said no.
    #[error("{what}: {source}")]
    Kafka {
        /// What was tried.
        what: String,
        /// What the client library said.
        source: rdkafka::error::KafkaError,
    },
}

impl LogError {
    /// Whether somebody has to change something before the log can be used; what else goes wrong passes.
    pub fn needs_mending(&self) -> bool {
        matches!(self, LogError::Topics(_) | LogError::Setting { .. } | LogError::InUse { .. })
    }
}

/// The result of a log operation.
pub type Result<T> = std::result::Result<T, LogError>;

/// A future that is boxed because the two logs are chosen at run time.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An event log.
pub trait EventLog: Send + Sync {
    /// How many partitions each topic has.
    fn partitions(&self) -> u32;

    /// Appends all of `records` to `topic`; when it returns `Ok` they are durable. After an error some of
    /// them may be: append them again, dedup is by identity.
    fn append(&self, topic: Topic, records: Vec<Record>) -> BoxFuture<'_, Result<()>>;

    /// Joins `group` as a reader of `topics`.
    fn subscribe(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Subscription>>;

    /// For each partition of `topic`: (position committed by `group`, position after the last record).
    /// Blocking.
    fn lag(&self, group: &str, topic: Topic) -> Result<Vec<Lag>>;

    /// For each of `places` (partition, position): when the first record at or after it arrived, in milliseconds
    /// since the epoch. `None` where there is no such record, or where the log did not tell within a second or
    /// two: ask again. `group` is whose name to ask under, where the log wants one. Blocking; costs a small read
    /// per place, so it is for a look every few seconds.
    fn arrivals(&self, group: &str, topic: Topic, places: &[(u32, u64)]) -> Result<Vec<Option<i64>>>;
}

/// How far a group is in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The partition.
    pub partition: u32,
    /// Where the group would resume.
    pub committed: u64,
    /// After the last record.
    pub end: u64,
}

/// A membership in a group of readers. Dropping it leaves the group.
pub trait Subscription: Send {
    /// Waits up to `wait` for partitions that this member now reads. Blocking. A lost partition is told to its
    /// reader, which then returns [`LogError::Revoked`].
    fn gained(&mut self, wait: Duration) -> Result<Vec<Box<dyn PartitionReader>>>;
}

/// Reads one partition. Blocking: each reader has a thread of its own.
///
/// A new reader has no position that both logs agree on: [`seek`](PartitionReader::seek) comes before the first
/// [`read`](PartitionReader::read).
pub trait PartitionReader: Send {
    /// The topic.
    fn topic(&self) -> Topic;
    /// The partition.
    fn partition(&self) -> u32;
    /// The position that the group committed last; the first one kept if none was.
    fn committed(&mut self) -> Result<u64>;
    /// The next read begins at the first record whose position is at least `position`.
    fn seek(&mut self, position: u64) -> Result<()>;
    /// The next records, at most `records_max` of them; empty if none came within `wait`.
    fn read(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Positioned>>;
    /// Everything before `position` is done; a log with limited space may drop it.
    fn commit(&mut self, position: u64) -> Result<()>;
}

/// The log that a configuration names.
pub type SharedLog = Arc<dyn EventLog>;
