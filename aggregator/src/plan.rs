//! Batches as they are written down: planned, then done.

use chrono::Utc;
use rentroll_engines::log::Positioned;
use rentroll_engines::store::{Store, StoreError};
use rentroll_schemas::topics::Topic;

use crate::batch::Tallies;
use crate::rows::Rows;

/// A batch: an exact range of one partition, and a digest of the records in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Topic.
    pub topic: Topic,
    /// Partition.
    pub partition: u32,
    /// Position of the first record.
    pub first: u64,
    /// Position after the last record.
    pub next: u64,
    /// Of the records' keys and arrivals.
    pub digest: [u8; 16],
    /// Its inserts are known to be in.
    pub done: bool,
}

impl Plan {
    /// The plan for exactly these records; `None` for no records.
    pub fn of(topic: Topic, partition: u32, records: &[Positioned]) -> Option<Self> {
        let (first, last) = (records.first()?.position, records.last()?.position);
        Some(Plan { topic, partition, first, next: last + 1, digest: digest(records), done: false })
    }

    /// The deduplication token of this batch's insert into `table`. It is made of the input and not of the rows:
    /// a repetition under changed meters must not be taken for new rows.
    pub fn token(&self, table: &str) -> String {
        let Plan { topic, partition, first, next, digest, .. } = self;
        format!("{table}:{topic}:{partition}:{first}:{next}:{}", hex::encode(digest))
    }

    /// Writes it down, as planned or, with its tallies, as done.
    ///
    /// # Errors
    /// What the store says.
    pub async fn write(&self, store: &Store, done: Option<&Tallies>) -> Result<(), StoreError> {
        let mut rows = Rows::default();
        rows.text(self.topic.name().as_bytes())
            .u16(self.partition as u16)
            .u64(self.first)
            .u64(self.next)
            .fixed(&self.digest)
            .u8(u8::from(done.is_some()))
            .i64(Utc::now().timestamp_millis());
        let empty = Tallies::default();
        let tallies = done.unwrap_or(&empty);
        rows.length(tallies.len());
        for ((source, hour), tally) in tallies {
            rows.text(source.as_bytes())
                .u32(*hour)
                .u64(tally.accepted)
                .u64(tally.stored)
                .u64(tally.duplicate)
                .u64(tally.rejected);
        }
        rows.end_row();
        let columns = ["topic", "partition", "first", "next", "digest", "state", "written_at", "tallies"];
        let table = if done.is_some() { "batches done" } else { "batches planned" };
        store.insert("batches", &columns, "RowBinary", rows.into_bytes(), Some(&self.token(table))).await
    }

    /// The plans of a partition at or after `position`, in order: what a former owner may have left unfinished.
    ///
    /// # Errors
    /// What the store says.
    pub async fn after(
        store: &Store,
        topic: Topic,
        partition: u32,
        position: u64,
    ) -> Result<Vec<Self>, StoreError> {
        let sql = "SELECT first, next, digest, max(state) FROM batches \
                   WHERE topic = {topic:String} AND partition = {partition:UInt16} AND first >= {position:UInt64} \
                   GROUP BY first, next, digest ORDER BY first, max(written_at)";
        let query = store
            .client()
            .query(sql)
            .param("topic", topic.name())
            .param("partition", partition)
            .param("position", position);
        let bytes = query
            .fetch_bytes("RowBinary")
            .map_err(|error| store.error(error))?
            .collect()
            .await
            .map_err(|error| store.error(error))?;
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let rows = bytes.as_chunks::<33>().0.iter().map(|row| {
            let mut digest = [0; 16];
            digest.copy_from_slice(&row[16..32]);
            Plan {
                topic,
                partition,
                first: word(&row[..8]),
                next: word(&row[8..16]),
                digest,
                done: row[32] == 1,
            }
        });
        Ok(rows.collect())
    }
}

/// Of keys and arrivals: a log that was made anew does not repeat them.
pub fn digest(records: &[Positioned]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for positioned in records {
        hasher.update(&positioned.record.key.0);
        hasher.update(&positioned.record.arrived_at_ms.to_le_bytes());
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}
