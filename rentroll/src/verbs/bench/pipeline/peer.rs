//! The peer: ClickHouse's own Kafka table engine, with materialized views into raw rows and equal rollups. It
//! neither deduplicates nor keeps books.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rentroll_engines::store::{Store, StoreConfig};
use serde::{Deserialize, Serialize};

use super::check::Check;
use super::{Run, part};
use crate::verbs::bench::events::{MEASURES, Shape};
use crate::verbs::bench::process::{Clock, Cost, own_rss_peak};

/// How often the peer is asked how far it is; each question costs it some milliseconds of CPU time.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// A peer that takes longer is not coming.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Which rollups it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::verbs::bench) enum Rollups {
    Minute,
    MinuteHourDay,
}

impl Rollups {
    pub(super) fn name(self) -> &'static str {
        match self {
            Rollups::Minute => "minute",
            Rollups::MinuteHourDay => "three",
        }
    }

    fn buckets(self) -> &'static [(&'static str, &'static str)] {
        const ALL: [(&str, &str); 3] = [
            ("usage_minute", "toStartOfMinute(time)"),
            ("usage_hour", "toStartOfHour(time)"),
            ("usage_day", "toDateTime(toStartOfDay(time), 'UTC')"),
        ];
        match self {
            Rollups::Minute => &ALL[..1],
            Rollups::MinuteHourDay => &ALL,
        }
    }
}

/// What the peer's process is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::verbs::bench) struct PeerSpec {
    pub(super) folder: PathBuf,
    pub(super) brokers: String,
    pub(super) topic: String,
    pub(super) group: String,
    pub(super) rollups: Rollups,
    pub(super) shape: Shape,
    /// Where its raw rows are to be left, for the limit.
    pub(super) blocks: Option<PathBuf>,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::verbs::bench) struct PeerAnswer {
    startup: Cost,
    work: Cost,
    rss_peak_bytes: u64,
    check: Check,
}

/// Runs it in a process of its own.
pub(super) fn run(spec: PeerSpec) -> anyhow::Result<(Run, Check)> {
    let side = match spec.rollups {
        Rollups::Minute => "Kafka table engine, minute",
        Rollups::MinuteHourDay => "Kafka table engine, minute + hour + day",
    };
    eprintln!("{side}…");
    let (answer, taken): (PeerAnswer, _) = part("peer", &spec)?;
    let PeerAnswer { startup, work, rss_peak_bytes, check } = answer;
    Ok((Run { side, work, startup, rss_peak_bytes, threads: taken.threads }, check))
}

/// The peer's process.
pub(in crate::verbs::bench) async fn part_main(spec: PeerSpec) -> anyhow::Result<PeerAnswer> {
    let clock = Clock::start();
    let store = Store::open(&StoreConfig::embedded(&spec.folder)).await?;
    make_tables(&store, spec.rollups).await?;
    let startup = clock.cost();
    let clock = Clock::start();
    consume(&store, &spec).await?;
    let begun = Instant::now();
    loop {
        if stored(&store, &spec).await? {
            break;
        }
        anyhow::ensure!(
            begun.elapsed() < WAIT_MAX,
            "the Kafka table engine did not come to the end of the topic"
        );
        tokio::time::sleep(ASK_EVERY).await;
    }
    let work = clock.cost();
    let rss_peak_bytes = own_rss_peak();
    execute(&store, "DROP TABLE queue").await?;
    let sums = MEASURES.map(|measure| (measure, format!("sum({measure})")));
    let totals = sums.map(|(measure, sum)| super::check::Totals {
        measure,
        raw: format!("SELECT tenant, toString({sum}) FROM raw GROUP BY tenant"),
        rollups: spec
            .rollups
            .buckets()
            .iter()
            .map(|(table, _)| {
                (*table, format!("SELECT tenant, toString({sum}) FROM {table} GROUP BY tenant"))
            })
            .collect(),
    });
    let check = super::check::check(&store, &spec.shape, "raw", &totals).await?;
    if let Some(folder) = &spec.blocks {
        super::limit::export(&store, folder, spec.shape.events).await?;
    }
    store.close().await;
    Ok(PeerAnswer { startup, work, rss_peak_bytes, check })
}

async fn execute(store: &Store, sql: &str) -> anyhow::Result<()> {
    let query = store.client().query(sql);
    query.execute().await.with_context(|| format!("the engine refused: {sql}"))
}

