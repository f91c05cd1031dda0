//! Batches as they are written down: planned, then done.
//!
//! A plan is claimed by the token of its insert, which is made of where it begins and nothing else: of two owners
//! that plan from the same position (one of them has lost the partition and does not know it yet), the store
//! takes one row. Both then read which plan is there and follow it: the same range, the same tokens, the same rows.

use std::ops::Range;

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
    /// Of the first record's key and arrival: a log that was made anew begins otherwise.
    pub begins: [u8; 16],
    /// Of all records' keys and arrivals.
    pub digest: [u8; 16],
    /// How many records there are; fewer than positions where the log has lost some.
    pub records: u64,
    /// Its inserts are known to be in.
    pub done: bool,
}

impl Plan {
    /// The plan for exactly these records; `None` for no records.
    pub fn of(topic: Topic, partition: u32, records: &[Positioned]) -> Option<Self> {
        let mut draft = Draft::new(topic, partition);
        records.iter().for_each(|record| draft.add(record));
        draft.finish()
    }

    /// The deduplication token of this batch's insert into `table`. It is made of the input and not of the rows:
    /// a repetition under changed meters must not be taken for new rows.
    pub fn token(&self, table: &str) -> String {
        let Plan { topic, partition, first, next, digest, .. } = self;
        format!("{table}:{topic}:{partition}:{first}:{next}:{}", hex::encode(digest))
    }

    /// Whether it is of the same records.
    pub fn is_same(&self, other: &Plan) -> bool {
        (self.topic, self.partition, self.first, self.next, self.digest)
            == (other.topic, other.partition, other.first, other.next, other.digest)
    }

    /// Writes it down as planned, unless another plan that begins with the same record is there, and returns the
    /// one that is.
    ///
    /// # Errors
    /// What the store says.
    pub async fn claim(&self, store: &Store) -> Result<Plan, StoreError> {
        let Plan { topic, partition, first, begins, .. } = self;
        let token = format!("plan:{topic}:{partition}:{first}:{}", hex::encode(begins));
        self.write(store, &token, None).await?;
        let mut plans = Plan::between(store, *topic, *partition, *first, first + 1).await?;
        plans.retain(|plan| plan.begins == *begins);
        // Beyond the window of tokens a second plan may be there; the one that was carried through counts.
        plans.sort_by_key(|plan| !plan.done);
        Ok(plans.into_iter().next().unwrap_or_else(|| self.clone()))
    }

    /// Writes it down as planned under a token of its own, whatever other plan is there: for records that are
    /// not what the plan that was claimed says they are.
    ///
    /// # Errors
    /// What the store says.
    pub async fn claim_anew(&self, store: &Store) -> Result<(), StoreError> {
        self.write(store, &self.token("plan"), None).await
    }

    /// Writes it down as done.
    ///
    /// # Errors
    /// What the store says.
    pub async fn finish(&self, store: &Store, tallies: &Tallies) -> Result<(), StoreError> {
        self.write(store, &self.token("done"), Some(tallies)).await
    }

    async fn write(&self, store: &Store, token: &str, done: Option<&Tallies>) -> Result<(), StoreError> {
        let mut rows = Rows::default();
        rows.text(self.topic.name().as_bytes())
            .u16(self.partition as u16)
            .u64(self.first)
            .u64(self.next)
            .fixed(&self.begins)
            .fixed(&self.digest)
            .u64(self.records)
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
        let conflicts: Vec<_> = tallies.iter().filter(|(_, tally)| tally.conflicts > 0).collect();
        rows.length(conflicts.len());
        for ((source, hour), tally) in conflicts {
            rows.text(source.as_bytes()).u32(*hour).u64(tally.conflicts);
        }
        rows.end_row();
        let columns = [
            "topic",
            "partition",
            "first",
            "next",
            "begins",
            "digest",
            "records",
            "state",
            "written_at",
            "tallies",
            "conflicts",
        ];
        store.insert("batches", &columns, "RowBinary", rows.into_bytes(), Some(token)).await
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
        Plan::between(store, topic, partition, position, u64::MAX).await
    }

