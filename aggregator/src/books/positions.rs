//! The queries behind the books: the chain of each log partition, and batches that were not finished.

use chrono::{DateTime, TimeDelta, Utc};
use clickhouse::Row;
use rentroll_engines::store::{Store, StoreError};
use serde::Deserialize;

use super::chain::{Chain, Linker, Run, Short};
use super::read::UNFINISHED;
use super::{Arrivals, Unfinished};

/// A batch that was planned this long before others were done will not be finished any more. Batches overlap by
/// seconds.
const PASSED_OVER: TimeDelta = TimeDelta::minutes(10);

/// Log records of a batch. Batches of before they were counted had one event each.
const RECORDS: &str = "if(records = 0, arraySum(tallies.accepted), records)";

/// First and last hour in which a batch's events arrived; 0 for none.
const HOURS: &str = "toUnixTimestamp(arrayMin(tallies.hour)) AS first_hour, \
    toUnixTimestamp(arrayMax(tallies.hour)) AS last_hour";

#[derive(Row, Deserialize)]
struct LinkRow {
    topic: String,
    partition: u16,
    first: u64,
    next: u64,
    #[serde(with = "clickhouse::serde::chrono::datetime64::millis")]
    done_at: DateTime<Utc>,
    known_before: bool,
    first_hour: u32,
    last_hour: u32,
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
    first_hour: u32,
    last_hour: u32,
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

#[derive(Row, Deserialize)]
struct HoursRow {
    first_hour: u32,
    last_hour: u32,
}

/// The chains of all partitions, whole: see [`super::chain`].
pub(super) async fn chains(store: &Store) -> Result<Vec<Chain>, StoreError> {
    // Only the ends of runs leave the store.
    let sql = format!(
        "SELECT toString(topic) AS topic, partition, first, next, written_at AS done_at, known_before, \
           first_hour, last_hour, first != former AS starts, next != following AS ends \
         FROM (SELECT topic, partition, first, next, written_at, {HOURS}, \
             arraySum(tallies.stored) + arraySum(tallies.rejected) = 0 AS known_before, \
             lagInFrame(next, 1, toUInt64(18446744073709551615)) OVER log AS former, \
             leadInFrame(first, 1, toUInt64(18446744073709551615)) OVER log AS following \
           FROM batches FINAL WHERE state = 1 \
           WINDOW log AS (PARTITION BY topic, partition ORDER BY written_at, first \
             ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)) \
         WHERE starts OR ends ORDER BY topic, partition, written_at, first"
    );
    let mut cursor = store.client().query(&sql).fetch::<LinkRow>().map_err(|error| store.error(error))?;
    let mut short = short(store).await?;
    let mut chains = Vec::new();
    let mut current: Option<(String, u16, Linker)> = None;
    let mut begun: Option<Run> = None;
    let mut finish = |(topic, partition, linker): (String, u16, Linker)| {
        let is_own = |row: &mut ShortRow| row.topic == topic && row.partition == partition;
        let own: Vec<Short> = short.extract_if(.., is_own).map(Short::from).collect();
        chains.push(linker.finish(topic, partition, own));
    };
    while let Some(row) = cursor.next().await.map_err(|error| store.error(error))? {
        let is_next = current
            .as_ref()
            .is_none_or(|(topic, partition, _)| (topic, *partition) != (&row.topic, row.partition));
        if is_next {
            if let Some(done) = current.take() {
                finish(done);
            }
            current = Some((row.topic.clone(), row.partition, Linker::default()));
        }
        let arrived = Arrivals::of_hours(row.first_hour, row.last_hour);
        let run = begun.take().filter(|_| !row.starts).unwrap_or(Run {
            first: row.first,
            next: row.next,
            done_at: row.done_at,
            known_before: row.known_before,
            opens: arrived,
            closes: arrived,
        });
        match (row.ends, &mut current) {
            (true, Some((_, _, linker))) => linker.add(&Run { next: row.next, closes: arrived, ..run }),
            _ => begun = Some(run),
        }
    }
    if let Some(done) = current.take() {
        finish(done);
    }
    Ok(chains)
}

async fn short(store: &Store) -> Result<Vec<ShortRow>, StoreError> {
    let sql = format!(
        "SELECT toString(topic) AS topic, partition, first, next, {RECORDS} AS records_read, {HOURS} \
         FROM batches FINAL WHERE state = 1 AND records_read != next - first \
         ORDER BY topic, partition, written_at"
    );
    store.client().query(&sql).fetch_all().await.map_err(|error| store.error(error))
}

impl From<ShortRow> for Short {
    fn from(row: ShortRow) -> Self {
        let ShortRow { first, next, records_read: records, first_hour, last_hour, .. } = row;
        let arrived = Arrivals::of_hours(first_hour, last_hour);
        Short { first, next, records, arrived, elsewhere: false }
    }
}

/// Batches that were planned and not done.
pub(super) async fn unfinished(store: &Store) -> Result<Vec<Unfinished>, StoreError> {
    let sql = format!(
        "SELECT toString(topic) AS topic, partition, first, argMax(next, (written_at, state)) AS next, \
           max(written_at) AS planned_at, any(newest) AS newest_done_at \
         FROM batches LEFT JOIN (SELECT topic, partition, max(written_at) AS newest FROM batches \
           WHERE state = 1 GROUP BY topic, partition) AS done USING (topic, partition) \
         WHERE (topic, partition, first) IN ({UNFINISHED}) \
         GROUP BY topic, partition, first ORDER BY topic, partition, first"
    );
    let rows: Vec<UnfinishedRow> =
        store.client().query(&sql).fetch_all().await.map_err(|error| store.error(error))?;
    let mut unfinished = Vec::with_capacity(rows.len());
    for row in rows {
        let arrived = arrived_around(store, &row).await?;
        let UnfinishedRow { topic, partition, first, next, planned_at, newest_done_at } = row;
        let passed_over = newest_done_at > planned_at + PASSED_OVER;
        let elsewhere = false;
        unfinished.push(Unfinished {
            topic,
            partition,
            first,
            next,
            planned_at,
            passed_over,
            arrived,
            elsewhere,
        });
    }
    Ok(unfinished)
}

/// When the records of a batch that has no tallies yet may have arrived: between those before and behind it, or in the
/// hour in which it was planned. Where two logs had the same positions, the batch that was done nearer to it counts.
async fn arrived_around(store: &Store, row: &UnfinishedRow) -> Result<Arrivals, StoreError> {
    let planned_hour = u32::try_from(row.planned_at.timestamp() / 3_600 * 3_600).unwrap_or_default();
    let planned = Arrivals::of_hours(planned_hour, planned_hour);
    let beside = async |which: &str, order: &str| {
        let sql = format!(
            "SELECT {HOURS} FROM batches FINAL \
             WHERE state = 1 AND topic = {{topic:String}} AND partition = {{partition:UInt16}} AND {which} \
             ORDER BY {order}, abs(toUnixTimestamp64Milli(written_at) - {{planned_at:Int64}}) LIMIT 1"
        );
        let query = store
            .client()
            .query(&sql)
            .param("topic", &row.topic)
            .param("partition", row.partition)
            .param("first", row.first)
            .param("next", row.next)
            .param("planned_at", row.planned_at.timestamp_millis());
        let found = query.fetch_optional::<HoursRow>().await.map_err(|error| store.error(error))?;
        Ok::<_, StoreError>(found.map(|row| Arrivals::of_hours(row.first_hour, row.last_hour)))
    };
    let before = beside("next <= {first:UInt64}", "next DESC").await?;
    let behind = beside("first >= {next:UInt64}", "first").await?;
    let known = before.into_iter().chain(behind).fold(planned, Arrivals::hull);
    Ok(Arrivals { from: known.from.filter(|_| before.is_some()), ..known })
}
