//! Where events wait, fsynced, for an event log that is away or slow.
//!
//! - [`Spool`]: the embedded log's format with one partition per topic, so that one sync makes a whole group of
//!   requests durable; limited in bytes;
//! - [`drain`]: from the spool to the log, oldest first, for as long as it takes;
//! - [`intake`]: what those who took events call: log or spool, whichever the settings and the state of the log
//!   say.
//!
//! # Guarantees
//! - What [`intake::Intake::take`] took is in the log or in the spool, durably.
//! - A record leaves the spool after the log has it. What was half drained in a crash is drained again, under the
//!   same identities and arrival times: it is recognised as duplicate, never counted twice.
//! - Order is kept per topic while the spool drains; the direct way is open again when what is left is one
//!   draining step.
//! - Bytes that the disk changed are skipped, counted and reported; what is behind them is drained.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use rentroll_engines::log::embedded::{EmbeddedConfig, EmbeddedLog};
use rentroll_engines::log::{EventLog as _, LogError, Record};
use rentroll_schemas::topics::Topic;
use serde::{Deserialize, Serialize};

pub mod drain;
pub mod intake;
pub mod metrics;

/// The reader's group in the spool.
const GROUP: &str = "drain";
/// Segments are a sixteenth of the limit, within these: space comes back a segment at a time.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = (64 << 10)..=(64 << 20);

/// `[collector.spool]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// Whether events wait in the spool while the log takes none; unset: with Kafka yes, with the embedded log,
    /// which is as durable and on the same disk, no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Most bytes in it; past them senders are told to come again.
    pub bytes_max: u64,
    /// How long the log may take to acknowledge before the spool takes over, in milliseconds.
    pub takeover_ms: u64,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        SpoolConfig { enabled: None, bytes_max: 4 << 30, takeover_ms: 3_000 }
    }
}

impl SpoolConfig {
    /// The rules that the shape alone cannot express; the error is (key, reason).
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), (String, String)> {
        if self.bytes_max < 1 << 20 {
            return Err(("bytes_max".into(), "must be at least 1048576 (1 MiB)".into()));
        }
        if !(50..=60_000).contains(&self.takeover_ms) {
            return Err(("takeover_ms".into(), "must be from 50 to 60000".into()));
        }
        Ok(())
    }
}

/// A queue on disk.
pub struct Spool {
    queue: EmbeddedLog,
    bytes_max: u64,
    /// Records that were lost to damage on disk.
    damaged: AtomicU64,
    /// Positions up to which each topic is drained: further than those kept on disk if the disk is full.
    drained: [AtomicU64; 3],
    /// Arrival of the oldest record waiting in each topic; 0 if none waits.
    oldest_ms: [AtomicI64; 3],
    /// The log took nothing when it was last tried.
    log_is_away: AtomicBool,
}

impl Spool {
    /// Opens the spool in `dir`, or makes it. Blocking.
    ///
    /// # Errors
    /// The folder's, or that another process has it.
    pub fn open(dir: PathBuf, bytes_max: u64) -> Result<Arc<Self>, LogError> {
        let segment_bytes_max = (bytes_max / 16).clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end());
        let queue = EmbeddedLog::open(EmbeddedConfig { dir, partitions: 1, bytes_max, segment_bytes_max })?;
        let damaged = AtomicU64::new(queue.damaged_frames());
        Ok(Arc::new(Spool {
            queue,
            bytes_max,
            damaged,
            drained: Default::default(),
            oldest_ms: Default::default(),
            log_is_away: AtomicBool::new(false),
        }))
    }

    /// Returns when `records` are durable.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] if it is full; the disk's.
    pub async fn append(&self, topic: Topic, records: Vec<Record>) -> Result<(), LogError> {
        self.queue.append(topic, records).await.map_err(|error| match error {
            // The queue is an embedded log, and names the setting of that.
            LogError::Unavailable(reason) => LogError::Unavailable(format!(
                "spool: {}",
                reason.replace("log.bytes_max", "collector.spool.bytes_max")
            )),
            other => other,
        })
    }

    /// Bytes on disk, those of drained records in segments not yet deleted among them.
    pub fn bytes(&self) -> u64 {
        self.queue.bytes()
    }

    /// Records that wait.
    ///
    /// # Errors
    /// The positions cannot be read.
    pub fn waiting(&self) -> Result<u64, LogError> {
        let mut waiting = 0;
        for (topic, drained) in Topic::ALL.into_iter().zip(&self.drained) {
            let drained = drained.load(Ordering::Acquire);
            let lag = self.queue.lag(GROUP, topic)?;
            waiting += lag.iter().map(|lag| lag.end.saturating_sub(lag.committed.max(drained))).sum::<u64>();
        }
        Ok(waiting)
    }

    /// When the oldest record that waits arrived, in milliseconds since the epoch.
    pub fn oldest_ms(&self) -> Option<i64> {
        self.oldest_ms.iter().map(|oldest| oldest.load(Ordering::Acquire)).filter(|oldest| *oldest > 0).min()
    }

    /// Records lost to damage on disk, since it was opened.
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Whether records go here instead of to the log, because the log took none.
    pub fn has_taken_over(&self) -> bool {
        self.log_is_away.load(Ordering::Acquire)
    }

    /// Whether the limit is (nearly) reached.
    pub fn is_full(&self) -> bool {
        self.queue.bytes() >= self.bytes_max - self.bytes_max / 16
    }
}
