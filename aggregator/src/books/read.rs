//! The queries behind the books: what was tallied, and what is found, per source and hour.

use chrono::{DateTime, Months, TimeDelta, Utc};
use clickhouse::Row;
use rentroll_engines::store::{Store, StoreError};
use rentroll_schemas::retention::EVENTS_KEPT_MONTHS;
use serde::Deserialize;

use super::hours::{ByHour, Found, Readings, Tally};
use super::{Arrivals, Books, Selection, positions};

/// Rows that are counted distinct at once, at some 50 bytes each in the store: half of it doubles the passes over a
/// large table, twice as much no longer fits the embedded engine's default memory beside its other work.
const SLICE_ROWS: u64 = 10_000_000;
/// Times that the tables are counted again while batches come in between; the last count is held against the books
/// before and after it.
const COUNTS_MAX: usize = 3;

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
    let mut books = Books {
        hours: readings.hours(),
        chains: positions::chains(store).await?,
        unfinished: positions::unfinished(store).await?,
    };
    books.mark_elsewhere(reader.arrivals().await?);
    Ok(books)
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
        let seconds = |time: &DateTime<Utc>| time.timestamp().clamp(0, i64::from(u32::MAX));
        let from = from.as_ref().map_or(0, seconds);
        let to = to.as_ref().map_or(i64::from(u32::MAX), seconds);
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

    /// When what was selected can have arrived.
    async fn arrivals(&self) -> Result<Arrivals, StoreError> {
        let Selection { from, to, source } = self.selection;
        let first_seen = match source {
            None => None,
            Some(_) => {
                let sql = "SELECT toUnixTimestamp(min(tally.hour)) FROM batches FINAL ARRAY JOIN tallies AS tally \
                           WHERE state = 1 AND tally.source = {source:String}";
                let first: u32 = self.bind(sql).fetch_one().await.map_err(|error| self.failed(error))?;
                Arrivals::of_hours(first, 0).from
            }
        };
        // Of a source that was never seen anything may have been lost.
        Ok(Arrivals { from: (*from).max(first_seen), before: *to })
    }
}