    async fn between(
        store: &Store,
        topic: Topic,
        partition: u32,
        from: u64,
        to: u64,
    ) -> Result<Vec<Self>, StoreError> {
        let sql = "SELECT first, next, begins, digest, any(records), max(state) FROM batches \
                   WHERE topic = {topic:String} AND partition = {partition:UInt16} \
                   AND first >= {from:UInt64} AND first < {to:UInt64} \
                   GROUP BY first, next, begins, digest ORDER BY first, min(written_at)";
        let query = store
            .client()
            .query(sql)
            .param("topic", topic.name())
            .param("partition", partition)
            .param("from", from)
            .param("to", to);
        let bytes = query
            .fetch_bytes("RowBinary")
            .map_err(|error| store.error(error))?
            .collect()
            .await
            .map_err(|error| store.error(error))?;
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let half = |bytes: &[u8]| {
            let mut half = [0; 16];
            half.copy_from_slice(bytes);
            half
        };
        let rows = bytes.as_chunks::<57>().0.iter().map(|row| Plan {
            topic,
            partition,
            first: word(&row[..8]),
            next: word(&row[8..16]),
            begins: half(&row[16..32]),
            digest: half(&row[32..48]),
            records: word(&row[48..56]),
            done: row[56] == 1,
        });
        Ok(rows.collect())
    }

    /// Whether events of this batch, which arrived between those two moments, are in the store. They are one insert,
    /// so some are all.
    ///
    /// # Errors
    /// What the store says.
    pub async fn is_stored(&self, store: &Store, from_ms: i64, to_ms: i64) -> Result<bool, StoreError> {
        let sql = "SELECT count() > 0 FROM events \
                   WHERE arrived_at >= fromUnixTimestamp64Milli({from:Int64}) \
                   AND arrived_at <= fromUnixTimestamp64Milli({to:Int64}) \
                   AND log_topic = {topic:String} AND log_partition = {partition:UInt16} \
                   AND log_batch = {first:UInt64}";
        let query = store
            .client()
            .query(sql)
            .param("from", from_ms)
            .param("to", to_ms)
            .param("topic", self.topic.name())
            .param("partition", self.partition)
            .param("first", self.first);
        query.fetch_one().await.map_err(|error| store.error(error))
    }

    /// How many batches were planned since this one was, here and in other partitions: each insert of theirs has
    /// pushed one of this plan's tokens further out of the store's memory.
    ///
    /// # Errors
    /// What the store says.
    pub async fn batches_since(&self, store: &Store) -> Result<u64, StoreError> {
        let sql = "SELECT count() FROM batches WHERE written_at >= \
                   (SELECT min(written_at) FROM batches WHERE topic = {topic:String} \
                    AND partition = {partition:UInt16} AND first = {first:UInt64})";
        let query = store
            .client()
            .query(sql)
            .param("topic", self.topic.name())
            .param("partition", self.partition)
            .param("first", self.first);
        query.fetch_one().await.map_err(|error| store.error(error))
    }
}

/// A plan that grows with the records that come.
#[derive(Debug)]
pub struct Draft {
    topic: Topic,
    partition: u32,
    range: Option<Range<u64>>,
    records: u64,
    begins: [u8; 16],
    digest: blake3::Hasher,
    /// Not in `digest` yet: small updates cost several times as much by the byte.
    buffer: Vec<u8>,
}

/// How much of the input waits for the digest.
const BUFFER_BYTES: usize = 24 << 10;

impl Draft {
    /// Of no records yet.
    pub fn new(topic: Topic, partition: u32) -> Self {
        let digest = blake3::Hasher::new();
        Draft { topic, partition, range: None, records: 0, begins: [0; 16], digest, buffer: Vec::new() }
    }

    /// Takes the next record in.
    pub fn add(&mut self, Positioned { position, record }: &Positioned) {
        let from = self.buffer.len();
        self.buffer.extend_from_slice(&record.key.0);
        self.buffer.extend_from_slice(&record.arrived_at_ms.to_le_bytes());
        match &mut self.range {
            Some(range) => range.end = position + 1,
            None => {
                self.range = Some(*position..position + 1);
                self.begins = shortened(&blake3::hash(&self.buffer[from..]));
            }
        }
        self.records += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.digest.update(&self.buffer);
            self.buffer.clear();
        }
    }

    /// The position after the last record.
    pub fn next(&self) -> Option<u64> {
        self.range.as_ref().map(|range| range.end)
    }

    /// The plan for the records taken in; `None` if there were none.
    pub fn finish(mut self) -> Option<Plan> {
        self.digest.update(&self.buffer);
        let range = self.range?;
        Some(Plan {
            topic: self.topic,
            partition: self.partition,
            first: range.start,
            next: range.end,
            begins: self.begins,
            digest: shortened(&self.digest.finalize()),
            records: self.records,
            done: false,
        })
    }
}

fn shortened(hash: &blake3::Hash) -> [u8; 16] {
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.as_bytes()[..16]);
    digest
}
