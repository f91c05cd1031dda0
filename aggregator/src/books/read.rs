//! The queries behind the books.

use chrono::{DateTime, Months, TimeDelta, Utc};
use clickhouse::Row;
use rentroll_engines::store::{Store, StoreError};
use rentroll_schemas::retention::EVENTS_KEPT_MONTHS;
use serde::Deserialize;

use super::chain::{Chain, Linker, Run, Short};
use super::hours::{ByHour, Found, Readings, Tally};
use super::{Books, Selection, Unfinished};

/// Rows that are counted distinct at once, at some 50 bytes each in the store: half of it doubles the passes over a
/// large table, twice as much no longer fits the embedded engine's default memory beside its other work.
const SLICE_ROWS: u64 = 10_000_000;
/// Times that the tables are counted again while batches come in between; the last count is held against the books
/// before and after it.
const COUNTS_MAX: usize = 3;
/// A batch that was planned this long before others were done will not be finished any more. Batches overlap by
/// seconds.
const PASSED_OVER: TimeDelta = TimeDelta::minutes(10);

/// Reads the books and counts the tables.
///
/// # Errors
/// The store's.
pub async fn read(store: &Store, selection: &Selection) -> Result<Books, StoreError> {
    let reader = Reader { store, selection };
    let mut readings = reader.readings().await?;
    for _ in 1..COUNTS_MAX {
        if readings.before == readings.after && readings.unfinished_before == readings.unfinished_after {
            break;
        }
        readings = reader.readings().await?;
    }
    Ok(Books {
        hours: readings.hours(),
        chains: reader.chains().await?,
        unfinished: reader.unfinished().await?,
    })
}

struct Reader<'a> {
    store: &'a Store,
    selection: &'a Selection,
}

#[derive(Row, Deserialize)]
struct TallyRow {
    source: String,
    #[serde(with = "clickhouse::serde::chrono::datetime")]
    hour: DateTime<Utc>,
    accepted: u64,
    stored: u64,
    duplicate: u64,
    conflict: u64,
    rejected: u64,
}

#[derive(Row, Deserialize)]
struct FoundRow {
    source: String,
    #[serde(with = "clickhouse::serde::chrono::datetime")]
    hour: DateTime<Utc>,
    found: u64,
}

#[derive(Row, Deserialize)]
struct LinkRow {
    topic: String,
    partition: u16,
    first: u64,
    next: u64,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    done_at: DateTime<Utc>,
    known_before: bool,
    starts: bool,
    ends: bool,
}

#[derive(Row, Deserialize)]
struct ShortRow {
    topic: String,
    partition: u16,
    first: u64,
    next: u64,
    records_read: u64,
}

#[derive(Row, Deserialize)]
struct UnfinishedRow {
    topic: String,
    partition: u16,
    first: u64,
    next: u64,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    planned_at: DateTime<Utc>,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    newest_done_at: DateTime<Utc>,
}

/// Keys of the batches that are planned and not done: the newest row of their first position says so. A plan that
/// was given up for another one of the same beginning is none of them.
pub(crate) const UNFINISHED: &str = "SELECT topic, partition, first FROM batches \
    WHERE (topic, partition, first) IN (SELECT topic, partition, first FROM batches FINAL WHERE state = 0) \
    GROUP BY topic, partition, first HAVING argMax(state, (written_at, state)) = 0";

/// Hours of the selection. Parameters: `from`, `to`, `source`.
const SELECTED: &str = "hour >= toDateTime({from:Int64}, 'UTC') AND hour < toDateTime({to:Int64}, 'UTC') \
    AND ({source:String} = '' OR source = {source:String})";