/// Raw rows and rollups, empty. Column types and sort key as ours, the id in its smallest form.
pub(super) async fn make_tables(store: &Store, rollups: Rollups) -> anyhow::Result<()> {
    let client = store.client().clone().with_database("");
    client
        .query(&format!("CREATE DATABASE IF NOT EXISTS {} ENGINE = Atomic", store.database()))
        .execute()
        .await?;
    let measures = MEASURES.map(|measure| format!("{measure} Decimal(38, 9)")).join(", ");
    execute(store, &format!(
        "CREATE TABLE raw (id UUID, tenant String, type LowCardinality(String), time DateTime64(6, 'UTC'), \
         source LowCardinality(String), {measures}, region LowCardinality(String), method LowCardinality(String)) \
         ENGINE = MergeTree PARTITION BY toYYYYMM(time) ORDER BY (tenant, type, time)"
    )).await?;
    for (table, _) in rollups.buckets() {
        execute(
            store,
            &format!(
                "CREATE TABLE {table} (tenant String, type LowCardinality(String), bucket DateTime('UTC'), \
             region LowCardinality(String), events UInt64, {measures}) \
             ENGINE = SummingMergeTree PARTITION BY toYYYYMM(bucket) ORDER BY (tenant, type, bucket, region)"
            ),
        )
        .await?;
    }
    Ok(())
}

/// The Kafka table and its views: from here on it works.
async fn consume(store: &Store, spec: &PeerSpec) -> anyhow::Result<()> {
    let measures = MEASURES.map(|measure| format!("{measure} Decimal(38, 9)")).join(", ");
    let PeerSpec { brokers, topic, group, .. } = spec;
    execute(store, &format!(
        "CREATE TABLE queue (id UUID, source String, type String, subject String, time DateTime64(6, 'UTC'), \
         data Tuple({measures}, region String, method String)) ENGINE = Kafka SETTINGS \
         kafka_broker_list = '{brokers}', kafka_topic_list = '{topic}', kafka_group_name = '{group}', \
         kafka_format = 'JSONEachRow', kafka_num_consumers = 2, kafka_thread_per_consumer = 1, \
         kafka_max_block_size = 262144, kafka_poll_max_batch_size = 65536, kafka_flush_interval_ms = 2000, \
         input_format_skip_unknown_fields = 1, date_time_input_format = 'best_effort'"
    )).await?;
    let columns = MEASURES.map(|measure| format!("data.{measure} AS {measure}")).join(", ");
    // Views on views would read the raw rows again: each reads the block that came from the topic.
    for (table, bucket) in spec.rollups.buckets() {
        let sums = MEASURES.map(|measure| format!("sum(data.{measure}) AS {measure}")).join(", ");
        execute(store, &format!(
            "CREATE MATERIALIZED VIEW to_{table} TO {table} AS SELECT subject AS tenant, type, {bucket} AS bucket, \
             data.region AS region, count() AS events, {sums} FROM queue GROUP BY tenant, type, bucket, region"
        )).await?;
    }
    execute(store, &format!(
        "CREATE MATERIALIZED VIEW to_raw TO raw AS SELECT id, subject AS tenant, type, time, source, {columns}, \
         data.region AS region, data.method AS method FROM queue"
    )).await
}

/// The rollups of rows that are inserted into `raw`.
pub(super) async fn attach(store: &Store, rollups: Rollups) -> anyhow::Result<()> {
    for (table, bucket) in rollups.buckets() {
        let sums = MEASURES.map(|measure| format!("sum(raw.{measure}) AS {measure}")).join(", ");
        let sql = format!(
            "CREATE MATERIALIZED VIEW to_{table} TO {table} AS SELECT tenant, type, {bucket} AS bucket, region, \
             count() AS events, {sums} FROM raw GROUP BY tenant, type, bucket, region"
        );
        execute(store, &sql).await?;
    }
    Ok(())
}

/// Whether all events are in all tables.
async fn stored(store: &Store, spec: &PeerSpec) -> anyhow::Result<bool> {
    let raw: u64 = store.client().query("SELECT count() FROM raw").fetch_one().await?;
    if raw < spec.shape.events {
        return Ok(false);
    }
    for (table, _) in spec.rollups.buckets() {
        let events: u64 =
            store.client().query(&format!("SELECT sum(events) FROM {table}")).fetch_one().await?;
        if events < spec.shape.events {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarser_rollups_come_with_the_finer_ones() {
        assert_eq!(Rollups::Minute.buckets().len(), 1);
        assert!(Rollups::MinuteHourDay.buckets().starts_with(Rollups::Minute.buckets()));
    }
}