impl Reader<'_> {
    fn bind(&self, sql: &str) -> clickhouse::query::Query {
        let Selection { from, to, source } = self.selection;
        // The ends of what a DateTime holds.
        let from = from.map_or(0, |from| from.timestamp().max(0));
        let to = to.map_or(i64::from(u32::MAX), |to| to.timestamp());
        self.store
            .client()
            .query(sql)
            .param("from", from)
            .param("to", to)
            .param("source", source.as_deref().unwrap_or_default())
    }

    fn failed(&self, error: clickhouse::error::Error) -> StoreError {
        self.store.error(error)
    }

    async fn readings(&self) -> Result<Readings, StoreError> {
        let before = self.tallies().await?;
        let unfinished_before = self.found(true).await?;
        let found = self.found(false).await?;
        let unfinished_after = self.found(true).await?;
        let after = self.tallies().await?;
        let kept_since = self.kept_since().await?;
        Ok(Readings { before, unfinished_before, found, unfinished_after, after, kept_since })
    }

    async fn tallies(&self) -> Result<ByHour<Tally>, StoreError> {
        let sql = format!(
            "SELECT source, hour, sum(accepted) AS accepted, sum(stored) AS stored, sum(duplicate) AS duplicate, \
               sum(conflict) AS conflict, sum(rejected) AS rejected \
             FROM (SELECT tally.source AS source, tally.hour AS hour, tally.accepted AS accepted, \
               tally.stored AS stored, tally.duplicate AS duplicate, toUInt64(0) AS conflict, \
               tally.rejected AS rejected \
               FROM batches FINAL ARRAY JOIN tallies AS tally WHERE state = 1 \
               UNION ALL \
               SELECT some.source AS source, some.hour AS hour, toUInt64(0), toUInt64(0), toUInt64(0), \
               some.conflicts AS conflict, toUInt64(0) \
               FROM batches FINAL ARRAY JOIN conflicts AS some WHERE state = 1) \
             WHERE {SELECTED} GROUP BY source, hour"
        );
        let rows: Vec<TallyRow> = self.bind(&sql).fetch_all().await.map_err(|error| self.failed(error))?;
        let tally = |row: TallyRow| {
            let TallyRow { source, hour, accepted, stored, duplicate, conflict, rejected } = row;
            ((source, hour), Tally { accepted, stored, duplicate, conflict, rejected })
        };
        Ok(rows.into_iter().map(tally).collect())
    }

    /// What the tables hold: of all batches, or of those that are planned and not done.
    async fn found(&self, unfinished: bool) -> Result<ByHour<Found>, StoreError> {
        let mut all: ByHour<Found> = ByHour::new();
        for row in self.distinct("events", "identity_high, identity_low", "arrived_at", unfinished).await? {
            all.entry((row.source, row.hour)).or_default().events += row.found;
        }
        let high_low = "reinterpretAsUInt64(substring(identity, 1, 8)) AS identity_high, \
                        reinterpretAsUInt64(substring(identity, 9, 8)) AS identity_low";
        for row in self.distinct("rejects", high_low, "rejected_at", unfinished).await? {
            all.entry((row.source, row.hour)).or_default().rejects += row.found;
        }
        Ok(all)
    }

    async fn distinct(
        &self,
        table: &str,
        identity: &str,
        arrival: &str,
        unfinished: bool,
    ) -> Result<Vec<FoundRow>, StoreError> {
        let of_batches = match unfinished {
            true => format!("(toString(log_topic), log_partition, log_batch) IN ({UNFINISHED})"),
            false => "1".to_owned(),
        };
        let rows = format!(
            "SELECT source, toStartOfHour(toDateTime({arrival}, 'UTC')) AS hour, {identity} FROM {table} \
             WHERE {of_batches} AND {arrival} >= toDateTime({{from:Int64}}, 'UTC') \
             AND {arrival} < toDateTime({{to:Int64}}, 'UTC') \
             AND ({{source:String}} = '' OR source = {{source:String}})"
        );
        let count = format!("SELECT count() FROM ({rows})");
        let count: u64 = self.bind(&count).fetch_one().await.map_err(|error| self.failed(error))?;
        let slices = count.div_ceil(SLICE_ROWS).max(1);
        // Identities are hashes, so slices are even, and all copies of one are in one slice.
        let sql = format!(
            "SELECT toString(source) AS source, hour, uniqExact(identity_high, identity_low) AS found FROM ({rows}) \
             WHERE identity_high % {{slices:UInt64}} = {{slice:UInt64}} \
             GROUP BY source, hour"
        );
        let mut found = Vec::new();
        for slice in 0..slices {
            let query = self.bind(&sql).param("slices", slices).param("slice", slice);
            found.extend(query.fetch_all::<FoundRow>().await.map_err(|error| self.failed(error))?);
        }
        Ok(found)
    }

    /// Since when no event can be past its retention: `None` if none ever was.
    async fn kept_since(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        let first: DateTime<Utc> = {
            let sql = "SELECT toUnixTimestamp64Milli(min(written_at)) FROM batches";
            let first: i64 =
                self.store.client().query(sql).fetch_one().await.map_err(|error| self.failed(error))?;
            DateTime::from_timestamp_millis(first).unwrap_or_default()
        };
        // A day of margin: the store deletes when it merges, and months are not equally long.
        let since = Utc::now() - Months::new(EVENTS_KEPT_MONTHS) + TimeDelta::days(1);
        Ok((first < since).then_some(since))
    }

    async fn chains(&self) -> Result<Vec<Chain>, StoreError> {
        // Only the ends of runs leave the store.
        let sql = "SELECT toString(topic) AS topic, partition, first, next, written_at AS done_at, known_before, \
                     first != former AS starts, next != following AS ends \
                   FROM (SELECT topic, partition, first, next, written_at, \
                       arraySum(tallies.stored) + arraySum(tallies.rejected) = 0 AS known_before, \
                       lagInFrame(next, 1, toUInt64(18446744073709551615)) OVER log AS former, \
                       leadInFrame(first, 1, toUInt64(18446744073709551615)) OVER log AS following \
                     FROM batches FINAL WHERE state = 1 \
                     WINDOW log AS (PARTITION BY topic, partition ORDER BY written_at, first \
                       ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)) \
                   WHERE starts OR ends ORDER BY topic, partition, written_at, first";
        let mut cursor = self.store.client().query(sql).fetch::<LinkRow>().map_err(|error| self.failed(error))?;
        let mut short = self.short().await?;
        let mut chains = Vec::new();
        let mut current: Option<(String, u16, Linker)> = None;
        let mut begun: Option<Run> = None;
        let mut finish = |(topic, partition, linker): (String, u16, Linker)| {
            let (own, others): (Vec<_>, Vec<_>) = std::mem::take(&mut short)
                .into_iter()
                .partition(|row: &ShortRow| row.topic == topic && row.partition == partition);
            short = others;
            let own = own.into_iter().map(|ShortRow { first, next, records_read: records, .. }| Short {
                first,
                next,
                records,
            });
            let mut chain = linker.finish(topic, partition, own.collect());
            // What arrived since `from` was done since `from`.
            chain.gaps.retain(|gap| self.selection.from.is_none_or(|from| gap.seen_at >= from));
            chains.push(chain);
        };
        while let Some(row) = cursor.next().await.map_err(|error| self.failed(error))? {
            let is_next = current
                .as_ref()
                .is_none_or(|(topic, partition, _)| (topic, *partition) != (&row.topic, row.partition));
            if is_next {
                if let Some(done) = current.take() {
                    finish(done);
                }
                current = Some((row.topic.clone(), row.partition, Linker::default()));
            }
            let run = begun.take().filter(|_| !row.starts).unwrap_or(Run {
                first: row.first,
                next: row.next,
                done_at: row.done_at,
                known_before: row.known_before,
            });
            match (row.ends, &mut current) {
                (true, Some((_, _, linker))) => linker.add(&Run { next: row.next, ..run }),
                _ => begun = Some(run),
            }
        }
        if let Some(done) = current.take() {
            finish(done);
        }
        Ok(chains)
    }

    async fn short(&self) -> Result<Vec<ShortRow>, StoreError> {
        let sql = format!(
            "SELECT toString(topic) AS topic, partition, first, next, {RECORDS} AS records_read FROM batches FINAL \
             WHERE state = 1 AND written_at >= toDateTime({{from:Int64}}, 'UTC') AND records_read != next - first \
             ORDER BY topic, partition, written_at"
        );
        self.bind(&sql).fetch_all().await.map_err(|error| self.failed(error))
    }

    async fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        let sql = format!(
            "SELECT toString(topic) AS topic, partition, first, argMax(next, (written_at, state)) AS next, \
               max(written_at) AS planned_at, any(newest) AS newest_done_at \
             FROM batches LEFT JOIN (SELECT topic, partition, max(written_at) AS newest FROM batches \
               WHERE state = 1 GROUP BY topic, partition) AS done USING (topic, partition) \
             WHERE (topic, partition, first) IN ({UNFINISHED}) \
             GROUP BY topic, partition, first ORDER BY topic, partition, first"
        );
        let rows: Vec<UnfinishedRow> =
            self.store.client().query(&sql).fetch_all().await.map_err(|error| self.failed(error))?;
        let unfinished = |row: UnfinishedRow| {
            let UnfinishedRow { topic, partition, first, next, planned_at, newest_done_at } = row;
            let passed_over = newest_done_at > planned_at + PASSED_OVER;
            Unfinished { topic, partition, first, next, planned_at, passed_over }
        };
        Ok(rows.into_iter().map(unfinished).collect())
    }
}

/// Log records of a batch. Batches of before they were counted had one event each.
const RECORDS: &str = "if(records = 0, arraySum(tallies.accepted), records)";
